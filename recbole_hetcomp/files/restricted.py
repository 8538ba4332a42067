"""The one reader of checkpoints: torch's zip archive and the pickle in it, of which nothing is run.

torch's own reader (`weights_only=True`) gives up on RecBole's files at the first opcode of pickle's protocol 4, trusts the
sizes that a file declares, and checks no checksum. This one checks the archive, looks through the pickle before it reads it,
and makes tensors of bytes that are there. Every name outside a short list is refused; those on it become inert records.
"""

from __future__ import annotations

import io
import math
import pickle
import pickletools
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from recbole_hetcomp.files.archive import CheckpointError, PathLike, read_archive
from recbole_hetcomp.files.records import RECORD_PACKAGES, Count, Record

#: Exact names a RecBole checkpoint may mention. Each becomes an inert record; none is imported or called.
RECORDS = {
    ("torch", "device"),
    ("yaml.loader", "FullLoader"),
    ("logging", "getLogger"),  # the feature layers of SASRecF, DIN and the like carry their whole dataset along
    ("numpy", "dtype"),
    ("numpy", "ndarray"),
    ("numpy", "matrix"),
    ("numpy.matrixlib.defmatrix", "matrix"),
    *((f"numpy.{core}.multiarray", name) for core in ("core", "_core") for name in ("scalar", "_reconstruct")),
    *((f"scipy.sparse.{dot}{kind}", f"{kind}_matrix") for dot in ("", "_") for kind in ("csr", "csc", "lil")),
}
STORAGES = {
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
    "ComplexFloatStorage": torch.complex64,
    "ComplexDoubleStorage": torch.complex128,
}
MAX_DIMENSIONS = 16

