"""The published HetComp split of CiteULike-t, as RecBole benchmark files: its counts, and a run with three teachers."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from recbole_hetcomp.config import Config
from recbole_hetcomp.data.split import make_split
from recbole_hetcomp.quick_start import run_hetcomp

DATASETS = Path(__file__).parents[3] / "shared" / "datasets"
pytestmark = pytest.mark.skipif(
    not (DATASETS / "citeulike-t" / "citeulike-t.train.inter").is_file(),
    reason="the benchmark files of citeulike-t are not at hand",
)


@pytest.fixture
def official(tmp_path: Path) -> dict:
    return {
        "data_path": str(DATASETS),
        "benchmark_filename": ["train", "valid", "test"],
        "checkpoint_dir": str(tmp_path / "saved"),
        "show_progress": False,
    }


def test_counts_are_the_published_ones(official: dict) -> None:
    split = make_split(Config("HetCompStudent", "citeulike-t", config_dict=official, arguments=()))
    assert [len(part) for part in split.parts] == [78_958, 20_823, 20_823]
    assert len(split.history.active_users) == 5_219
    assert len(torch.unique(split.history.items)) == 22_392
    evaluated = split.parts[2].inter_feat[split.whole.uid_field].unique()
    assert len(evaluated) == 4_719


def test_the_whole_way_with_three_teachers(official: dict) -> None:
    few = {"epochs": 3, "eval_step": 1}
    settings = {
        "teachers": ["BPR", "CML", "MultiVAE"],
        "teacher_config": {"all": few},
        "without_distillation_config": few,
        "trajectory_depth": 100,
        "epochs": 3,
        "eval_step": 1,
        "curriculum_period": 1,
        "curriculum_rule": "official",
        "train_batch_size": 256,
    }
    result = run_hetcomp("HetCompStudent", "citeulike-t", config_dict={**official, **settings}, arguments=())
    roles = [row["role"] for row in result["comparison"]]
    assert roles == ["teacher"] * 3 + ["ensemble", "student without distillation", "student"]
    assert all(0 < row["recall@50"] < 1 for row in result["comparison"])
    assert result["model"].lists.curriculum.stage.any()  # users have moved on to later checkpoints
