"""Whether two models differ by more than chance: the same users asked of both, several seeds of each.

It speaks of the split at hand: another split, or other teachers, are not among the chances.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from recbole.evaluator import Evaluator
from recbole.evaluator.base_metric import TopkMetric
from scipy.stats import t as student_t

from recbole_hetcomp.config.config import Config

LEVEL = 0.05
Users = Mapping[str, np.ndarray]  # metric -> [seeds, n_users]


class UserEvaluator(Evaluator):
    """RecBole's Evaluator, which also keeps what each user contributed to every top-k metric.

    Attributes:
        users: "metric@k" -> [n_users] float64 of the last evaluation, in the order of the evaluated users; the metric is the
            mean. Metrics that are no mean over users, such as AUC or ItemCoverage, are not there.
    """

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.users: dict[str, np.ndarray] = {}
        for metric in self.metric_class.values():
            if isinstance(metric, TopkMetric):
                metric.topk_result = partial(self._keep, metric)

    def _keep(self, metric: TopkMetric, name: str, values: np.ndarray) -> dict[str, float]:
        """Where RecBole's metrics hand over their values [n_users, largest k] to be averaged."""
        self.users.update({f"{name}@{k}": values[:, k - 1].astype(np.float64) for k in metric.topk})
        return type(metric).topk_result(metric, name, values)


def p_value(ours: np.ndarray, theirs: np.ndarray) -> float:
    """Whether two models' means differ: a paired t-test over users, to whose variance that of the seeds' means is added.

    t = d / sqrt(v_users + v_ours + v_theirs), where d is the mean over users of the difference of the seeds' means, v_users
    its squared standard error, and v_ours, v_theirs those of the two models' means over seeds; degrees of freedom after
    Welch and Satterthwaite. With one seed it is the paired t-test over users, which says nothing of another seed.

    Args:
        ours, theirs: [seeds, n_users] float64, the same users

    Returns:
        two-sided p; 1 where there is no difference at all, or no second user
    """
    difference, variances = _difference(ours, theirs)
    return tested(float(difference.mean()), variances).p if variances else 1.0


def _difference(ours: np.ndarray, theirs: np.ndarray) -> tuple[np.ndarray, list[tuple[float, int]]]:
    """([n_users] the difference of the seeds' means, the variances of its mean with their degrees of freedom)."""
    difference = ours.mean(0) - theirs.mean(0)
    variances = [(difference.var(ddof=1) / len(difference), len(difference) - 1)] if len(difference) > 1 else []
    for seeds in (ours.mean(1), theirs.mean(1)):
        if len(seeds) > 1:
            variances.append((seeds.var(ddof=1) / len(seeds), len(seeds) - 1))
    return difference, variances


class Tested(NamedTuple):
    """What a t-test says of a mean difference: its interval at 1 - LEVEL, and the two-sided p."""

    low: float
    high: float
    p: float


def tested(mean: float, variances: Sequence[tuple[float, int]]) -> Tested:
    """The t-test of a mean whose variance is the sum of `variances`, each with its degrees of freedom.

    The sum's are those of Welch and Satterthwaite. Without any variance, p is 0 unless the mean is.
    """
    total = sum(variance for variance, _ in variances)
    if total == 0:
        return Tested(mean, mean, 1.0 if mean == 0 else 0.0)
    freedom, error = total**2 / sum(variance**2 / df for variance, df in variances), float(np.sqrt(total))
    reach = float(student_t.isf(LEVEL / 2, freedom)) * error
    return Tested(mean - reach, mean + reach, float(2 * student_t.sf(abs(mean) / error, freedom)))


class Difference(NamedTuple):
    """How two models differ in a metric.

    Attributes:
        mean: of the first model's values less the second's, over users and seeds
        low, high: its interval at 1 - LEVEL; None where there is no second user
        p: as `p_value`, of this pair alone
        won, lost, tied: shares of the users for whom the first model's mean over seeds is larger, smaller, the same
    """

    mean: float
    low: float | None
    high: float | None
    p: float
    won: float
    lost: float
    tied: float


def differences(ours: Users, theirs: Users) -> dict[str, Difference]:
    """The `Difference` of two models in each metric that both have, the same users asked of both."""
    return {metric: _compared(values, theirs[metric]) for metric, values in ours.items() if metric in theirs}


def _compared(ours: np.ndarray, theirs: np.ndarray) -> Difference:
    difference, variances = _difference(ours, theirs)
    mean = float(difference.mean())
    low, high, p = tested(mean, variances) if variances else (None, None, 1.0)
    won, lost = float((difference > 0).mean()), float((difference < 0).mean())
    return Difference(mean, low, high, p, won, lost, float((difference == 0).mean()))


def as_dicts(found: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Differences by metric, as JSON has them."""
    return {metric: entry._asdict() for metric, entry in found.items()}


def paired_p_values(ours: Users, others: Sequence[Users]) -> list[dict[str, float]]:
    """`p_value` of one model against several others, adjusted after Holm for their number within each metric.

    Source: Holm, "A Simple Sequentially Rejective Multiple Test Procedure", Scandinavian Journal of Statistics, 1979.

    Args:
        ours: metric -> [seeds, n_users]
        others: the same of the other models

    Returns:
        for each of the others: metric -> p
    """
    adjusted: list[dict[str, float]] = [{} for _ in others]
    for metric, values in ours.items():
        for row, p in zip(adjusted, holm([p_value(values, other[metric]) for other in others])):
            row[metric] = p
    return adjusted


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values of a family of tests, such that rejecting those below a level keeps the chance of any false one below it."""
    order = np.argsort(p_values)
    factors = np.arange(len(p_values), 0, -1)
    adjusted = np.empty(len(p_values))
    adjusted[order] = np.minimum(np.maximum.accumulate(np.asarray(p_values)[order] * factors), 1.0)
    return adjusted.tolist()
