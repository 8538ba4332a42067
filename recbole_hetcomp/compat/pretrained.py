"""Models that start from another model's checkpoint read it as data; one that does not fit is a sentence."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, Union

import torch

from recbole_hetcomp.compat.replacing import Overlay, Undo, replaced

PathLike = Union[str, "os.PathLike[str]"]
PRETRAINED = {
    "recbole.model.general_recommender.convncf": "ConvNCF",
    "recbole.model.general_recommender.nais": "NAIS",
    "recbole.model.general_recommender.neumf": "NeuMF",
    "recbole.model.general_recommender.ract": "RaCT",
    "recbole.model.context_aware_recommender.kd_dagfm": "KD_DAGFM",
    "recbole.model.sequential_recommender.s3rec": "S3Rec",
}
MISFITS = (LookupError, RuntimeError, TypeError, AttributeError, AssertionError)

_files: list[PathLike] = []  # that the model which is being built has read


def files_are_unpickled() -> bool:
    """Whether one of these models reads its file by torch's own `load`."""
    return any(importlib.import_module(name).torch is torch for name in PRETRAINED)


def load_pretrained(path: PathLike, map_location: torch.device | str = "cpu") -> dict[str, Any]:
    """`torch.load` for these models; weights with NaN are refused."""
    from recbole_hetcomp.trainer.checkpoint import CheckpointError, check_state, load_checkpoint

    checkpoint = load_checkpoint(path, map_location)
    _files.append(path)
    state = checkpoint.get("state_dict", checkpoint)
    try:
        check_state(state, state)
    except CheckpointError as error:
        raise CheckpointError(f"{path} is no pretrained model: {error}") from error
    return checkpoint


def fitting(stock: Callable[..., None]) -> Callable[..., None]:
    """The constructor of such a model, where a file that it read does not fit it is named."""

    def __init__(self: object, *arguments: object, **settings: object) -> None:  # noqa: N807
        from recbole_hetcomp.trainer.checkpoint import CheckpointError

        _files.clear()
        try:
            stock(self, *arguments, **settings)
        except MISFITS as error:
            if not _files:
                raise
            reason = " ".join(f"{type(error).__name__} {error}".split())[:120]
            raise CheckpointError(f"{_files[-1]} is no pretrained model for {type(self).__name__}: {reason}") from error

    return __init__


@contextmanager
def pretrained_loading() -> Iterator[None]:
    """Within it, the models read files as data; `install()` enters it for good."""
    undos = []
    for path, name in PRETRAINED.items():
        module = importlib.import_module(path)
        model = getattr(module, name)
        undos.append(replaced(module, torch=Overlay(torch, load=load_pretrained)))
        undos.append(replaced(model, __init__=fitting(model.__init__)))
    try:
        yield
    finally:
        for undo in undos:
            undo()


def read_pretrained_as_data() -> Undo:
    """Enters `pretrained_loading`; the function returned leaves it."""
    stack = ExitStack()
    stack.enter_context(pretrained_loading())
    return stack.close