# Bytes of memory that an opcode asks for beside its argument. One that is not here stands in no pickle of protocol 2 to 4.
_SLOT, _NUMBER, _CONTAINER, _OBJECT, _CLASS = 8, 40, 72, 512, 2048
COSTS = {
    **dict.fromkeys(("PROTO", "FRAME", "STOP", "MARK", "NONE", "NEWTRUE", "NEWFALSE", "BINPERSID", "BUILD"), _SLOT),
    **dict.fromkeys(("APPEND", "APPENDS", "SETITEM", "SETITEMS", "ADDITEMS", "POP", "POP_MARK", "DUP"), _SLOT),
    **dict.fromkeys(("PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE", "GET", "BINGET", "LONG_BINGET"), 2 * _SLOT),
    **dict.fromkeys(("BININT", "BININT1", "BININT2", "LONG1", "LONG4", "BINFLOAT"), _NUMBER),
    **dict.fromkeys(("BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"), _CONTAINER),
    **dict.fromkeys(("BINSTRING", "SHORT_BINSTRING", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8"), _CONTAINER),
    **dict.fromkeys(("EMPTY_LIST", "EMPTY_TUPLE", "TUPLE", "TUPLE1", "TUPLE2", "TUPLE3", "LIST"), _CONTAINER),
    **dict.fromkeys(("EMPTY_DICT", "DICT"), 3 * _CONTAINER),
    **dict.fromkeys(("EMPTY_SET", "FROZENSET"), 3 * _CONTAINER),
    **dict.fromkeys(("REDUCE", "NEWOBJ", "NEWOBJ_EX"), _OBJECT),
    **dict.fromkeys(("GLOBAL", "STACK_GLOBAL"), _CLASS),
}
_PUTS = ("PUT", "BINPUT", "LONG_BINPUT")
FREE_BYTES, PER_BYTE = 2**26, 8  # what the objects of a pickle may take: so much, and so much a byte of the file


class Content(NamedTuple):
    """What a checkpoint holds, with inert records in it, and how many values that can be at most."""

    value: Any
    met: Count


def read_content(path: PathLike, device: torch.device | str, known: set[tuple[str, str]]) -> Content:
    """The content of a checkpoint as tensors on `device`, plain values and inert records.

    Args:
        known: further (module, name) pairs that become inert records

    Raises:
        CheckpointError: the file is damaged, no checkpoint, or asks for more than data
        OSError: the file cannot be opened
    """
    entries = read_archive(path)
    pickled = [name for name in entries if name.rpartition("/")[2] == "data.pkl"]
    if any(name.rpartition("/")[2] == "constants.pkl" for name in entries):
        raise CheckpointError(f"{path} is a TorchScript program, not a checkpoint; save the model's state_dict instead")
    if len(pickled) != 1 or entries[pickled[0]][:1] != pickle.PROTO:
        raise CheckpointError(f"{path} is a zip archive without the data.pkl of torch.save, so not a checkpoint")
    root = pickled[0][: -len("data.pkl")]
    try:
        if bytes(entries.get(f"{root}byteorder", b"little")) != b"little":
            raise CheckpointError("it was saved on a machine with another order of bytes")
        size = sum(map(len, entries.values()))
        n_opcodes = look_through(entries[pickled[0]], FREE_BYTES + PER_BYTE * size)
        storages = {name[len(root) + 5 :]: part for name, part in entries.items() if name.startswith(f"{root}data/")}
        value = _Unpickler(io.BytesIO(entries[pickled[0]]), storages, size, device, known).load()
    except CheckpointError as error:
        raise CheckpointError(f"{path} was refused: {error}") from error
    except Exception as error:  # whatever a damaged pickle makes of Python's reader, of which nothing is ours
        reason = " ".join(f"{type(error).__name__} {error}".split())[:120]
        raise CheckpointError(f"{path} cannot be read, it may be damaged or cut short: {reason}") from error
    return Content(value, Count(2**16 + 2 * n_opcodes))


def look_through(pickled: memoryview | bytes, budget: int) -> int:
    """The number of opcodes of a pickle.

    Raises:
        CheckpointError: it would take more than about `budget` bytes, or holds what no checkpoint does
        ValueError: it is damaged
    """
    number, ended_at = 0, 0
    for number, (opcode, argument, position) in enumerate(pickletools.genops(io.BytesIO(pickled)), start=1):
        if opcode.name not in COSTS or (opcode.name in _PUTS and (argument or 0) > number):
            raise CheckpointError(f"its pickle has {opcode.name} where no checkpoint has it")
        budget -= COSTS[opcode.name]
        if isinstance(argument, (str, bytes)):
            budget -= len(argument) * (1 if isinstance(argument, bytes) or argument.isascii() else 4)
        if budget < 0:
            raise CheckpointError("its pickle would take many times the memory of the file")
        ended_at = position or 0
    if ended_at + 1 != len(pickled):
        raise CheckpointError("something follows its pickle")
    return number


class _Unpickler(pickle.Unpickler):
    """Builds data: tensors of `storages` (key -> bytes), plain values, and a record for everything else."""

    def __init__(
        self,
        file: io.BytesIO,
        storages: Mapping[str, memoryview],
        file_size: int,
        device: torch.device | str,
        known: set[tuple[str, str]],
    ) -> None:
        super().__init__(file)
        self.storages, self.file_size, self.device, self.known = storages, file_size, device, known
        self.classes: dict[tuple[str, str], type[Record]] = {}
        self.read: dict[str, Tensor] = {}

    def find_class(self, module: str, name: str) -> Any:
        """What a name in the pickle stands for; nothing is imported."""
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if module == "torch" and name in STORAGES:
            return STORAGES[name]
        # fresh functions each time, since a pickle can set attributes on what it gets; hooks are not data
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return lambda *arguments: self._tensor(*arguments[:4])
        if (module, name) == ("torch._utils", "_rebuild_parameter"):
            return lambda data, *_: _tensor_alone(data)
        known = (module, name) in RECORDS or (module, name) in self.known or module.startswith(RECORD_PACKAGES)
        if not known:
            raise CheckpointError(
                f"the file refers to {module}.{name}, which no checkpoint needs and which could run code; nothing was "
                "loaded. Use a file that RecBole 1.2.1 or recbole_hetcomp saved"
            )
        if (module, name) not in self.classes:
            self.classes[module, name] = type(name, (Record,), {"kind": f"{module}.{name}"})
        return self.classes[module, name]

    def persistent_load(self, pid: Any) -> Tensor:
        """[numbers] a storage, as large as it is in the file."""
        kind, dtype, key, _, n_numbers = pid
        if kind != "storage" or not isinstance(dtype, torch.dtype) or not isinstance(key, str) or key not in self.storages:
            raise CheckpointError("a tensor has no storage in the file")
        part = self.storages[key]
        if type(n_numbers) is not int or n_numbers * torch.empty(0, dtype=dtype).element_size() != len(part):
            raise CheckpointError("a tensor's storage has another size than the file says")
        if key not in self.read:
            copied = torch.empty(len(part), dtype=torch.uint8)  # torch's own memory, which is aligned
            copied.numpy()[:] = np.frombuffer(part, np.uint8)
            if dtype == torch.bool and len(part) and int(copied.max()) > 1:
                raise CheckpointError("a truth value is neither 0 nor 1")
            self.read[key] = copied.view(dtype).to(self.device)
        if self.read[key].dtype != dtype:
            raise CheckpointError("a storage is of two types")
        return self.read[key]

    def _tensor(self, storage: object, offset: object, size: object, stride: object) -> Tensor:
        """The numbers of a storage in a shape; a shape may repeat them, but not beyond the size of the file."""
        well_formed = isinstance(size, tuple) and isinstance(stride, tuple) and len(size) == len(stride) <= MAX_DIMENSIONS
        numbers = [offset, *size, *stride] if isinstance(size, tuple) and isinstance(stride, tuple) else []
        if not well_formed or not isinstance(storage, Tensor) or not all(map(_is_extent, numbers)):
            raise CheckpointError("a tensor's shape is not one")
        start, lengths, steps = numbers[0], numbers[1 : 1 + len(numbers) // 2], numbers[1 + len(numbers) // 2 :]
        n_numbers = math.prod(lengths)
        if n_numbers and start + sum((length - 1) * step for length, step in zip(lengths, steps)) >= len(storage):
            raise CheckpointError("a tensor is larger than its storage")
        if n_numbers * storage.element_size() > max(self.file_size, 8):
            raise CheckpointError("a tensor is larger than the file")
        empty = torch.empty(0, dtype=storage.dtype, device=storage.device)
        return empty.set_(storage.untyped_storage(), start, lengths, steps)


def _is_extent(number: object) -> bool:
    return type(number) is int and 0 <= number < 2**48


def _tensor_alone(data: object) -> Tensor:
    if not isinstance(data, Tensor):
        raise CheckpointError("a parameter is no tensor")
    return data
