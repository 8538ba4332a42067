"""`hetcomp search-student`: which shape of student to distil into, before any of them is trained.

Source: Dong, Li, Wei, "DisWOT: Student Architecture Search for Distillation WithOut Training", CVPR 2023,
https://arxiv.org/abs/2303.15678.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import torch

from recbole_hetcomp import console
from recbole_hetcomp.commands.checks import check
from recbole_hetcomp.commands.data_lines import say_data
from recbole_hetcomp.commands.student_costs import ENUMERATED, Budget, Costs
from recbole_hetcomp.commands.student_models import INITS, UntrainedStudents
from recbole_hetcomp.commands.student_result import Candidate, leave
from recbole_hetcomp.commands.student_score import Distances, Scale, StudentScorer
from recbole_hetcomp.commands.student_space import Shape, Space
from recbole_hetcomp.commands.teachers import pool_of_run
from recbole_hetcomp.config import Config
from recbole_hetcomp.config.errors import UserError, shown
from recbole_hetcomp.data.fitting import fit_to_data
from recbole_hetcomp.data.split import make_split
from recbole_hetcomp.evaluation.efficiency import n_parameters
from recbole_hetcomp.knowledge.evolution import ageing_evolution
from recbole_hetcomp.teachers.single import SingleTeacher

MODEL = "DisWOTStudent"  # whose settings a search has


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
        init: of the untrained students' tables, sketch or random, as `UntrainedStudents` has it

    Returns:
        the shapes within the budget that were scored, best first. The first rows are printed; `student_search.json` in
        `checkpoint_dir` has all, and `student.yaml` the settings of the best, for `--config_files` of any method. A
        student.yaml that is not of a search, or was changed since, stays, and the settings are in student-2.yaml then.

    Raises:
        UserError: bad input, a shape that makes no student or none that is within the budget, before any training.
    """
    config = Config(MODEL, dataset, config_file_list, config_dict, arguments)
    if init not in INITS:
        raise UserError(f"init: {shown(init)} is none of {', '.join(INITS)}")
    with console.logged(config):
        config.warn_of_unknown_keys()
        check(config)
        shapes = Space.read(None if space is None else Path(space), config)
        split = make_split(config)
        say_data(config, split, alone=False)
        fit_to_data(config, split)
        students = UntrainedStudents(config, split, init)
        costs = Costs(students, budget or _as_the_run_has(students))
        with console.stage(f"which of {shapes.size:,} shapes of students have {costs.budget}"):
            costs.check(shapes)
        scorer = scorer_of(students)
        with console.stage("how alike they and the teachers are"):
            ranked = rank(shapes, scorer, costs, int(config["seed"]))
        leave(config, split, [*map(str, config_file_list or ())], ranked, costs.budget, _flags(budget, space, init))
    return ranked


def _flags(budget: Budget | None, space: str | None, init: str) -> dict[str, object]:
    """The flags of the command that say the same."""
    limits = {f"max_{name}": most for name, most in (asdict(budget) if budget else {}).items()}
    flags = {**limits, "space": space, "init": None if init == "sketch" else init}
    return {flag: value for flag, value in flags.items() if value is not None}


def scorer_of(students: UntrainedStudents) -> StudentScorer:
    """A scorer by the teachers of the run, which are trained where they are not found."""
    config, split = students.config, students.split
    pool, _ = pool_of_run(config, split, False, config.model_class.needs)
    teacher = SingleTeacher.from_config(pool, split.history, config)
    return StudentScorer(students, teacher.embeddings(config["teacher_rank"]), teacher.covered)


def rank(space: Space, scorer: StudentScorer, costs: Costs, seed: int) -> list[Candidate]:
    """The shapes of `space` within the budget, best first: all of ENUMERATED at most, else those that evolution has met.

    Raises:
        UserError: none is within the budget.
    """
    distances: dict[Shape, Distances] = {}

    def measured(shape: Shape) -> Distances | None:
        if costs.of(shape) is None:
            return None
        if shape not in distances:
            distances[shape] = scorer.distances(shape)
        return distances[shape]

    shapes, generator = space.shapes(), torch.Generator().manual_seed(seed)
    scale = Scale([found for shape in costs.calibration(shapes, generator) if (found := measured(shape)) is not None])

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
        cost = costs.of(shape)
        assert cost is not None, "what has a score is within the budget"
        candidates.append(Candidate(shape, *cost, distances[shape], scores[shape]))
    return candidates


def _as_the_run_has(students: UntrainedStudents) -> Budget:
    """As many parameters as the student that the settings name."""
    return Budget(n_parameters(students.plain(students.of_the_run(), int(students.config["seed"]))))
