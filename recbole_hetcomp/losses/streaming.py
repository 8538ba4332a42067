"""The log-mass of the catalogue without a score for every (user, item) pair in memory.

For a student whose scores are inner products (and squared distances are, of vectors longer by two), the softmax over all
items is a sum over blocks of items: forward keeps a running sum a user, backward computes each block anew and turns it into
the gradient of its items' vectors at once. Beside the vectors and their gradients, memory is that of a block (two where it
is no CPU). Where all blocks of a batch fit into a budget they are stored from forward to backward instead, which saves a
product and an exp of each.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad

from recbole_hetcomp.losses.catalogue import ShortList
from recbole_hetcomp.losses.exponential import exp_floor
from recbole_hetcomp.losses.lookup import look_up

# Of scores: on a CPU small enough to stay in its cache between the passes over it, elsewhere worth a kernel's launch
BLOCK_BYTES = (2**21, 2**26)
STORED_BYTES = 2**26  # of all scores of a batch: up to that they are stored for the backward pass
SAMPLE = 256  # items among which a row's largest score is looked for
SAFE_SUM = (1e-18, 1e25)  # within these a sum of exp(score - base) has lost nothing, whatever the base
Block = tuple[int, int, int, int]  # first item, end; first excluded place, end


class Vectors(NamedTuple):
    """A catalogue whose scores are inner products: score(u, i) = <users[u], items[i]>."""

    users: Tensor  # [B, d]
    items: Tensor  # [I, d]
    stored_bytes: int = STORED_BYTES  # as `log_mass` has it

    def listed(self, items: Tensor) -> ShortList:
        """The scores of `items` [B, n] integer ids, 0 = padding; in float32 at least, under autocast too."""
        of_items = look_up(self.items, items.long())  # [B, n, d]
        with torch.autocast(self.users.device.type, enabled=False):  # a distance is a difference of its products
            users = self.users.to(torch.promote_types(self.users.dtype, torch.float32))
            return ShortList(torch.einsum("bd,bnd->bn", users, of_items.to(users.dtype)), items > 0)

    def log_mass(self, excluded: Tensor) -> Tensor:
        """[B] log sum exp(score) but for 0 and `excluded` [B, n], 0 = padding, in blocks; -inf where no item is left."""
        return log_mass(self.users, self.items, excluded, stored_bytes=self.stored_bytes)


def squared_distance_vectors(users: Tensor, items: Tensor, scale: float = 1.0) -> Vectors:
    """The vectors [B, d + 2], [I, d + 2] whose inner products are -scale * |u - v|^2."""
    of_users = [2 * scale * users, -scale * users.square().sum(1, keepdim=True), torch.ones_like(users[:, :1])]
    of_items = [items, torch.ones_like(items[:, :1]), -scale * items.square().sum(1, keepdim=True)]
    return Vectors(torch.cat(of_users, 1), torch.cat(of_items, 1))


def log_mass(
    users: Tensor, items: Tensor, excluded: Tensor, *, block_bytes: int | None = None, stored_bytes: int = STORED_BYTES
) -> Tensor:
    """log sum exp(<u, i>) over the catalogue without `excluded` and item 0, in blocks of items.

    Args:
        users: [B, d] float
        items: [I, d] float
        excluded: [B, n] integer item ids, repeats allowed, 0 = padding
        block_bytes: of the scores held at once; None = what suits the device
        stored_bytes: where a batch's scores need no more than that, they are stored for the backward pass

    Returns:
        [B]; -inf where nothing is left, with a gradient of 0; NaN or inf where a score is. float32 where the vectors are of
        lower precision
    """
    if users.dtype in (torch.float16, torch.bfloat16):
        users, items = users.float(), items.float()
    with torch.autocast(users.device.type, enabled=False):  # its products, too, accumulate in the vectors' own precision
        return _LogMass.apply(users, items, excluded, block_bytes or BLOCK_BYTES[users.device.type != "cpu"], stored_bytes)


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
        self.width = max((stop - start for start, stop in zip(edges, edges[1:])), default=0)
        if not gather:
            self.blocks = [(*block, 0, 0) for block in zip(edges, edges[1:])]
            return
        n_users = len(excluded)
        places = self.excluded * n_users + torch.arange(n_users)[:, None]
        self.places = places[self.excluded > 0].numpy()  # in the scores [I, B] laid out in a row
        self.places.sort()
        bounds = np.searchsorted(self.places, np.array(edges) * n_users).tolist()
        self.blocks = list(zip(edges, edges[1:], bounds, bounds[1:]))

    def filled(self, values: Tensor, block: Block, value: float) -> Tensor:
        """[stop - start, B] the block `values`, which may change, with `value` for what is excluded and for item 0."""
        start, stop, first, last = block
        if self.gathered:
            values.view(-1).numpy()[self.places[first:last] - start * values.size(1)] = value
        else:
            width = stop - start
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
    ones, sum E. So forward is what the bare two products and one exp are (and a product more where it is no CPU, for a base
    that needs no second look), and backward is one product with E, or again scores, exp and product where E was not stored.
    Blocks are items x users, the layout in which these products are fastest on a CPU.
    """

    @staticmethod
    def forward(ctx: Any, users: Tensor, items: Tensor, excluded: Tensor, block_bytes: int, stored_bytes: int) -> Tensor:
        width = max(1, block_bytes // (users.element_size() * max(1, len(users))))
        edges = [*range(0, len(items), width), len(items)]
        places = _Places(excluded, edges, gather=users.device.type == "cpu")
        on_cpu, keep = users.device.type == "cpu", len(items) * len(users) * users.element_size() <= stored_bytes
        memory = None if keep else _one_block(users, places)
        if keep and on_cpu:
            ctx.buffer = _Buffer(users, len(items))  # given back with the graph
            memory = ctx.buffer.scores
        base = _estimated_maximum(users, items) if on_cpu else _maximum(users, items, places)
        sums, stored = _Exps(users, items, base, places).sums(memory, keep)
        if on_cpu and not ((sums[-1] > SAFE_SUM[0]) & (sums[-1] < SAFE_SUM[1])).all():
            base = _maximum(users, items, places)
            sums, stored = _Exps(users, items, base, places).sums(memory, keep)
        ctx.save_for_backward(users, items, base, sums, *stored)
        ctx.places = places
        return torch.where(sums[-1] == 0, -torch.inf, sums[-1].log() + base)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        with torch.autocast(gradient.device.type, enabled=False):
            return _LogMass._gradients(ctx, gradient)

    @staticmethod
    def _gradients(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        users, items, base, sums, *stored = ctx.saved_tensors
        factor = torch.where(sums[-1] == 0, 0.0, gradient / sums[-1])  # no mass, no gradient
        of_items, weighted = torch.empty_like(items), users * factor[:, None]
        exps = stored or _Exps(users, items, base, ctx.places).blocks(_one_block(users, ctx.places))
        for (start, stop, *_), of_block in zip(ctx.places.blocks, exps):
            torch.mm(of_block, weighted, out=of_items[start:stop])
        return (sums[:-1] * factor).T.contiguous(), of_items, None, None, None


class _Buffer:
    """Memory for the scores of a batch, which the next batch takes over when this one's graph is gone.

    For a CPU alone: there the pages of fresh memory cost more time than keeping the exps saves; elsewhere torch does it.
    """

    spare: ClassVar[list[Tensor]] = []  # at most one, of the last batch

    def __init__(self, users: Tensor, n_items: int) -> None:
        numbers = len(users) * n_items
        found = self.spare.pop() if self.spare else users.new_empty(0)
        self.whole = found if found.dtype == users.dtype and len(found) >= numbers else users.new_empty(numbers)
        self.scores = self.whole[:numbers].view(n_items, len(users))

    def __del__(self) -> None:
        self.spare[:] = [self.whole]


class _Exps:
    """The blocks of exp(score - base), one after the other; with memory for a block of items' vectors, each with a 1."""

    def __init__(self, users: Tensor, items: Tensor, base: Tensor, places: _Places) -> None:
        self.items, self.places = items, places
        self.with_one = users.new_ones(places.width, items.size(1) + 1)
        self.reduced = torch.cat([users, -base[:, None]], 1).T.contiguous()  # what these are multiplied with: [d + 1, B]
        self.far = users.device.type == "cpu" and _may_be_far(users, items, base)

    def blocks(self, memory: Tensor | None) -> Iterator[Tensor]:
        """[stop - start, B] each, 0 where excluded.

        Written into `memory`: each to its own rows of [I, B], or one over the other in [W, B]; into fresh memory if None.
        """
        for block in self.places.blocks:
            start, stop = block[:2]
            vectors = self.with_one[: stop - start]
            vectors[:, :-1] = self.items[start:stop]
            first = start if memory is not None and len(memory) > self.places.width else 0
            place = None if memory is None else memory[first : first + stop - start]
            exponents = torch.mm(vectors, self.reduced, out=place)
            if self.far:
                exponents.clamp_(min=exp_floor(exponents.dtype))
            yield self.places.filled(exponents.exp_(), block, 0.0)

    def sums(self, memory: Tensor | None, keep: bool) -> tuple[Tensor, list[Tensor]]:
        """[d + 1, B] the sums over items of exp(score - base) times (vector, 1); the blocks, if they are to be stored."""
        sums, stored = torch.zeros_like(self.reduced), []
        for exps in self.blocks(memory):
            sums.addmm_(self.with_one[: len(exps)].T, exps)
            stored += [exps] * keep
        return sums, stored


def _one_block(users: Tensor, places: _Places) -> Tensor:
    """[W, B]: memory for the largest block."""
    return users.new_empty(places.width, len(users))


def _may_be_far(users: Tensor, items: Tensor, base: Tensor) -> bool:
    """Whether a score may be so far below `base` [B] that its exp is slow: |<u, v>| <= |u| |v|."""
    longest = items.norm(dim=1).max() if len(items) else 0.0
    return bool((users.norm(dim=1) * longest + base > -exp_floor(users.dtype)).any())


def _estimated_maximum(users: Tensor, items: Tensor) -> Tensor:
    """[B] the largest score of every so many items: near enough to the row's maximum, unless the sum says otherwise."""
    return (users @ items[1 :: len(items) // SAMPLE + 1].T).amax(1) if len(items) > 1 else users.new_zeros(len(users))


def _maximum(users: Tensor, items: Tensor, places: _Places) -> Tensor:
    """[B] the largest score that is not excluded; the lowest number there is where all are."""
    highest = users.new_full((len(users),), torch.finfo(users.dtype).min)
    for block in places.blocks:
        scores = places.filled(items[block[0] : block[1]] @ users.T, block, -torch.inf)
        highest = torch.maximum(highest, scores.amax(0))
    return highest.masked_fill(highest == torch.finfo(users.dtype).min, 0.0)
