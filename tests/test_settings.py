"""Settings out of range are named before anything is read or trained."""

from __future__ import annotations

import pytest

from recbole_hetcomp.errors import UserError
from recbole_hetcomp.settings import RANGES, check_settings

BAD = {
    "consistency_window": 0,
    "n_targets": 1.5,
    "n_observed": True,
    "embedding_size": 0,
    "trajectory_depth": 0,
    "importance_cutoff": -1,
    "importance_temperature": "x",
    "max_block_mb": "x",
    "score_clamp": 0,
    "teacher_weighting": None,
    "base_loss_weight": "x",
    "fine_weights": ["a", "b"],
    "trajectory_fractions": 0.5,
    "teacher_config": 3,
    "split_seed": "x",
}


@pytest.mark.parametrize("key", BAD)
def test_a_value_out_of_range_is_one_sentence_with_setting_and_value(key: str) -> None:
    with pytest.raises(UserError, match=f"^{key}: .* must be ") as caught:
        check_settings({key: BAD[key]})
    assert repr(BAD[key]) in str(caught.value)


def test_the_defaults_are_in_range_and_every_row_speaks_of_real_settings(make_config) -> None:
    config = make_config("HetCompStudent")
    check_settings(config)
    assert {key for _, _, keys in RANGES for key in keys} <= set(config.final_config_dict)
