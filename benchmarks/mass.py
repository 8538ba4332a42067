"""The log-mass of the catalogue, forward and backward, against the bare products that no exact softmax avoids."""

from __future__ import annotations

from collections.abc import Callable
from statistics import median

import torch
from synthetic import N_ITEMS, SIZE
from timing import Ratio, Row, interleaved
from torch import Tensor

from recbole_hetcomp.losses.streaming import log_mass


def bare_products(n_users: int, size: int, generator: torch.Generator) -> Callable[[], None]:
    """What no exact softmax avoids: the scores, their exp, and one product for a gradient."""
    return products_of(*(torch.randn(n, size, generator=generator) * 0.3 for n in (n_users, N_ITEMS)))


def products_of(users: Tensor, items: Tensor) -> Callable[[], None]:
    """The same of vectors [B, d] and [I, d] on any device."""

    def bare() -> None:
        (users @ items.T).exp_() @ items

    return bare


def blocks_of_products(n_users: int, size: int, generator: torch.Generator, width: int = 2048) -> Callable[[], None]:
    """Three products and an exp, block by block, into memory that is there: sums, and gradients of users and items."""
    users, items = (torch.randn(n, size, generator=generator) * 0.3 for n in (n_users, N_ITEMS))
    of_users, of_items, scores = torch.zeros(size, n_users), torch.empty_like(items), torch.empty(N_ITEMS, n_users)
    parts = list(zip(scores.split(width), items.split(width), of_items.split(width)))

    def bare() -> None:
        for block, vectors, _ in parts:
            torch.mm(vectors, users.T, out=block).exp_()
            of_users.addmm_(vectors.T, block)
        for block, _, gradient in parts:
            torch.mm(block, users, out=gradient)

    return bare


def log_mass_row(generator: torch.Generator) -> Row:
    """Forward and backward of the streamed log-mass against what no exact softmax avoids."""
    users, items = (torch.randn(n, 64, generator=generator, requires_grad=True) for n in (256, N_ITEMS))
    excluded = torch.randint(1, N_ITEMS, (256, 115), generator=generator)

    def both_ways() -> None:
        users.grad = items.grad = None  # as in training: what a gradient is added to is the optimiser's affair
        log_mass(users, items, excluded).sum().backward()

    mine, least = interleaved(both_ways, bare_products(256, 64, generator), repeats=21)
    return Row(
        "log-mass forward and backward (256 users, size 64), ms; reference: two bare products and one exp",
        f"{median(mine) * 1e3:.1f}",
        f"{median(least) * 1e3:.1f}",
        Ratio.of(mine, least),
        2,
        most=True,
        bound="three products and one exp against two and one, as long as a batch's exps fit into `max_block_mb`; the rest "
        "is what is left out, and memory for the items' gradient",
    )


def far_scores_row(generator: torch.Generator) -> Row:
    """The log-mass where a tenth of the scores is 80 below the row's best, as a trained student's, against near scores."""
    directions = [torch.randn(n, SIZE, generator=generator) for n in (256, N_ITEMS)]
    excluded = torch.randint(1, N_ITEMS, (256, 115), generator=generator)

    def both_ways(scale: float) -> Callable[[], None]:
        users, items = ((scale * tensor).requires_grad_() for tensor in directions)

        def run() -> None:
            users.grad = items.grad = None
            log_mass(users, items, excluded).sum().backward()

        return run

    far, near = interleaved(both_ways(2.2), both_ways(1.0), repeats=21)
    return Row(
        f"log-mass of far scores (256 users, size {SIZE}), ms; reference: of near scores",
        f"{median(far) * 1e3:.1f}",
        f"{median(near) * 1e3:.1f}",
        Ratio.of(far, near),
        None,
        bound="exponents are held above the floor of `losses/exponential.py`, one pass more; before, it was 4.4 x, and 90 x "
        "for scores half as far again",
    )
