"""RecBole's Config with this package's models and properties, and a word about every key that it does not know."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from logging import getLogger
from pathlib import Path
from typing import Any

import yaml
from recbole.config import Config as RecBoleConfig
from recbole.utils import ModelType

from recbole_hetcomp.config.declarations import Declaration, declarations_in
from recbole_hetcomp.config.errors import UserError, close_matches
from recbole_hetcomp.config.family import (
    MIXED,
    input_type_of,
    is_sequential_model,
    protocol_of,
    reads_more,
    settle_negatives,
    settle_repeats,
    teachers_in,
)
from recbole_hetcomp.config.preset import preset_of, preset_or_file
from recbole_hetcomp.config.reading import parsed, read_settings, read_yaml
from recbole_hetcomp.config.recbole import READ_BY_RECBOLE, check_names, check_read_at_once
from recbole_hetcomp.config.registry import (
    RECBOLE,
    get_model,
    is_distilled,
    own_properties_of,
    predicts_clicks,
    properties_dir,
    properties_of,
    recommends_unseen,
    settings_of_any_model,
    student_class,
)
from recbole_hetcomp.config.values import SettingsLoader, calls_a_function, literal, plain


class Config(RecBoleConfig):
    """RecBole's Config; later wins: RecBole's yaml files, ours, `config_file_list`, `config_dict`, the command line.

    Args:
        model: a model's name or class
        dataset: a dataset's name
        config_file_list: yaml files
        config_dict: settings
        arguments: `--key=value` strings; None reads the command line, as RecBole does
        defaults: settings that hold unless the user says otherwise, in place of those of the yaml files

    Raises:
        UserError: no or an unknown model or student, no dataset or metric, a bad file or argument, a string that is code.
    """

    def __init__(
        self,
        model: str | type | None = None,
        dataset: str | None = None,
        config_file_list: Sequence[str] | None = None,
        config_dict: Mapping[str, object] | None = None,
        arguments: Sequence[str] | None = None,
        defaults: Mapping[str, object] | None = None,
    ) -> None:
        self.arguments, self.defaults = arguments, dict(defaults or {})
        self.files = list(map(str, config_file_list or ()))
        self.trials = 0  # of the search whose settings this model is trained with
        self.searched: dict[str, dict[str, Any] | None] = {}  # what searches had found when this run first asked, by folder
        given = {key: plain(value) for key, value in (config_dict or {}).items()}
        try:
            super().__init__(model, dataset, config_file_list, given)
        except UserError:
            raise
        except (ValueError, TypeError, NotImplementedError, RuntimeError, yaml.YAMLError) as error:  # also of wrong values
            raise UserError(f"configuration: {' '.join(str(error).split())}") from error

    def _build_yaml_loader(self) -> type[SettingsLoader]:
        return SettingsLoader.with_rule_of(super()._build_yaml_loader)

    def _load_config_files(self, file_list: Sequence[str] | None) -> dict[str, object]:
        files = [read_settings(Path(preset_or_file(path)), self._build_yaml_loader()) for path in file_list or ()]
        return {key: value for settings in files for key, value in settings.items()}

    def read_yaml(self, path: Path) -> Any:
        """What a yaml file holds, numbers such as 1e-5 read as numbers."""
        return read_yaml(path, self._build_yaml_loader())

    def _load_cmd_line(self) -> dict[str, object]:
        if self.arguments is None:
            return super()._load_cmd_line()
        given: dict[str, object] = {}
        for argument in self.arguments:
            key, equals, value = argument[2:].partition("=")
            if not argument.startswith("--") or not equals or not key:
                raise UserError(f"command line: {argument!r} is not of the form --key=value; write the value behind a =")
            given[key] = value
        return self._convert_config_dict(given)

    def _convert_config_dict(self, config_dict: dict[str, object]) -> dict[str, object]:
        """Strings to the literals that they spell. RecBole evaluates them as code, which no setting needs."""
        return {key: literal(value) if isinstance(value, str) else value for key, value in config_dict.items()}

    def _get_model_and_dataset(self, model: str | type | None, dataset: str | None) -> tuple[str, type, str]:
        model = model or self.external_config_dict.get("model")
        dataset = dataset or self.external_config_dict.get("dataset")
        check_names(model, dataset)
        return super()._get_model_and_dataset(get_model(model) if isinstance(model, str) else model, dataset)

    def _load_internal_config_dict(self, model: str, model_class: type, dataset: str) -> None:
        asked = get_model(self._student(), "student") if is_distilled(model_class) else model_class  # its type counts
        super()._load_internal_config_dict(model, asked, dataset)
        theirs = protocol_of(model_class, self.internal_config_dict)
        preset = self.preset_of(dataset)
        by_model = preset.pop("model_config")
        for path in self._files(model_class):
            if path == properties_dir() / "distillation.yaml":
                self.internal_config_dict.update(by_model.get(self._student(), {}))
            self._update_internal_config_dict(str(path))
        self.internal_config_dict.update({**theirs, **preset})
        if is_distilled(model_class):
            self.internal_config_dict.update(by_model.get(model, {}))
        self.internal_config_dict.update(self.defaults)

    def _update_internal_config_dict(self, file: str) -> dict[str, Any] | None:
        found: dict[str, Any] | None = parsed(Path(file).read_text(encoding="utf-8"), self.yaml_loader)
        self.internal_config_dict.update(found or {})
        return found

    def preset_of(self, dataset: str) -> dict[str, Any]:
        """The preset of the dataset (preset.py): settings of all models, and in `model_config` those of some."""
        return preset_of(dataset, self.external_config_dict, self.read_yaml)

    @cached_property
    def family(self) -> str:
        """The data are `general`, `sequential` (as the model, its student or a teacher is) or `context`, rows of clicks."""
        if predicts_clicks(self.model_class):
            return "context"
        if self.external_config_dict.get(MIXED):
            return "sequential"  # another model of the same run is
        if not is_distilled(self.model_class):
            return "sequential" if getattr(self.model_class, "type", None) == ModelType.SEQUENTIAL else "general"
        return "sequential" if any(map(is_sequential_model, [self._student(), *self._teachers()])) else "general"

    def _teachers(self) -> list[str]:
        """The teachers that something beside properties/distillation.yaml names, as far as they are models."""
        preset, path = self.preset_of(self.dataset), own_properties_of(self.model_class)
        own = (self.read_yaml(path) if path is not None else None) or {}
        of_model = preset["model_config"].get(self.model, {})
        return teachers_in([self.external_config_dict, self.defaults, of_model, preset, own])

    def _student(self) -> str:
        """The name of a distilled model's student, as the user, the method's yaml file or that of all methods has it."""
        files = [properties_dir() / "distillation.yaml", own_properties_of(self.model_class)]
        declared = {key: found for path in files if path for key, found in declarations_in(path).items()}
        return str(self.external_config_dict.get("student") or declared["student"].value)

    def _files(self, model_class: type) -> list[Path]:
        """The yaml files that are read after RecBole's for this model, ours and a plug-in's; later wins."""
        own: list[Path | None] = [properties_dir() / "overall.yaml"]
        if self.family == "sequential" and not reads_more(model_class):
            own.append(properties_dir() / "sequential.yaml")
        elif self.family == "context":
            own.append(properties_dir() / "context.yaml")
        elif recommends_unseen(model_class):
            own.append(properties_dir() / "general.yaml")
        if is_distilled(model_class):
            student, distillation = self._student(), properties_dir() / "distillation.yaml"
            own += [properties_of(student), properties_dir() / "teacher" / f"{student}.yaml", distillation]
            if self.family != "general":
                own.append(properties_dir() / f"{self.family}_distillation.yaml")
            own.append(properties_dir() / "student" / f"{student}.yaml")
        own.append(own_properties_of(model_class))
        return [path for path in own if path is not None and path.is_file()]

    def _get_final_config_dict(self) -> dict[str, object]:
        settings: dict[str, object] = super()._get_final_config_dict()
        for key, value in settings.items():
            if isinstance(value, str) and calls_a_function(value):  # a checkpoint with it would be refused
                raise UserError(f"{key}: {value[:60]!r} would call a function where RecBole reads it; give a plain value")
        return settings

    def _set_default_parameters(self) -> None:
        check_read_at_once(self.final_config_dict)
        if self.final_config_dict["MODEL_TYPE"] == ModelType.TRADITIONAL:  # made in one epoch, and validated after it
            self.final_config_dict["eval_step"] = 1
        trained = student_class(self.model_class, self._student()) if is_distilled(self.model_class) else self.model_class
        settle_negatives(self.final_config_dict, trained, given=self.given("train_neg_sample_args"))
        settle_repeats(self.final_config_dict, trained, sequential=self.family == "sequential")
        super()._set_default_parameters()
        if is_distilled(self.model_class):  # negatives are drawn for the backbone's own loss
            loss_type = self.final_config_dict.get("loss_type")
            self.final_config_dict["MODEL_INPUT_TYPE"] = input_type_of(trained, loss_type)

    def declarations(self) -> dict[str, Declaration]:
        """What each setting of this model may be, by its name, as far as our yaml files, or a plug-in's, say it.

        Where two files name one setting, a method's is believed before its student's, and these before what holds for all.
        """
        return {key: declared for path in self.declaring_files() for key, declared in declarations_in(path).items()}

    def declaring_files(self) -> list[Path]:
        """Our yaml files, and a plug-in's, that say what this model's settings may be; later ones are believed."""
        files = [properties_dir() / "recbole.yaml", properties_dir() / "teacher" / f"{self.model}.yaml"]
        files += self._files(self.model_class)
        return [path for path in files if path.is_file() and not path.is_relative_to(RECBOLE)]

    def part_files(self) -> list[Path]:
        """The yaml files of the methods that a composite is made of, in the order in which it names them."""
        methods = self["methods"] if isinstance(self["methods"], Mapping) else {}
        return [path for path in (properties_of(f"{name}Student") for name in methods) if path is not None]

    def given(self, key: str) -> bool:
        """Whether the user set `key`, in a file, a dict or on the command line."""
        return key in self.external_config_dict

    def unknown_keys(self, keys: Iterable[str] | None = None) -> dict[str, str]:
        """Those of `keys`, by default of the keys given, that nothing reads, each with the nearest known one."""
        given = self.external_config_dict if keys is None else keys
        known = set(self.internal_config_dict) | READ_BY_RECBOLE | {key for keys in self.parameters.values() for key in keys}
        known |= {key for path in self.part_files() for key in self.read_yaml(path)}
        return {key: close_matches(key, known) for key in given if key not in known}

    def warn_of_unknown_keys(self, part_of: str = "") -> list[str]:
        """Log one line for every key given that nothing reads, with the nearest known one and where it came from.

        `part_of` names the setting, such as teacher_config, that was the dict from which this Config was built.

        Raises:
            UserError: such a key is on the command line or in that setting, near a known one, and no model at all has a
                setting of that name.
        """
        sources = {
            "the command line": self.cmd_config_dict,
            part_of or "the configuration dict": self.variable_config_dict,
            "a configuration file": self.file_config_dict,
        }
        lines = []
        for key, near in self.unknown_keys().items():
            source = next(name for name, given in sources.items() if key in given)
            strict = key in self.cmd_config_dict or (part_of and source == part_of)
            if near and strict and key not in settings_of_any_model():
                raise UserError(f"{part_of and part_of + ': '}{key}: nothing reads a setting of this name{near}")
            lines.append(f"unknown setting {key!r} from {source} is not used{near}")
        for line in lines:
            getLogger().warning(line)
        return lines
