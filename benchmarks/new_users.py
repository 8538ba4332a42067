"""Students asked for users left out of the training, against the same users seen: `python benchmarks/new_users.py`.

MovieLens-100K, or the files that --inter names, 60/20/20 by user, once. For each seed a fifth of the users is drawn. A
student is trained on everybody, and another one on all but these. Both are tested on the drawn users' test items: the first
knows them, the second gets their training items as histories. The last rows rank by popularity. Prints the table of
docs/new_users.md.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import recbole
from tabulate import tabulate

from recbole_hetcomp.quick_start import load_student, recommend, run_hetcomp
from recbole_hetcomp.serving.new_users import recommend_for

SOURCE = Path(recbole.__file__).parent / "dataset_example" / "ml-100k" / "ml-100k.inter"
PARTS, SHARES = ("train", "valid", "test"), (0.6, 0.2, 0.2)
LEFT_OUT = 0.2  # of the users
STUDENTS: dict[str, dict[str, object]] = {
    "HistoryEncoder": {"student": "HistoryEncoder"},
    "HistoryEncoder, hidden_size 32": {"student": "HistoryEncoder", "hidden_size": 32},
    "MF": {"student": "MF"},
    "ML": {"student": "ML"},
}
Lists = Mapping[str, Sequence[str]]  # user -> items


def main() -> None:
    """Train, recommend, compare."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--folder", type=Path, default=Path("new_users"))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--size", type=int, default=16)
    parser.add_argument(
        "--inter", type=Path, nargs="+", default=[SOURCE], help="files whose first columns are user and item"
    )
    parser.add_argument("--teachers", nargs="*", default=None, help="by default all six")
    parser.add_argument("--students", nargs="*", default=list(STUDENTS))
    asked = parser.parse_args()
    rows = read_parts(asked.inter)
    n_users = rows["user_id"].nunique()
    results: dict[tuple[str, str], list[tuple[float, float]]] = {}
    for seed in range(1, 1 + asked.seeds):
        drawn = set(np.random.default_rng(seed).permutation(rows["user_id"].unique())[: int(LEFT_OUT * n_users)])
        for name in asked.students:
            for left_out in (False, True):
                model, dataset = trained(asked, name, seed, rows, drawn if left_out else set())
                lists = recommended(model, dataset, rows, drawn, left_out)
                key = name, "left out" if left_out else "seen"
                results.setdefault(key, []).append(quality(lists, rows, drawn))
                print(seed, *key, *(f"{value:.4f}" for value in results[key][-1]), flush=True)
        results.setdefault(("popularity", "left out"), []).append(quality(by_popularity(rows, drawn), rows, drawn))
    table = [[*key, *spread(column)] for key, values in results.items() for column in [list(zip(*values))]]
    print(tabulate(table, ["student", "its users were", "Recall@50", "NDCG@10"], tablefmt="github"))


def read_parts(files: Sequence[Path]) -> pd.DataFrame:
    """Columns user_id, item_id and part, which is drawn within each user once."""
    rows = pd.concat([pd.read_csv(path, sep="\t", dtype=str).iloc[:, :2] for path in files], ignore_index=True)
    rows.columns = ["user_id", "item_id"]
    place = np.random.default_rng(0).permutation(len(rows))
    rank = pd.Series(place).groupby(rows["user_id"]).rank(pct=True).to_numpy()
    rows["part"] = np.array(PARTS, dtype=object)[np.searchsorted(np.cumsum(SHARES)[:-1], rank - 1e-9)]
    return rows


def trained(asked: argparse.Namespace, name: str, seed: int, rows: pd.DataFrame, without: set[str]) -> tuple:
    """The student of a run on everybody but `without`, loaded from its checkpoint."""
    dataset = f"without-{seed}" if without else "everybody"
    folder = asked.folder / dataset
    folder.mkdir(parents=True, exist_ok=True)
    for part in PARTS:
        kept = rows[(rows["part"] == part) & ~rows["user_id"].isin(without)]
        header = ["user_id:token", "item_id:token"]
        kept[["user_id", "item_id"]].to_csv(folder / f"{dataset}.{part}.inter", sep="\t", index=False, header=header)
    settings = {
        "data_path": str(asked.folder),
        "checkpoint_dir": str(asked.folder / "saved"),
        "benchmark_filename": list(PARTS),
        "embedding_size": asked.size,
        "seed": seed,
        "split_seed": 1,
        "without_distillation": False,
        "state": "ERROR",
        **STUDENTS[name],
        **({"teachers": asked.teachers} if asked.teachers else {}),
    }
    result = run_hetcomp("HetCompStudent", dataset, config_dict=settings, arguments=(), compare=False)
    return load_student(result["checkpoint"])[1:]


def recommended(model: object, dataset: object, rows: pd.DataFrame, users: set[str], left_out: bool) -> Lists:
    """50 items for each of `users` outside training and validation items; of the left out by their training items."""
    known = items_of(rows, users, ("train",))
    barred = {user: set(items) for user, items in items_of(rows, users, ("train", "valid")).items()}
    depth = 50 + max(map(len, items_of(rows, users, PARTS).values()))  # what is barred is taken out below
    if left_out:  # who has nothing that others have gets no list
        there = {user: items for user, items in known.items() if set(items) & set(dataset.field2id_token["item_id"])}
        found = {user: [] for user in known} | recommend_for(model, dataset, there, depth)
    else:
        dataset.inter_feat = dataset.inter_feat[: 0 * len(dataset)]  # nothing is masked yet
        found = recommend(model, dataset, sorted(users), depth)
    return {user: [item for item, _ in items if item not in barred[user]][:50] for user, items in found.items()}


def by_popularity(rows: pd.DataFrame, users: set[str]) -> Lists:
    """50 items for each of `users`: those that most others have in training."""
    train = rows[(rows["part"] == "train") & ~rows["user_id"].isin(users)]
    order = train["item_id"].value_counts(sort=True).index.tolist()
    barred = items_of(rows, users, ("train", "valid"))
    return {user: [item for item in order if item not in set(barred[user])][:50] for user in users}


def items_of(rows: pd.DataFrame, users: set[str], parts: Sequence[str]) -> dict[str, list[str]]:
    """Each user's items in the parts."""
    there = rows[rows["part"].isin(parts) & rows["user_id"].isin(users)]
    return there.groupby("user_id")["item_id"].agg(list).to_dict()


def quality(lists: Lists, rows: pd.DataFrame, users: set[str]) -> tuple[float, float]:
    """(Recall@50, NDCG@10) on the test items of `users`, as RecBole counts them."""
    wanted = items_of(rows, users, ("test",))
    gains = 1 / np.log2(np.arange(2, 12))
    recalls, ndcgs = [], []
    for user, items in wanted.items():
        hits = np.isin(lists[user], items)
        recalls.append(hits.sum() / len(items))
        ndcgs.append((hits[:10] * gains[: len(hits[:10])]).sum() / gains[: min(10, len(items))].sum())
    return statistics.fmean(recalls), statistics.fmean(ndcgs)


def spread(columns: Sequence[Sequence[float]]) -> list[str]:
    """Mean and standard deviation of each metric over the seeds."""
    deviation: Callable[[Sequence[float]], float] = lambda values: statistics.stdev(values) if len(values) > 1 else 0.0  # noqa: E731
    return [f"{statistics.fmean(values):.4f} ± {deviation(values):.4f}" for values in columns]


if __name__ == "__main__":
    main()
