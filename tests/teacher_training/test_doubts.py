"""Teachers that look badly trained: each sentence for its case, and none for a training that went well."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import yaml

from recbole_hetcomp.commands import teachers
from recbole_hetcomp.config.registry import properties_dir
from recbole_hetcomp.quick_start import run_hetcomp
from recbole_hetcomp.teacher_training.doubts import Training, doubts, trainings
from recbole_hetcomp.teacher_training.scheduling import build_pool

SHIPPED = [path for path in sorted(properties_dir().glob("teacher/*.yaml")) if "eval_step" in path.read_text("utf-8")]
GOOD = Training(score=0.30, best_epoch=40, epochs_trained=60, epochs=150)
NAN = math.nan


def said(name: str = "A", larger_is_better: bool = True, **teachers: Training) -> list[str]:
    """What is said of the teacher `name` among `teachers`; nothing may be said of others."""
    lines = doubts(teachers, "Recall@50", larger_is_better=larger_is_better, searchable=teachers)
    assert all(line.startswith(f"teacher {name}: ") for line in lines)
    return lines


def test_of_teachers_that_are_well_trained_nothing_is_said() -> None:
    assert doubts({"A": GOOD, "B": Training(0.27, 16, 30, 150)}, "Recall@50") == []
    assert doubts({"A": GOOD}, "Recall@50") == []
    assert doubts({}, "Recall@50") == []


@pytest.mark.parametrize(("score", "doubted"), [(0.2549, True), (0.2551, False), (0.30, False), (0.9, False), (0.0, True)])
def test_a_teacher_that_is_more_than_15_percent_below_the_best_is_named(score: float, doubted: bool) -> None:
    best = Training(max(score, 0.30), 40, 60, 150)
    lines = said(A=Training(score, 40, 60, 150), B=best)
    assert bool(lines) == doubted


def test_it_is_told_how_far_and_what_to_do() -> None:
    (line,) = said(A=Training(0.24, 40, 60, 150), B=GOOD)
    assert line == (
        "teacher A: validation Recall@50 0.2400 is 20% worse than the best teacher's; search for its settings "
        "(--tune=12), or leave it out"
    )


def test_with_a_metric_that_is_to_be_small_the_largest_is_the_worst() -> None:
    assert said(larger_is_better=False, A=Training(0.36, 40, 60, 150), B=GOOD)[0].count("20% worse")
    assert said(larger_is_better=False, A=Training(0.34, 40, 60, 150), B=GOOD) == []
    assert said(name="B", larger_is_better=False, A=Training(0.2, 40, 60, 150), B=GOOD)


def test_scores_below_zero_are_compared_too() -> None:
    """A likelihood, say."""
    assert said(A=Training(-1.2, 40, 60, 150), B=Training(-1.0, 40, 60, 150))[0].count("20% worse")
    assert said(A=Training(-1.1, 40, 60, 150), B=Training(-1.0, 40, 60, 150)) == []


def test_where_the_best_has_nothing_none_is_below_it() -> None:
    nothing = Training(0.0, 40, 60, 150)
    assert doubts({"A": nothing, "B": nothing}, "Recall@50") == []


LAST = [
    (Training(0.3, 150, 150, 150), True),
    (Training(0.3, 149, 150, 150), False),
    (Training(0.3, 148, 150, 150, eval_step=4), True),  # 152 would be the next that is validated
    (Training(0.3, 144, 150, 150, eval_step=4), False),
    (Training(0.3, 150, 150, 150, eval_step=400), True),  # RecBole validates once, at the end
    (Training(NAN, 150, 150, 150, eval_step=0), False),  # never validated: nobody knows
]


@pytest.mark.parametrize(("training", "doubted"), LAST)
def test_a_teacher_whose_best_epoch_is_the_last_that_is_validated_is_to_train_longer(training: Training, doubted) -> None:
    lines = said(A=training, B=GOOD)
    assert len(lines) == doubted
    for line in lines:
        assert line == (
            f"teacher A: its best epoch, {training.best_epoch}, is the last validated of 150; let it train longer, "
            "with 'A': {'epochs': 300} in teacher_config"
        )


@pytest.mark.parametrize(("trained", "doubted"), [(15, True), (16, False), (9, True)])
def test_a_teacher_that_stopped_in_the_first_tenth_is_named(trained: int, doubted: bool) -> None:
    lines = said(A=Training(0.3, 2, trained, 150), B=GOOD)
    assert len(lines) == doubted
    for line in lines:
        assert line.startswith(f"teacher A: stopped after {trained} of 150 epochs; lower its learning_rate or raise its")
        assert line.endswith("or search for its settings (--tune=12)")


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_a_shipped_teacher_for_which_no_validation_is_better_than_the_first_is_named(path: Path) -> None:
    """Its patience alone may be longer than a tenth of its epochs."""
    own = yaml.safe_load(path.read_text(encoding="utf-8"))
    every, patience, epochs = own["eval_step"], own["stopping_step"], own["epochs"]
    earliest = every * (patience + 2)  # RecBole stops when more than `stopping_step` validations brought nothing

    def of(score: float, best: int, trained: int) -> list[str]:
        return said(A=Training(score, best, trained, epochs, every), B=GOOD)

    (line,) = of(0.3, every, max(earliest, epochs // 10 + every))
    assert line == (
        f"teacher A: no validation was better than the first, after epoch {every}; lower its learning_rate in "
        "teacher_config, or search for its settings (--tune=12)"
    )
    assert of(0.3, 2 * every, max(earliest, epochs // 10) + every) == []
    assert of(0.3, every, epochs) == []  # nothing stopped it
    assert of(NAN, every, epochs - every) == []  # it was never validated


def test_a_teacher_is_told_to_search_only_where_a_search_can_find_something_new() -> None:
    teachers = {"A": Training(0.2, 2, 9, 150), "B": GOOD}
    asked = [" search for its settings" in line for line in doubts(teachers, "Recall@50", searchable={"A"})]
    again = doubts(teachers, "Recall@50", searchable={"B"})
    assert asked == [True, True]
    assert [line.rpartition("; ")[2] for line in again] == [
        "leave it out",
        "lower its learning_rate or raise its stopping_step in teacher_config",
    ]


def test_several_things_may_be_said_of_one() -> None:
    lines = said(A=Training(0.1, 150, 150, 150), B=GOOD)
    assert ["worse" in line for line in lines] == [True, False]
    assert ["train longer" in line for line in lines] == [False, True]


def test_a_teacher_without_a_score_is_neither_far_below_nor_the_best() -> None:
    unknown = Training(NAN, 100, 100, 150)
    assert doubts({"A": unknown, "B": GOOD}, "Recall@50") == []
    assert said(A=Training(0.2, 40, 60, 150), B=unknown, C=GOOD)[0].count("33% worse")


# Of a run


def test_trainings_are_read_from_what_is_kept_with_the_teachers(make_config, settings, split, tmp_path) -> None:
    run = make_config("HetCompStudent", teacher_config={"all": {"epochs": 5, "eval_step": 2, "embedding_size": 8}})
    build_pool(run, split)
    read = trainings(run, split)
    assert list(read) == ["BPR", "LightGCN"]
    for name, training in read.items():
        (file,) = (tmp_path / "saved" / "trained").glob(f"{name}-*/record.json")
        record = json.loads(file.read_text())
        assert (training.epochs, training.eval_step) == (5, 2)
        assert training.best_epoch == record["best_epoch"] in (2, 4)
        assert training.epochs_trained == record["epochs_trained"] == 5
        assert training.score == pytest.approx(record["valid"][-1])


def test_models_that_are_solved_at_once_and_files_are_not_doubted(make_config, split, tmp_path) -> None:
    Path("mine.csv").write_text("user,item,rank\nu1,i2,1\nu2,i3,1\n")
    run = make_config("HetCompStudent", teachers=["EASE", "mine.csv", "Pop"])
    build_pool(run, split)
    assert list(trainings(run, split)) == []


def test_a_run_says_it_and_goes_on(settings, caplog) -> None:
    weak = {"all": {"epochs": 2, "embedding_size": 8}, "LightGCN": {"epochs": 30}, "BPR": {"learning_rate": 1e-7}}
    ours = {**settings, "teacher_config": weak, "without_distillation": False}
    result = run_hetcomp("HetCompStudent", "toy", config_dict=ours, arguments=())
    warnings = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    doubted = [line for line in warnings if line.startswith("teacher ")]
    assert any("teacher BPR: validation Recall@10" in line and "worse than the best teacher's" in line for line in doubted)
    assert not any("teacher LightGCN: validation" in line for line in doubted)
    assert result["test_result"]


def test_a_run_knows_whose_settings_were_searched(settings, caplog, monkeypatch) -> None:
    monkeypatch.setattr(teachers, "trials_of", lambda *_: {"teacher BPR": 3, "teacher LightGCN": 0})
    weak = {"all": {"epochs": 20, "embedding_size": 8}, "BPR": {"learning_rate": 1e-7}}
    ours = {**settings, "teacher_config": weak, "without_distillation": False, "epochs": 1}
    run_hetcomp("HetCompStudent", "toy", config_dict=ours, arguments=())
    (line,) = [line for line in caplog.messages if "teacher BPR" in line and "worse than the best" in line]
    assert line.endswith("than the best teacher's; leave it out")


def test_a_run_does_not_tell_to_search_a_model_of_which_nothing_is_tried(settings, caplog) -> None:
    weak = {"BPR": {"learning_rate": 1e-7}, "DMF": {"learning_rate": 1e-9}}
    ours = {
        **settings,
        "teachers": ["LightGCN", "BPR", "DMF"],
        "teacher_config": {"all": {"epochs": 20}, **weak},
        "epochs": 1,
    }
    run_hetcomp("HetCompStudent", "toy", config_dict={**ours, "without_distillation": False}, arguments=())
    endings = {
        name: line.rpartition("; ")[2]
        for name in weak
        for line in caplog.messages
        if f"teacher {name}: validation" in line and "worse than the best" in line
    }
    assert endings == {"BPR": "search for its settings (--tune=12), or leave it out", "DMF": "leave it out"}
