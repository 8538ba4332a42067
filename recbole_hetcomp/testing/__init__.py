"""What a distillation method must do, as tests that any package can inherit, and the small dataset that they train on.

A method's test is three lines, beside an import (pytest is needed here, and nowhere else in this package):

    class TestTopTen(MethodContract):
        method = "TopTenStudent"
"""

from __future__ import annotations

import pytest

pytest.register_assert_rewrite(
    "recbole_hetcomp.testing.contract",
    "recbole_hetcomp.testing.context_contract",
    "recbole_hetcomp.testing.parts_of_a_batch",
    "recbole_hetcomp.testing.results",
)

from recbole_hetcomp.testing.context_contract import ContextContract  # noqa: E402
from recbole_hetcomp.testing.contract import MethodContract  # noqa: E402
from recbole_hetcomp.testing.toy import apart, toy_pairs, toy_settings, write_toy  # noqa: E402
from recbole_hetcomp.testing.wrong_values import wrong_values  # noqa: E402

__all__ = ["ContextContract", "MethodContract", "apart", "toy_pairs", "toy_settings", "write_toy", "wrong_values"]
