"""Quality against size as an SVG: teachers, their ensemble, the student alone, and distilled students of several sizes."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from html import escape

from records import Row, read, value

WIDTH, HEIGHT = 720, 390
TOP, PLOT_HEIGHT = 96, 236  # of the panels
METRIC = "recall@50"
STYLE = """
text { font: 12px system-ui, -apple-system, 'Segoe UI', Helvetica, Arial, sans-serif; fill: #1f2328;
  paint-order: stroke; stroke: #ffffff; stroke-width: 3px; stroke-linejoin: round }
.title { font-weight: 600; font-size: 14px } .small { font-size: 11px; fill: #59636e } .paper { fill: #ffffff }
.axis { stroke: #d1d9e0 } .ensemble { stroke: #8250df; stroke-width: 1.5; stroke-dasharray: 5 4 }
.violet { fill: #8250df; stroke: none } .line { stroke: #0969da; stroke-width: 2; fill: none } .student { fill: #0969da }
.alone { fill: #ffffff; stroke: #bc4c00; stroke-width: 2 } .teacher { fill: #818b98 }
@media (prefers-color-scheme: dark) {
text { fill: #f0f6fc; stroke: #0d1117 } .small { fill: #9198a1 } .paper { fill: #0d1117 } .axis { stroke: #3d444d }
.violet { fill: #ab7df8 }
.ensemble { stroke: #ab7df8 } .line { stroke: #4493f8 } .student { fill: #4493f8 }
.alone { fill: #0d1117; stroke: #f0883e } .teacher { fill: #9198a1 }
}"""


@dataclass(frozen=True)
class Point:
    """A model in a panel: its number of parameters, its share of the ensemble's metric in per cent, and its label."""

    size: float
    share: float
    label: str


@dataclass(frozen=True)
class Panel:
    """One data set. `left` is the panel's place; `low` the lowest share shown; `sizes` the range of parameters."""

    title: str
    left: float
    low: float
    step: int
    sizes: tuple[float, float]
    teachers: list[Point]
    students: list[Point]
    alone: list[Point]
    ensemble: Point
    width: float = 285

    def x(self, size: float) -> float:
        """The place of a number of parameters, in logarithmic scale."""
        first, last = (math.log10(end) for end in self.sizes)
        return self.left + self.width * (math.log10(size) - first) / (last - first)

    def y(self, share: float) -> float:
        """The place of a share of the ensemble's metric."""
        return TOP + PLOT_HEIGHT * (102 - share) / (102 - self.low)


def picture() -> str:
    """The SVG, from the records in results/data."""
    panels = (
        _panel("ml-100k/sizes", "MovieLens-100K", 55, 84, 4, (8e3, 4e6)),
        _panel("citeulike-t/sizes", "CiteULike", 410, 50, 10, (8e4, 4e7)),
    )
    body = [line for panel in panels for line in _drawn(panel)]
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}">',
        "<title>Recall@50 against number of parameters, as a share of the teachers' ensemble</title>",
        f"<style>{STYLE}</style>",
        f'<rect class="paper" width="{WIDTH}" height="{HEIGHT}"/>',
        *_legend(),
        *body,
        "</svg>",
    ]
    return "\n".join(lines) + "\n"


def _panel(name: str, title: str, left: float, low: float, step: int, sizes: tuple[float, float]) -> Panel:
    """The panel of the record `name`, which has a run's rows and students of several sizes."""
    rows = read(name)["rows"]
    ensemble = _only(rows, "ensemble")
    groups = [[_point(row, ensemble) for row in rows if row["role"] == role] for role in ("teacher", "student", ALONE)]
    teachers, students, alone = (sorted(group, key=lambda point: point.size) for group in groups)
    return Panel(title, left, low, step, sizes, teachers, students, alone, _point(ensemble, ensemble))


ALONE = "student without distillation"


def _only(rows: list[Row], role: str) -> Row:
    return next(row for row in rows if row["role"] == role)


def _point(row: Row, ensemble: Row) -> Point:
    return Point(row["params"], 100 * value(row, METRIC) / value(ensemble, METRIC), str(row.get("size", row["model"])))


def _drawn(panel: Panel) -> Iterator[str]:
    yield from _axes(panel)
    yield _diamond(panel.x(panel.ensemble.size), panel.y(100))
    for point, height in _label_heights(panel):
        x, y = panel.x(point.size), panel.y(point.share)
        yield f'<rect class="teacher" x="{x - 4:.1f}" y="{y - 4:.1f}" width="8" height="8"/>'
        yield _text(x + 8, height + 4, point.label, "small")
    line = " ".join(f"{panel.x(point.size):.1f},{panel.y(point.share):.1f}" for point in panel.students)
    yield f'<polyline class="line" points="{line}"/>'
    for kind, points in (("student", panel.students), ("alone", panel.alone)):
        for point in points:
            x, y = panel.x(point.size), panel.y(point.share)
            yield f'<circle class="{kind}" cx="{x:.1f}" cy="{y:.1f}" r="5"/>'
            yield _text(x, y + 19, point.label, anchor="middle")


def _axes(panel: Panel) -> Iterator[str]:
    right, bottom = panel.left + panel.width, TOP + PLOT_HEIGHT
    yield _text(panel.left, TOP - 14, panel.title, "title")
    for share in range(int(panel.low), 101, panel.step):
        y, kind = panel.y(share), "ensemble" if share == 100 else "axis"
        yield f'<line class="{kind}" x1="{panel.left}" y1="{y:.1f}" x2="{right}" y2="{y:.1f}"/>'
        yield _text(panel.left - 7, y + 4, f"{share} %", "small", "end")
    for power in range(math.ceil(math.log10(panel.sizes[0])), math.floor(math.log10(panel.sizes[1])) + 1):
        yield _text(panel.x(10**power), bottom + 18, f"{10**power:,}", "small", "middle")
    yield _text((panel.left + right) / 2, bottom + 38, "parameters (logarithmic)", "small", "middle")


def _label_heights(panel: Panel) -> Iterator[tuple[Point, float]]:
    """The teachers with the heights of their labels, pushed down where two of them would overlap."""
    placed: list[tuple[float, float]] = []
    for point in sorted(panel.teachers, key=lambda point: -point.share):
        x, height = panel.x(point.size), panel.y(point.share)
        for other, taken in placed:
            if abs(other - x) < 45 and height < taken + 12:
                height = taken + 12
        placed.append((x, height))
        yield point, height


def _legend() -> Iterator[str]:
    yield _text(14, 24, "Recall@50, as a share of the ensemble of teachers", "title")
    marks = (
        (20, '<circle class="student" cx="20" cy="46" r="5"/>', "student, distilled (embedding size)"),
        (258, '<circle class="alone" cx="258" cy="46" r="5"/>', "the same student alone"),
        (428, '<rect class="teacher" x="424" y="42" width="8" height="8"/>', "a teacher"),
        (524, _diamond(524, 46), "ensemble of all teachers"),
    )
    for x, mark, label in marks:
        yield mark
        yield _text(x + 11, 50, label)


def _diamond(x: float, y: float) -> str:
    return f'<path class="violet" d="M {x:.1f} {y - 7:.1f} l 7 7 l -7 7 l -7 -7 z"/>'


def _text(x: float, y: float, text: str, kind: str = "", anchor: str = "start") -> str:
    return f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'
