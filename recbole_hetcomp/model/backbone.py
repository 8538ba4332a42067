"""What a student's model may offer beyond RecBole's interface, so that more can be done with it, or faster."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from torch import Tensor

from recbole_hetcomp.losses.streaming import Vectors


@runtime_checkable
class HasVectors(Protocol):
    """A backbone whose scores are inner products, so that losses over the whole catalogue can be streamed."""

    def vectors(self, users: Tensor) -> Vectors:
        """Users [B] and all items as vectors whose inner products are the scores."""


@runtime_checkable
class HasHistories(HasVectors, Protocol):
    """Such a backbone that makes a user's vector from a history, so that users can be made up."""

    def encode(self, histories: Tensor) -> Tensor:
        """[B, d]: the vectors of users with histories [B, n], 0 = no item."""
