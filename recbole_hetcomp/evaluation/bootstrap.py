"""Whether two models of clicks differ by more than chance: a paired bootstrap over the rows of the test part.

AUC is no mean over rows, so the rows are drawn anew, the same for both models, and both are scored on them.

Source: Efron and Tibshirani, "An Introduction to the Bootstrap", 1993, chapter 13; percentile intervals.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from scipy.stats import t as student_t

DRAWS = 1000


class Clicks(NamedTuple):
    """What a model predicts for the test rows.

    Attributes:
        labels: [N] bool
        logits: [N] float64
    """

    labels: np.ndarray
    logits: np.ndarray


class Difference(NamedTuple):
    """A difference between two models by one metric.

    Attributes:
        mean: of the metric over the seeds, the one model's less the other's
        low, high: 2.5 % of the draws lie below, and above
        p: two-sided, with the spread over seeds in its variance
    """

    mean: float
    low: float
    high: float
    p: float


def auc_of(clicks: Clicks) -> Callable[[np.ndarray], float]:
    """The area under the ROC curve as a function of the rows' weights [N]; NaN where one of the labels has none.

    Rows of equal logits count half, as in the rank-sum statistic.
    """
    order = np.argsort(clicks.logits, kind="stable")
    ascending, labels = clicks.logits[order], clicks.labels[order]
    starts = np.flatnonzero(np.concatenate([[True], ascending[1:] != ascending[:-1]]))

    def auc(weights: np.ndarray) -> float:
        of_rows = weights[order]
        ones, zeros = (np.add.reduceat(of_rows * which, starts) for which in (labels, ~labels))
        below = zeros.cumsum() - zeros / 2
        pairs = ones.sum() * zeros.sum()
        return float((ones * below).sum() / pairs) if pairs else float("nan")

    return auc


def log_loss_of(clicks: Clicks) -> Callable[[np.ndarray], float]:
    """The mean cross-entropy as a function of the rows' weights [N], from logits, so that none is infinite."""
    losses = np.logaddexp(0, np.where(clicks.labels, -clicks.logits, clicks.logits))
    return lambda weights: float((weights * losses).sum() / weights.sum())


METRICS: Mapping[str, Callable[[Clicks], Callable[[np.ndarray], float]]] = {"auc": auc_of, "logloss": log_loss_of}


def difference(
    ours: Sequence[Clicks], theirs: Sequence[Clicks], metric: str, *, seed: int, draws: int = DRAWS
) -> Difference:
    """How far two models are apart on the same test rows.

    t = mean / sqrt(v_rows + v_ours + v_theirs), where v_rows is the variance over the draws, and the others are those of the
    means over seeds; degrees of freedom after Welch and Satterthwaite.

    Args:
        ours, theirs: what each predicts, a seed each; labels alike
        metric: auc or logloss
        seed: of the draws: the same for all pairs of models

    Raises:
        ValueError: the models have not predicted the same rows.
    """
    labels = ours[0].labels
    if any(not np.array_equal(clicks.labels, labels) for clicks in (*ours, *theirs)):
        raise ValueError("the models have not predicted the same rows")
    one, other = ([METRICS[metric](clicks) for clicks in side] for side in (ours, theirs))
    whole = [np.array([score(np.ones(len(labels))) for score in side]) for side in (one, other)]
    mean = float(whole[0].mean() - whole[1].mean())
    generator, found = np.random.default_rng(seed), np.empty(draws)
    for draw in range(draws):
        rows = generator.integers(len(labels), size=len(labels))
        weights = np.bincount(rows, minlength=len(labels)).astype(np.float64)
        found[draw] = np.mean([score(weights) for score in one]) - np.mean([score(weights) for score in other])
    found = found[~np.isnan(found)]
    variances = [(float(found.var(ddof=1)), len(labels) - 1)]
    variances += [(float(side.var(ddof=1)) / len(side), len(side) - 1) for side in whole if len(side) > 1]
    low, high = np.quantile(found, [0.025, 0.975])
    return Difference(mean, float(low), float(high), _p_value(mean, variances))


def _p_value(mean: float, variances: Sequence[tuple[float, int]]) -> float:
    total = sum(variance for variance, _ in variances)
    if total == 0:
        return 1.0 if mean == 0 else 0.0
    freedom = total**2 / sum(variance**2 / df for variance, df in variances)
    return float(2 * student_t.sf(abs(mean) / np.sqrt(total), freedom))
