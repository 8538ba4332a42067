"""OKD: its losses against loops, a teacher that stays as it is but for its adapters, and that comes to meet the student."""

from __future__ import annotations

import math

import pytest
import torch
from recbole.data.interaction import Interaction

from recbole_hetcomp.config.errors import UserError
from recbole_hetcomp.data.history import History
from recbole_hetcomp.losses.divergence import kullback_leibler
from recbole_hetcomp.model.batch import Batch
from recbole_hetcomp.model.candidates import Candidates
from recbole_hetcomp.model.distilled_recommender.okdstudent import Adapter
from recbole_hetcomp.quick_start import run_hetcomp
from recbole_hetcomp.teacher_training.scheduling import build_pool
from recbole_hetcomp.teachers.ranking import top_unobserved
from recbole_hetcomp.trainer.distillation import DistillationTrainer, _gradient_scaler

NAME = "OKDStudent"
SMALL = {"list_depth": 20, "n_top": 5, "n_random": 7, "module_rank": 2, "score_temperature": 0.7}
TRAINING = {"epochs": 1, "eval_step": 1, "train_batch_size": 128, "learning_rate": 0.02, "teachers": ["BPR"]}
TRAINING |= {"weight_decay": 0.0, "distillation_weight": 1.0, "embedding_size": 4, "teacher_rank": 8}


@pytest.fixture
def student(settings):
    """`student(**settings)`: the parameters of a student after an epoch from BPR."""

    def train(**overrides):
        config = {**settings, **TRAINING, **SMALL, **overrides}
        model = run_hetcomp(NAME, "toy", config_dict=config, arguments=(), saved=False, compare=False)["model"]
        return dict(model.state_dict())

    return train


def stirred(model):
    """The model with adapters that are no longer what they begin as."""
    for adapter in model.apart.values():
        torch.nn.init.normal_(adapter.up.weight, std=0.5, generator=torch.Generator().manual_seed(1))
    return model


def softmax(scores: list[float]) -> list[float]:
    masses = [math.exp(score) for score in scores]
    return [mass / math.fsum(masses) for mass in masses]


def kl(p: list[float], q: list[float]) -> float:
    return math.fsum(a * math.log(a / b) for a, b in zip(p, q))


@pytest.mark.parametrize("kind", ["forward", "reverse", "js"])
def test_both_losses_equal_loops(learnt, batch, z_scores, trained_pool, kind) -> None:
    model = stirred(learnt(NAME, **SMALL, divergence=kind, student_weight=0.3, teacher_weight=0.9))
    teacher = trained_pool("BPR").teachers[0]
    drawn = model.candidates(batch.users)
    model.candidates = lambda users: drawn
    found = model.distillation_loss(batch).item(), model.loss_apart(Interaction({})).item()
    users, items = (
        table.double() + table.double() @ model.apart[name].down.weight.T.double() @ model.apart[name].up.weight.T.double()
        for name, table in model.teacher.items()
    )
    of_students, of_adapters = [], []
    for row, user in zip(drawn, batch.users.tolist()):
        row = row[row > 0]
        own = model.pair_scores(torch.tensor([user]), row[None])[0].double()
        zs = z_scores(model, user, teacher.scores(torch.tensor([user]))[0])[row]
        adapted = (items[row] @ users[user]) / model.deviations[user].double()
        p_s, p_t, p_a = (softmax((scores / 0.7).tolist()) for scores in (own, zs, adapted))
        mean = [(a + b) / 2 for a, b in zip(p_a, p_s)]
        gaps = {"forward": kl(p_a, p_s), "reverse": kl(p_s, p_a), "js": (kl(p_a, mean) + kl(p_s, mean)) / 2}
        of_students.append(gaps[kind])
        of_adapters.append(-math.log(p_a[0]) + 0.3 * kl(p_s, p_a) + 0.9 * kl(p_t, p_a))
    assert found[0] == pytest.approx(math.fsum(of_students) / len(drawn), rel=1e-3)
    assert found[1] == pytest.approx(math.fsum(of_adapters) / len(drawn), rel=1e-3)


