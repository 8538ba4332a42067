"""What a page shows, before it is HTML: parts, their sections, tables with their best cells."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Optional

from recbole_hetcomp.report.drawing import Figure

LEVEL = 0.05  # of significance


@dataclass(frozen=True)
class Cell:
    """A cell: what is written in it, by what it is sorted (nothing sorts last), whether it is the best of its column."""

    text: str
    sort: str = ""
    best: bool = False


@dataclass(frozen=True)
class TableView:
    """A table: headers, the number of first columns that hold words, rows, and a sentence below it."""

    headers: Sequence[str]
    n_words: int
    rows: Sequence[Sequence[Cell]]
    note: str = ""

    @property
    def columns(self) -> list[tuple[int, str]]:
        """Those that have anything in them: (place, header) each."""
        return [(place, header) for place, header in enumerate(self.headers) if any(row[place].text for row in self.rows)]


@dataclass(frozen=True)
class Section:
    """A heading, a paragraph, tables and figures."""

    title: str
    text: str = ""
    tables: Sequence[TableView] = field(default_factory=list)
    figures: Sequence[Figure] = field(default_factory=list)


@dataclass(frozen=True)
class Part:
    """What a page says of one record.

    Attributes:
        kind: run, benchmark, ...; the anchor
        title: its heading
        findings: sentences that say what won, and by how much
        doubts: sentences that say how far it may be believed
        sections: the rest
        record: all that its facts are written from
        chosen_by: by what, and on which part of the data, the models were chosen, and on which they are measured
    """

    kind: str
    title: str
    findings: Sequence[str]
    doubts: Sequence[str]
    sections: Sequence[Section]
    record: Mapping[str, Any]
    chosen_by: str = ""

    @property
    def facts(self) -> list[tuple[str, str]]:
        """What was run, and on what: (name, text) each."""
        record, data = self.record, self.record["dataset"]
        parts = ", ".join(f"{count:,} {part}" for part, count in data["parts"].items())
        facts = [
            ("data", f"{data['name']}: {data['users']:,} users, {data['items']:,} items; interactions: {parts}"),
            ("split", f"{data['split']} (fingerprint {data['fingerprint'][:8]})"),
            ("chosen by", self.chosen_by),
            ("versions", ", ".join(f"{name} {version}" for name, version in record["versions"].items())),
            ("machine", ", ".join(f"{name} {value}" for name, value in record["machine"].items())),
            ("made", record["made"].replace("T", " ")),
        ]
        return [(name, text) for name, text in facts if text]

    @property
    def settings(self) -> list[tuple[str, str]]:
        """All settings, by name."""
        return [(name, str(value)) for name, value in sorted(self.record["settings"].items())]


def words(*texts: str) -> list[Cell]:
    """Cells that hold words."""
    return [Cell(text, text.lower()) for text in texts]


def numbers(value: Optional[float], form: str, best: Optional[float] = None) -> Cell:
    """A cell that holds a number in a format; it is marked where it is the `best`."""
    return Cell("", "") if value is None else Cell(format(value, form), repr(value), value == best)


def best_of(values: Sequence[Optional[float]], *, smaller: bool) -> Optional[float]:
    """The best of the values that there are; None where they are all the same, as then none is better."""
    known = [value for value in values if value is not None]
    return (min if smaller else max)(known) if len(set(known)) > 1 else None


class Cost(NamedTuple):
    """What a model costs: its entry in a row, header and format of its column, and title and axis of its figure, if any."""

    key: str
    header: str
    form: str
    title: str = ""
    label: str = ""


COSTS = (  # those that a row has
    Cost("params", "parameters", ",", "Size", "parameters"),
    Cost("size_mb", "MB", ".2f"),
    Cost("multiply_adds", "multiply-adds", ",.0f", "Products", "multiply-adds of a prediction"),
    Cost("ms_per_1000_users", "ms / 1,000 users", ".1f", "Latency", "ms to rank for 1,000 users"),
    Cost("ms_per_1000", "ms / 1,000 rows", ".2f", "Latency", "ms to predict 1,000 rows"),
)


def drawn_costs(rows: Sequence[Mapping[str, Any]]) -> list[Cost]:
    """The costs that have a figure, and that any of the rows has."""
    return [cost for cost in COSTS if cost.title and any(row.get(cost.key) is not None for row in rows)]


Column = tuple[str, Callable[[Any], Optional[float]], str, Optional[bool]]  # header, value, format, is smaller better


def table_of(
    rows: Sequence[Any], names: Mapping[str, Callable[[Any], str]], columns: Sequence[Column], note: str = ""
) -> TableView:
    """A table of the rows: columns of words, then of numbers, the best of each marked; where it is None none is best."""
    best = [
        None if smaller is None else best_of([value(row) for row in rows], smaller=smaller)
        for _, value, _, smaller in columns
    ]
    cells = [
        [
            *words(*(name(row) for name in names.values())),
            *(numbers(value(row), form, top) for (_, value, form, _), top in zip(columns, best)),
        ]
        for row in rows
    ]
    return TableView([*names, *(header for header, *_ in columns)], len(names), cells, note)


def probability(p: float) -> str:
    """A p-value in a sentence."""
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}"


def signed(value: float, digits: int = 4) -> str:
    """A difference with its sign; a true minus, which lines up with a plus."""
    return f"{value:+.{digits}f}".replace("-", "−")


def with_interval(entry: Mapping[str, Any]) -> str:
    """A difference with its interval and p-value, as a sentence has it."""
    if entry["low"] is None or entry["high"] is None:
        return signed(entry["mean"])
    low, high = signed(entry["low"]), signed(entry["high"])
    return f"{signed(entry['mean'])} (95 % interval {low} to {high}, {probability(entry['p'])})"


def verdict(entry: Mapping[str, Any], *, smaller: bool) -> str:
    """better, worse or not distinguishable."""
    if entry["p"] >= LEVEL:
        return "not distinguishable from"
    return "better than" if (entry["mean"] > 0) != smaller else "worse than"


def on_the_test_part(record: Mapping[str, Any]) -> str:
    """By what models were chosen, and on what they were measured."""
    return f"{record['valid_metric']} on the validation part; all results below are of the test part"


def late(curves: Mapping[str, Any], name: str) -> list[str]:
    """Sentences about a training that ended before its curriculum, or while its score still rose, or that did harm."""
    sentences = []
    scores = [(entry["score"], entry["epoch"]) for entry in curves["validations"] if entry["score"] is not None]
    best = (max if curves["larger_is_better"] else min)(scores, key=lambda entry: entry[0], default=(None, 0))
    if len(scores) > 1 and best[1] == scores[-1][1]:
        sentences.append(
            f"{name}: the best validation is the last one (epoch {best[1]}); with more epochs it may become better."
        )
    sign = 1 if curves["larger_is_better"] else -1
    if best[0] is not None and curves["at_start"] is not None and sign * best[0] < sign * curves["at_start"]:
        sentences.append(f"{name}: the training made it worse than it was before.")
    if curves["validations"] and curves["validations"][-1].get("may_stop") is False:
        sentences.append(f"{name}: its epochs were over before its curriculum was; with more it learns more.")
    return sentences


def metric_title(name: str) -> str:
    """RecBole's lower-case names as papers have them: NDCG@10, Recall@50."""
    kind, _, depth = name.partition("@")
    known = {
        "ndcg": "NDCG",
        "mrr": "MRR",
        "map": "MAP",
        "auc": "AUC",
        "gauc": "GAUC",
        "mae": "MAE",
        "rmse": "RMSE",
        "logloss": "LogLoss",
    }
    titles = {"itemcoverage": "ItemCoverage", "averagepopularity": "AveragePopularity", "giniindex": "GiniIndex"}
    title = {**known, **titles}.get(kind, kind[:1].upper() + kind[1:])
    return f"{title}@{depth}" if depth else title
