"""`tune`: searches for the settings of a run's teachers and of its student alone, before any of them is trained.

The student alone gets as many trials as each teacher. A method that keeps the student's own loss trains with what was found
for the student alone, so the comparison between the two is one of methods, not of searches.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from functools import partial
from logging import getLogger
from typing import Any

import numpy as np
import torch

from recbole_hetcomp import console
from recbole_hetcomp.config.config import Config
from recbole_hetcomp.config.errors import UserError
from recbole_hetcomp.config.registry import is_distilled, own_properties_of
from recbole_hetcomp.data.fitting import fit_evaluation
from recbole_hetcomp.data.split import Split, split_seed
from recbole_hetcomp.teacher_training.alone import alone_config
from recbole_hetcomp.teacher_training.configs import teacher_config
from recbole_hetcomp.teacher_training.search import search
from recbole_hetcomp.teacher_training.side_by_side import side_by_side
from recbole_hetcomp.teacher_training.space import space_of
from recbole_hetcomp.teacher_training.tuned import Tuning, found_at_first, say_found, use_found
from recbole_hetcomp.teachers.lists import is_list_file
from recbole_hetcomp.trainer import parallel


def tunings(config: Config, split: Split) -> dict[str, Tuning]:
    """The searches of a run, by what the lines about them begin with: those that have a space."""
    found = {title: Tuning.of(own, config, split) for title, own in _configs(config).items()}
    return {title: tuning for title, tuning in found.items() if tuning.space}


def _configs(config: Config) -> dict[str, Config]:
    """The Config of each model that a search in this run is for."""
    if not is_distilled(config.model_class):
        return {config.model: config}
    teachers = [str(name) for name in config["teachers"] if not is_list_file(str(name))]
    configs = {f"teacher {name}": teacher_config(config, name) for name in teachers}
    return {**configs, f"{config['student']} without distillation": alone_config(config)}


def tune(config: Config, split: Split) -> None:
    """Search `tune` trials for each of `tunings`, `teacher_workers` searches at a time; finished trials count.

    Raises:
        UserError: a search would go on with trials of another length; or it found nothing, said when the others are done.
    """
    _say_what_has_no_space(config)
    trials, threads = config["tune"], config["teacher_threads"] if is_distilled(config.model_class) else 1
    sample = validation_sample(split, config["tune_users"], split_seed(config))
    to_do = {title: tuning for title, tuning in tunings(config, split).items() if tuning.trials < trials}
    for tuning in to_do.values():
        tuning.refuse_unlike()
    jobs: dict[str, Callable[[], object]] = {
        title: partial(_about, title, partial(search, tuning, sample, trials, threads)) for title, tuning in to_do.items()
    }
    workers = min(config["teacher_workers"], len(jobs)) if is_distilled(config.model_class) else 1
    failures = side_by_side(config, _slow_ones_first(jobs), workers) if workers > 1 else _one_by_one(jobs)
    for title in jobs:
        if title in failures:
            raise failures[title]


def _slow_ones_first(jobs: Mapping[str, Callable[[], object]]) -> dict[str, Callable[[], object]]:
    """The teachers' from the end of their list on, which by default names quick ones first, and the student alone last.

    A long search that is begun last would run by itself at the end.
    """
    teachers = [title for title in reversed(list(jobs)) if title.startswith("teacher ")]
    return {title: jobs[title] for title in dict.fromkeys([*teachers, *jobs])}


def _say_what_has_no_space(config: Config) -> None:
    """Log a line about each model that is not searched though a search is asked for."""
    for title, own in _configs(config).items():
        if not space_of(own):
            getLogger().warning(
                f"tune: {title} is not searched: there is nothing to try in properties/space/{own.model}.yaml"
            )


def trials_of(config: Config, split: Split) -> dict[str, int]:
    """How many trials each of the run's trainings rests on, by the titles of `tunings`; {} where nothing was searched."""
    if config["tune"] == 0:
        return {}
    found = {title: found_at_first(tuning, config) for title, tuning in tunings(config, split).items()}
    counts = {title: of_model["trials"] if of_model else 0 for title, of_model in found.items()}
    return counts if any(counts.values()) else {}


def validation_sample(split: Split, users: int | None, seed: int) -> Split:
    """The split with the validation rows of at most `users` users, drawn at random; None: of all."""
    valid, field = split.parts[1], split.whole.uid_field
    ids = valid.inter_feat[field].numpy()
    known = np.unique(ids)
    if users is None or len(known) <= users:
        return split
    chosen = np.random.default_rng(seed).choice(known, users, replace=False)
    parts = (split.parts[0], _of_users(valid, chosen), split.parts[2])
    train, instances, test = split.instances or (None, None, None)
    same = None if split.instances is None else (train, _of_users(instances, chosen), test)
    return Split(split.whole, parts, same)


def _of_users(part: Any, users: np.ndarray) -> Any:
    """The part, of RecBole's whichever kind, with the rows of these users alone."""
    fewer = copy.copy(part)
    rows = np.flatnonzero(np.isin(part.inter_feat[part.uid_field].numpy(), users))
    fewer.inter_feat = part.inter_feat[torch.from_numpy(rows)]
    return fewer


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
        known = use_found(config, config, split)
        config.trials = parallel.from_first(known["trials"] if known else 0)
        with console.about(config.model):
            say_found(known)
    elif config["base_loss_weight"] > 0:
        path = own_properties_of(config.model_class)
        of_method: Mapping[str, Any] = (config.read_yaml(path) if path else None) or {}
        found = use_found(alone_config(config), config, split) or {"settings": {}}
        free = {key: value for key, value in found["settings"].items() if not config.given(key) and key not in of_method}
        taken = parallel.from_first(free)  # a folder that the other processes do not see has nothing for them
        config.trials = found["trials"] if taken else 0
        for key, value in taken.items():
            config[key] = value
        with console.about(f"{config.model} ({config['student']})"):
            say_found({**found, "settings": taken} if taken else None)
