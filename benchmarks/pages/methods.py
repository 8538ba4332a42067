"""The tables of methods and models, from what their classes say of themselves and from what was measured of them."""

from __future__ import annotations

from records import DATA, read, value
from tables import github

from recbole_hetcomp.commands.described import described, paper, shipped

__all__ = ["losses_list", "methods_table", "models_table", "names_line", "paper", "shipped"]

DATASETS = {"ml-100k": "ml-100k", "citeulike-t": "CiteULike"}
TABLES = ("systems", "methods")  # of a data set; what both have is taken from the last


def methods_table(names: list[str]) -> str:
    """A row a distillation method, with Recall@50 / NDCG@10 where they were measured."""
    rows = {dataset: {row["model"]: row for row in _rows(dataset)} for dataset in DATASETS}
    cells = [
        [
            f"`{method.name}`",
            method.claim,
            method.paper,
            method.kind,
            *(_scores(rows[dataset].get(method.name)) for dataset in DATASETS),
        ]
        for method in described(names)
        if method.kind
    ]
    return github(["method", "claim", "paper", "learns from", *DATASETS.values()], cells, [True] * 4)


def _rows(dataset: str) -> list[dict]:
    names = [f"{dataset}/{table}" for table in TABLES]
    return [row for name in names if (DATA / f"{name}.json").is_file() for row in read(name)["rows"]]


def _scores(row: dict | None) -> str:
    return "" if row is None else f"{value(row, 'recall@50'):.4f} / {value(row, 'ndcg@10'):.4f}"


def models_table(names: list[str]) -> str:
    """A row a model that learns alone: students and teachers that RecBole lacks."""
    cells = [[f"`{method.name}`", method.claim, method.paper] for method in described(names) if not method.kind]
    return github(["model", "what", "paper"], cells, [True] * 3)


def losses_list(names: list[str]) -> str:
    """A line a method whose class states its loss."""
    return "\n".join(f"- `{method.name}`: `{method.loss}`" for method in described(names) if method.loss)


def names_line(names: list[str]) -> str:
    """The methods' names in one paragraph."""
    return ", ".join(f"`{method.name}`" for method in described(names) if method.kind) + "."
