"""A model that its settings do not make, or that the memory does not hold, is one sentence."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from recbole_hetcomp.config.errors import LONGEST, UserError
from recbole_hetcomp.files.archive import CheckpointError
from recbole_hetcomp.trainer import building
from recbole_hetcomp.trainer.building import build_model

TRUST = Path(__file__).parents[2] / "benchmarks" / "trust"


@pytest.mark.parametrize(
    ("model", "given"),
    [
        ("DMF", {"user_hidden_size_list": [3], "item_hidden_size_list": []}),
        ("NeuMF", {"dropout_prob": 7.0}),
        ("ConvNCF", {"cnn_channels": "x"}),
        ("HetCompStudent", {"student": "DMF", "user_hidden_size_list": [3], "item_hidden_size_list": [4]}),
    ],
    ids=str,
)
def test_settings_that_make_no_model_are_a_sentence(make_config, split, model, given) -> None:
    with pytest.raises(UserError, match=rf"^{model} cannot be made: .*\.py, line \d+\); correct its settings$") as caught:
        build_model(make_config(model, **given), split.train)
    assert caught.value.sentence == str(caught.value)


@pytest.mark.parametrize("model", ["BPR", "HetCompStudent"])
def test_a_model_larger_than_the_memory_is_a_sentence(make_config, split, monkeypatch, model) -> None:
    monkeypatch.syspath_prepend(str(TRUST))
    from bounds import bounded

    config = make_config(model, embedding_size=10**6)
    with bounded(2**27), pytest.raises(UserError, match=f"^{model} cannot be made: it needs more memory") as caught:
        build_model(config, split.train)
    assert "lower its sizes, such as embedding_size" in str(caught.value)
    assert len(str(caught.value)) <= LONGEST


@pytest.mark.parametrize(
    "error",
    [
        MemoryError("Unable to allocate 7.28 TiB for an array"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:117] data. DefaultCPUAllocator: can't allocate memory: you tried ..."),
        RuntimeError("Storage size calculation overflowed with sizes=[60, 1000000000000000000]"),
        torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB"),
    ],
    ids=lambda error: str(error)[:20],
)
def test_every_library_s_word_for_no_memory_is_understood(error) -> None:
    assert "it needs more memory than there is" in building.why_not_built(error)


def test_a_pretrained_model_that_is_none_is_named(make_config, split, tmp_path) -> None:
    path = tmp_path / "mf.pth"
    path.write_bytes(b"no model")
    given = {"use_pretrain": True, "mf_pretrain_path": str(path), "mlp_pretrain_path": str(path)}
    with pytest.raises(CheckpointError, match=r"^.*mf\.pth "):
        build_model(make_config("NeuMF", **given), split.train)


def test_an_error_of_the_disk_stays_one(make_config, split, monkeypatch) -> None:
    """As of a model that reads or writes a file: what is said of a disk names the file."""

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device", "a.pth")

    monkeypatch.setattr("recbole.model.general_recommender.bpr.BPR.__init__", full)
    with pytest.raises(OSError, match=r"No space left on device: 'a\.pth'"):
        build_model(make_config("BPR"), split.train)
