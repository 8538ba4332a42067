"""`make_split` under the name by which README introduced it; it lives in `recbole_hetcomp.data.split`."""

from __future__ import annotations

from recbole_hetcomp.data.split import Split, make_split

__all__ = ["Split", "make_split"]
