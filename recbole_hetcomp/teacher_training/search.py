"""A search for the settings of one model on one split: trials by Optuna, kept as files, gone on with by a later command.

The first trial is the settings that hold without a search, so what is found is at least as good on the validation part.
The others are drawn by a tree-structured Parzen estimator (Bergstra et al., "Algorithms for Hyper-Parameter Optimization",
NeurIPS 2011); successive halving (Li et al., "A System for Massively Parallel Hyperparameter Tuning", MLSys 2020) ends the
hopeless ones early. What a trial draws depends on the trials before it alone, so an interrupted search finds the same as any other.
"""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from hashlib import sha256
from logging import getLogger
from pathlib import Path
from time import time
from typing import TYPE_CHECKING, Any

from recbole_hetcomp import console
from recbole_hetcomp.config.config import Config
from recbole_hetcomp.config.errors import UserError
from recbole_hetcomp.data.split import Split, fit_to_data
from recbole_hetcomp.teacher_training.cache import settings_of
from recbole_hetcomp.teacher_training.space import Space, space_of
from recbole_hetcomp.teacher_training.training import fit_recorded
from recbole_hetcomp.trainer.threads import computing_in

if TYPE_CHECKING:
    from optuna import Study, Trial

FIRST_RUNG, RUNG_FACTOR = 8, 2  # validations at which trials are compared: 8, 16, 32, ...; the better half goes on
RANDOM_TRIALS = 4  # before the estimator draws
FOUND = "found.json"


