"""Training a distilled model: users once an epoch, patience from the switch, and a resume that changes nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from recbole.trainer import Trainer
from recbole.utils import init_seed

from recbole_hetcomp.config.errors import UserError
from recbole_hetcomp.knowledge import discrepancy
from recbole_hetcomp.model import target_lists
from recbole_hetcomp.model.distilled_recommender.hetcompstudent import HetCompStudent
from recbole_hetcomp.teachers import Teacher, TeacherPool, Trajectory
from recbole_hetcomp.trainer import progress_file
from recbole_hetcomp.trainer.distillation import DistillationTrainer

STAGES, DEPTH, EPOCHS = 2, 20, 5
SETTINGS = {
    "n_targets": 10,
    "n_observed": 3,
    "train_batch_size": 16,
    "curriculum_period": 1,
    "curriculum_max_dwell": 1,
    "epochs": EPOCHS,
    "stopping_step": 100,
    "without_distillation": False,
    "learning_rate": 0.05,
}


class StoppedError(Exception):
    """Stands for whatever ends a training halfway."""


def pool_of(split) -> TeacherPool:
    """Two teachers of random lists."""
    teachers = []
    for seed in (1, 2):
        scores = torch.rand(
            STAGES, split.history.n_users, split.history.n_items, generator=torch.Generator().manual_seed(seed)
        )
        users = torch.repeat_interleave(torch.arange(split.history.n_users), split.history.counts)
        scores[:, users, split.history.items] = -1
        scores[:, :, 0] = -1
        items = scores.topk(DEPTH, dim=2).indices.masked_fill(split.history.counts[None, :, None] == 0, 0)
        teachers.append(Teacher(f"t{seed}", Trajectory.from_lists(items)))
    return TeacherPool(teachers)


@pytest.fixture(autouse=True)
def progress_before_every_epoch(monkeypatch):
    monkeypatch.setattr(progress_file, "pause_after", lambda seconds: 0.0)


class Run:
    """A training that can be stopped at any point and begun again in what stands for a new process."""

    def __init__(self, make_config, split, **overrides: Any) -> None:
        self.config = make_config("HetCompStudent", **{**SETTINGS, **overrides})
        init_seed(self.config["seed"], True)
        self.loaders = split.loaders(self.config)
        self.model = HetCompStudent(self.config, self.loaders.train._dataset)
        self.model.learn_from(pool_of(split))
        self.trainer = DistillationTrainer(self.config, self.model)

    def fit(self, progress: Path | None = None, stop: tuple[str, int] | None = None) -> Run:
        """Train; `stop` = (hook, n) interrupts before the n-th call of that hook of the trainer."""
        if progress is not None:
            self.trainer.resume(progress)
        if stop is not None:
            self._interrupt(*stop)
        self.best = self.trainer.fit(self.loaders.train, self.loaders.valid, verbose=False, saved=True)
        return self

    def _interrupt(self, hook: str, call: int) -> None:
        original, calls = getattr(self.trainer, hook), []

        def interrupted(*args: Any, **settings: Any) -> Any:
            calls.append(hook)
            if len(calls) == call:
                raise StoppedError
            return original(*args, **settings)

        setattr(self.trainer, hook, interrupted)

    def outcome(self) -> dict[str, Any]:
        state = {f"parameter {name}": value for name, value in self.model.state_dict().items()}
        curriculum = {f"curriculum {name}": value for name, value in self.model.lists.curriculum.state_dict().items()}
        loss = {"targets": self.model.lists.targets, "best": self.best, "cur_step": self.trainer.cur_step}
        test = self.trainer.evaluate(self.loaders.test, load_best_model=True)
        return {**state, **curriculum, **loss, "test": dict(test)}


def assert_equal(found: dict[str, Any], expected: dict[str, Any]) -> None:
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        same = torch.equal(found[name], value) if isinstance(value, torch.Tensor) else found[name] == value
        assert same, name


# --- an epoch -------------------------------------------------------------------------------------------------------


def test_every_user_with_training_items_is_met_once_an_epoch(make_config, split, monkeypatch):
    run, met = Run(make_config, split, epochs=3), []
    loss = run.model.distillation_loss
    monkeypatch.setattr(run.model, "distillation_loss", lambda batch: met.append(batch) or loss(batch))
    run.fit()
    active = split.history.active_users.tolist()
    users = torch.cat([batch.users for batch in met]).tolist()
    assert len(users) == 3 * len(active)
    assert max(len(batch.users) for batch in met) == 16
    for epoch in range(3):
        assert sorted(users[epoch * len(active) : (epoch + 1) * len(active)]) == active


def test_batches_of_interactions_are_recboles(make_config, split, monkeypatch):
    run, sizes = Run(make_config, split, epochs=1, user_batches=False, train_batch_size=64), []
    loss = run.model.calculate_loss
    monkeypatch.setattr(run.model, "calculate_loss", lambda batch: sizes.append(len(batch)) or loss(batch))
    run.fit()
    assert sum(sizes) == len(split.train)
    assert sizes[0] == 64


def test_method_hears_of_every_validation_with_the_students_lists(make_config, split, monkeypatch):
    run, heard = Run(make_config, split, epochs=6, eval_step=2, curriculum_period=2), []
    hook = run.model.on_validation
    monkeypatch.setattr(run.model, "on_validation", lambda lists, epoch: heard.append((lists, epoch)) or hook(lists, epoch))
    run.fit()
    assert [epoch for _, epoch in heard] == [2, 4, 6]
    for lists, _ in heard:
        assert lists.shape == (split.whole.user_num, 50)
        seen = split.history.padded(split.history.active_users)
        assert not (lists[split.history.active_users][:, :, None] == seen[:, None]).logical_and(seen[:, None] > 0).any()


@pytest.mark.parametrize("rule", ["patient", "none"])
def test_all_users_are_ranked_while_the_curriculum_moves__then_some(make_config, split, monkeypatch, rule):
    """The distance from the teachers is a mean over those who are ranked."""
    monkeypatch.setattr(target_lists, "LOOKED_AT", 5)
    run, heard = Run(make_config, split, eval_step=1, curriculum_rule=rule), []
    hook = run.model.on_validation

    def listen(lists: torch.Tensor, epoch: int) -> str:
        ranked, moving = int(lists.any(1).sum()), run.model.lists.may_move(epoch)
        heard.append((moving, ranked))
        line = hook(lists, epoch)
        few = lists.any(1).nonzero().squeeze(1)
        distance = discrepancy(lists[few], run.model.lists.final[few], k=50, relevance=run.config["discrepancy"]).mean()
        assert f"D@50 {distance:.2f}" in line
        return line

    monkeypatch.setattr(run.model, "on_validation", listen)
    run.fit()
    everyone = len(split.history.active_users)
    assert heard == [(moving, everyone if moving else 5) for moving, _ in heard]
    assert {moving for moving, _ in heard} == ({True, False} if rule == "patient" else {False})


def test_both_parts_of_the_loss_are_recorded(make_config, split):
    run = Run(make_config, split, epochs=1, base_loss_weight=0.5)
    losses = run.trainer._train_epoch(run.loaders.train, 0)
    assert isinstance(losses, tuple)
    assert len(losses) == 2


# --- patience -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("from_switch", [True, False])
def test_patience_begins_at_the_switch__or_at_the_start(make_config, split, monkeypatch, from_switch):
    """No validation after the first is better, so training ends as soon as patience counts `stopping_step` of them."""
    settings = {"curriculum_rule": "official", "curriculum_alpha": 2.0, "curriculum_decay": 0.9}
    run = Run(make_config, split, epochs=30, stopping_step=2, patience_from_switch=from_switch, **settings)
    switch = 7

    class Course:
        """A curriculum that ends after epoch 7 whatever the student does."""

        finished, k, stage, n_stages, mean_stage = False, 50, run.model.lists.curriculum.stage, 2, 0.0

        def due(self, epoch: int) -> bool:
            self.finished = epoch >= switch
            return False

        def state_dict(self) -> dict[str, Any]:
            return {}

    run.model.lists.curriculum = Course()
    scores = iter([0.9] + [0.1] * 40)
    validate = DistillationTrainer.__mro__[1]._valid_epoch
    monkeypatch.setattr(
        DistillationTrainer.__mro__[1],
        "_valid_epoch",
        lambda self, *args, **kwargs: (next(scores), validate(self, *args, **kwargs)[1]),
    )
    run.fit()
    epochs = max(run.trainer.train_loss_dict) + 1
    assert epochs == (switch + 2 + 1 if from_switch else 1 + 2 + 1)


@pytest.mark.parametrize(("period", "warned"), [(20, True), (1, False)])
def test_epochs_that_end_before_the_curriculum_are_a_warning(make_config, split, caplog, period, warned):
    Run(make_config, split, epochs=4, eval_step=1, curriculum_alpha=1e-3, curriculum_period=period).fit()
    assert any("epochs: 4 were over before the curriculum" in line for line in caplog.messages) == warned


# --- files ----------------------------------------------------------------------------------------------------------


def test_best_student_is_saved_as_data_and_restored_by_evaluate(make_config, split):
    run = Run(make_config, split, learning_rate=0.5).fit()
    saved = torch.load(run.trainer.saved_model_file, weights_only=True)
    assert set(saved) >= {"config", "state_dict", "other_parameter", "optimizer", "epoch", "cur_step", "best_valid_score"}
    assert set(saved["state_dict"]) == {"backbone.user_embedding.weight", "backbone.item_embedding.weight"}
    assert saved["best_valid_score"] == run.best[0]
    last = {name: value.clone() for name, value in run.model.state_dict().items()}
    for value in run.model.state_dict().values():
        value.zero_()
    valid = run.trainer.evaluate(run.loaders.valid, load_best_model=True)
    assert dict(valid) == dict(run.best[1])
    for name, value in saved["state_dict"].items():
        assert torch.equal(run.model.state_dict()[name], value)
    if saved["epoch"] < EPOCHS - 1:
        assert any(not torch.equal(last[name], value) for name, value in saved["state_dict"].items())


def test_evaluate_without_the_best_model_takes_the_student_as_it_stands(make_config, split):
    run = Run(make_config, split).fit()
    for value in run.model.state_dict().values():
        value.zero_()
    run.trainer.evaluate(run.loaders.valid, load_best_model=False)
    assert not any(value.any() for value in run.model.state_dict().values())


# --- resume ---------------------------------------------------------------------------------------------------------

KINDS = {
    "batches of users": {},
    "a base loss and negatives": {"base_loss_weight": 0.3, "train_batch_size": 128},
    "a backbone with dropout": {
        "student": "NeuMF",
        "mf_embedding_size": 4,
        "mlp_embedding_size": 4,
        "mlp_hidden_size": [4],
        "dropout_prob": 0.5,
    },
    "a backbone with caches": {"student": "LightGCN", "n_layers": 1},
}


@pytest.mark.parametrize("kind", KINDS)
def test_resuming_is_as_if_nothing_had_happened(make_config, split, tmp_path, kind):
    expected = Run(make_config, split, **KINDS[kind]).fit().outcome()
    assert expected["curriculum stage"].any()  # otherwise its resume would not be put to the test
    points = [("_train_epoch", 3), ("_valid_epoch", 5)]
    if not KINDS[kind]:
        points += [("_train_epoch", call) for call in (1, 2, 4, 5)] + [("_valid_epoch", 1)]
    for number, point in enumerate(points):
        progress = tmp_path / f"{number}.progress"
        with pytest.raises(StoppedError):
            Run(make_config, split, **KINDS[kind]).fit(progress, stop=point)
        torch.manual_seed(number)  # a new process, in another state
        assert_equal(Run(make_config, split, **KINDS[kind]).fit(progress).outcome(), expected)


def test_progress_is_not_written_before_its_time_and_what_is_lost_is_trained_again(
    make_config, split, tmp_path, monkeypatch
):
    expected, clock = Run(make_config, split).fit().outcome(), iter(range(100))
    monkeypatch.setattr(progress_file, "pause_after", lambda seconds: 8)
    monkeypatch.setattr(progress_file, "monotonic", lambda: next(clock))
    with pytest.raises(StoppedError):
        Run(make_config, split).fit(tmp_path / "a.progress", stop=("_train_epoch", 5))
    assert torch.load(tmp_path / "a.progress", weights_only=True)["epoch"] == 0
    again = Run(make_config, split).fit(tmp_path / "a.progress")
    assert min(again.trainer.train_loss_dict) == 0
    assert_equal(again.outcome(), expected)


def test_resuming_again_and_again_is_as_if_nothing_had_happened(make_config, split, tmp_path):
    expected = Run(make_config, split).fit().outcome()
    for call in (2, 2, 2):
        with pytest.raises(StoppedError):
            Run(make_config, split).fit(tmp_path / "a.progress", stop=("_valid_epoch", call))
    run = Run(make_config, split).fit(tmp_path / "a.progress")
    assert min(run.trainer.train_loss_dict) == 3  # the epochs before were not trained again
    assert_equal(run.outcome(), expected)


def test_writing_progress_changes_no_result(make_config, split, tmp_path):
    expected = Run(make_config, split).fit().outcome()
    assert_equal(Run(make_config, split).fit(tmp_path / "a.progress").outcome(), expected)


def test_interruption_during_a_batch_loses_that_epoch_alone(make_config, split, tmp_path, monkeypatch):
    expected = Run(make_config, split).fit().outcome()
    run = Run(make_config, split)
    loss, calls = run.model.calculate_loss, []

    def interrupted(batch: Any) -> Any:
        calls.append(batch)
        if len(calls) == 10:  # four batches an epoch: within the third
            raise StoppedError
        return loss(batch)

    monkeypatch.setattr(run.model, "calculate_loss", interrupted)
    with pytest.raises(StoppedError):
        run.fit(tmp_path / "a.progress")
    again = Run(make_config, split).fit(tmp_path / "a.progress")
    assert min(again.trainer.train_loss_dict) == 2
    assert_equal(again.outcome(), expected)


def test_progress_is_data(make_config, split, tmp_path):
    Run(make_config, split, epochs=2).fit(tmp_path / "a.progress")
    assert torch.load(tmp_path / "a.progress", weights_only=True)["epoch"] == 1


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 and no more", b"something else"])
def test_a_damaged_progress_file_is_named_with_the_remedy(make_config, split, tmp_path, content):
    path = tmp_path / "a.progress"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"^resume: .*a\.progress.*; delete the file, or set resume: False") as caught:
        Run(make_config, split).fit(path)
    assert "\n" not in str(caught.value)


def test_a_progress_file_cut_short_or_of_another_kind_is_named(make_config, split, tmp_path):
    path = tmp_path / "a.progress"
    Run(make_config, split, epochs=1).fit(path)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(UserError, match="resume: "):
        Run(make_config, split).fit(path)
    torch.save({"epoch": 1}, path)
    with pytest.raises(UserError, match="resume: "):
        Run(make_config, split).fit(path)


def test_the_loss_of_an_epoch_is_summed_as_recboles_trainer_sums_it(make_config, make_model, split) -> None:
    """Our loop against RecBole's on the same student, base loss alone: the same sum to the last bit, the same parameters."""
    sums, states = [], []
    for trainer_class in (Trainer, DistillationTrainer):
        model = make_model("RRDStudent", distillation_weight=0.0, learning_rate=0.05, train_batch_size=32)
        model.learn_from(pool_of(split))
        train = split.loaders(model.config).train
        init_seed(3, True)
        trainer = trainer_class(model.config, model)
        sums.append([trainer._train_epoch(train, epoch) for epoch in range(3)])
        states.append(model.state_dict())
    assert sums[0] == sums[1]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def test_several_parts_are_summed_apart_and_nan_is_found(make_model) -> None:
    trainer = DistillationTrainer((model := make_model("RRDStudent")).config, model)
    parts = [(torch.tensor(0.1), torch.tensor(2.0))] * 1000
    first, second = trainer._sums(parts)
    running = 0.0
    for part, _ in parts:
        running += part.item()
    assert (first, second) == (running, 2000.0)
    with pytest.raises(ValueError, match="nan"):
        trainer._sums([*parts, (torch.tensor(float("inf")), torch.tensor(float("-inf")))])
