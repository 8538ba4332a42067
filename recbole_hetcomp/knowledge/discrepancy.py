"""How far the student's list is from a teacher's: 1 - NDCG, with the teacher's first items as the relevant ones."""

from __future__ import annotations

from typing import Optional

import torch
from torch import Tensor
from torch.nn.functional import pad

RELEVANCES = ("position", "graded")
IDS = 2**21  # of teachers' lists compared at a time
TABLE = 2**21  # (user, item) places of the table in which items are looked up: what a processor's cache holds
GRAIN = 2.0**-40  # what weights are multiples of: their sums are exact in float64, in whatever order they are taken


def discrepancy(
    student_topk: Tensor,
    teacher_topk: Tensor,
    *,
    k: int = 50,
    temperature: float = 10.0,
    relevance: str = "position",
    decimals: Optional[int] = None,
) -> Tensor:
    """D@k = 1 - DCG(student's first k) / DCG(teacher's own first k): 0 = all there, 1 = nothing in common.

    Item j of the student counts if it is anywhere among the teacher's first k. What it counts is, with ranks from 0,
    `(2 ** exp(-rank / temperature) - 1) / log2(j + 2)`, where rank is
      - "position": the student's own j, so that only the two *sets* matter for D = 0 (what the authors' code does);
      - "graded": the item's rank in the teacher's list, so that the order matters as well.

    Both lists are read to depth `min(k, width of the student's, width of the teacher's)`. A user for whom the teacher
    lists fewer items is measured against these alone: equal lists have distance 0 whatever their length. An empty
    teacher's list has distance 1, as nothing can be found in it.

    Source: Kang et al., HetComp, WWW 2023, D@K; "position" and the four decimals are the authors' code's.

    Args:
        student_topk: [..., U, K] integer item ids without repeats, best first; 0 = no item, which never counts
        teacher_topk: [..., U, K'] likewise, without repeats; leading dimensions broadcast against the student's, and where
            the student has none, its lists are read once for all teachers
        k: depth of the comparison
        temperature: ranks over which an item's relevance falls by a factor e
        relevance: "position" or "graded"
        decimals: the NDCG is rounded to so many decimals; None leaves it as it is

    Returns:
        [..., U] float32, in [0, 1]
    """
    check_relevance(relevance)
    depth = min(k, student_topk.size(-1), teacher_topk.size(-1))
    leading = torch.broadcast_shapes(student_topk.shape[:-1], teacher_topk.shape[:-1])
    if not depth or 0 in leading:
        return torch.ones(leading, device=student_topk.device)
    student, teachers = (part[..., :depth].expand(*leading, -1) for part in (student_topk, teacher_topk))
    if student_topk.dim() == 2:
        student = student_topk[:, :depth].expand(leading[-1], -1)
        teachers = teachers.reshape(-1, leading[-1], depth).transpose(0, 1)  # [U, X, K]
    else:
        student, teachers = student.reshape(-1, depth), teachers.reshape(-1, 1, depth)
    users = max(1, IDS // (teachers.size(1) * depth))
    parts = zip(student.split(users), teachers.split(users))
    ndcg = torch.cat([_ndcg(ours, theirs, temperature, relevance) for ours, theirs in parts]).T.reshape(leading)
    if decimals is not None:
        ndcg = ndcg.round(decimals=decimals)
    return (1.0 - ndcg).clamp(0.0, 1.0).float()


def _ndcg(student: Tensor, teachers: Tensor, temperature: float, relevance: str) -> Tensor:
    """[N, X] float64 of a student's lists [N, K] and X teachers' [N, X, K]; 0 where a teacher lists nothing."""
    depth = student.size(1)
    gain, discount = (part.to(student.device) for part in _gain_and_discount(depth, temperature))
    graded = relevance == "graded"
    whole = _rounded(gain * discount)
    places = places_within(student, teachers.flatten(1))
    found = pad(discount if graded else whole, (1, 0)).index_select(0, places.view(-1).int()).view(teachers.shape)
    reached = (_rounded(found * gain) if graded else found).sum(-1)
    # A perfect list has the first ranks at their own positions: the same numbers as in `reached`, hence exactly 1.
    lengths, which = (teachers > 0).sum(-1).unique(return_inverse=True)
    listed = torch.arange(depth, device=student.device) < lengths[:, None]
    ideal = (whole * listed).sum(-1)[which]
    return torch.where(ideal > 0, reached / ideal, 0.0)


def position_weights(k: int, temperature: float = 10.0) -> Tensor:
    """[k] float64: what a hit at each of the student's positions counts, 1 at the first, decreasing.

    Source: Kang et al., HetComp, WWW 2023, the authors' code: (2 ** exp(-j / temperature) - 1) / log2(j + 2).
    """
    gain, discount = _gain_and_discount(k, temperature)
    return gain * discount


def places_within(items: Tensor, wanted: Tensor) -> Tensor:
    """[N, M] where each of the ids `wanted` [N, M] stands among `items` [N, K] of its row, 1 = first, 0 = not there.

    Of the smallest signed type that holds K: of a smaller table, more stays in the processor's cache. Both are integer item
    ids, those of `items` without repeats but for 0, which is no item, and looked up a few rows at a time.
    """
    dtype = next(kind for kind in (torch.int8, torch.int16, torch.int32) if items.size(1) <= torch.iinfo(kind).max)
    device = items.device
    if not items.numel() or not wanted.numel():
        return torch.zeros(wanted.shape, dtype=dtype, device=device)
    n_items = int(torch.maximum(items.max(), wanted.max())) + 1
    rows = min(max(1, TABLE // n_items), len(items))
    table = torch.zeros(rows, n_items, dtype=dtype, device=device)
    places = torch.arange(1, items.size(1) + 1, dtype=dtype, device=device).expand(rows, -1)
    found = []
    for ours, theirs in zip(items.split(rows), wanted.split(rows)):
        ours, part = ours.long(), table[: len(ours)]
        part.scatter_(1, ours, places[: len(ours)])
        part[:, 0] = 0  # no item
        found.append(part.gather(1, theirs.long()))
        part.scatter_(1, ours, 0)
    return torch.cat(found)


def check_relevance(relevance: str) -> None:
    """Refuses a relevance that does not exist."""
    if relevance not in RELEVANCES:
        raise ValueError(f"relevance {relevance!r} is none of {', '.join(RELEVANCES)}")


def _gain_and_discount(k: int, temperature: float) -> tuple[Tensor, Tensor]:
    """[k] and [k] float64: of a rank, and of the student's position."""
    ranks = torch.arange(k, dtype=torch.float64)
    return torch.exp2(torch.exp(-ranks / temperature)) - 1.0, 1.0 / torch.log2(ranks + 2.0)


def _rounded(weights: Tensor) -> Tensor:
    return (weights / GRAIN).round_().mul_(GRAIN)
