"""HetComp's student on trajectories made by hand: its targets, its losses, its switch, and that it learns."""

from __future__ import annotations

import itertools
import math
from pathlib import Path

import pytest
import torch
import yaml
from recbole.data.interaction import Interaction
from recbole.utils import init_seed
from torch import Tensor

from recbole_hetcomp.config.errors import UserError
from recbole_hetcomp.config.registry import properties_dir
from recbole_hetcomp.knowledge import RULES, discrepancy
from recbole_hetcomp.model.batch import Batch
from recbole_hetcomp.model.distilled_recommender.hetcompstudent import HetCompStudent
from recbole_hetcomp.teachers import Teacher, TeacherPool, Trajectory
from recbole_hetcomp.teachers.ranking import top_unobserved

STAGES, DEPTH = 3, 30
SETTINGS = {
    "importance": "rank_consistency",
    "n_targets": 20,
    "n_observed": 5,
    "train_batch_size": 16,
    "curriculum_period": 1,
    "eval_step": 1,
}


def random_trajectory(split, seed: int, n_stages: int = STAGES) -> Trajectory:
    """Lists of unobserved items in random order, and the training items in random order."""
    generator = torch.Generator().manual_seed(seed)
    history = split.history
    items = torch.zeros(n_stages, history.n_users, DEPTH, dtype=torch.int32)
    observed = torch.zeros(history.n_users, int(history.counts.max()), dtype=torch.int32)
    for user in history.active_users.tolist():
        seen = history.padded(torch.tensor([user]))[0]
        scores = torch.rand(n_stages, history.n_items, generator=generator)
        scores[:, 0] = scores[:, seen] = -1
        items[:, user] = scores.topk(DEPTH, dim=1).indices.int()
        observed[user, : len(seen)] = seen[torch.randperm(len(seen), generator=generator)].int()
    deviation = 20 * torch.rand(items.shape, generator=generator)
    return Trajectory.from_lists(items, rank_std=deviation, observed=observed, teacher=f"random{seed}")


def pool_of(split, n_teachers: int = 2, n_stages: int = STAGES) -> TeacherPool:
    return TeacherPool([Teacher(f"t{seed}", random_trajectory(split, seed, n_stages)) for seed in range(n_teachers)])


def build(make_config, split, pool: TeacherPool | None = None, **overrides) -> HetCompStudent:
    config = make_config("HetCompStudent", **{**SETTINGS, **overrides})
    init_seed(3, True)
    model = HetCompStudent(config, split.train)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(50)  # scores of order one: losses that differ
    model.learn_from(pool or pool_of(split))
    return model


def all_users(split) -> Interaction:
    return Interaction({"user_id": split.history.active_users})


def student_lists(model: HetCompStudent) -> Tensor:
    return top_unobserved(model, model.history, 50)


def finish(model: HetCompStudent) -> None:
    """Put every pair at the last stage, as a finished curriculum leaves it."""
    state = model.lists.curriculum.state_dict()
    state["stage"] = torch.full_like(state["stage"], model.lists.curriculum.n_stages - 1)
    model.load_distillation_state({"lists": state})


# --- the ensemble of a user's stages, from the formulas -------------------------------------------------------------


def slow_targets(pool: TeacherPool, stages: list[int], user: int, k: int, cutoff: int = 100) -> list[int]:
    worth: dict[int, float] = {}
    for teacher, stage in zip(pool.teachers, stages):
        trajectory = teacher.trajectory
        pairs = zip(trajectory.items[stage, user].tolist(), trajectory.rank_std[stage, user].tolist())
        for rank, (item, deviation) in enumerate(pairs):
            if item and rank < cutoff:
                worth[item] = worth.get(item, 0.0) + math.exp(-rank / 10) + math.exp(-deviation / 100)
    return sorted(worth, key=lambda item: (-worth[item], item))[:k]


