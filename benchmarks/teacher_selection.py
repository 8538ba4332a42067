"""A learned selection of teachers (RLKDStudent) finds whom each user gains from, and the student gains by it.

`python benchmarks/teacher_selection.py groups` trains on synthetic users of two groups with a right teacher each;
`... ml-100k` on MovieLens-100K with BPR, LightGCN and CML, trained once and kept in `--checkpoint_dir`. Both print a table.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from recbole_hetcomp.quick_start import run_hetcomp

N_USERS, N_ITEMS, LIKED, LENGTH = 240, 160, 30, 40
TEACHERS = [f"group{group}.tsv" for group in (0, 1)]
ALONE = [f"group{group}-alone.tsv" for group in (0, 1)]  # the same, without the lists of the other group
GROUPS_TRAINING = {
    "student": "MF",
    "embedding_size": 32,
    "learning_rate": 0.001,
    "weight_decay": 0.0,
    "train_batch_size": 128,
    "epochs": 40,  # while the student still learns; once its loss goes to and fro, the reward has other reasons
    "eval_step": 10,
    "stopping_step": 100,
    "n_ranked": 5,
    "distillation_weight": 1.0,
    "eval_args": {"split": {"RS": [0.2, 0.1, 0.7]}, "group_by": "user", "order": "RO", "mode": "full"},
    "topk": [20],
    "valid_metric": "Recall@20",
    "load_col": {"inter": ["user_id", "item_id"]},
    "use_gpu": False,
    "show_progress": False,
    "state": "WARNING",
}
POLICY = {"apart_learning_rate": 0.02}


def write_groups(folder: Path, seed: int) -> dict[str, Any]:
    """Writes users 0, 1, ... of group u % 2 and their teachers' lists; returns the settings of a run with both teachers.

    A group likes the items i % 2 of its own. A user's taste is a vector, its order that of the products with the items'
    vectors, and its interactions are drawn from its LIKED best. Teacher g knows the order of group g, and its lists of
    the other group are drawn from all items.
    """
    generator = torch.Generator().manual_seed(seed)
    users, items = (torch.randn(n, 3, generator=generator) for n in (N_USERS, N_ITEMS))
    group = torch.arange(N_USERS) % 2
    scores = (users @ items.T).masked_fill(group[:, None] != torch.arange(N_ITEMS) % 2, -torch.inf)
    order = scores.argsort(dim=1, descending=True)
    by_chance = torch.rand(2, N_USERS, N_ITEMS, generator=generator).argsort(2)
    drawn = torch.rand(N_USERS, LIKED, generator=generator).argsort(1)[:, : LIKED * 2 // 3]
    (folder / "groups").mkdir(parents=True)
    pairs = [f"u{user}\ti{item}" for user in range(N_USERS) for item in order[user][drawn[user]].tolist()]
    text = "\n".join(["user_id:token\titem_id:token", *pairs, ""])
    (folder / "groups" / "groups.inter").write_text(text, encoding="utf-8")
    for teacher, (name, alone) in enumerate(zip(TEACHERS, ALONE)):
        right = (group == teacher)[:, None]
        lists = torch.where(right, order, by_chance[teacher])[:, :LENGTH]
        _write_lists(folder / name, lists, range(N_USERS))
        _write_lists(folder / alone, lists, range(teacher, N_USERS, 2))
    own = {"data_path": str(folder), "checkpoint_dir": str(folder / "saved"), "seed": seed}
    return {**GROUPS_TRAINING, **own, "teachers": [str(folder / name) for name in TEACHERS]}


def _write_lists(path: Path, lists: Tensor, users: Sequence[int]) -> None:
    rows = [f"u{user}\ti{item}\t{rank}" for user in users for rank, item in enumerate(lists[user].tolist())]
    path.write_text("\n".join(["user\titem\trank", *rows, ""]), encoding="utf-8")


def trained(model: str, dataset: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """What a run returns; the student alone is not trained, and nothing is compared."""
    given = {"without_distillation": False, "resume": False, **settings}
    return run_hetcomp(model, dataset, config_dict=given, arguments=(), compare=False)


def selected(selection: Tensor) -> tuple[float, float]:
    """P(select) of the teacher of a user's own group, and of the other: the mean over users of [U, 2] when last met.

    RecBole numbers the users from 1 in the order of the file, in which user 0 comes first.
    """
    own = (torch.arange(N_USERS) % 2)[:, None]
    probabilities = selection[1:].cpu()
    return float(probabilities.gather(1, own).mean()), float(probabilities.gather(1, 1 - own).mean())


def of_groups(seed: int, rewards: Sequence[str]) -> list[list[str]]:
    """A row a way of weighting the two teachers: seed, way, recall, part of the way to the oracle, P(right), P(wrong)."""
    with tempfile.TemporaryDirectory() as folder:
        settings = write_groups(Path(folder), seed)
        oracle = {**settings, "teachers": [str(Path(folder) / name) for name in ALONE]}
        uniform = {**settings, "list_weights": "uniform"}
        runs = {
            "all alike (MTD, uniform)": trained("MTDStudent", "groups", uniform),
            "the right one (MTD, uniform, of each teacher its own group)": trained(
                "MTDStudent", "groups", {**oracle, "list_weights": "uniform"}
            ),
            "learned weights (MTD, user)": trained("MTDStudent", "groups", {**settings, "list_weights": "user"}),
        }
        for reward in rewards:
            name = f"selected (RLKD, {reward})"
            runs[name] = trained("RLKDStudent", "groups", {**settings, **POLICY, "reward": reward})
    recalls = {name: result["test_result"]["recall@20"] for name, result in runs.items()}
    least, most = list(recalls.values())[:2]
    rows = []
    for name, recall in recalls.items():
        shares = ("", "")
        if name.startswith("selected"):
            shares = tuple(f"{share:.2f}" for share in selected(runs[name]["model"].selection))
        rows.append([str(seed), name, f"{recall:.4f}", f"{(recall - least) / (most - least):.2f}", *shares])
    return rows


def of_movielens(checkpoint_dir: str) -> list[list[str]]:
    """A row a method: Recall@50 and NDCG@10 of the test part, the best validation, seconds, P(select) of each teacher."""
    own = {"teachers": ["BPR", "LightGCN", "CML"], "checkpoint_dir": checkpoint_dir, "student": "MF", "embedding_size": 8}
    quiet = {"show_progress": False, "use_gpu": False}
    rows = []
    for name, model, more in (
        ("all alike (MTD, uniform)", "MTDStudent", {"list_weights": "uniform"}),
        ("learned weights (MTD, user)", "MTDStudent", {"list_weights": "user"}),
        ("selected (RLKD)", "RLKDStudent", {}),
    ):
        result = trained(model, "ml-100k", {**own, **quiet, **more})
        shares = ""
        if model == "RLKDStudent":
            active = result["model"].history.active_users
            shares = " ".join(f"{share:.2f}" for share in result["model"].selection[active].mean(0).tolist())
        figures = [result["test_result"]["recall@50"], result["test_result"]["ndcg@10"], result["best_valid_score"]]
        rows.append([name, *(f"{figure:.4f}" for figure in figures), f"{result['train_seconds']:.0f}", shares])
    return rows


def printed(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A markdown table."""
    for cells in (header, ["---"] * len(header), *rows):
        print(f"| {' | '.join(cells)} |")


def main() -> None:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("part", choices=["groups", "ml-100k"])
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--rewards", nargs="+", default=["improve", "r1"])
    parser.add_argument("--checkpoint_dir", default="saved")
    given = parser.parse_args()
    if given.part == "groups":
        rows = [row for seed in given.seeds for row in of_groups(seed, given.rewards)]
        printed(["seed", "teachers", "Recall@20", "of the way to the right one", "P(right)", "P(wrong)"], rows)
    else:
        header = ["teachers", "Recall@50", "NDCG@10", "best validation", "seconds", "P(BPR), P(LightGCN), P(CML)"]
        printed(header, of_movielens(given.checkpoint_dir))


if __name__ == "__main__":
    main()
