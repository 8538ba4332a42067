"""`hetcomp tune-teachers`: what it prints, what it leaves, and what it says of bad input."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest

from recbole_hetcomp.cli import main
from recbole_hetcomp.commands import teacher_tuning
from recbole_hetcomp.config.errors import UserError
from recbole_hetcomp.quick_start import run_hetcomp, tune_teachers
from recbole_hetcomp.teacher_training import search

QUICK = {"epochs": 2, "eval_step": 1, "train_batch_size": 256}


@pytest.fixture
def quick(settings) -> dict[str, Any]:
    """Two teachers and MF, two epochs each."""
    teachers = {"all": {**QUICK, "embedding_size": 8}}
    return {**settings, "teacher_config": teachers, "without_distillation_config": QUICK, "state": "INFO"}


@pytest.fixture
def flags(quick) -> list[str]:
    return ["tune-teachers", "--dataset=toy", *(f"--{key}={value}" for key, value in quick.items())]


def refused(capsys, arguments: list[str]) -> str:
    """The one sentence with which the command line refuses `arguments`, before any data are read."""
    capsys.readouterr()
    assert main(arguments) == 2
    out, err = capsys.readouterr()
    assert "Traceback" not in out + err
    (line,) = [line for line in err.splitlines() if line.startswith("hetcomp: ")]
    return line


@pytest.fixture
def no_work(monkeypatch) -> None:
    monkeypatch.setattr(teacher_tuning, "make_split", lambda *_: pytest.fail("work has begun"))


def test_it_searches_prints_a_table_and_leaves_its_files(capsys, flags, quick) -> None:
    pytest.importorskip("optuna")
    assert main([*flags, "--tune=2"]) == 0
    out, err = capsys.readouterr()
    assert "searches on toy, validation part" in out
    folders = sorted((Path(quick["checkpoint_dir"]) / "tuned").iterdir())
    assert [folder.name.split("-")[0] for folder in folders] == ["BPR", "LightGCN", "MF"]
    titles = {"BPR": "teacher BPR", "LightGCN": "teacher LightGCN", "MF": "MF without distillation"}
    for folder in folders:
        assert sorted(path.name for path in folder.iterdir()) == ["found.json", "trials.json", "trials.log"]
        found, trials = (json.loads((folder / f"{name}.json").read_text()) for name in ("found", "trials"))
        assert len(trials) == found["trials"] == 2
        assert found["score"] == max(trial["score"] for trial in trials) >= found["first_score"] == trials[0]["score"]
        title = titles[folder.name.split("-")[0]]
        (row,) = [line for line in out.splitlines() if title in line and "|" in line]
        cells = [cell.strip() for cell in row.strip("| ").split("|")]
        assert cells[:4] == [title, f"{found['score']:.4f}", f"{found['first_score']:.4f}", "2"]
        assert f"learning_rate {found['settings']['learning_rate']}" in cells[-1]
        told = rf"^{title}: 2 trials in \d+ s, 0 ended early; best validation Recall@10 {found['score']:.4f}, "
        assert len(re.findall(told, err, re.MULTILINE)) == 1
        assert str(folder) in out + err
    assert not (Path(quick["checkpoint_dir"]) / "trained").exists()  # nothing is trained but trials


def test_what_only_the_distilled_student_trains_by_is_said_to_be_of_no_use(quick, monkeypatch, caplog) -> None:
    def stop(*_: object) -> None:
        raise UserError("stop here")

    monkeypatch.setattr(teacher_tuning, "make_split", stop)
    rest = {key: value for key, value in quick.items() if key not in teacher_tuning.OF_THE_DISTILLED}
    for given, said in (({"epochs": 9, "learning_rate": 0.1}, ["epochs, learning_rate"]), ({}, [])):
        caplog.clear()
        with pytest.raises(UserError, match="stop here"):
            tune_teachers(dataset="toy", config_dict={**rest, **given})
        lines = [record.getMessage() for record in caplog.records]
        assert [line.partition(": not used, for")[0] for line in lines if ": not used, for" in line] == said


def test_python_gets_what_was_found(quick, monkeypatch) -> None:
    pytest.importorskip("optuna")
    found = tune_teachers(dataset="toy", config_dict={**quick, "tune": 2, "teachers": ["BPR", "EASE"]})
    assert list(found) == ["teacher BPR", "MF without distillation"]
    for result in found.values():
        assert result["trials"] == 2
        assert result["score"] >= result["first_score"]
    monkeypatch.setattr(search, "fit_recorded", lambda *_, **__: pytest.fail("a trial"))
    assert tune_teachers(dataset="toy", config_dict={**quick, "tune": 2, "teachers": ["BPR", "EASE"]}) == found


def test_without_a_number_there_are_twelve_trials(quick, monkeypatch) -> None:
    pytest.importorskip("optuna")
    asked = []
    monkeypatch.setattr(teacher_tuning, "tune", lambda config, _: asked.append(config["tune"]))
    monkeypatch.setattr(teacher_tuning, "_shown", lambda *_: {})
    for more in ({}, {"tune": 3}):
        tune_teachers(dataset="toy", config_dict={**quick, **more})
    assert asked == [12, 3]


def test_a_model_that_is_not_distilled_may_be_searched_too(quick) -> None:
    pytest.importorskip("optuna")
    found = tune_teachers("BPR", "toy", config_dict={**quick, "tune": 1})
    assert list(found) == ["BPR"]


def test_sequential_teachers_and_students_are_searched_and_the_next_run_has_what_was_found(quick, capsys) -> None:
    pytest.importorskip("optuna")
    small = {"hidden_size": 8, "inner_size": 8, "n_heads": 1}
    ours = {
        **quick,
        "load_col": {"inter": ["user_id", "item_id", "timestamp"]},
        "MAX_ITEM_LIST_LENGTH": 5,
        "student": "GRU4Rec",
        "teachers": ["SASRec", "BPR"],
        "teacher_config": {"all": {"epochs": 2, "eval_step": 1}, "SASRec": small},
        "without_distillation_config": {"epochs": 2, "eval_step": 1},
    }
    found = tune_teachers("HetCompStudent", "toy", config_dict={**ours, "tune": 2})
    assert list(found) == ["teacher SASRec", "teacher BPR", "GRU4Rec without distillation"]
    assert all(result["trials"] == 2 for result in found.values())
    assert set(found["teacher SASRec"]["settings"]) == {"learning_rate", "hidden_dropout_prob", "train_batch_size"}
    capsys.readouterr()
    run_hetcomp("HetCompStudent", "toy", config_dict={**ours, "epochs": 1}, arguments=())
    said = [line.partition(": as found by a search of 2 trials: ") for line in capsys.readouterr().err.splitlines()]
    assert {title for title, found_by, _ in said if found_by} == set(found)


def test_models_without_a_space_are_one_sentence(quick) -> None:
    pytest.importorskip("optuna")
    with pytest.raises(UserError, match=r"^tune: no model of this run has a search space; write one, properties/space/"):
        tune_teachers("Pop", "toy", config_dict={**quick, "tune": 1})


@pytest.mark.usefixtures("no_work")
def test_without_optuna_it_says_how_to_get_it(capsys, flags, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    line = refused(capsys, [*flags, "--tune=2"])
    assert line == "hetcomp: tune: Optuna 4.0 or newer is not installed; run `pip install 'recbole_hetcomp[tune]'`"
    assert refused(capsys, flags) == line  # twelve trials need it as well


@pytest.mark.usefixtures("no_work")
@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--tune=-1"], "tune: -1 must be a whole number of at least 0 or nothing"),
        (["--tune=x"], "tune: 'x' must be a whole number of at least 0 or nothing"),
        (["--tune=2.5"], "tune: 2.5 must be a whole number of at least 0 or nothing"),
        (["--tune=0"], "tune: 0 trials find nothing; write --tune=12, or leave it out"),
        (["--tune_users=0"], "tune_users: 0 must be a whole number of at least 1 or nothing"),
        (["--tunes=3"], "tunes: nothing reads a setting of this name; did you mean 'tune'"),
        (["--model=HetCompStudnt"], "no model named 'HetCompStudnt'; did you mean 'HetCompStudent'"),
        (["--teachers=['BRP']", "--teacher_config={}"], "teachers: there is no model named 'BRP'; did you mean 'BPR'"),
        (["--modle=BPR"], "did you mean --model?"),
    ],
)
def test_bad_input_is_one_sentence_before_any_work(capsys, flags, arguments, sentence) -> None:
    kept = [flag for flag in flags if flag.partition("=")[0] not in [given.partition("=")[0] for given in arguments]]
    assert sentence in refused(capsys, [*kept, *arguments])


def test_interrupted_it_says_so_and_the_next_command_goes_on(capsys, flags, monkeypatch) -> None:
    pytest.importorskip("optuna")
    fit, begun = search.fit_recorded, []

    def interrupted(config: Any, *arguments: Any, **named: Any) -> Any:
        begun.append(config.model)
        if len(begun) == 2:
            raise KeyboardInterrupt
        return fit(config, *arguments, **named)

    monkeypatch.setattr(search, "fit_recorded", interrupted)
    arguments = [*(flag for flag in flags if not flag.startswith("--teachers=")), "--teachers=['BPR']", "--tune=2"]
    assert main(arguments) == 130
    assert "interrupted" in capsys.readouterr().err
    assert main(arguments) == 0
    assert begun == ["BPR"] * 3 + ["MF"] * 2  # the trial that was interrupted, once more
