"""`hetcomp search-student`: which shape of student to distil into, before any of them is trained.

Source: Dong, Li, Wei, "DisWOT: Student Architecture Search for Distillation WithOut Training", CVPR 2023,
https://arxiv.org/abs/2303.15678.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import yaml

from recbole_hetcomp import console
from recbole_hetcomp.commands.checks import check
from recbole_hetcomp.commands.pipeline import say_data
from recbole_hetcomp.commands.student_score import INITS, Distances, Scale, StudentScorer
from recbole_hetcomp.commands.student_space import Shape, Space
from recbole_hetcomp.config import Config
from recbole_hetcomp.config.errors import UserError, shown
from recbole_hetcomp.config.registry import properties_of
from recbole_hetcomp.console import Table
from recbole_hetcomp.data.fitting import fit_to_data
from recbole_hetcomp.data.split import Split, make_split
from recbole_hetcomp.evaluation.efficiency import n_parameters, ranking_milliseconds
from recbole_hetcomp.files.atomic import write
from recbole_hetcomp.knowledge.evolution import ageing_evolution
from recbole_hetcomp.teacher_training.scheduling import build_pool
from recbole_hetcomp.teachers.single import SingleTeacher

MODEL = "DisWOTStudent"  # whose settings a search has
ENUMERATED = 300  # shapes of a space that is looked through; of a larger one as many are scored
CALIBRATION = 32  # random shapes by which the two distances are scaled
SHOWN = 10  # rows of the table


@dataclass(frozen=True)
class Budget:
    """What a student may cost.

    Attributes:
        parameters: at most; None = any number
        milliseconds: to rank all items for 1,000 users on this machine, at most; None = any time
    """

    parameters: int | None = None
    milliseconds: float | None = None

    def __post_init__(self) -> None:
        for flag, value in (("max_parameters", self.parameters), ("max_milliseconds", self.milliseconds)):
            if value is not None and not value > 0:  # NaN is not either
                raise UserError(f"{flag}: {value} must be above 0")

    def __str__(self) -> str:
        parts = [] if self.parameters is None else [f"at most {self.parameters:,} parameters"]
        parts += [] if self.milliseconds is None else [f"at most {self.milliseconds:g} ms for 1,000 users"]
        return ", ".join(parts)


@dataclass(frozen=True)
class Candidate:
    """A shape that is within the budget, and what was found of it; `milliseconds` where the budget is of these."""

    shape: Shape
    parameters: int
    milliseconds: float | None
    distances: Distances
    score: float

    def record(self) -> dict[str, Any]:
        """As the file of results has it."""
        costs = {"parameters": self.parameters, "milliseconds": self.milliseconds}
        return {
            "model": self.shape.model,
            "settings": self.shape.settings,
            **costs,
            **asdict(self.distances),
            "score": self.score,
        }


def search_student(
    dataset: str | None = "ml-100k",
    config_file_list: Sequence[str] | None = None,
    config_dict: Mapping[str, object] | None = None,
    arguments: Sequence[str] | None = (),
    *,
    budget: Budget | None = None,
    space: str | None = None,
    init: str = "sketch",
) -> list[Candidate]:
    """Rank the shapes of students by how alike they and the teachers see users and items; nothing but teachers is trained.

    Args:
        dataset: name
        config_file_list: yaml files
        config_dict: settings, those of DisWOTStudent: its teachers teach
        arguments: `--key=value` strings; None reads the command line, as RecBole does
        budget: None = as many parameters as the student of these settings has
        space: a yaml file with shapes, as docs/training.md has it; None = those of `student_space.py`
        init: of the untrained students' tables, sketch or random, as `StudentScorer` has it

    Returns:
        the shapes within the budget that were scored, best first. The first rows are printed; `student_search.json` in
        `checkpoint_dir` has all, and `student.yaml` the settings of the best, for `--config_files` of any method.

    Raises:
        UserError: bad input, before any training; or no shape is within the budget.
    """
    config = Config(MODEL, dataset, config_file_list, config_dict, arguments)
    if init not in INITS:
        raise UserError(f"init: {shown(init)} is none of {', '.join(INITS)}")
    with console.logged(config):
        config.warn_of_unknown_keys()
        check(config)
        shapes = Space.read(None if space is None else Path(space), config)
        split = make_split(config)
        say_data(config, split)
        fit_to_data(config, split)
        scorer = scorer_of(config, split, init)
        allowed = budget or _as_the_run_has(config, scorer)
        with console.stage(f"{shapes.size:,} shapes of students, {allowed}"):
            ranked = rank(shapes, scorer, allowed, split, int(config["seed"]))
        _leave(config, ranked, allowed)
    return ranked


def scorer_of(config: Config, split: Split, init: str) -> StudentScorer:
    """A scorer by the teachers of `config`, which are trained where they are not found."""
    pool = build_pool(config, split, needs=config.model_class.needs)
    pool.refuse_unless(config.model_class.needs, "search-student")
    teacher = SingleTeacher.from_config(pool, split.history, config)
    return StudentScorer(config, split, teacher.embeddings(config["teacher_rank"]), init, teacher.covered)


def rank(space: Space, scorer: StudentScorer, budget: Budget, split: Split, seed: int) -> list[Candidate]:
    """The shapes of `space` within the budget, best first: all of ENUMERATED at most, else those that evolution has met.

    Raises:
        UserError: none is within the budget.
    """
    costs: dict[Shape, tuple[int, float | None] | None] = {}
    distances: dict[Shape, Distances] = {}

    def measured(shape: Shape) -> Distances | None:
        if shape not in costs:
            costs[shape] = _cost(shape, scorer, budget, split)
        if costs[shape] is None:
            return None
        if shape not in distances:
            distances[shape] = scorer.distances(shape)
        return distances[shape]

    shapes, generator = space.shapes(), torch.Generator().manual_seed(seed)
    order = torch.randperm(len(shapes), generator=generator).tolist()
    calibration: list[Distances] = []
    for index in order:
        found = measured(shapes[index])
        calibration += [] if found is None else [found]
        if len(calibration) == CALIBRATION:
            break
    if not calibration:
        raise UserError(
            f"search-student: no shape of the space has {budget}; raise the budget, or add smaller shapes (--space)"
        )
    scale = Scale(calibration)

    def score(shape: Shape) -> float | None:
        found = measured(shape)
        return None if found is None else scale.score(found)

    if len(shapes) <= ENUMERATED:
        scores = {shape: value for shape in shapes if (value := score(shape)) is not None}
    else:
        ageing_evolution(shapes, space.mutated, score, ENUMERATED, generator)
        scores = {shape: scale.score(found) for shape, found in distances.items()}  # the calibration's shapes among them
    candidates = []
    for shape in sorted(scores, key=scores.__getitem__, reverse=True):
        parameters, milliseconds = costs[shape] or (0, None)
        candidates.append(Candidate(shape, parameters, milliseconds, distances[shape], scores[shape]))
    return candidates


def _cost(shape: Shape, scorer: StudentScorer, budget: Budget, split: Split) -> tuple[int, float | None] | None:
    """Parameters and, where the budget is of these, milliseconds; None for a shape beyond the budget."""
    model = scorer.model(shape, int(scorer.config["seed"]))
    parameters, milliseconds = n_parameters(model), None
    if budget.parameters is not None and parameters > budget.parameters:
        return None
    if budget.milliseconds is not None:
        milliseconds = ranking_milliseconds(model, split.history, max_block_mb=scorer.config["max_block_mb"])
        if milliseconds > budget.milliseconds:
            return None
    return parameters, milliseconds


def _as_the_run_has(config: Config, scorer: StudentScorer) -> Budget:
    """As many parameters as the student that the settings name."""
    name, path = str(config["student"]), properties_of(str(config["student"]))
    own = (config.read_yaml(path) or {}) if path is not None else {}
    shape = Shape(name, tuple((key, config[key]) for key in own if key in config))
    return Budget(n_parameters(scorer.model(shape, int(config["seed"]))))


def _leave(config: Config, ranked: Sequence[Candidate], budget: Budget) -> None:
    """The table on the screen, and both files."""
    headers = ["student", "score", "relations", "semantics", "parameters", "ms / 1,000 users"]
    rows = [_row(candidate) for candidate in ranked[:SHOWN]]
    if ranked[0].milliseconds is None:
        headers, rows = headers[:-1], [row[:-1] for row in rows]
    title = f"{len(ranked):,} students of {config.dataset}, {budget}, untrained; nearest to the teachers first"
    console.show_table(title, Table(headers, rows, dispensable=headers[2:4]))
    folder = Path(config["checkpoint_dir"])
    content = {"dataset": config.dataset, "budget": asdict(budget), "ranked": [candidate.record() for candidate in ranked]}
    write(folder / "student_search.json", json.dumps(content, indent=1) + "\n")
    head = f"# The student that `hetcomp search-student` has chosen for {config.dataset}: {budget}.\n"
    write(folder / "student.yaml", head + yaml.safe_dump(ranked[0].shape.of_a_run, sort_keys=False))
    chosen = str(folder / "student.yaml")
    files = [("all shapes", str(folder / "student_search.json")), ("the best", chosen), *console.log_line()]
    console.show_lines([*files, ("next", f"hetcomp --model=HetCompStudent --config_files={chosen}")])


def _row(candidate: Candidate) -> list[str]:
    what = f"{candidate.shape.model} ({console.listed(candidate.shape.settings)})"
    numbers = [f"{candidate.score:.3f}", f"{candidate.distances.relation:.3e}", f"{candidate.distances.semantic:.3e}"]
    milliseconds = "" if candidate.milliseconds is None else f"{candidate.milliseconds:.1f}"
    return [what, *numbers, f"{candidate.parameters:,}", milliseconds]
