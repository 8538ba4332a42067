"""torch's zip archives, read whole and checked whole before anything in them is used.

torch reads such files without their checksums, so a flipped bit is another model. Here every byte between the first header
and the end belongs to one entry, each entry has its CRC-32, and nothing is compressed: torch never compresses, and a small
file could unpack to gigabytes.
"""

from __future__ import annotations

import os
import stat
import struct
import zlib
from collections.abc import Iterator, Mapping
from typing import NamedTuple, Union

PathLike = Union[str, "os.PathLike[str]"]

MAX_ENTRIES = 100_000  # a checkpoint has one a tensor
_LOCAL = struct.Struct("<4s5H3I2H")
_ENTRY = struct.Struct("<4s6H3I5H2I")
_END = struct.Struct("<4s4H2IH")
_LOCATOR = struct.Struct("<4s4xQ4x")
_END64 = struct.Struct("<4s28x3Q")
_ENCRYPTED, _DESCRIPTOR = 0x2061, 0x0008  # flags
_DESCRIPTORS = (0, 12, 16, 20, 24)  # bytes that may follow an entry: its CRC and sizes again
_FULL = 0xFFFFFFFF  # the number stands in the extra field


class CheckpointError(ValueError):
    """A file that is not a readable checkpoint, or that asks for more than data."""


class _Entry(NamedTuple):
    name: bytes
    flags: int
    crc: int
    size: int
    offset: int  # of its header


def read_archive(path: PathLike) -> Mapping[str, memoryview]:
    """The entries of an uncompressed zip archive by name. The file is in memory once, the entries are parts of it.

    Raises:
        CheckpointError: it is no zip archive, or not as it was written
        OSError: the file cannot be opened
    """
    try:
        with open(path, "rb") as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise CheckpointError(f"{path} is no regular file")
            content = file.read()
    except MemoryError as error:
        raise CheckpointError(f"{path} is larger than the memory") from error
    if content and content[:2] != b"PK":
        raise CheckpointError(
            f"{path} is not a zip archive of torch.save; other formats, such as torch's before 1.6, can run code and "
            "are not read. Save the weights again with a current torch"
        )
    try:
        return entries_of(content)
    except (ValueError, struct.error, OverflowError) as error:
        raise CheckpointError(f"{path} is damaged or cut short: {error}") from error


def entries_of(content: bytes) -> Mapping[str, memoryview]:
    """The entries of an archive by name.

    Raises:
        ValueError, struct.error: the archive is not as it was written; the message is a clause
    """
    start, end, count = _directory(content)
    entries = sorted(_entries(content, start, end), key=lambda entry: entry.offset)
    if len(entries) != count:
        raise ValueError(f"it lists {len(entries)} entries of {count}")
    whole, found, position = memoryview(content), {}, 0
    for number, entry in enumerate(entries):
        following = entries[number + 1].offset if number + 1 < len(entries) else start
        part = _part(whole, entry, position, following)
        name = entry.name.decode("utf-8")
        if name in found:
            raise ValueError(f"the name {name[:60]!r} stands twice")
        if zlib.crc32(part) != entry.crc:
            raise ValueError(f"the content of {name[:60]!r} does not have its checksum")
        found[name] = part
        position = following
    if position != start:
        raise ValueError("something stands before its directory")
    return found


def _part(whole: memoryview, entry: _Entry, position: int, following: int) -> memoryview:
    """The content of an entry that lies between `position` and `following`, and fills that room."""
    signature, _, _, method, _, _, _, _, _, n_name, n_extra = _LOCAL.unpack_from(whole, entry.offset)
    name_at = entry.offset + _LOCAL.size
    begin = name_at + n_name + n_extra
    rest = following - begin - entry.size
    if entry.offset != position or signature != b"PK\3\4" or bytes(whole[name_at : name_at + n_name]) != entry.name:
        raise ValueError("an entry is not where its directory says")
    if method != 0:
        raise ValueError("an entry is compressed, and no checkpoint is")
    if rest not in (_DESCRIPTORS if entry.flags & _DESCRIPTOR else (0,)):
        raise ValueError("an entry has another size than its directory says")
    return whole[begin : begin + entry.size]


def _directory(content: bytes) -> tuple[int, int, int]:
    """(start, end, number of entries) of the archive's directory, which its end points to."""
    end = len(content) - _END.size
    if end < 0:
        raise ValueError("it has no end")
    signature, _, _, _, count, size, start, comment = _END.unpack_from(content, end)
    if signature != b"PK\5\6" or comment:
        raise ValueError("its end is missing, or something follows it")
    locator = end - _LOCATOR.size
    if locator >= 0 and content[locator : locator + 4] == b"PK\6\7":  # large archives, and all of torch's
        end = _LOCATOR.unpack_from(content, locator)[1]
        if end + _END64.size != locator:
            raise ValueError("its end points elsewhere")
        signature, count, size, start = _END64.unpack_from(content, end)
        if signature != b"PK\6\6":
            raise ValueError("its end points elsewhere")
    if start + size != end or count > MAX_ENTRIES:
        raise ValueError("its directory has another size than its end says")
    return start, end, count


def _entries(content: bytes, position: int, end: int) -> Iterator[_Entry]:
    """What a directory says of each entry."""
    while position < end:
        signature, _, _, flags, method, _, _, crc, packed, size, n_name, n_extra, n_comment, _, _, _, offset = (
            _ENTRY.unpack_from(content, position)
        )
        name_at = position + _ENTRY.size
        extra_at = name_at + n_name
        position = extra_at + n_extra + n_comment
        if signature != b"PK\1\2" or position > end:
            raise ValueError("its directory cannot be read")
        numbers = _in_full([size, packed, offset], content[extra_at : extra_at + n_extra])
        size, packed, offset = numbers
        if method != 0 or size != packed or flags & _ENCRYPTED:
            raise ValueError("an entry is compressed, and no checkpoint is")
        yield _Entry(content[name_at:extra_at], flags, crc, size, offset)


def _in_full(numbers: list[int], extra: bytes) -> list[int]:
    """`numbers` with those that need 64 bits from the extra field of an entry."""
    if _FULL not in numbers:
        return numbers
    position = 0
    while position + 4 <= len(extra):
        kind, length = struct.unpack_from("<HH", extra, position)
        if kind == 1:
            large = iter(struct.unpack_from(f"<{numbers.count(_FULL)}Q", extra, position + 4))
            return [next(large) if number == _FULL else number for number in numbers]
        position += 4 + length
    raise ValueError("the size of an entry is missing")
