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
