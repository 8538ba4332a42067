"""What holds of every distilled model: found by discovery, so that a new method is covered the day it is added."""

from __future__ import annotations

from typing import Any

from recbole_hetcomp.config.registry import get_model, is_distilled, properties_dir
from recbole_hetcomp.testing import MethodContract

METHODS = [path.stem for path in sorted(properties_dir().glob("model/*.yaml")) if is_distilled(get_model(path.stem))]
# What the definition of a method makes an exception.
EXCEPTIONS: dict[str, dict[str, Any]] = {
    # Its asymmetric side needs scores that are products of tables, and its candidates begin with a training item.
    "EmbedDistillStudent": {"any_student": {"side": "symmetric"}, "observed_candidates": 1},
}

for name in METHODS:
    globals()[f"Test{name}"] = type(f"Test{name}", (MethodContract,), {"method": name, **EXCEPTIONS.get(name, {})})
