"""The log-mass of the catalogue without a score for every (user, item) pair in memory.

For a student whose scores are inner products (and squared distances are, of vectors longer by two), the softmax over all
items is a sum over blocks of items: forward keeps a running sum a user, backward computes each block anew (where there are
several) and turns it into the gradients of user and item vectors at once. Beside the vectors and their gradients, memory is
that of a block and of a copy of the items' vectors.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import pad

from recbole_hetcomp.losses.catalogue import ShortList
from recbole_hetcomp.losses.lookup import look_up

# Of scores: on a CPU small enough to stay in its cache between the passes over it, elsewhere worth a kernel's launch
BLOCK_BYTES = (2**21, 2**27)
SAMPLE = 256  # items among which a row's largest score is looked for
SAFE_SUM = (1e-25, 1e25)  # within these a sum of exp(score - base) has lost nothing, whatever the base
Block = tuple[int, int, int, int]  # first item, end; first excluded place, end


class Vectors(NamedTuple):
    """A catalogue whose scores are inner products: score(u, i) = <users[u], items[i]>."""

    users: Tensor  # [B, d]
    items: Tensor  # [I, d]

    def listed(self, items: Tensor) -> ShortList:
        of_items = look_up(self.items, items.long())  # [B, n, d]
        with torch.autocast(self.users.device.type, enabled=False):  # a distance is a difference of its products
            users = self.users.to(torch.promote_types(self.users.dtype, torch.float32))
            return ShortList(torch.einsum("bd,bnd->bn", users, of_items.to(users.dtype)), items > 0)

    def log_mass(self, excluded: Tensor) -> Tensor:
        return log_mass(self.users, self.items, excluded)


def squared_distance_vectors(users: Tensor, items: Tensor, scale: float = 1.0) -> Vectors:
    """The vectors [B, d + 2], [I, d + 2] whose inner products are -scale * |u - v|^2."""
    of_users = [2 * scale * users, -scale * users.square().sum(1, keepdim=True), torch.ones_like(users[:, :1])]
    of_items = [items, torch.ones_like(items[:, :1]), -scale * items.square().sum(1, keepdim=True)]
    return Vectors(torch.cat(of_users, 1), torch.cat(of_items, 1))


def log_mass(users: Tensor, items: Tensor, excluded: Tensor, *, block_bytes: int | None = None) -> Tensor:
    """log sum exp(<u, i>) over the catalogue without `excluded` and item 0, in blocks of items.

    Args:
        users: [B, d] float
        items: [I, d] float
        excluded: [B, n] integer item ids, repeats allowed, 0 = padding
        block_bytes: of the scores held at once; None = what suits the device

    Returns:
        [B]; -inf where nothing is left, with a gradient of 0; NaN or inf where a score is. float32 where the vectors are of
        lower precision
    """
    if users.dtype in (torch.float16, torch.bfloat16):
        users, items = users.float(), items.float()
    with torch.autocast(users.device.type, enabled=False):  # its products, too, accumulate in the vectors' own precision
        return _LogMass.apply(users, items, excluded, block_bytes or BLOCK_BYTES[users.device.type != "cpu"])


class _Places:
    """The (row, item) pairs that are left out, and how to put a value in their place in a block of items.

    Args:
        excluded: [B, n] item ids, 0 = padding
        edges: first item of each block, and the end
        gather: the pairs of each block beforehand, which is fast on a CPU. Else every block looks at all pairs: to know how
            many fall into it would mean to wait for the device
    """

    def __init__(self, excluded: Tensor, edges: Sequence[int], gather: bool) -> None:
        self.excluded, self.gathered = excluded.long(), gather
        if not gather:
            self.blocks = [(*block, 0, 0) for block in zip(edges, edges[1:])]
            return
        self.rows = torch.arange(len(excluded), device=excluded.device)[:, None].expand(excluded.shape).reshape(-1)
        self.items = self.excluded.reshape(-1)
        bounds = [0, len(self.items)]
        if len(edges) > 2:
            some = self.items.nonzero().squeeze(1)
            self.items, order = self.items[some].sort()
            self.rows = self.rows[some][order]
            bounds = torch.searchsorted(self.items, self.items.new_tensor(edges)).tolist()
        self.blocks = list(zip(edges, edges[1:], bounds, bounds[1:]))

    def filled(self, values: Tensor, block: Block, value: float) -> Tensor:
        """[stop - start, B] the block `values`, which may change, with `value` for what is excluded and for item 0."""
        start, stop, first, last = block
        width = stop - start
        if self.gathered:
            places = (self.items[first:last] - start) * values.size(1) + self.rows[first:last]
            values.view(-1).index_fill_(0, places, value)
        else:
            inside = (self.excluded >= start) & (self.excluded < stop)
            places = torch.where(inside, self.excluded - start, width).T  # a spare row takes those of other blocks
            values = pad(values, (0, 0, 0, 1)).scatter_(0, places, value)[:-1]
        if not start:
            values[0] = value
        return values


class _LogMass(torch.autograd.Function):
    """With E = exp(score - base) a block: mass = base + log sum E, and its gradient is E / sum E.

    `base` stands for the row's largest score and is subtracted within the product that gives the scores. The users' gradient
    is a mean of the items' vectors by E and known in the forward pass already: one product gives it and, by a column of
    ones, sum E. So both passes are what the bare two products and one exp are: scores, exp, and a product with E. Blocks are
    items x users, the layout in which these products are fastest, and written into the same memory one after the other.
    """

    @staticmethod
    def forward(ctx: Any, users: Tensor, items: Tensor, excluded: Tensor, block_bytes: int) -> Tensor:
        width = max(1, block_bytes // (users.element_size() * max(1, len(users))))
        edges = [*range(0, len(items), width), len(items)]
        places = _Places(excluded, edges, gather=users.device.type == "cpu")
        with_one = torch.cat([items, torch.ones_like(items[:, :1])], 1)
        base = _estimated_maximum(users, items) if users.device.type == "cpu" else _maximum(users, with_one, places)
        sums, kept = _sums_by_exp(users, with_one, base, places)
        total = sums[-1]
        if users.device.type == "cpu" and not ((total > SAFE_SUM[0]) & (total < SAFE_SUM[1])).all():
            base = _maximum(users, with_one, places)
            sums, kept = _sums_by_exp(users, with_one, base, places)
            total = sums[-1]
        ctx.save_for_backward(users, with_one, base, sums)
        ctx.places, ctx.kept = places, kept
        return torch.where(total == 0, -torch.inf, total.log() + base)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        with torch.autocast(gradient.device.type, enabled=False):
            return _LogMass._gradients(ctx, gradient)

    @staticmethod
    def _gradients(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        users, with_one, base, sums = ctx.saved_tensors
        factor = torch.where(sums[-1] == 0, 0.0, gradient / sums[-1])  # no mass, no gradient
        of_items, weighted = torch.empty_like(with_one[:, :-1]), users * factor[:, None]
        reduced, room = _reduced(users, base), _room(users, ctx.places)
        for block in ctx.places.blocks:
            share = _exp_block(reduced, with_one, ctx.places, block, room) if ctx.kept is None else ctx.kept
            torch.mm(share, weighted, out=of_items[block[0] : block[1]])
        return (sums[:-1] * factor).T.contiguous(), of_items, None, None


def _sums_by_exp(users: Tensor, with_one: Tensor, base: Tensor, places: _Places) -> tuple[Tensor, Tensor | None]:
    """[d + 1, B] the sums over items of exp(score - base) times (vector, 1), and the exps if they are one block."""
    reduced, room = _reduced(users, base), _room(users, places)
    sums, share = torch.zeros_like(reduced), None
    for block in places.blocks:
        share = _exp_block(reduced, with_one, places, block, room)
        sums.addmm_(with_one[block[0] : block[1]].T, share)
    return sums, share if len(places.blocks) == 1 else None


def _reduced(users: Tensor, base: Tensor) -> Tensor:
    """[d + 1, B]: what an item's vector, and a 1, are multiplied with to give score - base."""
    return torch.cat([users, -base[:, None]], 1).T.contiguous()


