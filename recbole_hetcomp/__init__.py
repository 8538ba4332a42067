"""Ranking distillation from heterogeneous teachers (HetComp, WWW 2023) for RecBole."""

import os
import sys

__version__ = "0.1.0"


def leave_out_working_directory() -> bool:
    """Take the working directory from the head of `sys.path`, where `python -m` puts it; whether it was there.

    It stays where this package itself is imported from it.
    """
    home = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    if sys.path[:1] != [os.getcwd()] or sys.path[0] == home:
        return False
    del sys.path[0]
    return True


# While Python looks for the module that -m names, argv[0] is "-m". A numpy.py that happens to lie there is not to be run.
_left_out = sys.argv[:1] == ["-m"] and leave_out_working_directory()

from recbole_hetcomp import compat  # noqa: E402

compat.install()
if _left_out:  # a user's package that imports this one may be what -m names
    sys.path.insert(0, os.getcwd())