def test_at_the_start_the_adapted_teacher_is_the_teacher_to_the_last_bit(learnt, batch) -> None:
    model = learnt(NAME, **SMALL)
    items = model.candidates(batch.users)
    frozen, adapted = (model.of_teacher(batch.users, items, adapted=adapted) for adapted in (False, True))
    assert torch.equal(frozen, adapted)
    assert not torch.equal(stirred(model).of_teacher(batch.users, items, adapted=True), frozen)


@pytest.mark.parametrize("n_random", [7, 60])
def test_the_low_rank_shift_is_that_of_tables_adapted_row_by_row(learnt, n_random) -> None:
    """In float64, with fewer candidates than items and with more."""
    model = stirred(learnt(NAME, **{**SMALL, "n_random": n_random})).double()
    users = model.history.active_users[: 5 if n_random == 7 else 50]
    items = model.candidates(users)
    assert (items.numel() < model.n_items) == (n_random == 7)
    model.teacher = {name: table.double() for name, table in model.teacher.items()}
    model.deviations = model.deviations.double()
    tables = [
        torch.stack([row + adapter.up.weight @ (adapter.down.weight @ row) for row in model.teacher[name]])
        for name, adapter in model.apart.items()
    ]
    for adapted, (of_users, of_items) in ((True, tables), (False, model.teacher.values())):
        found = model.of_teacher(users, items, adapted=adapted)
        expected = torch.zeros_like(found)
        for row, user in enumerate(users.tolist()):
            there = items[row] > 0
            scores = (of_users[user] * of_items[items[row][there]]).sum(1) / model.deviations[user] / 0.7
            expected[row, there] = scores.log_softmax(0)
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-10)
        if adapted:
            parameters = list(model.apart.parameters())
            weights = torch.randn(found.shape, generator=torch.Generator().manual_seed(2), dtype=found.dtype)
            gradients = [torch.autograd.grad((weights * value).sum(), parameters) for value in (found, expected)]
            torch.testing.assert_close(*gradients, rtol=1e-9, atol=1e-10)


def test_adapters_that_do_not_learn_are_no_adapters(student) -> None:
    """A learning rate of 0, and a rank of 0: the same student to the last bit; adapters that learn make another one."""
    still, none, moving = student(apart_learning_rate=0.0), student(module_rank=0), student(apart_learning_rate=0.05)
    assert still.keys() == none.keys() == moving.keys()
    assert all(torch.equal(still[name], none[name]) for name in still)
    assert any(not torch.equal(still[name], moving[name]) for name in still)


def test_a_large_weight_of_the_teacher_gives_the_student_without_adapters(student) -> None:
    """After a training of several epochs; without that weight it is another student."""
    settings = {"epochs": 5, "apart_learning_rate": 1e-3}
    none = student(module_rank=0, **settings)
    scores = none["backbone.user_embedding.weight"] @ none["backbone.item_embedding.weight"].T
    gaps = {}
    for rho in (1e6, 0.0):
        held = student(teacher_weight=rho, **settings)
        others = held["backbone.user_embedding.weight"] @ held["backbone.item_embedding.weight"].T
        gaps[rho] = float((others - scores).norm() / scores.norm())
    assert gaps[1e6] < 1e-3 < 10 * gaps[1e6] < gaps[0.0]


def test_a_large_weight_of_the_teacher_holds_it_where_it_was(learnt, batch) -> None:
    """However long the adapters learn, the student's loss is the one without them; with no such weight it is not."""
    moved = []
    for weight in (1e6, 0.0):
        model = learnt(NAME, **SMALL, teacher_weight=weight)
        drawn = model.candidates(batch.users)
        model.candidates = lambda users, drawn=drawn: drawn
        before = model.distillation_loss(batch).item()
        optimizer = torch.optim.Adam(model.apart.parameters(), lr=0.01)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 200)
        for _ in range(200):
            optimizer.zero_grad()
            model.loss_apart(Interaction({})).backward()
            optimizer.step()
            schedule.step()
        moved.append(abs(model.distillation_loss(batch).item() - before))
    assert moved[0] < 1e-3
    assert moved[1] > 0.05


