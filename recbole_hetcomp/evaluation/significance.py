"""Whether two models differ by more than chance: the same users asked of both, and a paired test over them.

The value of a user is the mean over the seeds of a model, so that the test is over users and speaks of this split alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from recbole.evaluator import Evaluator
from recbole.evaluator.base_metric import TopkMetric
from scipy.stats import ttest_rel

LEVEL = 0.05


class UserEvaluator(Evaluator):
    """RecBole's Evaluator, which also keeps what each user contributed to every top-k metric.

    Attributes:
        users: "metric@k" -> [n_users] float64 of the last evaluation, in the order of the evaluated users; the metric is the
            mean. Metrics that are no mean over users, such as AUC or ItemCoverage, are not there.
    """

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self.users: dict[str, np.ndarray] = {}
        for metric in self.metric_class.values():
            if isinstance(metric, TopkMetric):
                metric.topk_result = partial(self._keep, metric)

    def _keep(self, metric: TopkMetric, name: str, values: np.ndarray) -> dict[str, float]:
        """Where RecBole's metrics hand over their values [n_users, largest k] to be averaged."""
        self.users.update({f"{name}@{k}": values[:, k - 1].astype(np.float64) for k in metric.topk})
        return type(metric).topk_result(metric, name, values)


def paired_p_values(ours: Mapping[str, np.ndarray], others: Sequence[Mapping[str, np.ndarray]]) -> list[dict[str, float]]:
    """Two-sided paired t-tests over users of one model against several others, adjusted after Holm within each metric.

    Source: Holm, "A Simple Sequentially Rejective Multiple Test Procedure", Scandinavian Journal of Statistics, 1979.

    Args:
        ours: metric -> [n_users]
        others: the same of the other models

    Returns:
        for each of the others: metric -> p; 1 where no user's value differs
    """
    adjusted: list[dict[str, float]] = [{} for _ in others]
    for metric, values in ours.items():
        raw = [1.0 if np.array_equal(values, other[metric]) else ttest_rel(values, other[metric]).pvalue for other in others]
        for row, p in zip(adjusted, holm(raw)):
            row[metric] = p
    return adjusted


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values of a family of tests, such that rejecting those below a level keeps the chance of any false one below it."""
    order = np.argsort(p_values)
    factors = np.arange(len(p_values), 0, -1)
    adjusted = np.empty(len(p_values))
    adjusted[order] = np.minimum(np.maximum.accumulate(np.asarray(p_values)[order] * factors), 1.0)
    return adjusted.tolist()
