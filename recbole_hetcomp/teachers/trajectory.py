"""A teacher's training trajectory: what it would have recommended at a few checkpoints of its training.

Lists of item ids, not networks and not users x items matrices: 24 checkpoints of CiteULike take about 0.1 GB, where dense
importances take 12.6 GB. One safetensors file, so that reading it executes nothing.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from numpy.typing import ArrayLike
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from recbole_hetcomp.config.errors import UserError
from recbole_hetcomp.files.atomic import PathLike, write

FORMAT = "recbole_hetcomp.trajectory/3"
# Formats without a checksum; in the first, ids always take four bytes.
UNCHECKED = ("recbole_hetcomp.trajectory/1", "recbole_hetcomp.trajectory/2")
MAX_HEADER = 2**16  # bytes; one of five tensors has about 600
TENSORS = {
    "items": (torch.int32, 3),
    "rank_std": (torch.float16, 3),
    "observed": (torch.int32, 2),
    "epochs": (torch.int32, 1),
    "valid_scores": (torch.float32, 1),
}
SHORT = 2**16  # ids below it are written in two bytes, as int16 whose sign bit is a digit
OBSERVED_DEPTH = 100  # training items that a teacher ranks for each user; the deepest that any published setting reads
STRINGS = ("teacher", "dataset_fingerprint", "config_fingerprint", "rows")


@dataclass(frozen=True)
class Trajectory:
    """What a teacher recommends at each of E checkpoints. Row = RecBole's internal user id; row 0 and id 0 are padding.

    Attributes:
        items: [E, U, L] int32, the L best items outside the user's training items, best first, 0 = no item
        rank_std: [E, U, L] float16, standard deviation of that item's rank over the last few snapshots
        observed: [U, P] int32, the user's training items in the final teacher's order; P may be 0
        epochs: [E] int32, epochs trained
        valid_scores: [E] float32, the validation metric there
        teacher: its name
        dataset_fingerprint: of the split it was trained on
        config_fingerprint: of all settings that shaped it
        rows: fingerprint of `data/sequences.py`, where U counts points of sequences; empty where it counts users

    Raises:
        UserError: shapes or types are off.
    """

    items: Tensor
    rank_std: Tensor
    observed: Tensor
    epochs: Tensor
    valid_scores: Tensor
    teacher: str = ""
    dataset_fingerprint: str = ""
    config_fingerprint: str = ""
    rows: str = ""

    def __post_init__(self) -> None:
        for name, (dtype, dimensions) in TENSORS.items():
            tensor = getattr(self, name)
            if tensor.dtype != dtype or tensor.dim() != dimensions:
                raise UserError(
                    f"trajectory of teacher {self.teacher!r}: {name} is {tensor.dtype} of shape {list(tensor.shape)}, "
                    f"it must be {dtype} with {dimensions} dimensions"
                )
        n_stages, n_users, _ = self.items.shape
        if not (
            self.rank_std.shape == self.items.shape
            and self.observed.size(0) == n_users
            and len(self.epochs) == len(self.valid_scores) == n_stages > 0
        ):
            raise UserError(f"trajectory of teacher {self.teacher!r}: its tensors disagree about checkpoints or users")
        if self.items.numel() and int(self.items.min()) < 0:
            raise UserError(f"trajectory of teacher {self.teacher!r}: item ids must be 0 (no item) or larger")

    @property
    def n_stages(self) -> int:
        """E, the number of checkpoints."""
        return self.items.size(0)

    def topk(self, k: int, stage: int = -1) -> Tensor:
        """[U, k] int32: the best k items at a checkpoint, by default the last; no wider than the lists."""
        return self.items[stage, :, :k]

    @classmethod
    def from_lists(
        cls,
        items: Tensor | ArrayLike,
        *,
        rank_std: Tensor | ArrayLike | None = None,
        observed: Tensor | ArrayLike | None = None,
        teacher: str = "lists",
        dataset_fingerprint: str = "",
        config_fingerprint: str = "",
    ) -> Trajectory:
        """Anyone's own teacher, from its lists alone.

        Args:
            items: [U, L], or [E, U, L] for several checkpoints, internal item ids without the user's training items
            rank_std: as `items`; None means no deviation
            observed: [U, P] training items in the teacher's order; None means that the teacher has no opinion on them
            teacher, dataset_fingerprint, config_fingerprint: as the attributes

        Raises:
            UserError: other shapes, or ids that are no whole numbers.
        """
        given = torch.as_tensor(items)
        if given.dim() not in (2, 3) or (given.is_floating_point() and bool((given != given.round()).any())):
            raise UserError(
                f"lists of teacher {teacher!r}: {given.dtype} of shape {list(given.shape)}; give whole numbers of shape "
                "[users, length] or [checkpoints, users, length]"
            )
        lists = given.int() if given.dim() == 3 else given.int()[None]
        deviation = torch.zeros(lists.shape) if rank_std is None else torch.as_tensor(rank_std)
        ranked = torch.zeros(lists.size(1), 0) if observed is None else torch.as_tensor(observed)
        return cls(
            items=lists.contiguous(),
            rank_std=deviation.half().reshape(lists.shape).contiguous(),
            observed=ranked.int().contiguous(),
            epochs=torch.zeros(len(lists), dtype=torch.int32),
            valid_scores=torch.full((len(lists),), torch.nan),
            teacher=teacher,
            dataset_fingerprint=dataset_fingerprint,
            config_fingerprint=config_fingerprint,
        )

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write one safetensors file, all at once.

        Ids below 2^16 take two bytes there (int16), others four (int32); `load` reads both.

        Raises:
            OSError: no permission, or the disk is full; nothing is left behind.
        """
        metadata = {"format": FORMAT, **{name: getattr(self, name) for name in STRINGS if name != "rows" or self.rows}}
        tensors = {name: getattr(self, name) for name in TENSORS}
        tensors.update({name: _packed(tensors[name]) for name in ("items", "observed")})
        tensors = {name: tensor.contiguous() for name, tensor in tensors.items()}
        save_tensors(tensors, path, {**metadata, "sha256": checksum(tensors, metadata)})

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Trajectory:
        """Read what `save` wrote, now or before files had a checksum.

        Raises:
            UserError: the file is missing, damaged, no trajectory, or of another format version.
        """
        try:
            tensors, metadata = _read(path)
        except (SafetensorError, OSError, ValueError, TypeError, LookupError, AttributeError, RuntimeError) as error:
            reason = " ".join(str(error).split())[:160]
            raise UserError(f"trajectory {str(path)!r} cannot be read ({reason}); make it anew or leave it out") from error
        parts: dict[str, Any] = {name: _unpacked(tensor) for name, tensor in tensors.items()}
        return cls(**parts, **dict[str, Any]((name, metadata.get(name, "")) for name in STRINGS))


