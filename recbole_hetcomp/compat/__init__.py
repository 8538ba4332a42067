"""What RecBole 1.2.1 needs on today's numpy, scipy, torch and pandas: a table, one row a repair.

`install()` runs when `recbole_hetcomp` is imported. Every row asks the installed libraries for the feature it is
about rather than for a version, changes nothing where it is not needed, and can be taken back (`uninstall()`). Outside
RecBole only missing names are added: scipy's `dok_matrix._update` and, once a Config is made, numpy's old type names.
`RECBOLE_HETCOMP_COMPAT=0` switches all rows off; a comma-separated list of names switches those off.
"""

from __future__ import annotations

import os
import platform
import warnings
from importlib import metadata

import recbole

from recbole_hetcomp.compat.pretrained import pretrained_loading
from recbole_hetcomp.compat.replacing import Repair, Undo
from recbole_hetcomp.compat.table import REPAIRS

__all__ = ["REPAIRS", "Repair", "install", "pretrained_loading", "report", "uninstall"]

WRITTEN_FOR = "1.2.1"
SWITCH = "RECBOLE_HETCOMP_COMPAT"


_status: dict[str, str] = {}
_undos: list[Undo] = []


def install() -> dict[str, str]:
    """Applies every row that is needed here, once; per row "applied", "not needed" or "skipped: reason"."""
    if not _status:
        off = _switched_off()
        for repair in REPAIRS:
            _status[repair.name] = _install(repair, off)
    return dict(_status)


def _install(repair: Repair, off: frozenset[str]) -> str:
    if repair.name in off:
        return f"skipped: switched off by {SWITCH}"
    if repair.replaces_recbole and recbole.__version__ != WRITTEN_FOR:
        return f"skipped: written for RecBole {WRITTEN_FOR}, found {recbole.__version__}"
    if not repair.needed():
        return "not needed"
    _undos.append(repair.apply())
    return "applied"


def _switched_off() -> frozenset[str]:
    value = os.environ.get(SWITCH, "").strip()
    names = frozenset(repair.name for repair in REPAIRS)
    if value == "0":
        return names
    wanted = frozenset(name.strip() for name in value.split(",") if name.strip() not in ("", "1"))
    if wanted - names:
        unknown, known = ", ".join(sorted(wanted - names)), ", ".join(sorted(names))
        warnings.warn(f"{SWITCH} names no repair: {unknown}; there are {known}", stacklevel=3)
    return wanted


def uninstall() -> None:
    """Takes every repair back, the last one first."""
    while _undos:
        _undos.pop()()
    _status.clear()


def report() -> str:
    """Versions and the state of every row, for a bug report."""
    packages = ("recbole", "torch", "numpy", "pandas", "scipy", "ray", "setuptools")
    lines = [f"python {platform.python_version()}, " + ", ".join(f"{name} {_version(name)}" for name in packages)]
    for repair in REPAIRS:
        status = _status.get(repair.name, "not installed")
        lines.append(f"{repair.name:17} {status}\n{'':17} {repair.when} [{repair.issue}]")
    return "\n".join(lines)


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "absent"
