"""The source that a training runs: when it changes, what is cached of it is made anew.

From a few modules the import statements are followed, as the files have them. Only this package's own modules count, and
those of a plug-in's package; of RecBole its version does. Comments, docstrings and layout count for nothing.

- A package's `__init__` is taken as a list of names: `from package import name` leads to the module that defines the name
  alone, so that an edited loss concerns those who import it and not all who import some loss.
- `config` is not followed: it ends in settings and in classes, and both count themselves. Nor is `console`, which shows
  what is done.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.abc
import importlib.util
import json
import sys
import tokenize
from collections.abc import Collection, Iterable, Iterator
from functools import cache
from typing import NamedTuple

OURS = "recbole_hetcomp"
NOT_FOLLOWED = (f"{OURS}.config.", f"{OURS}.console.")


class Source(NamedTuple):
    """The text of a module, and whether it is a package's `__init__`."""

    text: str
    is_package: bool = False


def source_fingerprint(follow: Iterable[str], alone: Iterable[str] = ()) -> str:
    """sha256 of the source of the modules `follow` and of what they import, and of the modules `alone` without that.

    Args:
        follow: full names; those of other projects than this one bring in the modules of their own package
        alone: full names

    Raises:
        LookupError: one of them has no source, as a class that is typed into a notebook.
    """
    found = {**_own_source(alone), **imported_source(follow)}
    return hashlib.sha256(json.dumps(found, sort_keys=True).encode()).hexdigest()


def imported_source(modules: Iterable[str]) -> dict[str, str]:
    """Module -> source without comments and docstrings, of `modules` and of all that they import, at whatever remove.

    Raises:
        LookupError: one of `modules` has no source.
    """
    waiting = list(modules)
    found = _own_source(waiting)
    packages = {OURS, *(name.partition(".")[0] for name in waiting)}
    while waiting:
        name = waiting.pop()
        for module in _imports(name, packages):
            if module not in found:
                waiting.append(module)
                found.update(_own_source([module]))
    return found


@cache
def source_of(module: str) -> Source | None:
    """The source of a module, None where there is none; as it was when first asked for, lest an edit split a run."""
    try:
        spec = importlib.util.find_spec(module)
    except (ImportError, ValueError):  # its parent is no package; a script has no spec
        spec = None
    if spec is not None and isinstance(spec.loader, importlib.abc.InspectLoader):
        text = spec.loader.get_source(spec.name)
        return None if text is None else Source(text, spec.submodule_search_locations is not None)
    path = getattr(sys.modules.get(module), "__file__", None)
    if path is None:
        return None
    with tokenize.open(path) as file:
        return Source(file.read())


def _own_source(modules: Iterable[str]) -> dict[str, str]:
    sources = {module: source_of(module) for module in modules}
    for module, source in sources.items():
        if source is None:
            raise LookupError(f"module {module!r} has no source file")
    return {module: _read(source.text).code for module, source in sources.items() if source is not None}


def _imports(module: str, packages: Collection[str]) -> Iterator[str]:
    """The modules of `packages` from which a module takes what it imports."""
    source = source_of(module)
    assert source is not None, module
    for imported, name, _ in _absolute(module, source):
        if imported.partition(".")[0] in packages and not f"{imported}.{name}.".startswith(NOT_FOLLOWED):
            home = _home(imported, name)
            if home is not None:
                yield home


def _home(module: str, name: str) -> str | None:
    """The module that `from module import name` ends in, `module` itself where `name` is empty or is defined there.

    None for what has no source: an optional dependency that is missing, or compiled code.
    """
    source = source_of(module)
    if name and (source is None or source.is_package):
        if source_of(f"{module}.{name}") is not None:
            return f"{module}.{name}"
        for imported, theirs, bound in _absolute(module, source) if source is not None else ():
            if bound == name and imported != module:
                return _home(imported, theirs)
    return None if source is None else module


def _absolute(module: str, source: Source) -> Iterator[tuple[str, str, str]]:
    """(full name of a module, name taken from it or "", name given to it) for each import of a source."""
    parts = module.split(".") if source.is_package else module.split(".")[:-1]
    for level, imported, name, bound in _read(source.text).imports:
        base = parts[: len(parts) + 1 - level] if level else []
        yield ".".join([*base, *filter(None, [imported])]), name, bound


class _Read(NamedTuple):
    code: str
    imports: tuple[tuple[int, str, str, str], ...]  # level, module, name, the name given to it


@cache
def _read(text: str) -> _Read:
    """What of a module's text counts, and its imports."""
    tree = ast.parse(text)
    imports: list[tuple[int, str, str, str]] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            imports += [(0, alias.name, "", alias.asname or "") for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            imports += [(node.level, node.module or "", alias.name, alias.asname or alias.name) for alias in node.names]
    return _Read(ast.unparse(_WithoutText().visit(tree)), tuple(imports))


class _WithoutText(ast.NodeTransformer):
    """Drops strings that stand by themselves: docstrings, and what stands below attributes."""

    def visit_Expr(self, node: ast.Expr) -> ast.Expr | None:
        alone = isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
        return None if alone else node
