"""A setting that a RecBole model fails of while it is trained is a sentence with its name; others stay as they are."""

from __future__ import annotations

import pytest
from recbole.model.general_recommender.bpr import BPR

from recbole_hetcomp.config.errors import UserError
from recbole_hetcomp.quick_start import run_hetcomp
from recbole_hetcomp.trainer.faults import faults_of

SENTENCE = r"^SGL cannot be trained: ValueError Negative dimensions .* \(sgl.py, line \d+\); correct its settings"


def test_a_models_own_setting_out_of_range_is_named_with_the_model(settings) -> None:
    with pytest.raises(UserError, match=SENTENCE):
        run_hetcomp("SGL", "toy", config_dict={**settings, "drop_ratio": 7, "type": "ED"}, arguments=())


def test_a_teachers_likewise(settings) -> None:
    given = {"teachers": ["SGL"], "teacher_config": {"SGL": {"drop_ratio": 7}}, "without_distillation": False}
    with pytest.raises(UserError, match=SENTENCE + " or leave it out"):
        run_hetcomp("HetCompStudent", "toy", config_dict={**settings, **given}, arguments=())


@pytest.mark.parametrize("kind", [ValueError, TypeError, IndexError, RuntimeError])
def test_an_error_of_another_place_is_no_fault_of_a_setting(kind) -> None:
    with pytest.raises(kind, match="of our own") as caught, faults_of("BPR"):
        raise kind("of our own")
    assert not isinstance(caught.value, UserError)


def test_an_error_below_a_recbole_model_is_told_by_the_models_line() -> None:
    with pytest.raises(UserError, match=r"BPR cannot be trained: .*bpr.py, line \d+"), faults_of("BPR"):
        BPR.calculate_loss(object(), {})
