"""Searches in words: what was found for each model, and each setting against the score."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Optional

from recbole_hetcomp.report.axes import Axis, short
from recbole_hetcomp.report.drawing import Figure
from recbole_hetcomp.report.figures import MOST_POINTS, Point, scatter
from recbole_hetcomp.report.views import Cell, Part, Section, TableView, numbers, signed, words

SHOWN = 50  # rows of a table of trials or students
RATIO = 20.0  # from the least to the largest of a setting's values, above which it is drawn on a logarithmic scale
Found = Mapping[str, Any]


def teacher_search_part(record: Mapping[str, Any]) -> Part:
    """The part of a page about `hetcomp tune-teachers`."""
    searches, metric = record["searches"], record["valid_metric"]
    sections = [_found(searches, metric), *(_trials(title, found, record) for title, found in searches.items())]
    findings = [_finding(title, found, metric) for title, found in searches.items()]
    doubts = [
        "Scores are of the validation part, by which the best trial is chosen: they flatter what was found. What it is "
        "worth on the test part says a run or a benchmark, which use it.",
        *(
            f"{title}: the best trial is the last of {len(found['trials'])}; more may find better."
            for title, found in searches.items()
            if _is_last(found, record)
        ),
    ]
    title = f"Search for settings of {len(searches)} models on {record['dataset']['name']}"
    chosen_by = f"{metric} on the validation part, on which all numbers below are measured"
    return Part("teacher_search", title, findings, doubts, sections, record, chosen_by)


def _finding(title: str, found: Found, metric: str) -> str:
    before = found["first_score"]
    gain = "" if before is None else f", {signed(found['score'] - before)} over {before:.4f} without a search"
    return f"{title}: {metric} {found['score']:.4f} after {len(found['trials'])} trials{gain}."


def _is_last(found: Found, record: Mapping[str, Any]) -> bool:
    scores = [trial["score"] for trial in found["trials"]]
    known = [score for score in scores if score is not None]
    best = (max if record["larger_is_better"] else min)(known, default=None)
    return len(known) > 1 and scores[-1] is not None and scores[-1] == best and known.count(best) == 1


def _found(searches: Mapping[str, Found], metric: str) -> Section:
    headers = ["model", "settings", f"{metric} found", "without a search", "trials", "ended early", "seconds"]
    rows = [
        [
            *words(title, listed(found["settings"])),
            numbers(found["score"], ".4f"),
            numbers(found["first_score"], ".4f"),
            numbers(len(found["trials"]), "d"),
            numbers(found["ended_early"], "d"),
            numbers(found["seconds"], ",.0f"),
        ]
        for title, found in searches.items()
    ]
    return Section("What was found", "On the validation part.", [TableView(headers, 2, rows)])


def _trials(title: str, found: Found, record: Mapping[str, Any]) -> Section:
    complete = [trial for trial in found["trials"] if trial["score"] is not None]
    keys = list(dict.fromkeys(key for trial in found["trials"] for key in trial["settings"]))
    figures = [
        figure
        for key in keys
        if (
            figure := _against_score(
                key,
                [(trial["settings"].get(key), trial["score"], _kind(trial, found)) for trial in complete],
                record["valid_metric"],
            )
        )
    ]
    rows = [
        [
            numbers(trial["trial"], "d"),
            *(numbers(trial["score"], ".4f", found["score"]) if trial["score"] is not None else Cell("ended early"),),
            numbers(trial.get("seconds"), ".1f"),
            *(_value(trial["settings"].get(key)) for key in keys),
        ]
        for trial in _first_and_best(found["trials"], record["larger_is_better"])
    ]
    note = f"The first and the best of {len(found['trials']):,}." if len(rows) < len(found["trials"]) else ""
    space = "; ".join(f"{key}: {part}" for key, part in found["space"].items())
    text = f"Tried: {space}. The first trial has the settings that hold without a search." if space else ""
    return Section(title, text, [TableView(["trial", record["valid_metric"], "seconds", *keys], 0, rows, note)], figures)


def _first_and_best(trials: Sequence[Mapping[str, Any]], larger_is_better: bool) -> list[Mapping[str, Any]]:
    """At most SHOWN trials in their order: the first, which has the settings without a search, and the best."""
    sign = 1 if larger_is_better else -1
    scored = [trial for trial in trials if trial["score"] is not None]
    best = sorted(scored, key=lambda trial: -sign * trial["score"])[: SHOWN - 1]
    kept = {id(trial) for trial in (*trials[:1], *best)}
    return [trial for trial in trials if id(trial) in kept] if len(trials) > SHOWN else list(trials)


def _kind(trial: Mapping[str, Any], found: Found) -> str:
    return "student" if trial["score"] == found["score"] else "alone" if trial["trial"] == 1 else "teacher"


def _value(value: object) -> Cell:
    """A setting's value in a table; numbers are sorted as such."""
    if is_number(value):
        return Cell(short(float(value)), repr(float(value)))  # type: ignore[arg-type]
    return words("" if value is None else str(value))[0]


def is_number(value: object) -> bool:
    """Whether a setting's value is a number, and a reasonable one."""
    return type(value) in (int, float) and abs(value) < 1e15  # type: ignore[arg-type]


