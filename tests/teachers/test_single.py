"""Several teachers as one: standardised scores, against a plain computation over the whole matrix."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from recbole_hetcomp.data.history import History
from recbole_hetcomp.teachers.pool import Teacher, TeacherPool
from recbole_hetcomp.teachers.single import SingleTeacher, moments
from recbole_hetcomp.teachers.trajectory import Trajectory

WEIGHTS = (0.5, 0.25)  # validation scores


@pytest.fixture
def single(make_model, split):
    """`single("BPR", "NeuMF")`: untrained models as one teacher, a few users at a time."""

    history = History.of(split.train)

    def make(*names: str, weighting: float = 1.0, max_block_mb: float = 0.002) -> SingleTeacher:
        teachers = []
        for name, score in zip(names, WEIGHTS):
            trajectory = Trajectory.from_lists(torch.zeros(split.whole.user_num, 2, dtype=torch.int32))
            trajectory.valid_scores[:] = score
            teachers.append(Teacher(name, trajectory, load=lambda name=name: make_model(name)))
        return SingleTeacher(TeacherPool(teachers), history, weighting=weighting, max_block_mb=max_block_mb, seed=1)

    return make


def by_hand(teacher: SingleTeacher) -> np.ndarray:
    """[U, I] float64: z-scores, mean and deviation over the items outside the training items; of two teachers, 2 to 1."""
    users = torch.arange(1, teacher.pool.n_users)
    total, counted = np.zeros((len(users), teacher.history.n_items)), np.zeros((len(users), 1))
    for part, weight in zip(teacher.pool.teachers, (2 / 3, 1 / 3)):
        for row, said, user, scores in zip(total, counted, users, part.scores(users).double().numpy()):
            left = np.setdiff1d(np.arange(1, len(scores)), teacher.history.padded(user[None]))
            spread = scores[left].std(ddof=1)  # 0 for a user of whom EASE and MultiVAE know nothing
            if spread > 1e-6 * abs(scores[left]).mean():
                row += weight * (scores - scores[left].mean()) / spread
                said += weight
    return total / counted


@pytest.mark.parametrize("names", [("BPR",), ("NeuMF",), ("BPR", "NeuMF"), ("LightGCN", "EASE"), ("NeuMF", "MultiVAE")])
def test_standardised_scores_are_weighted_z_scores__of_one_teacher_too(single, names) -> None:
    teacher = single(*names)
    users = torch.arange(1, teacher.pool.n_users)
    np.testing.assert_allclose(teacher.standardised(users).numpy(), by_hand(teacher), rtol=2e-3, atol=2e-3)


def test_a_temperature_means_the_same_for_a_teacher_and_for_its_copies(single) -> None:
    """By the old rule one BPR's scores, of a deviation of some hundredths, met a temperature made for deviations of 1."""
    one = single("BPR")
    three = SingleTeacher(TeacherPool(one.pool.teachers * 3), one.history, weighting=1.0, max_block_mb=0.002, seed=1)
    users, items = torch.arange(1, one.pool.n_users), torch.arange(1, 8).expand(one.pool.n_users, -1)
    torch.testing.assert_close(one.standardised(users), three.standardised(users), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(one.standardised_of(items), three.standardised_of(items), rtol=1e-4, atol=1e-4)
    left = ~one.history.contains(users[:, None], torch.arange(one.history.n_items))
    left[:, 0] = False
    spread = torch.stack([row[free].std() for row, free in zip(one.standardised(users), left)])
    torch.testing.assert_close(spread, torch.ones(len(users)), rtol=1e-3, atol=1e-3)


def test_one_teachers_scores_stay_its_own_where_order_and_products_count(single) -> None:
    teacher = single("BPR")
    users = torch.arange(1, teacher.pool.n_users)
    assert torch.equal(teacher.scores(users), teacher.pool.teachers[0].scores(users))
    of_users, of_items = teacher.embeddings(8)
    assert torch.equal(of_users, teacher.pool.teachers[0].model.user_embedding.weight)
    assert torch.equal(of_items, teacher.pool.teachers[0].model.item_embedding.weight)


def test_what_a_teacher_says_of_training_items_changes_no_other_score() -> None:
    scores = torch.randn(3, 50, generator=torch.Generator().manual_seed(3))
    observed = torch.tensor([[4, 7, 9, 0], [11, 0, 0, 0], [0, 0, 0, 0]])  # 0 any number of times
    higher = scores.scatter_add(1, observed, torch.full(observed.shape, 1e6))  # the padding item's column, too
    torch.testing.assert_close(moments(higher, observed), moments(scores, observed))
    left = scores[0, [i for i in range(1, 50) if i not in observed[0]]]
    torch.testing.assert_close(moments(scores, observed)[:, 0], torch.stack([left.mean(), left.std()]))


@pytest.mark.parametrize("constant", [0.0, 0.1, 1.7, -30.0])
@pytest.mark.parametrize("n_items", [5, 1000, 26000])
def test_nothing_is_made_of_a_teacher_that_says_nothing(constant, n_items) -> None:
    rows = torch.full((3, n_items), constant)
    observed = torch.tensor([[4, 3, 0, 0], [1, 0, 0, 0], [0, 0, 0, 0]])
    rows[0, [3, 4]] += 7.0  # as EASE does where nobody else has the user's items
    mean, deviation = moments(rows, observed)
    assert not ((rows - mean[:, None]) / deviation[:, None]).any()
    everything = torch.arange(1, 5).expand(3, 4)
    assert n_items > 5 or moments(torch.randn(3, 5), everything)[1].isinf().all()


@pytest.mark.parametrize("without_list", [0.0, 0.3])
def test_a_teacher_without_opinion_on_a_user_leaves_the_others_say(single, monkeypatch, without_list) -> None:
    teacher = single("BPR", "EASE")
    rows = teacher.pool.teachers[1].scores(torch.arange(1, teacher.pool.n_users))
    of_user = torch.full_like(rows[0], without_list)
    of_user[teacher.history.padded(torch.tensor([1]))[0]] = 50.0
    model = teacher.pool.teachers[1].model
    predict = model.full_sort_predict

    def all_but_one(users):
        return torch.where(users[model.USER_ID][:, None] == 1, of_user, predict(users).view(-1, len(of_user)))

    monkeypatch.setattr(model, "full_sort_predict", all_but_one)
    scores = teacher.scores(torch.arange(1, teacher.pool.n_users))
    first = teacher.pool.teachers[0].scores(torch.tensor([1]))
    mean, deviation = moments(first, teacher.history.padded(torch.tensor([1])))
    torch.testing.assert_close(scores[:1], (first - mean) / deviation, rtol=1e-3, atol=1e-4)
    assert all(torch.isfinite(rows).all() and rows.abs().max() < 100 for rows in teacher.embeddings(4))


@pytest.mark.parametrize("names", [("BPR",), ("NeuMF",), ("BPR", "NeuMF"), ("EASE", "MultiVAE")])
def test_scores_of_a_few_items_are_those_of_the_whole_rows(single, names) -> None:
    teacher = single(*names)
    n_users, n_items = teacher.pool.n_users, teacher.scores(torch.arange(1, 2)).size(1)
    items = torch.randint(0, n_items, (n_users, 7), generator=torch.Generator().manual_seed(2)).int()
    found = teacher.standardised_of(items)
    users = torch.arange(1, n_users)
    expected = teacher.standardised(users).gather(1, items[1:].long()).masked_fill(items[1:] == 0, 0.0)
    torch.testing.assert_close(found[1:], expected, rtol=2e-3, atol=2e-3)  # untrained scores differ by little
    assert not found[items == 0].any()


def test_a_model_that_scores_pairs_is_asked_for_the_listed_ones_alone(single, monkeypatch) -> None:
    teacher = single("NeuMF")
    model, asked = teacher.pool.teachers[0].model, []
    predict = model.predict
    monkeypatch.setattr(model, "predict", lambda pairs: asked.append(len(pairs)) or predict(pairs))
    teacher.standardised_of(
        torch.ones(teacher.pool.n_users, 1, dtype=torch.int32)
    )  # mean and deviation, of whole rows, once
    asked.clear()
    teacher.standardised_of(torch.ones(teacher.pool.n_users, 3, dtype=torch.int32))
    assert sum(asked) == 3 * teacher.pool.n_users


def test_the_random_state_is_left_as_it_was(single) -> None:
    teacher = single("BPR", "NeuMF")  # the models are built, with random numbers, at first use
    before = torch.get_rng_state()
    teacher.standardised_of(torch.ones(teacher.pool.n_users, 3, dtype=torch.int32))
    assert torch.equal(torch.get_rng_state(), before)