@dataclass(frozen=True)
class Search:
    """The search of one model: its own Config without what a search finds, the space, and where its files are.

    Attributes:
        config: the model's, with the settings of the first trial
        space: what is tried
        folder: of the files `trials.log` (Optuna's journal), `trials.json` and `found.json`, be they there or not
    """

    config: Config
    space: Space
    folder: Path

    @classmethod
    def of(cls, config: Config, given: Collection[str], split: Split) -> Search:
        """The search of the model of `config` on `split`; the settings in `given` keep the values that they have."""
        space = space_of(config, given)
        fixed = {key: value for key, value in settings_of(config).items() if key not in space}
        shaped_by = json.dumps([fixed, {key: str(part) for key, part in space.items()}], default=str, sort_keys=True)
        name = f"{config.model}-{split.fingerprint[:8]}-{sha256(shaped_by.encode()).hexdigest()[:12]}"
        return cls(config, space, Path(config["checkpoint_dir"]) / "tuned" / name)

    def found(self) -> dict[str, Any] | None:
        """What has been found so far: `settings`, `score`, `first_score`, `trials`; None where nothing has been searched."""
        path = self.folder / FOUND
        return json.loads(path.read_text(encoding="utf-8")) if self.space and path.is_file() else None

    def run(self, split: Split, trials: int, threads: int) -> None:
        """Search until there are `trials` trials; those of an earlier search count."""
        done = self.found()
        if not self.space or (done is not None and done["trials"] >= trials):
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        study, subject = self._study(), console.subject()
        while (number := len(_ended(study))) < trials:
            study.sampler = _sampler(self.config["seed"] + number)
            if number == 0:
                study.enqueue_trial(self._first())
            trial = study.ask()
            with console.about(f"{subject}, trial {number + 1} of {trials}"), console.muted(), computing_in(threads):
                self._try(study, trial, split)
            self._save(study)
        self._say(subject)

    def _study(self) -> Study:
        from optuna import create_study, logging
        from optuna.pruners import SuccessiveHalvingPruner
        from optuna.storages import JournalStorage
        from optuna.storages.journal import JournalFileBackend
        from optuna.trial import TrialState

        logging.set_verbosity(logging.ERROR)
        study = create_study(
            storage=JournalStorage(JournalFileBackend(str(self.folder / "trials.log"))),
            study_name=self.config.model,
            direction="maximize" if self.config["valid_metric_bigger"] else "minimize",
            pruner=SuccessiveHalvingPruner(min_resource=FIRST_RUNG, reduction_factor=RUNG_FACTOR),
            load_if_exists=True,
        )
        for trial in study.get_trials(
            deepcopy=False, states=(TrialState.RUNNING, TrialState.WAITING)
        ):  # of a killed process
            study.tell(trial.number, state=TrialState.FAIL, skip_if_finished=True)
        return study

    def _first(self) -> dict[str, object]:
        """The settings that hold without a search, as far as they lie in the space; the others are drawn."""
        numbers = {key: part.number(self.config[key]) for key, part in self.space.items()}
        return {key: number for key, number in numbers.items() if number is not None}

    def _try(self, study: Study, trial: Trial, split: Split) -> None:
        """One trial, from its settings to its score."""
        from optuna import TrialPruned
        from optuna.trial import TrialState

        started, validations = time(), []
        settings = {key: part.suggest(trial, key) for key, part in self.space.items()}
        config = self.with_settings(settings)
        fit_to_data(config, split)
        trial.set_user_attr("settings", settings)

        def after_validation(epoch: int, score: float) -> None:
            validations.append(float(score))
            best = max(validations) if config["valid_metric_bigger"] else min(validations)
            trial.report(best, len(validations))
            if trial.should_prune():
                raise TrialPruned

        try:
            trainer = fit_recorded(config, split, None, after_validation=after_validation)
            score, state = float(trainer.best_valid_score), TrialState.COMPLETE
            trial.set_user_attr("epochs", trainer.epochs_trained)
            trial.set_user_attr("best_epoch", trainer.best_epoch)
        except TrialPruned:
            score, state = None, TrialState.PRUNED
        except UserError as error:  # NaN, of a learning rate that is too large
            getLogger().info(f"{console.subject()}: {error}")
            score, state = None, TrialState.PRUNED
        trial.set_user_attr("seconds", round(time() - started, 1))
        study.tell(trial, score, state)
        shown = "ended early" if score is None else f"{config['valid_metric']} {score:.4f}"
        getLogger().info(f"{console.subject()}: {shown}, {_text(settings)}, {time() - started:.0f} s")

    def with_settings(self, settings: Mapping[str, object]) -> Config:
        """The model's Config with other values of what is searched."""
        import copy

        config = copy.deepcopy(self.config)
        for key, value in settings.items():
            config[key] = value
        return config

    def _save(self, study: Study) -> None:
        """The trials as a table, and the best of them."""
        trials = [
            {"number": number, "state": trial.state.name.lower(), "score": trial.value, **trial.user_attrs}
            for number, trial in enumerate(_ended(study))
        ]
        complete = [trial for trial in trials if trial["state"] == "complete"]
        if complete:
            sign = 1 if self.config["valid_metric_bigger"] else -1
            best = max(complete, key=lambda trial: sign * trial["score"])
            _write(
                self.folder / FOUND,
                {
                    "model": self.config.model,
                    "settings": best["settings"],
                    "score": best["score"],
                    "first_score": trials[0]["score"],
                    "trials": len(trials),
                    "ended_early": len(trials) - len(complete),
                    "seconds": round(sum(trial["seconds"] for trial in trials), 1),
                },
            )
        _write(self.folder / "trials.json", trials)

    def _say(self, subject: str) -> None:
        found = self.found()
        if found is None:
            raise UserError(f"tune: no trial of {self.config.model} came to an end; see {self.folder}")
        metric, first = self.config["valid_metric"], found["first_score"]
        before = "" if first is None else f" ({first:.4f} in the first, without a search)"
        with console.about(subject):
            console.say(
                f"{found['trials']} trials in {found['seconds']:.0f} s, {found['ended_early']} of them ended early: best "
                f"validation {metric} {found['score']:.4f}{before}, {_text(found['settings'])}"
            )


def _sampler(seed: int) -> Any:
    from optuna.samplers import TPESampler

    return TPESampler(n_startup_trials=RANDOM_TRIALS, multivariate=True, seed=seed, warn_independent_sampling=False)


def _ended(study: Study) -> list[Any]:
    """The trials that came to an end, be it early."""
    from optuna.trial import TrialState

    return study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.PRUNED))


def _text(settings: Mapping[str, object]) -> str:
    return ", ".join(f"{key} {value}" for key, value in settings.items())


def _write(path: Path, content: object) -> None:
    """As json, all at once: a kill leaves the old file or the new one."""
    work = path.with_suffix(".tmp")
    work.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    os.replace(work, path)


def check_installed() -> None:
    """Raise a UserError where Optuna is missing."""
    try:
        import optuna  # noqa: F401
    except ImportError as error:
        raise UserError("tune: Optuna is not installed; run `pip install 'recbole_hetcomp[tune]'`") from error
