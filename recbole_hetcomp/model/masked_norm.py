"""BatchNorm of sequences: what is behind the end of a sequence counts for nothing."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class MaskedBatchNorm(nn.BatchNorm1d):
    """nn.BatchNorm1d over channels of sequences, whose mean and deviation are those of the valid positions alone."""

    def forward(self, values: Tensor, valid: Tensor) -> Tensor:  # type: ignore[override]
        """[B, d, T] of `values` [B, d, T], 0 where `valid` [B, 1, T], of 0 and 1, is 0."""
        mean, variance = self._moments(values, valid) if self.training else (self.running_mean, self.running_var)
        assert mean is not None
        assert variance is not None
        normal = (values - mean[:, None]) * (variance[:, None] + self.eps).rsqrt()
        return (normal * self.weight[:, None] + self.bias[:, None]) * valid

    def _moments(self, values: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and variance [d] of a batch, which the running ones follow."""
        values, count = values.float(), valid.sum()
        mean = (values * valid).sum((0, 2)) / count
        variance = ((values - mean[:, None]).square() * valid).sum((0, 2)) / count
        with torch.no_grad():
            assert self.running_mean is not None
            assert self.running_var is not None
            assert self.num_batches_tracked is not None
            unbiased = variance * (count / (count - 1).clamp(min=1))
            self.running_mean.lerp_(mean, float(self.momentum or 0))
            self.running_var.lerp_(unbiased, float(self.momentum or 0))
            self.num_batches_tracked.add_(1)
        return mean, variance
