"""The sections about a training: learning curves, the curriculum, the distance to the teachers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Optional

from recbole_hetcomp.report.axes import Axis
from recbole_hetcomp.report.drawing import Figure
from recbole_hetcomp.report.figures import Line, colour, lines
from recbole_hetcomp.report.views import Section

N_SHADES = 4  # of the checkpoints of a teacher
Curves = Mapping[str, Any]


def curves_sections(curves: Curves, *, taught: bool) -> list[Section]:
    """The sections that the curves have something for; `taught`: by teachers, so that the second loss is theirs."""
    sections = [Section("Learning curves", _seconds(curves), figures=_learning(curves, taught))]
    staged = [entry for entry in curves["validations"] if entry.get("stages")]
    if staged:
        text = "The mean checkpoint of each teacher that users learn from; 0 is the earliest. Users move on one by one."
        sections.append(Section("Curriculum", text, figures=[_stages(curves, staged)]))
    distant = [entry for entry in curves["validations"] if entry.get("distances")]
    if distant:
        text = "D@50 between the student's lists and each checkpoint of each teacher: 0 is the same list, 1 shares nothing."
        sections.append(Section("Distance to the teachers", text, figures=_distances(curves, distant)))
    return [section for section in sections if section.figures]


def _seconds(curves: Curves) -> str:
    epochs = curves["epochs"]
    total = sum(entry["seconds"] for entry in epochs)
    return f"{len(epochs):,} epochs in {total:,.1f} s, without validations." if epochs else ""


def switches(curves: Curves) -> list[tuple[float, str]]:
    """Where another loss takes over: (epoch, text) each."""
    validations, found = curves["validations"], []
    for before, after in zip(validations, validations[1:]):
        if after["phase"] and before["phase"] and after["phase"] != before["phase"]:
            found.append((float(before["epoch"]), f"{after['phase']} loss"))
    return found


def _learning(curves: Curves, taught: bool) -> list[Figure]:
    epochs, validations, marks = curves["epochs"], curves["validations"], switches(curves)
    across = Axis("epoch", 0.0, float(max([entry["epoch"] for entry in [*epochs, *validations]], default=1) or 1))
    figures = []
    scores = [(float(entry["epoch"]), entry["score"]) for entry in validations]
    if any(score is not None for _, score in scores):
        best = best_of_teachers(curves)
        level = (
            [Line(f"best teacher ({best[0]})", [(0.0, best[1]), (across.high, best[1])], "teacher dashed")] if best else []
        )
        drawn = [*level, Line("this model", scores, "student")]
        up = Axis.over(curves["metric"], [score for line in drawn for _, score in line.points])
        before = curves["at_start"]
        note = "" if before is None else f"Before any training: {before:.4f}."
        figures.append(lines("Validation", drawn, across, up, marks, note))
    parts = max((len(entry["loss"]) for entry in epochs), default=0)
    for part in range(parts):
        of_taught = ("own loss", "distillation loss", "further loss")[min(part, 2)] if taught else f"loss, part {part + 1}"
        name = "loss, summed over an epoch" if parts == 1 else of_taught
        points = [(float(entry["epoch"]), entry["loss"][part] if part < len(entry["loss"]) else None) for entry in epochs]
        up = Axis.over(name, [loss for _, loss in points])
        figures.append(lines("Training", [Line("", points, "student")], across, up, marks))
    return figures


def best_of_teachers(curves: Curves) -> Optional[tuple[str, float]]:
    """The teacher with the best validation score at its last checkpoint, and that score; None where none has one."""
    last = [
        (of_teacher["name"], of_teacher["scores"][-1])
        for of_teacher in curves["teachers"]
        if of_teacher["scores"] and of_teacher["scores"][-1] is not None
    ]
    return (max if curves["larger_is_better"] else min)(last, key=lambda entry: entry[1]) if last else None


def _stages(curves: Curves, staged: Sequence[Mapping[str, Any]]) -> Figure:
    names = [of_teacher["name"] for of_teacher in curves["teachers"]]
    drawn = [
        Line(
            name, [(0.0, 0.0), *((float(entry["epoch"]), value(entry["stages"], index)) for entry in staged)], colour(index)
        )
        for index, name in enumerate(names)
    ]
    across = Axis("epoch", 0.0, float(staged[-1]["epoch"]) or 1.0)
    up = Axis.over("mean checkpoint", [height for line in drawn for _, height in line.points])
    return lines("Curriculum", drawn, across, up, switches(curves))


def _distances(curves: Curves, distant: Sequence[Mapping[str, Any]]) -> list[Figure]:
    heights = [number for entry in distant for of_teacher in entry["distances"] for number in of_teacher]
    up, across = Axis.over("D@50", heights), Axis("epoch", 0.0, float(distant[-1]["epoch"]) or 1.0)
    figures = []
    for index, of_teacher in enumerate(curves["teachers"]):
        drawn, n_stages = [], len(of_teacher["epochs"])
        for stage, epoch in enumerate(of_teacher["epochs"]):
            per_entry = [
                (float(entry["epoch"]), value(entry["distances"][index], stage) if index < len(entry["distances"]) else None)
                for entry in distant
            ]
            name = f"after {epoch} epochs" if epoch else "its list"
            drawn.append(Line(name, per_entry, shade(stage, n_stages)))
        figures.append(lines(of_teacher["name"], drawn, across, up, switches(curves)))
    return figures


def shade(stage: int, n_stages: int) -> str:
    """The class of a checkpoint's line: the last one is darkest; of more than four, neighbours share a shade, one dashed."""
    if n_stages <= N_SHADES:
        return f"s{stage + N_SHADES - n_stages}"
    place, before = (round((N_SHADES - 1) * number / (n_stages - 1)) for number in (stage, max(stage - 1, 0)))
    return f"s{place}" + (" dashed" if stage and place == before else "")


def value(numbers: Sequence[Optional[float]], index: int) -> Optional[float]:
    """The number at a place, None where there is none."""
    return numbers[index] if index < len(numbers) else None
