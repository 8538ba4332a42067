"""From settings to a distilled student: the whole way, from data to comparison."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from functools import partial
from logging import getLogger
from pathlib import Path
from time import time
from traceback import extract_tb
from typing import Any
from uuid import uuid4

from recbole.data.dataset import Dataset
from recbole.data.transform import construct_transform
from recbole.model.abstract_recommender import AbstractRecommender
from recbole.trainer import Trainer
from recbole.utils import get_environment, get_flops, init_seed, set_color

from recbole_hetcomp import console
from recbole_hetcomp.commands.checks import check, check_with_data
from recbole_hetcomp.commands.compare import compare_with_teachers
from recbole_hetcomp.commands.data_lines import say_data
from recbole_hetcomp.commands.reporting import report_run
from recbole_hetcomp.commands.result import show_result
from recbole_hetcomp.commands.starting import first_student, settled, start
from recbole_hetcomp.commands.teachers import Teachers, fingerprints, teachers_of_run
from recbole_hetcomp.config import Config
from recbole_hetcomp.config.registry import RECBOLE, is_distilled
from recbole_hetcomp.data.fitting import fit_to_data
from recbole_hetcomp.data.split import Loaders, Split, make_split
from recbole_hetcomp.data.stored import stored_data
from recbole_hetcomp.evaluation.efficiency import as_recbole_counts_it
from recbole_hetcomp.evaluation.significance import UserEvaluator
from recbole_hetcomp.model.distilled import Distilled
from recbole_hetcomp.report.recording import Recorded, curves_of, recorded
from recbole_hetcomp.teacher_training.cache import fingerprint
from recbole_hetcomp.teacher_training.source import source_fingerprint
from recbole_hetcomp.teacher_training.tuning import prepare
from recbole_hetcomp.teachers.pool import TeacherPool
from recbole_hetcomp.teachers.ranking import PAIRS_AT_ONCE
from recbole_hetcomp.trainer import parallel
from recbole_hetcomp.trainer.building import build_model
from recbole_hetcomp.trainer.choice import get_trainer
from recbole_hetcomp.trainer.faults import faults_of
from recbole_hetcomp.trainer.random_state import random_state, restore_random_state
from recbole_hetcomp.trainer.threads import computing_in, possible_threads


def run_hetcomp(
    model: str | type | None = None,
    dataset: str | None = None,
    config_file_list: Sequence[str] | None = None,
    config_dict: Mapping[str, object] | None = None,
    saved: bool = True,
    arguments: Sequence[str] | None = None,
    compare: bool = True,
) -> dict[str, Any]:
    """Train and test a model: ours are distilled from teachers, which are trained where need be; RecBole's run as ever.

    Args:
        model: name or class
        dataset: name
        config_file_list: yaml files
        config_dict: settings
        saved: whether the best epoch is kept, tested and saved, as RecBole has it; otherwise the last one is tested
        arguments: `--key=value` strings; None reads the command line, as RecBole does
        compare: whether a distilled model is compared with its teachers and with the student without them

    Returns:
        RecBole's `best_valid_score`, `valid_score_bigger`, `best_valid_result`, `test_result`; the trained `model`, its
        `name`, its `checkpoint`, `train_seconds` and `epochs` of this run; `test_users`, each top-k metric user by user (of
        the first of several processes); `curves` (docs/report.md) and `doubts`, sentences about what may be wrong with it;
        for a distilled model `comparison`, a list of rows, with `against` and `popularity` (`compare_with_teachers`).

    Raises:
        UserError: bad input, before any training.
    """
    config = Config(model, dataset, config_file_list, config_dict, arguments)
    with parallel.logged(config):
        return run_of(config, saved, compare)


def run_of(config: Config, saved: bool = True, compare: bool = True) -> dict[str, Any]:
    """`run_hetcomp` of a Config, without a log of its own."""
    config.warn_of_unknown_keys()
    check(config)
    getLogger().info(config)  # a screenful: what is wrong is said without it
    split = make_split(config)
    parallel.agree(split.fingerprint, "data_path: the processes found different data; give all of them the same files")
    check_with_data(config, split)
    say_data(config, split)
    prepare(config, split)
    fit_to_data(config, split)
    with console.about(_title(config)):
        result = run_on_split(config, split, saved, compare)
    if compare and parallel.is_first():
        show_result(config, split, result, report_run(config, split, result))
    return result


def _title(config: Config) -> str:
    """What the model is called on the screen."""
    return f"{config.model} ({config['student']})" if is_distilled(config.model_class) else config.model


def run_on_split(config: Config, split: Split, saved: bool = True, compare: bool = True) -> dict[str, Any]:
    """`run_hetcomp` on data that are already split; without `compare`, no comparison is made."""
    if is_distilled(config.model_class):
        config = settled(config, split, partial(run_on_split, compare=False))
    init_seed(config["seed"] + config["local_rank"], config["reproducibility"])
    loaders = split.loaders(config)
    model = build_model(config, loaders.train._dataset)
    getLogger().info(model)
    getLogger().info(set_color("FLOPs", "blue") + f": {_operations(model, loaders.train._dataset, config)}")
    if isinstance(model, Distilled):
        return _distil(config, split, loaders, model, saved, compare)
    with computing_in(possible_threads(config["threads"], config["device"])[-1]):
        return _fit_and_test(_trainer(config, model), config, loaders, saved)


def _operations(model: AbstractRecommender, dataset: Dataset, config: Config) -> float | str:
    """RecBole's count for one interaction; there is none of a model whose `predict` is an assertion, as SASRecCPR's."""
    with faults_of(config.model):
        try:
            transform = construct_transform(config)
            found: float = get_flops(as_recbole_counts_it(model), dataset, config["device"], getLogger(), transform)
            return found
        except AssertionError as error:
            at = extract_tb(error.__traceback__)[-1]
            if at.name != "predict" or RECBOLE not in Path(at.filename).parents:
                raise
            return "not counted, for the model scores no single pair"


def _trainer(config: Config, model: AbstractRecommender) -> Trainer:
    """The model's trainer, with a checkpoint of its own: RecBole names it by the second, and two runs may share one."""
    trainer = recorded(console.shown(get_trainer(config.model_class)))(config, model)
    path = Path(trainer.saved_model_file)
    trainer.saved_model_file = parallel.from_first(str(path.with_name(f"{path.stem}-{uuid4().hex[:6]}{path.suffix}")))
    trainer.test_batch_size = min(trainer.test_batch_size, PAIRS_AT_ONCE)
    return trainer


