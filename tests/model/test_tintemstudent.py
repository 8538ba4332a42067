"""TinTeM: its loss against a loop, tables that are its optimum, and cosines kept better than by lifting the student."""

from __future__ import annotations

import pytest
import torch
from scipy.stats import spearmanr
from torch.nn.functional import normalize

from recbole_hetcomp.config.errors import UserError
from recbole_hetcomp.testing.results import same, saved_state, state_of

FAST = {"head_steps": 30, "head_points": 64}


def test_the_loss_equals_a_loop(learnt, batch) -> None:
    model = learnt("TinTeMStudent", mode="gradient", **FAST)
    total = 0.0
    for name, ids, table in zip(("user", "item"), (batch.users, batch.items), model.embeddings()):
        for entity in ids.tolist():
            student, target = table[entity].double(), model.directions[name][entity].double()
            total += 1 - float(student @ target / (student.norm() * target.norm()))
    assert model.distillation_loss(batch).item() == pytest.approx(total / (len(batch.users) + len(batch.items)), rel=1e-4)


@pytest.mark.parametrize("norm", ["mips", "plain"])
def test_copied_directions_are_those_of_the_map_and_the_minimum(learnt, batch, norm) -> None:
    model = learnt("TinTeMStudent", norm=norm, **FAST)
    users, items = (table.detach() for table in model.embeddings())
    active = model.history.active_users
    teacher = {"user": model.teacher["user"], "item": model.teacher["item"]}
    assert model.head.shape == (teacher["user"].size(1) + (norm == "mips"), 4)
    if norm == "mips":
        squares = teacher["item"][1:].square().sum(1)
        lacking = torch.cat([torch.zeros(1), (squares.max() - squares).clamp(min=0).sqrt()])
        teacher = {
            "user": torch.cat([teacher["user"], torch.zeros(model.n_users, 1)], 1),
            "item": torch.cat([teacher["item"], lacking[:, None]], 1),
        }
    assert torch.allclose(users[active], normalize(teacher["user"] @ model.head, dim=1)[active], atol=1e-5)
    assert torch.allclose(items[1:], normalize(teacher["item"] @ model.head, dim=1)[1:], atol=1e-5)
    loss = model.distillation_loss(batch)
    loss.backward()
    assert loss.item() == 0
    assert not any(parameter.grad.any() for parameter in model.backbone.parameters())  # Adam stays where it is


def test_training_moves_neither_the_map_nor_copied_tables(learnt, train_alone) -> None:
    model = learnt("TinTeMStudent", **FAST)
    before = [model.head.clone(), *(table.detach().clone() for table in model.embeddings())]
    teacher = {name: rows.clone() for name, rows in model.teacher.items()}
    train_alone(model, 20)
    assert all(torch.equal(*pair) for pair in zip(before, (model.head, *model.embeddings())))
    assert all(torch.equal(model.teacher[name], rows) for name, rows in teacher.items())
    assert not model.head.requires_grad
    assert not any(rows.requires_grad for rows in model.teacher.values())


def test_the_student_has_no_part_in_the_map(learnt, train_alone) -> None:
    """The same map for students that start elsewhere, and by gradient; the student's loss leaves it no gradient."""
    heads = [
        learnt("TinTeMStudent", mode=mode, init_std=std, **FAST).head for mode, std in (("copy", 0.01), ("gradient", 1.0))
    ]
    assert torch.equal(*heads)
    model = learnt("TinTeMStudent", mode="gradient", **FAST)
    before = model.head.clone()
    train_alone(model, 20)
    assert torch.equal(model.head, before)
    assert model.head.grad is None


@pytest.mark.parametrize("student", ["MF", "LightGCN", "HistoryEncoder"])
def test_by_gradient_any_student_turns_towards_the_directions(learnt, train_alone, student) -> None:
    model = learnt("TinTeMStudent", mode="gradient", student=student, **FAST)
    first = train_alone(model, 0)
    assert train_alone(model, 200) < 0.5 * first


@pytest.mark.parametrize("student", ["LightGCN", "HistoryEncoder"])
def test_computed_vectors_cannot_be_written(learnt, student) -> None:
    with pytest.raises(UserError, match=f"mode: copy writes the student's tables, and {student}"):
        learnt("TinTeMStudent", student=student, mode="copy", **FAST)
    assert learnt("TinTeMStudent", student=student, **FAST).directions


def cosines(rows: torch.Tensor) -> torch.Tensor:
    units = normalize(rows.double(), dim=1)
    return (units @ units.T)[torch.ones(len(rows), len(rows)).tril(-1) > 0]


def test_pairwise_cosines_keep_their_order_better_than_by_lifting_the_student(learnt, train_alone) -> None:
    """FitNet's affine projectors at their optimum know as much of the vectors, but not in the student's own space."""
    correlation = {}
    for method, settings in (("TinTeM", {"norm": "plain", **FAST}), ("FitNet", {"hidden_ratio": 0})):
        model = learnt(f"{method}Student", **settings)
        train_alone(model, 300)
        active = model.history.active_users
        of_student, of_teacher = (
            cosines(torch.cat([users[active], items[1:]]))
            for users, items in (tuple(table.detach() for table in model.embeddings()), tuple(model.teacher.values()))
        )
        correlation[method] = spearmanr(of_student, of_teacher).statistic
    assert correlation["TinTeM"] > correlation["FitNet"] + 0.1


def test_it_recommends_as_its_teacher_after_no_training_at_all(after_training, learnt) -> None:
    """Label-free: directions alone rank test items far above chance."""
    model = learnt("TinTeMStudent", embedding_size=8, **FAST)
    theirs = (model.teacher["user"] @ model.teacher["item"].T)[:, 1:]
    users = model.history.active_users
    best = theirs[users].topk(20).indices + 1
    own = model.scores(users).detach()
    own[:, 0] = -torch.inf
    found = own.topk(20).indices
    assert (found[:, :, None] == best[:, None]).any(2).double().mean() > 0.6


WAYS = {
    "copied": {},
    "by gradient": {"mode": "gradient"},
    "factors of two teachers": {"teachers": ["BPR", "EASE"], "norm": "plain"},
    "graph, with a loss of its own": {"student": "LightGCN", "base_loss_weight": 1.0, "user_batches": False},
}


@pytest.mark.parametrize("case", WAYS)
def test_a_resumed_run_finds_the_same_map_and_ends_with_the_same_bits(resumed, case) -> None:
    """The stopped run trained its teachers, and the resumed one found them: the map depends on neither."""
    whole, again = resumed("TinTeMStudent", head_steps=20, **WAYS[case])
    assert torch.equal(whole["model"].head, again["model"].head)
    assert same(whole["model"].directions, again["model"].directions)
    assert same(state_of(whole), state_of(again))
    assert same(saved_state(whole), saved_state(again))


def test_the_map_does_not_hang_on_what_was_drawn_before(make_model, trained_pool) -> None:
    pool, found = trained_pool("BPR"), []
    for seed in (1, 2):
        model = make_model("TinTeMStudent", embedding_size=4, head_steps=20)
        torch.manual_seed(seed)
        model.learn_from(pool)
        found.append({"map": model.head, **model.directions})
    assert same(*found)
