"""A small run and what it gave when the file beside this one was written: moving code must not move numbers.

`HETCOMP_WRITE_GOLDEN=1 pytest tests/test_golden.py` writes the file anew. That is a change of what users get, and
CHANGELOG.md names it.
"""

from __future__ import annotations

import os
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file

from recbole_hetcomp.quick_start import run_hetcomp

GOLDEN = Path(__file__).parent / "golden.safetensors"


def found(config, split, pool) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """The lists of a teacher and the student's tensors, and the split's fingerprint."""
    student = run_hetcomp("HetCompStudent", "toy", config_dict=config, arguments=())["model"]
    tensors = {f"student.{name}": value.clone() for name, value in student.state_dict().items()}
    return {"LightGCN": pool.teachers[0].trajectory.items, **tensors}, {"split": split.fingerprint}


def test_a_small_run_gives_what_it_always_gave(settings, split, trained_pool):
    tensors, words = found(settings, split, trained_pool("LightGCN"))
    assert not torch.equal(*tensors["LightGCN"])
    if os.environ.get("HETCOMP_WRITE_GOLDEN"):
        save_file(tensors, GOLDEN, metadata=words)
    with safe_open(GOLDEN, framework="pt") as golden:
        assert golden.metadata() == words
        assert set(golden.keys()) == set(tensors)
        assert torch.equal(golden.get_tensor("LightGCN"), tensors["LightGCN"])
        for name, tensor in tensors.items():  # processors differ in the last bits of a float32
            torch.testing.assert_close(golden.get_tensor(name), tensor, rtol=0, atol=1e-6, msg=name)
