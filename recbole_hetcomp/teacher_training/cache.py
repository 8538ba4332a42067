"""Trained models, cached and found again as long as nothing that shaped them has changed.

A folder a model, named after the model and the fingerprints of split and settings. It gets its name when it is complete:
what an interrupted training leaves behind is never mistaken for a model.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import shutil
from collections.abc import Callable, Mapping
from logging import getLogger
from pathlib import Path
from time import time
from typing import Any

import recbole

from recbole_hetcomp import console
from recbole_hetcomp.config import Config
from recbole_hetcomp.config.declarations import declarations_in
from recbole_hetcomp.config.errors import UserError
from recbole_hetcomp.config.family import MIXED
from recbole_hetcomp.config.registry import get_model, is_distilled, own_properties_of, properties_dir, student_class
from recbole_hetcomp.files.atomic import working_folder, write
from recbole_hetcomp.files.leftovers import remove_abandoned
from recbole_hetcomp.files.locks import forget_the_gone, held
from recbole_hetcomp.teacher_training.source import is_standard, source_fingerprint
from recbole_hetcomp.teachers.lists import is_list_file
from recbole_hetcomp.trainer import parallel
from recbole_hetcomp.trainer.choice import get_trainer

# Settings that change where a training runs or what is reported of it, but not what comes out.
WITHOUT_EFFECT = {"break_lock", "checkpoint_dir", "config_files", "data_path", "dataloaders_save_path", "dataset_preset"}
WITHOUT_EFFECT |= {"dataset_save_path", "device", "process_timeout"}
WITHOUT_EFFECT |= {"eval_batch_size", "gpu_id", "id_fingerprint", "local_rank", "log_wandb", "loss_decimal_place"}
WITHOUT_EFFECT |= {MIXED, "max_block_mb", "metrics", "model_config", "save_dataloaders", "save_dataset", "show_progress"}
WITHOUT_EFFECT |= {
    "points_per_user",
    "single_spec",
    "split_seed",
    "state",
    "teacher_backend",
    "teacher_workers",
    "topk",
    "tune",
}
WITHOUT_EFFECT |= {"tune_users", "use_gpu", "verbose", "wandb_project", "without_distillation"}
WITHOUT_EFFECT |= {"without_distillation_config", "worker"}
# Whatever is trained: RecBole as it is repaired, which no other module need import, and the loaders.
ALWAYS = ("recbole_hetcomp.compat", "recbole_hetcomp.data.split")
COUNTED_BY_VERSION = {"recbole", "torch"}  # and Python's own library
READING_FILES = ("recbole_hetcomp.teachers.lists", "recbole_hetcomp.teachers.vector_teacher")
# Settings that name a file which a model of RecBole begins with.
PRETRAINED = ("mf_pretrain_path", "mlp_pretrain_path", "pre_model_path", "pretrain_path", "warm_up")
HOMES = ("trained", "benchmark", "tuned", "started")  # the folders of `checkpoint_dir` that hold what is found again


def cached(
    config: Config,
    split_fingerprint: str,
    shaped_by: Mapping[str, object],
    train: Callable[[Path], Mapping[str, object]],
    home: str = "trained",
) -> Path:
    """The folder of the model that `config` describes; trained now where none of the same fingerprints is there.

    Where another process trains it, it is waited for, and its model is taken.

    Args:
        config: the model's own
        split_fingerprint: of the data
        shaped_by: further values that shape the result
        train: trains, writes files into the folder it is given and returns a record of it, for `record.json`
        home: the folder of `checkpoint_dir` that holds it

    Raises:
        UserError: `checkpoint_dir` cannot be written.
    """
    folder = folder_of(config, split_fingerprint, shaped_by, home)
    if not folder.is_dir():
        if not parallel.is_first():
            raise UserError(f"checkpoint_dir: process {parallel.rank()} does not see {str(folder)!r}; share the folder")
        make_folder(folder.parent)
        with held(folder, Path(config["checkpoint_dir"]), "trained", break_lock=config["break_lock"]):
            if not folder.is_dir():  # nor has the process that was waited for made it
                _train_into(folder, config, train)
                return folder
    console.say_first(f"found in {folder}; nothing that matters has changed since it was trained")
    return folder


def _train_into(folder: Path, config: Config, train: Callable[[Path], Mapping[str, object]]) -> None:
    """Train now; `folder` is there when all its files are."""
    getLogger().info(f"{config.model}: training, to be cached in {folder}")
    work = working_folder(folder)
    try:
        started = time()
        record = {**train(work), "seconds": round(time() - started, 2), "settings": settings_of(config)}
        write(work / "record.json", json.dumps(record, indent=1, default=str))
        try:
            os.replace(work, folder)
        except OSError:
            if not folder.is_dir():  # otherwise a process that this one does not see has finished the same model
                raise
    finally:
        shutil.rmtree(work, ignore_errors=True)
    if "best_epoch" in record:
        console.say(f"{_outcome(config, record)}; cached in {folder}")


def _outcome(config: Config, record: Mapping[str, Any]) -> str:
    """What a training came to, in a few words: epochs, seconds and the best validation score, where it was validated."""
    score = record["valid"][-1] if isinstance(record["valid"], list) else record["valid"]
    best = (
        f", best validation {config['valid_metric']} {score:.4f} (epoch {record['best_epoch']})"
        if math.isfinite(score)
        else ""
    )
    return f"trained {console.counted(record['epochs_trained'], 'epoch')} in {record['seconds']:.0f} s{best}"


def folder_of(config: Config, split_fingerprint: str, shaped_by: Mapping[str, object], home: str = "trained") -> Path:
    """Where the model that `config` describes is cached, be it there or not."""
    name = f"{config.model}-{split_fingerprint[:8]}-{fingerprint(config, shaped_by)[:12]}"
    return Path(config["checkpoint_dir"]) / home / name


def make_folder(folder: Path) -> None:
    """Make `folder` where it is missing.

    Raises:
        UserError: nothing can be written into it.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        working_folder(folder / "check").rmdir()
    except OSError as error:
        raise UserError(
            f"checkpoint_dir: {str(folder)!r} cannot be written ({error.strerror}); choose another folder"
        ) from error


