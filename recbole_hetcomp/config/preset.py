"""Presets: properties/dataset/<dataset>.yaml, which holds for that dataset, and properties/presets/, asked for by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from recbole_hetcomp.config.errors import UserError
from recbole_hetcomp.config.registry import properties_dir


def preset_of(dataset: str, folder: Path, read: Callable[[Path], Any]) -> dict[str, Any]:
    """Settings of all models, and in `model_config` those of some, by model; the latter is {} where there is no preset.

    The files that `benchmark_filename` names must be there, or this line is left out: a user's own data may have the name.

    Args:
        dataset: its name
        folder: of its files
        read: reads a yaml file

    Raises:
        UserError: the file is no such preset.
    """
    path = _path(dataset)
    preset = (read(path) if path.is_file() else None) or {}
    by_model = (preset.get("model_config") or {}) if isinstance(preset, dict) else None
    if not isinstance(by_model, dict) or not all(isinstance(part, dict) for part in by_model.values()):
        raise UserError(f"{path}: it is no preset; write lines such as model_config: {{BPR: {{learning_rate: 0.001}}}}")
    if _files_lacking(preset, dataset, folder):
        del preset["benchmark_filename"]
    return {**preset, "model_config": by_model}


def split_left_out(dataset: str, folder: Path, read: Callable[[Path], Any]) -> list[Path]:
    """The files for whose lack `preset_of` leaves the preset's `benchmark_filename` out; the preset has been read before."""
    path = _path(dataset)
    return _files_lacking((read(path) if path.is_file() else None) or {}, dataset, folder)


def _path(dataset: str) -> Path:
    return properties_dir() / "dataset" / f"{dataset}.yaml"


def _files_lacking(preset: Mapping[str, Any], dataset: str, folder: Path) -> list[Path]:
    files = [folder / f"{dataset}.{part}.inter" for part in preset.get("benchmark_filename") or ()]
    return [file for file in files if not file.is_file()]


def preset_or_file(path: str) -> str:
    """The path of a yaml file, or of the preset that is called so."""
    presets = {preset.stem: preset for preset in (properties_dir() / "presets").glob("*.yaml")}
    if not Path(path).is_file() and path not in presets:
        names = ", ".join(sorted(presets))
        raise UserError(f"config_files: there is no file {path!r}; give the path of a yaml file, or a preset ({names})")
    return path if Path(path).is_file() else str(presets[path])
