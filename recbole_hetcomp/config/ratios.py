"""Settings that follow the data: `weight_decay: 0.05 / (users + items)`, `train_batch_size: interactions / 64`.

A loss is a mean over its batch, so the gradient of a row is its share of the interactions: one in the number of rows, on
average. An L2 penalty pulls at every row alike. To keep the two in balance on data of any size, the penalty goes with
1 / rows. Small students on sparse data want more; for them 1 / interactions was the better rule (results/training.md). A
batch that is a part of the interactions gives an epoch equally many updates everywhere, so patience means the same.
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
        above: a number, or a count: users and items of the whole data, (users + items), interactions of the training part
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
