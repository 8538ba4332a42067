"""RecDistillery's `.teacher` files: embeddings, ranked lists or scores of a model, with the tokens of users and items.

The file is one of torch.save. It is read by the reader of checkpoints, which runs nothing of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from recbole_hetcomp.config.errors import UserError, shown
from recbole_hetcomp.files.archive import CheckpointError
from recbole_hetcomp.files.restricted import read_content
from recbole_hetcomp.teachers.vectors import EntityVectors

SUFFIX = ".teacher"
VERSIONS = ("recdistill.teacher.v1", "recdistill.teacher.v2")
MOST_ROWS = 1 << 27  # of users or items; a file that names a larger one is damaged
DEPTH = 500  # items of a list that is made of scores
SIDES = ("user", "item")


def read_teacher(path: Path) -> dict[str, Any]:
    """What the file holds, by RecDistillery's names.

    Raises:
        UserError: it cannot be read, or is of another format.
    """
    try:
        content = read_content(path, "cpu", set()).value
    except (OSError, CheckpointError) as error:
        reason = " ".join(str(error).split())[:160]
        raise UserError(f"teachers: {shown(path)} cannot be read as a .teacher ({reason}); export it anew") from error
    version = content.get("format_version") if isinstance(content, dict) else None
    if version not in VERSIONS:
        raise UserError(
            f"teachers: {shown(path)} is of format {shown(version)}; this version reads {' and '.join(VERSIONS)}"
        )
    return dict(content)


def has_vectors(path: Path) -> bool:
    """Whether the file holds embeddings of users and items; lists and scores are read where it does not."""
    content = read_teacher(path)
    return all(isinstance(content.get(f"{side}_embeddings"), Tensor) for side in SIDES)


def vectors_of(path: Path) -> EntityVectors:
    """The embeddings, by token.

    Raises:
        UserError: the file has no tokens, or its embeddings are none.
    """
    content = read_teacher(path)
    (users, user_tokens), (items, item_tokens) = (_named_rows(content, side, path) for side in SIDES)
    try:
        vectors = EntityVectors(users, items, user_tokens, item_tokens, str(content.get("model_name") or path.stem))
    except UserError as error:
        raise UserError(f"teachers: {shown(path)}: {error}") from error
    content_of_file = sha256(path.read_bytes()).hexdigest()
    object.__setattr__(vectors, "fingerprint", content_of_file)  # of a frozen object, by the one who makes it
    return vectors


def lists_of(content: Mapping[str, Any], path: Path) -> pd.DataFrame:
    """The columns user, item and rank of a file's ranked lists, or of the best DEPTH items by its scores."""
    scorer = content.get("scorer")
    kind = scorer.get("type") if isinstance(scorer, dict) else None
    name = {"precomputed_topk": "topk_items", "precomputed_scores": "scores"}.get(str(kind))
    held = scorer.get(name) if isinstance(scorer, dict) and name else None
    if not isinstance(held, Tensor) or held.dim() != 2 or not held.numel():
        raise UserError(f"teachers: {shown(path)} has neither embeddings nor ranked lists nor scores; export one of them")
    lists = held.long() if name == "topk_items" else _best(held.float(), path)
    users, ranks = (lists >= 0).nonzero(as_tuple=True)
    items = lists[users, ranks]
    n_items = max(int(items.max()) + 1 if len(items) else 0, held.size(1) if name == "scores" else 0)
    user_tokens, item_tokens = _tokens(content, "user", len(held), path), _tokens(content, "item", n_items, path)
    columns = {
        "user": [user_tokens[user] for user in users.tolist()],
        "item": [item_tokens[item] for item in items.tolist()],
        "rank": ranks.numpy(),
    }
    return pd.DataFrame(columns)


def _best(scores: Tensor, path: Path) -> Tensor:
    """[n, DEPTH] the items with the largest scores [n, items]; -1 where the rest has none, which is -inf in such a file."""
    if bool(scores.isnan().any()):
        raise UserError(f"teachers: {shown(path)} has scores that are no numbers (nan); export it anew")
    best = scores.topk(min(DEPTH, scores.size(1)), dim=1)
    return best.indices.masked_fill(best.values == -torch.inf, -1)


def _named_rows(content: Mapping[str, Any], side: str, path: Path) -> tuple[Tensor, list[str]]:
    """The embeddings of a side that have a token, and these."""
    rows: Tensor = content[f"{side}_embeddings"]
    tokens = _tokens(content, side, len(rows), path)
    kept = [place for place, token in enumerate(tokens) if token]
    return rows[kept], [tokens[place] for place in kept]


def _tokens(content: Mapping[str, Any], side: str, n_rows: int, path: Path) -> list[str]:
    """The token of each row; "" for one that has none. RecDistillery has them as a list, or by row."""
    metadata = content.get("metadata")
    name = f"local_to_public_{side}_id"
    held = content.get(name)
    if held is None and isinstance(metadata, dict):
        held = metadata.get(name)
    if isinstance(held, Tensor):
        held = held.tolist()
    if isinstance(held, dict) and n_rows <= MOST_ROWS:
        by_row = {str(row): token for row, token in held.items()}
        held = [by_row.get(str(row), "") for row in range(n_rows)]
    if not isinstance(held, (list, tuple)) or len(held) < n_rows:
        raise UserError(
            f"teachers: {shown(path)} has no {name} for its {n_rows:,} {side}s, so that nobody is found by token; export it "
            "with its id maps"
        )
    return [_token(token) for token in held[:n_rows]]


def _token(token: object) -> str:
    """As text; a number that is whole without its point."""
    if isinstance(token, Tensor) and token.numel() == 1:
        token = token.item()
    return str(int(token)) if isinstance(token, float) and token.is_integer() else str(token)
