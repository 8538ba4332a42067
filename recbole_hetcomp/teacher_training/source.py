"""The source that a training runs: when it changes, what is cached of it is made anew.

From a few modules the import statements are followed, as the files have them. This package's own modules count, those of a
plug-in's package, and all that is not installed: files beside a user's script or in a project of theirs. Of RecBole its
version counts, and nothing of other installed packages. Comments, docstrings and layout count for nothing.

- A package's `__init__` is taken as a list of names: `from package import name` leads to the module that defines the name
  alone, so that an edited loss concerns those who import it and not all who import some loss.
- `config` is not followed: it ends in settings and in classes, and both count themselves. Nor is `console`, which shows
  what is done.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import json
import os
import sys
import sysconfig
import tokenize
from collections.abc import Collection, Iterable, Iterator
from functools import cache
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import NamedTuple

OURS, RECBOLE = "recbole_hetcomp", "recbole"
NOT_FOLLOWED = (f"{OURS}.config.", f"{OURS}.console.")
INSTALLED = {"site-packages", "dist-packages"}  # folders of what is installed
STANDARD = Path(sysconfig.get_path("stdlib")).resolve()


class Source(NamedTuple):
    """The text of a module, whether it is a package's `__init__`, and the package that relative imports start from."""

    text: str
    is_package: bool = False
    package: str = ""


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


def source_of(module: str) -> Source | None:
    """The source of a module as its file has it now, None where there is none."""
    spec = _spec(module)
    path = spec.origin if spec is not None and spec.has_location else getattr(sys.modules.get(module), "__file__", None)
    is_package = spec is not None and spec.submodule_search_locations is not None
    package = spec.parent or "" if spec is not None else ""
    if path is None or not path.endswith((".py", ".pyw")) or not os.path.isfile(path):
        return Source("", True, package) if is_package and path is None else None  # a package need not have an `__init__`
    stat = os.stat(path)
    return Source(_text(path, stat.st_mtime_ns, stat.st_size), is_package, package)


def is_standard(module: str) -> bool:
    """Whether a module is of Python's own library; `sys.stdlib_module_names` says it from Python 3.10 on."""
    top = module.partition(".")[0]
    spec = None if top == "__main__" else _spec(top)
    if spec is None or spec.origin is None:
        return False
    path = Path(spec.origin).resolve()
    return spec.origin in ("built-in", "frozen") or (path.is_relative_to(STANDARD) and not INSTALLED & {*path.parts})


def _spec(module: str) -> ModuleSpec | None:
    """Where a module is found. Nothing is imported but the packages that it is in."""
    try:
        return importlib.util.find_spec(module)
    except (ImportError, ValueError):  # its parent is no package; a script has no spec
        return None


@cache
def _text(path: str, _mtime: int, _size: int) -> str:
    """What a file holds, read once as long as its time and size stay."""
    with tokenize.open(path) as file:
        return file.read()


def _is_followed(module: str, packages: Collection[str]) -> bool:
    """Whether a module is of one of `packages`, or of none that is installed."""
    top = module.partition(".")[0]
    if top in packages:
        return True
    spec = None if top == RECBOLE else _spec(top)
    if spec is None or not (spec.has_location or spec.submodule_search_locations):
        return False
    folders = [spec.origin] if spec.has_location and spec.origin else list(spec.submodule_search_locations or ())
    return not any(map(_is_installed, folders))


@cache
def _is_installed(folder: str) -> bool:
    path = Path(folder).resolve()
    return bool(INSTALLED & {*path.parts}) or path.is_relative_to(STANDARD)


def _own_source(modules: Iterable[str]) -> dict[str, str]:
    sources = {module: source_of(module) for module in modules}
    for module, source in sources.items():
        if source is None:
            raise LookupError(f"module {module!r} has no source file")
    return {module: _read(source.text).code for module, source in sources.items() if source is not None}


def _imports(module: str, packages: Collection[str]) -> Iterator[str]:
    """The modules that are followed from which a module takes what it imports."""
    source = source_of(module)
    assert source is not None, module
    for imported, name, _ in _absolute(source):
        if not f"{imported}.{name}.".startswith(NOT_FOLLOWED) and _is_followed(imported, packages):
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
        for imported, theirs, bound in _absolute(source) if source is not None and name != "*" else ():
            if bound == name and imported != module:
                return _home(imported, theirs)
    return None if source is None else module


def _absolute(source: Source) -> Iterator[tuple[str, str, str]]:
    """(full name of a module, name taken from it or "", name given to it) for each import of a source."""
    parts = source.package.split(".")
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
