"""Checkpoints that RecBole's trainers write, whole or not at all: RecBole leaves half a file where it is stopped."""

from __future__ import annotations

import io
import os
from typing import IO, Any, Union

import torch

from recbole_hetcomp.files.atomic import write


def save_at_once(content: object, file: Union[str, os.PathLike[str], IO[bytes]], **settings: Any) -> None:
    """`torch.save` as a trainer calls it; a path is written as `files.atomic.write` does, which raises an OSError."""
    if not isinstance(file, (str, os.PathLike)):
        torch.save(content, file, **settings)
        return
    buffer = io.BytesIO()
    torch.save(content, buffer, **settings)
    write(file, buffer.getbuffer())
