"""In what precision a model can be trained on the device at hand: a setting that would be ignored is refused."""

from __future__ import annotations

import torch

from recbole_hetcomp.config.config import Config
from recbole_hetcomp.config.errors import UserError


def check_precision(config: Config, where: str = "") -> None:
    """Raise a UserError for a precision that some part of a run would not heed.

    Stored teachers and the processes that train them have float32 whatever torch's default is here, and gradients are scaled
    on a GPU alone. `enable_amp` means bfloat16 on a CPU, which needs no scaling.

    Args:
        config: of the model
        where: put before the sentence, as in `check_settings`
    """
    dtype = torch.get_default_dtype()
    if dtype != torch.float32:
        raise UserError(
            f"torch's default dtype is {dtype}, and models are trained in torch.float32 here; "
            "call torch.set_default_dtype(torch.float32) before"
        )
    device = config["device"].type
    if config["enable_scaler"] and device != "cuda":
        raise UserError(
            f"{where}enable_scaler: True scales gradients on a GPU alone, and this run is on the device {device!r}; leave "
            "it out, since enable_amp computes in bfloat16 there, which needs no scaling"
        )
