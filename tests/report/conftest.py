"""Records of every kind, made by real commands on `toy`, once for all tests of the page."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from recbole_hetcomp.commands.benchmark import run_benchmark
from recbole_hetcomp.commands.pipeline import run_hetcomp
from recbole_hetcomp.commands.student_search import search_student
from recbole_hetcomp.commands.teacher_tuning import tune_teachers
from recbole_hetcomp.testing import apart, toy_settings, write_toy
from recbole_hetcomp.testing.clicks import clicks_settings, write_clicks

# Twelve short epochs in which the curriculum moves, and ends.
CURRICULUM = {
    "epochs": 12,
    "train_batch_size": 16,
    "curriculum_period": 1,
    "curriculum_max_dwell": 1,
    "curriculum_alpha": 0.9,
    "stopping_step": 100,
}


@pytest.fixture
def moving(settings: dict[str, Any]) -> dict[str, Any]:
    """`settings` under which a curriculum moves, and ends."""
    return {**settings, **CURRICULUM}


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A `checkpoint_dir` after a run, a benchmark and two searches."""
    folder = tmp_path_factory.mktemp("made")
    settings = toy_settings(write_toy(folder / "data"), folder / "saved")
    with pytest.MonkeyPatch.context() as patch, apart(folder, patch):
        run_hetcomp("HetCompStudent", "toy", config_dict={**settings, **CURRICULUM}, arguments=())
        run_benchmark(["HetCompStudent", "MF"], "toy", config_dict=settings, seeds=2)
        search_student("toy", config_dict=settings)
        pytest.importorskip("optuna")
        tune_teachers("HetCompStudent", "toy", config_dict={**settings, "tune": 2, "teachers": ["BPR"]})
    return folder / "saved"


@pytest.fixture(scope="session")
def made_of_clicks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A `checkpoint_dir` after a run and a benchmark of models of clicks."""
    folder = tmp_path_factory.mktemp("made_of_clicks")
    settings = {**clicks_settings(write_clicks(folder / "data"), folder / "saved"), "teachers": ["FM"], "distil_epochs": 2}
    with pytest.MonkeyPatch.context() as patch, apart(folder, patch):
        alone = {"without_distillation": True}
        run_hetcomp("KDDAGFMStudent", "clicks", config_dict={**settings, **alone}, arguments=())
        run_benchmark(["KDDAGFMStudent", "DAGFM"], "clicks", config_dict=settings, seeds=2)
    return folder / "saved"


@pytest.fixture(scope="session")
def records(made: Path) -> dict[str, dict[str, Any]]:
    """What it has left, by kind."""
    return {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in sorted((made / "report").glob("*.json"))}