def _distil(config: Config, split: Split, loaders: Loaders, model: Distilled, saved: bool, compare: bool) -> dict[str, Any]:
    model.check_trainable()
    at_start = random_state()
    parallel.align(model)
    alone = compare and bool(config["without_distillation"])
    pool, doubted = teachers_of_run(config, split, alone, model.needs)
    started = ""
    if config["start_from"] is not None:
        started, state = first_student(config, split, partial(run_on_split, compare=False))
        start(model, config["start_from"], started, state)
    with computing_in(possible_threads(config["threads"], config["device"])[0]):
        model.learn_from(pool)
    trainer = _trainer(config, model)
    if config.family != "context":  # clicks are predicted for rows with all their columns, which the data files have
        trainer.served_data = stored_data(split)
    trainer.note_start(loaders.train, loaders.valid)
    restore_random_state(at_start)  # so that the student does not depend on whether teachers were trained or found
    getLogger().info(f"{config.model}: training the student, {config['student']}")
    progress = _progress_file(config, split, pool, started)
    resumes = saved and bool(config["resume"])
    curves = progress.with_suffix(".curves.json")
    trainer.curves_file = curves if resumes else None
    if isinstance(pool, TeacherPool):
        trainer.watch(pool)
    lock = parallel.held(progress, progress.parent, "trained", break_lock=config["break_lock"])
    with lock if resumes else nullcontext():  # a twin of this run waits, and then trains its own
        if resumes:
            trainer.resume(progress)
        unseen = f"checkpoint_dir: the processes do not all see {str(progress)!r}; share the folder"
        parallel.agree(trainer.start_epoch, unseen)
        result = _fit_and_test(trainer, config, loaders, saved)
        result["doubts"] += doubted
        if parallel.is_first():
            stage = console.stage("comparison with its teachers on the test part")
            if compare:
                with stage, computing_in(trainer.thread_choice.chosen):
                    result["comparison"] = compare_with_teachers(config, split, loaders, pool, model, result)
            if resumes:
                progress.unlink(missing_ok=True)
                curves.unlink(missing_ok=True)
    parallel.wait()  # so that no process ends well where the comparison fails
    return result


def _progress_file(config: Config, split: Split, pool: Teachers, started: str) -> Path:
    """Where an interrupted run of the same settings, data and teachers has left its state."""
    shaped_by = {
        "teachers": fingerprints(pool),
        "pipeline": source_fingerprint([], alone=[__name__]),
    }  # the order of the draws
    shaped_by |= {"started": started} if started else {}
    shaped_by |= split.rows_key(config)
    name = f"{config.model}-{split.fingerprint_for(config)[:8]}-{fingerprint(config, shaped_by)[:12]}.progress"
    return Path(config["checkpoint_dir"]) / name


def _fit_and_test(trainer: Trainer, config: Config, loaders: Loaders, saved: bool) -> dict[str, Any]:
    """RecBole's own last steps: fit, evaluate, environment, result dict."""
    best_score, best_result, seconds = _fit(trainer, config, loaders, saved)
    trainer.evaluator = UserEvaluator(config)
    test_result = trainer.evaluate(loaders.test, load_best_model=saved, show_progress=config["show_progress"])
    getLogger().info("The running environment of this training is as follows:\n" + get_environment(config).draw())
    getLogger().info(set_color("best valid ", "yellow") + f": {best_result}")
    getLogger().info(set_color("test result", "yellow") + f": {test_result}")
    return {
        "best_valid_score": best_score,
        "valid_score_bigger": config["valid_metric_bigger"],
        "best_valid_result": best_result,
        "test_result": test_result,
        "checkpoint": trainer.saved_model_file if saved else None,
        "name": config.model,
        "model": trainer.model,
        "train_seconds": seconds,
        "epochs": _epochs_trained(trainer),
        "test_users": trainer.evaluator.users,
        "curves": curves_of(trainer),
        "doubts": [],
    }


def _fit(trainer: Trainer, config: Config, loaders: Loaders, saved: bool) -> tuple[float, Mapping[str, float], float]:
    """Best validation score, its result, and seconds; a line says so."""
    started = time()
    with faults_of(config.model):
        best_score, best_result = trainer.fit(
            loaders.train, loaders.valid, saved=saved, show_progress=config["show_progress"]
        )
    seconds = time() - started + (trainer.curves.earlier_seconds if isinstance(trainer, Recorded) else 0.0)
    score = f", best validation {config['valid_metric']} {best_score:.4f}" if math.isfinite(best_score) else ""
    console.say(f"trained {console.counted(_epochs_trained(trainer), 'epoch')} in {seconds:.0f} s{score}")
    return best_score, best_result, seconds


def _epochs_trained(trainer: Trainer) -> int:
    """Those before an interruption included."""
    return int(getattr(trainer, "start_epoch", 0)) + len(trainer.train_loss_dict)
