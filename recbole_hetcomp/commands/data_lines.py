"""What a command says of its data before it trains anything: their size, and for which models their preset holds."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from logging import getLogger
from typing import Any

from recbole_hetcomp import console
from recbole_hetcomp.config import Config
from recbole_hetcomp.config.errors import UserError, close_matches
from recbole_hetcomp.config.preset import split_left_out
from recbole_hetcomp.config.recbole import READ_BY_RECBOLE
from recbole_hetcomp.config.registry import get_model, is_distilled, known_models, settings_of_any_model
from recbole_hetcomp.data.split import Split
from recbole_hetcomp.teacher_training.alone import chosen_for


def say_data(config: Config, split: Split, others: Iterable[Config] = (), *, alone: bool = True) -> None:
    """A line about the data, and one about their preset, where one holds for `config` or one of the `others`.

    Args:
        config: its dataset is the one that is named
        split: the data
        others: of the models that a benchmark trains beside the first
        alone: whether the command may train the student without distillation

    Raises:
        UserError: the preset names a model that there is not, or one outside of its `model_config`.
    """
    users, items = split.whole.user_num - 1, split.whole.item_num - 1  # without the padding
    parts = ", ".join(f"{len(data):,} {part}" for part, data in zip(("training", "validation", "test"), split.parts))
    with console.about(config.dataset):
        console.say(f"{users:,} users, {items:,} items, {sum(map(len, split.parts)):,} interactions ({parts})")
        preset = config.preset_of(config.dataset)
        by_model = preset.pop("model_config")
        _check(preset, by_model, config)
        trained = set().union(*(_trained_with(by_model, one, alone) for one in (config, *others)))
        held = [*preset, *(name for name in by_model if name in trained)]
        if held:
            console.say(f"its preset holds for {', '.join(held)}, unless you say otherwise (--dataset_preset=False)")
        why = split_left_out(config.dataset, config.external_config_dict, config.read_yaml)
        if why and config.family != "sequential" and not config.given("benchmark_filename"):
            console.say(f"the split of its preset is left out: {why}")


def _check(preset: Mapping[str, Any], by_model: Mapping[str, Mapping[str, Any]], config: Config) -> None:
    """Refuse what nothing can be trained with, and log a line about each setting that no yaml file has."""
    for name in by_model:
        get_model(name, "model_config of the preset")
    for name in sorted(preset.keys() & set(known_models())):
        raise UserError(f"preset of {config.dataset}: {name} is a model; write its settings under model_config:")
    known = settings_of_any_model() | READ_BY_RECBOLE | {key for keys in config.parameters.values() for key in keys}
    for title, settings in {"": preset, **by_model}.items():
        for key in sorted(settings.keys() - known):
            of_model, near = f" of {title}" if title else "", close_matches(key, known)
            getLogger().warning(
                f"setting {key!r}{of_model} in the preset of {config.dataset}: no file of settings has it{near}"
            )


def _trained_with(by_model: Mapping[str, Mapping[str, Any]], config: Config, alone: bool) -> set[str]:
    """The models of a run for which a preset is read. A RecBole model trained by itself, as RecBole has it, has none.

    The student has it when it is trained alone, and when the method takes a setting from it that it does not set itself.
    """
    if not is_distilled(config.model_class):
        return {config.model} if config.defaults else set()
    student = config["student"]
    taken = (alone and config["without_distillation"]) or set(by_model.get(student, ())) - chosen_for(config)
    return {config.model, config["start_from"], *config["teachers"], *([student] if taken else [])}
