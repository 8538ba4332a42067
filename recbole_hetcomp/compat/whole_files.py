"""Checkpoints that RecBole's trainers write, whole or not at all: RecBole leaves half a file where it is stopped."""

from __future__ import annotations

import io
import os
from typing import IO, Any, Union

import torch
from recbole.trainer import trainer

from recbole_hetcomp.compat.replacing import Overlay, Undo, replaced
from recbole_hetcomp.files.atomic import PathLike, write


def write_checkpoints_at_once() -> Undo:
    """RecBole's trainers save by `save_at_once`."""
    return replaced(trainer, torch=Overlay(torch, save=save_at_once))


def save_at_once(content: object, file: Union[PathLike, IO[bytes]], **settings: Any) -> None:
    """`torch.save` as a trainer calls it; a path is written as `files.atomic.write` does, which raises an OSError."""
    if not isinstance(file, (str, os.PathLike)):
        torch.save(content, file, **settings)
        return
    buffer = io.BytesIO()
    torch.save(content, buffer, **settings)
    write(file, buffer.getbuffer())
