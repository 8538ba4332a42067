"""What can be known to be wrong with a run before its data are read."""

from __future__ import annotations

from pathlib import Path

from recbole_hetcomp.commands.starting import check_start
from recbole_hetcomp.config import Config
from recbole_hetcomp.config.errors import UserError
from recbole_hetcomp.config.registry import backbone_class, is_distilled, properties_of
from recbole_hetcomp.config.settings import check_settings
from recbole_hetcomp.teacher_training.alone import check_student_alone
from recbole_hetcomp.teacher_training.cache import clear, make_folder
from recbole_hetcomp.teacher_training.configs import check_teachers
from recbole_hetcomp.teacher_training.search import check_optuna


def check(config: Config) -> None:
    """Raise a UserError for whatever can be known to be wrong before data are read; clear away what a kill has left."""
    check_settings(config)
    if config.given("nproc") and config["nproc"] != 1:
        raise UserError(
            f"nproc: {config['nproc']!r} is no setting but a flag: `hetcomp --nproc={config['nproc']} ...` alone"
        )
    if config["tune"]:
        check_optuna()
    make_folder(Path(config["checkpoint_dir"]))
    clear(Path(config["checkpoint_dir"]))
    if is_distilled(config.model_class):
        check_teachers(config)
        backbone_class(str(config["student"]))
        _check_student_size(config)
        check_start(config)
        if config["without_distillation"]:
            check_student_alone(config)


def _check_student_size(config: Config) -> None:
    """Raise a UserError for an `embedding_size` that the student would not heed."""
    student, path = config["student"], properties_of(str(config["student"]))
    own = {} if path is None else config.read_yaml(path) or {}
    if own and config.given("embedding_size") and "embedding_size" not in own:
        sizes = ", ".join(key for key in own if key.endswith("size")) or "nothing that sets it"
        raise UserError(f"embedding_size: {student} has no such setting; its own are {sizes}")
