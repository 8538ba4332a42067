"""Drawing from ranked lists and from what is in none of them, for all users at once.

Source: the rank-weighted draw is that of Kang et al., "DE-RRD", CIKM 2020; without replacement by the Gumbel-top-k trick
(Kool, van Hoof, Welling, "Stochastic Beams and Where to Find Them", ICML 2019).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from recbole_hetcomp.knowledge.sorted_rows import in_sorted_row, sorted_rows

ROWS_PER_BLOCK = 2**14  # rows of lists for which is drawn at once


def gumbel(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Float32 of `shape`: standard Gumbel noise, on the device of `generator`."""
    exponential = torch.empty(shape, device=generator.device).exponential_(generator=generator)
    return -exponential.clamp(min=torch.finfo(torch.float32).tiny).log()


def draw_without_replacement(log_weights: Tensor, k: int, generator: torch.Generator) -> Tensor:
    """[B, k] int64, ascending: k different columns a row, drawn in proportion to exp(log_weights).

    Args:
        log_weights: [B, n] float, -inf = never; a row with fewer than k others gives these -inf columns last
        k: at most n
        generator: of the device of `log_weights`
    """
    keys = log_weights + gumbel(tuple(log_weights.shape), generator).to(log_weights.dtype)
    return keys.topk(k, dim=1).indices.sort(dim=1).values


def some_of(ids: Tensor, n: int, generator: torch.Generator) -> Tensor:
    """[min(N, n)] of `ids` [N], drawn uniformly without replacement where there are more than n.

    Args:
        ids: of any device; those on the CPU need nothing from another
        n: how many
        generator: on the CPU
    """
    if len(ids) <= n:
        return ids
    return ids[torch.randperm(len(ids), generator=generator)[:n].to(ids.device)]


def draw_by_rank(lists: Tensor, k: int, temperature: float, generator: torch.Generator) -> Tensor:
    """[B, min(k, n)] int64: k items of each list, drawn by exp(-rank / temperature), in its order, 0-padded at the end.

    Args:
        lists: [B, n] integer item ids, best first, 0 = no item
        k: items to draw; lists with fewer give all they have
        temperature: ranks over which the weight falls by a factor e
        generator: of the device of `lists`
    """
    width = lists.size(1)
    weights = -torch.arange(width, device=lists.device) / temperature
    weights = weights.expand(lists.shape).masked_fill(lists == 0, -torch.inf)
    drawn = lists.gather(1, draw_without_replacement(weights, min(k, width), generator)).long()
    by_presence = (drawn == 0).int().sort(dim=1, stable=True).indices  # an empty place drawn in the middle moves to the end
    return drawn.gather(1, by_presence)


def draw_outside(
    excluded: Tensor,
    n: int,
    n_items: int,
    generator: torch.Generator,
    rounds: int = 16,
    refused: Callable[[Tensor, Tensor], Tensor] | None = None,
) -> Tensor:
    """[B, n] int64: items 1 to n_items - 1, drawn uniformly with replacement, none of them in the same row of `excluded`.

    By rejection: what falls among the excluded is drawn again. A row that excludes (nearly) all items keeps 0 where `rounds`
    draws found nothing.

    Args:
        excluded: [B, m] integer item ids, repeats and 0 allowed
        n: draws a row
        n_items: item ids end before it
        generator: of the device of `excluded`
        rounds: draws for a place at most
        refused: rows [m], ids [m] -> bool [m], what else is not to be drawn; for exclusions too many to be laid out in rows
    """
    device = excluded.device
    drawn = torch.zeros(len(excluded) * n, dtype=torch.int64, device=device)
    first_keys = torch.arange(len(excluded), device=device) * n_items  # row and item as one number
    keys = (sorted_rows(excluded.long()) + first_keys[:, None]).view(1, -1)  # all in ascending order, as each row is
    empty = torch.arange(len(drawn), device=device)  # places still without an item
    for _ in range(rounds):
        fresh = torch.randint(1, n_items, empty.shape, generator=generator, device=device)
        row = empty // n
        wrong = in_sorted_row((first_keys[row] + fresh)[None], keys)[0]
        if refused is not None:
            wrong |= refused(row, fresh)
        drawn[empty] = fresh.masked_fill(wrong, 0)
        empty = empty[wrong]
        if not len(empty):
            break
    return drawn.view(len(excluded), n)


def draw_uninteresting(
    lists: Tensor,
    rows: Tensor,
    n: int,
    n_items: int,
    generator: torch.Generator,
    refused: Callable[[Tensor, Tensor], Tensor],
) -> Tensor:
    """[U, n] int64: for each of `rows` items drawn uniformly from outside its list, 0 in all other rows.

    Args:
        lists: [U, k] integer item ids, 0 = no item, on the CPU
        rows: [B] int64
        n: draws with replacement a row
        n_items: item ids end before it
        generator: on the CPU
        refused: rows [m], items [m] -> bool [m], what else is not to be drawn, such as a user's training items
    """
    others = torch.zeros(len(lists), n, dtype=torch.int64)
    for block in rows.split(ROWS_PER_BLOCK):

        def also_refused(row: Tensor, items: Tensor, block: Tensor = block) -> Tensor:
            return refused(block[row], items)

        others[block] = draw_outside(lists[block], n, n_items, generator, refused=also_refused)
    return others