def slow_observed(pool: TeacherPool, user: int, k: int) -> list[int]:
    worth: dict[int, float] = {}
    for teacher in pool.teachers:
        for rank, item in enumerate(teacher.trajectory.observed[user].tolist()):
            if item:
                worth[item] = worth.get(item, 0.0) + math.exp(-rank / 10)
    return sorted(worth, key=lambda item: (-worth[item], item))[:k]


def test_targets_and_observed_equal_the_formulas(make_config, split):
    pool = pool_of(split)
    model = build(make_config, split, pool)
    for user in split.history.active_users.tolist():
        assert model.lists.targets[user].tolist() == slow_targets(pool, [0, 0], user, 20)
        observed = slow_observed(pool, user, 5)
        assert model.observed[user].tolist() == observed + [0] * (5 - len(observed))


def test_padding_and_training_items_are_never_among_the_targets(make_config, split):
    model = build(make_config, split)
    for lists in (model.lists.targets, model.lists.final):
        for user in split.history.active_users.tolist():
            listed = [item for item in lists[user].tolist() if item]
            assert len(listed) == len(set(listed)) >= 20
            assert not set(listed) & set(split.history.padded(torch.tensor([user]))[0].tolist())
    for user in split.history.active_users.tolist():
        assert set(model.observed[user].tolist()) - {0} <= set(split.history.padded(torch.tensor([user]))[0].tolist())
    absent = torch.ones(model.n_users, dtype=torch.bool)
    absent[split.history.active_users] = False
    assert absent.sum() >= 2  # the padding user, and one without interactions
    assert not model.lists.targets[absent].any()
    assert not model.observed[absent].any()


# --- the losses, item by item ---------------------------------------------------------------------------------------


def slow_mass(scores: list[float], excluded: set[int]) -> float:
    return math.log(math.fsum(math.exp(s) for item, s in enumerate(scores) if item and item not in excluded))


def slow_plackett_luce(scores: list[float], ranked: list[int], tail: float) -> float:
    total = 0.0
    for place, item in enumerate(ranked):
        rest = math.exp(tail) + math.fsum(math.exp(scores[other]) for other in ranked[place:])
        total += math.log(rest) - scores[item]
    return total


def slow_loss(model: HetCompStudent, split, user: int, fine: bool, depths=(0.5, 0.1), weights=(0.5, 0.5)) -> float:
    with torch.no_grad():
        row = model.full_sort_predict(Interaction({"user_id": torch.tensor([user])})).double()
    clamp = model.config["score_clamp"] or math.inf
    scores = [max(-clamp, min(clamp, score)) for score in row.tolist()]
    targets = [item for item in model.lists.targets[user].tolist() if item]
    observed = [item for item in model.observed[user].tolist() if item]
    history = set(split.history.padded(torch.tensor([user]))[0].tolist())
    if not fine:
        tail = slow_mass(scores, history | set(targets))
        return sum(math.log(math.exp(scores[i]) + math.exp(tail)) - scores[i] for i in observed + targets)
    lists = [targets[: max(1, int(model.lists.targets.size(1) * depth))] for depth in depths]
    tails = [slow_mass(scores, history | set(part)) for part in lists]
    loss = slow_plackett_luce(scores, observed, tails[0])
    return loss + sum(w * slow_plackett_luce(scores, part, tail) for w, part, tail in zip(weights, lists, tails))


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("fine", [False, True])
@pytest.mark.parametrize("clamp", [None, 0.5])
def test_loss_equals_the_formulas(make_config, split, reduction, fine, clamp):
    model = build(make_config, split, loss_reduction=reduction, transfer="fine" if fine else "overall", score_clamp=clamp)
    users = [3, 17, 40]
    terms = [slow_loss(model, split, user, fine) for user in users]
    expected = (0.005 if fine else 0.01) * sum(terms) / (3 if reduction == "mean" else 1)
    assert model.calculate_loss(Interaction({"user_id": torch.tensor(users)})).item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("preset", ["official", "submission"])
