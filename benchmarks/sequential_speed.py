"""What distillation costs a sequential student: `python benchmarks/sequential_speed.py [settings]`.

Seconds an epoch of one GRU4Rec on MovieLens-100K, in turns within one process: RecBole's own training, ours without
teachers, and with each of some methods; then the seconds in which a teacher's lists of all rows are recorded once. The
teachers are trained for two epochs, since how good they are changes no time. Settings such as
`--MAX_ITEM_LIST_LENGTH=50` hold for all.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from functools import partial
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import recbole.config
import recbole.data
from recbole.model.sequential_recommender import GRU4Rec
from recbole.trainer import Trainer
from tabulate import tabulate
from timing import interleaved, use_threads

from recbole_hetcomp.config import Config
from recbole_hetcomp.data.asked import asked_by
from recbole_hetcomp.data.fitting import fit_to_data
from recbole_hetcomp.data.split import Split, make_split
from recbole_hetcomp.teacher_training.scheduling import build_pool
from recbole_hetcomp.teachers.pool import TeacherPool
from recbole_hetcomp.teachers.ranking import top_unobserved
from recbole_hetcomp.trainer.building import build_model
from recbole_hetcomp.trainer.choice import get_trainer

METHODS = ("HetCompStudent", "RRDStudent", "FitNetStudent", "KDCEStudent", "RCEKDStudent")
TEACHERS = ("SASRec", "GRU4Rec", "BPR")
STUDENT = {"embedding_size": 16, "hidden_size": 32}
REPEATS = 3


def main(arguments: list[str]) -> None:
    """Measure and print the tables."""
    logging.disable(logging.WARNING)
    use_threads()
    given: dict[str, Any] = dict(argument.removeprefix("--").split("=") for argument in arguments)
    settings = {
        "train_batch_size": 512,
        "MAX_ITEM_LIST_LENGTH": 20,
        "use_gpu": False,
        "verbose": True,
        "show_progress": False,
    }
    settings |= {key: int(value) for key, value in given.items()}
    with TemporaryDirectory() as folder:
        settings["checkpoint_dir"] = folder
        pool, split, snapshot = taught(settings)
        works = {"RecBole's training": recbole_epoch(settings), "the same student here, alone": alone_epoch(settings, split)}
        works |= {method: distilled_epoch(method, settings, split, pool) for method in METHODS}
        seconds = dict(zip(works, interleaved(*works.values(), repeats=REPEATS)))
    base = seconds["RecBole's training"]
    rows = [[what, median(s), median(a / b for a, b in zip(s, base))] for what, s in seconds.items()]
    print(tabulate(rows, ["an epoch of GRU4Rec (16, state 32)", "seconds", "times RecBole's"], "github", floatfmt=".2f"))
    print()
    print(tabulate(snapshot, ["lists of all rows, once", "rows", "seconds"], "github", floatfmt=".2f"))


def distilled(method: str, settings: dict[str, Any]) -> Config:
    """The Config of a run with that method; all have the same batches of interactions."""
    given = {**settings, "student": "GRU4Rec", "teachers": list(TEACHERS), "without_distillation": False, **STUDENT}
    given["teacher_config"] = {name: {"epochs": 2, "eval_step": 1} for name in TEACHERS}
    return Config(method, "ml-100k", None, given, ())


def taught(settings: dict[str, Any]) -> tuple[TeacherPool, Split, list[list[object]]]:
    """Teachers, the split, and the rows of the table of snapshots."""
    config = distilled("HetCompStudent", settings)
    split = make_split(config)
    fit_to_data(config, split)
    pool = build_pool(config, split, False, ())
    rows = split.rows_for(config)
    table: list[list[object]] = []
    for teacher in pool.teachers:
        asked, history = (teacher.model, split.history) if teacher.name == "BPR" else (asked_by(teacher.model, rows), rows)
        depth = config["trajectory_depth"]
        lists = partial(top_unobserved, asked, history, depth, max_block_mb=64, opinions_alone=True)
        (seconds,) = interleaved(lists, repeats=REPEATS)
        table.append([teacher.name, len(history.active_users), median(seconds)])
    return pool, split, table


def recbole_epoch(settings: dict[str, Any]) -> Callable[[], object]:
    """An epoch by RecBole alone: its configuration, loaders, model and trainer."""
    given = {
        **settings,
        **STUDENT,
        "train_neg_sample_args": None,
        "loss_type": "CE",
        "eval_args": {"split": {"LS": "valid_and_test"}, "order": "TO"},
    }
    argv, sys.argv = sys.argv, sys.argv[:1]  # RecBole reads the command line
    config = recbole.config.Config("GRU4Rec", "ml-100k", config_dict=given)
    sys.argv = argv
    loader, _, _ = recbole.data.data_preparation(config, recbole.data.create_dataset(config))
    trainer = Trainer(config, GRU4Rec(config, loader.dataset))
    return lambda: trainer._train_epoch(loader, 0)


def alone_epoch(settings: dict[str, Any], split: Split) -> Callable[[], object]:
    """An epoch of the student by its own loss, here."""
    return _epoch(Config("GRU4Rec", "ml-100k", None, {**settings, **STUDENT}, ()), split, None)


def distilled_epoch(method: str, settings: dict[str, Any], split: Split, pool: TeacherPool) -> Callable[[], object]:
    """An epoch of the student by a method, its preparations before a training not counted."""
    return _epoch(distilled(method, settings), split, pool)


def _epoch(config: Config, split: Split, pool: TeacherPool | None) -> Callable[[], object]:
    fit_to_data(config, split)
    loaders = split.loaders(config)
    model = build_model(config, loaders.train._dataset)
    if pool is not None:
        model.learn_from(pool)
    trainer = get_trainer(config.model_class)(config, model)
    trainer.eval_collector.data_collect(loaders.train)
    if pool is not None:
        trainer.note_start(loaders.train, loaders.valid)
    return lambda: trainer._train_epoch(loaders.train, 0)


if __name__ == "__main__":
    main(sys.argv[1:])
