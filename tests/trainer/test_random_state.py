"""The state of all random generators, as plain data."""

from __future__ import annotations

import random

import numpy as np
import torch

from recbole_hetcomp.trainer.checkpoint import load_checkpoint, save_checkpoint
from recbole_hetcomp.trainer.random_state import random_state, restore_random_state


def draw() -> list[float]:
    return [random.random(), random.gauss(0, 1), *np.random.rand(3), np.random.randn(), *torch.rand(3).tolist()]


def test_what_is_drawn_after_restoring_is_what_was_drawn_before():
    random.gauss(0, 1)  # leaves a second value behind, as does numpy's randn
    np.random.randn()
    state = random_state()
    first = draw()
    assert draw() != first
    restore_random_state(state)
    assert draw() == first


def test_state_survives_a_checkpoint_file(tmp_path):
    random.gauss(0, 1)
    np.random.randn()
    save_checkpoint(tmp_path / "state.pth", random_state())
    first = draw()
    torch.load(tmp_path / "state.pth", weights_only=True)
    restore_random_state(load_checkpoint(tmp_path / "state.pth"))
    assert draw() == first


def test_taking_the_state_draws_nothing():
    first = random_state()
    second = random_state()
    assert torch.equal(first["torch"], second["torch"])
    assert torch.equal(first["numpy"][1], second["numpy"][1])
    assert first["python"] == second["python"]