@pytest.mark.parametrize("fine", [False, True])
def test_loss_of_a_preset_equals_the_authors_formulas(make_config, split, preset, fine):
    """`official`: lists of 10, 50 and 10, weights 0.01 and 0.005; `submission`: 100 and 100, weights 1; both sums."""
    overrides = yaml.safe_load((properties_dir() / "presets" / f"{preset}.yaml").read_text())
    overrides["weight_decay"] = float(overrides["weight_decay"])
    pool = pool_of(split, 4)
    model = build(make_config, split, pool, **{**overrides, "curriculum_period": 10, "eval_step": 10})
    assert (model.lists.targets.size(1), model.observed.size(1)) == (100, 10 if preset == "official" else 100)
    assert not model.may_stop_early or not model.config["patience_from_switch"]
    if fine:
        finish(model)
    users = [3, 17]
    depths, weights = ((0.5, 0.1), (0.5, 0.5)) if preset == "official" else ((1.0,), (1.0,))
    scale = {("official", False): 0.01, ("official", True): 0.005}.get((preset, fine), 1.0)
    expected = scale * sum(slow_loss(model, split, user, fine, depths, weights) for user in users)
    assert model.calculate_loss(Interaction({"user_id": torch.tensor(users)})).item() == pytest.approx(expected, rel=1e-5)


def test_summed_loss_over_all_users_does_not_depend_on_the_batches(make_config, split):
    model = build(make_config, split, loss_reduction="sum")
    ids = split.history.active_users
    whole = model.calculate_loss(Interaction({"user_id": ids})).item()
    shuffled = ids[torch.randperm(len(ids), generator=torch.Generator().manual_seed(1))]
    for order, size in itertools.product((ids, shuffled), (1, 7, 60)):
        parts = sum(model.calculate_loss(Interaction({"user_id": part})).item() for part in order.split(size))
        assert parts == pytest.approx(whole, rel=1e-5)


def test_mean_loss_is_the_summed_loss_divided_by_the_users(make_config, split):
    ids = Interaction({"user_id": torch.tensor([1, 2, 3, 4])})
    mean, total = (build(make_config, split, loss_reduction=reduction).calculate_loss(ids) for reduction in ("mean", "sum"))
    assert total.item() == pytest.approx(4 * mean.item(), rel=1e-6)


def test_users_without_training_items_are_never_visited__and_padding_gets_no_gradient(make_config, split):
    model = build(make_config, split)
    field, ids = model.training_entities
    assert (split.history.counts[ids] > 0).all()
    assert len(ids) < model.n_users - 1
    model.calculate_loss(Interaction({field: ids})).backward()
    user_table, item_table = model.backbone.user_embedding.weight.grad, model.backbone.item_embedding.weight.grad
    assert not item_table[0].any()
    absent = split.history.counts == 0
    assert not user_table[absent].any()
    assert user_table[~absent].any(1).all()


def test_an_item_that_is_only_padding_in_short_lists_changes_no_loss(make_config, split):
    pool = pool_of(split, 1)
    trajectory = pool.teachers[0].trajectory
    trajectory.items[:, :, 12:] = 0  # lists of 12, although 20 targets are asked for
    model = build(make_config, split, pool, transfer="overall", loss_reduction="sum")
    assert (model.lists.targets[3] > 0).sum() == 12
    loss = model.calculate_loss(Interaction({"user_id": torch.tensor([3])})).item()
    assert loss == pytest.approx(0.01 * slow_loss(model, split, 3, False), rel=1e-5)


# --- the curriculum -------------------------------------------------------------------------------------------------


def test_only_users_who_moved_on_get_new_targets(make_config, split):
    pool = pool_of(split)
    model = build(make_config, split, pool, curriculum_rule="submission", curriculum_alpha=1.0, curriculum_decay=1.0)
    model.on_validation(student_lists(model), 1)
    before = model.lists.targets.clone()
    taught = pool.teachers[0].trajectory
    lists = student_lists(model)
    nearer = [3, 17, 40]
    lists[nearer, :DEPTH] = taught.items[1, nearer]  # these students reach the first teacher's second checkpoint
    model.on_validation(lists, 2)
    stage = model.lists.curriculum.stage
    assert stage[0, nearer].tolist() == [1, 1, 1]
    for user in split.history.active_users.tolist():
        expected = slow_targets(pool, stage[:, user].tolist(), user, 20)
        assert model.lists.targets[user].tolist() == expected
        moved = bool(stage[:, user].any())
        assert moved == (user in nearer)
        assert moved == (model.lists.targets[user].tolist() != before[user].tolist())


