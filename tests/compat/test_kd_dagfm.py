"""RecBole's KD_DAGFM: its three phases one after the other, its loss, and a student that is saved without its teacher."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import pytest
import torch
from recbole.model.context_aware_recommender import kd_dagfm
from torch.nn.functional import binary_cross_entropy

from recbole_hetcomp.commands.checks import check
from recbole_hetcomp.compat.pretrained import PRETRAINED as PRETRAINED_MODELS
from recbole_hetcomp.config.declarations import declarations_in
from recbole_hetcomp.config.errors import UserError
from recbole_hetcomp.config.registry import properties_dir
from recbole_hetcomp.quick_start import run_hetcomp
from recbole_hetcomp.serving.student import load_with_split
from recbole_hetcomp.teacher_training.cache import PRETRAINED, fingerprint
from recbole_hetcomp.trainer.checkpoint import CheckpointError, load_checkpoint


@pytest.fixture
def phase(clicks):
    """`phase(name, warm_up)`: the result of one phase."""
    settings = {**clicks, "epochs": 2, "t_cin": [4], "t_depth": 1}
    return lambda name, file="", **given: run_hetcomp(
        "KD_DAGFM", "clicks", config_dict={**settings, "phase": name, "warm_up": file, **given}, arguments=()
    )


@pytest.mark.parametrize("teacher", ["CrossNet", "CIN"])
def test_the_three_phases_run_one_after_the_other(phase, teacher):
    first = phase("teacher_training", teacher=teacher)
    second = phase("distillation", first["checkpoint"], teacher=teacher)
    third = phase("finetuning", second["checkpoint"], teacher=teacher)
    assert all(0 < result["test_result"]["auc"] < 1 for result in (first, second, third))
    of_files = [load_checkpoint(run["checkpoint"])["state_dict"] for run in (first, second, third)]
    with_teacher = [any(name.startswith("teacher_network.") for name in state) for state in of_files]
    assert with_teacher == [True, False, False]
    assert {name for name in of_files[0] if not name.startswith("teacher_network.")} == set(of_files[1])
    tables = "token_embedding_table.embedding.weight"
    assert torch.equal(of_files[0][tables], of_files[1][tables])
    assert not torch.equal(of_files[1][tables], of_files[2][tables])
    trained = {name for name, parameter in third["model"].named_parameters() if parameter.requires_grad}
    assert not any(name.startswith("teacher_network.") for name in trained)
    _, served, split = load_with_split(third["checkpoint"], arguments=())
    rows = split.parts[2][torch.arange(9)]
    assert torch.equal(served.predict(rows), third["model"].eval().predict(rows))


def test_alpha_weighs_the_clicks_and_beta_the_logits(phase, clicks_model):
    file = phase("teacher_training")["checkpoint"]
    settings = {"t_cin": [4], "t_depth": 1, "phase": "distillation", "warm_up": file, "alpha": 0.5, "beta": 3.0}
    model, train = clicks_model("KD_DAGFM", **settings)
    model.train()
    rows = train[torch.arange(30)]
    loss = model.calculate_loss(rows)
    clicks_loss = binary_cross_entropy(model.predict(rows)[:, 0], rows["label"])
    of_logits = ((model.teacher_network.logits - model.student_network.logits) ** 2).mean()
    torch.testing.assert_close(loss, 0.5 * clicks_loss + 3.0 * of_logits)
    loss.backward()
    assert all(part.grad is None for part in model.teacher_network.parameters())
    declared = declarations_in(properties_dir() / "teacher" / "KD_DAGFM.yaml")
    assert "clicks" in declared["alpha"].meaning
    assert "logits" in declared["beta"].meaning


def test_it_stays_on_the_cpu_where_there_is_a_gpu(monkeypatch):
    """RecBole asks whether there is a GPU; the matrix of the edges follows the model instead."""
    moved = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.Tensor, "to", lambda tensor, *place, **_: moved.append(place) or tensor)
    network = object.__new__(kd_dagfm.DAGFM)
    config = {"type": "inner", "depth": 1, "feature_num": 3, "embedding_size": 2}
    kd_dagfm.DAGFM.__init__(network, config)
    monkeypatch.undo()
    assert moved  # RecBole wanted it on the GPU
    assert "adj_matrix" in dict(network.named_buffers())
    assert network.to("meta").adj_matrix.is_meta
    assert "adj_matrix" not in network.state_dict()


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"phase": "distill"}, "^phase: 'distill' is none of teacher_training, distillation, finetuning"),
        ({"phase": "distillation"}, "^warm_up: '' is no file; phase distillation begins with .* of phase teacher_training"),
        ({"phase": "finetuning", "warm_up": "gone.pth"}, "^warm_up: 'gone.pth' is no file; .* of phase distillation"),
    ],
)
def test_a_phase_without_what_it_begins_with_is_one_sentence(phase, given, sentence):
    with pytest.raises(UserError, match=sentence):
        phase(given["phase"], given.get("warm_up", ""))


def test_a_distillation_that_would_begin_without_a_teacher_is_refused(phase):
    student = phase("distillation", phase("teacher_training")["checkpoint"])["checkpoint"]
    with pytest.raises(CheckpointError, match=r"is no pretrained model for KD_DAGFM: .*it has no teacher"):
        phase("distillation", student)


@pytest.mark.parametrize("name", ["distillation", "finetuning"])
def test_a_saved_model_is_served_without_the_file_that_it_began_with(phase, name):
    earlier = [phase("teacher_training")["checkpoint"]]
    if name == "finetuning":
        earlier.append(phase("distillation", earlier[0])["checkpoint"])
    saved = phase(name, earlier[-1])
    for file in earlier:
        Path(file).unlink()
    config, served, split = load_with_split(saved["checkpoint"], arguments=())
    rows = split.parts[2][torch.arange(9)]
    assert torch.equal(served.predict(rows), saved["model"].eval().predict(rows))
    assert config["phase"] == served.phase == name


def test_a_finetuning_begins_with_the_file_of_the_distillation_alone(phase):
    teacher = phase("teacher_training")["checkpoint"]
    with pytest.raises(UserError, match=r"^warm_up: .* is of phase teacher_training; give the file of phase distillation$"):
        phase("finetuning", teacher)


def test_a_phase_that_would_begin_with_another_model_is_refused(phase, clicks):
    other = run_hetcomp("FM", "clicks", config_dict={**clicks, "epochs": 1}, arguments=())["checkpoint"]
    with pytest.raises(CheckpointError, match=r"is of another model; give the file of phase distillation"):
        phase("finetuning", other)


def test_a_file_that_changed_under_its_name_is_another_beginning(clicks_config, tmp_path):
    file = tmp_path / "teacher.pth"
    file.write_bytes(b"one")
    config = clicks_config("KD_DAGFM", phase="distillation", warm_up=str(file))
    before = fingerprint(config, {})
    assert fingerprint(config, {}) == before
    file.write_bytes(b"another")
    assert fingerprint(config, {}) != before


def test_settings_that_name_a_file_are_those_that_recbole_reads():
    for module in PRETRAINED_MODELS:
        source = Path(importlib.import_module(module).__file__).read_text()
        assert any(f'config["{key}"]' in source for key in PRETRAINED)
        assert set(re.findall(r'config\["(\w*(?:pre\w*_path|warm_up))"\]', source)) <= {*PRETRAINED}


def test_settings_are_checked(clicks_config):
    with pytest.raises(UserError, match=r"^beta: 'much' must be a number of at least 0"):
        check(clicks_config("KD_DAGFM", beta="much"))
