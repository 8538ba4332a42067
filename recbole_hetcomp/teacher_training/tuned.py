"""What a search has found for a model on a split: read by every later run there, without Optuna."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from logging import getLogger
from pathlib import Path
from typing import Any

from recbole_hetcomp import console
from recbole_hetcomp.config.config import Config
from recbole_hetcomp.config.errors import UserError, shown
from recbole_hetcomp.config.records import Kind, is_count, is_duration, is_number, read_record
from recbole_hetcomp.config.registry import properties_of
from recbole_hetcomp.data.split import Split, split_seed
from recbole_hetcomp.teacher_training.space import Space, check_values, space_of

FOUND, TRIALS = "found.json", "trials.json"
RECORDED: dict[str, Kind] = {
    "settings": lambda value: isinstance(value, dict),
    "score": is_number,
    "first_score": lambda value: value is None or is_number(value),
    "trials": is_count,
    "ended_early": is_count,
    "seconds": is_duration,
}
JUDGED_BY = ("valid_metric", "eval_args")
BY_SEQUENCE = ["MAX_ITEM_LIST_LENGTH", "mask_seen"]  # beside these, in a run with sequential models
# What is found holds for a training of another length, too.
LENGTH = ("epochs", "eval_step", "stopping_step")
NOT_ASKED = {*LENGTH, "loss_decimal_place", "seed"}


@dataclass(frozen=True)
class Tuning:
    """The search of one model on one split, be it done or not.

    Attributes:
        config: the model's, with the settings that hold without a search
        space: what is tried: settings that the user has not given
        folder: of its files
    """

    config: Config
    space: Space
    folder: Path

    @classmethod
    def of(cls, config: Config, run: Config, split: Split) -> Tuning:
        """The search of the model of `config` in a run with the settings `run`.

        Its folder is named after the split, the other settings of the model and its training, the space, the settings that
        hold without a search, and the number of users who judge.
        """
        space = space_of(config)
        path = properties_of(config.model)
        own = set((config.read_yaml(path) if path else None) or ()) | set(config.parameters["Training"])
        keys = sorted((own | set(JUDGED_BY) | set(space)) - NOT_ASKED)
        if config.family == "sequential":
            keys += BY_SEQUENCE
        users = split.parts[1].inter_feat[split.whole.uid_field].unique().numel()
        judges = min(run["tune_users"] or users, users)
        rests_on = [{key: config[key] for key in keys}, {key: str(part) for key, part in space.items()}, judges]
        digest = sha256(json.dumps(rests_on, default=str, sort_keys=True).encode()).hexdigest()[:12]
        folder = Path(run["checkpoint_dir"]) / "tuned" / f"{config.model}-{split.fingerprint_for(config)[:8]}-{digest}"
        config = copy.deepcopy(config)
        config["seed"] = split_seed(run)
        return cls(config, space, folder)

    def found(self) -> dict[str, Any] | None:
        """What has been found: `settings`, `score`, `first_score`, `trials`, ...; None where nothing has been searched.

        Raises:
            UserError: the file is damaged.
        """
        path = self.folder / FOUND
        if not self.space or not path.is_file():
            return None
        remedy = "delete its folder to search anew"
        found = read_record(path, RECORDED, remedy)
        try:
            if set(found["settings"]) != set(self.space):
                raise ValueError("it is no record of a search of this space")
            check_values(self.config, found["settings"])
            return found
        except (ValueError, TypeError, KeyError) as error:
            raise UserError(f"{str(path)!r} cannot be read ({error}); {remedy}") from error

    @property
    def trials(self) -> int:
        """How many trials have been made."""
        found = self.found()
        return 0 if found is None else int(found["trials"])

    @property
    def common(self) -> dict[str, Any]:
        """What the trials of one search have in common beside what its folder is named after."""
        return {**{key: self.config[key] for key in LENGTH}, "split_seed": self.config["seed"]}

    def refuse_unlike(self, trials: Iterable[Mapping[str, Any]] | None = None) -> None:
        """Raise a UserError where new trials would be of another length than earlier ones, or judged by another sample.

        Args:
            trials: what is known of each earlier one; None: what the file of the search says, as far as it can be read
        """
        known = self._trials_in_file() if trials is None else trials
        for before in (trial["common"] for trial in known if isinstance(trial.get("common"), Mapping)):
            other = {key: before[key] for key, value in self.common.items() if before.get(key, value) != value}
            if other:
                had, has = console.listed(other), console.listed({key: self.common[key] for key in other})
                raise UserError(
                    f"tune: the trials of {self.config.model} in {shown(self.folder)} had {had}, and this run has {has}; "
                    "give what they had, leave tune out to use what was found, or delete the folder"
                )

    def _trials_in_file(self) -> list[dict[str, Any]]:
        try:
            trials = json.loads((self.folder / TRIALS).read_text(encoding="utf-8"))
        except (OSError, ValueError):  # none, or damaged: it is made anew from the journal
            return []
        return [trial for trial in trials if isinstance(trial, dict)] if isinstance(trials, list) else []

    def warn_of_others(self) -> None:
        """Log a line where the model was searched on this split, but under other settings, so that nothing of it holds."""
        model, split, _ = self.folder.name.rsplit("-", 2)
        others = [path.parent.name for path in self.folder.parent.glob(f"{model}-{split}-*/{FOUND}")]
        if self.space and others and not (self.folder / FOUND).is_file():
            getLogger().warning(
                f"{model}: what a search has found does not hold here, for it was made with other settings "
                f"({self.folder.parent}: {', '.join(others)}); search again with --tune, or give the settings of that search"
            )

    def with_settings(self, settings: Mapping[str, object]) -> Config:
        """The model's Config with other values of what is searched."""
        config = copy.deepcopy(self.config)
        for key, value in settings.items():
            config[key] = value
        return config


def found_at_first(tuning: Tuning, run: Config) -> dict[str, Any] | None:
    """What `Tuning.found` said when `run` first asked: a search that goes on beside a run does not change it midway."""
    folder = str(tuning.folder)  # RecBole's checkpoints hold the Config, and are read as plain values
    if folder not in run.searched:
        run.searched[folder] = tuning.found()
    return run.searched[folder]


def use_found(config: Config, run: Config, split: Split) -> dict[str, Any] | None:
    """Give `config`, the Config of a model in `run`, the settings that a search has found for it, unless `tune` is 0.

    Returns:
        what `Tuning.found` does
    """
    if run["tune"] == 0:
        return None
    tuning = Tuning.of(config, run, split)
    found = found_at_first(tuning, run)
    if found is None:
        tuning.warn_of_others()
    for key, value in (found or {"settings": {}})["settings"].items():
        config[key] = value
    return found


def say_found(found: Mapping[str, Any] | None) -> None:
    """Say that a model has settings which a search has found, where it has."""
    if found is not None:
        settings = console.listed(found["settings"])
        console.say_first(f"as found by a search of {console.counted(found['trials'], 'trial')}: {settings}")
