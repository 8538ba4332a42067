"""`start_from`: the student begins with another model's result, which is found again, and what cannot be is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from recbole_hetcomp.commands import pipeline
from recbole_hetcomp.commands.checks import check
from recbole_hetcomp.commands.starting import first_config
from recbole_hetcomp.config import Config
from recbole_hetcomp.config.errors import UserError
from recbole_hetcomp.model.distilled import Distilled
from recbole_hetcomp.model.distilled_recommender.hetcompstudent import HetCompStudent
from recbole_hetcomp.quick_start import run_hetcomp
from recbole_hetcomp.teacher_training.training import teacher_folder
from recbole_hetcomp.testing.results import digests, same, state_of

FIRST = {"epochs": 3, "learning_rate": 0.02, "eval_step": 1, "train_batch_size": 64}


@pytest.fixture
def run(settings):
    """`run(model, **settings)`: the result of a short run without a comparison."""
    fast = {**settings, "embedding_size": 4, "curriculum_period": 1}

    def start(model: str, **changes):
        return run_hetcomp(model, "toy", config_dict={**fast, **changes}, arguments=(), compare=False)

    return start


@pytest.fixture
def begun(monkeypatch) -> list[dict[str, torch.Tensor]]:
    """The student's tensors when HetComp has learnt from its teachers, run by run."""
    seen: list[dict[str, torch.Tensor]] = []
    learn_from = HetCompStudent.learn_from

    def watched(model: Distilled, teachers) -> None:
        learn_from(model, teachers)
        seen.append({name: tensor.clone() for name, tensor in model.served_state().items()})

    monkeypatch.setattr(HetCompStudent, "learn_from", watched)
    return seen


def test_hetcomp_begins_with_the_best_parameters_of_fitnet_and_finds_them_again(run, begun, monkeypatch) -> None:
    first = run("FitNetStudent", **FIRST)
    best = torch.load(first["checkpoint"], weights_only=True)["state_dict"]
    one = run("HetCompStudent", start_from="FitNetStudent", start_config=FIRST)
    assert same(begun[0], best)
    (folder,) = (Path("saved") / "started").iterdir()
    assert folder.name.startswith("FitNetStudent-")
    kept = digests(folder)
    trained: list[str] = []
    fit = pipeline._fit_and_test
    monkeypatch.setattr(
        pipeline, "_fit_and_test", lambda trainer, config, *rest: trained.append(config.model) or fit(trainer, config, *rest)
    )
    other = run("HetCompStudent", start_from="FitNetStudent", start_config=FIRST)
    assert trained == ["HetCompStudent"]
    assert digests(folder) == kept
    assert same(begun[1], best)
    assert same(state_of(one), state_of(other))
    plain = run("HetCompStudent")
    assert not same(begun[2], best)
    assert not same(state_of(plain), state_of(one))


@pytest.mark.parametrize("searched", [{}, {"tune": 0}])
def test_the_first_model_has_the_runs_split_and_teachers_with_every_seed(make_config, split, searched) -> None:
    config = make_config("HetCompStudent", start_from="FitNetStudent", seed=12, split_seed=11, tune_users=7, **searched)
    first = first_config(config)
    assert {key: first[key] for key in ("seed", "split_seed", "tune", "tune_users")} == {
        "seed": 12,
        "split_seed": 11,
        "tune": searched.get("tune"),
        "tune_users": 7,
    }
    for name in config["teachers"]:
        assert teacher_folder(config, split, name) == teacher_folder(first, split, name)


def test_the_teachers_and_the_students_size_are_the_runs(run) -> None:
    student = run("RRDStudent", start_from="FitNetStudent", start_config={"epochs": 2, "eval_step": 1}, teachers=["BPR"])[
        "model"
    ]
    state = torch.load(next((Path("saved") / "started").rglob("model.pth")), weights_only=True)["state_dict"]
    assert {name: rows.shape for name, rows in state.items()} == {n: t.shape for n, t in student.state_dict().items()}
    assert {path.name.partition("-")[0] for path in (Path("saved") / "trained").iterdir()} == {"BPR"}


