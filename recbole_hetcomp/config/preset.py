"""Presets: properties/dataset/<dataset>.yaml, which holds for that dataset, and properties/presets/, asked for by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from recbole_hetcomp.config.errors import UserError, shown
from recbole_hetcomp.config.registry import properties_dir


def preset_of(dataset: str, given: Mapping[str, Any], read: Callable[[Path], Any]) -> dict[str, Any]:
    """Settings of all models, and in `model_config` those of some, by model; the latter is {} where there is no preset.

    Its `benchmark_filename` is left out where the user asks for another split, and where a file that it names is not there:
    a user's own data may have the name.

    Args:
        dataset: its name
        given: the user's settings; with `dataset_preset: False` there is no preset
        read: reads a yaml file

    Raises:
        UserError: the file is no such preset.
    """
    path, preset = _read(dataset, given, read)
    by_model = (preset.get("model_config") or {}) if isinstance(preset, dict) else None
    if not isinstance(by_model, dict) or not all(isinstance(part, dict) for part in by_model.values()):
        raise UserError(f"{path}: it is no preset; write lines such as model_config: {{BPR: {{learning_rate: 0.001}}}}")
    if _why_left_out(preset, dataset, given):
        del preset["benchmark_filename"]
    return {**preset, "model_config": by_model}


def split_left_out(dataset: str, given: Mapping[str, Any], read: Callable[[Path], Any]) -> str:
    """Why `preset_of` leaves the preset's `benchmark_filename` out; empty where it does not, or there is none."""
    return _why_left_out(_read(dataset, given, read)[1], dataset, given)


def _read(dataset: str, given: Mapping[str, Any], read: Callable[[Path], Any]) -> tuple[Path, Any]:
    """The path of the preset, and what is there; {} where there is none, or none is wanted."""
    path = properties_dir() / "dataset" / f"{dataset}.yaml"
    return path, (read(path) if path.is_file() and given.get("dataset_preset", True) else None) or {}


def _why_left_out(preset: Mapping[str, Any], dataset: str, given: Mapping[str, Any]) -> str:
    folder = Path(str(given.get("data_path", "dataset"))) / dataset
    files = [folder / f"{dataset}.{part}.inter" for part in preset.get("benchmark_filename") or ()]
    if files and isinstance(given.get("eval_args"), Mapping) and given["eval_args"].get("split"):
        return "eval_args gives another split"
    lacking = [file for file in files if not file.is_file()]
    return f"there is no file {shown(lacking[0])}; eval_args makes another" if lacking else ""


def preset_or_file(path: str) -> str:
    """The path of a yaml file, or of the preset that is called so."""
    presets = {preset.stem: preset for preset in (properties_dir() / "presets").glob("*.yaml")}
    if not Path(path).is_file() and path not in presets:
        names = ", ".join(sorted(presets))
        raise UserError(f"config_files: there is no file {path!r}; give the path of a yaml file, or a preset ({names})")
    return path if Path(path).is_file() else str(presets[path])