@pytest.mark.parametrize("rule", [*RULES, "none"])
def test_at_the_last_stage_targets_are_the_final_ensembles(make_config, split, rule):
    pool = pool_of(split)
    model = build(make_config, split, pool, curriculum_rule=rule)
    if rule != "none":
        finish(model)
    for user in split.history.active_users.tolist():
        assert model.lists.targets[user].tolist() == slow_targets(pool, [STAGES - 1] * 2, user, 20)
    assert torch.equal(model.lists.targets, model.lists.final[:, :20])
    assert model.fine
    assert model.may_stop_early


@pytest.mark.parametrize("rule", ["official", "patient"])
def test_loss_switches_when_the_curriculum_ends_and_never_back(make_config, split, rule):
    model = build(make_config, split, curriculum_rule=rule, curriculum_max_dwell=1, curriculum_decay=0.9)
    generator = torch.Generator().manual_seed(5)
    switched, seen = False, []
    for epoch in range(1, 40):
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(torch.randn(parameter.shape, generator=generator))
        model.on_validation(student_lists(model), epoch)
        last = bool((model.lists.curriculum.stage == STAGES - 1).double().mean(1).round(decimals=2).eq(1).all())
        assert model.fine == model.may_stop_early == last
        assert not (switched and not model.fine)
        switched = model.fine
        seen.append(switched)
        overall = 0.01 * sum(slow_loss(model, split, user, False) for user in (3, 17)) / 2
        fine = 0.005 * sum(slow_loss(model, split, user, True) for user in (3, 17)) / 2
        loss = model.distillation_loss(Batch(torch.tensor([3, 17]), None)).item()
        assert loss == pytest.approx(fine if switched else overall, rel=1e-4)
        if epoch > 30 and switched:
            break
    assert seen[0] is False
    assert seen[-1] is True


@pytest.mark.parametrize(
    ("transfer", "fine_at"), [("overall", (False, False)), ("fine", (True, True)), ("adaptive", (False, True))]
)
def test_transfer_says_which_loss__before_and_after_the_curriculum(make_config, split, transfer, fine_at):
    model = build(make_config, split, transfer=transfer)
    before = model.fine
    finish(model)
    assert (before, model.fine) == fine_at


def test_no_check_is_made_between_the_periods(make_config, split):
    model = build(make_config, split, curriculum_period=4, eval_step=2)
    for epoch in (2, 6, 10):
        model.on_validation(student_lists(model), epoch)
        assert not model.lists.curriculum.started
    model.on_validation(student_lists(model), 12)
    assert model.lists.curriculum.started


def test_patience_counts_from_the_start_where_that_is_asked_for(make_config, split):
    assert build(make_config, split, patience_from_switch=False).may_stop_early
    assert not build(make_config, split, patience_from_switch=True).may_stop_early


def test_one_checkpoint_a_teacher_is_no_curriculum(make_config, split):
    model = build(make_config, split, pool_of(split, n_stages=1))
    assert model.fine
    line = model.on_validation(student_lists(model), 1)
    assert "fine-grained" in line


def test_log_line_tells_stage_distance_and_loss(make_config, split):
    model = build(make_config, split)
    lists = student_lists(model)
    active = split.history.active_users
    distance = discrepancy(lists[active], model.lists.final[active], k=50, relevance=model.config["discrepancy"]).mean()
    assert model.on_validation(lists, 1) == f"stage 0.00/2, D@50 {distance:.2f}, overall loss"


