"""`hetcomp models` and `hetcomp settings`: what there is, and what can be set, from docstrings and declarations."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import yaml

from recbole_hetcomp.commands.described import FIRST, Method, described, shipped
from recbole_hetcomp.config import Config
from recbole_hetcomp.config.declarations import Declaration, declarations_in
from recbole_hetcomp.config.errors import shorter
from recbole_hetcomp.config.registry import RECBOLE, get_model, known_models, properties_dir, properties_of
from recbole_hetcomp.console import Table, print_table

WHEN = {  # by what a method learns from
    "lists": "any teachers, files of ranked lists too",
    "lists and scores": "teachers are models or files of vectors",
    "scores": "teachers are models or files of vectors",
    "vectors": "teachers are models or files of vectors",
    "clicks": "context-aware models as teachers and as the student; clicks are predicted, nothing is ranked",
    "what its methods need": "several methods at once",
}
KINDS = ("general", "sequential", "context_aware")  # of RecBole's models that can teach and learn
LONGEST = 60  # characters of a value
THEIR_LINE = re.compile(r"(\w+):.*?#\s*\(([^)]*)\)\s*(.*)")


def show_models() -> None:
    """Print what each model is for, and when to take it: ours a line each, RecBole's a line a kind."""
    print_table("models", models_table())
    print(
        f"\n{FIRST} is the method to try first. `--student=NAME` chooses the student, `--teachers=\"['NAME','NAME']\"` the "
        "teachers. Of one model: hetcomp settings NAME"
    )


def models_table() -> Table:
    """Methods first, in the order of docs/methods.md, then the models that learn alone, then RecBole's."""
    rows = [[method.name, _role(method), method.claim, _when(method)] for method in described(shipped())]
    for kind in KINDS:
        names = _of_recbole(kind)
        rows.append(
            [
                f"RecBole's {len(names)} {kind.replace('_', '-')} models",
                "teacher, student",
                ", ".join(names),
                "any that you know to be good",
            ]
        )
    return Table(["model", "role", "what it is for", "when"], rows, n_left=4)


def _role(method: Method) -> str:
    return "method" if method.kind else "student, teacher"


def _when(method: Method) -> str:
    """When to take it, from what its class has."""
    model = get_model(method.name)
    if method.kind:
        sequential = "sequential" in getattr(model, "families", ())
        return WHEN[method.kind] + ("; sequential students too" if sequential else "")
    defaults = declarations_in(properties_dir() / "distillation.yaml")
    facts = [
        ("the student, unless another is named", method.name == defaults["student"].value),
        ("a teacher, unless others are named", method.name in yaml.safe_load(defaults["teachers"].value)),
        ("new users, by their histories", hasattr(model, "encode")),
        ("scores are inner products, which any vector index serves", hasattr(model, "vectors")),
    ]
    return "; ".join(text for text, holds in facts if holds)


def _of_recbole(kind: str) -> list[str]:
    """Names of RecBole's models of a kind; none of them is imported for it."""
    folder = RECBOLE / "model" / f"{kind}_recommender"
    return sorted(name for name in known_models() if (folder / f"{name.lower()}.py").is_file())


def show_settings(model: str, dataset: str | None, files: Sequence[str] | None, arguments: Sequence[str]) -> None:
    """Print all settings of a model: value under these files and arguments, what it may be, what it means.

    Raises:
        UserError: there is no such model; a file or an argument cannot be read.
    """
    config = Config(model, dataset, files, arguments=arguments)
    print_table(f"settings of {config.model}, its own first", settings_table(config))


def settings_table(config: Config) -> Table:
    """A row a setting, those of the nearest file first: the model's, its student's, all methods', RecBole's."""
    rows: dict[str, list[str]] = {}
    for key, kind, meaning in _declared(config):
        if key not in rows and key in config:
            given = "given" if config.given(key) else ""
            rows[key] = [key, _written(config[key]), kind, given, meaning]
    return Table(
        ["setting", "value", "type", "by you", "meaning"], list(rows.values()), n_left=5, dispensable=["by you", "type"]
    )


def _declared(config: Config) -> Iterator[tuple[str, str, str]]:
    """(name, type, meaning) of each setting that some yaml file declares, the nearest file first."""
    theirs = properties_of(config.model)
    if theirs is not None and theirs.is_relative_to(RECBOLE):
        yield from _in_recboles_words(theirs)
    for path in reversed(config.declaring_files()):
        for declared in declarations_in(path).values():
            yield declared.key, _kind(declared), declared.meaning


def _in_recboles_words(path: Path) -> Iterator[tuple[str, str, str]]:
    """What a yaml file of RecBole's says of its settings; its types follow no grammar."""
    for line in filter(None, map(THEIR_LINE.match, path.read_text(encoding="utf-8").splitlines())):
        yield line[1], line[2], line[3].strip()


def _kind(declared: Declaration) -> str:
    kind = declared.kind
    words = f": {', '.join(kind.words)}" if kind.words else ""
    bounds = " and".join(f" {sign} {bound}" for sign, bound in kind.bounds)
    end = " or ~" if kind.optional else " or ratio" if kind.ratio else ""
    return f"{'list of ' if kind.many else ''}{kind.base}{bounds}{words}{end}"


def _written(value: object) -> str:
    """A value as the command line takes it."""
    return "~" if value is None else shorter(str(value), LONGEST).replace("|", "\\|")
