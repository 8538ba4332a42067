"""A file of vectors of users and items by raw tokens, from this or another data set or system."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from recbole_hetcomp.config.errors import UserError, shown
from recbole_hetcomp.teachers.trajectory import MAX_HEADER, checksum, save_tensors

FORMAT = "recbole_hetcomp.vectors/1"
DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
OF_VECTORS = re.compile(rb'"format"\s*:\s*"recbole_hetcomp\.vectors/')  # in the header of such a file, of whatever version
WIDEST = 2**14  # numbers of a vector: each user and item of the data set gets as many
LARGEST = 1e6  # of a number in a vector: sums of squares of products stay finite in float32


@dataclass(frozen=True, eq=False)
class EntityVectors:
    """Vectors whose inner products are scores, each with the raw token of its user or item.

    Attributes:
        users: [n, D] floating point, by `user_tokens`; [0, D] where items alone have vectors
        items: [m, D] floating point, by `item_tokens`
        user_tokens, item_tokens: n and m different strings
        teacher: the name of what made them
        fingerprint: sha256 of the content of the file they were read from; empty where there is none

    Raises:
        UserError: shapes, types or tokens are off, vectors are wider than `WIDEST`, or a number is not finite or above
            `LARGEST`.
    """

    users: Tensor
    items: Tensor
    user_tokens: Sequence[str]
    item_tokens: Sequence[str]
    teacher: str = "vectors"
    fingerprint: str = field(default="", init=False)

    def __post_init__(self) -> None:
        for side, rows in (("user", self.users), ("item", self.items)):
            if not isinstance(rows, Tensor):
                raise UserError(f"vectors of {side}s are a {type(rows).__name__}; give a torch.Tensor")
        if self.items.dim() != 2 or self.users.dim() != 2 or self.users.size(1) != self.items.size(1):
            shapes = f"{list(self.users.shape)} and {list(self.items.shape)}"
            raise UserError(f"vectors of users and items are of shape {shapes}; both are [rows, numbers], of one width")
        if not self.items.numel():
            raise UserError("there is no vector of an item; give at least one")
        if self.items.size(1) > WIDEST:
            raise UserError(f"vectors of {self.items.size(1):,} numbers are wider than any model's, {WIDEST:,}")
        for side, rows, tokens in (("user", self.users, self.user_tokens), ("item", self.items, self.item_tokens)):
            if rows.dtype not in DTYPES:
                raise UserError(f"vectors of {side}s are {rows.dtype}; give floating point numbers")
            if not bool((rows.abs() <= LARGEST).all()):
                raise UserError(f"a vector of {_a(side)} has a number that is not finite, or above {LARGEST:g}; mend it")
            if len(tokens) != len(rows):
                raise UserError(f"{len(rows):,} vectors of {side}s have {len(tokens):,} tokens; each needs one")
            _check_tokens(side, tokens)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write one safetensors file, all at once: float32 vectors, tokens as UTF-8 text of a line each.

        Raises:
            OSError: no permission, or the disk is full; nothing is left behind.
        """
        tensors = {"items": _plain(self.items), "item_tokens": _as_text(self.item_tokens)}
        if len(self.users):
            tensors.update(users=_plain(self.users), user_tokens=_as_text(self.user_tokens))
        metadata = {"format": FORMAT, "teacher": self.teacher}
        save_tensors(tensors, path, {**metadata, "sha256": checksum(tensors, metadata)})

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> EntityVectors:
        """Read what `save` wrote.

        Raises:
            UserError: the file is missing, damaged, or holds no such vectors.
        """
        try:
            with open(path, "rb") as opened:
                if int.from_bytes(opened.read(8), "little") > MAX_HEADER:
                    raise ValueError("its header is too large to be one")
            with safe_open(os.fspath(path), framework="pt") as file:
                metadata = dict(file.metadata() or {})
                tensors = {name: file.get_tensor(name).clone() for name in set(file.keys())}  # no maps of the file
            if metadata.get("format") != FORMAT:
                raise ValueError(f"it has format {metadata.get('format')!r}, this version reads {FORMAT!r}")
            fingerprint = metadata.pop("sha256", "")
            if fingerprint != checksum(tensors, metadata):
                raise ValueError("it is damaged: its content does not have its checksum")
            lacking = [name for name in ("items", "item_tokens") if name not in tensors]
            lacking += ["user_tokens"] if "users" in tensors and "user_tokens" not in tensors else []
            lacking += ["teacher"] if "teacher" not in metadata else []
            if lacking:
                raise ValueError(f"it has no {lacking[0]}")
            items = tensors["items"]
            users = tensors.get("users", items[:0])
            user_tokens = _as_tokens(tensors["user_tokens"]) if len(users) else []
            read = cls(users, items, user_tokens, _as_tokens(tensors["item_tokens"]), metadata["teacher"])
            object.__setattr__(read, "fingerprint", fingerprint)  # of a frozen object, by the one who makes it
            return read
        except (SafetensorError, OSError, ValueError, TypeError, LookupError, AttributeError, RuntimeError) as error:
            reason = " ".join(str(error).split())[:160]
            raise UserError(f"teachers: {shown(path)} cannot be read as vectors ({reason}); make it anew") from error


def _plain(rows: Tensor) -> Tensor:
    """As a file holds them: float32 on the CPU, in memory that nothing else uses."""
    return rows.detach().float().cpu().contiguous().clone()


def _a(side: str) -> str:
    return "an item" if side == "item" else "a user"


def _check_tokens(side: str, tokens: Sequence[str]) -> None:
    if not all(isinstance(token, str) for token in tokens):
        wrong = next(token for token in tokens if not isinstance(token, str))
        raise UserError(f"the token {shown(wrong)} of {_a(side)} is a {type(wrong).__name__}; give strings")
    if any(not token or "\n" in token for token in tokens):
        raise UserError(f"a token of {_a(side)} is empty or holds a line break; leave it out")
    if len(set(tokens)) < len(tokens):
        seen: set[str] = set()
        twice = next(token for token in tokens if token in seen or seen.add(token))  # type: ignore[func-returns-value]
        raise UserError(f"the token {shown(twice)} of {_a(side)} is there twice; name each once")


def _as_text(tokens: Sequence[str]) -> Tensor:
    """[bytes] uint8."""
    return torch.from_numpy(np.frombuffer(bytearray("\n".join(tokens), "utf-8"), dtype=np.uint8))


def _as_tokens(text: Tensor) -> list[str]:
    if text.dtype != torch.uint8 or text.dim() != 1:
        raise ValueError(f"tokens are {text.dtype} of shape {list(text.shape)}, not bytes")
    return bytes(text.numpy()).decode("utf-8").split("\n")


def is_vector_file(path: str | os.PathLike[str]) -> bool:
    """Whether a file says of itself that it holds vectors, of whatever version and damaged or not; False without a file."""
    try:
        with open(path, "rb") as opened:
            return OF_VECTORS.search(opened.read(8 + MAX_HEADER)) is not None
    except OSError:
        return False
