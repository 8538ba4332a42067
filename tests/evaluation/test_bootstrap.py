"""The paired bootstrap of clicks: AUC and LogLoss against their definitions, and how often it finds what is not there."""

from __future__ import annotations

import math

import numpy as np
import pytest
from recbole.evaluator.metrics import AUC

from recbole_hetcomp.evaluation.bootstrap import METRICS, Clicks, auc_of, difference, log_loss_of


def drawn(generator, n=300, skill=1.0, ties=False):
    labels = generator.random(n) < 0.4
    logits = skill * labels + generator.normal(size=n)
    return Clicks(labels, logits.round(1) if ties else logits)


def auc_by_pairs(labels, logits):
    """Of all pairs of a click and none, the part in which the click has the larger logit; equal ones count half."""
    ones, zeros = logits[labels], logits[~labels]
    return np.mean([(one > zeros).mean() + (one == zeros).mean() / 2 for one in ones])


@pytest.mark.parametrize("ties", [False, True])
def test_both_metrics_of_any_draw_equal_their_definitions(ties):
    generator = np.random.default_rng(0)
    clicks = drawn(generator, ties=ties)
    for _ in range(20):
        rows = generator.integers(300, size=300)
        weights = np.bincount(rows, minlength=300).astype(float)
        labels, logits = clicks.labels[rows], clicks.logits[rows]
        assert auc_of(clicks)(weights) == pytest.approx(auc_by_pairs(labels, logits), abs=1e-12)
        chances = 1 / (1 + np.exp(-logits))
        loss = -np.log(np.where(labels, chances, 1 - chances)).mean()
        assert log_loss_of(clicks)(weights) == pytest.approx(loss, rel=1e-12)


def test_a_loss_of_a_certain_and_wrong_prediction_is_finite():
    clicks = Clicks(np.array([True, False]), np.array([-1000.0, -1000.0]))
    assert log_loss_of(clicks)(np.ones(2)) == pytest.approx(500.0)


def test_a_sum_of_seeds_is_the_mean_of_their_differences():
    generator = np.random.default_rng(1)
    labels = generator.random(400) < 0.5
    ours, theirs = ([Clicks(labels, k * labels + generator.normal(size=400)) for _ in range(3)] for k in (1.5, 0.5))
    found = difference(ours, theirs, "auc", seed=0, draws=200)
    expected = np.mean([auc_by_pairs(*clicks) for clicks in ours]) - np.mean([auc_by_pairs(*clicks) for clicks in theirs])
    assert found.mean == pytest.approx(expected)
    assert found.low < expected < found.high
    assert found.low > 0
    assert found.p < 0.01
    assert difference(theirs, ours, "auc", seed=0, draws=200).mean == pytest.approx(-expected)


@pytest.mark.parametrize("metric", METRICS)
def test_a_difference_of_a_model_and_itself_is_none(metric):
    clicks = drawn(np.random.default_rng(2))
    assert difference([clicks], [clicks], metric, seed=0, draws=50) == (0.0, 0.0, 0.0, 1.0)


@pytest.mark.parametrize("metric", METRICS)
def test_chance_is_taken_for_more_about_one_time_in_twenty(metric):
    found = 0
    for trial in range(200):
        generator = np.random.default_rng(trial)
        labels = generator.random(200) < 0.5
        common = labels + generator.normal(size=200)
        ours, theirs = (Clicks(labels, common + 0.5 * generator.normal(size=200)) for _ in range(2))
        found += difference([ours], [theirs], metric, seed=trial, draws=100).p < 0.05
    assert 1 <= found <= 22  # 200 trials at 5 %: above 22 has a chance of 1e-4


def test_models_that_were_asked_for_other_rows_are_not_compared():
    generator = np.random.default_rng(3)
    with pytest.raises(ValueError, match="not predicted the same rows"):
        difference([drawn(generator)], [drawn(generator)], "auc", seed=0)


def test_auc_is_recboles():
    clicks = drawn(np.random.default_rng(4))
    theirs = AUC.metric_info(None, clicks.logits, clicks.labels.astype(float))
    assert auc_of(clicks)(np.ones(300)) == pytest.approx(theirs, abs=1e-9)
    assert math.isnan(auc_of(clicks)(clicks.labels.astype(float)))
