"""The whole way on a small dataset: teachers, student, comparison; found again, resumed by nothing, switched off."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from recbole_hetcomp.config.errors import UserError
from recbole_hetcomp.config.registry import properties_dir
from recbole_hetcomp.quick_start import run_hetcomp
from recbole_hetcomp.teachers import Trajectory

RECBOLES_KEYS = {"best_valid_score", "valid_score_bigger", "best_valid_result", "test_result"}
METRICS = {"recall@5", "recall@10", "ndcg@5", "ndcg@10"}


def run(
    settings: dict[str, Any], model: str = "HetCompStudent", files: list[str] | None = None, saved: bool = True, **more: Any
):
    return run_hetcomp(model, "toy", files, {**settings, **more}, saved, arguments=())


def parameters(result: dict[str, Any]) -> dict[str, torch.Tensor]:
    return result["model"].state_dict()


def equal(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> bool:
    return found.keys() == expected.keys() and all(torch.equal(found[name], value) for name, value in expected.items())


@pytest.fixture
def trainings(monkeypatch):
    """The models that are trained to be kept, in order."""
    from recbole_hetcomp.teacher_training import training

    names = []
    fit = training.fit_recorded
    monkeypatch.setattr(
        training, "fit_recorded", lambda config, *rest, **named: names.append(config.model) or fit(config, *rest, **named)
    )
    return names


def test_a_run_gives_recboles_keys_and_a_comparison_of_all_roles(settings, trainings):
    result = run(settings, teachers=["BPR", "LightGCN", "ItemKNN"], teacher_config={"BPR": {"epochs": 2}})
    assert set(result) >= RECBOLES_KEYS
    assert result["valid_score_bigger"] is True
    assert set(result["test_result"]) == METRICS
    assert trainings == ["BPR", "LightGCN", "ItemKNN", "MF"]
    rows = result["comparison"]
    roles = [(row["role"], row["model"]) for row in rows]
    assert roles == [
        ("teacher", "BPR"),
        ("teacher", "LightGCN"),
        ("teacher", "ItemKNN"),
        ("ensemble", "3 teachers"),
        ("student without distillation", "MF"),
        ("student", "HetCompStudent (MF)"),
    ]
    for row in rows:
        assert set(row) >= METRICS | {"params", "size_mb", "ms_per_1000_users"}
        assert all(0 <= row[name] <= 1 for name in METRICS)
        assert row["ms_per_1000_users"] > 0
    assert rows[3]["params"] == sum(row["params"] for row in rows[:3])
    student, alone = rows[5], rows[4]
    assert student["params"] == alone["params"] == 8 * (62 + 82)
    assert {name: student[name] for name in METRICS} == pytest.approx(dict(result["test_result"]), abs=1e-4)
    assert 0 <= student["fidelity"] <= 1
    assert student["retention"]["recall@10"] == pytest.approx(student["recall@10"] / rows[3]["recall@10"])


def test_comparison_is_saved_beside_the_checkpoint(settings):
    result = run(settings)
    folder = Path(result["checkpoint"]).parent
    content = json.loads((folder / "comparison.json").read_text())
    assert [row["role"] for row in content["rows"]] == [row["role"] for row in result["comparison"]]
    assert (content["dataset"], content["seed"], content["checkpoint"]) == ("toy", 11, result["checkpoint"])
    table = (folder / "comparison.md").read_text().splitlines()
    assert len(table) == 2 + len(content["rows"])
    assert "retention recall@10" in table[0]


def test_second_run_trains_no_teacher_and_gives_the_same_student(settings, trainings):
    first = run(settings)
    assert trainings == ["BPR", "LightGCN", "MF"]
    second = run(settings)
    assert trainings == ["BPR", "LightGCN", "MF"]
    assert equal(parameters(second), parameters(first))
    assert second["test_result"] == first["test_result"]
    assert not list(Path(settings["checkpoint_dir"]).glob("*.progress"))


def test_only_what_changed_is_trained_anew(settings, trainings):
    run(settings)
    del trainings[:]
    run(settings, teacher_config={**settings["teacher_config"], "LightGCN": {"n_layers": 1}})
    assert trainings == ["LightGCN"]


def test_unsaved_run_tests_the_last_epoch_and_leaves_no_checkpoint(settings):
    result = run(settings, saved=False)
    assert result["checkpoint"] is None
    assert set(result["test_result"]) == METRICS
    assert not list(Path(settings["checkpoint_dir"]).glob("*.pth"))
    assert not list(Path(settings["checkpoint_dir"]).glob("*.progress"))
    assert result["comparison"][-1]["role"] == "student"


def test_one_teacher_is_an_ensemble_of_one(settings):
    rows = run(settings, teachers=["LightGCN"], without_distillation=False)["comparison"]
    assert [row["role"] for row in rows] == ["teacher", "ensemble", "student"]


def test_base_loss_is_added(settings):
    with_base, without = (run(settings, base_loss_weight=weight, without_distillation=False) for weight in (0.5, 0.0))
    assert not equal(parameters(with_base), parameters(without))


def test_switching_the_comparison_off_does_not_change_the_student(settings):
    with_, without = (run(settings, without_distillation=switch) for switch in (True, False))
    assert equal(parameters(with_), parameters(without))


@pytest.mark.parametrize("preset", ["official", "submission"])
def test_presets_run(settings, preset):
    """What the preset says holds unless the user says otherwise; the number of epochs is all that is cut here."""
    for key in ("embedding_size", "train_batch_size", "eval_step"):
        settings.pop(key)
    file = str((properties_dir() / "presets" / f"{preset}.yaml").resolve())
    result = run({**settings, "epochs": 10}, files=[file], without_distillation=False)
    model = result["model"]
    assert model.config["loss_reduction"] == "sum"
    assert model.config["weight_decay"] == 1e-5
    assert model.backbone.user_embedding.embedding_dim == 6
    assert model.lists.targets.size(1) == 100
    assert model.training_entities is None
    assert set(result["test_result"]) == METRICS


def test_any_recbole_model_can_be_the_student(settings):
    result = run(settings, student="LightGCN", n_layers=1)
    assert [row["model"] for row in result["comparison"][-2:]] == ["LightGCN", "HetCompStudent (LightGCN)"]
    assert type(result["model"].backbone).__name__ == "LightGCN"
    assert result["model"].backbone.n_layers == 1


def test_student_without_distillation_is_the_same_model(settings):
    rows = run(settings, student="DL", mlp_hidden_size=[4], embedding_size=4)["comparison"]
    assert rows[-1]["params"] == rows[-2]["params"]


@pytest.mark.parametrize("model", ["BPR", "MF", "CML"])
def test_a_model_that_is_not_distilled_runs_as_recbole_runs_it(settings, model, trainings):
    result = run(settings, model)
    assert set(result) >= RECBOLES_KEYS
    assert "comparison" not in result
    assert trainings == []
    assert Path(result["checkpoint"]).is_file()


def test_recboles_model_gives_recboles_numbers(settings):
    """Same seed and protocol as RecBole's own quick start, and the same result to the last digit."""
    from recbole.quick_start import run_recbole

    protocol = {
        "eval_args": {"split": {"RS": [0.6, 0.2, 0.2]}, "group_by": "user", "order": "RO", "mode": "full"},
        "metrics": ["Recall", "NDCG"],
        "eval_batch_size": 4096,
    }
    ours = run({**settings, **protocol}, "BPR")
    own = ("teachers", "teacher_config", "trajectory_depth", "trajectory_fractions", "without_distillation_config")
    theirs = run_recbole("BPR", "toy", config_dict={**{k: v for k, v in settings.items() if k not in own}, **protocol})
    assert dict(ours["test_result"]) == dict(theirs["test_result"])
    assert ours["best_valid_score"] == theirs["best_valid_score"]


