"""`hetcomp anomalies`: a whole CSV file in the data's own tokens, and what it refuses before any training."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
import torch

from recbole_hetcomp import console
from recbole_hetcomp.cli import main
from recbole_hetcomp.commands.anomalies import find_anomalies
from recbole_hetcomp.config.errors import UserError
from recbole_hetcomp.files import atomic
from recbole_hetcomp.model.distilled_recommender.reversestudent import SIDES
from recbole_hetcomp.model.one_class import restoration_errors
from recbole_hetcomp.quick_start import run_hetcomp
from recbole_hetcomp.teachers.vectors import EntityVectors
from recbole_hetcomp.testing.interruption import interrupt
from recbole_hetcomp.testing.results import same
from recbole_hetcomp.trainer import progress_file
from recbole_hetcomp.trainer.distillation import DistillationTrainer

STRANGE = 'odd, "quoted" NA'


@pytest.fixture
def fast(settings) -> dict[str, object]:
    """Settings of a training of an epoch."""
    return {**settings, "epochs": 1, "embedding_size": 4, "teacher_rank": 8}


def rows_of(path: Path) -> list[dict[str, str]]:
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_it_writes_all_users_and_items_of_the_training_set_in_their_own_tokens_the_oddest_first(fast, toy) -> None:
    for name, end in (("toy.inter", "\t"), ("toy.user", "\n")):
        file = Path(toy) / "toy" / name
        file.write_text(file.read_text(encoding="utf-8").replace(f"u7{end}", f"{STRANGE}{end}"), encoding="utf-8")
    found = find_anomalies("odd.csv", None, "toy", None, fast, ())
    rows = rows_of(Path("odd.csv"))
    assert list(rows[0]) == ["kind", "token", "anomaly", "interactions", "BPR", "LightGCN"]
    assert [row["kind"] for row in rows] == sorted((row["kind"] for row in rows), reverse=True)
    assert {row["token"] for row in rows if row["kind"] == "user"} == {*(f"u{n}" for n in range(60) if n != 7), STRANGE}
    assert not {"cold", "unseen", "[PAD]"} & {row["token"] for row in rows}
    for kind in ("user", "item"):
        scores = [float(row["anomaly"]) for row in rows if row["kind"] == kind]
        assert scores == sorted(scores, reverse=True)
        assert len(set(scores)) > 10
    for row, one in zip(rows, found):
        assert (row["kind"], row["token"], int(row["interactions"])) == (one.kind, one.token, one.interactions)
        assert float(row["anomaly"]) == pytest.approx(float(row["BPR"]) + float(row["LightGCN"]), abs=2e-6)
    users = sum(int(row["interactions"]) for row in rows if row["kind"] == "user")
    assert users == sum(int(row["interactions"]) for row in rows if row["kind"] == "item") > 0


def test_what_a_teacher_does_not_know_is_an_empty_cell_and_what_nobody_knows_comes_last(fast) -> None:
    known = {"one": range(1, 30), "two": range(20, 50)}
    for name, ids in known.items():
        tokens = [f"u{n}" for n in ids], [f"i{n}" for n in ids]
        EntityVectors(*torch.randn(2, len(ids), 6).unbind(), *tokens).save(f"{name}.safetensors")
    found = find_anomalies("odd.csv", None, "toy", None, {**fast, "teachers": [f"{name}.safetensors" for name in known]}, ())
    rows = rows_of(Path("odd.csv"))
    columns = list(rows[0])[4:]
    assert [column.rpartition("/")[2].removesuffix(".safetensors") for column in columns] == sorted(known)
    for row, one in zip(rows, found):
        cells = [row[column] for column in columns]
        assert [bool(cell) for cell in cells] == [int(row["token"][1:]) in ids for ids in known.values()]
        errors = [float(cell) for cell in cells if cell]
        assert (one.anomaly is None) == (not errors)
        assert (
            row["anomaly"] == ""
            if not errors
            else float(row["anomaly"]) == pytest.approx(2 * sum(errors) / len(errors), abs=4e-6)
        )
    for kind in ("user", "item"):
        scores = [float(row["anomaly"] or "-inf") for row in rows if row["kind"] == kind]
        assert scores == sorted(scores, reverse=True)
        assert scores[-1] == float("-inf") < scores[0]


def test_a_file_that_is_there_is_replaced_and_said_to_be(fast, monkeypatch) -> None:
    flags = [f"--{key}={value}" for key, value in fast.items()]
    command = ["anomalies", "--dataset=toy", "--output=odd.csv", *flags]
    for word in ("the oddest first, in odd.csv", "odd.csv, whose old content is replaced"):
        said: list[str] = []
        monkeypatch.setattr(console, "say", said.append)
        assert main(command) == 0
        assert word in said[-1]
        assert ("replaced" in said[-1]) == ("replaced" in word)
    assert not list(Path().glob(".odd.csv*"))


def test_a_write_that_fails_leaves_the_old_file(fast, monkeypatch) -> None:
    Path("odd.csv").write_text("old", encoding="utf-8")
    replace = atomic.os.replace

    def full(source, target):
        if Path(target).name == "odd.csv":
            raise OSError(28, "No space left on device")
        replace(source, target)

    monkeypatch.setattr(atomic.os, "replace", full)
    with pytest.raises(OSError, match="No space"):
        find_anomalies("odd.csv", None, "toy", None, fast, ())
    assert Path("odd.csv").read_text(encoding="utf-8") == "old"


REFUSED = {
    "model": ({"model": "HetCompStudent"}, {}, "model: HetCompStudent restores no teacher's vectors"),
    "weight": ({}, {"distillation_weight": 0.0}, "distillation_weight: 0.0 trains no decoder"),
    "inner weight": ({}, {"restore_weight": 0.0}, "restore_weight: 0.0 trains no decoder"),
    "folder": ({"output": "."}, {}, "output: '.' is a folder; name a file"),
    "no such folder": ({"output": "no/odd.csv"}, {}, "output: 'no/odd.csv' cannot be written (No such file"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_gives_no_file_is_refused_before_any_training(fast, case) -> None:
    given, settings, sentence = REFUSED[case]
    with pytest.raises(UserError) as error:
        find_anomalies(**{"dataset": "toy", "config_dict": {**fast, **settings}, "arguments": (), **given})
    assert error.value.sentence.startswith(sentence)
    assert len(error.value.sentence) <= 400
    assert not (Path("saved") / "trained").exists()


SCORES = (0.1, 0.9, 0.3, 0.2)  # of the epochs: the second one is the best


@pytest.fixture
def watched(monkeypatch) -> dict[int, dict[str, torch.Tensor]]:
    """Validations have SCORES; what the decoders make of the codes at each of them, by epoch."""
    seen: dict[int, dict[str, torch.Tensor]] = {}
    validate = DistillationTrainer._valid_epoch

    def validated(trainer, data, show_progress=False):
        validate(trainer, data, show_progress)
        model, epoch = trainer.model, max(trainer.train_loss_dict)
        with torch.no_grad():
            seen[epoch] = {
                side: restoration_errors(model.teacher[side], model.auxiliary[side](model.codes(side)), model.sizes)
                for side in SIDES
            }
        return SCORES[epoch], {"recall@10": SCORES[epoch]}

    monkeypatch.setattr(DistillationTrainer, "_valid_epoch", validated)
    monkeypatch.setattr(progress_file, "pause_after", lambda seconds: 0.0)
    return seen


def run_of_four_epochs(fast, folder: str, **settings):
    given = {**fast, "epochs": 4, "learning_rate": 0.02, "checkpoint_dir": folder, **settings}
    return run_hetcomp("ReverseStudent", "toy", config_dict=given, arguments=(), compare=False)


def test_anomalies_are_those_of_the_student_that_is_kept(fast, watched) -> None:
    """Of the best epoch, as its tables are, though the training went on."""
    result = run_of_four_epochs(fast, "saved")
    model = result["model"]
    assert list(watched) == [0, 1, 2, 3]
    for side in SIDES:
        assert torch.equal(model.anomalies[side], watched[1][side])
        assert not torch.allclose(model.anomalies[side], watched[3][side], atol=1e-4)
    best = torch.load(result["checkpoint"], weights_only=True)
    assert best["epoch"] == 1
    assert same({f"backbone.{name}": rows for name, rows in model.backbone.state_dict().items()}, best["state_dict"])


def test_where_the_last_student_is_kept_they_are_of_the_last(fast, watched) -> None:
    given = {**fast, "epochs": 4, "learning_rate": 0.02}
    model = run_hetcomp("ReverseStudent", "toy", config_dict=given, arguments=(), saved=False, compare=False)["model"]
    assert all(torch.equal(model.anomalies[side], watched[3][side]) for side in SIDES)


def test_a_resumed_run_has_the_anomalies_of_a_best_epoch_before_its_interruption(fast, watched) -> None:
    whole = run_of_four_epochs(fast, "whole")
    interrupt(lambda: run_of_four_epochs(fast, "stopped"), after=4)
    watched.clear()
    again = run_of_four_epochs(fast, "stopped")
    assert list(watched) == [3]  # the best epoch was before
    assert same(again["model"].anomalies, whole["model"].anomalies)
    assert same(again["model"].state_dict(), whole["model"].state_dict())


@pytest.mark.parametrize("change", ["a side less", "a user less", "a teacher more", "known", "type"])
def test_anomalies_of_other_data_are_refused(fast, change) -> None:
    model = run_of_four_epochs(fast, "saved", epochs=1)["model"]
    state = model.distillation_state()
    model.load_distillation_state(state)
    errors = state["anomalies"]["user"]
    state["anomalies"]["user"] = {
        "a user less": errors[1:],
        "a teacher more": errors[:, [0, 0, 1]],
        "known": errors.index_fill(0, torch.tensor([2]), torch.nan),
        "type": errors.double(),
    }.get(change, errors)
    if change == "a side less":
        del state["anomalies"]["item"]
    with pytest.raises(ValueError, match="anomalies are not of these users"):
        model.load_distillation_state(state)
