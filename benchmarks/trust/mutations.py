"""Damage: pure functions from the bytes of a file and a seed to other bytes, for tests and for counting what is refused.

`MUTATIONS` hold for any file, `OF_ARCHIVES` for the zip archives of torch and numpy, `OF_SAFETENSORS` for trajectories: what
they make is refused, or reads as before. `CRAFTED` are archives of torch with right checksums, as an attacker makes them:
they may read as other data, and are never more than data.
"""

from __future__ import annotations

import io
import json
import random
import re
import struct
import warnings
import zipfile
from collections.abc import Callable

Mutation = Callable[[bytes, int], bytes]

HUGE = (0, 1, 2**15, 2**31 - 1, 2**31, 2**32 - 1, 2**40, 2**62, 2**63 - 1, 2**64 - 1)


def flipped_bit(content: bytes, seed: int) -> bytes:
    """One bit, anywhere."""
    draw, changed = random.Random(seed), bytearray(content)
    changed[draw.randrange(len(changed))] ^= 1 << draw.randrange(8)
    return bytes(changed)


def flipped_bits(content: bytes, seed: int) -> bytes:
    """2 to 64 bits, anywhere."""
    draw = random.Random(seed)
    for _ in range(draw.randint(2, 64)):
        content = flipped_bit(content, draw.getrandbits(64))
    return content


def truncated(content: bytes, seed: int) -> bytes:
    """The first part of a file, which may be empty."""
    return content[: random.Random(seed).randrange(len(content))]


def beheaded(content: bytes, seed: int) -> bytes:
    """The last part of a file."""
    return content[random.Random(seed).randrange(1, len(content)) :]


def extended(content: bytes, seed: int) -> bytes:
    """A file with up to 4 KiB behind its end."""
    draw = random.Random(seed)
    return content + draw.choice((bytes, draw.randbytes))(draw.randint(1, 4096))


