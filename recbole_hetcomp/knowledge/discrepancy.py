"""How far the student's list is from a teacher's: 1 - NDCG, with the teacher's first items as the relevant ones."""

from __future__ import annotations

from typing import Optional

import torch
from torch import Tensor

from recbole_hetcomp.knowledge.sorted_rows import sorted_rows

RELEVANCES = ("position", "graded")


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
    student, teacher = student_topk[..., :depth], teacher_topk[..., :depth]
    ranks, found = ranks_within(student, teacher)
    gain, discount = _gain_and_discount(depth, temperature, student.device)
    gained = gain if relevance == "position" else gain[ranks]
    reached = (gained * discount * found).sum(-1)
    n_listed = (teacher > 0).sum(-1, keepdim=True)
    listed = torch.arange(depth, device=student.device) < n_listed  # [..., U, depth]
    ideal = (gain * discount * listed).sum(-1)  # the same products and order as a perfect `reached`, hence exactly 0
    ndcg = torch.where(n_listed.squeeze(-1) > 0, reached / ideal, 0.0)
    if decimals is not None:
        ndcg = ndcg.round(decimals=decimals)
    return (1.0 - ndcg).clamp(0.0, 1.0).float()


def position_weights(k: int, temperature: float = 10.0) -> Tensor:
    """[k] float64: what a hit at each of the student's positions counts, 1 at the first, decreasing.

    Source: Kang et al., HetComp, WWW 2023, the authors' code: (2 ** exp(-j / temperature) - 1) / log2(j + 2).
    """
    gain, discount = _gain_and_discount(k, temperature, torch.device("cpu"))
    return gain * discount


def ranks_within(student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
    """Where the student's items stand in the teacher's list: rank [..., K] int64 and found [..., K] bool.

    By binary search in the sorted list, so that memory stays at the size of the lists; the rank of an item that is not
    found means nothing.
    """
    leading = torch.broadcast_shapes(student.shape[:-1], teacher.shape[:-1])
    bits = teacher.size(-1).bit_length()
    listed = (teacher.long() << bits) | torch.arange(teacher.size(-1), device=teacher.device)  # by id, then by rank
    listed = sorted_rows(listed.expand(*leading, -1))
    student = student.long().expand(*leading, -1)
    slot = torch.searchsorted(listed, (student << bits).contiguous()).clamp_(max=max(teacher.size(-1) - 1, 0))
    nearest = listed.gather(-1, slot)
    return nearest & (2**bits - 1), (nearest >> bits == student) & (student > 0)


def check_relevance(relevance: str) -> None:
    """Refuses a relevance that does not exist."""
    if relevance not in RELEVANCES:
        raise ValueError(f"relevance {relevance!r} is none of {', '.join(RELEVANCES)}")


def _gain_and_discount(k: int, temperature: float, device: torch.device) -> tuple[Tensor, Tensor]:
    ranks = torch.arange(k, dtype=torch.float64, device=device)
    return torch.exp2(torch.exp(-ranks / temperature)) - 1.0, 1.0 / torch.log2(ranks + 2.0)
