"""A search for the settings of one model on one split: trials by Optuna, kept as files, gone on with by a later command.

The first trial is the settings that hold without a search, so what is found is at least as good on the validation part.
The others are drawn by a tree-structured Parzen estimator (Bergstra et al., "Algorithms for Hyper-Parameter Optimization",
NeurIPS 2011), and successive halving ends the hopeless ones early (halving.py). What a trial draws depends on the trials
before it alone, so an interrupted search goes on as it would have.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import partial
from logging import getLogger
from pathlib import Path
from time import time
from typing import TYPE_CHECKING, Any, Literal

from recbole_hetcomp import console
from recbole_hetcomp.config.config import Config
from recbole_hetcomp.config.errors import UserError
from recbole_hetcomp.data.fitting import fit_to_data
from recbole_hetcomp.data.split import Split
from recbole_hetcomp.files.atomic import write
from recbole_hetcomp.files.locks import held
from recbole_hetcomp.teacher_training.halving import Curve, goes_on
from recbole_hetcomp.teacher_training.training import fit_recorded
from recbole_hetcomp.teacher_training.tuned import FOUND, TRIALS, Tuning
from recbole_hetcomp.trainer.threads import computing_in

if TYPE_CHECKING:
    from optuna import Study, Trial

RANDOM_TRIALS = 4  # before the estimator draws


def check_optuna() -> None:
    """Raise a UserError where Optuna is missing."""
    try:
        import optuna  # noqa: F401
        from optuna.storages.journal import JournalFileBackend  # noqa: F401
    except ImportError as error:
        raise UserError("tune: Optuna 4.0 or newer is not installed; run `pip install 'recbole_hetcomp[tune]'`") from error


def search(tuning: Tuning, split: Split, trials: int, threads: int) -> None:
    """Search until there are `trials` trials; those of an earlier search count.

    Args:
        tuning: what is searched
        split: the data, with as many validation users as a trial is to be judged by
        trials: in all
        threads: in which a trial computes

    Raises:
        UserError: no trial came to an end, or earlier trials were of another length.
    """
    if not tuning.space or tuning.trials >= trials:
        return
    tuning.folder.mkdir(parents=True, exist_ok=True)
    with held(tuning.folder, tuning.folder.parents[1], "searched", break_lock=tuning.config["break_lock"]):
        if tuning.trials < trials:  # nor has the process that was waited for made them
            _search(tuning, split, trials, threads)


def _search(tuning: Tuning, split: Split, trials: int, threads: int) -> None:
    subject, record = console.subject(), _record(tuning)
    study = _study(tuning, record)
    tuning.refuse_unlike([trial.user_attrs for trial in study.trials])
    _save(tuning, study)  # a kill may have come between a trial's record and this
    while (number := len(study.trials)) < trials:
        study.sampler = _sampler(tuning.config["seed"] + number)
        if number == 0:
            study.enqueue_trial(_first(tuning))
        with console.about(f"{subject}, trial {number + 1} of {trials}"), console.muted(), computing_in(threads):
            _try(tuning, study, study.ask(), split)
        record.add_trial(study.trials[-1])
        _save(tuning, study)
    found = tuning.found()
    if found is None:
        reason = study.trials[-1].user_attrs.get("error", "each was ended early")
        raise UserError(f"tune: no trial of {tuning.config.model} came to an end ({reason}); see {str(tuning.folder)!r}")
    console.say(told(found, tuning.config["valid_metric"]))


def told(found: Mapping[str, Any], metric: str) -> str:
    """What a search has found, in a sentence."""
    before = "" if found["first_score"] is None else f", {found['first_score']:.4f} without a search"
    return (
        f"{console.counted(found['trials'], 'trial')} in {found['seconds']:.0f} s, {found['ended_early']} ended early; best "
        f"validation {metric} {found['score']:.4f}{before}: {console.listed(found['settings'])}"
    )


def _record(tuning: Tuning) -> Study:
    """The trials that have ended, in a file: with one that was interrupted no later one is to be compared."""
    from optuna import create_study, logging
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    logging.set_verbosity(logging.ERROR)
    name, direction = tuning.config.model, _direction(tuning.config)
    journal = tuning.folder / "trials.log"
    _end_at_a_line(journal)
    try:
        storage = JournalStorage(JournalFileBackend(str(journal), lock_obj=_AlreadyHeld()))  # type: ignore[arg-type]
        return create_study(storage=storage, study_name=name, direction=direction, load_if_exists=True)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"tune: {str(tuning.folder)!r} has a damaged trials.log ({error}); delete the folder") from error


class _AlreadyHeld:
    """In place of Optuna's lock of a journal, which a kill leaves locked for half a minute: the search has a lock."""

    def acquire(self) -> bool:
        return True

    def release(self) -> None:
        pass


