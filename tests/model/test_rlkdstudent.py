"""RL-KD: its loss and rewards against loops, one teacher, and whom the policy selects where the right ones are known."""

from __future__ import annotations

import importlib
import math
from pathlib import Path
from types import ModuleType

import pytest
import torch
from recbole.data.interaction import Interaction

from recbole_hetcomp.model.backbone import evaluating
from recbole_hetcomp.model.batch import Batch
from recbole_hetcomp.model.distilled_recommender import rlkdstudent
from recbole_hetcomp.model.distilled_recommender.rlkdstudent import RLKDStudent
from recbole_hetcomp.quick_start import run_hetcomp
from recbole_hetcomp.teachers import TeacherPool
from recbole_hetcomp.teachers.single import SingleTeacher
from recbole_hetcomp.testing.interruption import interrupt
from recbole_hetcomp.testing.results import same, saved_state, state_of
from recbole_hetcomp.trainer import progress_file

N_TEACHERS = 3
NOISY = {"student": "NGCF", "embedding_size": 8, "hidden_size_list": [8], "node_dropout": 0.2, "message_dropout": 0.3}


@pytest.fixture
def student(make_model, list_pool):
    """`student(**settings)`: an RLKDStudent that has learnt from lists, beyond its warm-up."""

    def make(n_teachers: int = N_TEACHERS, **settings) -> RLKDStudent:
        model = make_model("RLKDStudent", **{"n_ranked": 6, "warmup_epochs": 1, **settings})
        model.learn_from(list_pool(n_teachers))
        model.on_epoch_start(1)
        return model

    return make


@pytest.fixture
def batch(student) -> Batch:
    """A dozen users."""
    return Batch(student().history.active_users[:12], None)


def moved(model: RLKDStudent, scale: float = 0.3) -> None:
    """A step of the student, anywhere."""
    generator = torch.Generator().manual_seed(8)
    with torch.no_grad():
        for parameter in model.backbone.parameters():
            parameter += scale * torch.randn(parameter.shape, generator=generator)


def own_loss(model: RLKDStudent, user: int) -> float:
    scores = model.scores(torch.tensor([user]))[0].double().tolist()
    trained = model.history.padded(torch.tensor([user]))[0].tolist()
    rest = [math.exp(scores[item]) for item in range(1, model.n_items) if item not in trained]
    terms = [math.log(math.fsum([*rest, math.exp(scores[item])])) - scores[item] for item in trained]
    return math.fsum(terms) / len(terms)


def test_the_loss_is_the_mean_over_whom_the_policy_selects_and_over_all_where_it_selects_nobody(student, batch) -> None:
    model = student()
    with torch.no_grad():
        model.apart["policy"].bias.fill_(-0.6)  # so that some users get nobody
    found = model.distillation_loss(batch)
    actions, selected = model.trial.actions, model.trial.selected
    nobody = ~actions.any(1)
    assert 0 < nobody.sum() < len(nobody)
    assert torch.equal(selected[~nobody], actions[~nobody])
    assert selected[nobody].all()
    losses = model.list_losses(batch.users)[0].tolist()
    means = [
        math.fsum(loss for loss, heard in zip(row, chosen) if heard) / sum(chosen)
        for row, chosen in zip(losses, selected.tolist())
    ]
    assert found.item() == pytest.approx(math.fsum(means) / len(means), rel=1e-5)


def test_in_the_epochs_of_warm_up_all_are_heard_and_the_policy_learns_nothing(student, batch) -> None:
    model = student(warmup_epochs=2)
    losses = model.list_losses(batch.users)[0]
    assert model.distillation_loss(batch).item() == pytest.approx(losses.mean().item(), rel=1e-5)
    model.loss_apart(Interaction({})).backward()
    assert not any(parameter.grad.any() for parameter in model.apart.parameters())


@pytest.mark.parametrize("reward", ["improve", "r1", "r2"])
def test_the_rewards_equal_loops(student, batch, reward) -> None:
    model = student(reward=reward, distillation_weight=0.7)
    before = [own_loss(model, user) for user in batch.users.tolist()]
    model.distillation_loss(batch)
    trial = model.trial
    moved(model)
    found = model._rewards(trial).tolist()
    lists = model.list_losses(batch.users)[0].tolist()
    for row, user in enumerate(batch.users.tolist()):
        heard = [loss for loss, chosen in zip(lists[row], trial.selected[row].tolist()) if chosen]
        after = own_loss(model, user)
        expected = {
            "improve": before[row] - after,
            "r1": -after,
            "r2": -after - 0.7 * math.fsum(heard) / len(heard),
        }
        assert found[row] == pytest.approx(expected[reward], rel=1e-4, abs=1e-5)


