"""Differences of clicks: AUC and LogLoss against their definitions, standard errors against a paired bootstrap."""

from __future__ import annotations

from time import perf_counter

import numpy as np
import pytest
from recbole.evaluator.metrics import AUC
from scipy.stats import t as student_t

from recbole_hetcomp.evaluation.delong import METRICS, Clicks, auc_parts, difference, log_loss_parts


def drawn(generator, n=300, skill=1.0, ties=False):
    labels = generator.random(n) < 0.4
    logits = skill * labels + generator.normal(size=n)
    return Clicks(labels, logits.round(1) if ties else logits)


def auc_by_pairs(labels, logits):
    """Of all pairs of a click and none, the part in which the click has the larger logit; equal ones count half."""
    ones, zeros = logits[labels], logits[~labels]
    return np.mean([(one > zeros).mean() + (one == zeros).mean() / 2 for one in ones])


def loss_by_rows(labels, logits):
    chances = 1 / (1 + np.exp(-logits))
    return -np.log(np.where(labels, chances, 1 - chances)).mean()


BY_DEFINITION = {"auc": auc_by_pairs, "logloss": loss_by_rows}


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("metric", METRICS)
def test_the_mean_of_each_part_is_the_metric(metric, ties):
    generator = np.random.default_rng(0)
    for _ in range(20):
        clicks = drawn(generator, ties=ties)
        for part in METRICS[metric](clicks):
            assert part.mean() == pytest.approx(BY_DEFINITION[metric](*clicks), rel=1e-12)


def test_a_loss_of_a_certain_and_wrong_prediction_is_finite():
    clicks = Clicks(np.array([True, False]), np.array([-1000.0, -1000.0]))
    assert log_loss_parts(clicks)[0].mean() == pytest.approx(500.0)


@pytest.mark.parametrize("metric", METRICS)
def test_the_standard_error_is_that_of_a_paired_bootstrap(metric):
    """2,000 draws of the rows, the same for both models, with ties among their logits."""
    generator = np.random.default_rng(5)
    labels = generator.random(600) < 0.3
    common = labels + generator.normal(size=600)
    ours, theirs = (Clicks(labels, (common + k * generator.normal(size=600)).round(1)) for k in (0.3, 0.8))
    found = difference([ours], [theirs], metric)
    score, draws = BY_DEFINITION[metric], []
    for _ in range(2000):
        rows = generator.integers(600, size=600)
        one, other = (score(labels[rows], clicks.logits[rows]) for clicks in (ours, theirs))
        draws.append(one - other)
    error = (found.high - found.mean) / student_t.isf(0.025, 500)
    assert error == pytest.approx(np.std(draws, ddof=1), rel=0.05)
    assert found.mean == pytest.approx(score(*ours) - score(*theirs), rel=1e-9)
    assert (found.low, found.high) == pytest.approx(tuple(np.quantile(draws, [0.025, 0.975])), abs=0.2 * error)


def test_a_sum_of_seeds_is_the_mean_of_their_differences():
    generator = np.random.default_rng(1)
    labels = generator.random(400) < 0.5
    ours, theirs = ([Clicks(labels, k * labels + generator.normal(size=400)) for _ in range(3)] for k in (1.5, 0.5))
    found = difference(ours, theirs, "auc")
    expected = np.mean([auc_by_pairs(*clicks) for clicks in ours]) - np.mean([auc_by_pairs(*clicks) for clicks in theirs])
    assert found.mean == pytest.approx(expected)
    assert found.low < expected < found.high
    assert found.low > 0
    assert found.p < 0.01
    assert difference(theirs, ours, "auc").mean == pytest.approx(-expected)


