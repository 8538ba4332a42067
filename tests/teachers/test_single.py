"""Several teachers as one: standardised scores, against a plain computation over the whole matrix."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from recbole_hetcomp.teachers.pool import Teacher, TeacherPool
from recbole_hetcomp.teachers.single import SingleTeacher
from recbole_hetcomp.teachers.trajectory import Trajectory

WEIGHTS = (0.5, 0.25)  # validation scores


@pytest.fixture
def single(make_model, split):
    """`single("BPR", "NeuMF")`: untrained models as one teacher, a few users at a time."""

    def make(*names: str, weighting: float = 1.0, max_block_mb: float = 0.002) -> SingleTeacher:
        teachers = []
        for name, score in zip(names, WEIGHTS):
            trajectory = Trajectory.from_lists(torch.zeros(split.whole.user_num, 2, dtype=torch.int32))
            trajectory.valid_scores[:] = score
            teachers.append(Teacher(name, trajectory, load=lambda name=name: make_model(name)))
        return SingleTeacher(TeacherPool(teachers), weighting=weighting, max_block_mb=max_block_mb, seed=1)

    return make


def by_hand(teacher: SingleTeacher) -> np.ndarray:
    """[U, I] float64: z-scores over the items, weighted 2 to 1."""
    users = torch.arange(1, teacher.pool.n_users)
    matrices = [part.scores(users).double().numpy() for part in teacher.pool.teachers]
    spreads = [
        m[:, 1:].std(1, ddof=1, keepdims=True) for m in matrices
    ]  # 0 for a user of whom EASE and MultiVAE know nothing
    standard = [(m - m[:, 1:].mean(1, keepdims=True)) / np.where(s > 0, s, 1) for m, s in zip(matrices, spreads)]
    return (2 * standard[0] + standard[1]) / 3


@pytest.mark.parametrize("names", [("BPR", "NeuMF"), ("LightGCN", "EASE"), ("NeuMF", "MultiVAE")])
def test_scores_are_weighted_z_scores(single, names) -> None:
    teacher = single(*names)
    users = torch.arange(1, teacher.pool.n_users)
    np.testing.assert_allclose(teacher.scores(users).numpy(), by_hand(teacher), rtol=2e-3, atol=2e-3)


@pytest.mark.parametrize("names", [("BPR",), ("NeuMF",), ("BPR", "NeuMF"), ("EASE", "MultiVAE")])
def test_scores_of_a_few_items_are_those_of_the_whole_rows(single, names) -> None:
    teacher = single(*names)
    n_users, n_items = teacher.pool.n_users, teacher.scores(torch.arange(1, 2)).size(1)
    items = torch.randint(0, n_items, (n_users, 7), generator=torch.Generator().manual_seed(2)).int()
    found = teacher.scores_of(items)
    users = torch.arange(1, n_users)
    expected = teacher.scores(users).gather(1, items[1:].long()).masked_fill(items[1:] == 0, 0.0)
    torch.testing.assert_close(found[1:], expected, rtol=2e-3, atol=2e-3)  # untrained scores differ by little
    assert not found[items == 0].any()


def test_a_model_that_scores_pairs_is_asked_for_the_listed_ones_alone(single, monkeypatch) -> None:
    teacher = single("NeuMF")
    model, asked = teacher.pool.teachers[0].model, []
    predict = model.predict
    monkeypatch.setattr(model, "predict", lambda pairs: asked.append(len(pairs)) or predict(pairs))
    list(teacher._blocks(2))  # the number of items is known from a first row
    asked.clear()
    teacher.scores_of(torch.ones(teacher.pool.n_users, 3, dtype=torch.int32))
    assert sum(asked) == 3 * teacher.pool.n_users


def test_the_random_state_is_left_as_it_was(single) -> None:
    teacher = single("BPR", "NeuMF")  # the models are built, with random numbers, at first use
    before = torch.get_rng_state()
    teacher.scores_of(torch.ones(teacher.pool.n_users, 3, dtype=torch.int32))
    assert torch.equal(torch.get_rng_state(), before)
