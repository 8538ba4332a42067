"""What holds of every distilled model: found by discovery, so that a new method is covered the day it is added."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from recbole_hetcomp.config.registry import get_model, is_distilled, properties_dir
from recbole_hetcomp.model import distilled_recommender
from recbole_hetcomp.testing import MethodContract

METHODS = [path.stem for path in sorted(properties_dir().glob("model/*.yaml")) if is_distilled(get_model(path.stem))]
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


def test_each_file_of_a_method_has_its_yaml_and_so_its_class_here() -> None:
    files = Path(next(iter(distilled_recommender.__path__))).glob("*.py")
    assert {name.lower() for name in METHODS} == {file.stem for file in files} - {"__init__"}
