"""Students that compare softmaxes over candidates: whom the teacher does not know is in none of it."""

from __future__ import annotations

import pytest
import torch

from recbole_hetcomp.losses.ofa import ofa_loss
from recbole_hetcomp.model.batch import Batch
from recbole_hetcomp.teacher_training.scheduling import build_pool
from recbole_hetcomp.teachers.vectors import EntityVectors

SMALL = {"list_depth": 20, "n_top": 5, "n_random": 30, "teacher_rank": 8, "embedding_size": 4}
METHODS = [
    ("OKDStudent", {"okd_candidates": "off_policy"}),
    ("OKDStudent", {"okd_candidates": "on_policy"}),
    ("OFAStudent", {"ofa_teachers": "mean"}),
    ("OFAStudent", {"ofa_teachers": "per_teacher"}),
    ("EmbedDistillStudent", {"side": "symmetric"}),
]


@pytest.fixture
def pool_of(make_config, split):
    """`pool_of(name, *others)`: a file of vectors of every second item, and other teachers."""

    def make(*others: str):
        users, items = ([str(token) for token in split.whole.field2id_token[field][1:]] for field in ("user_id", "item_id"))
        generator = torch.Generator().manual_seed(5)
        rows = [torch.randn(len(tokens), 6, generator=generator) for tokens in (users, items)]
        EntityVectors(rows[0], rows[1][::2], users, items[::2], teacher="elsewhere").save("half.safetensors")
        return build_pool(make_config("HetCompStudent", teachers=["half.safetensors", *others]), split)

    return make


@pytest.mark.parametrize(("method", "given"), METHODS)
def test_no_candidate_is_an_item_without_a_vector(make_model, pool_of, method, given) -> None:
    """And whoever has a training item with one has such an item as the first."""
    model = make_model(method, **SMALL, **given)
    model.learn_from(pool_of())
    known, users = model.covered.item, model.history.active_users
    assert known.sum() == model.n_items // 2
    drawn = torch.stack([model.candidates(users) for _ in range(5)])
    assert known[drawn[drawn > 0]].all()
    trained = model.history.padded(users)
    has_one = (known[trained] & (trained > 0)).any(1)
    assert torch.equal((drawn[:, :, 0] > 0).all(0), has_one)
    assert (drawn[..., 1:6] > 0).all()
    assert (drawn[..., 6:] > 0).float().mean() > 0.4  # on-policy those that are in the student's list are left out
    for draw in drawn:
        assert model.history.contains(users[has_one], draw[has_one, 0]).all()
        assert not model.history.contains(users[:, None], draw[:, 1:]).any()


@pytest.mark.parametrize(("method", "given"), METHODS)
def test_it_learns_nothing_of_such_items(make_model, pool_of, method, given) -> None:
    own = {"user_weight": 0.0, "item_weight": 0.0, "pseudo_weight": 0.0} if method == "EmbedDistillStudent" else {}
    model = make_model(method, **SMALL, **given, **own)
    model.learn_from(pool_of())
    model.on_epoch_start(0)
    model.distillation_loss(Batch(model.history.active_users, None)).backward()
    learnt = model.backbone.item_embedding.weight.grad.any(1)
    assert learnt.any()
    assert model.covered.item[learnt].all()


def test_of_several_teachers_each_has_a_softmax_of_what_it_knows(make_model, pool_of, batch) -> None:
    """OFA, teacher by teacher: the loss is the mean of those that each has over its own items."""
    model = make_model("OFAStudent", **SMALL, ofa_teachers="per_teacher", ofa_gamma=1.3)
    pool = pool_of("BPR")
    model.learn_from(pool)
    model.on_epoch_start(0)
    items, soft = model.labelled(batch)
    scores = model.pair_scores(batch.users, items)
    alone = []
    for teacher, of_teacher in zip(pool.teachers, soft):
        known = torch.ones(model.n_items, dtype=torch.bool) if teacher.covered is None else teacher.covered.item
        alone.append(ofa_loss(scores, of_teacher, (items > 0) & known[items], 1.3, "code").mean())
    assert (items > 0).sum() > ((items > 0) & pool.teachers[0].covered.item[items]).sum() > 0
    torch.testing.assert_close(model.distillation_loss(batch), torch.stack(alone).mean(), rtol=1e-6, atol=0)
