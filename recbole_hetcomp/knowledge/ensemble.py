"""What the teachers say together: importances summed over teachers, the best items kept.

Source: Kang et al., HetComp, WWW 2023; in the authors' code the ensemble is the plain sum over teachers. They sum dense
matrices of users by items; here a user's candidates are the items in the teachers' lists and nothing else.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import pad

from recbole_hetcomp.knowledge.importance import rank_importance
from recbole_hetcomp.knowledge.sorted_rows import sorted_rows

BLOCK = 2**16  # candidates handled at a time: few enough for the processor's cache, whatever the number of users
STEPS_IN_ONE = 37  # log2 of the steps that an importance of 1 is counted in
STEP_BITS = 39  # an importance, in steps, is a number of so many bits; its item's id has the rest of an int64


def ensemble_topk(items: Tensor, importance: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k items with the largest importance summed over teachers; ties go to the smaller item id.

    An item enters only with a sum above 0, for an importance of 0 means that no teacher has an opinion. Importances are
    counted in steps of 2^-37, at least one step each: sums of integers are exact, so that the order of the teachers
    changes not a single bit, and what is equal is a tie. (exp(-rank / temperature) tells ranks apart up to 25 temperatures.)

    Args:
        items: [X, U, L] integer item ids below 2^24, 0 = no item, in any order
        importance: [X, U, L], or [X, 1, L] where all users' are the same; any float type, below 4; what is not above 0
            is no opinion
        k: length of the lists

    Returns:
        items [U, k] int64 and importance [U, k] float32 (float64 if `importance` is), best first; rows with fewer than
        k candidates end in 0

    Raises:
        ValueError: shapes differ, or ids, importances or their number are beyond what is counted exactly.
    """
    if importance.shape not in (items.shape, (items.size(0), 1, items.size(2))):
        raise ValueError(f"items {tuple(items.shape)} and importance {tuple(importance.shape)} differ in shape")
    dtype = torch.float64 if importance.dtype == torch.float64 else torch.float32
    if not items.numel():
        nothing = torch.zeros(items.size(1), k, dtype=torch.int64, device=items.device)
        return nothing, nothing.to(dtype)
    rows = max(1, BLOCK // (items.size(0) * items.size(2)))
    steps = _steps(importance)
    shared = steps.size(1) == 1
    blocks = [
        _topk_of_block(_keys(block, steps if shared else steps[:, start : start + rows]), k)
        for start, block in zip(range(0, items.size(1), rows), items.split(rows, 1))
    ]
    best, total = (torch.cat(parts) for parts in zip(*blocks))
    return best, (total.double() / 2**STEPS_IN_ONE).to(dtype)


def observed_ranking(observed: Tensor, k: int, *, temperature: float = 10.0) -> Tensor:
    """A user's training items as the teachers rank them together: the sum of exp(-rank / temperature), best k first.

    Ranks are among the user's training items alone. There is no cut-off, so that no training item is lost.

    Source: Kang et al., HetComp, WWW 2023, distil a fixed ranking of the observed items. How it is computed is not
    published; this is the unobserved items' ensemble without its consistency term.

    Args:
        observed: [X, U, P] integer item ids, each teacher's order of the user's training items, 0-padded at the end
        k: length of the lists
        temperature: ranks over which an item's importance falls by a factor e

    Returns:
        [U, k] int64, 0-padded; ties go to the smaller item id
    """
    ranks = torch.arange(observed.size(-1), dtype=torch.float64, device=observed.device)
    importance = rank_importance(ranks, temperature=temperature, cutoff=observed.size(-1))
    return ensemble_topk(observed, importance.expand(observed.shape), k)[0]


def _topk_of_block(keys: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """`ensemble_topk` of a few users, the sums in steps: sort entries by id, sum each run of equal ids, pick the best."""
    keys = sorted_rows(keys)
    ids, steps = keys >> STEP_BITS, keys & (2**STEP_BITS - 1)
    ends = torch.ones_like(ids, dtype=torch.bool)  # the last entry of each run
    torch.ne(ids[:, 1:], ids[:, :-1], out=ends[:, :-1])
    ends = ends.flatten().nonzero().squeeze(1)
    totals = steps.flatten().cumsum(0)[ends]  # of integers, hence the difference of two is exact
    totals[1:] -= totals[:-1].clone()
    width = ids.size(1)
    place_bits = width.bit_length()
    if int(totals.max()) >= 2 ** (62 - place_bits):
        raise ValueError(f"{width} entries a user are too many to be merged exactly; use fewer teachers or shorter lists")
    # Ids ascend with the place, so that among equal totals the earlier place is the smaller id.
    ranked = torch.zeros(ids.numel(), dtype=torch.int64, device=ids.device)
    ranked[ends] = (totals << place_bits | (width - 1 - ends % width)) * (totals > 0)
    best = ranked.view(ids.shape).topk(min(k, width), dim=1).values
    place = width - 1 - (best & (2**place_bits - 1))
    best_ids, best_totals = ids.gather(1, place) * (best > 0), best >> place_bits
    missing = k - best.size(1)
    return pad(best_ids, (0, missing)), pad(best_totals, (0, missing))


def _steps(importance: Tensor) -> Tensor:
    """int64, of the same shape: the importances in steps, 0 where they are not above 0."""
    if (importance >= 2 ** (STEP_BITS - STEPS_IN_ONE)).any():
        raise ValueError(f"an importance is not below {2 ** (STEP_BITS - STEPS_IN_ONE)}")
    steps = (importance.double() * 2**STEPS_IN_ONE).round_().clamp_(1, 2**STEP_BITS - 1)
    return steps.masked_fill_(~(importance > 0), 0).long()


def _keys(items: Tensor, steps: Tensor) -> Tensor:
    """[B, X * L] int64: an item's id before its steps; 0 where there is no item or no opinion."""
    if int(items.max()) >> (63 - STEP_BITS):
        raise ValueError(f"item ids reach {int(items.max())}; those from {2 ** (63 - STEP_BITS)} on cannot be merged")
    keys = (items.long() << STEP_BITS) | steps
    return keys.masked_fill_((items <= 0) | (steps == 0), 0).transpose(0, 1).flatten(1)
