"""What is recorded is what happened, and recording changes nothing."""

from __future__ import annotations

import json
import math
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from recbole_hetcomp.commands import pipeline
from recbole_hetcomp.commands.pipeline import run_hetcomp
from recbole_hetcomp.config.errors import UserError
from recbole_hetcomp.knowledge import discrepancy
from recbole_hetcomp.report.recording import Curves, RecordedStudent
from recbole_hetcomp.report.records import finite
from recbole_hetcomp.report.schema import CURVES, FORMS, fits
from recbole_hetcomp.testing.interruption import interrupt
from recbole_hetcomp.trainer import progress_file


def run(settings: dict[str, Any], model: str = "HetCompStudent", **changes: Any) -> dict[str, Any]:
    given = {**settings, "without_distillation": False, **changes}
    return run_hetcomp(model, "toy", config_dict=given, arguments=())


def parameters(result: dict[str, Any]) -> list[torch.Tensor]:
    return list(result["model"].backbone.parameters())


def without_times(curves: dict[str, Any]) -> dict[str, Any]:
    timeless = {
        name: [{key: value for key, value in entry.items() if key != "seconds"} for entry in curves[name]]
        for name in ("epochs", "validations")
    }
    return {**curves, **timeless}


def test_every_record_is_what_the_page_of_the_schema_says(records) -> None:
    for kind, record in records.items():
        for name, form in FORMS[kind].items():
            assert fits(form)(record[name]), (kind, name)


def test_every_entry_of_the_schema_is_documented() -> None:
    page = (Path(__file__).parents[2] / "docs" / "report.md").read_text(encoding="utf-8")
    for kind, form in {**FORMS, "curves": CURVES}.items():
        assert f"`{kind}`" in page
        for name in form:
            assert f"`{name.lstrip('?')}`" in page, (kind, name)


def test_recording_changes_no_bit_of_the_student(moving, monkeypatch) -> None:
    recorded = run(moving)
    monkeypatch.setattr(pipeline, "recorded", lambda trainer_class: trainer_class)
    monkeypatch.setattr(pipeline, "curves_of", lambda trainer: None)
    monkeypatch.setattr("recbole_hetcomp.trainer.distillation.DistillationTrainer.watch", lambda *_: None, raising=False)
    plain = run({**moving, "checkpoint_dir": moving["checkpoint_dir"] + "-plain"})
    assert plain["curves"] is None
    assert all(map(torch.equal, parameters(recorded), parameters(plain)))
    assert recorded["test_result"] == plain["test_result"]


def test_the_curves_are_the_epochs_the_validations_and_the_switch(moving) -> None:
    result = run(moving)
    curves = result["curves"]
    assert fits(CURVES)(curves)
    assert [entry["epoch"] for entry in curves["epochs"]] == list(range(1, 13))
    assert [entry["epoch"] for entry in curves["validations"]] == list(range(1, 13))
    assert all(len(entry["loss"]) == 1 and entry["loss"][0] > 0 for entry in curves["epochs"])
    best = max(entry["score"] for entry in curves["validations"])
    assert best == pytest.approx(result["best_valid_score"], abs=1e-4)
    phases = [entry["phase"] for entry in curves["validations"]]
    switch = phases.index("fine-grained")
    assert phases == ["overall"] * switch + ["fine-grained"] * (12 - switch)
    over = next(i for i, entry in enumerate(curves["validations"]) if min(entry["stages"]) > 0.99)
    assert switch == over + 1  # the loss changes with the first epoch after the curriculum's end


def test_the_curriculum_never_goes_back_and_ends_at_the_last_checkpoint(moving) -> None:
    stages = [entry["stages"] for entry in run(moving)["curves"]["validations"]]
    assert all(len(entry) == 2 for entry in stages)
    assert all(after >= before for pair in zip(stages, stages[1:]) for before, after in zip(*pair))
    assert stages[0] == [0.0, 0.0]
    assert stages[-1] == [1.0, 1.0]


def test_distances_are_those_of_the_last_ranking_to_each_checkpoint(moving, monkeypatch) -> None:
    seen: dict[str, Any] = {}
    watch, ranking = RecordedStudent.watch, RecordedStudent._ranking

    def watching(trainer: RecordedStudent, pool: Any) -> None:
        seen["pool"] = pool
        watch(trainer, pool)

    def ranked(trainer: RecordedStudent, show_progress: bool) -> torch.Tensor:
        seen["ranked"] = ranking(trainer, show_progress)
        seen["users"] = trainer.model.history.active_users
        return seen["ranked"]

    monkeypatch.setattr(RecordedStudent, "watch", watching)
    monkeypatch.setattr(RecordedStudent, "_ranking", ranked)
    curves = run(moving)["curves"]
    users = seen["users"]
    for teacher, found in zip(seen["pool"].teachers, curves["validations"][-1]["distances"]):
        for stage, distance in enumerate(found):
            lists = teacher.trajectory.items[stage]
            lists = torch.nn.functional.pad(lists, (0, 50 - lists.size(1)))
            expected = discrepancy(seen["ranked"][users], lists[users], k=50, relevance="graded").mean()
            assert distance == pytest.approx(float(expected), abs=1e-4)
    assert [teacher["epochs"] for teacher in curves["teachers"]] == [[1, 1], [1, 2]]


