"""The pool: lists of one shape, teachers of one split, embeddings that are what they say."""

from __future__ import annotations

import pytest
import torch

from recbole_hetcomp.config.errors import UserError
from recbole_hetcomp.teachers import Needs, Teacher, TeacherPool, Trajectory
from recbole_hetcomp.teachers.ranking import full_scores

N_USERS = 3


def lists(*shape: int, start: int = 1) -> torch.Tensor:
    return torch.arange(start, start + torch.Size(shape).numel(), dtype=torch.int32).view(shape)


def teacher(name: str, items: torch.Tensor, load=None, **given) -> Teacher:
    return Teacher(name, Trajectory.from_lists(items, teacher=name, **given), load)


@pytest.fixture
def pool() -> TeacherPool:
    """A teacher of two checkpoints and long lists, one of a single checkpoint and short ones."""
    deviations = torch.rand(2, N_USERS, 5)
    first = teacher("long", lists(2, N_USERS, 5), rank_std=deviations, observed=lists(N_USERS, 2))
    second = teacher("short", lists(N_USERS, 2, start=50), observed=lists(N_USERS, 4, start=90))
    return TeacherPool([first, second])


def test_lists_of_different_length_are_padded_with_no_item(pool) -> None:
    items, deviations = pool.lists(200)
    assert items.shape == deviations.shape == (2, 2, N_USERS, 5)
    assert (items.dtype, deviations.dtype) == (torch.int32, torch.float16)
    assert torch.equal(items[0], lists(2, N_USERS, 5))
    assert torch.equal(items[1, 0, :, :2], lists(N_USERS, 2, start=50))
    assert not items[1, :, :, 2:].any()
    assert torch.equal(deviations[0], pool.teachers[0].trajectory.rank_std)
    assert not deviations[1].any()


def test_a_teacher_of_one_checkpoint_is_the_same_at_every_stage(pool) -> None:
    assert pool.n_stages == 2
    items, _ = pool.lists(200)
    assert torch.equal(items[1, 0], items[1, 1])
    assert not torch.equal(items[0, 0], items[0, 1])
    for stage in (0, 1, -1):
        assert torch.equal(pool.topk(4, stage), items[:, stage, :, :4])


@pytest.mark.parametrize("depth", [1, 3])
def test_lists_are_cut_at_the_depth(pool, depth) -> None:
    assert torch.equal(pool.lists(depth)[0], pool.lists(200)[0][..., :depth])


def test_observed_of_all_teachers_are_padded_to_the_longest(pool) -> None:
    observed = pool.observed()
    assert torch.equal(observed[0], torch.nn.functional.pad(lists(N_USERS, 2), (0, 2)))
    assert torch.equal(observed[1], lists(N_USERS, 4, start=90))


def test_a_pool_of_lists_without_observed_has_an_opinion_on_none() -> None:
    assert TeacherPool([teacher("a", lists(N_USERS, 2))]).observed().shape == (1, N_USERS, 0)


REFUSED = {
    "the list is empty": [],
    "'b' was trained on another split": [
        teacher("a", lists(3, 2), dataset_fingerprint="x"),
        teacher("b", lists(3, 2), dataset_fingerprint="y"),
    ],
    "'b' was trained on another split or id map": [teacher("a", lists(3, 2)), teacher("b", lists(4, 2))],
    "'b' has 2 checkpoints, others have 3": [teacher("a", lists(3, 3, 2)), teacher("b", lists(2, 3, 2))],
    "'a' has 2 checkpoints, others have 3": [teacher("a", lists(2, 3, 2)), teacher("b", lists(3, 3, 2))],
}


@pytest.mark.parametrize(("sentence", "teachers"), REFUSED.items(), ids=REFUSED.keys())
def test_teachers_that_do_not_go_together_are_refused_by_name(sentence, teachers) -> None:
    with pytest.raises(UserError, match=sentence):
        TeacherPool(teachers)


def of_model(name: str, make_model) -> Teacher:
    return teacher(name, lists(N_USERS, 2), load=lambda: make_model(name))


@pytest.mark.parametrize("name", ["BPR", "LightGCN", "NGCF", "MF", "SGL", "DGCF"])
def test_embeddings_are_those_whose_products_are_the_scores(make_model, split, name) -> None:
    probed = of_model(name, make_model)
    users, items = probed.embeddings()
    assert (len(users), len(items)) == (split.whole.user_num, split.whole.item_num)
    assert not users.requires_grad
    every = torch.arange(len(users))
    torch.testing.assert_close(users @ items.T, probed.scores(every), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["NeuMF", "EASE", "CML", "MultiVAE", "ENMF"])
def test_models_whose_scores_are_no_products_have_no_embeddings(make_model, name) -> None:
    assert of_model(name, make_model).embeddings() is None


def test_embeddings_that_a_caller_changes_leave_the_teacher_alone(make_model) -> None:
    probed = of_model("BPR", make_model)
    before = probed.scores(torch.arange(5))
    for table in probed.embeddings():
        table.zero_()
    assert torch.equal(probed.scores(torch.arange(5)), before)


def test_scores_of_the_pool_are_the_teachers_one_after_another(make_model) -> None:
    pool = TeacherPool([of_model("BPR", make_model), of_model("EASE", make_model)])
    users = torch.tensor([3, 1])
    scores = pool.scores(users)
    assert not scores.requires_grad
    for row, name in zip(scores, ("BPR", "EASE")):
        torch.testing.assert_close(row, full_scores(make_model(name), users).detach())


def test_a_model_is_built_once_and_again_after_its_release(make_model) -> None:
    built = []
    probed = teacher("BPR", lists(N_USERS, 2), load=lambda: built.append(1) or make_model("BPR"))
    assert not built
    probed.scores(torch.tensor([1]))
    probed.scores(torch.tensor([2]))
    assert len(built) == 1
    probed.release()
    probed.release()
    probed.scores(torch.tensor([1]))
    assert len(built) == 2


def test_methods_are_refused_what_the_pool_cannot_give__by_the_teachers_name(make_model) -> None:
    pool = TeacherPool([of_model("BPR", make_model), of_model("NeuMF", make_model), teacher("file", lists(N_USERS, 2))])
    pool.refuse_unless(Needs(trajectories=True), "HetCompStudent")
    with pytest.raises(UserError, match=r"OurMethod needs a teacher's scores.*'file'"):
        pool.refuse_unless(Needs(scores=True), "OurMethod")
    with pytest.raises(UserError, match=r"OurMethod needs embeddings.*'NeuMF'"):
        pool.refuse_unless(Needs(embeddings=True), "OurMethod")
    TeacherPool(pool.teachers[:2]).refuse_unless(Needs(scores=True), "OurMethod")
    TeacherPool(pool.teachers[:1]).refuse_unless(Needs(scores=True, embeddings=True), "OurMethod")


def test_lists_alone_are_refused_where_embeddings_are_needed() -> None:
    with pytest.raises(UserError, match="'file'"):
        TeacherPool([teacher("file", lists(N_USERS, 2))]).refuse_unless(Needs(embeddings=True), "OurMethod")
