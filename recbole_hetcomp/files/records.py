"""What a checkpoint's pickle becomes: inert records first, then arrays, matrices and settings, built by code that checks.

A RecBole checkpoint is a pickle with live objects in it: the Config, the model class, a yaml loader. `restricted.py` reads
each of them as a `Record`, which keeps arguments and state and runs nothing.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Callable, Iterator
from enum import Enum
from typing import Any

import numpy as np
import torch
from torch import Tensor

from recbole_hetcomp.files.archive import CheckpointError

#: Packages of which any class may be mentioned, as an inert record: models, enums, layers kept beside the weights.
RECORD_PACKAGES = ("recbole.", "recbole_hetcomp.", "torch.nn.modules.")

SCALARS = (type(None), bool, int, float, str)
MAX_DEPTH = 32
_DROP = object()


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


class Count:
    """How many values have been met; a pickle of a few bytes can refer to the same list a billion times.

    Args:
        most: that may be met
    """

    def __init__(self, most: int) -> None:
        self.left = most

    def one_more(self, depth: int) -> None:
        """Raise a CheckpointError where there are more values, or they are nested deeper, than in any checkpoint."""
        self.left -= 1
        if self.left < 0:
            raise CheckpointError("the content refers to itself or to the same values over and over")
        if depth > MAX_DEPTH:
            raise CheckpointError("the content is nested deeper than any checkpoint's")


def is_class_instance(value: object) -> bool:
    """Whether `value` was an object of RecBole, of this package or a torch module."""
    return isinstance(value, Record) and value.kind.startswith(RECORD_PACKAGES)


def rebuilt(value: object, count: Count, depth: int = 0) -> Any:
    """`value` with its numpy and scipy records built.

    Raises:
        CheckpointError: something in it is not data
    """
    count.one_more(depth)
    if isinstance(value, (Tensor, *SCALARS)):
        return value
    if isinstance(value, (list, tuple)):
        return type(value)(rebuilt(item, count, depth + 1) for item in value)
    if isinstance(value, dict):
        items = {rebuilt(key, count, depth + 1): rebuilt(item, count, depth + 1) for key, item in dict.items(value)}
        return _with_versions(items, value) if isinstance(value, OrderedDict) else items
    if isinstance(value, Record) and value.kind.rpartition(".")[2] in _BUILDERS:
        return _BUILDERS[value.kind.rpartition(".")[2]](value, count)
    raise CheckpointError(f"the file holds a {getattr(value, 'kind', type(value).__name__)} where data was expected")


def _with_versions(items: dict[Any, Any], source: OrderedDict[Any, Any]) -> OrderedDict[Any, Any]:
    """The items of a state_dict with the version numbers of its modules, which it carries as an attribute."""
    ordered = OrderedDict(items)
    versions = vars(source).get("_metadata")
    if isinstance(versions, dict):
        plain = {
            name: {"version": entry["version"]}
            for name, entry in dict.items(versions)
            if isinstance(name, str) and isinstance(entry, dict) and type(entry.get("version")) is int
        }
        ordered._metadata = OrderedDict(plain)  # type: ignore[attr-defined]
    return ordered


def as_json(value: object, count: Count, depth: int = 0) -> Any:
    """`value` in JSON types: enums by name, devices as text, tuples and sets as lists; the rest is left out."""
    count.one_more(depth)
    if isinstance(value, dict):
        items = ((str(key), as_json(item, count, depth + 1)) for key, item in dict.items(value))
        return {key: item for key, item in items if item is not _DROP}
    if isinstance(value, (list, tuple, set)):
        return [item for item in (as_json(item, count, depth + 1) for item in value) if item is not _DROP]
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
        return _scalar(record, Count(1))
    if record.kind.startswith("recbole.utils.enum_type."):
        from recbole.utils import enum_type

        kinds = {name: kind for name, kind in vars(enum_type).items() if isinstance(kind, type) and issubclass(kind, Enum)}
        kind = kinds.get(type(record).__name__, Enum)  # name and arguments are the file's: no other attribute is called
        if kind is Enum or len(record.args) != 1:
            return _DROP
        return kind(*record.args).name
    return _DROP


def _dtype(record: Record, kinds: str = "biufcSU") -> np.dtype[Any]:
    """The dtype of a record, if it is one of `kinds`; byte order from the record's state."""
    spec = record.args[0]
    if record.kind != "numpy.dtype" or not re.fullmatch(rf"[{kinds}]\d+", spec):
        raise CheckpointError(f"the file holds an array of type {spec!r}, which is not plain numbers or text")
    return np.dtype(object) if spec[0] == "O" else np.dtype(spec).newbyteorder(record.state[1])


def _scalar(record: Record, count: Count) -> object:
    return np.frombuffer(record.args[1], _dtype(record.args[0]))[0].item()


def _array(record: Record, count: Count) -> np.ndarray[Any, Any]:
    _, shape, dtype, fortran, content = record.state
    array = np.frombuffer(content, _dtype(dtype)).reshape(shape, order="F" if fortran else "C").copy(order="K")
    return np.asmatrix(array) if record.args[0].kind.endswith(".matrix") else array


def _compressed(record: Record, count: Count) -> object:
    import scipy.sparse

    data, indices, indptr = (_array(record.state[part], count) for part in ("data", "indices", "indptr"))
    kind = scipy.sparse.csr_matrix if record.kind.endswith("csr_matrix") else scipy.sparse.csc_matrix
    matrix = kind((data, indices, indptr), shape=record.state["_shape"])
    matrix.check_format(full_check=True)  # an index out of range would read foreign memory
    return matrix


def _list_of_lists(record: Record, count: Count) -> object:
    from scipy.sparse import coo_matrix

    columns, values = (list(_rows(record.state[part], count)) for part in ("rows", "data"))
    row = np.repeat(np.arange(len(columns)), [len(part) for part in columns])
    column, data = (np.array([item for part in parts for item in part]) for parts in (columns, values))
    coordinates = (row, column.astype(np.int64))
    shape, dtype = record.state["_shape"], _dtype(record.state["dtype"])
    if shape[0] != len(columns):  # a matrix of a billion empty rows is a few bytes of a file
        raise CheckpointError("the file holds a matrix whose rows are not those that it lists")
    return coo_matrix((data, coordinates), shape=shape, dtype=dtype).tolil()


def _rows(record: Record, count: Count) -> Iterator[list[Any]]:
    _, _, dtype, _, content = record.state
    _dtype(dtype, kinds="O")
    for row in content:
        if not isinstance(row, list):
            raise CheckpointError("the file holds an array of objects that are not lists of numbers")
        yield rebuilt(row, count)


_BUILDERS: dict[str, Callable[[Record, Count], object]] = {
    "scalar": _scalar,
    "_reconstruct": _array,
    "csr_matrix": _compressed,
    "csc_matrix": _compressed,
    "lil_matrix": _list_of_lists,
}