def _room(users: Tensor, places: _Places) -> Tensor:
    """[W, B]: memory for the largest block."""
    return users.new_empty(max((stop - start for start, stop, *_ in places.blocks), default=0), len(users))


def _exp_block(reduced: Tensor, with_one: Tensor, places: _Places, block: Block, room: Tensor) -> Tensor:
    """[stop - start, B] exp(score - base) of a block of items, 0 where excluded; in `room`."""
    start, stop = block[:2]
    exps = torch.mm(with_one[start:stop], reduced, out=room[: stop - start]).exp_()
    return places.filled(exps, block, 0.0)


def _estimated_maximum(users: Tensor, items: Tensor) -> Tensor:
    """[B] the largest score of every so many items: near enough to the row's maximum, unless the sum says otherwise."""
    return (users @ items[1 :: len(items) // SAMPLE + 1].T).amax(1) if len(items) > 1 else users.new_zeros(len(users))


def _maximum(users: Tensor, with_one: Tensor, places: _Places) -> Tensor:
    """[B] the largest score that is not excluded; the lowest number there is where all are."""
    highest = users.new_full((len(users),), torch.finfo(users.dtype).min)
    for block in places.blocks:
        scores = places.filled(with_one[block[0] : block[1], :-1] @ users.T, block, -torch.inf)
        highest = torch.maximum(highest, scores.amax(0))
    return highest.masked_fill(highest == torch.finfo(users.dtype).min, 0.0)