def clear(checkpoint_dir: Path) -> None:
    """Remove whatever killed processes have not finished in `checkpoint_dir` and the folders that trainings are kept in."""
    homes = [checkpoint_dir / name for name in HOMES]
    locks = [path for path in (checkpoint_dir / "locks").rglob("*") if path.is_dir()]
    for folder in (checkpoint_dir, *homes, *(checkpoint_dir / "tuned").glob("[!.]*/"), checkpoint_dir / "locks", *locks):
        remove_abandoned(folder, checkpoint_dir)
    forget_the_gone(checkpoint_dir)


def settings_of(config: Config) -> dict[str, object]:
    """The settings that shape what a training gives, as plain data."""
    without = WITHOUT_EFFECT | _of_distillation(config)
    shaping = {key: value for key, value in config.final_config_dict.items() if key not in without}
    return json.loads(json.dumps(shaping, default=str, sort_keys=True))


def _of_distillation(config: Config) -> set[str]:
    """The settings that say how to distil, where the model of `config` is not distilled; a benchmark gives it them, too."""
    if is_distilled(config.model_class):
        return set()
    own = own_properties_of(config.model_class)
    read = {"embedding_size", *((config.read_yaml(own) or ()) if own is not None else ())}
    return {*declarations_in(properties_dir() / "distillation.yaml")} - read


def fingerprint(config: Config, shaped_by: Mapping[str, object]) -> str:
    """sha256 of all that shapes a training beside the data: settings, `shaped_by`, RecBole's version, the source it runs.

    Of a file that the model begins with, the content is among it.

    Raises:
        UserError: the model's class has no source file.
    """
    try:
        source = source_fingerprint(training_modules(config))
    except LookupError as error:
        raise UserError(f"model: {config.model} cannot be cached, since {error}; put the class into a file") from error
    code = {"recbole": recbole.__version__, "source": source}
    shaping = {"settings": settings_of(config), "shaped_by": dict(shaped_by), "code": code}
    if files := _pretrained(config):
        shaping["files"] = files
    return hashlib.sha256(json.dumps(shaping, default=str, sort_keys=True).encode()).hexdigest()


def _pretrained(config: Config) -> dict[str, str]:
    """sha256 of each file that the model begins with, by the setting that names it."""
    named = {key: config[key] for key in PRETRAINED if isinstance(config[key], str) and Path(config[key]).is_file()}
    return {key: hashlib.sha256(Path(path).read_bytes()).hexdigest() for key, path in named.items()}


def training_modules(config: Config) -> list[str]:
    """The modules whose source, and that of what they import, trains the model of `config`.

    They are those of its class, of its trainer, and of the classes that settings name: a student's backbone, a composite's
    methods; each with the classes that it derives from. No other method is among them, nor is the command line.
    """
    classes, modules = [config.model_class, get_trainer(config.model_class)], list(ALWAYS)
    if is_distilled(config.model_class):
        classes.append(student_class(config.model_class, str(config["student"])))
        methods = config["methods"] if isinstance(config["methods"], Mapping) else {}
        classes += [get_model(f"{name}Student", "methods") for name in methods]
        if any(is_list_file(str(teacher)) for teacher in config["teachers"]):
            modules += READING_FILES
    names = dict.fromkeys([*modules, *(base.__module__ for kind in classes for base in kind.__mro__)])
    return [name for name in names if name.partition(".")[0] not in COUNTED_BY_VERSION and not is_standard(name)]
