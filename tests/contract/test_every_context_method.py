"""Every method that distils predictions of clicks does what all of them must do."""

from __future__ import annotations

import pytest

from recbole_hetcomp.config.registry import get_model, is_distilled, properties_dir
from recbole_hetcomp.testing.context_contract import ContextContract

DISTILLED = [path.stem for path in sorted(properties_dir().glob("model/*.yaml")) if is_distilled(get_model(path.stem))]
METHODS = [name for name in DISTILLED if "context" in get_model(name).families]
OWN = {"KDDAGFMStudent": {"distil_epochs": 2}}


@pytest.fixture(params=METHODS, autouse=True)
def _method(request: pytest.FixtureRequest) -> None:
    request.cls.method = request.param
    request.cls.settings_of_method = OWN.get(request.param, {})


class TestEveryContextMethod(ContextContract):
    pass
