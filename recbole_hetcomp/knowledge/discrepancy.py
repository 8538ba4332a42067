"""How far the student's list is from a teacher's: 1 - NDCG, with the teacher's first items as the relevant ones."""

from __future__ import annotations

from typing import Optional

import torch
from torch import Tensor

RELEVANCES = ("position", "graded")
PAIRS = 2**13  # lists compared at a time
TABLE = 2**21  # (user, item) places of the table in which ranks are looked up: what a processor's cache holds


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
        student_topk: [..., U, K] integer item ids, best first; 0 = no item, which never counts
        teacher_topk: [..., U, K'] likewise, without repeats; leading dimensions broadcast against the student's
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
    if not depth:
        return torch.ones(leading, device=student_topk.device)
    students, teachers = (
        part[..., :depth].expand(*leading, -1).reshape(-1, depth).split(PAIRS) for part in (student_topk, teacher_topk)
    )
    blocks = [_ndcg(student, teacher, temperature, relevance) for student, teacher in zip(students, teachers)]
    ndcg = torch.cat(blocks).view(leading)
    if decimals is not None:
        ndcg = ndcg.round(decimals=decimals)
    return (1.0 - ndcg).clamp(0.0, 1.0).float()


def _ndcg(student: Tensor, teacher: Tensor, temperature: float, relevance: str) -> Tensor:
    """[N] float64 of lists [N, K]; 0 where the teacher lists nothing."""
    depth = student.size(-1)
    gain, discount = (part.to(student.device) for part in _gain_and_discount(depth, temperature))
    places = places_within(student, teacher)
    gained = gain
    if relevance == "graded":
        gained = gain.index_select(0, (places - 1).clamp_(min=0).view(-1).int()).view(places.shape)
    reached = (gained * (places > 0) * discount).sum(-1)
    # A perfect list has the first ranks at their own positions: the same numbers and order as in `reached`, hence exactly 1.
    lengths, which = (teacher > 0).sum(-1).unique(return_inverse=True)
    listed = torch.arange(depth, device=student.device) < lengths[:, None]
    ideal = (gain * listed * discount).sum(-1)[which]
    return torch.where(ideal > 0, reached / ideal, 0.0)


def position_weights(k: int, temperature: float = 10.0) -> Tensor:
    """[k] float64: what a hit at each of the student's positions counts, 1 at the first, decreasing.

    Source: Kang et al., HetComp, WWW 2023, the authors' code: (2 ** exp(-j / temperature) - 1) / log2(j + 2).
    """
    gain, discount = _gain_and_discount(k, temperature)
    return gain * discount


def places_within(student: Tensor, teacher: Tensor) -> Tensor:
    """Where the student's items [N, K] stand in the teacher's lists [N, K']: [N, K] int16, 1 = first, 0 = not there.

    Looked up in a table of all items, a few lists at a time.
    """
    if not student.numel() or not teacher.numel():
        return torch.zeros(student.shape, dtype=torch.int16, device=student.device)
    n_items = int(torch.maximum(student.max(), teacher.max())) + 1
    rows = min(max(1, TABLE // n_items), len(student))
    table = torch.zeros(rows, n_items, dtype=torch.int16, device=student.device)
    ranks = torch.arange(1, teacher.size(1) + 1, dtype=torch.int16, device=student.device).expand(rows, -1)
    places = []
    for ours, theirs in zip(student.split(rows), teacher.split(rows)):
        ours, theirs, part = ours.long(), theirs.long(), table[: len(ours)]
        part.scatter_(1, theirs, ranks[: len(ours)])
        part[:, 0] = 0  # no item
        places.append(part.gather(1, ours))
        part.scatter_(1, theirs, 0)
    return torch.cat(places)


def check_relevance(relevance: str) -> None:
    """Refuses a relevance that does not exist."""
    if relevance not in RELEVANCES:
        raise ValueError(f"relevance {relevance!r} is none of {', '.join(RELEVANCES)}")


def _gain_and_discount(k: int, temperature: float) -> tuple[Tensor, Tensor]:
    """[k] and [k] float64: of a rank, and of the student's position."""
    ranks = torch.arange(k, dtype=torch.float64)
    return torch.exp2(torch.exp(-ranks / temperature)) - 1.0, 1.0 / torch.log2(ranks + 2.0)