def test_bad_input_is_found_before_any_training(settings, trainings):
    for wrong, sentence in (
        ({"teachers": ["BPR", "LigthGCN"]}, "did you mean 'LightGCN'"),
        ({"fine_depths": [0.1, 0.5]}, "fine_depths"),
        ({"curriculum_rule": "x"}, "curriculum_rule"),
        ({"student": "EASE"}, "student: EASE"),
    ):
        with pytest.raises(UserError, match=sentence):
            run(settings, **wrong)
    assert trainings == []


def test_a_students_result_does_not_depend_on_the_order_of_the_teachers(settings):
    rows = [
        run(settings, teachers=names, without_distillation=False) for names in (["BPR", "LightGCN"], ["LightGCN", "BPR"])
    ]
    assert equal(parameters(rows[0]), parameters(rows[1]))


def test_two_runs_begun_in_the_same_second_keep_their_own_checkpoints(settings, monkeypatch) -> None:
    monkeypatch.setattr("recbole.trainer.trainer.get_local_time", lambda: "Jan-01-2026_00-00-00")
    results = [run_hetcomp("BPR", "toy", config_dict={**settings, "seed": seed}, arguments=()) for seed in (1, 2)]
    first, second = (result["checkpoint"] for result in results)
    assert first != second
    assert Path(first).is_file()


def test_a_valid_metric_that_is_to_be_small_is_followed_downwards(settings):
    """The less popular the better, all the way: early stopping, checkpoints, the teachers' weights, retention."""
    falling = {
        "metrics": ["Recall", "AveragePopularity"],
        "valid_metric": "AveragePopularity@10",
        "trajectory_rule": "score",
    }
    result = run_hetcomp("HetCompStudent", "toy", config_dict={**settings, **falling, "epochs": 2}, arguments=())
    assert result["valid_score_bigger"] is False
    rows = {row["role"]: row for row in result["comparison"]}
    metric = "averagepopularity@10"
    assert rows["student"]["retention"][metric] == pytest.approx(rows["ensemble"][metric] / rows["student"][metric])
    for path in (Path(settings["checkpoint_dir"]) / "trained").glob("*/trajectory.safetensors"):
        scores = Trajectory.load(path).valid_scores
        assert scores[-1] == scores.min()
