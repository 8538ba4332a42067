"""Top 50 of all users: one small student against its six teachers, whose lists are merged."""

from __future__ import annotations

import tempfile
from pathlib import Path

import torch
from recbole.utils import init_logger
from synthetic import DEPTH, N_ITEMS, N_TEACHERS, N_USERS, SIZE, SyntheticDataset, factors
from timing import Ratio, Row, interleaved
from torch import Tensor

from recbole_hetcomp.config import Config
from recbole_hetcomp.config.registry import get_model
from recbole_hetcomp.data.fitting import fit_to_data
from recbole_hetcomp.data.history import History
from recbole_hetcomp.data.split import make_split
from recbole_hetcomp.knowledge import ensemble_topk, rank_importance
from recbole_hetcomp.teacher_training.configs import teacher_config
from recbole_hetcomp.teachers.ranking import top_unobserved

SAMPLE = 64  # users whom the paper's six kinds of teachers are asked for


def paper_row(dataset: SyntheticDataset) -> Row:
    """The six kinds of teachers that are the default, with their tuned sizes, untrained."""
    with tempfile.TemporaryDirectory() as folder:
        _write(dataset, Path(folder) / "synthetic" / "synthetic.inter")
        settings = {"data_path": folder, "checkpoint_dir": f"{folder}/saved", "student": "MF", "embedding_size": SIZE}
        config = Config("HetCompStudent", "synthetic", config_dict={**settings, "state": "ERROR"}, arguments=())
        init_logger(config)
        split = make_split(config)
        fit_to_data(config, split)
        student = get_model("MF")(config, split.train)
        teachers = [get_model(name)(teacher_config(config, name), split.train) for name in config["teachers"]]
    users = split.history.active_users[:SAMPLE]

    def ours() -> None:
        top_unobserved(student, split.history, 50, users=users)

    mine, theirs = interleaved(ours, lambda: _ensemble(teachers, split.history, users))
    return _row(f"top 50 of {SAMPLE} users, ms; reference: {', '.join(config['teachers'])}", mine, theirs, 1e3, 20)


def factors_row(dataset: SyntheticDataset) -> Row:
    """Six teachers of inner products alone, all users."""
    history = History.of(dataset)  # type: ignore[arg-type]
    student, teachers = factors(dataset, SIZE), [factors(dataset, 64) for _ in range(N_TEACHERS)]

    def ours() -> None:
        top_unobserved(student, history, 50)

    mine, theirs = interleaved(ours, lambda: _ensemble(teachers, history, None))
    return _row("top 50 of all users, s; reference: six teachers of inner products", mine, theirs, 1.0, None)


def _ensemble(teachers: list[torch.nn.Module], history: History, users: Tensor | None) -> Tensor:
    importance = rank_importance(torch.arange(DEPTH)).expand(len(teachers), 1, DEPTH)
    lists = torch.stack([top_unobserved(teacher, history, DEPTH, users=users) for teacher in teachers])
    return ensemble_topk(lists if users is None else lists[:, users], importance, 50)[0]


def _row(what: str, mine: list[float], theirs: list[float], unit: float, target: int | None) -> Row:
    ours, reference = (sorted(times)[len(times) // 2] * unit for times in (mine, theirs))
    bound = "masking and selecting among all items cost the student as much as each teacher, and more than its product"
    return Row(what, f"{ours:.2f}", f"{reference:,.2f}", Ratio.of(theirs, mine), target, bound=bound)


def _write(dataset: SyntheticDataset, path: Path) -> None:
    """The interactions as RecBole's atomic file, with one more of each item, so that all are in the catalogue."""
    path.parent.mkdir()
    items = torch.arange(1, N_ITEMS)
    users = torch.cat([dataset.inter_feat["user_id"], items % (N_USERS - 1) + 1]).tolist()
    pairs = zip(users, torch.cat([dataset.inter_feat["item_id"], items]).tolist())
    lines = [f"{user}\t{item}" for user, item in dict.fromkeys(pairs)]
    path.write_text("\n".join(["user_id:token\titem_id:token", *lines]) + "\n", encoding="utf-8")
