"""The parts that figures are drawn of: SVG elements, texts escaped, and the frame with its two axes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from markupsafe import Markup, escape

from recbole_hetcomp.report.axes import Axis

WIDTH, HEIGHT = 360, 250  # as a telephone shows it; wider screens show several side by side
LEFT, RIGHT, TOP, BOTTOM = 54, 16, 12, 40
N_COLOURS = 8  # of lines, in templates/report.html


@dataclass(frozen=True)
class Figure:
    """A picture with what is written below it.

    Attributes:
        svg: the picture
        title: above it
        legend: (class of the mark, text) each
        note: a sentence below
    """

    svg: Markup
    title: str
    legend: Sequence[tuple[str, str]] = field(default_factory=list)
    note: str = ""


def element(name: str, content: object = "", **attributes: object) -> Markup:
    """`<name ...>content</name>`, with `_` in a name as `-` and all texts escaped; `kind` is the class."""
    given = {("class" if key == "kind" else key.replace("_", "-")): value for key, value in attributes.items()}
    spelt = "".join(f' {key}="{escape(number(value))}"' for key, value in given.items())
    return Markup(f"<{name}{spelt}>{escape(content)}</{name}>" if content else f"<{name}{spelt}/>")


def number(value: object) -> str:
    """A coordinate with one digit behind the point; anything else as it is."""
    return f"{value:.1f}".removesuffix(".0") if isinstance(value, float) else str(value)


def joined(parts: Iterable[Markup]) -> Markup:
    """Elements one after the other."""
    return Markup("").join(parts)


def text(x: float, y: float, content: str, anchor: str = "start", kind: str = "small", **more: object) -> Markup:
    """A text at a place."""
    return element("text", content, x=x, y=y, kind=kind, text_anchor=anchor, **more)


def picture(parts: Iterable[Markup], label: str, height: float = HEIGHT) -> Markup:
    """The whole SVG; `label` is read to those who do not see it."""
    return element("svg", joined(parts), viewBox=f"0 0 {WIDTH} {number(float(height))}", role="img", aria_label=label)


@dataclass(frozen=True)
class Frame:
    """A panel with two axes."""

    across: Axis
    up: Axis

    def x(self, value: float) -> float:
        """Where a value of the lower axis stands."""
        return LEFT + (WIDTH - LEFT - RIGHT) * self.across.at(value)

    def y(self, value: float) -> float:
        """Where a value of the left axis stands."""
        return TOP + (HEIGHT - TOP - BOTTOM) * (1 - self.up.at(value))

    def drawn(self) -> list[Markup]:
        """Lines and numbers of both axes."""
        right, bottom = WIDTH - RIGHT, HEIGHT - BOTTOM
        parts = []
        for value, label in self.up.ticks():
            y = self.y(value)
            parts.append(element("line", x1=LEFT, y1=y, x2=right, y2=y, kind="axis"))
            parts.append(text(LEFT - 6, y + 4, label, "end"))
        for value, label in self.across.ticks():
            parts.append(text(self.x(value), bottom + 16, label, "middle"))
        parts.append(text((LEFT + right) / 2, HEIGHT - 6, self.across.label, "middle"))
        return parts


CHARACTER, LINE = 6.2, 12.0  # width and height of a letter of a small text
SIDES = (
    (8, 4, "start"),
    (-8, 4, "end"),
    (0, -8, "middle"),
    (0, 17, "middle"),
    (8, 15, "start"),
    (-8, 15, "end"),
    (8, -8, "start"),
)
Box = tuple[float, float, float, float]  # left, top, right, bottom


def names_beside(places: Sequence[tuple[float, float, str]]) -> list[Markup]:
    """Texts beside points (x, y, text), each on the first side where it covers no point and no other text.

    A text that has no such side is left out; the point still says its name when it is pointed at.
    """
    taken: list[Box] = [(x - 5, y - 5, x + 5, y + 5) for x, y, _ in places]
    parts = []
    for x, y, content in places:
        for right, down, anchor in SIDES:
            box = _box(x + right, y + down, content, anchor)
            if box[0] >= 0 and box[2] <= WIDTH and box[1] >= 0 and not any(_overlap(box, other) for other in taken):
                taken.append(box)
                parts.append(text(x + right, y + down, content, anchor, "small halo"))
                break
    return parts


def _box(x: float, y: float, content: str, anchor: str) -> Box:
    width = CHARACTER * len(content)
    left = x - width * {"start": 0.0, "middle": 0.5, "end": 1.0}[anchor]
    return (left, y - LINE + 2, left + width, y + 2)


def _overlap(one: Box, other: Box) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]
