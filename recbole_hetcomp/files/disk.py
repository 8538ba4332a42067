"""Whether an error is the operating system's refusal to write, whatever library it comes through."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

FULL = (errno.ENOSPC, errno.EDQUOT)
REFUSALS = (*FULL, errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR)


def refusal(error: BaseException) -> OSError | None:
    """The refusal that `error` is, or, where a disk is full, that it comes from; None where there is none.

    Libraries wrap the error of a full disk (joblib) or tell of it in a text of their own (torch's shared memory).
    """
    if isinstance(error, OSError) and error.errno in REFUSALS:
        return error
    behind: BaseException | None = error
    while behind is not None:
        for code in FULL:
            if isinstance(behind, OSError) and behind.errno == code:
                return behind
            if os.strerror(code) in str(behind):
                return OSError(code, os.strerror(code))
        behind = behind.__cause__ or behind.__context__
    return None


@contextmanager
def heard_of_threads() -> Iterator[None]:
    """Raises at the end what a thread was refused by the disk, such as tensorboard's, instead of printing a traceback."""
    refused: list[OSError] = []
    usual = threading.excepthook

    def hear(failure: threading.ExceptHookArgs) -> None:
        found = refusal(failure.exc_value) if failure.exc_value else None
        if found:
            refused.append(found)
        else:
            usual(failure)

    threading.excepthook = hear
    try:
        yield
    finally:
        threading.excepthook = usual
    for error in refused:
        raise error
