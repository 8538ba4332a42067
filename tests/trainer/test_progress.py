"""A progress file is data about one run: it names no file, it goes on anywhere, and each of its fields is checked."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from recbole.utils import init_seed

from recbole_hetcomp.config.errors import UserError
from recbole_hetcomp.model.distilled_recommender.hetcompstudent import HetCompStudent
from recbole_hetcomp.testing.wrong_values import changed
from recbole_hetcomp.trainer import progress_file
from recbole_hetcomp.trainer.checkpoint import load_checkpoint, save_checkpoint
from recbole_hetcomp.trainer.distillation import DistillationTrainer
from recbole_hetcomp.trainer.progress import FIELDS

SETTINGS = {
    "n_targets": 10,
    "n_observed": 3,
    "train_batch_size": 16,
    "curriculum_period": 1,
    "curriculum_max_dwell": 1,
    "epochs": 5,
    "stopping_step": 100,
    "without_distillation": False,
    "learning_rate": 0.5,
}


class StoppedError(Exception):
    """Stands for whatever ends a training halfway."""


@pytest.fixture(autouse=True)
def progress_before_every_epoch(monkeypatch):
    monkeypatch.setattr(progress_file, "pause_after", lambda seconds: 0.0)


@pytest.fixture
def make_trainer(make_config, split, list_pool):
    """`make_trainer(folder)`: (trainer, loaders) of a run whose checkpoints go into the folder."""
    pool = list_pool(2)

    def make(folder: Path) -> tuple[DistillationTrainer, Any]:
        config = make_config("HetCompStudent", **SETTINGS, checkpoint_dir=str(folder))
        init_seed(config["seed"], True)
        loaders = split.loaders(config)
        model = HetCompStudent(config, loaders.train._dataset)
        model.learn_from(pool)
        trainer = DistillationTrainer(config, model)
        trainer.saved_model_file = str(folder / f"HetCompStudent-{len(list(folder.glob('*.pth')))}.pth")
        return trainer, loaders

    return make


@pytest.fixture
def fit(make_trainer):
    """`fit(folder, stop)`: train with progress in the folder, to the end or into epoch `stop`; (trainer, best, test)."""

    def fit(folder: Path, stop: int | None = None, progress: bool = True) -> Any:
        folder.mkdir(exist_ok=True)
        trainer, loaders = make_trainer(folder)
        if progress:
            trainer.resume(folder / "a.progress")
        if stop is not None:
            validate = trainer._valid_epoch

            def stopping(*arguments: Any, **settings: Any) -> Any:
                if max(trainer.train_loss_dict) == stop:
                    raise StoppedError
                return validate(*arguments, **settings)

            trainer._valid_epoch = stopping
        best = trainer.fit(loaders.train, loaders.valid, verbose=False, saved=True)
        return trainer, best, trainer.evaluate(loaders.test)

    return fit


def assert_same(found: Any, expected: Any, where: str = "") -> None:
    if isinstance(expected, dict):
        assert found.keys() == expected.keys(), where
        for name, value in expected.items():
            assert_same(found[name], value, f"{where} {name}")
    elif isinstance(expected, torch.Tensor):
        assert torch.equal(found, expected), where
    else:
        assert found == expected, where


@pytest.mark.parametrize("moved", ["renamed", "copied", "the progress file alone"])
def test_a_moved_folder_goes_on_in_its_new_place_bit_for_bit(tmp_path, fit, moved) -> None:
    _, best, test = fit(tmp_path / "whole", progress=False)
    (student,) = (tmp_path / "whole").glob("*.pth")
    with pytest.raises(StoppedError):
        fit(tmp_path / "old", stop=3)
    new = tmp_path / "new"
    before = {path.name: path.read_bytes() for path in (tmp_path / "old").iterdir()}
    if moved == "renamed":
        (tmp_path / "old").rename(new)
    else:
        new.mkdir()
        for name, content in before.items():
            if moved == "copied" or name.endswith(".progress"):
                (new / name).write_bytes(content)
    again, best_again, test_again = fit(new)
    assert min(again.train_loss_dict) == 3
    assert_same(best_again, best)
    assert_same(dict(test_again), dict(test))
    found, expected = load_checkpoint(again.saved_model_file), load_checkpoint(student)
    for content in (found, expected):
        content.pop("config")  # the folders have different names
    assert_same(found, expected)
    assert Path(again.saved_model_file).parent == new
    if moved == "copied":
        assert {path.name: path.read_bytes() for path in (tmp_path / "old").iterdir()} == before
    if moved != "the progress file alone":
        (earlier,) = (name for name in before if name.endswith(".pth"))
        assert (new / earlier).read_bytes() == before[earlier]


def test_a_best_student_of_an_early_epoch_is_the_one_that_is_served(tmp_path, fit, monkeypatch) -> None:
    """No later validation is better, so the student that the resumed run serves can come from the progress file alone."""
    from recbole.trainer import Trainer

    scores = {0: 0.9}
    validate = Trainer._valid_epoch

    def falling(self: Any, *arguments: Any, **settings: Any) -> Any:
        score, result = validate(self, *arguments, **settings)
        score = scores.get(max(self.train_loss_dict), 0.1)
        return score, {**result, self.valid_metric.lower(): score}

    monkeypatch.setattr(Trainer, "_valid_epoch", falling)
    expected = load_checkpoint(fit(tmp_path / "whole")[0].saved_model_file)
    with pytest.raises(StoppedError):
        fit(tmp_path / "old", stop=3)
    for path in (tmp_path / "old").glob("*.pth"):
        path.unlink()
    found = load_checkpoint(fit(tmp_path / "old")[0].saved_model_file)
    assert found["epoch"] == expected["epoch"] == 0
    assert_same(found["state_dict"], expected["state_dict"])


def nan(tensor: torch.Tensor) -> torch.Tensor:
    tensor = tensor.clone()
    tensor.view(-1)[-1] = torch.nan
    return tensor


USER = "backbone.user_embedding.weight"
WRONG = [
    *((("epoch",), value) for value in (-1, 5, 10**30, 1.0, True, "1", None, [1])),
    *((("cur_step",), value) for value in (-1, 101, 0.5, True, None)),
    *((("best_valid_score",), value) for value in (math.nan, math.inf, -1.0, 2.0, "0.5", None, 1)),
    *((("best_valid_result",), value) for value in ("x", {}, {"recall@10": math.nan}, {1: 0.5}, [0.5])),
    *((("best",), value) for value in ({}, "x", [], "../../other.pth")),
    *((("best", "state_dict"), value) for value in ({}, None, {"a": "b"})),
    *((("best", "epoch"), value) for value in (-1, 3, 10**20, "x")),
    (("best", "best_valid_score"), 0.123),
    (("best", "other_parameter"), "x"),
    *((("best", "state_dict", USER), value) for value in (nan, lambda x: x[1:], lambda x: x.double(), "x")),
    *((("state_dict", USER), value) for value in (nan, lambda x: x[1:], lambda x: x.double(), "x", None, 1.0)),
    *((("state_dict",), value) for value in ({}, [], "x", None, {1: 2})),
    *((("optimizer",), value) for value in ({}, [], "x", None, {"state": {}, "param_groups": []})),
    *((("optimizer", "state"), value) for value in (None, {99: {}}, {"x": {}}, {0: "x"}, {0: {"step": "x"}}, {0: []})),
    (("optimizer", "state", 0, "exp_avg"), nan),
    (("optimizer", "state", 0, "exp_avg"), lambda x: x[1:]),
    (("optimizer", "param_groups", 0, "lr"), 10.0),
    (("optimizer", "param_groups", 0, "lr"), math.nan),
    *((("distillation",), value) for value in ({}, None, "x", {"lists": {}}, {"lists": None})),
    (("distillation", "lists", "stage"), lambda x: x + 100),
    (("distillation", "lists", "stage"), lambda x: x[:, 1:]),
    (("distillation", "lists", "stage"), lambda x: x.long()),
    (("distillation", "lists", "reference"), nan),
    (("distillation", "lists", "waited"), lambda x: x - 10**6),
    (("distillation", "lists", "n_stages"), 1),
    *((("batches",), value) for value in (None, "x", torch.zeros(3), torch.zeros(5056, dtype=torch.uint8))),
    *((("method_random",), value) for value in (None, "x", torch.zeros(3), torch.zeros(5056, dtype=torch.uint8))),
    *((("random",), value) for value in (None, {}, "x")),
    *((("random", "python"), value) for value in (None, [3, [1, 2], None], [9, list(range(625)), None])),
    *((("random", "numpy", 2), value) for value in (10**9, -1, "x", 1.5)),
    (("random", "numpy", 0), "PCG64"),
    (("random", "numpy", 1), lambda x: x[1:]),
    (("random", "numpy", 1), lambda x: x - 2**40),
    (("random", "torch"), torch.zeros(7)),
    (("random", "cuda"), ["x"]),
    (("saved_model_file",), "other.pth"),
]


@pytest.fixture
def half_done(tmp_path, fit) -> dict[str, Any]:
    """The progress of a run that was stopped in its fourth epoch."""
    with pytest.raises(StoppedError):
        fit(tmp_path / "old", stop=3)
    return load_checkpoint(tmp_path / "old" / "a.progress")


def test_each_field_is_checked(tmp_path, half_done, make_trainer) -> None:
    folder = tmp_path / "new"
    folder.mkdir()
    path = folder / "a.progress"
    save_checkpoint(path, half_done)
    make_trainer(folder)[0].resume(path)  # as it was written
    for student in folder.glob("*.pth"):
        student.unlink()
    trainer, _ = make_trainer(folder)
    accepted, sentences = [], []
    for where, value in WRONG:
        save_checkpoint(path, changed(half_done, where, value))
        try:
            trainer.resume(path)
            accepted.append((where, value))
        except UserError as error:
            sentences.append(str(error))
    assert not accepted
    for sentence in sentences:
        assert sentence.startswith("resume: ")
        assert sentence.endswith("; delete the file, or set resume: False, to train from the start")
        assert "\n" not in sentence
        assert len(sentence.replace(str(folder), "saved")) <= 400
    assert not list(folder.glob("*.pth"))  # nothing was written


def test_progress_of_another_device_is_taken(tmp_path, half_done, make_trainer) -> None:
    """On a CPU Adam is fused here, elsewhere it is as torch has it."""
    groups = half_done["optimizer"]["param_groups"]
    assert groups[0]["fused"]
    groups[0]["fused"] = None
    save_checkpoint(tmp_path / "old" / "a.progress", half_done)
    trainer, _ = make_trainer(tmp_path / "old")
    trainer.resume(tmp_path / "old" / "a.progress")
    assert trainer.start_epoch == half_done["epoch"]


@pytest.mark.parametrize("name", sorted(FIELDS))
def test_each_field_is_needed(tmp_path, half_done, make_trainer, name) -> None:
    path = tmp_path / "old" / "a.progress"
    save_checkpoint(path, {key: value for key, value in half_done.items() if key != name})
    with pytest.raises(UserError, match=rf"a\.progress is no progress of this training \(it lacks '{name}'\)"):
        make_trainer(tmp_path / "old")[0].resume(path)


def test_a_progress_file_names_no_file(half_done) -> None:
    def texts(value: Any) -> list[str]:
        parts = list(value.values()) if isinstance(value, dict) else value if isinstance(value, (list, tuple)) else []
        return [text for part in parts for text in texts(part)] + ([value] if isinstance(value, str) else [])

    assert texts(half_done) == ["MT19937"]
