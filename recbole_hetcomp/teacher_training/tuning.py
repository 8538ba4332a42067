"""`tune`: searches for the settings of a run's teachers and of its student alone, before any of them is trained.

The student alone gets as many trials as each teacher. A method that keeps the student's own loss trains with what was found
for the student alone, so the comparison between the two is one of methods, not of searches.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from recbole_hetcomp import console
from recbole_hetcomp.config.config import Config
from recbole_hetcomp.config.errors import UserError
from recbole_hetcomp.config.registry import is_distilled, own_properties_of
from recbole_hetcomp.data.split import Split, fit_evaluation, split_seed
from recbole_hetcomp.teacher_training.alone import alone_config
from recbole_hetcomp.teacher_training.configs import teacher_config
from recbole_hetcomp.teacher_training.search import search, validation_sample
from recbole_hetcomp.teacher_training.side_by_side import side_by_side
from recbole_hetcomp.teacher_training.tuned import Tuning, say_found, use_found
from recbole_hetcomp.teachers.lists import is_list_file
from recbole_hetcomp.trainer import parallel


def tunings(config: Config, split: Split) -> dict[str, Tuning]:
    """The searches of a run, by what the lines about them begin with: those that have a space."""
    if not is_distilled(config.model_class):
        configs = {config.model: config}
    else:
        teachers = [str(name) for name in config["teachers"] if not is_list_file(str(name))]
        configs = {f"teacher {name}": teacher_config(config, name) for name in teachers}
        configs[f"{config['student']} without distillation"] = alone_config(config)
    found = {title: Tuning.of(own, config, split) for title, own in configs.items()}
    return {title: tuning for title, tuning in found.items() if tuning.space}


def tune(config: Config, split: Split) -> None:
    """Search `tune` trials for each of `tunings`, `teacher_workers` searches at a time; finished trials count.

    Raises:
        UserError: a search found nothing, said when the others are done.
    """
    trials, threads = config["tune"], config["teacher_threads"] if is_distilled(config.model_class) else 1
    sample = validation_sample(split, config["tune_users"], split_seed(config))
    jobs: dict[str, Callable[[], object]] = {
        title: partial(_about, title, partial(search, tuning, sample, trials, threads))
        for title, tuning in tunings(config, split).items()
        if (tuning.found() or {"trials": 0})["trials"] < trials
    }
    workers = min(config["teacher_workers"], len(jobs)) if is_distilled(config.model_class) else 1
    failures = side_by_side(config, jobs, workers) if workers > 1 else _one_by_one(jobs)
    for failure in failures.values():
        raise failure


def trials_of(config: Config, split: Split) -> dict[str, int]:
    """How many trials each of the run's trainings rests on, by the titles of `tunings`; {} where nothing was searched."""
    if config["tune"] == 0:
        return {}
    counts = {title: (tuning.found() or {"trials": 0})["trials"] for title, tuning in tunings(config, split).items()}
    return counts if any(counts.values()) else {}


def _one_by_one(jobs: Mapping[str, Callable[[], object]]) -> dict[str, UserError]:
    """Do the `jobs`; what those that failed say."""
    failures = {}
    for name, job in jobs.items():
        try:
            job()
        except UserError as error:
            failures[name] = error
    return failures


def _about(title: str, job: Callable[[], object]) -> None:
    with console.about(title):
        job()


def prepare(config: Config, split: Split) -> None:
    """Search where `tune` asks for it, and train the model of `config` with what has been found.

    A distilled model that keeps the student's own loss gets what was found for its student alone, unless the user or the
    method says otherwise.
    """
    fit_evaluation(config, split)
    if config["tune"]:
        parallel.in_turn(lambda: tune(config, split))
    if not is_distilled(config.model_class):
        with console.about(config.model):
            say_found(use_found(config, config, split))
    elif config["base_loss_weight"] > 0:
        path = own_properties_of(config.model_class)
        of_method: Mapping[str, Any] = (config.read_yaml(path) if path else None) or {}
        found = use_found(alone_config(config), config, split) or {"settings": {}}
        taken = {key: value for key, value in found["settings"].items() if not config.given(key) and key not in of_method}
        for key, value in taken.items():
            config[key] = value
        with console.about(f"{config.model} ({config['student']})"):
            say_found({**found, "settings": taken} if taken else None)
