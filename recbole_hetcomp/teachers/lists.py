"""A teacher that is only a file: anyone's ranked lists, in a table of users, items and ranks."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from logging import getLogger
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from recbole_hetcomp.config.errors import UserError, named, shown
from recbole_hetcomp.config.metrics import largest
from recbole_hetcomp.data.history import History, users_per_block
from recbole_hetcomp.data.sequences import Sequences
from recbole_hetcomp.data.split import Split
from recbole_hetcomp.teachers.recdistillery import SUFFIX
from recbole_hetcomp.teachers.tables import PARQUET, SEPARATORS, read_table
from recbole_hetcomp.teachers.trajectory import Trajectory

BLOCK_MB = 16.0  # of the table in which the lists of some users are checked


def is_list_file(name: str) -> bool:
    """Whether a teacher's name is the path of a file with lists rather than a model."""
    return Path(name).suffix in {*SEPARATORS, PARQUET, SUFFIX, ".safetensors"}


def read_lists(path: Path, split: Split, rows: Sequences | None = None) -> Trajectory:
    """A trajectory from a file: one that `Trajectory.save` wrote, or a table.

    A table has the columns user, item, rank and, for several stages of a training, checkpoint (its values in order, the
    last the final one); ids are the dataset's own tokens, smaller ranks are better. RecBole's `user_id:token` is understood
    too, and what `teachers.tables` says of other systems. Quotation marks quote in a .csv alone. Unknown ids and training
    items are left out, and one log line says how many. A table is of users; a trajectory of points of sequences is read
    where these are the run's `rows`.

    Raises:
        UserError: unreadable, of another split, without the columns, or without a single usable row.
    """
    try:
        content = hashlib.sha256(path.read_bytes()).hexdigest()  # another file is another teacher, whatever its name
    except OSError as error:
        raise UserError(f"teachers: {str(path)!r} cannot be read ({error.strerror}); correct the path") from error
    if path.suffix == ".safetensors":
        trajectory = Trajectory.load(path)
        if trajectory.dataset_fingerprint not in ("", split.fingerprint):
            raise UserError(f"teachers: {str(path)!r} was made on another dataset or split; make it anew on this one")
        if trajectory.rows and (rows is None or trajectory.rows != rows.fingerprint):
            raise UserError(
                f"teachers: {str(path)!r} is of points of sequences that are not this run's; give points_per_user and "
                "split_seed as when it was made, or make it anew"
            )
        history = _listed(trajectory, split, rows)
        fault = fault_of(trajectory, history)
        if fault is not None:
            raise UserError(f"teachers: {str(path)!r} {fault}")
        unobserved = _without_training_items(trajectory, path, history)
        if not unobserved.items.any():
            raise UserError(f"teachers: {str(path)!r} lists nothing but training items; list others")
        return replace(unobserved, dataset_fingerprint=split.fingerprint, config_fingerprint=content)
    lists = _lists(read_table(path), path, split)
    fingerprints = {"dataset_fingerprint": split.fingerprint, "config_fingerprint": content}
    return Trajectory.from_lists(lists, teacher=path.stem, **fingerprints)


def _listed(trajectory: Trajectory, split: Split, rows: Sequences | None) -> History:
    """The training items of whom the lists are of: of users, or of `rows`."""
    return rows if trajectory.rows and rows is not None else split.history


def _lists(table: pd.DataFrame, path: Path, split: Split) -> Tensor:
    """[E, U, L] int32 from the table's rows."""
    n_rows, whole, history = len(table), split.whole, split.history
    ids = {
        name: table[name].map(whole.field2token_id[field])
        for name, field in (("user", whole.uid_field), ("item", whole.iid_field))
    }
    unknown = {name: table[name][~(ids[name] > 0)].unique() for name in ids}
    examples = " and ".join(f"{name} {named(tokens)}" for name, tokens in unknown.items() if len(tokens))
    table = table.assign(**ids).dropna(subset=["user", "item"])
    users, items = (table[name].to_numpy(np.int64) for name in ("user", "item"))
    trained = history.contains(torch.from_numpy(users), torch.from_numpy(items)).numpy()
    table = table.assign(user=users, item=items)[~trained & (users > 0) & (items > 0)]
    if len(table) < n_rows:
        n_trained = int(trained.sum())
        n_unknown = n_rows - len(table) - n_trained
        getLogger().warning(
            f"{path.name}: of {n_rows:,} rows {n_trained:,} are training items and {n_unknown:,} have unknown ids"
            f"{examples and f' ({examples})'}; they are left out"
        )
    if table.empty:
        raise UserError(
            f"teachers: no row of {shown(path)} names a user and an item of this dataset outside the training set"
            f"{examples and f'; it does not know {examples}'}; give tokens as the .inter file has them"
        )
    stages = table["checkpoint"].rank(method="dense").astype(int) - 1 if "checkpoint" in table else 0
    table = (
        table.assign(stage=stages)
        .sort_values(["stage", "user", "rank"], kind="stable")
        .drop_duplicates(["stage", "user", "item"])
    )
    place = table.groupby(["stage", "user"]).cumcount().to_numpy()
    lists = np.zeros((int(table["stage"].max()) + 1, history.n_users, int(place.max()) + 1), dtype=np.int32)
    lists[table["stage"].to_numpy(), table["user"].to_numpy(), place] = table["item"].to_numpy()
    return torch.from_numpy(lists)


