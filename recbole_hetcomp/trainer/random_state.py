"""The state of all random generators of a training, as plain data: what an exact resume has to bring back."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from recbole_hetcomp.files.archive import CheckpointError


def random_state() -> dict[str, Any]:
    """The global generators of Python, numpy and torch; readable with `weights_only=True`."""
    version, internal, gauss_next = random.getstate()
    algorithm, keys, position, has_gauss, cached = np.random.get_state()
    return {
        "python": [version, list(internal), gauss_next],
        "numpy": [str(algorithm), torch.from_numpy(np.asarray(keys).astype(np.int64)), position, has_gauss, cached],
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }


def restore_random_state(state: Mapping[str, Any]) -> None:
    """Bring back what `random_state` gave."""
    version, internal, gauss_next = state["python"]
    random.setstate((version, tuple(internal), gauss_next))
    algorithm, keys, *rest = state["numpy"]
    np.random.set_state((algorithm, keys.cpu().numpy().astype(np.uint32), *rest))
    torch.set_rng_state(state["torch"].cpu())
    if torch.cuda.is_available() and state["cuda"]:
        for device, part in zip(range(torch.cuda.device_count()), state["cuda"]):  # there may be fewer or more than then
            torch.cuda.set_rng_state(part.cpu(), device)


def check_random_state(state: Any) -> None:
    """Raise a CheckpointError, a clause, unless `restore_random_state` can bring `state` back."""
    try:
        version, internal, gauss_next = state["python"]
        random.Random().setstate((version, tuple(internal), gauss_next))
        algorithm, keys, position, has_gauss, cached = state["numpy"]
        if keys.shape != (624,) or not 0 <= int(keys.min()) <= int(keys.max()) < 2**32:
            raise ValueError("numpy's keys")
        if type(position) is not int or not 0 <= position <= 624:  # numpy reads what lies behind its keys otherwise
            raise ValueError("numpy's position")
        if type(has_gauss) is not int or not isinstance(cached, float):
            raise ValueError("numpy's next number")
        np.random.RandomState().set_state((algorithm, keys.cpu().numpy().astype(np.uint32), position, has_gauss, cached))
        torch.Generator().set_state(state["torch"].cpu())
        if not all(isinstance(part, Tensor) and part.dtype == torch.uint8 and part.dim() == 1 for part in state["cuda"]):
            raise ValueError("the states of GPUs")
    except Exception as error:
        raise CheckpointError("its random state is none of Python, numpy and torch") from error