def _end_at_a_line(journal: Path) -> None:
    """Cut off a line that a kill or a full disk has left unfinished: Optuna would write on behind it."""
    content = journal.read_bytes() if journal.is_file() else b""
    if not content.endswith(b"\n") and content:
        write(journal, content[: content.rfind(b"\n") + 1])


def _study(tuning: Tuning, record: Study) -> Study:
    """Optuna's study of the search, in memory, after the trials of the `record`."""
    from optuna import create_study
    from optuna.trial import TrialState

    study = create_study(direction=_direction(tuning.config))
    study.add_trials(record.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.PRUNED)))
    return study


def _direction(config: Config) -> Literal["maximize", "minimize"]:
    return "maximize" if config["valid_metric_bigger"] else "minimize"


def _sampler(seed: int) -> Any:
    from optuna.samplers import TPESampler

    return TPESampler(n_startup_trials=RANDOM_TRIALS, seed=seed)


def _first(tuning: Tuning) -> dict[str, object]:
    """What a search calls the settings that hold without one, as far as they lie in the space."""
    numbers = {key: part.number(tuning.config[key]) for key, part in tuning.space.items()}
    return {key: number for key, number in numbers.items() if number is not None}


def _try(tuning: Tuning, study: Study, trial: Trial, split: Split) -> None:
    """One trial, from its settings to its score."""
    from optuna import TrialPruned

    started = time()
    settings = _settings(tuning, trial)
    config = tuning.with_settings(settings)
    fit_to_data(config, split)
    trial.set_user_attr("settings", settings)
    trial.set_user_attr("common", tuning.common)
    report = partial(_report, study, trial, [], config["valid_metric_bigger"])
    try:
        trainer = fit_recorded(config, split, None, after_validation=report)
        score: float | None = float(trainer.best_valid_score)
        trial.set_user_attr("epochs", trainer.epochs_trained)
        trial.set_user_attr("best_epoch", trainer.best_epoch)
    except TrialPruned:
        score = None
    except UserError as error:  # NaN, of a learning rate that is too large
        getLogger().info(f"{console.subject()}: {error}")
        trial.set_user_attr("error", str(error))
        score = None
    trial.set_user_attr("seconds", round(time() - started, 1))
    _tell(study, trial, score)
    outcome = "ended early" if score is None else f"{config['valid_metric']} {score:.4f}"
    getLogger().info(f"{console.subject()}: {outcome}, {console.listed(settings)}, {time() - started:.0f} s")


def _settings(tuning: Tuning, trial: Trial) -> dict[str, object]:
    """What is tried: drawn, but for the first trial, which is what holds without a search even outside of the space."""
    if trial.number:
        return {key: part.suggest(trial, key) for key, part in tuning.space.items()}
    for key in _first(tuning):
        tuning.space[key].suggest(trial, key)  # as it was enqueued: the estimator is to know of it
    return {key: tuning.config[key] for key in tuning.space}


def _report(study: Study, trial: Trial, scores: list[float], larger_is_better: bool, _: int, score: float) -> None:
    """Keep the best score so far; raises TrialPruned where the trial is not to go on."""
    from optuna import TrialPruned
    from optuna.trial import TrialState

    scores.append(float(score))
    trial.report((max if larger_is_better else min)(scores), len(scores))
    *earlier, own = study.trials
    others = [Curve(known.intermediate_values, known.state == TrialState.COMPLETE) for known in earlier]
    if not goes_on(own.intermediate_values, others, larger_is_better=larger_is_better):
        raise TrialPruned


def _tell(study: Study, trial: Trial, score: float | None) -> None:
    from optuna.trial import TrialState

    study.tell(trial, score, TrialState.PRUNED if score is None else TrialState.COMPLETE)


def _save(tuning: Tuning, study: Study) -> None:
    """All trials as a table, and the best of them."""
    trials = [
        {"trial": number, "state": trial.state.name.lower(), "score": trial.value, **trial.user_attrs}
        for number, trial in enumerate(study.trials, start=1)
    ]
    write(tuning.folder / TRIALS, json.dumps(trials, indent=1) + "\n")
    complete = [trial for trial in trials if trial["state"] == "complete"]
    if complete:
        best = _best(trials, complete, 1 if tuning.config["valid_metric_bigger"] else -1)
        write(tuning.folder / FOUND, json.dumps(best, indent=1) + "\n")


def _best(trials: Sequence[Mapping[str, Any]], complete: Sequence[Mapping[str, Any]], sign: int) -> dict[str, Any]:
    best = max(complete, key=lambda trial: sign * trial["score"])
    return {
        "settings": best["settings"],
        "score": best["score"],
        "first_score": complete[0]["score"] if complete[0] is trials[0] else None,
        "trials": len(trials),
        "ended_early": len(trials) - len(complete),
        "seconds": round(sum(trial["seconds"] for trial in trials), 1),
    }