def test_the_gradient_of_the_policy_is_that_of_the_standardised_rewards(student, batch) -> None:
    model = student()
    with torch.no_grad():
        model.apart["policy"].weight.normal_(std=0.3, generator=torch.Generator().manual_seed(1))
    model.distillation_loss(batch)
    trial = model.trial
    moved(model)
    rewards = model._rewards(trial).tolist()
    mean = math.fsum(rewards) / len(rewards)
    deviation = math.sqrt(math.fsum((reward - mean) ** 2 for reward in rewards) / len(rewards))
    expected = torch.zeros(())
    for row, reward in enumerate(rewards):
        for p, taken in zip(model.apart["policy"](trial.state)[row], trial.actions[row].tolist()):
            expected = expected - (reward - mean) / deviation * (p if taken else 1 - p).log() / len(rewards)
    parameters = list(model.apart.parameters())
    found = torch.autograd.grad(model.loss_apart(Interaction({})), parameters)
    for ours, theirs in zip(found, torch.autograd.grad(expected, parameters)):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-6)
        assert ours.any()


def test_a_step_that_changes_nothing_has_brought_nothing_also_where_the_tail_is_drawn(student, batch) -> None:
    model = student(student="DL", tail_samples=9)
    model.distillation_loss(batch)
    state = model.generator.get_state()
    assert not model._rewards(model.trial).any()
    assert torch.equal(model.generator.get_state(), state)


# ---- a student with dropout, in training ----------------------------------------------------------------------------------


@pytest.mark.parametrize("node_dropout", [0.0, 0.2])
def test_in_training_a_step_that_changes_nothing_has_brought_nothing_and_draws_from_no_other_stream(
    student, batch, node_dropout
) -> None:
    model = student(**{**NOISY, "node_dropout": node_dropout}).train()
    losses, has_list = model.list_losses(batch.users)
    state = torch.get_rng_state()
    trial = model._try(batch.users, losses.detach(), has_list)
    assert not model._rewards(trial).any()
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("reward", ["improve", "r1", "r2"])
def test_in_training_rewards_and_state_are_those_of_evaluation(student, batch, reward) -> None:
    found = []
    for mode in (False, True):
        model = student(**NOISY, reward=reward)
        losses, has_list = (given.detach() for given in model.list_losses(batch.users))  # in evaluation
        model.train(mode)
        trial = model._try(batch.users, losses, has_list)
        moved(model)
        found.append((trial.state, model._rewards(trial)))
        assert all(module.training == mode for module in model.backbone.modules())
    for evaluated, trained in zip(*found):
        assert torch.equal(trained, evaluated)
        assert evaluated.any()


def test_each_module_is_in_its_own_mode_again_and_nothing_of_a_graph_is_kept_also_after_an_error(student, batch) -> None:
    model = student(**NOISY).train()
    model.backbone.emb_dropout.eval()  # frozen by somebody
    modes = [module.training for module in model.backbone.modules()]
    assert len({*modes}) == 2
    with evaluating(model.backbone):
        assert not any(module.training for module in model.backbone.modules())
        model.full_sort_predict(Interaction({model.USER_ID: batch.users}))
    assert [module.training for module in model.backbone.modules()] == modes
    assert model.backbone.restore_user_e is model.backbone.restore_item_e is None
    with pytest.raises(IndexError):
        model._own_losses(torch.tensor([model.n_users]))
    assert [module.training for module in model.backbone.modules()] == modes
    assert model.backbone.restore_user_e is model.backbone.restore_item_e is None


@pytest.mark.parametrize("name", ["NGCF", "LightGCN"])
def test_what_a_graph_model_kept_of_an_evaluation_is_not_taken_for_a_reward_nor_a_rewards_for_an_evaluation(
    student, batch, name
) -> None:
    everyone = Interaction({"user_id": torch.arange(60)})
    model = student(**{**NOISY, "student": name})
    model.full_sort_predict(everyone)  # leaves its embeddings behind
    moved(model)
    fresh = student(**{**NOISY, "student": name})
    moved(fresh)
    assert torch.equal(model._own_losses(batch.users), fresh._own_losses(batch.users))
    assert torch.equal(model._user_vectors(batch.users), fresh._user_vectors(batch.users))
    moved(model)
    moved(fresh)
    assert torch.equal(model.full_sort_predict(everyone), fresh.full_sort_predict(everyone))