def _block(content: bytes, draw: random.Random) -> slice:
    length = draw.randint(1, max(1, len(content) // 4))
    start = draw.randrange(len(content) - length + 1)
    return slice(start, start + length)


def zeroed(content: bytes, seed: int) -> bytes:
    """A block of zeros, as a disk leaves it after a crash."""
    changed, block = bytearray(content), _block(content, random.Random(seed))
    changed[block] = bytes(block.stop - block.start)
    return bytes(changed)


def random_block(content: bytes, seed: int) -> bytes:
    """A block of random bytes."""
    draw, changed = random.Random(seed), bytearray(content)
    block = _block(content, draw)
    changed[block] = draw.randbytes(block.stop - block.start)
    return bytes(changed)


def swapped(content: bytes, seed: int) -> bytes:
    """Two blocks of one size that have changed places."""
    draw, changed = random.Random(seed), bytearray(content)
    length = draw.randint(1, max(1, len(content) // 8))
    first, second = (draw.randrange(len(content) - length + 1) for _ in range(2))
    a, b = bytes(changed[first : first + length]), bytes(changed[second : second + length])
    changed[first : first + length], changed[second : second + length] = b, a
    return bytes(changed)


def doubled(content: bytes, seed: int) -> bytes:
    """A block that stands twice, one after the other."""
    block = _block(content, random.Random(seed))
    return content[: block.stop] + content[block] + content[block.stop :]


def cut_out(content: bytes, seed: int) -> bytes:
    """A file without one of its blocks."""
    block = _block(content, random.Random(seed))
    return content[: block.start] + content[block.stop :]


def a_number(content: bytes, seed: int) -> bytes:
    """A number of 2, 4 or 8 bytes anywhere that is 0, 1 or huge."""
    draw, changed = random.Random(seed), bytearray(content)
    size, value = draw.choice((2, 4, 8)), draw.choice(HUGE)
    position = draw.randrange(max(1, len(content) - size))
    changed[position : position + size] = (value % 2 ** (8 * size)).to_bytes(size, "little")
    return bytes(changed)


# ---- zip archives ------------------------------------------------------------------------------------------------------


def _entries(content: bytes) -> list[tuple[str, bytes]]:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return [(name, archive.read(name)) for name in archive.namelist()]


def zipped(entries: list[tuple[str, bytes]], method: int = zipfile.ZIP_STORED) -> bytes:
    """An archive of entries, with right checksums."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive:
        for name, part in entries:
            archive.writestr(zipfile.ZipInfo(name), part, method)
    return file.getvalue()


def deflated(content: bytes, seed: int) -> bytes:
    """The same entries, compressed; one of them is a thousand times larger than it will be in the file."""
    entries = _entries(content)
    number = random.Random(seed).randrange(len(entries))
    name, part = entries[number]
    entries[number] = (name, part + bytes(2**20))
    return zipped(entries, zipfile.ZIP_DEFLATED)


def _headers(content: bytes) -> list[int]:
    """Where the headers of an archive begin."""
    return [found.start() for found in re.finditer(b"PK[\x01-\x08][\x02-\x08]", content)]


def a_header(content: bytes, seed: int) -> bytes:
    """A number in one of an archive's headers, such as a size, an offset or the length of a name."""
    draw, changed = random.Random(seed), bytearray(content)
    position, size = draw.choice(_headers(content)) + draw.randrange(2, 46), draw.choice((1, 2, 4, 8))
    value = draw.choice((*HUGE, draw.getrandbits(64), draw.randrange(len(content))))
    changed[position : position + size] = (value % 2 ** (8 * size)).to_bytes(size, "little")
    return bytes(changed[: len(content)])


def a_name_twice(content: bytes, seed: int) -> bytes:
    """An archive in which two entries have one name."""
    entries = _entries(content)
    draw = random.Random(seed)
    first, second = draw.sample(range(len(entries)), 2)
    entries.append((entries[first][0], entries[second][1]))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return zipped(entries)


def an_entry_less(content: bytes, seed: int) -> bytes:
    """An archive without one of its entries."""
    entries = _entries(content)
    del entries[random.Random(seed).randrange(len(entries))]
    return zipped(entries)


def entries_exchanged(content: bytes, seed: int) -> bytes:
    """An archive in which two entries have each other's content, checksums and all."""
    entries = _entries(content)
    first, second = random.Random(seed).sample(range(len(entries)), 2)
    (a, of_a), (b, of_b) = entries[first], entries[second]
    entries[first], entries[second] = (a, of_b), (b, of_a)
    return zipped(entries)


def in_the_pickle(content: bytes, seed: int) -> bytes:
    """Damage to data.pkl in an archive whose checksums are right."""
    entries, draw = _entries(content), random.Random(seed)
    number = next(place for place, (name, _) in enumerate(entries) if name.endswith("data.pkl"))
    mutation = draw.choice((flipped_bit, truncated, zeroed, random_block, swapped, doubled, cut_out, a_number))
    entries[number] = (entries[number][0], mutation(entries[number][1], draw.getrandbits(32)))
    return zipped(entries)


def a_declared_size(content: bytes, seed: int) -> bytes:
    """A number of the pickle, such as a size, a stride or an offset, that is huge; the checksums are right."""
    entries, draw = _entries(content), random.Random(seed)
    number = next(place for place, (name, _) in enumerate(entries) if name.endswith("data.pkl"))
    name, pickled = entries[number]
    places = [found.start() for found in re.finditer(b"[KMJ]", pickled)]
    place = draw.choice(places)
    length = {b"K": 2, b"M": 3, b"J": 5}[pickled[place : place + 1]]
    value = draw.choice(HUGE)
    huge = b"\x8a\x09" + struct.pack("<Q", value) + b"\0"  # LONG1
    entries[number] = (name, pickled[:place] + huge + pickled[place + length :])
    return zipped(entries)


# ---- safetensors -------------------------------------------------------------------------------------------------------


def a_header_of_safetensors(content: bytes, seed: int) -> bytes:
    """A header in which a number, a type or a name is another one, and its length is right."""
    draw = random.Random(seed)
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    name = draw.choice(sorted(header))
    if draw.random() < 0.2:
        header[draw.choice(sorted(header))] = header.pop(name)
    elif name == "__metadata__":
        key = draw.choice(sorted(header[name]))
        header[name][key] = draw.choice(("", "x", header[name][key][::-1], header[name][key][:-1]))
    else:
        part = draw.choice(("dtype", "shape", "data_offsets"))
        if part == "dtype":
            header[name][part] = draw.choice(("F32", "I32", "I16", "U16", "F16", "BF16", "BOOL", "I64", "F8_E4M3"))
        else:
            header[name][part][draw.randrange(len(header[name][part]))] = draw.choice(HUGE)
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + content[8 + length :]


MUTATIONS: tuple[Mutation, ...] = (
    *(flipped_bit, flipped_bits, truncated, beheaded, extended, zeroed, random_block, swapped, doubled, cut_out, a_number),
)
OF_ARCHIVES: tuple[Mutation, ...] = (deflated, a_header, a_name_twice, an_entry_less)
CRAFTED: tuple[Mutation, ...] = (entries_exchanged, in_the_pickle, a_declared_size)
OF_SAFETENSORS: tuple[Mutation, ...] = (a_header_of_safetensors,)
