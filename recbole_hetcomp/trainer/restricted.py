"""An unpickler for RecBole's checkpoints that builds data and runs nothing.

A RecBole checkpoint is a pickle of protocol 4 with live objects in it: the Config, the model class, a yaml loader.
torch's own restricted reader gives up on such a file at the first protocol-4 opcode, before it looks at any name, which
is why `torch.serialization.add_safe_globals` does not help. Here every name outside a short list is refused, and those
on the list become inert records; arrays and matrices are then built from the records by constructors that check them.
"""

from __future__ import annotations

import pickle
import re
import types
from collections import OrderedDict
from collections.abc import Callable, Iterator
from enum import Enum
from typing import Any

import numpy as np
import torch
from torch import Tensor

#: Exact names a RecBole checkpoint may mention. Each becomes an inert record; none is imported or called.
RECORDS = {
    ("torch", "device"),
    ("torch._utils", "_rebuild_parameter"),
    ("yaml.loader", "FullLoader"),
    ("logging", "getLogger"),  # the feature layers of SASRecF, DIN and the like carry their whole dataset along
    ("numpy", "dtype"),
    ("numpy", "ndarray"),
    ("numpy", "matrix"),
    ("numpy.matrixlib.defmatrix", "matrix"),
    *((f"numpy.{core}.multiarray", name) for core in ("core", "_core") for name in ("scalar", "_reconstruct")),
    *((f"scipy.sparse.{dot}{kind}", f"{kind}_matrix") for dot in ("", "_") for kind in ("csr", "csc", "lil")),
}
#: Packages of which any class may be mentioned, as an inert record: models, enums, layers kept beside the weights.
RECORD_PACKAGES = ("recbole.", "recbole_hetcomp.", "torch.nn.modules.")

SCALARS = (type(None), bool, int, float, str)
MAX_DEPTH = 32
_DROP = object()


class CheckpointError(ValueError):
    """A file that is not a readable checkpoint, or that asks for more than data."""


class Record:
    """Stands where a pickled object was: keeps its arguments and state, runs nothing."""

    kind = ""
    args: tuple[Any, ...] = ()
    state: Any = None

    def __new__(cls, *args: object, **_: object) -> Record:
        record = object.__new__(cls)
        record.args = args
        return record

    def __setstate__(self, state: object) -> None:
        self.state = state

    def __setitem__(self, key: object, value: object) -> None:
        """Entries of a pickled dict subclass; nobody reads them."""

    def append(self, value: object) -> None:
        """Entries of a pickled list subclass; nobody reads them."""


def restricted_pickle(known: set[tuple[str, str]]) -> types.ModuleType:
    """What `torch.load` takes as `pickle_module`: an unpickler to which names outside the list are closed.

    Args:
        known: further (module, name) pairs that become inert records
    """

    class Unpickler(pickle.Unpickler):
        def find_class(self, module: str, name: str) -> object:
            if (module, name) == ("collections", "OrderedDict"):
                return OrderedDict
            if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
                # a fresh function each time, since a pickle can set attributes on what it gets; hooks are not data
                return lambda *args: torch._utils._rebuild_tensor_v2(*args[:5], OrderedDict())  # type: ignore[call-arg]
            if (module, name) in RECORDS or (module, name) in known or module.startswith(RECORD_PACKAGES):
                return type(name, (Record,), {"kind": f"{module}.{name}"})
            raise CheckpointError(
                f"the file refers to {module}.{name}, which no checkpoint needs and which could run code; nothing was "
                "loaded. Use a file that RecBole 1.2.1 or recbole_hetcomp saved"
            )

    reader = types.ModuleType("restricted_pickle")
    reader.__dict__.update(Unpickler=Unpickler, UnpicklingError=pickle.UnpicklingError)
    return reader


def is_class_instance(value: object) -> bool:
    """Whether `value` was an object of RecBole, of this package or a torch module."""
    return isinstance(value, Record) and value.kind.startswith(RECORD_PACKAGES)


