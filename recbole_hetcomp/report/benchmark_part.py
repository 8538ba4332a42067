"""A benchmark in words: means with their spreads, differences from the first model with their intervals, significance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import mean, stdev
from typing import Any, Optional

from recbole_hetcomp.report.axes import Axis
from recbole_hetcomp.report.figures import Interval, Line, Parts, Point, colour, intervals, lines, scatter, stacked
from recbole_hetcomp.report.run_part import metric_of, share, won_and_lost
from recbole_hetcomp.report.search_parts import listed
from recbole_hetcomp.report.views import (
    COSTS,
    LEVEL,
    Cell,
    Part,
    Section,
    TableView,
    best_of,
    drawn_costs,
    late,
    metric_title,
    numbers,
    on_the_test_part,
    table_of,
    verdict,
    with_interval,
    words,
)

Row = Mapping[str, Any]


def benchmark_part(record: Mapping[str, Any]) -> Part:
    """The part of a page about a benchmark."""
    rows = record["rows"]
    if not rows:
        return Part("benchmark", f"Benchmark on {record['dataset']['name']}", ["No model was measured."], [], [], record)
    metric = metric_of(record)
    title = f"Benchmark of {len(rows)} model{'s' * (len(rows) > 1)} on {record['dataset']['name']}"
    sections = [_means(record, metric), *_against(record, metric), _costs(rows, metric), *_curves(rows), *_settings(rows)]
    return Part("benchmark", title, _findings(record, metric), _doubts(record), sections, record, on_the_test_part(record))


def _of_several_seeds(rows: Sequence[Row]) -> bool:
    return any(len(row["seeds"]) > 1 for row in rows)


def _counted(rows: Sequence[Row], what: str) -> str:
    """Over what intervals are."""
    return f"{what} and seeds" if _of_several_seeds(rows) else what


def _mean(row: Row, metric: str) -> Optional[float]:
    values = [value for value in row["metrics"].get(metric, ()) if value is not None]
    return mean(values) if values else None


def _spread(row: Row, metric: str) -> Optional[float]:
    values = [value for value in row["metrics"].get(metric, ()) if value is not None]
    return stdev(values) if len(values) > 1 else None


def _findings(record: Mapping[str, Any], metric: str) -> list[str]:
    rows, name, smaller = record["rows"], metric_title(metric), metric in record["smaller"]
    best = best_of([_mean(row, metric) for row in rows], smaller=smaller)
    first, sentences = rows[0]["model"], []
    if len(rows) == 1:
        return [
            f"{first} has {name} {_written(rows[0], metric)}." if _mean(rows[0], metric) is not None else f"{first} was run."
        ]
    for row in rows:
        if best is not None and _mean(row, metric) == best:
            sentences.append(f"{row['model']} has the best mean {name}: {_written(row, metric)}.")
    for row in rows[1:]:
        entry = row["against"].get(metric)
        if entry:
            sentences.append(f"{row['model']} is {verdict(entry, smaller=smaller)} {first}: {with_interval(entry)}.")
    return sentences


def _written(row: Row, metric: str) -> str:
    spread = _spread(row, metric)
    return f"{_mean(row, metric):.4f}" + ("" if spread is None else f" ± {spread:.4f}")


def _doubts(record: Mapping[str, Any]) -> list[str]:
    rows = record["rows"]
    seeds = max(len(row["seeds"]) for row in rows)
    count, what = record["tested"]["count"], record["tested"]["what"]
    tested = f"tested on {count:,} {what}; " if count else ""
    seen = [
        f"{seeds} seeds a model, one split and one set of teachers, {tested}another split or other teachers are not among "
        "the chances that the p-values count."
        if seeds > 1
        else f"One seed a model, {tested}the p-values say nothing of another seed (--seeds=3 measures more)."
    ]
    trials = {row["model"]: row["trials"] for row in rows}
    if len(set(trials.values())) > 1:
        given = ", ".join(f"{model} {count}" for model, count in trials.items())
        seen.append(f"The settings of some models were searched for and those of others were not; trials: {given}.")
    elif not any(trials.values()):
        seen.append("No settings were searched for: each model has default, preset or given ones.")
    for row in rows:
        told = [late(curves, row["model"]) for curves in row["curves"] if curves is not None]
        seen += told[0] if told and all(told) else []  # what holds with each seed
    short = [row["model"] for row in rows if len(row["seeds"]) < seeds]
    return [*seen, *([f"Fewer seeds than the others have: {', '.join(short)}."] if short else [])]


def _means(record: Mapping[str, Any], metric: str) -> Section:
    rows, smaller = record["rows"], record["smaller"]
    metrics = list(rows[0]["metrics"])
    best = {name: best_of([_mean(row, name) for row in rows], smaller=name in smaller) for name in metrics}
    cells = [
        [
            *words(row["model"]),
            *(_cell(row, name, best[name]) for name in metrics),
            _interval_of_mean(row, metric),
            *(numbers(row.get(cost.key), cost.form) for cost in COSTS),
            numbers(mean(row["train_seconds"]) if row["train_seconds"] else None, ".0f"),
            numbers(row["trials"] if any(other["trials"] for other in rows) else None, ","),
        ]
        for row in rows
    ]
    costs, what = (*(cost.header for cost in COSTS), "training, s", "trials"), record["tested"]["what"]
    several = _of_several_seeds(rows)
    note = "Mean ± standard deviation over seeds" if several else "One seed"
    if len(rows) > 1:
        note += "; the best mean of each metric is in bold. " if several else "; the best of each metric is in bold. "
        note += f"* differs from {rows[0]['model']} (paired over {what}, p < {LEVEL} after Holm)"
    headers = ["model", *map(metric_title, metrics), f"95 % interval of {metric_title(metric)}", *costs]
    means = [
        Interval(row["model"], row["intervals"][metric]["mean"], *_ends(row, metric), colour(index))
        for index, row in enumerate(rows)
        if metric in row["intervals"]
    ]
    figure = [intervals("Means", means, f"{metric_title(metric)}, 95 % interval over {_counted(rows, what)}", zero=False)]
    return Section("Means on the test part", "", [TableView(headers, 1, cells, f"{note}.")], figure if means else [])


def _ends(row: Row, metric: str) -> tuple[Optional[float], Optional[float]]:
    entry = row["intervals"][metric]
    return entry["low"], entry["high"]


def _interval_of_mean(row: Row, metric: str) -> Cell:
    low, high = _ends(row, metric) if metric in row["intervals"] else (None, None)
    return Cell("") if low is None or high is None else Cell(f"{low:.4f} to {high:.4f}", repr(low))


def _cell(row: Row, metric: str, best: Optional[float]) -> Cell:
    average = _mean(row, metric)
    if average is None:
        return Cell("")
    entry = row["against"].get(metric)
    star = "*" if entry is not None and entry["p"] < LEVEL else ""
    return Cell(f"{_written(row, metric)}{star}", repr(average), average == best)


def _against(record: Mapping[str, Any], metric: str) -> list[Section]:
    rows = [row for row in record["rows"][1:] if row["against"]]
    if not rows:
        return []
    metric = metric if all(metric in row["against"] for row in rows) else next(iter(rows[0]["against"]))
    rows = [row for row in rows if metric in row["against"]]
    first, name = record["rows"][0]["model"], metric_title(metric)
    gaps = [_interval(row["model"], row["against"][metric], colour(index)) for index, row in enumerate(rows, 1)]
    bars = [Parts(row["model"], won_and_lost(row["against"][metric])) for row in rows if "won" in row["against"][metric]]
    entries = [(row, key, entry) for row in rows for key, entry in row["against"].items()]
    names = {"model": lambda entry: entry[0]["model"], "metric": lambda entry: metric_title(entry[1])}
    columns = [
        (f"over {first}", lambda entry: entry[2]["mean"], "+.4f", None),
        ("95 % from", lambda entry: entry[2]["low"], "+.4f", None),
        ("to", lambda entry: entry[2]["high"], "+.4f", None),
        ("p, after Holm", lambda entry: entry[2]["p"], ".2g", None),
        ("higher, % of users", lambda entry: share(entry[2], "won"), ".1f", None),
        ("lower", lambda entry: share(entry[2], "lost"), ".1f", None),
    ]
    what = record["tested"]["what"]
    counted = _counted(record["rows"], what)
    text = f"Each model against {first}. Intervals count {counted}; p-values are adjusted for the number of models."
    figures = [intervals(f"{name}, difference from {first}", gaps, "difference, with its 95 % interval")]
    figures += [stacked(f"Users by {name}, against {first}", bars)] if bars else []
    return [Section(f"Differences from {first}", text, [table_of(entries, names, columns)], figures)]


def _interval(name: str, entry: Mapping[str, Any], kind: str) -> Interval:
    return Interval(name, entry["mean"], entry["low"], entry["high"], kind)


def _costs(rows: Sequence[Row], metric: str) -> Section:
    figures = []
    for cost in drawn_costs(rows):
        points = [_point(row, metric, cost.key, index) for index, row in enumerate(rows)]
        up = Axis.over(metric_title(metric), [end for point in points for end in (point.y, point.low, point.high)])
        figures.append(scatter(cost.title, points, Axis.over(cost.label, [point.x for point in points], log=True), up))
    bars = "Bars are standard deviations over seeds." if _of_several_seeds(rows) else ""
    return Section("Quality against size and latency", bars, figures=figures)


def _point(row: Row, metric: str, key: str, index: int) -> Point:
    average, spread = _mean(row, metric), _spread(row, metric)
    ends = (None, None) if average is None or spread is None else (average - spread, average + spread)
    return Point(row.get(key), average, row["model"], colour(index), *ends)


def _curves(rows: Sequence[Row]) -> list[Section]:
    """Validation scores of the first seed's training of each model, where they were recorded."""
    drawn, label = [], ""
    for index, row in enumerate(rows):
        curves = next((found for found in row["curves"] if found is not None), None)
        points = [(float(entry["epoch"]), entry["score"]) for entry in (curves or {"validations": []})["validations"]]
        if curves is not None and any(score is not None for _, score in points):
            label = curves["metric"]
            drawn.append(Line(row["model"], points, colour(index)))
    if not drawn:
        return []
    across = Axis("epoch", 0.0, max(point[0] for line in drawn for point in line.points) or 1.0)
    up = Axis.over(label, [score for line in drawn for _, score in line.points])
    return [Section("Learning curves", "With the first seed.", figures=[lines("Validation", drawn, across, up)])]


def _settings(rows: Sequence[Row]) -> list[Section]:
    """In which settings the models differ from the first one."""
    differing = [row for row in rows[1:] if row.get("settings")]
    if not differing:
        return []
    cells = [words(row["model"], listed(row["settings"])) for row in differing]
    text = f"All settings of {rows[0]['model']} are below."
    return [Section(f"Settings that differ from {rows[0]['model']}'s", text, [TableView(["model", "settings"], 2, cells)])]
