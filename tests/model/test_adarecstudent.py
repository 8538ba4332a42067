"""AdaRec's second part: the network that the search has found, with its parameters, smaller than the teacher."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from recbole_hetcomp.commands import pipeline
from recbole_hetcomp.config import Config
from recbole_hetcomp.config.errors import UserError
from recbole_hetcomp.config.strict import settings_of
from recbole_hetcomp.data.split import make_split
from recbole_hetcomp.model.batch import Batch
from recbole_hetcomp.model.distilled_recommender.adarecstudent import AdaRecStudent
from recbole_hetcomp.quick_start import run_hetcomp
from recbole_hetcomp.serving.student import load_student
from recbole_hetcomp.teacher_training.scheduling import build_pool
from recbole_hetcomp.testing.results import digests, same, state_of
from recbole_hetcomp.trainer.building import build_model

NAME = "AdaRecStudent"
COLUMNS = {"inter": ["user_id", "item_id", "timestamp"]}
TEACHER = {"epochs": 2, "eval_step": 1, "train_batch_size": 256, "hidden_size": 8, "inner_size": 8}
FOUND = ["conv3", "dilated3", "skip", "max_pool", "avg_pool", "conv5"]


@pytest.fixture
def sequential(settings) -> dict:
    given = {key: value for key, value in settings.items() if key != "teachers"}
    given |= {"load_col": COLUMNS, "MAX_ITEM_LIST_LENGTH": 10, "n_cells": 2, "trajectory_depth": 10}
    return {**given, "teacher_config": {"all": TEACHER}, "start_config": {"alpha_learning_rate": 0.05}}


@pytest.fixture
def run(sequential):
    """`run(**settings)`: a result, by default without comparison."""

    def start(compare: bool = False, **given):
        return run_hetcomp(NAME, "toy", config_dict={**sequential, **given}, arguments=(), compare=compare)

    return start


@pytest.fixture
def begun(monkeypatch) -> list:
    """(model's name, its served state) when each training of a distilled model begins."""
    seen: list = []
    make = pipeline._trainer

    def watched(config, model):
        seen.append((config.model, {name: part.detach().clone() for name, part in model.served_state().items()}))
        return make(config, model)

    monkeypatch.setattr(pipeline, "_trainer", watched)
    return seen


def test_it_begins_as_what_the_search_has_found_and_finds_that_again(run, begun) -> None:
    result = run()
    assert [name for name, _ in begun] == ["AdaRecSearchStudent", NAME]
    (folder,) = (Path("saved") / "started").iterdir()
    searched = torch.load(folder / "model.pth", weights_only=True)["state_dict"]
    names = result["model"].backbone.names
    best = [names[place] for place in searched["backbone.alpha"].argmax(1).tolist()]
    assert result["model"].backbone.architecture == best
    start = begun[1][1]
    assert {*start} < {*searched}
    assert all(torch.equal(part, searched[name]) for name, part in start.items())
    assert not same(result["model"].served_state(), start)
    kept = digests(folder)
    again = run(learning_rate=0.001)
    assert [name for name, _ in begun] == ["AdaRecSearchStudent", NAME, NAME]
    assert again["model"].backbone.architecture == best
    assert digests(folder) == kept
    assert same(state_of(run()), state_of(result))


def test_its_file_makes_it_again_and_the_student_alone_has_the_same_network(run) -> None:
    result = run(compare=True)
    config, served, _ = load_student(result["checkpoint"], arguments=())
    assert config["architecture"] == result["model"].backbone.architecture == served.backbone.architecture
    users = result["model"].history.active_users
    assert torch.equal(served.scores(users), result["model"].scores(users))
    of = {row["role"]: row for row in result["comparison"]}
    (alone,) = (row for role, row in of.items() if "without" in role)
    assert alone["params"] == of["student"]["params"]


def test_it_multiplies_less_than_its_teacher(sequential) -> None:
    """At one width, a network of two convolutions against SASRec, both asked for the same sequences."""
    found, sizes = {}, {"embedding_size": 16, "hidden_size": 16, "inner_size": 64, "n_heads": 2}
    for name in ("AdaRecNet", "SASRec"):
        given = {**sequential, **sizes, "architecture": ["conv3", "skip", "max_pool", "none", "skip", "dilated3"]}
        config = Config(name, "toy", config_dict=given, arguments=())
        split = make_split(config)
        model = build_model(config, split.train_for(config)).eval()
        with FlopCounterMode(display=False) as counted, torch.no_grad():
            model.full_sort_predict(split.rows(1, 0).asked(torch.arange(1, 33)))
        found[name] = counted.get_total_flops()
    assert 0 < found["AdaRecNet"] < found["SASRec"]


@pytest.mark.parametrize("kind", ["forward", "reverse"])
def test_the_loss_equals_a_loop_and_is_0_for_the_teachers_scores(sequential, kind, monkeypatch) -> None:
    given = {**sequential, "start_from": None, "start_config": {}, "architecture": FOUND, "adarec_kl": kind}
    config = Config(NAME, "toy", config_dict={**given, "distillation_weight": 1.0}, arguments=())
    split = make_split(config)
    model = AdaRecStudent(settings_of(config), split.train_for(config)).eval()
    model.learn_from(build_pool(config, split))
    model.requires_grad_(False)
    rows = torch.tensor([1, 4, 30, model.history.n_users - 2])
    log_q, log_p = (scores[:, 1:].double().log_softmax(1) for scores in (model.scores(rows), model.teacher.scores(rows)))
    if kind == "reverse":
        log_p, log_q = log_q, log_p
    expected = sum(float((p.exp() * (p - q)).sum()) for p, q in zip(log_p, log_q)) / 4
    assert model.distillation_loss(Batch(rows, None)).item() == pytest.approx(expected, rel=1e-4)
    monkeypatch.setattr(model, "scores", lambda users: model.teacher.scores(users))
    assert model.distillation_loss(Batch(rows, None)).item() == pytest.approx(0, abs=1e-6)


def test_an_architecture_of_ones_own_needs_no_search(run, begun) -> None:
    result = run(start_from=None, start_config={}, architecture=FOUND, distillation_weight=0.5)
    assert [name for name, _ in begun] == [NAME]
    assert result["model"].backbone.architecture == FOUND


REFUSED = {
    "found and given": ({"architecture": FOUND}, "architecture: AdaRecSearchStudent finds it; leave architecture out"),
    "neither": (
        {"start_from": None, "start_config": {}},
        "architecture: AdaRecStudent trains one network, and none is given",
    ),
    "nothing to learn": ({"base_loss_weight": 0.0}, "distillation_weight: 0 and base_loss_weight: 0 leave nothing"),
    "a wrong search": ({"start_config": {"emd_every": 0}}, "start_config: emd_every: 0"),
    "teachers of no search": ({"teachers": ["SASRec", "BPR"]}, "start_config: teachers: AdaRecSearchStudent learns"),
    "an architecture in between": ({"start_config": {"architecture": FOUND}}, "start_config: architecture is the run's own"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_trained_is_refused_before_any_training(run, case) -> None:
    given, sentence = REFUSED[case]
    with pytest.raises(UserError) as error:
        run(**given)
    assert error.value.sentence.startswith(sentence)
    assert len(error.value.sentence) <= 400
    assert not (Path("saved") / "trained").exists()
