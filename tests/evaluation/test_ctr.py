"""The comparison of clicks: what each row is of, what a prediction costs, and how near a student is to its teachers."""

from __future__ import annotations

import inspect
import json
from pathlib import Path

import numpy as np
import pytest
import recbole.model.context_aware_recommender as context
import torch
from recbole.model.abstract_recommender import AbstractRecommender
from torch import nn
from torch.utils.flop_counter import flop_registry

from recbole_hetcomp.evaluation.ctr import r_squared
from recbole_hetcomp.evaluation.operations import PRODUCTS, MultiplyAdds, multiply_adds
from recbole_hetcomp.quick_start import run_hetcomp

MODELS = sorted(name for name, cls in vars(context).items() if inspect.isclass(cls) and issubclass(cls, AbstractRecommender))
# Operations without products of numbers: they move, look up, add and compare, or are a function of one number.
NAMES = """_softmax _to_copy _unsafe_view add add_ arange atan2 cat clamp_min_ clone cos detach embedding empty exp expand
eye index leaky_relu lift_fresh log masked_fill mean ne permute relu scalar_tensor select sigmoid sigmoid_ sin split
split_with_sizes squeeze stack sub sum t tanh tanh_ transpose unsafe_split unsqueeze view"""
FREE = set(NAMES.split())
# A scaling by learned numbers that folds into the layer before it, and the two lengths of DSSM's towers.
FREE |= {"native_batch_norm", "_native_batch_norm_legit_no_training", "cudnn_batch_norm", "linalg_vector_norm"}
ROLES = ["teacher", "teacher", "ensemble", "student without distillation", "student"]


@pytest.fixture
def compared(clicks):
    settings = {**clicks, "teachers": ["DCNV2", "DeepFM"], "distil_epochs": 2, "without_distillation": True}
    return run_hetcomp("KDDAGFMStudent", "clicks", config_dict=settings, arguments=())


def test_each_model_has_a_row_and_the_files_hold_them(compared):
    rows = compared["comparison"]
    assert [row["role"] for row in rows] == ROLES
    assert [row["model"] for row in rows][:3] == ["DCNV2", "DeepFM", "2 teachers"]
    for row in rows:
        assert 0 <= row["auc"] <= 1
        assert row["logloss"] > 0
        assert row["params"] > 0
        assert row["ms_per_1000"] > 0
    assert rows[2]["params"] == rows[0]["params"] + rows[1]["params"]
    assert rows[0]["multiply_adds"] + rows[1]["multiply_adds"] <= rows[2]["multiply_adds"]
    assert rows[-1]["multiply_adds"] < rows[0]["multiply_adds"]
    assert set(rows[-1]["against"]) == {"ensemble", "student without distillation"}
    for row in rows[2:4]:
        for metric in ("auc", "logloss"):
            found = rows[-1]["against"][row["role"]][metric]
            assert found["mean"] == pytest.approx(rows[-1][metric] - row[metric], abs=2e-4)
            assert found["low"] <= found["mean"] <= found["high"]
    saved = json.loads(Path("saved/comparison.json").read_text())
    assert [row["model"] for row in saved["rows"]] == [row["model"] for row in rows]
    assert "multiply-adds" in Path("saved/comparison.md").read_text()
    assert rows[-1]["fidelity"] <= 1


def test_a_second_run_finds_the_teachers(clicks):
    settings = {**clicks, "teachers": ["FM"], "distil_epochs": 2}
    first = run_hetcomp("KDDAGFMStudent", "clicks", config_dict=settings, arguments=())
    folder = next(Path("saved/trained").iterdir())
    before = folder.stat().st_mtime_ns
    again = run_hetcomp("KDDAGFMStudent", "clicks", config_dict=settings, arguments=())
    assert folder.stat().st_mtime_ns == before
    assert again["test_result"] == first["test_result"]


def test_one_teacher_is_its_own_ensemble(clicks):
    settings = {**clicks, "teachers": ["DeepFM"], "distil_epochs": 2}
    teacher, ensemble, _ = run_hetcomp("KDDAGFMStudent", "clicks", config_dict=settings, arguments=())["comparison"]
    assert ensemble["auc"] == pytest.approx(teacher["auc"], abs=1e-4)
    assert ensemble["logloss"] == pytest.approx(teacher["logloss"], abs=1e-4)


def test_a_matrix_product_a_convolution_and_a_product_of_numbers_are_counted():
    rows = torch.randn(7, 5)
    with MultiplyAdds() as counter:
        nn.Linear(5, 3)(rows)
    assert counter.count == 7 * 5 * 3
    with MultiplyAdds() as counter:
        nn.Conv1d(4, 6, 1)(torch.randn(2, 4, 10))
    assert counter.count == 2 * 10 * 4 * 6
    with MultiplyAdds() as counter:
        torch.einsum("bfd,fsd->bsd", torch.randn(2, 3, 4), torch.randn(3, 3, 4))
    assert counter.count == 2 * 3 * 3 * 4
    with MultiplyAdds() as counter:
        (rows * rows).sum()
        torch.arange(5) * 2  # of whole numbers
    assert counter.count == 35


def test_a_prediction_costs_the_same_in_any_batch(clicks_model):
    model, train = clicks_model("DeepFM")
    few, many = (multiply_adds(model, train[torch.arange(n)]) for n in (10, 200))
    assert few == pytest.approx(many, rel=0.05)


class Met(MultiplyAdds):
    """Counts, and keeps the names of the operations that it does not count."""

    def __init__(self):
        super().__init__()
        self.uncounted = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func._overloadpacket not in flop_registry and func._overloadpacket not in PRODUCTS:
            self.uncounted.add(func._overloadpacket.__name__)
        return super().__torch_dispatch__(func, types, args, kwargs)


@pytest.mark.parametrize("name", [*MODELS, "DAGFM"])
def test_every_operation_of_a_model_is_counted_or_free(clicks_model, name):
    model, train = clicks_model(name, **({"numerical_features": []} if name == "DSSM" else {}))
    with torch.no_grad(), Met() as counter:
        model.predict(train[torch.arange(10)])
    assert counter.uncounted <= FREE


def test_fused_attention_is_off_only_while_it_counts(clicks_model):
    assert torch.backends.mha.get_fastpath_enabled()
    model, train = clicks_model("FiGNN")
    fused = multiply_adds(model, train[torch.arange(10)])
    assert torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        assert multiply_adds(model, train[torch.arange(10)]) == fused
        assert not torch.backends.mha.get_fastpath_enabled()
    finally:
        torch.backends.mha.set_fastpath_enabled(True)


def test_r_squared_is_one_for_the_same_and_zero_for_the_mean():
    wanted = np.array([1.0, 2.0, 6.0])
    assert r_squared(wanted, wanted) == 1
    assert r_squared(np.full(3, 3.0), wanted) == 0
    assert r_squared(np.zeros(2), np.zeros(2)) == 1
    assert r_squared(np.ones(2), np.zeros(2)) == 0
