"""The kinds of figures: points, lines, intervals, and shares of a whole, each an SVG with its legend."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Optional

from recbole_hetcomp.report.axes import Axis
from recbole_hetcomp.report.drawing import (
    BOTTOM,
    HEIGHT,
    N_COLOURS,
    RIGHT,
    TOP,
    WIDTH,
    Figure,
    Frame,
    element,
    names_beside,
    picture,
    text,
)

MOST_POINTS = 150  # of a line


@dataclass(frozen=True)
class Point:
    """A point with its name and class; `low` and `high` are the ends of its interval, if it has one."""

    x: Optional[float]
    y: Optional[float]
    name: str
    kind: str
    low: Optional[float] = None
    high: Optional[float] = None


@dataclass(frozen=True)
class Line:
    """A line through points (x, y); where y is None it has none. `dots` marks each of them."""

    name: str
    points: Sequence[tuple[float, Optional[float]]]
    kind: str
    dots: bool = False


def colour(index: int) -> str:
    """The class of the line with this number; after N_COLOURS the next ones are dashed."""
    return f"c{index % N_COLOURS}" + (" dashed" if index // N_COLOURS % 2 else "")


def scatter(title: str, points: Sequence[Point], across: Axis, up: Axis, *, named: bool = True, note: str = "") -> Figure:
    """Points in a frame, their names beside them if there is room; each says its numbers when it is pointed at."""
    frame = Frame(across, up)
    placed = [(frame.x(point.x), frame.y(point.y), point) for point in points if point.x is not None and point.y is not None]
    parts = frame.drawn()
    for x, y, point in placed:
        if point.low is not None and point.high is not None:
            parts.append(
                element("line", x1=x, x2=x, y1=frame.y(point.low), y2=frame.y(point.high), kind=f"{point.kind} whisker")
            )
        told = element("title", f"{point.name}: {across.label} {_value(across, point.x)}, {up.label} {_value(up, point.y)}")
        parts.append(element("circle", told, cx=x, cy=y, r=4.5 if named else 3.5, kind=point.kind))
    if named:
        parts += names_beside([(x, y, point.name) for x, y, point in placed])
    return Figure(picture(parts, f"{title}: {up.label} against {across.label}"), f"{title}: {up.label}", note=note)


def _value(axis: Axis, value: Optional[float]) -> str:
    return axis.names[int(value or 0)] if axis.names else f"{value:,.4g}"


def lines(
    title: str,
    drawn: Sequence[Line],
    across: Axis,
    up: Axis,
    marks: Sequence[tuple[float, str]] = (),
    note: str = "",
    legend: Optional[Sequence[tuple[str, str]]] = None,
) -> Figure:
    """Lines in a frame, with upright `marks` (place, text), and a legend of those that have a name."""
    frame = Frame(across, up)
    parts = frame.drawn()
    for place, name in marks:
        x = frame.x(place)
        late = across.at(place) > 0.6
        parts.append(element("line", x1=x, x2=x, y1=TOP, y2=HEIGHT - BOTTOM, kind="mark"))
        parts.append(text(x - 4 if late else x + 4, TOP + 10, name, "end" if late else "start", "small halo"))
    for line in drawn:
        known = [(frame.x(x), frame.y(y)) for x, y in thinned(line.points) if y is not None]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in known)
        parts.append(element("polyline", points=path, kind=f"{line.kind} line"))
        parts += [element("circle", cx=x, cy=y, r=2.5, kind=line.kind) for x, y in known if line.dots or len(known) == 1]
    found = list(dict.fromkeys((line.kind, line.name) for line in drawn if line.name)) if legend is None else legend
    return Figure(picture(parts, f"{title}: {up.label} against {across.label}"), f"{title}: {up.label}", found, note)


def thinned(points: Sequence[tuple[float, Optional[float]]]) -> list[tuple[float, Optional[float]]]:
    """At most MOST_POINTS of them, evenly, the first and the last among them."""
    if len(points) <= MOST_POINTS:
        return list(points)
    step = (len(points) - 1) / (MOST_POINTS - 1)
    return [points[round(index * step)] for index in range(MOST_POINTS)]


@dataclass(frozen=True)
class Interval:
    """A value with its interval, named; the low and high ends may be missing."""

    name: str
    value: float
    low: Optional[float]
    high: Optional[float]
    kind: str


def intervals(title: str, rows: Sequence[Interval], label: str, *, zero: bool = True, note: str = "") -> Figure:
    """Values with their intervals below each other; with `zero` also the line of 0: those that touch it may be nothing."""
    ends = [end for row in rows for end in (row.value, row.low, row.high)]
    axis = Axis.over(label, [0.0, *ends] if zero else ends)
    left, right, height = 12, WIDTH - RIGHT, 38

    def x(value: float) -> float:
        return left + (right - left) * axis.at(value)

    bottom = height * len(rows) + 8
    parts = [element("line", x1=x(value), x2=x(value), y1=4, y2=bottom, kind="axis") for value, _ in axis.ticks()]
    parts += [text(x(value), bottom + 14, name, "middle") for value, name in axis.ticks()]
    if zero:
        parts.append(element("line", x1=x(0.0), x2=x(0.0), y1=4, y2=bottom, kind="mark"))
    for index, row in enumerate(rows):
        y = height * index + 28.0
        if row.low is not None and row.high is not None:
            parts.append(element("line", x1=x(row.low), x2=x(row.high), y1=y, y2=y, kind=f"{row.kind} whisker"))
        parts.append(element("circle", cx=x(row.value), cy=y, r=4.5, kind=row.kind))
        parts.append(text(left, y - 11, row.name, kind="small halo"))
    parts.append(text((left + right) / 2, bottom + 32, label, "middle"))
    return Figure(picture(parts, f"{title}: {label}", bottom + 40), title, note=note)


@dataclass(frozen=True)
class Parts:
    """A whole in named parts: (class, name, share) each; the shares sum up to 1."""

    name: str
    shares: Sequence[tuple[str, str, float]]


def stacked(title: str, rows: Sequence[Parts], note: str = "") -> Figure:
    """Bars of the same length, each divided into shares, whose per cents stand in them where there is room."""
    parts, height, width = [], 46, WIDTH - 24
    for index, row in enumerate(rows):
        y, x = height * index, 12.0
        parts.append(text(12, y + 14, row.name, kind="small"))
        for kind, name, share in row.shares:
            long = share * width
            told = element("title", f"{name}: {100 * share:.1f} %")
            parts.append(element("rect", told, x=x, y=y + 19, width=max(long, 0.0), height=20, kind=f"bar {kind}"))
            if long > 30:
                parts.append(text(x + long / 2, y + 33, f"{100 * share:.0f} %", "middle", "inbar"))
            x += long
    legend = list(dict.fromkeys((kind, name) for row in rows for kind, name, _ in row.shares))
    return Figure(picture(parts, title, height * len(rows)), title, legend, note)