def test_the_teachers_vectors_stay_as_they_are_and_the_adapters_are_small(learnt, split) -> None:
    model = learnt(NAME, **SMALL)
    before = {name: table.clone() for name, table in model.teacher.items()}
    trainer = DistillationTrainer(model.config, model)
    for batch in split.loaders(model.config).train:
        trainer._step(model.calculate_loss, batch, _gradient_scaler(False))
    assert all(torch.equal(model.teacher[name], table) for name, table in before.items())
    assert all(not table.requires_grad for table in model.teacher.values())
    width = model.teacher["user"].size(1)
    assert sum(parameter.numel() for parameter in model.apart.parameters()) == 4 * width * 2
    of_ml_100k = sum(parameter.numel() for _ in range(2) for parameter in Adapter(64, 8).parameters())
    assert of_ml_100k == 4 * 64 * 8 < 0.02 * (943 + 1682) * 64


def test_no_gradient_passes_between_the_student_and_the_adapters(learnt, batch) -> None:
    model = stirred(learnt(NAME, **SMALL))
    model.distillation_loss(batch).backward()
    assert all(parameter.grad is None for parameter in model.apart.parameters())
    assert all(parameter.grad is not None for parameter in model.backbone.parameters())
    gradients = [parameter.grad.clone() for parameter in model.backbone.parameters()]
    model.loss_apart(Interaction({})).backward()
    assert all(parameter.grad.any() for parameter in model.apart.parameters())
    assert all(torch.equal(own.grad, before) for own, before in zip(model.backbone.parameters(), gradients))


def gaps(model, users) -> tuple[float, float]:
    """Mean KL(p_S || p'_T) and KL(p_S || p_T) over `users`."""
    items = model.candidates(users)
    with torch.no_grad():
        own = model.of_student(users, items)
        both = [model.of_teacher(users, items, adapted=adapted) for adapted in (True, False)]
    return tuple(kullback_leibler(own, other, items > 0).mean().item() for other in both)


def test_the_teacher_comes_to_meet_the_student_for_users_that_it_never_met(make_model, make_config, split) -> None:
    """All users learn from their interactions, half of them from the teacher too, and the adapters from that half alone."""
    decay = "0.07 / (users + items)"  # by .05, BPR's default, mu = 0 ends at .998, beside .961 and .844
    well = {"epochs": 40, "learning_rate": 0.05, "weight_decay": decay, "embedding_size": 8, "eval_step": 10}
    pool = build_pool(make_config("HetCompStudent", teachers=["BPR"], teacher_config={"all": well}), split)
    settings = {"embedding_size": 4, "learning_rate": 0.02, "apart_learning_rate": 0.01, "train_batch_size": 128}
    ratios = {}
    for mu in (0.0, 0.5, 2.0):
        model = make_model(NAME, **SMALL, **settings, student_weight=mu)
        model.learn_from(pool)
        met, others, loss = model.history.active_users[::2], model.history.active_users[1::2], model.distillation_loss
        model.distillation_loss = lambda batch, met=met, loss=loss: loss(
            Batch(batch.users[torch.isin(batch.users, met)], None)
        )
        trainer = DistillationTrainer(model.config, model)
        for _ in range(40):
            for batch in split.loaders(model.config).train:
                trainer._step(model.calculate_loss, batch, _gradient_scaler(False))
        adapted, frozen = gaps(model, others)
        ratios[mu] = adapted / frozen
    assert ratios[2.0] < ratios[0.5] < 1 < ratios[0.0]  # with mu = 0 it goes elsewhere, where the labels are


