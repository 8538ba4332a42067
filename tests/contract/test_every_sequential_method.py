"""What holds of every distilled model with a student that is asked by sequences; found by discovery."""

from __future__ import annotations

from typing import Any

from recbole_hetcomp.config.registry import get_model, is_distilled, properties_dir
from recbole_hetcomp.testing.sequential_contract import SequentialContract

ALL = [path.stem for path in sorted(properties_dir().glob("model/*.yaml")) if is_distilled(get_model(path.stem))]
METHODS = [name for name in ALL if "context" not in get_model(name).families]  # those: test_every_context_method.py
REFUSED = {
    "CUKDStudent",
    "DCDStudent",
    "DisWOTStudent",
    "EmbedDistillStudent",
    "FreqDStudent",
    "IRRRDStudent",
    "ReverseStudent",
}
FOUND = ["conv3", "dilated3", "skip", "max_pool", "avg_pool", "conv5"]
OF_METHOD: dict[str, dict[str, Any]] = {
    "CompositeStudent": {"settings_of_method": {"methods": {"RRD": 0.5, "DE": 2.0}}},
    "TinTeMStudent": {"settings_of_method": {"head_steps": 5}},
    "AdaRecSearchStudent": {
        "student": "AdaRecNet",
        "settings_of_student": {"n_cells": 2},
        "settings_of_method": {"teachers": ["SASRec"]},
    },
    "AdaRecStudent": {
        "student": "AdaRecNet",
        "settings_of_student": {"n_cells": 2, "architecture": FOUND},
        "settings_of_method": {"start_from": None},
    },
}

for name in METHODS:
    attributes = {"method": name, **OF_METHOD.get(name, {})}
    globals()[f"TestSequential{name}"] = type(f"TestSequential{name}", (SequentialContract,), attributes)


def test_these_methods_alone_refuse() -> None:
    assert {name for name in METHODS if "sequential" not in get_model(name).families} == REFUSED
