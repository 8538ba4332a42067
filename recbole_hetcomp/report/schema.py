"""What records hold: the forms of docs/report.md, by which each file is checked before a number of it is used."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Union

from recbole_hetcomp.config.records import Kind, is_count, is_number, read_record

VERSION = 2
LONGEST = 100_000  # entries of a list
Form = Union[Kind, Mapping[str, Any]]  # a kind, or the entries of a dict


def is_text(value: object) -> bool:
    """A text that is no document."""
    return isinstance(value, str) and len(value) <= 20_000


def is_flag(value: object) -> bool:
    """True or False."""
    return isinstance(value, bool)


def maybe(form: Form) -> Kind:
    """Nothing, or what fits the form."""
    kind = fits(form)
    return lambda value: value is None or kind(value)


def many(form: Form) -> Kind:
    """A list, which may be empty, of what fits the form."""
    kind = fits(form)
    return lambda values: isinstance(values, list) and len(values) <= LONGEST and all(map(kind, values))


def by_name(form: Form) -> Kind:
    """A dict with any names, whose values fit the form."""
    kind = fits(form)
    return lambda values: isinstance(values, dict) and all(isinstance(key, str) and kind(values[key]) for key in values)


def fits(form: Form) -> Kind:
    """The kind of what has all entries of the form; others are nobody's concern. One named `?x` may be missing."""
    if not isinstance(form, Mapping):
        return form
    kinds = {name: fits(part) for name, part in form.items()}

    def is_one(value: object) -> bool:
        return isinstance(value, dict) and all(_fits(value, name, kind) for name, kind in kinds.items())

    return is_one


def _fits(value: Mapping[str, object], name: str, kind: Callable[[object], bool]) -> bool:
    return kind(value[name.lstrip("?")]) if name.lstrip("?") in value else name.startswith("?")


def read(path: Path, form: Mapping[str, Any], remedy: str) -> dict[str, Any]:
    """What a file holds, checked.

    Raises:
        UserError: it cannot be read, or an entry is missing or of another kind; `remedy` ends the sentence.
    """
    kinds = {name: fits(part) for name, part in form.items() if not name.startswith("?")}
    return read_record(path, kinds, remedy)


NUMBERS = many(maybe(is_number))
CURVES: dict[str, Form] = {
    "metric": is_text,
    "larger_is_better": is_flag,
    "at_start": maybe(is_number),
    "epochs": many({"epoch": is_count, "loss": NUMBERS, "seconds": is_number}),
    "validations": many(
        {
            "epoch": is_count,
            "score": maybe(is_number),
            "phase": is_text,
            "?seconds": is_number,
            "?may_stop": is_flag,
            "?stages": NUMBERS,
            "?distances": many(NUMBERS),
        }
    ),
    "teachers": many({"name": is_text, "epochs": many(is_count), "scores": NUMBERS}),
}
ABOUT: dict[str, Form] = {
    "version": lambda value: value == VERSION and type(value) is int,
    "made": is_text,
    "command": is_text,
    "dataset": {
        "name": is_text,
        "users": is_count,
        "items": is_count,
        "parts": by_name(is_count),
        "split": is_text,
        "fingerprint": is_text,
    },
    "versions": by_name(is_text),
    "machine": by_name(is_text),
    "settings": by_name(lambda value: True),
    "valid_metric": is_text,
    "larger_is_better": is_flag,
}
DIFFERENCE: dict[str, Form] = {
    "mean": is_number,
    "low": maybe(is_number),
    "high": maybe(is_number),
    "p": is_number,
    "?won": is_number,
    "?lost": is_number,
    "?tied": is_number,
}
SHARES = {"mean_popularity": is_number, "gini": is_number, "coverage": is_number, "tail": is_number}
# Of models that rank the first and the third, of those that predict clicks the others.
COSTS: dict[str, Form] = {
    f"?{name}": maybe(is_number) for name in ("size_mb", "multiply_adds", "ms_per_1000_users", "ms_per_1000")
}
TESTED: dict[str, Form] = {"what": lambda value: value in ("users", "rows"), "count": is_count}
ROW: dict[str, Form] = {
    "role": is_text,
    "model": is_text,
    "metrics": by_name(maybe(is_number)),
    "params": maybe(is_count),
    **COSTS,
    "?fidelity": maybe(is_number),
    "?trials": maybe(is_count),
    "?popularity": maybe(SHARES),
}
FORMS: dict[str, dict[str, Form]] = {
    "run": {
        **ABOUT,
        "model": is_text,
        "seed": is_count,
        "checkpoint": is_text,
        "tested": TESTED,
        "smaller": many(is_text),
        "rows": many(ROW),
        "curves": maybe(CURVES),
        "against": by_name(by_name(DIFFERENCE)),
        "popularity": maybe({"k": is_count, "interactions": SHARES}),
        "doubts": many(is_text),
    },
    "benchmark": {
        **ABOUT,
        "tested": TESTED,
        "smaller": many(is_text),
        "rows": many(
            {
                "model": is_text,
                "seeds": many(is_count),
                "metrics": by_name(many(maybe(is_number))),
                "params": is_count,
                **COSTS,
                "train_seconds": many(is_number),
                "epochs": many(is_count),
                "trials": is_count,
                "against": by_name(DIFFERENCE),
                "intervals": by_name({"mean": is_number, "low": maybe(is_number), "high": maybe(is_number)}),
                "curves": many(maybe(CURVES)),
                "?settings": by_name(lambda value: True),
            }
        ),
    },
    "teacher_search": {
        **ABOUT,
        "searches": by_name(
            {
                "settings": by_name(lambda value: True),
                "score": is_number,
                "first_score": maybe(is_number),
                "seconds": is_number,
                "ended_early": is_count,
                "space": by_name(is_text),
                "trials": many(
                    {
                        "trial": is_count,
                        "state": is_text,
                        "score": maybe(is_number),
                        "settings": by_name(lambda value: True),
                        "?seconds": is_number,
                    }
                ),
            }
        ),
    },
    "student_search": {
        **ABOUT,
        "budget": is_text,
        "ranked": many(
            {
                "model": is_text,
                "settings": by_name(lambda value: True),
                "parameters": is_count,
                "milliseconds": maybe(is_number),
                "relation": is_number,
                "semantic": is_number,
                "score": is_number,
            }
        ),
    },
}
