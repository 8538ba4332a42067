"""Search by RecBole's HyperTuning."""

from __future__ import annotations

import importlib.util
import sys
import types
from functools import partial
from pathlib import Path

import pytest

from recbole_hetcomp.cli import main
from recbole_hetcomp.commands.tuning import Search, objective_function, tune
from recbole_hetcomp.config.errors import UserError
from recbole_hetcomp.quick_start import run_hetcomp

KEYS = {"model", "best_valid_score", "valid_score_bigger", "best_valid_result", "test_result"}


def arguments(settings) -> list[str]:
    fast = {**settings, "without_distillation": False}
    return [f"--{key}={value}" for key, value in fast.items()]


@pytest.fixture
def hyperopt_in_name(monkeypatch):
    """What HyperTuning takes from hyperopt besides its search, where hyperopt is not installed."""
    module, stop = types.ModuleType("hyperopt"), types.ModuleType("hyperopt.early_stop")
    module.STATUS_OK, stop.no_progress_loss = "ok", lambda rounds: None
    monkeypatch.setitem(sys.modules, "hyperopt", module)
    monkeypatch.setitem(sys.modules, "hyperopt.early_stop", stop)


def test_a_trial_gives_what_hypertuning_reads(settings):
    found = objective_function(
        {"learning_rate": 0.01}, None, model="HetCompStudent", dataset="toy", arguments=arguments(settings)
    )
    assert set(found) == KEYS
    assert found["model"] == "HetCompStudent"
    expected = run_hetcomp(
        "HetCompStudent",
        "toy",
        config_dict={**settings, "without_distillation": False, "learning_rate": 0.01},
        arguments=(),
    )
    assert found["best_valid_score"] == expected["best_valid_score"]
    assert dict(found["test_result"]) == dict(expected["test_result"])


@pytest.mark.parametrize("model", ["BPR", "GRU4Rec"])
def test_a_trials_setting_reaches_the_training(settings, model):
    columns = {"load_col": {"inter": ["user_id", "item_id", "timestamp"]}, "MAX_ITEM_LIST_LENGTH": 5}
    given = arguments({**settings, **(columns if model == "GRU4Rec" else {})})
    scores = [
        objective_function({"learning_rate": rate}, None, model=model, dataset="toy", arguments=given)
        for rate in (1e-6, 0.1)
    ]
    assert scores[0]["best_valid_result"] != scores[1]["best_valid_result"]


def test_teachers_are_trained_in_the_first_trial_alone(settings, monkeypatch):
    from recbole_hetcomp.teacher_training import training

    names = []
    fit = training.fit_recorded
    monkeypatch.setattr(
        training, "fit_recorded", lambda config, *rest, **named: names.append(config.model) or fit(config, *rest, **named)
    )
    for rate in (0.01, 0.1):
        objective_function(
            {"learning_rate": rate}, None, model="HetCompStudent", dataset="toy", arguments=arguments(settings)
        )
    assert names == ["BPR", "LightGCN"]


def test_it_drives_a_trial_of_recboles_hypertuning(settings, hyperopt_in_name, tmp_path):
    from recbole.trainer import HyperTuning

    trial = partial(objective_function, model="BPR", dataset="toy", arguments=arguments(settings))
    search = HyperTuning(trial, space={"learning_rate": None}, algo=lambda *_: None)
    losses = [search.trial({"learning_rate": rate})["loss"] for rate in (1e-6, 0.1)]
    results = list(search.params2result.values())
    assert losses == [-result["best_valid_score"] for result in results]
    assert search.best_score == max(result["best_valid_score"] for result in results)
    search.export_result(str(tmp_path / "tuning.txt"))
    assert "learning_rate:0.1" in (tmp_path / "tuning.txt").read_text()


def test_exhaustive_search_over_two_values_finds_the_better(settings, tmp_path, capsys):
    pytest.importorskip("hyperopt")
    (tmp_path / "space.txt").write_text("learning_rate choice [1e-6,0.1]\n")
    search = Search(str(tmp_path / "space.txt"), str(tmp_path / "out.txt"), "exhaustive", "10")
    best = tune("BPR", "toy", None, search, arguments(settings))
    text = (tmp_path / "out.txt").read_text()
    assert text.count("Valid result") == 2
    scores = {
        rate: objective_function({"learning_rate": rate}, None, model="BPR", dataset="toy", arguments=arguments(settings))[
            "best_valid_score"
        ]
        for rate in (1e-6, 0.1)
    }
    assert scores[best["learning_rate"]] == max(scores.values())
    assert "best settings" in capsys.readouterr().out


@pytest.mark.skipif(importlib.util.find_spec("hyperopt") is not None, reason="hyperopt is installed")
def test_without_hyperopt_it_says_how_to_get_it(capsys, tmp_path):
    (tmp_path / "space.txt").write_text("learning_rate choice [0.01,0.1]\n")
    assert main(["tune", "--model=BPR", f"--params_file={tmp_path / 'space.txt'}"]) == 2
    assert "pip install hyperopt==0.2.5" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [(["--algo=best"], "algo: 'best' is none of exhaustive, random, bayes"), (["--max_evals=x"], "max_evals: 'x'")],
)
def test_a_wrong_flag_is_one_sentence(capsys, tmp_path: Path, flags, sentence):
    (tmp_path / "space.txt").write_text("learning_rate choice [0.01,0.1]\n")
    assert main(["tune", "--model=BPR", f"--params_file={tmp_path / 'space.txt'}", *flags]) == 2
    err = capsys.readouterr().err
    assert sentence in err
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("learning_rate chose [0.1]", "'chose' in 'learning_rate chose \\[0.1\\]' is none of choice, uniform"),
        ("learning_rat choice [0.1]", "no setting 'learning_rat'; did you mean 'learning_rate'"),
        ("learning_rate choice __import__('os').getcwd()", "is not like"),
        ("learning_rate uniform 1", "is not like"),
        ("learning_rate quniform 1,2", "is not like"),
        ("learning_rate", "is not like"),
        ("", "is empty"),
    ],
)
def test_a_search_space_that_cannot_be_searched_is_one_sentence(settings, tmp_path, line, sentence):
    pytest.importorskip("hyperopt")
    (tmp_path / "space.txt").write_text(line + "\n")
    with pytest.raises(UserError, match=sentence):
        tune("BPR", "toy", None, Search(str(tmp_path / "space.txt"), "out.txt", "exhaustive", "10"), arguments(settings))


def test_a_folder_for_the_trials_that_is_not_there_is_one_sentence_before_any_trial(tmp_path) -> None:
    (tmp_path / "space.txt").write_text("learning_rate choice [0.1]\n")
    with pytest.raises(UserError, match=r"^output_file: .*missing/trials\.txt' lies in no folder that there is; make it"):
        Search(str(tmp_path / "space.txt"), str(tmp_path / "missing" / "trials.txt"), "exhaustive", "1").check()
