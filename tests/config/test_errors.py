"""Sentences for people, whatever the names in them are made of."""

from __future__ import annotations

import numpy as np

from recbole_hetcomp.config.errors import close_matches


def test_near_names_are_quoted_plainly_also_where_they_are_numpys_strings() -> None:
    assert close_matches("u_7", np.array(["[PAD]", "u7", "x"])) == "; did you mean 'u7'?"
    assert close_matches("u_7", {np.str_("U7"): 1, np.str_("v"): 2}) == "; did you mean 'U7'?"
    assert close_matches("w", ["u7"]) == ""