def fault_of(trajectory: Trajectory, history: History, *, kept: bool = False) -> str | None:
    """What no teacher of this split could have listed, and the remedy, as a clause; None where there is nothing.

    Args:
        kept: lists that this package recorded itself, which are held to all that it writes
    """
    items, observed, deviation = trajectory.items, trajectory.observed, trajectory.rank_std
    ids = [int(extreme) for lists in (items, observed) if lists.numel() for extreme in (lists.min(), lists.max())]
    if items.size(1) != history.n_users or min(ids, default=0) < 0 or max(ids, default=0) >= history.n_items:
        return "has other users or items than this dataset; make it anew on this one"
    if not items.any() and not kept:
        return "lists no item at all; fill it or leave it out"
    if deviation.numel() and not (deviation.amin() >= 0 and deviation.amax() < torch.inf):  # NaN is neither
        return "has a rank_std below 0 or not finite; mend it, or leave rank_std out"
    if items[:, 0].any():
        return "has a list in row 0, the padding user's; leave that row 0"
    rows = min(len(observed), users_per_block(history.n_items, BLOCK_MB))
    table = _ItemTable(rows, history.n_items)
    for users in torch.arange(len(observed)).split(rows):
        fault = _fault_of_rows(users, items[:, users], observed[users], history, table, kept)
        if fault is not None:
            return fault
    return _fault_of_scores(trajectory)


class _ItemTable:
    """Two values for each item of some users, written and read at the items of their lists, in place of sorting these.

    Args:
        block: at most so many users at a time, whatever their number
        n_items: counts, the padding id 0 among them
    """

    def __init__(self, block: int, n_items: int) -> None:
        self.place = torch.empty(block, n_items, dtype=torch.int32)
        self.member = torch.zeros(block, n_items, dtype=torch.bool)  # as it is left after each use

    def repeats(self, lists: Tensor) -> Tensor:
        """[B] bool: whether a list of `lists` [B, L] int64 has an item twice, 0 aside."""
        place = torch.arange(lists.size(1), dtype=torch.int32).expand(lists.shape)
        rows = self.place[: len(lists)].scatter_(1, lists, place)
        return ((rows.gather(1, lists) != place) & (lists > 0)).any(1)

    def holds(self, members: Tensor, lists: Tensor) -> Tensor:
        """[B, L] bool: which entries of `lists` [B, L] are among the `members` [B, H] of their user, 0 aside."""
        rows = self.member[: len(lists)].scatter_(1, members, True)
        rows[:, 0] = False
        found = rows.gather(1, lists)
        rows.scatter_(1, members, False)
        return found


def _fault_of_rows(
    users: Tensor, items: Tensor, observed: Tensor, history: History, table: _ItemTable, kept: bool
) -> str | None:
    """`fault_of` the lists of some `users` [B]: `items` [E, B, L] and `observed` [B, P]."""
    trained = history.padded(users)
    listed, seen = items.long(), observed.long()
    if not ((seen == 0) | table.holds(trained, seen)).all():
        return "observes an item outside its user's training items; leave it out"
    for does, lists in (("list", listed), ("observe", seen[None])):
        twice = torch.stack([table.repeats(of_stage) for of_stage in lists]).any(0).nonzero()
        if len(twice):
            return f"{does}s an item twice for user {int(users[twice[0]])}; {does} it once"
        if kept and ((lists[..., 1:] > 0) & (lists[..., :-1] == 0)).any():
            return "has an item behind the end of a list; close the gap"
    if kept and any(table.holds(trained, of_stage).any() for of_stage in listed):
        return "lists training items; leave them out"
    if kept and ((items[..., :1] > 0) != (items[-1, :, :1] > 0)).any():
        return "has a list for a user at some checkpoints alone; add the others"
    return None


def _fault_of_scores(trajectory: Trajectory) -> str | None:
    epochs, scores = trajectory.epochs, trajectory.valid_scores
    if int(epochs.min()) < 0 or (epochs[1:] < epochs[:-1]).any():
        return f"has epochs {epochs.tolist()[:8]}; they are 0 or more, and none is below the one before"
    if not scores.isnan().all() and (not scores.isfinite().all() or (scores < 0).any()):
        return f"has valid_scores {scores.tolist()[:8]}; they are finite and 0 or more, or all NaN"
    return None


def check_kept(trajectory: Trajectory, split: Split, metric: str, rows: Sequences | None = None) -> None:
    """Raise a UserError, a clause, for lists that this package cannot have recorded on this split.

    Args:
        rows: of a run with sequences; lists that are not of users are of these
        metric: of the valid_scores
    """
    fault = fault_of(trajectory, _listed(trajectory, split, rows), kept=True)
    if fault is not None:
        raise UserError(f"it {fault.partition(';')[0]}")
    if (trajectory.rank_std > trajectory.items.size(2)).any():
        raise UserError("it has a rank_std that no list of its length has")
    if (trajectory.valid_scores > largest(metric)).any() or int(trajectory.epochs[0]) < 1:
        raise UserError(f"it has a {metric} above {largest(metric):g}, or lists of a model that was not trained")


def _without_training_items(trajectory: Trajectory, path: Path, history: History) -> Trajectory:
    """The lists without the users' training items, the later items moved up, and into gaps as well."""
    trained = history.contains(torch.arange(history.n_users)[:, None], trajectory.items)  # [E, U, L]
    gap = (trajectory.items[..., :-1] == 0) & (trajectory.items[..., 1:] > 0)
    if not trained.any() and not gap.any():
        return trajectory
    if trained.any():
        getLogger().warning(f"{path.name}: {int(trained.sum())} entries are training items: left out")
    order = (trained | (trajectory.items == 0)).int().sort(dim=-1, stable=True).indices
    items, deviations = (part.masked_fill(trained, 0).gather(-1, order) for part in (trajectory.items, trajectory.rank_std))
    return replace(trajectory, items=items, rank_std=deviations)