def _read(path: str | os.PathLike[str]) -> tuple[dict[str, Any], dict[str, str]]:
    """(tensors, metadata) of a file, as they were written."""
    with open(path, "rb") as opened:
        if int.from_bytes(opened.read(8), "little") > MAX_HEADER:
            raise ValueError("its header is larger than any trajectory's")
    with safe_open(os.fspath(path), framework="pt") as file:
        metadata = dict(file.metadata() or {})
        if metadata.get("format") not in (FORMAT, *UNCHECKED):
            raise ValueError(f"it has format {metadata.get('format')!r}, this version reads {FORMAT!r}")
        # copies, since safetensors maps the file: who writes into it later would change what the checksum has passed
        tensors = {name: file.get_tensor(name).clone() for name in TENSORS}
    found = metadata.pop("sha256", None)
    if (found is not None or metadata["format"] == FORMAT) and found != checksum(tensors, metadata):
        raise ValueError("it is damaged: its content does not have its checksum")
    return tensors, metadata


def checksum(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> str:
    """sha256 over the names, types, shapes and bytes of contiguous tensors, and over the metadata."""
    form = {name: [str(tensor.dtype), list(tensor.shape)] for name, tensor in tensors.items()}
    digest = hashlib.sha256(json.dumps([form, dict(metadata)], sort_keys=True).encode())
    for name in sorted(tensors):
        digest.update(tensors[name].reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _packed(tensor: Tensor) -> Tensor:
    """int16 for int32 whose numbers are all from 0 to 2^16 - 1; anything else as it is."""
    if tensor.dtype != torch.int32 or not tensor.numel() or int(tensor.min()) < 0 or int(tensor.max()) >= SHORT:
        return tensor
    return tensor.short()


def _unpacked(tensor: Tensor) -> Tensor:
    return tensor.int() & (SHORT - 1) if tensor.dtype == torch.int16 else tensor


def save_tensors(tensors: dict[str, Tensor], path: PathLike, metadata: dict[str, str] | None = None) -> None:
    """Write a safetensors file at once, from memory: safetensors' own writer hides the operating system's error.

    Raises:
        OSError: no permission, or the disk is full; nothing is left behind.
    """
    write(path, save(tensors, metadata))


def rank_deviation(items: Tensor, window: Sequence[Tensor]) -> Tensor:
    """How steadily items hold their rank: the population standard deviation over the snapshots of a window.

    Source: the consistency of Kang et al., "Consensus Learning from Heterogeneous Objectives", WWW 2022 (ConCF), the
    authors' code. An item outside a snapshot's list of length L counts as rank L there.

    Args:
        items: [U, L] the list to judge, 0 = no item
        window: snapshots [U, L], the one of `items` among them

    Returns:
        [U, L] float16, in ranks; 0 where `items` is 0
    """
    ranks = torch.stack([_ranks_in(snapshot, items) for snapshot in window])  # [W, U, L]
    return ranks.float().std(0, correction=0).masked_fill(items == 0, 0.0).half()


def _ranks_in(snapshot: Tensor, items: Tensor) -> Tensor:
    """[U, L] the 0-based rank of each of `items` in the same row of `snapshot` [U, L]; L where it is absent."""
    ids, position = snapshot.sort(dim=1)  # [U, L] each
    place = torch.searchsorted(ids, items.contiguous()).clamp(max=ids.size(1) - 1)
    found = ids.gather(1, place) == items
    return torch.where(found, position.gather(1, place), ids.size(1))