@pytest.mark.parametrize("more", [{}, {"student": "LightGCN"}, {"student": "DL", "tail_samples": 9}])
@pytest.mark.parametrize("width", [1, 5, 512])
def test_a_users_own_loss_is_the_same_in_parts_and_a_part_is_no_longer_than_it_may_be(
    student, batch, monkeypatch, more, width
) -> None:
    model = student(**more)
    catalogue, asked = model.catalogue, []

    def watched(users: torch.Tensor):
        found = catalogue(users)

        class Watched:
            def listed(self, items: torch.Tensor):
                asked.append(items.size(1))
                return found.listed(items)

            def log_mass(self, excluded: torch.Tensor) -> torch.Tensor:
                return found.log_mass(excluded)

        return Watched()

    longest = model.history.padded(batch.users).size(1)
    state = model.generator.get_state()
    whole = model._own_losses(batch.users)
    model.generator.set_state(state)
    monkeypatch.setattr(rlkdstudent, "HISTORY_AT_ONCE", width, raising=False)
    monkeypatch.setattr(model, "catalogue", watched)
    torch.testing.assert_close(model._own_losses(batch.users), whole)
    assert sum(asked) == longest > 5
    assert max(asked) == min(width, longest)


def test_where_a_single_teacher_has_a_list_there_is_no_choice(student, batch) -> None:
    model = student()
    model.learned_lists[batch.users[0], 1:] = 0
    model.learned_lists[batch.users[1]] = 0
    with torch.no_grad():
        model.apart["policy"].bias.fill_(-30.0)
    for _ in range(20):
        model.distillation_loss(batch)
        assert model.trial.selected[0].tolist() == [True, False, False]
        assert not model.trial.selected[1].any()
        assert not model.trial.free[:2].any()


STUDENTS = {  # and how many numbers its vectors have
    "MF": ({}, 8),
    "BPR": ({}, 8),  # RecBole's, with tables
    "LightGCN": ({}, 8),
    "NGCF": (NOISY, 16),  # of every layer
    "SGL": ({}, 8),
    "DL": ({}, 0),
}


def mean_0_deviation_1(column: list[list[float]]) -> torch.Tensor:
    """[B, M]: each teacher's column over the users."""
    found = []
    for values in zip(*column):
        mean = math.fsum(values) / len(values)
        deviation = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / len(values))
        found.append([(value - mean) / deviation if deviation > 1e-6 else 0.0 for value in values])
    return torch.tensor(found).T


@pytest.mark.parametrize("name", STUDENTS)
def test_the_state_is_of_the_user_the_epoch_and_each_teacher_column_by_column(make_model, trained_pool, name) -> None:
    """Everything that it knows, each against a loop."""
    own, size = STUDENTS[name]
    pool = trained_pool("BPR", "EASE")
    model = make_model("RLKDStudent", **{"student": name, "embedding_size": 8, "n_ranked": 6, "epochs": 4, **own})
    model.learn_from(pool)
    model.on_epoch_start(3)
    users = model.history.active_users[:12]
    ranked = model.ranking(50)
    model.on_validation(ranked, 1)
    with torch.no_grad():
        losses, has_list = model.list_losses(users)
        vectors = model.embeddings(users)[0].tolist() if size else [[]] * len(users)
    assert has_list.all()
    found = model.train()._state(users, losses, has_list)

    single = [SingleTeacher.from_config(TeacherPool([teacher]), model.history, model.config) for teacher in pool.teachers]
    lists = pool.topk(50)
    columns: list[list[list[float]]] = [[] for _ in range(size + 6)]
    for row, user in enumerate(users.tolist()):
        trained = model.history.padded(users[row : row + 1])[0].tolist()
        of_user = [math.log(1 + len(trained)), *vectors[row]]
        of_teachers = []
        for m, items in enumerate(model.learned_lists[user].tolist()):
            scores = single[m].standardised(users[row : row + 1])[0].double().tolist()
            shares = [math.exp(scores[item]) for item in lists[m, user].tolist() if item]
            shares = [share / math.fsum(shares) for share in shares]
            mass = math.log(math.fsum(math.exp(score) for score in scores[1:]))
            overlap = len({*items} & {*ranked[user].tolist()}) / len(items)
            consensus = len({*items} & {*model.learned_lists[user, 1 - m].tolist()}) / len(items)
            entropy = -math.fsum(share * math.log(share) for share in shares)
            evidence = math.fsum(scores[item] - mass for item in trained) / len(trained)
            of_teachers.append([overlap, consensus, losses[row, m].item(), entropy, evidence])
        for place, value in enumerate(of_user):
            columns[place].append([value, value])
        for place, values in enumerate(zip(*of_teachers), 1 + size):
            columns[place].append(list(values))
    expected = [mean_0_deviation_1(column) for column in columns]
    expected.insert(1 + size, torch.full((len(users), 2), 3 / 4))  # the epochs that are over
    assert found.shape == (len(users), 2, len(expected))
    assert model.apart["policy"].weight.shape == (2, len(expected))
    for place, column in enumerate(expected):
        torch.testing.assert_close(found[:, :, place], column, rtol=1e-3, atol=2e-4, msg=f"column {place}")
        assert column.any()


