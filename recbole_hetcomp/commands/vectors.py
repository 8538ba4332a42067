"""`hetcomp vectors`: the vectors of a saved model, as a file that teaches where the same users or items have other data."""

from __future__ import annotations

from collections.abc import Sequence
from logging import getLogger
from pathlib import Path

import torch
from recbole.model.abstract_recommender import AbstractRecommender
from torch import Tensor

from recbole_hetcomp.config import Config
from recbole_hetcomp.config.errors import UserError, shown
from recbole_hetcomp.data.sequences import Sequences
from recbole_hetcomp.data.split import Split
from recbole_hetcomp.files.output import check_output
from recbole_hetcomp.model.backbone import HasVectors
from recbole_hetcomp.serving.student import load_with_split
from recbole_hetcomp.teachers.pool import Teacher, TeacherPool
from recbole_hetcomp.teachers.single import SingleTeacher
from recbole_hetcomp.teachers.trajectory import Trajectory
from recbole_hetcomp.teachers.vectors import EntityVectors

SEED = 0  # of the random start of spectral factors


def write_vectors(checkpoint: str, output: str, *, rank: int = 64, arguments: Sequence[str] = ()) -> EntityVectors:
    """Write the vectors of a saved model's users and items, those that it was trained on, by their tokens.

    Args:
        checkpoint: what this package or RecBole saved
        output: a path that ends in .safetensors
        rank: spectral factors of the scores, for models without vectors whose products are their scores
        arguments: `--key=value` settings that replace saved ones

    Raises:
        UserError: the checkpoint cannot be loaded, or `output` has another ending or cannot be written.
    """
    if not output.endswith(".safetensors"):
        raise UserError(f"output: {shown(output)} does not end in .safetensors, by which a teacher's file is known")
    check_output(Path(output), "vectors.safetensors", {"checkpoint": checkpoint})
    config, model, split = load_with_split(checkpoint, arguments=arguments)
    if config.family == "context":
        raise UserError(
            f"checkpoint: {config.model} predicts clicks of rows and has no vectors of users and items that rank"
        )
    users, items = _vectors_of(model, split, config, rank)
    trained = {"user": split.history.active_users, "item": split.history.items.unique()}
    tokens = {
        side: [str(token) for token in split.whole.id2token(field, trained[side].numpy())]
        for side, field in (("user", split.whole.uid_field), ("item", split.whole.iid_field))
    }
    rows = {"user": users.cpu()[trained["user"]], "item": items.cpu()[trained["item"]]}
    vectors = EntityVectors(rows["user"], rows["item"], tokens["user"], tokens["item"], teacher=config.model)
    vectors.save(output)
    return vectors


@torch.no_grad()
def _vectors_of(model: AbstractRecommender, split: Split, config: Config, rank: int) -> tuple[Tensor, Tensor]:
    """([U, D], [I, D]) a model's own, a distilled student's backbone's, or `rank` spectral factors of its scores.

    A user's vector of a sequential model is what it makes of the whole training sequence.
    """
    model = getattr(model, "backbone", model)
    if isinstance(model, HasVectors):
        made = model.vectors(torch.arange(split.whole.user_num, device=config["device"]))
        getLogger().info(f"{config.model}: its own vectors of size {made.items.size(1)}")
        return made.users, made.items
    without_lists = Trajectory.from_lists(torch.zeros(split.whole.user_num, 1, dtype=torch.int32))
    history = split.asked_at_the_end(model)
    rows = history if isinstance(history, Sequences) else None
    pool = TeacherPool([Teacher(config.model, without_lists, load=lambda: model, rows=rows)])
    single = SingleTeacher(pool, history, weighting=0, max_block_mb=config["max_block_mb"], seed=SEED)
    return single.embeddings(rank)