def test_on_policy_takes_the_students_own_list(learnt, batch) -> None:
    model = learnt(NAME, **{**SMALL, "n_top": 20}, okd_candidates="on_policy")
    own = top_unobserved(model, model.history, 20)
    for user, row in zip(batch.users.tolist(), model.candidates(batch.users).tolist()):
        assert set(row[1:21]) == set(own[user].tolist())
    theirs = learnt(NAME, **{**SMALL, "n_top": 20}).candidates(batch.users)
    assert set(theirs[0, 1:21].tolist()) != set(own[int(batch.users[0])].tolist())


def test_on_policy_others_are_neither_its_own_nor_training_items(learnt) -> None:
    model = learnt(NAME, **SMALL, okd_candidates="on_policy")
    users = model.history.active_users
    own = top_unobserved(model, model.history, SMALL["list_depth"])
    rows = [model.candidates(users) for _ in range(20)]
    for row in torch.cat([row[:, 6:] for row in rows], 1).tolist():
        assert len(set(row)) > 20
    for drawn in rows:
        for user, row in zip(users.tolist(), drawn.tolist()):
            places = [own[user].tolist().index(item) for item in row[1:6]]
            assert places == sorted(set(places))
            assert not set(row[6:]) - {0} & set(own[user].tolist())
        assert not model.history.contains(users[:, None], drawn[:, 1:]).any()
        assert model.history.contains(users, drawn[:, 0]).all()


def test_on_policy_ranks_the_users_of_the_batch_alone(learnt, batch, monkeypatch) -> None:
    """Under a budget that makes blocks of them; a user who has had nearly everything has a short list."""
    model = learnt(NAME, **{**SMALL, "list_depth": 1000}, okd_candidates="on_policy", max_block_mb=0.001)
    history, whole = model.history, type(model).scores
    pairs = torch.arange(1, history.n_items - 4) + 3 * history.n_items
    others = history.pairs[history.pairs // history.n_items != 3]
    both = torch.cat([others, pairs])
    model.history = History(both // history.n_items, both % history.n_items, history.n_users, history.n_items)
    model.to_draw = Candidates.of(model.history, n_top=30, n_random=7, temperature=10.0)
    asked: list[int] = []
    monkeypatch.setattr(type(model), "scores", lambda model, users: asked.extend(users.tolist()) or whole(model, users))
    ranked, drawn = model.own_ranking(batch.users), model.candidates(batch.users)
    assert asked == 2 * batch.users.tolist()
    expected = top_unobserved(model, model.history, model.n_items - 1, users=batch.users)[batch.users]
    assert torch.equal(ranked, expected.long())
    assert (ranked[0] > 0).sum() == 4
    assert set(drawn[0, 1:31].tolist()) == {0, *ranked[0].tolist()}
    assert (drawn[1:, 1:31] > 0).all()


def test_on_policy_trains_and_makes_a_student_of_its_own(student) -> None:
    """The same to the last bit each time; another one than by the teachers' lists, and than without adapters."""
    given = {"okd_candidates": "on_policy", "epochs": 3, "apart_learning_rate": 0.05}
    first, again, off = student(**given), student(**given), student(**{**given, "okd_candidates": "off_policy"})
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert all(value.isfinite().all() for value in first.values())
    for other in (off, student(**given, module_rank=0)):
        assert any(not torch.equal(first[name], other[name]) for name in first)


def test_on_policy_training_lowers_the_divergence_on_the_students_own_items(learnt, train_alone) -> None:
    model = learnt(NAME, **SMALL, okd_candidates="on_policy")
    before = sum(train_alone(model, 0) for _ in range(5))
    train_alone(model, 150)
    assert sum(train_alone(model, 0) for _ in range(5)) < 0.5 * before


def test_on_policy_and_a_curriculum_of_lists_do_not_go_together(make_model) -> None:
    with pytest.raises(UserError, match=r"^okd_candidates: on_policy"):
        make_model(NAME, okd_candidates="on_policy", curriculum=True)