def test_a_run_that_goes_on_has_the_curves_of_one_that_was_left_alone(moving, monkeypatch) -> None:
    monkeypatch.setattr(progress_file, "pause_after", lambda seconds: 0.0)
    whole = run({**moving, "checkpoint_dir": moving["checkpoint_dir"] + "-whole"})
    interrupt(partial(run, moving), after=7)
    folder = Path(moving["checkpoint_dir"])
    (kept,) = folder.glob("*.curves.json")
    assert 6 <= len(json.loads(kept.read_text(encoding="utf-8"))["epochs"]) <= 7
    earlier = json.loads(kept.read_text(encoding="utf-8"))
    said: list[str] = []
    monkeypatch.setattr(pipeline.console, "say", said.append)
    result = run(moving)
    assert without_times(result["curves"]) == without_times(whole["curves"])
    assert not list(folder.glob("*.curves.json"))
    assert result["epochs"] == whole["epochs"] == len(whole["curves"]["epochs"])
    told = [line.partition(" in ")[0] for line in said if line.startswith("trained")]
    assert told == [f"trained {whole['epochs']} epochs"]
    assert result["train_seconds"] >= sum(entry["seconds"] for entry in result["curves"]["epochs"])
    assert result["curves"]["epochs"][0]["seconds"] == earlier["epochs"][0]["seconds"]


def test_a_run_of_clicks_that_goes_on_has_all_its_curves(clicks, monkeypatch) -> None:
    monkeypatch.setattr(progress_file, "pause_after", lambda seconds: 0.0)
    settings = {**clicks, "teachers": ["FM"], "distil_epochs": 3, "epochs": 6, "stopping_step": 100}
    train = partial(run_hetcomp, "KDDAGFMStudent", "clicks", config_dict=settings, arguments=(), compare=False)
    interrupt(train, after=4)
    (kept,) = Path(settings["checkpoint_dir"]).glob("*.curves.json")
    curves = train()["curves"]
    assert [entry["epoch"] for entry in curves["epochs"]] == list(range(1, 7))
    assert [entry["phase"] for entry in curves["validations"]] == ["distillation"] * 3 + ["finetuning"] * 3
    assert not kept.exists()


def test_curves_that_are_damaged_are_one_sentence_with_the_remedy(moving, monkeypatch) -> None:
    monkeypatch.setattr(progress_file, "pause_after", lambda seconds: 0.0)
    interrupt(partial(run, moving), after=3)
    (kept,) = Path(moving["checkpoint_dir"]).glob("*.curves.json")
    kept.write_text('{"epochs": 1}', encoding="utf-8")
    with pytest.raises(UserError, match=r"curves.json.*delete the file"):
        run(moving)
    kept.unlink()
    assert run(moving)["curves"]["epochs"][-1]["epoch"] == 12


@pytest.mark.parametrize("model", ["BPR", "MultiVAE", "EASE", "ItemKNN"])
def test_recboles_models_have_curves_and_keep_their_numbers(settings, model) -> None:
    curves = run_hetcomp(model, "toy", config_dict=settings, arguments=())["curves"]
    assert fits(CURVES)(curves)
    assert curves["epochs"]
    assert curves["validations"][-1]["phase"] == ""


@pytest.mark.parametrize(
    ("model", "parts", "staged"),
    [("RRDStudent", 2, False), ("FitNetStudent", 2, False), ("CompositeStudent", 2, True), ("MTDStudent", 2, False)],
)
def test_methods_with_a_base_loss_record_both_parts(settings, model, parts, staged) -> None:
    changes: dict[str, Any] = {"methods": {"RRD": 0.1, "DE": 0.1}, "curriculum": True} if staged else {}
    curves = run(settings, model, **changes)["curves"]
    assert all(len(entry["loss"]) == parts for entry in curves["epochs"])
    assert all(("stages" in entry) == staged for entry in curves["validations"])
    assert all(len(entry["distances"]) == 2 for entry in curves["validations"])


def test_teachers_that_are_files_have_curves_too(settings, tmp_path) -> None:
    lines = [f"u{user},i{(user + rank) % 80},{rank}" for user in range(60) for rank in range(1, 6)]
    (tmp_path / "mine.csv").write_text("user,item,rank\n" + "\n".join(lines) + "\n", encoding="utf-8")
    curves = run(settings, teachers=["BPR", str(tmp_path / "mine.csv")])["curves"]
    assert [len(found) for found in curves["validations"][0]["distances"]] == [2, 1]
    assert curves["teachers"][1]["scores"] == [None]
    assert (Path(settings["checkpoint_dir"]) / "report.html").is_file()


def test_numbers_that_json_does_not_have_become_nothing() -> None:
    assert finite({"a": [math.nan, 1.0, (math.inf, "x")]}) == {"a": [None, 1.0, [None, "x"]]}
    json.dumps(finite({"a": -math.inf}), allow_nan=False)


def test_curves_begin_empty(tmp_path: Path) -> None:
    curves = Curves("Recall@10", True)
    curves.go_on_from(tmp_path / "none.json", 5)
    curves.save(tmp_path / "some.json")
    assert fits(CURVES)(json.loads((tmp_path / "some.json").read_text(encoding="utf-8")))
