"""Axes hold what is drawn, names cover nothing, and numbers are written as they are meant."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recbole_hetcomp.report.axes import Axis, short
from recbole_hetcomp.report.drawing import WIDTH, names_beside
from recbole_hetcomp.report.figures import (
    MOST_POINTS,
    Interval,
    Line,
    Parts,
    Point,
    intervals,
    lines,
    scatter,
    stacked,
    thinned,
)
from recbole_hetcomp.report.views import best_of, late, metric_title, probability, signed, table_of, verdict

NUMBERS = st.floats(-1e9, 1e9, allow_nan=False)
POSITIVE = st.floats(1e-6, 1e12)


@given(st.lists(NUMBERS, min_size=1, max_size=20))
def test_an_axis_holds_all_values_and_its_ticks_are_on_it(values) -> None:
    axis = Axis.over("x", values)
    assert all(0 <= axis.at(value) <= 1 for value in values)
    assert all(-1e-6 <= axis.at(value) <= 1 + 1e-6 for value, _ in axis.ticks())
    assert 1 <= len(axis.ticks()) <= 8


@given(st.lists(POSITIVE, min_size=1, max_size=20))
def test_a_logarithmic_axis_too(values) -> None:
    axis = Axis.over("x", values, log=True)
    assert all(0 <= axis.at(value) <= 1 for value in values)
    ticks = axis.ticks()
    assert 1 <= len(ticks) <= 8
    assert all(-1e-6 <= axis.at(value) <= 1 + 1e-6 for value, _ in ticks)


def test_values_that_are_not_known_have_no_place() -> None:
    assert Axis.over("x", [None, None]) == Axis("x", 0.0, 1.0)
    figure = scatter(
        "t", [Point(None, 1.0, "a", "student"), Point(1.0, 2.0, "b", "student")], Axis("x", 0, 2), Axis("y", 0, 3)
    )
    assert figure.svg.count("<circle") == 1


@pytest.mark.parametrize(("value", "text"), [(21016, "21 k"), (2.1e6, "2.1 M"), (0.05, "0.05"), (43.14, "43.1"), (0, "0")])
def test_numbers_are_short(value, text) -> None:
    assert short(value) == text


def test_names_cover_no_point_and_no_other_name() -> None:
    places = [(100.0, 100.0 + 3 * index, f"teacher {index}") for index in range(6)]
    boxes = []
    for part in names_beside(places):
        tag = ElementTree.fromstring(str(part))
        width = 6.2 * len(tag.text or "")
        left = float(tag.get("x", 0)) - width * {"start": 0, "middle": 0.5, "end": 1}[tag.get("text-anchor", "")]
        boxes.append((left, float(tag.get("y", 0)), left + width))
    assert boxes
    for index, (left, y, right) in enumerate(boxes):
        assert left >= 0
        assert right <= WIDTH
        for other_left, other_y, other_right in boxes[index + 1 :]:
            assert right <= other_left or other_right <= left or abs(y - other_y) >= 11


@given(st.integers(1, 5000))
def test_a_long_line_is_thinned_and_keeps_its_ends(length) -> None:
    points = [(float(place), float(place)) for place in range(length)]
    kept = thinned(points)
    assert len(kept) <= MOST_POINTS
    assert (kept[0], kept[-1]) == (points[0], points[-1])


def test_every_figure_is_xml_whatever_the_names() -> None:
    axis, name = Axis("<x>", 0.0, 1.0), "a & <b> \"'"
    figures = [
        scatter(name, [Point(0.5, 0.5, name, "student", 0.4, 0.6)], axis, axis),
        lines(name, [Line(name, [(0.0, 0.1), (1.0, None)], "c0")], axis, axis, [(0.5, name)]),
        intervals(name, [Interval(name, 0.5, 0.1, None, "c1"), Interval(name, 0.5, 0.1, 0.9, "c1")], name),
        stacked(name, [Parts(name, [("won", name, 0.5), ("lost", name, 0.5)])]),
    ]
    for figure in figures:
        root = ElementTree.fromstring(str(figure.svg))
        assert root.get("aria-label")
        assert name in "".join(root.itertext())


def test_bars_are_as_long_as_their_shares() -> None:
    figure = stacked("t", [Parts("a", [("won", "higher", 0.25), ("tied", "same", 0.5), ("lost", "lower", 0.25)])])
    widths = [float(width) for width in re.findall(r'<rect [^>]*width="([\d.]+)"', figure.svg)]
    assert widths[1] == pytest.approx(2 * widths[0], abs=0.2)
    assert sum(widths) == pytest.approx(WIDTH - 24, abs=0.3)


def test_the_best_is_none_where_all_are_the_same() -> None:
    assert best_of([1.0, 2.0, None], smaller=False) == 2.0
    assert best_of([1.0, 2.0, None], smaller=True) == 1.0
    assert best_of([1.0, 1.0], smaller=True) is None
    assert best_of([None], smaller=True) is None


def test_a_column_of_nothing_is_left_out() -> None:
    table = table_of([1, 2], {"name": str}, [("a", float, ".1f", False), ("b", lambda row: None, ".1f", False)])
    assert [header for _, header in table.columns] == ["name", "a"]
    assert [row[1].best for row in table.rows] == [False, True]


def test_words_for_numbers() -> None:
    assert metric_title("ndcg@10") == "NDCG@10"
    assert metric_title("recall@50") == "Recall@50"
    assert metric_title("auc") == "AUC"
    assert probability(0.0001) == "p < 0.001"
    assert probability(0.0123) == "p = 0.012"
    assert signed(-0.01234) == "−0.0123"
    entry = {"mean": -0.1, "p": 0.01}
    assert verdict(entry, smaller=False) == "worse than"
    assert verdict(entry, smaller=True) == "better than"
    assert verdict({**entry, "p": 0.5}, smaller=True) == "not distinguishable from"


def curves(scores: list[float], stages: list[list[float]], at_start: float | None = None) -> dict:
    validations = [
        {"epoch": i + 1, "score": score, "stages": stage, "may_stop": stage == [1.0]}
        for i, (score, stage) in enumerate(zip(scores, stages))
    ]
    teachers = [{"name": "T", "epochs": [1, 2], "scores": [0.1, 0.2]}]
    return {"validations": validations, "teachers": teachers, "larger_is_better": True, "at_start": at_start}


@pytest.mark.parametrize(
    ("scores", "stages", "at_start", "told"),
    [
        ([0.1, 0.3, 0.2], [[0.0], [1.0], [1.0]], 0.05, []),
        ([0.1, 0.2, 0.3], [[0.0], [1.0], [1.0]], 0.05, ["the best validation is the last one (epoch 3)"]),
        ([0.1, 0.3, 0.2], [[0.0], [0.2], [0.4]], None, ["its epochs were over before its curriculum was"]),
        ([0.1, 0.3, 0.2], [[0.0], [1.0], [1.0]], 0.9, ["the training made it worse"]),
    ],
)
def test_trainings_that_ended_too_early_are_told(scores, stages, at_start, told) -> None:
    sentences = late(curves(scores, stages, at_start), "X")
    assert len(sentences) == len(told)
    assert all(part in sentence for part, sentence in zip(told, sentences))
