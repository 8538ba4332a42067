"""What a run has left: the student's tensors, the saved file, and the files of its teachers."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from recbole_hetcomp.model import target_lists
from recbole_hetcomp.serving.student import load_student


def state_of(result: Mapping[str, Any]) -> dict[str, Tensor]:
    """The student's tensors, named as in the same model trained alone."""
    return {name.removeprefix("backbone."): tensor for name, tensor in result["model"].state_dict().items()}


def saved_state(result: Mapping[str, Any]) -> dict[str, Tensor]:
    """The tensors of the saved file, under the names that it has for them."""
    saved: dict[str, Tensor] = torch.load(result["checkpoint"], weights_only=True)["state_dict"]
    return saved


def same(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> bool:
    """Whether all tensors are equal to the last bit."""
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def serves_alike(result: Mapping[str, Any]) -> bool:
    """Whether the student that is read from the saved file has the scores of the one that was trained."""
    users = result["model"].history.active_users
    _, served, _ = load_student(result["checkpoint"], arguments=())
    return torch.equal(served.scores(users), result["model"].scores(users))


def digests(folder: Path) -> dict[str, str]:
    """sha256 of each file in a folder and below it, by its path."""
    return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.rglob("*") if path.is_file()}


def trained_twice(run: Callable[[], Mapping[str, Any]]) -> Mapping[str, Any]:
    """The first of two runs that give the same finite bits; the second finds the teachers and changes no file of theirs.

    After its validations the second ranks for a single user, unless its method `ranks_everyone`.
    """
    first, kept = run(), Path("saved") / "trained"
    before = digests(kept)
    assert before
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(target_lists, "LOOKED_AT", 1)
        again = run()
    assert digests(kept) == before
    assert same(state_of(first), state_of(again))
    assert all(tensor.isfinite().all() for tensor in state_of(first).values())
    return first