REFUSED = {
    "a circle": ({"start_from": "HetCompStudent"}, "start_from: HetCompStudent would begin with its own result"),
    "no such model": ({"start_from": "FitNetStudnt"}, "did you mean 'FitNetStudent'"),
    "not distilled": ({"start_from": "BPR"}, "start_from: 'BPR' is no distilled model"),
    "a setting of nobody": (
        {"start_from": "FitNetStudent", "start_config": {"epoch": 2}},
        "start_config: epoch: nothing reads",
    ),
    "a wrong value": (
        {"start_from": "FitNetStudent", "start_config": {"hidden_ratio": -1}},
        "start_config: hidden_ratio: -1",
    ),
    "a longer circle": (
        {"start_from": "FitNetStudent", "start_config": {"start_from": "HetCompStudent"}},
        "start_config: FitNetStudent would itself begin with HetCompStudent",
    ),
    "nothing to learn": (
        {"start_from": "FitNetStudent", "start_config": {"distillation_weight": 0, "base_loss_weight": 0}},
        "start_config: distillation_weight: 0 and base_loss_weight: 0 leave nothing to learn",
    ),
    "a bad composite": (
        {"start_from": "CompositeStudent", "start_config": {"methods": {"FitNt": 1.0}}},
        "start_config: methods: ",
    ),
    "a flag": ({"start_from": "FitNetStudent", "start_config": {"nproc": 2}}, "nproc: 2 is no setting but a flag"),
    **{
        f"the run's own {key}": (
            {"start_from": "FitNetStudent", "start_config": {key: value}},
            f"start_config: {key} is the run's own, as FitNetStudent has the same student, teachers and split; leave it out",
        )
        for key, value in {
            "seed": 5,
            "embedding_size": 16,
            "student": "ML",
            "teachers": ["BPR"],
            "teacher_config": {"BPR": {"epochs": 1}},
            "trajectory_depth": 20,
            "split_seed": 3,
            "tune": 0,
            "eval_args": {},
            "checkpoint_dir": "elsewhere",
        }.items()
    },
    "settings of nothing": ({"start_config": {"epochs": 2}}, "start_config: nothing is trained with it"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_started_from_is_refused_before_any_training(run, case) -> None:
    given, sentence = REFUSED[case]
    with pytest.raises(UserError) as error:
        run("HetCompStudent", **given)
    assert sentence in error.value.sentence
    assert not (Path("saved") / "trained").exists()


def test_a_size_that_the_student_lacks_is_no_reason_to_refuse_the_first_model(settings) -> None:
    """The run has it from a yaml file, and NeuMF does not heed it."""
    given = {key: value for key, value in settings.items() if key != "embedding_size"}
    given = {**given, "student": "NeuMF", "start_from": "FitNetStudent", "without_distillation": False}
    config = Config("HetCompStudent", "toy", config_dict=given, arguments=())
    check(config)
    assert not first_config(config).given("embedding_size")


OVERWRITE = {
    "CUKD": ("CUKDStudent", {}, "CUKDStudent writes"),
    "CUKD, pca": ("CUKDStudent", {"solver": "pca"}, "CUKDStudent writes"),
    "TinTeM": ("TinTeMStudent", {}, "TinTeMStudent writes"),
    "Reverse": ("ReverseStudent", {}, "ReverseStudent writes"),
    "composite": ("CompositeStudent", {"methods": {"RRD": 1.0, "TinTeM": 1.0}}, "TinTeMStudent writes"),
}


@pytest.mark.parametrize("case", OVERWRITE)
def test_a_start_that_the_method_would_overwrite_is_refused_before_any_training(run, case) -> None:
    model, given, sentence = OVERWRITE[case]
    with pytest.raises(UserError) as error:
        run(model, start_from="FitNetStudent", **given)
    assert error.value.sentence.startswith("start_from: FitNetStudent")
    assert sentence in error.value.sentence
    assert len(error.value.sentence) <= 400
    assert not (Path("saved") / "trained").exists()


KEPT = {
    "CUKD by steps": ("CUKDStudent", {"solver": "sgd", "start_steps": 0}),
    "TinTeM by gradient": ("TinTeMStudent", {"mode": "gradient"}),
    "plain training": ("CUKDStudent", {"distillation_weight": 0.0}),
}


@pytest.mark.parametrize("case", KEPT)
def test_a_start_that_stays_is_where_the_student_begins(run, case, monkeypatch) -> None:
    model, given = KEPT[case]
    seen: list[dict[str, torch.Tensor]] = []
    monkeypatch.setattr(
        pipeline, "_trainer", lambda config, made, make=pipeline._trainer: seen.append(state_in(made)) or make(config, made)
    )
    run(model, start_from="FitNetStudent", start_config=FIRST, teachers=["BPR"], **given)
    best = torch.load(next((Path("saved") / "started").rglob("model.pth")), weights_only=True)["state_dict"]
    assert same(seen[-1], best)


def test_a_training_that_makes_the_student_worse_is_said_once(run, caplog) -> None:
    """CUKD's students begin with a teacher's knowledge, and steps of this size destroy it."""
    begun = {"teachers": ["BPR"], "teacher_config": {"BPR": {"epochs": 30, "learning_rate": 0.02, "train_batch_size": 64}}}
    run("CUKDStudent", **begun, learning_rate=5.0, solver="pca")
    (line,) = [record.getMessage() for record in caplog.records if "made the student worse" in record.getMessage()]
    assert "Recall@10" in line
    assert "lower learning_rate" in line
    assert len(line) <= 400
    caplog.clear()
    run("CUKDStudent", **begun, learning_rate=1e-6, solver="pca")
    assert not [record for record in caplog.records if "made the student worse" in record.getMessage()]


def state_in(model: Distilled) -> dict[str, torch.Tensor]:
    return {name: rows.detach().clone() for name, rows in model.served_state().items()}


@pytest.mark.parametrize("methods", [("CUKD", "TinTeM"), ("Reverse", "CUKD"), ("RRD", "TinTeM", "Reverse")])
def test_two_methods_that_write_the_same_tables_are_refused_before_any_training(run, methods) -> None:
    with pytest.raises(UserError) as error:
        run("CompositeStudent", methods=dict.fromkeys(methods, 1.0))
    writers = [name for name in methods if name != "RRD"]
    assert error.value.sentence.startswith(f"methods: {writers[0]} and {writers[1]} ")
    assert not (Path("saved") / "trained").exists()


def test_the_file_of_the_first_model_stays_in_its_folder_alone(run) -> None:
    """What its training saved beside it serves nobody; the run's own student is there."""
    result = run("HetCompStudent", start_from="FitNetStudent", start_config=FIRST)
    assert [str(path) for path in Path("saved").glob("*.pth")] == [str(Path(result["checkpoint"]).relative_to(Path.cwd()))]
    (folder,) = (Path("saved") / "started").iterdir()
    assert sorted(path.name for path in folder.iterdir()) == ["model.pth", "record.json"]
