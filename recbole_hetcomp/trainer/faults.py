"""What a training ends in that a person can mend: a number that is none, or a setting that a RecBole model cannot use."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

from recbole_hetcomp.config.errors import UserError
from recbole_hetcomp.config.registry import RECBOLE
from recbole_hetcomp.files.archive import CheckpointError
from recbole_hetcomp.files.disk import refusal
from recbole_hetcomp.trainer.building import NOT_BUILT, frames_of, why_not_built


@contextmanager
def faults_of(model: str, or_else: str = "") -> Iterator[None]:
    """Around the training of a model: what is wrong with its settings is a UserError that names it.

    RecBole's models check few of their settings, and some fail of one only when they are trained. Such an error comes from
    within the model; one from anywhere else is no fault of a setting, and stays what it is.

    Args:
        model: its name
        or_else: what else to do, such as " or leave it out"

    Raises:
        UserError: a loss or a score is NaN, or RecBole's code of a model ended in an error.
    """
    try:
        yield
    except (UserError, CheckpointError):
        raise
    except NOT_BUILT as error:
        if is_nan(error):
            raise UserError(f"{model} cannot be trained: {error}; lower its learning_rate{or_else}") from error
        if refusal(error) or not any(RECBOLE / "model" in path.parents for path, _ in frames_of(error)):
            raise
        raise UserError(f"{model} cannot be trained: {why_not_built(error)}{or_else}") from error


def is_nan(error: Exception) -> bool:
    """Whether an error says that a loss or a score became NaN, as RecBole's Trainer and `top_unobserved` word it."""
    of_a_number = isinstance(error, (FloatingPointError, ValueError)) and not isinstance(error, UserError)
    return of_a_number and re.search(r"\bnan\b", str(error), re.IGNORECASE) is not None