def rebuilt(value: object, depth: int = 0) -> Any:
    """`value` with its numpy and scipy records built.

    Raises:
        CheckpointError: something in it is not data
    """
    if isinstance(value, (Tensor, *SCALARS)):
        return value
    if isinstance(value, OrderedDict) and all(isinstance(item, Tensor) for item in value.values()):
        return value  # a state_dict, which carries its version numbers as an attribute
    if depth > MAX_DEPTH:
        raise CheckpointError("the content is nested deeper than any checkpoint's")
    if isinstance(value, (list, tuple)):
        return type(value)(rebuilt(item, depth + 1) for item in value)
    if isinstance(value, dict):
        return {rebuilt(key, depth + 1): rebuilt(item, depth + 1) for key, item in value.items()}
    if isinstance(value, Record) and value.kind.rpartition(".")[2] in _BUILDERS:
        return _BUILDERS[value.kind.rpartition(".")[2]](value)
    raise CheckpointError(f"the file holds a {getattr(value, 'kind', type(value).__name__)} where data was expected")


def as_json(value: object, depth: int = 0) -> Any:
    """`value` in JSON types: enums by name, devices as text, tuples and sets as lists; the rest is left out."""
    if depth > MAX_DEPTH:
        raise CheckpointError("the settings are nested deeper than any Config's")
    if isinstance(value, dict):
        items = ((str(key), as_json(item, depth + 1)) for key, item in value.items())
        return {key: item for key, item in items if item is not _DROP}
    if isinstance(value, (list, tuple, set)):
        return [item for item in (as_json(item, depth + 1) for item in value) if item is not _DROP]
    if isinstance(value, Record):
        return _json_of_record(value)
    if isinstance(value, Enum):
        return value.name
    if isinstance(value, torch.device):
        return str(value)
    if isinstance(value, np.generic):
        return value.item()
    return value if type(value) in SCALARS else _DROP


def _json_of_record(record: Record) -> object:
    if record.kind == "torch.device":
        return str(torch.device(*record.args))
    if record.kind.endswith(".multiarray.scalar"):
        return _scalar(record)
    if record.kind.startswith("recbole.utils.enum_type."):
        from recbole.utils import enum_type

        return getattr(enum_type, type(record).__name__)(*record.args).name
    return _DROP


def _dtype(record: Record, kinds: str = "biufcSU") -> np.dtype[Any]:
    """The dtype of a record, if it is one of `kinds`; byte order from the record's state."""
    spec = record.args[0]
    if record.kind != "numpy.dtype" or not re.fullmatch(rf"[{kinds}]\d+", spec):
        raise CheckpointError(f"the file holds an array of type {spec!r}, which is not plain numbers or text")
    return np.dtype(object) if spec[0] == "O" else np.dtype(spec).newbyteorder(record.state[1])


def _scalar(record: Record) -> object:
    return np.frombuffer(record.args[1], _dtype(record.args[0]))[0].item()


def _array(record: Record) -> np.ndarray[Any, Any]:
    _, shape, dtype, fortran, content = record.state
    array = np.frombuffer(content, _dtype(dtype)).reshape(shape, order="F" if fortran else "C").copy(order="K")
    return np.asmatrix(array) if record.args[0].kind.endswith(".matrix") else array


def _compressed(record: Record) -> object:
    import scipy.sparse

    data, indices, indptr = (_array(record.state[part]) for part in ("data", "indices", "indptr"))
    kind = scipy.sparse.csr_matrix if record.kind.endswith("csr_matrix") else scipy.sparse.csc_matrix
    matrix = kind((data, indices, indptr), shape=record.state["_shape"])
    matrix.check_format(full_check=True)  # an index out of range would read foreign memory
    return matrix


def _list_of_lists(record: Record) -> object:
    from scipy.sparse import coo_matrix

    columns, values = (list(_rows(record.state[part])) for part in ("rows", "data"))
    row = np.repeat(np.arange(len(columns)), [len(part) for part in columns])
    column, data = (np.array([item for part in parts for item in part]) for parts in (columns, values))
    coordinates = (row, column.astype(np.int64))
    shape, dtype = record.state["_shape"], _dtype(record.state["dtype"])
    return coo_matrix((data, coordinates), shape=shape, dtype=dtype).tolil()


def _rows(record: Record) -> Iterator[list[Any]]:
    _, _, dtype, _, content = record.state
    _dtype(dtype, kinds="O")
    for row in content:
        if not isinstance(row, list):
            raise CheckpointError("the file holds an array of objects that are not lists of numbers")
        yield rebuilt(row)


_BUILDERS: dict[str, Callable[[Record], object]] = {
    "scalar": _scalar,
    "_reconstruct": _array,
    "csr_matrix": _compressed,
    "csc_matrix": _compressed,
    "lil_matrix": _list_of_lists,
}