def test_teachers_that_are_models_give_evidence_and_lists_give_none(make_model, trained_pool, student) -> None:
    model = make_model("RLKDStudent")
    model.learn_from(trained_pool("BPR", "EASE"))
    assert model.evidence.shape == (model.n_users, 2, 2)
    assert model.evidence[model.history.active_users].isfinite().all()
    assert model.evidence[model.history.active_users, :, 0].min() > 0
    assert (model.evidence[model.history.active_users, :, 1] < 0).all()
    assert student().evidence.shape == (model.n_users, N_TEACHERS, 0)


@pytest.mark.parametrize("more", [{}, {"student": "DL", "tail_samples": 20}])
def test_with_one_teacher_it_is_the_uniform_mean_bit_for_bit(settings, more) -> None:
    short = {"epochs": 4, "teachers": ["BPR"], "distillation_weight": 1.0, "n_ranked": 10, **more}
    states = [
        state_of(run_hetcomp(name, "toy", config_dict={**settings, **short, **own}, arguments=(), compare=False))
        for name, own in (("RLKDStudent", {}), ("MTDStudent", {"list_weights": "uniform"}))
    ]
    assert same(*states)


# ---- users of two groups, with a right teacher each -----------------------------------------------------------------------


@pytest.fixture
def claim(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The benchmark's module, with a smaller world."""
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "benchmarks"))
    return importlib.import_module("teacher_selection")


@pytest.fixture
def groups(claim, tmp_path):
    """Settings of a run on it."""
    return {**claim.write_groups(tmp_path / "world", 1), **claim.POLICY}


def test_it_selects_the_right_teacher_and_comes_at_least_halfway_to_an_oracle(claim, groups, tmp_path) -> None:
    oracle = {**groups, "teachers": [str(tmp_path / "world" / name) for name in claim.ALONE], "list_weights": "uniform"}
    learned = claim.trained("RLKDStudent", "groups", groups)
    right, wrong = claim.selected(learned["model"].selection)
    assert right > 0.85
    assert wrong < 0.3
    uniform, best = (
        claim.trained("MTDStudent", "groups", given)["test_result"]["recall@20"]
        for given in ({**groups, "list_weights": "uniform"}, oracle)
    )
    assert best > uniform + 0.01
    assert learned["test_result"]["recall@20"] >= (uniform + best) / 2


def test_rewards_that_are_shuffled_teach_no_preference(claim, groups, monkeypatch) -> None:
    generator, rewards = torch.Generator().manual_seed(3), RLKDStudent._rewards

    def shuffled(model: RLKDStudent, trial) -> torch.Tensor:
        found = rewards(model, trial)
        return found[torch.randperm(len(found), generator=generator)]

    monkeypatch.setattr(RLKDStudent, "_rewards", shuffled)
    right, wrong = claim.selected(claim.trained("RLKDStudent", "groups", groups)["model"].selection)
    assert abs(right - wrong) < 0.15


