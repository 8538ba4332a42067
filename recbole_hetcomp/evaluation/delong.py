"""Whether two models of clicks differ by more than chance: the same rows of the test part asked of both.

A metric of clicks is a mean over rows: LogLoss of the rows' losses, AUC of what DeLong calls placements. So the variance of
a paired difference is that of the rows' differences, and no rows are drawn. It takes O(N log N).

Source: DeLong, DeLong, Clarke-Pearson, "Comparing the Areas under Two or More Correlated Receiver Operating Characteristic
Curves: A Nonparametric Approach", Biometrics 44, 1988. By ranks after Sun and Xu, "Fast Implementation of DeLong's Algorithm
for Comparing the Areas Under Correlated Receiver Operating Characteristic Curves", IEEE Signal Processing Letters 21, 2014.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy.stats import rankdata

from recbole_hetcomp.evaluation.significance import tested


class Clicks(NamedTuple):
    """What a model predicts for the test rows.

    Attributes:
        labels: [N] bool
        logits: [N] float64
    """

    labels: np.ndarray
    logits: np.ndarray


class Difference(NamedTuple):
    """A difference between two models by one metric, or how high it is by itself.

    Attributes:
        mean: of the metric over the seeds, the one model's less the other's
        low, high: its interval at 1 - LEVEL
        p: two-sided, of 0
    """

    mean: float
    low: float
    high: float
    p: float


Parts = list[np.ndarray]  # one or more groups of rows with a number each; the mean of any group is the metric


def auc_parts(clicks: Clicks) -> Parts:
    """The area under the ROC curve: the part of the other rows below each click, and of the clicks above each other row.

    [n_clicks] and [n_others]. Rows of equal logits count half, as in the rank-sum statistic.
    """
    ones, zeros = clicks.logits[clicks.labels], clicks.logits[~clicks.labels]
    ranks = rankdata(clicks.logits)
    below = (ranks[clicks.labels] - rankdata(ones)) / len(zeros)
    above = 1 - (ranks[~clicks.labels] - rankdata(zeros)) / len(ones)
    return [below, above]


def log_loss_parts(clicks: Clicks) -> Parts:
    """The cross-entropy: [N] the loss of each row, from its logit, so that none is infinite."""
    return [np.logaddexp(0, np.where(clicks.labels, -clicks.logits, clicks.logits))]


METRICS: Mapping[str, Callable[[Clicks], Parts]] = {"auc": auc_parts, "logloss": log_loss_parts}


def difference(ours: Sequence[Clicks], theirs: Sequence[Clicks], metric: str) -> Difference:
    """How far two models are apart on the same test rows; without `theirs`, how high the metric of the first is.

    t = mean / sqrt(v_rows + v_ours + v_theirs), where v_rows is the variance over the rows of the difference of the seeds'
    means, and the others are those of the means over seeds; degrees of freedom after Welch and Satterthwaite. Where a label
    has one row alone its variance is unknown: the interval is then -1 to 1 and p is 1.

    Args:
        ours, theirs: what each predicts, a seed each; labels alike
        metric: auc or logloss

    Raises:
        ValueError: the models have not predicted the same rows.
    """
    labels = ours[0].labels
    if any(not np.array_equal(clicks.labels, labels) for clicks in (*ours, *theirs)):
        raise ValueError("the models have not predicted the same rows")
    sides = [[METRICS[metric](clicks) for clicks in side] for side in (ours, theirs) if side]
    seeds = [np.array([parts[0].mean() for parts in side]) for side in sides]
    mean = _less([values.mean() for values in seeds])
    rows = [_less([np.mean(of_group, axis=0) for of_group in groups]) for groups in zip(*(zip(*side) for side in sides))]
    if min(map(len, rows)) < 2:
        return Difference(float(mean), -1.0, 1.0, 1.0)
    spread = [(float(values.var(ddof=1)) / len(values), len(values) - 1) for values in (*rows, *seeds) if len(values) > 1]
    return Difference(float(mean), *tested(float(mean), spread))


def _less(values: Sequence[Any]) -> Any:
    """The first of the values less the second, or the first alone."""
    return values[0] - values[1] if len(values) > 1 else values[0]
