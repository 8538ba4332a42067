"""What holds of every distilled model: found by discovery, so that a new method is covered the day it is added."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from recbole_hetcomp.config.errors import UserError
from recbole_hetcomp.config.registry import get_model, is_distilled, properties_dir
from recbole_hetcomp.model import distilled_recommender
from recbole_hetcomp.quick_start import run_hetcomp
from recbole_hetcomp.testing import MethodContract

ALL = [path.stem for path in sorted(properties_dir().glob("model/*.yaml")) if is_distilled(get_model(path.stem))]
METHODS = [name for name in ALL if "general" in get_model(name).families]  # the others: test_every_sequential_method.py
# What the definition of a method makes an exception.
EXCEPTIONS: dict[str, dict[str, Any]] = {
    # Its asymmetric side needs scores that are products of tables, and its candidates begin with a training item.
    "EmbedDistillStudent": {"any_student": {"side": "symmetric"}, "observed_candidates": 1},
    "OKDStudent": {"observed_candidates": 1},  # they begin with a training item
    "OFAStudent": {"observed_candidates": 1},  # as these
}
# Settings under which the loss of a method takes other ways.
VARIANTS: dict[str, list[dict[str, Any]]] = {
    "CLDRDStudent": [{"ordered": [5, 10]}],
    "HetCompStudent": [
        {"transfer": "overall"},
        {"transfer": "fine"},
        {"loss_reduction": "sum"},
        {"student": "DL", "tail_samples": 20},
    ],
    # Few draws a user: where the users of each part draw the whole catalogue, the parts add up by chance.
    "IRRRDStudent": [
        {"list_depth": 20, "item_list_depth": 20, "n_interesting": 3, "n_uninteresting": 5, "n_uninteresting_users": 10}
    ],
    "KDCEStudent": [{"guide": "student"}, {"guide": "teacher"}, {"guide": "catalogue"}],
    "CDStudent": [{"guide": "student"}, {"guide": "teacher"}],
    "MTDStudent": [{"list_weights": "uniform"}, {"list_weights": "global"}, {"list_weights": "user"}],
    "OKDStudent": [{"divergence": kind} for kind in ("forward", "reverse", "js")],
    "EGAStudent": [{"graph_nodes": kind} for kind in ("both", "user", "item")],
    "TinTeMStudent": [{"mode": "gradient"}],  # directions that are written into tables leave no loss
    "RDStudent": [{"discrepancy_start": 5}, {"discrepancy_start": 0}],
    "RRDStudent": [{"sampled": True}, {"sampled": False}],
    "CompositeStudent": [{"methods": {"RRD": 0.5, "KDCE": 2.0}}, {"methods": {"RRD": 0.5, "DE": 2.0}}],
}

for name in METHODS:
    attributes = {"method": name, "variants": VARIANTS.get(name, [{}]), **EXCEPTIONS.get(name, {})}
    globals()[f"Test{name}"] = type(f"Test{name}", (MethodContract,), attributes)


@pytest.mark.parametrize("method", sorted({*ALL} - {*METHODS}))
@pytest.mark.parametrize("student", ["MF", "LightGCN", "GRU4Rec"])
def test_a_method_of_one_student_refuses_others_before_any_training(settings, method, student) -> None:
    columns = {"inter": ["user_id", "item_id", "timestamp"]}
    wrong = "no context-aware model" if "context" in get_model(method).families else "none of AdaRecNet"
    with pytest.raises(UserError, match=f"^student: '{student}' is {wrong}"):
        run_hetcomp(method, "toy", config_dict={**settings, "student": student, "load_col": columns}, arguments=())
    with pytest.raises(UserError, match=f"methods: '{method.removesuffix('Student')}' is no single distillation method"):
        run_hetcomp("CompositeStudent", "toy", config_dict={**settings, "methods": {method[:-7]: 1.0}}, arguments=())
    assert not (Path("saved") / "trained").exists()


def test_each_file_of_a_method_has_its_yaml_and_so_its_class_here() -> None:
    files = Path(next(iter(distilled_recommender.__path__))).glob("*.py")
    assert {name.lower() for name in ALL} == {file.stem for file in files} - {"__init__"}