def test_teachers_that_say_the_same_are_selected_alike_and_teach_as_one(claim, groups, tmp_path) -> None:
    first = Path(groups["teachers"][0])
    twin = first.with_name("twin.tsv")
    twin.write_text(first.read_text(encoding="utf-8"), encoding="utf-8")
    both = {**groups, "teachers": [str(first), str(twin)]}
    learned = claim.trained("RLKDStudent", "groups", both)
    rates = learned["model"].selection[1:].mean(0)
    # Chance parts them by .01 to .13, over seeds and machines; the right and the wrong teacher of above are .55 apart.
    assert abs(float(rates[0] - rates[1])) < 0.25
    uniform = claim.trained("MTDStudent", "groups", {**both, "list_weights": "uniform"})
    for metric in ("recall@20", "ndcg@20"):
        assert learned["test_result"][metric] == pytest.approx(uniform["test_result"][metric], abs=0.02)


@pytest.mark.parametrize("gain", [0.01, -0.002])
def test_what_validation_says_between_two_scores_is_of_the_order_of_what_the_rewards_say(student, batch, gain) -> None:
    """Both as they move the policy: the gradients' sums over the steps after a gain of that size."""
    model = student(reward="r3")
    model.delayed.settle(0.3)
    for steps in range(2):
        sums = {share: torch.zeros(()) for share in (0.0, 1.0)}
        for _ in range(30):
            model.distillation_loss(batch)
            trial = model.trial
            moved(model, scale=0.01)
            for share in sums:
                model.trial, model.config["validation_share"] = trial, share
                found = torch.autograd.grad(model.loss_apart(Interaction({})), list(model.apart.parameters()))
                sums[share] = sums[share] + torch.cat([gradient.flatten() for gradient in found])
        assert bool(sums[1.0].any()) == bool(steps)  # nothing before the first gain
        if not steps:
            model.delayed.settle(0.3 + gain)
    assert 0.1 < float(sums[1.0].norm() / sums[0.0].norm()) < 10


def test_the_share_of_validation_changes_the_policy_from_the_rewards_own_to_validations_own(settings) -> None:
    short = {"epochs": 8, "eval_step": 1, "warmup_epochs": 1, "distillation_weight": 1.0, "reward": "r3", "seed": 3}
    given = {**settings, **short, "valid_metric": "NDCG@10", "apart_learning_rate": 0.05, "train_batch_size": 64}
    policies = []
    for share in (0.0, 0.5, 1.0):
        run = {**given, "validation_share": share, "checkpoint_dir": f"share {share}"}
        model = run_hetcomp("RLKDStudent", "toy", config_dict=run, arguments=(), compare=False)["model"]
        policies.append(model.selection[model.history.active_users])
    ends, to_first, to_last = (float((policies[a] - policies[b]).abs().mean()) for a, b in ((0, 2), (0, 1), (1, 2)))
    assert ends > 0.01
    assert to_first > ends / 10
    assert to_last > ends / 10


@pytest.mark.parametrize("reward", ["improve", "r3"])
def test_a_resumed_run_has_the_policy_its_optimiser_and_its_rewards_and_serves_none_of_them(
    settings, monkeypatch, reward
) -> None:
    monkeypatch.setattr(progress_file, "pause_after", lambda seconds: 0.0)
    short = {"epochs": 5, "eval_step": 1, "warmup_epochs": 1, "distillation_weight": 1.0, "reward": reward}
    short["valid_metric"] = "NDCG@10"  # which hardly stays the same from one epoch to the next, as r3 asks for
    given = {**settings, **short, "apart_learning_rate": 0.05, "train_batch_size": 64}

    def run(**more):
        return run_hetcomp("RLKDStudent", "toy", config_dict={**given, **more}, arguments=(), compare=False)

    whole = run(checkpoint_dir="whole")
    interrupt(run, after=4)
    resumed = run()
    assert torch.equal(resumed["model"].selection, whole["model"].selection)  # so the policy was the same
    assert torch.equal(resumed["model"].delayed.direction, whole["model"].delayed.direction)
    assert len({*whole["model"].selection[1:].flatten().tolist()}) > 20  # it has learnt something
    assert bool(whole["model"].delayed.direction.any()) == (reward == "r3")
    assert same(state_of(resumed), state_of(whole))
    assert all(name.startswith("backbone.") for name in saved_state(resumed))


def test_what_a_policy_cannot_have_seen_is_refused(student) -> None:
    model, other = student(), student(n_teachers=2)
    model.load_distillation_state(model.distillation_state())
    with pytest.raises(ValueError, match="other users or teachers"):
        model.load_distillation_state({**model.distillation_state(), "selection": other.selection})
