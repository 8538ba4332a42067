"""What was asked: RecBole's Config, what values settings may have, a name to a class, errors in one sentence."""

from __future__ import annotations

from recbole_hetcomp.config.config import Config
from recbole_hetcomp.config.derived import derive

__all__ = ["Config", "derive"]
