"""Settings that follow the data: `weight_decay: 0.05 / (users + items)`, `train_batch_size: interactions / 64`.

Adam with an L2 penalty decays every row of a table at every update, while an interaction moves its two rows at the updates
of its own batch alone. The more rows there are, the more one decay counts against the interactions: what suits 2,600 rows
makes 27,000 forget. So a decay is given for all rows together, and a batch as a part of an epoch.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

NUMBER = r"\d+(?:\.\d+)?(?:e[-+]?\d+)?"
QUANTITY = r"users|items|interactions|\(users \+ items\)"
RATIO = re.compile(rf"({NUMBER}|{QUANTITY}) ?/ ?({NUMBER}|{QUANTITY})")


@dataclass(frozen=True)
class Ratio:
    """A quotient of numbers and of counts of the data.

    Attributes:
        above: a number, or the name of a count: users, items, interactions or (users + items), all of the training part
        below: likewise
    """

    above: str
    below: str

    @classmethod
    def read(cls, text: object) -> Ratio | None:
        """The ratio that a setting's value spells; None where it spells none."""
        found = RATIO.fullmatch(text.strip()) if isinstance(text, str) else None
        if found is None or (re.fullmatch(NUMBER, found[2]) and not float(found[2])):
            return None
        return cls(*found.groups())

    def of(self, counts: Mapping[str, int]) -> float:
        """Its value for `counts` of users, items and interactions."""
        quotient = _value(self.above, counts) / max(_value(self.below, counts), 1e-30)
        return float(f"{quotient:.4g}")  # so that a log names the value that is used


def _value(term: str, counts: Mapping[str, int]) -> float:
    if term == "(users + items)":
        return counts["users"] + counts["items"]
    return counts[term] if term in counts else float(term)