def test_state_round_trip_brings_back_curriculum_and_targets(make_config, split):
    pool = pool_of(split)
    model = build(make_config, split, pool)
    for epoch in (1, 2, 3):
        model.on_validation(student_lists(model).flip(1), epoch) if epoch == 2 else model.on_validation(
            student_lists(model), epoch
        )
    assert model.lists.curriculum.stage.any()
    state = model.distillation_state()
    again = build(make_config, split, pool)
    assert not torch.equal(again.lists.targets, model.lists.targets)
    again.load_distillation_state(state)
    assert torch.equal(again.lists.targets, model.lists.targets)
    for name in ("stage", "reference", "waited", "listed"):
        assert torch.equal(getattr(again.lists.curriculum, name), getattr(model.lists.curriculum, name))
    lists = student_lists(model)
    model.on_validation(lists, 4)
    again.on_validation(lists, 4)
    assert torch.equal(again.lists.targets, model.lists.targets)


# --- settings -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"curriculum_rule": "offical"}, "curriculum_rule: 'offical' is none of official, submission, patient, none"),
        ({"transfer": "x"}, "transfer: 'x' is none of adaptive, overall, fine"),
        ({"loss_reduction": "max"}, "loss_reduction: 'max' is none of mean, sum"),
        ({"importance": "x"}, "importance: 'x' is none of"),
        ({"discrepancy": "x"}, "discrepancy: 'x' is none of position, graded"),
        ({"n_observed": 101}, "n_observed: 101 is more than the 100 that are ranked"),
        ({"eval_step": 0}, "curriculum_period: 1 is no multiple of eval_step"),
        ({"curriculum_period": 3, "eval_step": 2}, "curriculum_period: 3 is no multiple of eval_step"),
        ({"fine_depths": [0.5]}, "fine_weights: .* must hold one weight for each of fine_depths"),
        ({"fine_depths": [0.1, 0.5]}, "fine_depths"),
        ({"fine_depths": [2.0, 0.5]}, "fine_depths"),
    ],
)
def test_a_setting_out_of_range_is_named_before_training(make_config, split, wrong, sentence):
    with pytest.raises(UserError, match=sentence):
        HetCompStudent(make_config("HetCompStudent", **{**SETTINGS, **wrong}), split.train)


def test_every_yaml_key_is_read_by_the_method():
    """A setting that nothing reads would be a promise without a keeper."""
    yaml_keys = yaml.safe_load((properties_dir() / "model" / "HetCompStudent.yaml").read_text())
    package = properties_dir().parent / "recbole_hetcomp"
    package = package if package.is_dir() else properties_dir().parent
    text = "".join(path.read_text() for path in Path(package).rglob("*.py"))
    of_recbole = {"embedding_size", "epochs", "learning_rate", "weight_decay", "stopping_step"}
    assert [key for key in yaml_keys if key not in of_recbole and f'"{key}"' not in text] == []


# --- it teaches -----------------------------------------------------------------------------------------------------


def trained(model, batches, epochs: int, rate: float = 0.02, check: bool = False):
    optimizer = torch.optim.Adam(model.parameters(), lr=rate)
    for epoch in range(1, epochs + 1):
        for batch in batches():
            optimizer.zero_grad()
            model.calculate_loss(batch).backward()
            optimizer.step()
        if check:
            model.on_validation(student_lists(model), epoch)
    return model


def test_student_comes_near_the_ensemble__which_plain_training_does_not(make_config, split):
    """The teachers' lists are random, so nothing but distillation can lead there."""
    pool = pool_of(split)
    distilled = build(make_config, split, pool, embedding_size=16, curriculum_max_dwell=1)
    ids = split.history.active_users
    trained(distilled, lambda: [Interaction({"user_id": part}) for part in ids.split(16)], 30, rate=0.05, check=True)
    loader = split.loaders(make_config("MF")).train
    plain = trained(build(make_config, split, pool, embedding_size=16).backbone, lambda: loader, 30)

    def distance(model) -> float:
        return discrepancy(top_unobserved(model, split.history, 50)[ids], distilled.lists.final[ids], k=50).mean().item()

    assert distilled.lists.curriculum.finished
    assert distance(plain) > 0.3
    assert distance(distilled) < 0.5 * distance(plain)
