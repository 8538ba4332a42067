"""What RecBole's metrics can come to."""

from __future__ import annotations

import math

ABOVE_ONE = ("averagepopularity", "shannonentropy", "mae", "rmse", "logloss")


def largest(metric: str) -> float:
    """The largest value that a metric, such as `Recall@10`, can have. The smallest is 0 for all of them."""
    return math.inf if metric.lower().startswith(ABOVE_ONE) else 1.0
