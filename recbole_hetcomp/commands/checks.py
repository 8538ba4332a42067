"""What can be known to be wrong with a run before its data are read."""

from __future__ import annotations

from pathlib import Path

from recbole_hetcomp.commands.starting import check_first, check_start, first_config
from recbole_hetcomp.config import Config
from recbole_hetcomp.config.errors import UserError, shown
from recbole_hetcomp.config.family import MIXED
from recbole_hetcomp.config.registry import is_distilled, properties_of, student_class
from recbole_hetcomp.config.settings import check_settings
from recbole_hetcomp.data.files import check_folder
from recbole_hetcomp.data.labels import check_drawn, check_labels
from recbole_hetcomp.data.split import Split, is_sequential
from recbole_hetcomp.data.training_columns import check_training_columns
from recbole_hetcomp.teacher_training.alone import alone_config, check_student_alone
from recbole_hetcomp.teacher_training.cache import clear, make_folder
from recbole_hetcomp.teacher_training.configs import check_teachers, teacher_config
from recbole_hetcomp.teacher_training.search import check_optuna
from recbole_hetcomp.teachers.lists import is_list_file

OF_RANKINGS = {"teacher_weighting", "curriculum", "tail_samples", "user_batches"}  # beside curriculum_...


def check(config: Config) -> None:
    """Raise a UserError for whatever can be known to be wrong before data are read; clear away what a kill has left."""
    check_folder(config.dataset, config.external_config_dict)
    check_settings(config)
    if config.given("nproc") and config["nproc"] != 1:
        raise UserError(
            f"nproc: {config['nproc']!r} is no setting but a flag: `hetcomp --nproc={config['nproc']} ...` alone"
        )
    if config["tune"]:
        check_optuna()
    make_folder(Path(config["checkpoint_dir"]))
    clear(Path(config["checkpoint_dir"]))
    if config.family == "sequential":
        _check_protocol(config)
    if is_distilled(config.model_class):
        check_teachers(config)
        student_class(config.model_class, str(config["student"]))
        _check_family(config)
        _check_student_size(config)
        if config.family == "context":
            _check_clicks(config)
        check_start(config)
        if config["start_from"] is not None:
            check(first_config(config))
        if config["without_distillation"] or config["without_distillation_config"]:
            check_student_alone(config)


def check_with_data(config: Config, split: Split) -> None:
    """Raise a UserError where the model, a teacher or the student alone would read columns that the data do not have.

    So does a model that `start_from` names and that cannot be made, or learns nothing.
    """
    if config.family == "context":
        check_labels(config, split)
    check_training_columns(config, split.whole)
    if not is_distilled(config.model_class):
        return
    names = [name for name in map(str, config["teachers"]) if not is_list_file(name)]
    others = {f"teacher_config of {name}: ": teacher_config(config, name) for name in names}
    if config["without_distillation"]:
        others["without_distillation_config: "] = alone_config(config)
    for where, other in others.items():
        check_training_columns(other, split.whole, where)
        if config.family == "context":
            check_drawn(other, split, where)
    check_first(config, split)


def _check_family(config: Config) -> None:
    """Raise a UserError where data are sequential, and the method is not for such, or a model is to have data of its own."""
    if config.family != "sequential":
        return
    refused = config.model_class.refuses_sequential(config) if is_sequential(config) else []
    if refused:
        raise UserError(
            f"student: {refused[0]} is not defined for a student such as {config['student']}, which is asked by sequences; "
            "choose HetCompStudent, RRDStudent or FitNetStudent, or student: MF"
        )
    given = {f"teacher_config of {name}": own for name, own in config["teacher_config"].items()}
    of_run = {*config.parameters["Dataset"], *config.parameters["Evaluation"], "mask_seen", "points_per_user"}
    for setting, own in {**given, "without_distillation_config": config["without_distillation_config"]}.items():
        for key in own:
            if key in of_run - {"eval_batch_size"}:
                raise UserError(
                    f"{setting}: {key} is the run's own, whose models see the same sequences; give {key} to the run"
                )


def _check_clicks(config: Config) -> None:
    """Raise a UserError for settings under which clicks are not learnt from teachers."""
    if set(config["eval_args"]["mode"].values()) != {"labeled"}:
        raise UserError(
            f"eval_args: mode: {config['eval_args']['mode']} ranks items, and {config.model} is tested on rows with labels; "
            "write mode: labeled"
        )
    if config["start_from"] is not None:
        raise UserError(f"start_from: {config['start_from']!r} ranks items; leave it out where clicks are learnt")
    _check_unread(config)


def _check_unread(config: Config) -> None:
    """Raise a UserError for a setting of lists and rankings that the user gave, and that nothing reads here."""
    of_rankings = [key for key in config.external_config_dict if key in OF_RANKINGS or key.startswith("curriculum_")]
    if of_rankings:
        key = of_rankings[0]
        raise UserError(f"{key}: {shown(config[key])} has no effect where clicks are learnt; leave {key} out")


def _check_protocol(config: Config) -> None:
    """Raise a UserError for a protocol by which models with sequences cannot be compared with others, or not be trained."""
    if config["benchmark_filename"]:
        raise UserError(
            "benchmark_filename: a run with sequential models splits each user's interactions itself, in the order of time; "
            "write benchmark_filename: ~, also where a preset has it"
        )
    split, order, modes = (config["eval_args"][part] for part in ("split", "order", "mode"))
    if not is_distilled(config.model_class) and not config[MIXED]:
        return
    if set(modes.values()) != {"full"}:
        raise UserError(
            f"eval_args: mode: {shown(modes)} draws other items for sequential models than for others; write mode: full"
        )
    if split != {"LS": "valid_and_test"} or order != "TO":
        raise UserError(
            "eval_args: a run with sequential models leaves each user's last two items out, in the order of time; write "
            "split: {'LS': 'valid_and_test'} and order: TO"
        )


def _check_student_size(config: Config) -> None:
    """Raise a UserError for an `embedding_size` that the student would not heed."""
    student, path = config["student"], properties_of(str(config["student"]))
    own = {} if path is None else config.read_yaml(path) or {}
    if own and config.given("embedding_size") and "embedding_size" not in own:
        sizes = ", ".join(key for key in own if key.endswith("size")) or "nothing that sets it"
        raise UserError(f"embedding_size: {student} has no such setting; its own are {sizes}")
