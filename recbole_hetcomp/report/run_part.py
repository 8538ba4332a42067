"""A run in words: who won and by how much, whether to believe it, and what there is to look at."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, Optional

from recbole_hetcomp.report.axes import Axis, short
from recbole_hetcomp.report.curves_section import curves_sections
from recbole_hetcomp.report.figures import Interval, Parts, Point, intervals, scatter, stacked
from recbole_hetcomp.report.views import (
    COSTS,
    Column,
    Part,
    Section,
    drawn_costs,
    late,
    metric_title,
    on_the_test_part,
    table_of,
    verdict,
    with_interval,
)

KINDS = {"teacher": "teacher", "ensemble": "ensemble", "student without distillation": "alone"}  # others: student
ROLES = {"ensemble": "the ensemble", "student without distillation": "the student without distillation"}
FIDELITY = {
    "users": "1 − D@50 between a student's list and the ensemble's",
    "rows": "R² of a student's logits against the ensemble's",
}
PAIRED = {"users": "user by user (paired t-test)", "rows": "row by row (DeLong's test for AUC, a paired t-test for LogLoss)"}
Row = Mapping[str, Any]


def run_part(record: Mapping[str, Any]) -> Part:
    """The part of a page about a run."""
    rows, metric = record["rows"], metric_of(record)
    student = _with_role(rows, "student")
    title = f"{student['model'] if student else record['model']} on {record['dataset']['name']}"
    sections = [_comparison(record)]
    if len(rows) > 1:
        sections += [_costs(rows, metric), *_users(record, metric)]
        sections += [_popularity(record)] if record["popularity"] else []
    if record["curves"]:
        sections += curves_sections(record["curves"], taught=len(rows) > 1)
    return Part("run", title, _findings(record, metric), _doubts(record), sections, record, on_the_test_part(record))


def metric_of(record: Mapping[str, Any]) -> str:
    """The metric that models are chosen by, as rows name it; where they lack it, their first one."""
    chosen, known = str(record["valid_metric"]).lower(), list(record["rows"][0]["metrics"]) if record["rows"] else []
    return chosen if chosen in known or not known else known[0]


def _with_role(rows: list[Row], role: str) -> Optional[Row]:
    return next((row for row in rows if row["role"] == role), None)


def _findings(record: Mapping[str, Any], metric: str) -> list[str]:
    rows, name = record["rows"], metric_title(metric)
    student, ensemble = _with_role(rows, "student"), _with_role(rows, "ensemble")
    if student is None or ensemble is None:
        return [
            f"{row['model']}: {name} {row['metrics'][metric]:.4f} on the test part."
            for row in rows
            if row["metrics"].get(metric) is not None
        ]
    sentences = [*_kept(student, ensemble, metric, name)]
    smaller = metric in record["smaller"]
    for role, of_metrics in record["against"].items():
        if metric in of_metrics:
            entry = of_metrics[metric]
            sentence = (
                f"By {name} the student is {verdict(entry, smaller=smaller)} {ROLES.get(role, role)}: {with_interval(entry)}"
            )
            if "won" in entry:
                sentence += f"; higher for {100 * entry['won']:.0f} % of the users, lower for {100 * entry['lost']:.0f} %"
            sentences.append(f"{sentence}.")
    return sentences


def _kept(student: Row, ensemble: Row, metric: str, name: str) -> list[str]:
    ours, theirs = student["metrics"].get(metric), ensemble["metrics"].get(metric)
    if not ours or not theirs:
        return []
    sentence = (
        f"The student has {name} {ours:.4f}, the ensemble of its teachers {theirs:.4f}: {100 * ours / theirs:.1f} % of it"
    )
    if student["params"] and ensemble["params"]:
        sentence += f", with {student['params']:,} parameters instead of {ensemble['params']:,}"
    for key, asked in (("ms_per_1000_users", "users"), ("ms_per_1000", "rows")):
        if student.get(key) and ensemble.get(key):
            sentence += f" and {short(student[key])} ms instead of {short(ensemble[key])} ms for 1,000 {asked}"
    return [f"{sentence}."]


def _doubts(record: Mapping[str, Any]) -> list[str]:
    what = record["tested"]["what"]
    over = f"The intervals and p-values are over these {what}; of" if record["against"] else "Of"
    says = "they say" if record["against"] else "it says"
    seen = [
        f"One run, with one seed ({record['seed']}) on one split, tested on {record['tested']['count']:,} {what}. {over} "
        f"another seed or split {says} nothing (hetcomp benchmark repeats with seeds)."
    ]
    if record["curves"]:
        seen += late(record["curves"], record["model"])
    trials = [f"{row['model']} {row['trials']}" for row in record["rows"] if row.get("trials") is not None]
    any_searched = any(row.get("trials") for row in record["rows"])
    searched = f"Settings were searched: trials by model: {', '.join(trials)}." if any_searched else ""
    none = "No settings were searched for (hetcomp tune-teachers): all models have default, preset or given ones."
    return [*seen, searched or none, *record["doubts"]]


def _comparison(record: Mapping[str, Any]) -> Section:
    rows, smaller = record["rows"], record["smaller"]
    names = {"role": lambda row: row["role"], "model": lambda row: row["model"]}
    metrics: list[Column] = [
        (metric_title(name), partial(_metric, name), ".4f", name in smaller) for name in (rows[0]["metrics"] if rows else ())
    ]
    costs: list[Column] = [(cost.header, partial(_cost, cost.key), cost.form, True) for cost in COSTS]
    columns: list[Column] = [*metrics, *costs, ("fidelity", partial(_cost, "fidelity"), ".3f", None)]
    note = "The best value of each column is in bold." if len(rows) > 1 else ""
    if any(row.get("fidelity") is not None for row in rows):
        note += f" Fidelity is {FIDELITY[record['tested']['what']]}."
    return Section("Comparison on the test part", tables=[table_of(rows, names, columns, note)])


def _metric(name: str, row: Row) -> Optional[float]:
    return row["metrics"].get(name)


def _cost(name: str, row: Row) -> Optional[float]:
    return row.get(name)


def _costs(rows: list[Row], metric: str) -> Section:
    figures = []
    for cost in drawn_costs(rows):
        points = [
            Point(row.get(cost.key), row["metrics"].get(metric), _short_name(row), KINDS.get(row["role"], "student"))
            for row in rows
        ]
        up = Axis.over(metric_title(metric), [point.y for point in points if point.x is not None])
        figures.append(scatter(cost.title, points, Axis.over(cost.label, [point.x for point in points], log=True), up))
    return Section("Quality against size and latency", "Up and to the left is better.", figures=figures)


def _short_name(row: Row) -> str:
    return {"student": "student", "student without distillation": "student alone"}.get(row["role"], str(row["model"]))


def _users(record: Mapping[str, Any], metric: str) -> list[Section]:
    against = {role: found for role, found in record["against"].items() if found}
    if not against:
        return []
    shared = [key for key in next(iter(against.values())) if all(key in found for found in against.values())]
    metric = metric if metric in shared or not shared else shared[0]  # AUC of a ranking is no mean over users
    name = metric_title(metric)
    bars = [
        Parts(f"against {ROLES.get(role, role)}", won_and_lost(found[metric]))
        for role, found in against.items()
        if "won" in found.get(metric, {})
    ]
    gaps = [
        Interval(
            f"{metric_title(key)}, against {ROLES.get(role, role)}", entry["mean"], entry["low"], entry["high"], _kind(role)
        )
        for role, found in against.items()
        for key, entry in found.items()
    ]
    names = {"metric": lambda row: metric_title(row[1]), "against": lambda row: ROLES.get(row[0], row[0])}
    columns = [
        ("difference", lambda row: row[2]["mean"], "+.4f", None),
        ("95 % from", lambda row: row[2]["low"], "+.4f", None),
        ("to", lambda row: row[2]["high"], "+.4f", None),
        ("p", lambda row: row[2]["p"], ".2g", None),
        ("higher, % of users", lambda row: share(row[2], "won"), ".1f", None),
        ("lower", lambda row: share(row[2], "lost"), ".1f", None),
        ("same", lambda row: share(row[2], "tied"), ".1f", None),
    ]
    table = table_of([(role, key, entry) for role, found in against.items() for key, entry in found.items()], names, columns)
    what = record["tested"]["what"]
    figures = [stacked(f"Users by {name}", bars)] if bars else []
    figures.append(intervals("Mean difference of the student", gaps, f"difference, with its 95 % interval over {what}"))
    text = f"The student against the ensemble and against the same student without teachers, {PAIRED[what]}."
    return [Section("Users won and lost" if bars else "Differences of the student", text, [table], figures)]


def share(entry: Mapping[str, Any], name: str) -> Optional[float]:
    """The per cent of users won, lost or tied; None where a metric is no mean over users."""
    return 100 * entry[name] if name in entry else None


def won_and_lost(entry: Mapping[str, Any]) -> list[tuple[str, str, float]]:
    """The three shares of users, as a bar has them."""
    return [("won", "higher", entry["won"]), ("tied", "the same", entry["tied"]), ("lost", "lower", entry["lost"])]


def _kind(role: str) -> str:
    return KINDS.get(role, "student")


def _popularity(record: Mapping[str, Any]) -> Section:
    popular = record["popularity"]
    rows = [row for row in record["rows"] if row.get("popularity")]
    rows.append({"role": "", "model": "training interactions", "popularity": popular["interactions"]})
    names = {"role": lambda row: row["role"], "model": lambda row: row["model"]}
    columns = [
        ("mean popularity", lambda row: row["popularity"]["mean_popularity"], ",.1f", None),
        ("Gini", lambda row: row["popularity"]["gini"], ".3f", None),
        ("coverage, %", lambda row: 100 * row["popularity"]["coverage"], ".1f", None),
        ("tail share, %", lambda row: 100 * row["popularity"]["tail"], ".1f", None),
    ]
    text = (
        f"Of each user's {popular['k']} best items outside the training part. Mean popularity: training interactions of "
        "an item in these lists. Gini: 0 if all items are listed alike, 1 if one alone is. Coverage: items that are in any "
        "list. Tail share: places that go to the 80 % of items that are least popular."
    )
    points = [
        Point(100 * row["popularity"]["coverage"], 100 * row["popularity"]["tail"], _short_name(row), _kind(row["role"]))
        for row in rows[:-1]
    ]
    figure = scatter(
        "Popularity",
        points,
        Axis.over("coverage, %", [point.x for point in points]),
        Axis.over("tail share, %", [point.y for point in points]),
    )
    return Section("Popularity", text, [table_of(rows, names, columns)], [figure])
