"""Reading a yaml file of settings: plain data of a bounded size, each setting once; whatever else it holds is a sentence.

The file comes from outside. Its nodes are looked at before anything is made of them: an alias may stand for itself, or,
in a few lines, for billions of values.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml

from recbole_hetcomp.config.errors import UserError, shown

Load = Callable[[str], yaml.SafeLoader]  # a loader of yaml texts: its class

MOST_BYTES = 200_000
MOST_VALUES = 20_000  # of a file, those behind an alias counted each time it is used
TAGS = {f"tag:yaml.org,2002:{kind}" for kind in ("null", "bool", "int", "float", "str", "seq", "map", "merge", "value")}
DATE, TEXT = "tag:yaml.org,2002:timestamp", "tag:yaml.org,2002:str"


def read_yaml(path: Path, load: Load) -> Any:
    """What a yaml file holds, as `load` reads numbers; a date is a text, since no setting is a date.

    Raises:
        UserError: it cannot be read, is no yaml, too large, too deep, or names a setting twice.
    """
    try:
        if path.stat().st_size > MOST_BYTES:
            raise UserError(f"config_files: {shown(path)} is no file of settings, since it has over {MOST_BYTES:,} bytes")
        return deepcopy(_checked(path.read_text(encoding="utf-8-sig"), path, load))
    except RecursionError as error:
        raise UserError(f"config_files: {shown(path)} nests its values too deep; write them in fewer levels") from error
    except OSError as error:
        raise UserError(f"config_files: {shown(path)} cannot be read ({error.strerror}); correct the path") from error
    except UserError:
        raise
    except (yaml.YAMLError, ValueError) as error:  # and a text of another encoding, or a number of thousands of digits
        reason = " ".join(str(error).replace('in "<unicode string>", ', "").split())
        raise UserError(f"config_files: {shown(path)} is not valid yaml: {reason[:200]}; correct it there") from error


def parsed(text: str, load: Load) -> Any:
    """What the text of a yaml file holds that comes with RecBole, this package or a plug-in: nothing of it is checked."""
    return deepcopy(_parsed(text, load))


# A run makes a dozen Configs of the same files, and to parse one takes longer than to copy what it holds.
@lru_cache(maxsize=256)
def _parsed(text: str, load: Load) -> Any:
    return load(text).get_single_data()


@lru_cache(maxsize=256)
def _checked(text: str, path: Path, load: Load) -> Any:
    """What the text of the file `path` holds, after a look at its nodes."""
    loader = load(text)
    node = loader.get_single_node()
    if node is None:
        return None
    _Nodes(path).count(node)
    return loader.construct_document(node)


def read_settings(path: Path, load: Load) -> dict[str, Any]:
    """`read_yaml` of a file of `key: value` lines; raises a UserError for one that holds something else."""
    found = read_yaml(path, load)
    if not isinstance(found, dict):
        raise UserError(f"config_files: {shown(path)} holds no `key: value` lines; fill it in or leave it out")
    unnamed = [key for key in found if not isinstance(key, str)]
    if unnamed:
        raise UserError(f"config_files: {shown(path)} has {shown(unnamed[0])} in the place of a setting's name; correct it")
    return found


class _Nodes:
    """Walks the nodes of a yaml file.

    Args:
        path: the file, for the sentence
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.values: dict[int, int] = {}  # node -> how many values it stands for; 0 while it is being counted

    def count(self, node: yaml.Node) -> int:
        """How many values there are in a node; raises a UserError for what no file of settings has."""
        if id(node) in self.values:
            if not self.values[id(node)]:
                self._refuse(node, "is an alias of what it stands in", "write the value out")
            return self.values[id(node)]
        self.values[id(node)] = 0
        if node.tag == DATE:
            node.tag = TEXT
        if node.tag not in TAGS:
            self._refuse(node, f"has the tag {shown(node.tag)}", "write a plain value")
        parts = node.value if isinstance(node, yaml.CollectionNode) else []
        if isinstance(node, yaml.MappingNode):
            self._refuse_twice(node)
            parts = [part for pair in node.value for part in pair]
        found = 1 + sum(map(self.count, parts))
        if found > MOST_VALUES:
            self._refuse(node, f"stands for over {MOST_VALUES:,} values", "write fewer, or fewer aliases of aliases")
        self.values[id(node)] = found
        return found

    def _refuse_twice(self, node: yaml.MappingNode) -> None:
        seen = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.value != "<<":
                if key.value in seen:
                    self._refuse(key, f"names {shown(key.value)} a second time", "leave one of the two out")
                seen.add(key.value)

    def _refuse(self, node: yaml.Node, what: str, remedy: str) -> None:
        line = node.start_mark.line + 1
        raise UserError(f"config_files: line {line} of {shown(self.path)} {what}; {remedy}")
