"""The pool of a run: teachers that were trained before are loaded, the others are trained, several at a time if asked."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from recbole_hetcomp import console
from recbole_hetcomp.config.config import Config
from recbole_hetcomp.config.errors import UserError
from recbole_hetcomp.data.split import Split
from recbole_hetcomp.teacher_training.alone import alone_folder, student_alone
from recbole_hetcomp.teacher_training.side_by_side import side_by_side
from recbole_hetcomp.teacher_training.training import cached_context_teacher, cached_teacher, teacher_folder
from recbole_hetcomp.teachers.context import ContextTeachers
from recbole_hetcomp.teachers.lists import is_list_file, read_lists
from recbole_hetcomp.teachers.pool import Needs, Teacher, TeacherPool
from recbole_hetcomp.teachers.recdistillery import SUFFIX, has_vectors
from recbole_hetcomp.teachers.vector_teacher import vector_teacher
from recbole_hetcomp.teachers.vectors import is_vector_file
from recbole_hetcomp.trainer import parallel


def build_pool(config: Config, split: Split, and_student_alone: bool = False, needs: Needs | None = None) -> TeacherPool:
    """The pool that `config["teachers"]` asks for: what was trained before is loaded, the others are trained and cached.

    Args:
        config: of the run
        split: the data
        and_student_alone: whether `student_alone` will be asked for: where several are trained at once, so is it
        needs: of the method, where there is one

    Raises:
        UserError: a teacher is unknown, named twice, no general recommender, unable to train, or too little for `needs`.
    """
    names = [str(name) for name in config["teachers"]]
    files, stems = [name for name in names if is_list_file(name)], Counter(Path(name).stem for name in names)
    by_name = {name: _from_file(Path(name), split, stems, config) for name in files}  # a bad file ends the run at once
    if by_name and needs:
        TeacherPool(list(by_name.values())).refuse_unless(needs, config.model)
    trained, stages = [name for name in names if name not in by_name], len(config["trajectory_fractions"])
    for name, teacher in by_name.items():
        if trained and teacher.trajectory.n_stages not in (1, stages):
            raise UserError(
                f"teachers: {name!r} has {teacher.trajectory.n_stages} checkpoints, and the teachers to be trained have the "
                f"{stages} of trajectory_fractions; give it as many, or one"
            )
    _train_side_by_side(config, split, trained, and_student_alone)
    by_name.update({name: cached_teacher(config, split, name) for name in names if name not in by_name})
    return TeacherPool([by_name[name] for name in names])


def build_context_teachers(config: Config, split: Split, and_student_alone: bool = False) -> ContextTeachers:
    """As `build_pool`, for the context-aware teachers of a run of clicks."""
    names = [str(name) for name in config["teachers"]]
    _train_side_by_side(config, split, names, and_student_alone, cached_context_teacher)
    return ContextTeachers([cached_context_teacher(config, split, name) for name in names])


def _train_side_by_side(
    config: Config,
    split: Split,
    names: Sequence[str],
    and_student_alone: bool,
    train: Callable[[Config, Split, str], object] = cached_teacher,
) -> None:
    """Train those of the teachers `names` that are not cached yet in `teacher_workers` processes, where that is above 1.

    The student without distillation, where it is asked for, counts as one more of them. A teacher is the same as one trained
    alone: both compute in `teacher_threads` threads.

    Raises:
        UserError: what the first of the teachers that failed says, when the others have been trained and cached.
    """
    jobs: dict[str, Callable[[], object]] = {}
    if and_student_alone and not alone_folder(config, split).is_dir():
        jobs["student alone"] = partial(student_alone, config, split)
    missing = [name for name in names if not teacher_folder(config, split, name).is_dir()]
    # From the last one on, since the default list names quick ones first: a long training at the end would run by itself.
    jobs.update({name: partial(train, config, split, name) for name in reversed(missing)})
    workers = min(config["teacher_workers"], len(jobs))
    if workers < 2 or not parallel.is_first():
        return
    failures = side_by_side(config, jobs, workers)
    failures.pop("student alone", None)  # it says what it fails of when it is asked for
    for failure in failures.values():
        raise failure


def _from_file(path: Path, split: Split, stems: Mapping[str, int], config: Config) -> Teacher:
    name = path.stem if stems[path.stem] == 1 else path.name
    with console.about(f"teacher {name}"):
        if has_vectors(path) if path.suffix == SUFFIX else is_vector_file(path):
            console.say(f"vectors of {path}")
            return replace(vector_teacher(name, path, split, config), rows=split.rows_for(config))
        console.say(f"ranked lists of {path}")
        rows = split.rows_for(config)
        return Teacher(name, read_lists(path, split, rows), rows=rows)
