"""A student is trained in the threads that its setting says, or in those in which its steps are faster."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
import yaml
from recbole.utils import init_seed

from recbole_hetcomp.config.registry import get_model, properties_dir
from recbole_hetcomp.losses.streaming import log_mass
from recbole_hetcomp.model.distilled_recommender.hetcompstudent import HetCompStudent
from recbole_hetcomp.quick_start import run_hetcomp
from recbole_hetcomp.teacher_training.alone import alone_config
from recbole_hetcomp.teacher_training.cache import fingerprint
from recbole_hetcomp.teacher_training.configs import teacher_config
from recbole_hetcomp.trainer.distillation import DistillationTrainer
from recbole_hetcomp.trainer.threads import SECONDS, SHARE, TRIAL, ThreadChoice, computing_in, possible_threads

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def two_threads() -> Iterator[None]:
    with computing_in(2):
        yield


class Machine:
    """A clock that runs while steps are done: `seconds[n]` a step in n threads, which may change."""

    def __init__(self, seconds: dict[int, float]) -> None:
        self.now, self.seconds = 0.0, seconds
        self.used: list[int] = []

    def clock(self) -> float:
        return self.now

    def train(self, choice: ThreadChoice, steps: int) -> list[int]:
        """The number of threads of each of so many steps."""
        before = len(self.used)
        for _ in choice.steps(range(steps)):
            self.used.append(torch.get_num_threads())
            self.now += self.seconds[self.used[-1]]
        return self.used[before:]


def machine_and_choice(*possible: int, **seconds: float) -> tuple[Machine, ThreadChoice]:
    machine = Machine({1: seconds["one"], 2: seconds["two"]})
    return machine, ThreadChoice(possible or (1, 2), machine.clock)


@pytest.mark.parametrize(("two", "chosen"), [(0.26, 1), (0.012, 1), (0.0115, 1), (0.009, 2)])
def test_two_threads_are_taken_where_they_are_clearly_faster(two: float, chosen: int) -> None:
    machine, choice = machine_and_choice(one=0.012, two=two)
    used = machine.train(choice, 50)
    assert used[: 2 * TRIAL] == [1, 2] * TRIAL
    assert set(used[2 * TRIAL :]) == {choice.chosen} == {chosen}


def test_single_slow_steps_decide_nothing() -> None:
    machine, choice = machine_and_choice(one=0.012, two=0.009)
    for place, _ in enumerate(choice.steps(range(2 * TRIAL))):
        machine.now += 1.0 if place in (0, 1) else machine.seconds[torch.get_num_threads()]
    assert choice.chosen == 2


def test_it_chooses_anew_when_other_processes_come_and_go() -> None:
    machine, choice = machine_and_choice(one=0.012, two=0.009)
    machine.train(choice, 50)
    assert choice.chosen == 2
    machine.seconds[2] = 0.26
    used = machine.train(choice, round(SECONDS / 0.009))
    assert choice.chosen == 1
    assert used[-1] == 1
    machine.seconds[2] = 0.009
    cost = TRIAL * (0.26 - 0.012)
    machine.train(choice, round(cost / SHARE / 0.012) + 10 * TRIAL)
    assert choice.chosen == 2


@pytest.mark.parametrize("two", [0.009, 0.26, 5.0])
def test_trials_cost_little_of_the_time(two: float) -> None:
    machine, choice = machine_and_choice(one=0.012, two=two)
    used = machine.train(choice, 40_000)
    best = min(0.012, two)
    assert machine.now <= (1 + SHARE) * best * len(used) + TRIAL * two


def test_a_trial_goes_on_where_an_epoch_has_fewer_steps() -> None:
    machine, choice = machine_and_choice(one=0.012, two=0.009)
    used = [threads for _ in range(5) for threads in machine.train(choice, 3)]
    assert used[: 2 * TRIAL] == [1, 2] * TRIAL
    assert choice.chosen == 2


def test_with_a_single_number_nothing_is_measured() -> None:
    machine, choice = machine_and_choice(2, one=0.012, two=0.26)
    assert set(machine.train(choice, 50)) == {2}
    assert not choice.taken


def test_what_there_is_to_choose_from() -> None:
    assert possible_threads(None, CPU) == [1, 2]
    assert possible_threads(5, CPU) == [5]
    assert possible_threads(None, torch.device("cuda")) == possible_threads(1, torch.device("cuda")) == [2]
    with computing_in(1):  # as by OMP_NUM_THREADS=1
        assert possible_threads(None, CPU) == [1]


# --- in a training ----------------------------------------------------------------------------------------------------


def trained(make_config, split, list_pool, **settings: Any) -> tuple[dict[str, torch.Tensor], set[int]]:
    """The student after three epochs, and the numbers of threads that its steps and hooks had."""
    sizes = {"n_targets": 10, "n_observed": 3, "train_batch_size": 16, "eval_step": 2}
    config = make_config("HetCompStudent", epochs=3, **sizes, **settings)
    init_seed(config["seed"], True)
    loaders = split.loaders(config)
    model = HetCompStudent(config, loaders.train._dataset)
    model.learn_from(list_pool(2))
    trainer, used = DistillationTrainer(config, model), set()

    def watched(hook):  # type: ignore[no-untyped-def]
        return lambda *values: used.add(torch.get_num_threads()) or hook(*values)

    for name in ("calculate_loss", "on_epoch_start", "on_validation"):
        setattr(model, name, watched(getattr(model, name)))
    trainer.fit(loaders.train, loaders.valid, verbose=False, saved=False)
    return model.state_dict(), used


def test_the_student_is_the_same_and_the_number_is_given_back(make_config, split, list_pool) -> None:
    with computing_in(1):
        one, _ = trained(make_config, split, list_pool)
    for settings, tried in (({}, {1}), ({"threads": 2}, {2}), ({"threads": None}, {1, 2})):
        other, used = trained(make_config, split, list_pool, **settings)
        assert used == tried
        assert torch.get_num_threads() == 2
        assert all(torch.equal(one[name], other[name]) for name in one)  # operations on `toy` are too small to be shared


def test_by_default_nothing_depends_on_the_machine__as_it_would_with_more_threads() -> None:
    """In the shape of ml-100k: MKL splits the sum over items in the gradient of the log-mass."""
    generator = torch.Generator().manual_seed(0)
    users, items = torch.randn(64, 8, generator=generator), torch.randn(1683, 8, generator=generator)

    def gradient(asked: int | None) -> torch.Tensor:
        leaf = users.clone().requires_grad_()
        for excluded in ThreadChoice(possible_threads(asked, CPU)).steps([torch.ones(64, 1, dtype=torch.int64)]):
            log_mass(leaf, items, excluded).sum().backward()
        assert leaf.grad is not None
        return leaf.grad

    default = yaml.safe_load((properties_dir() / "overall.yaml").read_text(encoding="utf-8"))["threads"]
    with computing_in(1):
        alone = gradient(None)
    assert torch.equal(gradient(default), alone)


def test_the_number_is_given_back_when_a_step_fails(make_config, split, list_pool, monkeypatch) -> None:
    def fails(*_):  # type: ignore[no-untyped-def]
        raise ZeroDivisionError

    monkeypatch.setattr(DistillationTrainer, "_step", fails)
    with pytest.raises(ZeroDivisionError):
        trained(make_config, split, list_pool)
    assert torch.get_num_threads() == 2


def test_choosing_draws_no_random_number() -> None:
    before = torch.get_rng_state()
    machine, choice = machine_and_choice(one=0.012, two=0.26)
    machine.train(choice, 50)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_kept_teacher_belongs_to_its_number_of_threads__the_student_to_none(settings, monkeypatch) -> None:
    from recbole_hetcomp.teacher_training import training

    used = []
    train = training._train_teacher
    monkeypatch.setattr(training, "_train_teacher", lambda *a: used.append(torch.get_num_threads()) or train(*a))

    def run(**changes: Any) -> None:
        few = {**settings, "teachers": ["BPR"], "without_distillation": False, **changes}
        run_hetcomp("HetCompStudent", "toy", config_dict=few, arguments=(), compare=False)

    run()
    run(threads=2)
    assert used == [1]
    run(teacher_threads=2)
    assert used == [1, 2]


@pytest.mark.parametrize("model", ["MF", "BPR"])
def test_a_model_that_is_not_distilled_is_trained_in_the_threads_that_its_setting_says(settings, monkeypatch, model) -> None:
    used, calculate_loss = [], get_model(model).calculate_loss
    watched = lambda *given: used.append(torch.get_num_threads()) or calculate_loss(*given)  # noqa: E731
    monkeypatch.setattr(get_model(model), "calculate_loss", watched)
    for given, threads in (({}, 1), ({"threads": 3}, 3), ({"threads": None}, 2)):
        used.clear()
        run_hetcomp(model, "toy", config_dict={**settings, "epochs": 1, **given}, arguments=())
        assert set(used) == {threads}
        assert torch.get_num_threads() == 2


def test_the_runs_threads_are_no_teachers_and_belong_to_what_is_trained_in_them(make_config) -> None:
    runs = [make_config("HetCompStudent", teachers=["BPR"], threads=threads) for threads in (1, 2)]
    assert fingerprint(runs[0], {}) != fingerprint(runs[1], {})
    assert fingerprint(make_config("MF", threads=1), {}) != fingerprint(make_config("MF", threads=2), {})
    for derived in ([teacher_config(run, "BPR") for run in runs], [alone_config(run) for run in runs]):
        assert fingerprint(derived[0], {}) == fingerprint(derived[1], {})
