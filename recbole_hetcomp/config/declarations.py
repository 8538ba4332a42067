"""What a setting may be, read from the comment beside it: `n_targets: 100   # (int >= 1) items a user learns`.

A kind is int, float, str, bool, dict, list, or a list of one of the first three. Bounds follow a number (`int >= 1`,
`float > 1e-8`, `float >= 0 and < 1`, `float 0..1`), the words that may be chosen follow a str (`str: list | pair`),
`or ~` ends the kind of a setting that may be nothing, and `or ratio` that of one that may follow the data (ratios.py). A
comment that begins otherwise, `# (Eq. 3) weight`, is a comment. Lines within a dict have their kind and meaning for the
reader alone: the dicts are RecBole's, which checks what is in them.
"""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import yaml

from recbole_hetcomp.config.errors import UserError, shorter, shown
from recbole_hetcomp.config.ratios import Ratio

BASES = "int|float|str|bool|dict|list"
NUMBER = r"(-?\d+(?:\.\d+)?(?:e[-+]?\d+)?)"
LINE = re.compile(rf"(?P<key>\w+):(?P<value>.*?)\s*# \((?P<kind>(?:{BASES})\b[^()]*)\)\s*(?P<meaning>.*)")
KIND = re.compile(rf"(list of )?({BASES})((?: .+?)??)(: .+?)?( or ~| or ratio)?")
BOUND = re.compile(rf"(>=|<=|>|<) {NUMBER}")
RANGE = re.compile(rf"{NUMBER}\.\.{NUMBER}")
COMPARISONS: dict[str, tuple[Callable[[float, float], bool], str]] = {
    ">=": (operator.ge, "of at least"),
    ">": (operator.gt, "above"),
    "<=": (operator.le, "of at most"),
    "<": (operator.lt, "below"),
}
NOUNS = {"bool": "True or False", "dict": "a dict of settings", "list": "a list", "str": "a name"}
NOUNS |= {"int": "a whole number", "float": "a number"}
PLURALS = {"int": "whole numbers", "float": "numbers", "str": "names"}
TYPES = {"int": (int,), "float": (int, float), "str": (str,), "bool": (bool,), "dict": (dict,), "list": (list, tuple)}


@dataclass(frozen=True)
class Kind:
    """What the values of a setting may be.

    Attributes:
        base: int, float, str, bool, dict or list
        many: whether it is a list of them, which is not empty
        bounds: comparisons that a number must pass, such as (">=", "1")
        words: those that a str is one of; none: any
        optional: whether it may be nothing
        ratio: whether it may be a ratio such as `interactions / 64`
    """

    base: str
    many: bool = False
    bounds: tuple[tuple[str, str], ...] = ()
    words: tuple[str, ...] = ()
    optional: bool = False
    ratio: bool = False

    @classmethod
    def read(cls, text: str) -> Kind:
        """The kind that a comment has in parentheses; raises a ValueError where it is none."""
        found = KIND.fullmatch(text)
        if found is None:
            raise ValueError(f"({text}) is no kind of setting")
        many, base, bounds, words, end = found.groups()
        span = RANGE.fullmatch(bounds.strip())
        parts = [BOUND.fullmatch(part) for part in bounds.strip().split(" and ")] if bounds else []
        signs = [(">=", span[1]), ("<=", span[2])] if span else [(part[1], part[2]) for part in parts if part]
        understood = (span or None not in parts) and (not bounds or base in ("int", "float"))
        if not understood or (words and base != "str") or (many and base not in PLURALS):
            raise ValueError(f"({text}) is no kind of setting")
        choices = tuple((words or ": ")[2:].split(" | ")) if words else ()
        return cls(base, bool(many), tuple(signs), choices, optional=end == " or ~", ratio=end == " or ratio")

    def fits(self, value: object) -> bool:
        """Whether a setting of this kind may have this value."""
        if value is None:
            return self.optional
        if self.ratio and Ratio.read(value):
            return True
        if self.many:
            return isinstance(value, (list, tuple)) and len(value) > 0 and all(map(self._is_one, value))
        return self._is_one(value)

    def _is_one(self, value: object) -> bool:
        if not isinstance(value, TYPES[self.base]) or isinstance(value, bool) != (self.base == "bool"):
            return False
        if isinstance(value, (int, float)):
            return math.isfinite(value) and all(COMPARISONS[sign][0](value, float(bound)) for sign, bound in self.bounds)
        if isinstance(value, str) and (not value or "\0" in value):  # no name, and none of a file
            return False
        return not self.words or value in self.words

    @property
    def sentence(self) -> str:
        """What a value of this kind is: `a whole number of at least 1`."""
        limits = " and ".join(f"{COMPARISONS[sign][1]} {bound}" for sign, bound in self.bounds)
        if [sign for sign, _ in self.bounds] == [">=", "<="]:
            limits = f"from {self.bounds[0][1]} to {self.bounds[1][1]}"
        noun = f"a list of {PLURALS[self.base]}" if self.many else NOUNS[self.base]
        example = "interactions / 64" if self.base == "int" else "0.05 / (users + items)"
        end = " or nothing" if self.optional else f" or a ratio such as {example}" if self.ratio else ""
        return f"{noun}{limits and ' ' + limits}{end}"


@dataclass(frozen=True)
class Declaration:
    """One setting, as its line in a yaml file has it.

    Attributes:
        key: its name
        value: its default, as the file writes it
        kind: what it may be
        meaning: the rest of the comment, which may be empty
    """

    key: str
    value: str
    kind: Kind
    meaning: str

    def check(self, value: object, where: str = "") -> None:
        """Raise a UserError, with `where` before its sentence, unless the setting may have this value."""
        kind = self.kind
        if kind.fits(value):
            return
        if kind.words:
            raise UserError(f"{where}{self.key}: {shown(value)} is none of {', '.join(kind.words)}")
        default = yaml.safe_load(self.value) if self.value else None
        if kind.many and kind.base == "str":
            half_a_list = isinstance(value, str) and set(value) & set("[]'\"")
            names = value.split(",") if isinstance(value, str) and not half_a_list else (default or ["one", "another"])[:2]
            example = str(names[:3]).replace(" ", "")
            raise UserError(
                f'{where}{self.key}: {shown(value)} is no list of names; write --{self.key}="{shorter(example)}"'
            )
        example = f", such as {self.value}" if default and (isinstance(default, (dict, list)) or kind.base == "str") else ""
        raise UserError(f"{where}{self.key}: {shown(value)} must be {kind.sentence}{example}")


@cache
def declarations_in(path: Path) -> dict[str, Declaration]:
    """What the yaml file `path` says of its settings, by their names; a comment that begins with no kind says nothing.

    Raises:
        UserError: a kind, such as `(int >= x)`, cannot be understood.
    """
    found = {}
    for line in filter(None, map(LINE.match, path.read_text(encoding="utf-8").splitlines())):
        key, value, kind, meaning = line.groups()
        try:
            found[key] = Declaration(key, value.strip(), Kind.read(kind), meaning)
        except ValueError as error:
            raise UserError(f"{path.name}: {key}: {error}; write (int >= 1), (float 0..1) or (str: one | other)") from error
    return found