@pytest.mark.parametrize("metric", METRICS)
def test_seeds_that_differ_widen_the_interval(metric):
    generator = np.random.default_rng(6)
    clicks = drawn(generator, 5000)
    alike = [Clicks(clicks.labels, clicks.logits * 0.5)] * 2
    apart = [Clicks(clicks.labels, clicks.logits + k * generator.normal(size=5000)) for k in (0.1, 2.0)]
    narrow, wide = difference([clicks], alike, metric), difference([clicks], apart, metric)
    assert wide.high - wide.low > 2 * (narrow.high - narrow.low)


@pytest.mark.parametrize("metric", METRICS)
def test_a_difference_of_a_model_and_itself_is_none(metric):
    clicks = drawn(np.random.default_rng(2))
    assert difference([clicks], [clicks], metric) == (0.0, 0.0, 0.0, 1.0)


@pytest.mark.parametrize("metric", METRICS)
def test_chance_is_taken_for_more_about_one_time_in_twenty(metric):
    found = 0
    for trial in range(400):
        generator = np.random.default_rng(trial)
        labels = generator.random(200) < 0.5
        common = labels + generator.normal(size=200)
        ours, theirs = (Clicks(labels, common + 0.5 * generator.normal(size=200)) for _ in range(2))
        found += difference([ours], [theirs], metric).p < 0.05
    assert 6 <= found <= 37  # 400 trials at 5 %: beyond either a chance of 1e-4


def test_a_label_of_one_row_says_nothing_of_the_area():
    labels = np.array([True, False, False, False])
    ours, theirs = Clicks(labels, np.array([4.0, 1, 2, 3])), Clicks(labels, np.array([1.0, 2, 3, 4]))
    assert difference([ours], [theirs], "auc") == (1.0, -1.0, 1.0, 1.0)


def test_models_that_were_asked_for_other_rows_are_not_compared():
    generator = np.random.default_rng(3)
    with pytest.raises(ValueError, match="not predicted the same rows"):
        difference([drawn(generator)], [drawn(generator)], "auc")


def test_auc_is_recboles():
    clicks = drawn(np.random.default_rng(4))
    theirs = AUC.metric_info(None, clicks.logits, clicks.labels.astype(float))
    assert auc_parts(clicks)[0].mean() == pytest.approx(theirs, abs=1e-9)


def test_hundreds_of_thousands_of_rows_take_no_time_to_speak_of():
    generator = np.random.default_rng(7)
    clicks = drawn(generator, 300_000)
    other = Clicks(clicks.labels, clicks.logits + generator.normal(size=300_000))
    started = perf_counter()
    assert difference([clicks], [other], "auc").p < 0.01
    assert perf_counter() - started < 30  # 1,000 draws took half an hour


@pytest.mark.parametrize("metric", METRICS)
def test_how_high_a_metric_is_has_the_error_of_a_bootstrap_of_the_rows(metric):
    generator = np.random.default_rng(7)
    clicks = drawn(generator, n=600)
    found = difference([clicks], [], metric)
    assert found.mean == pytest.approx(BY_DEFINITION[metric](*clicks), rel=1e-12)
    draws = []
    for _ in range(1000):
        rows = generator.integers(600, size=600)
        draws.append(BY_DEFINITION[metric](clicks.labels[rows], clicks.logits[rows]))
    reach = student_t.isf(0.025, 600) * np.std(draws, ddof=1)
    assert (found.high - found.low) / 2 == pytest.approx(reach, rel=0.12)


@pytest.mark.parametrize("metric", METRICS)
def test_how_high_a_metric_is_over_seeds_is_their_mean_with_their_spread(metric):
    generator = np.random.default_rng(8)
    labels = generator.random(400) < 0.4
    seeds = [Clicks(labels, skill * labels + generator.normal(size=400)) for skill in (0.5, 1.5, 2.5)]
    found = difference(seeds, [], metric)
    assert found.mean == pytest.approx(np.mean([BY_DEFINITION[metric](*clicks) for clicks in seeds]), rel=1e-12)
    assert found.high - found.low > 2 * (difference(seeds[:1], [], metric).high - difference(seeds[:1], [], metric).low)
