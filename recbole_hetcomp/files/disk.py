"""Whether an error is the operating system's refusal to write, whatever library it comes through."""

from __future__ import annotations

import errno
import os

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
