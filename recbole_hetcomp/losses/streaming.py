"""The log-mass of the catalogue without a score for every (user, item) pair in memory.

For a student whose scores are inner products (and squared distances are, of vectors longer by two), the softmax over all
items is a sum over blocks of items: forward keeps a running log-sum-exp a user, backward computes each block anew and turns
it into the gradients of user and item vectors at once. Memory is that of a block, whatever the catalogue.

The losses of `ranking.py` need nothing else from the catalogue; their lists are short.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import embedding

from recbole_hetcomp.losses.ranking import ShortList, fine_from_parts, list_sizes, overall_from_parts

BLOCK_BYTES = 2**21  # of scores: small enough to stay in a processor's cache between the passes over it


class Vectors(NamedTuple):
    """Scores as inner products: score(u, i) = <users[u], items[i]>."""

    users: Tensor  # [B, d]
    items: Tensor  # [I, d]


def squared_distance_vectors(users: Tensor, items: Tensor, scale: float = 1.0) -> Vectors:
    """The vectors [B, d + 2], [I, d + 2] whose inner products are -scale * |u - v|^2."""
    of_users = [2 * scale * users, -scale * users.square().sum(1, keepdim=True), torch.ones_like(users[:, :1])]
    of_items = [items, torch.ones_like(items[:, :1]), -scale * items.square().sum(1, keepdim=True)]
    return Vectors(torch.cat(of_users, 1), torch.cat(of_items, 1))


def log_mass(users: Tensor, items: Tensor, excluded: Tensor, *, block_bytes: int = BLOCK_BYTES) -> Tensor:
    """log sum exp(<u, i>) over the catalogue without `excluded` and item 0, in blocks of items.

    Args:
        users: [B, d] float
        items: [I, d] float
        excluded: [B, n] integer item ids, repeats allowed, 0 = padding
        block_bytes: of the scores held at once

    Returns:
        [B]; -inf where nothing is left, with a gradient of 0. float32 where the vectors are of lower precision
    """
    if users.dtype in (torch.float16, torch.bfloat16):
        users, items = users.float(), items.float()
    return _LogMass.apply(users, items, excluded, block_bytes)


def streamed_overall_loss(vectors: Vectors, targets: Tensor, observed: Tensor, history: Tensor) -> Tensor:
    """[B]: `overall_ranking_loss` of inner-product scores, without the scores."""
    tail = log_mass(*vectors, torch.cat([history, targets], 1))
    return overall_from_parts(listed(vectors, observed), listed(vectors, targets), tail)


def streamed_fine_loss(
    vectors: Vectors,
    targets: Tensor,
    observed: Tensor,
    history: Tensor,
    *,
    depths: Sequence[float] = (0.5, 0.1),
    weights: Sequence[float] = (0.5, 0.5),
) -> Tensor:
    """[B]: `fine_ranking_loss` of inner-product scores, in one pass over the catalogue.

    The tails differ by the targets between two depths alone: each is the largest depth's with those added.
    """
    sizes = list_sizes(targets.size(1), depths)
    target_list = listed(vectors, targets)
    common = log_mass(*vectors, torch.cat([history, targets[:, : sizes[0]]], 1))
    tails = [_with(common, target_list, size, sizes[0]) for size in sizes]
    return fine_from_parts(listed(vectors, observed), target_list, tails, sizes, weights)


def listed(vectors: Vectors, items: Tensor) -> ShortList:
    """The scores [B, n] of `items` [B, n], 0 = padding."""
    # `embedding` and not an index: the gradient of an index is summed by threads in whatever order they come.
    of_items = embedding(items.long(), vectors.items)  # [B, n, d]
    return ShortList(torch.einsum("bd,bnd->bn", vectors.users, of_items), items > 0)


def _with(tail: Tensor, targets: ShortList, start: int, stop: int) -> Tensor:
    """[B]: the log-mass `tail` with the targets from place `start` to `stop` added."""
    if start == stop:
        return tail
    floor = torch.finfo(tail.dtype).min / 2  # finite, so that no gradient is NaN
    added = targets.scores[:, start:stop].masked_fill(~targets.present[:, start:stop], floor)
    return torch.logaddexp(tail.clamp(min=floor), added.logsumexp(1))


class _Places:
    """The (row, item) pairs that are left out, those of each block of items together.

    Args:
        excluded: [B, n] item ids, 0 = padding; item 0 is left out for every row
        edges: first item of each block, and the end
    """

    def __init__(self, excluded: Tensor, edges: Sequence[int]) -> None:
        rows, columns = excluded.nonzero(as_tuple=True)
        every_row = torch.arange(len(excluded), device=excluded.device)
        self.rows = torch.cat([every_row, rows])
        self.items = torch.cat([torch.zeros_like(every_row), excluded[rows, columns].long()])
        self.bounds = [0, len(self.items)]
        if len(edges) > 2:
            self.items, order = self.items.sort()
            self.rows = self.rows[order]
            self.bounds = torch.searchsorted(self.items, torch.tensor(edges, device=self.items.device)).tolist()


class _LogMass(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, users: Tensor, items: Tensor, excluded: Tensor, block_bytes: int) -> Tensor:
        width = max(1, block_bytes // (users.element_size() * max(1, len(users))))
        edges = [*range(0, len(items), width), len(items)]
        places = _Places(excluded, edges)
        highest = users.new_full((len(users),), -torch.inf)
        total = users.new_zeros(len(users))
        for block in zip(edges, edges[1:], places.bounds, places.bounds[1:]):
            scores = _block_scores(users, items, places, block)
            previous, highest = highest, torch.maximum(highest, scores.amax(1))
            base = highest.clamp(min=torch.finfo(scores.dtype).min)  # -inf - (-inf) where a row has nothing yet
            total = total * (previous - base).exp() + scores.sub_(base[:, None]).exp_().sum(1)
        mass = total.log() + highest.clamp(min=torch.finfo(total.dtype).min)
        mass = torch.where(total > 0, mass, -torch.inf)
        ctx.save_for_backward(users, items, mass)
        ctx.places, ctx.edges = places, edges
        return mass

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        users, items, mass = ctx.saved_tensors
        of_users, of_items = torch.zeros_like(users), torch.empty_like(items)
        weighted = users * gradient[:, None]
        base = mass.masked_fill(mass == -torch.inf, torch.finfo(mass.dtype).max)[:, None]  # no mass, no gradient
        for block in zip(ctx.edges, ctx.edges[1:], ctx.places.bounds, ctx.places.bounds[1:]):
            share = _block_scores(users, items, ctx.places, block).sub_(base).exp_()  # [B, block], the softmax
            start, stop = block[:2]
            torch.mm(share.T, weighted, out=of_items[start:stop])
            of_users.addmm_(share, items[start:stop])
        return of_users * gradient[:, None], of_items, None, None


def _block_scores(users: Tensor, items: Tensor, places: _Places, block: tuple[int, int, int, int]) -> Tensor:
    """[B, stop - start] scores of a block of items, -inf where excluded."""
    start, stop, first, last = block
    scores = users @ items[start:stop].T
    scores[places.rows[first:last], places.items[first:last] - start] = -torch.inf
    return scores
