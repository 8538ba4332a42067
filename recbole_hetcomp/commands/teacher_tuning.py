"""`hetcomp tune-teachers`: the searches of a run without the run, and a table of what they have found."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from logging import getLogger
from pathlib import Path
from typing import Any

from recbole_hetcomp import console
from recbole_hetcomp.commands.checks import check
from recbole_hetcomp.commands.data_lines import say_data
from recbole_hetcomp.commands.provenance import command_of
from recbole_hetcomp.commands.reporting import report_lines, report_search
from recbole_hetcomp.config import Config
from recbole_hetcomp.config.errors import UserError
from recbole_hetcomp.config.registry import is_distilled
from recbole_hetcomp.console import Table
from recbole_hetcomp.data.fitting import fit_evaluation
from recbole_hetcomp.data.split import Split, make_split
from recbole_hetcomp.files.atomic import write
from recbole_hetcomp.teacher_training.space import Choice, Range
from recbole_hetcomp.teacher_training.tuned import TRIALS, Tuning
from recbole_hetcomp.teacher_training.tuning import tune, tunings

DEFAULT_TRIALS = 12
OF_THE_DISTILLED = ("epochs", "eval_step", "learning_rate", "stopping_step", "train_batch_size", "weight_decay")


def tune_teachers(
    model: str | type = "HetCompStudent",
    dataset: str = "ml-100k",
    config_file_list: Sequence[str] | None = None,
    config_dict: Mapping[str, object] | None = None,
    arguments: Sequence[str] | None = (),
) -> dict[str, dict[str, Any]]:
    """Search settings for each teacher of a run and for its student alone; every later run on this split uses them.

    Args:
        model: whose run it would be: its settings name the teachers, the student and `tune`, the number of trials (12)
        dataset: name
        config_file_list: yaml files
        config_dict: settings
        arguments: `--key=value` strings; None reads the command line, as RecBole does

    Returns:
        what was found, by title such as `teacher BPR`: `settings`, validation `score`, the `first_score` of the settings
        that hold without a search, `trials`, how many `ended_early`, `seconds`. The table is printed; `tuning.json` in
        `checkpoint_dir` has it, `report.html` beside it shows it, and the folder `tuned` all trials.

    Raises:
        UserError: bad input, before any training; or a search found nothing.
    """
    config = Config(model, dataset, config_file_list, config_dict, arguments)
    if config["tune"] is None:
        config["tune"] = DEFAULT_TRIALS
    if config["tune"] == 0:
        raise UserError(f"tune: 0 trials find nothing; write --tune={DEFAULT_TRIALS}, or leave it out")
    with console.logged(config):
        config.warn_of_unknown_keys()
        check(config)
        _warn_of_what_trains_nothing(config)
        split = make_split(config)
        say_data(config, split)
        fit_evaluation(config, split)
        searches = tunings(config, split)
        if not searches:
            raise UserError("tune: no model of this run has a search space; write one, properties/space/<Model>.yaml")
        tune(config, split)
        return _shown(config, split, searches)


def _warn_of_what_trains_nothing(config: Config) -> None:
    """Log a line about settings of the distilled student's training, which no search is for."""
    given = [key for key in OF_THE_DISTILLED if key in config.external_config_dict]
    if given and is_distilled(config.model_class):
        getLogger().warning(
            f"{', '.join(given)}: not used, for the distilled student is not trained here; write "
            "teacher_config={'BPR': {...}} for a teacher, without_distillation_config={...} for the student alone"
        )


def _shown(config: Config, split: Split, searches: Mapping[str, Tuning]) -> dict[str, dict[str, Any]]:
    """What the searches have found, printed as a table."""
    found = {title: tuning.found() or {} for title, tuning in searches.items()}
    metric = config["valid_metric"]
    headers = ["model", f"{metric} found", "without a search", "trials", "ended early", "seconds", "settings"]
    rows = [_row(title, result) for title, result in found.items()]
    console.show_table(f"searches on {config.dataset}, validation part", Table(headers, rows, dispensable=headers[4:6]))
    content = {"dataset": config.dataset, "valid_metric": metric, "searches": found}
    path = Path(config["checkpoint_dir"]) / "tuning.json"
    write(path, json.dumps(content, indent=1) + "\n")
    folders = [(title, str(tuning.folder)) for title, tuning in searches.items()]
    told = {title: _with_trials(found[title], tuning) for title, tuning in searches.items() if found[title]}
    report = report_search(config, split, "teacher_search", command_of(config, "tune-teachers"), {"searches": told})
    console.show_lines([("searches", str(path)), *folders, *report_lines(report), *console.log_line()])
    return found


def _with_trials(found: Mapping[str, Any], tuning: Tuning) -> dict[str, Any]:
    """What was found, with all trials and what was tried (docs/report.md)."""
    path = tuning.folder / TRIALS
    try:
        trials = json.loads(path.read_text(encoding="utf-8"))
        kept = [{key: trial.get(key) for key in ("trial", "state", "score", "settings")} for trial in trials]
        seconds = [float(trial["seconds"]) for trial in trials]
    except (OSError, ValueError, TypeError, LookupError, AttributeError) as error:
        raise UserError(f"{str(path)!r} cannot be read ({str(error)[:120]}); delete its folder to search anew") from error
    entries = [{**trial, "seconds": time} for trial, time in zip(kept, seconds)]
    space = {key: _in_words(part) for key, part in tuning.space.items()}
    return {**found, "trials": entries, "space": space}


def _in_words(part: Range | Choice) -> str:
    """What is tried of a setting."""
    if isinstance(part, Choice):
        return " or ".join(map(str, part.values))
    return f"{part.low:g} to {part.high:g}" + (f" / {part.below}" if part.below else "")


def _row(title: str, found: Mapping[str, Any]) -> list[str]:
    before = "" if found["first_score"] is None else f"{found['first_score']:.4f}"
    counts = [str(found["trials"]), str(found["ended_early"]), f"{found['seconds']:.0f}"]
    return [title, f"{found['score']:.4f}", before, *counts, console.listed(found["settings"])]