def _against_score(key: str, tried: Sequence[tuple[object, Optional[float], str]], label: str) -> Optional[Figure]:
    """A point a trial: the setting's value and the score; None where all trials have the same value."""
    values, key = _as_numbers([value for value, _, _ in tried], key)
    if len({str(value) for value in values}) < 2:
        return None
    if all(map(is_number, values)):
        known = [float(value) for value in values]  # type: ignore[arg-type]
        log = min(known) > 0 and max(known) / min(known) >= RATIO
        across = Axis.over(key, known, log=log)
        places = known
    else:
        names = list(dict.fromkeys(map(str, values)))
        across, places = (
            Axis.of_names(key, [name[:14] for name in names]),
            [float(names.index(str(value))) for value in values],
        )
    points = [Point(place, score, str(value)[:40], kind) for place, value, (_, score, kind) in zip(places, values, tried)]
    points = [*(point for point in points if point.kind != "teacher"), *_spread([p for p in points if p.kind == "teacher"])]
    points.sort(key=lambda point: point.kind == "student")  # the best is drawn last, above the others
    figure = scatter(key, points, across, Axis.over(label, [point.y for point in points]), named=False)
    kinds = {kind for _, _, kind in tried}
    names_of = (("student", "the best"), ("alone", "without a search"), ("teacher", "another"))
    return Figure(figure.svg, figure.title, [(kind, name) for kind, name in names_of if kind in kinds and len(kinds) > 1])


def _spread(points: list[Point]) -> list[Point]:
    """At most MOST_POINTS of them, evenly."""
    return points[:: -(-len(points) // MOST_POINTS)] if points else points


NUMBER = r"(?P<number>\d+(?:\.\d+)?(?:e[+-]?\d+)?)"
RATIOS = ((rf"{NUMBER} / (?P<count>.+)", "times {}"), (rf"(?P<count>.+) / {NUMBER}", "as {} / ..."))


def _as_numbers(values: Sequence[object], key: str) -> tuple[Sequence[object], str]:
    """Of ratios with the same count above or below, as `0.07 / interactions`, the other numbers, and what to call them."""
    for form, called in RATIOS:
        found = [ratio for value in values if isinstance(value, str) and (ratio := re.fullmatch(form, value))]
        counts = {ratio["count"] for ratio in found}
        if len(found) == len(values) and len(counts) == 1:
            return [float(ratio["number"]) for ratio in found], f"{key}, {called.format(counts.pop())}"
    return values, key


def student_search_part(record: Mapping[str, Any]) -> Part:
    """The part of a page about `hetcomp search-student`."""
    ranked, data = record["ranked"], record["dataset"]["name"]
    title = f"Search among {len(ranked):,} students for {data}, {record['budget']}"
    doubts = [
        "No student was trained: the score says how alike an untrained student and the teachers see users and items "
        "(DisWOT). It is a guess of what a student will learn; a run with the best one, and with the second, tells.",
    ]
    sections = [_students(ranked)] + (
        [Section("Each setting against the score", figures=_settings(ranked))] if len(ranked) > 1 else []
    )
    return Part("student_search", title, _best_student(ranked), doubts, sections, record)


def _best_student(ranked: Sequence[Found]) -> list[str]:
    if not ranked:
        return ["No student is within the budget."]
    best = ranked[0]
    sentence = (
        f"The nearest to the teachers is {_shape(best)}: score {best['score']:.3f}, {best['parameters']:,} parameters."
    )
    if len(ranked) > 1:
        sentence += f" The second is {_shape(ranked[1])}: {ranked[1]['score']:.3f}, {ranked[1]['parameters']:,} parameters."
    return [sentence]


def _students(ranked: Sequence[Found]) -> Section:
    headers = ["student", "settings", "score", "relations", "semantics", "parameters", "ms / 1,000 users"]
    rows = [
        [
            *words(found["model"], listed(found["settings"])),
            numbers(found["score"], ".3f"),
            numbers(found["relation"], ".3e"),
            numbers(found["semantic"], ".3e"),
            numbers(found["parameters"], ","),
            numbers(found["milliseconds"], ".1f"),
        ]
        for found in ranked[:SHOWN]
    ]
    note = f"The first {SHOWN} of {len(ranked):,}." if len(ranked) > SHOWN else ""
    return Section("The best", "", [TableView(headers, 2, rows, note)])


def _settings(ranked: Sequence[Found]) -> list[Figure]:
    best = ranked[0]

    def tried(values: Sequence[object]) -> list[tuple[object, Optional[float], str]]:
        return [
            (value, found["score"], "student" if found is best else "teacher")
            for value, found in zip(values, ranked)
            if value is not None
        ]

    keys = list(dict.fromkeys(key for found in ranked for key in found["settings"]))
    candidates = [_against_score("parameters", tried([found["parameters"] for found in ranked]), "score")]
    candidates.append(_against_score("student", tried([found["model"] for found in ranked]), "score"))
    candidates += [_against_score(key, tried([found["settings"].get(key) for found in ranked]), "score") for key in keys]
    return [figure for figure in candidates if figure is not None]


def _shape(found: Found) -> str:
    return f"{found['model']} ({listed(found['settings'])})" if found["settings"] else str(found["model"])


def listed(settings: Mapping[str, Any]) -> str:
    """`learning_rate 0.01, n_layers 2`."""
    return ", ".join(f"{key} {short(value) if isinstance(value, float) else value}" for key, value in settings.items())
