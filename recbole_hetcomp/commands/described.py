"""The methods and models as their classes describe themselves: name, claim, source, loss, what they learn from.

A module's docstring begins with "Name: claim." and has a paragraph "Source: ... address"; the class's begins with the loss.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from inspect import cleandoc

from recbole_hetcomp.config.registry import get_model, is_distilled, predicts_clicks, properties_dir
from recbole_hetcomp.model.embedding_student import EmbeddingStudent

FIRST = "HetCompStudent"
KINDS = ("lists", "lists and scores", "scores", "vectors", "clicks", "what its methods need", "")  # in this order


@dataclass(frozen=True)
class Method:
    """What a class says of itself.

    Attributes:
        name: of the class
        claim: what the module's docstring says in its first sentences
        paper: a markdown link, with the venue behind it
        loss: the equation in the class's docstring, or nothing
        kind: what it learns from, one of KINDS; nothing for a model that learns alone
    """

    name: str
    claim: str
    paper: str
    loss: str
    kind: str


def shipped() -> list[str]:
    """Names of all models that this package brings."""
    return sorted(path.stem for path in properties_dir().glob("model/*.yaml"))


def described(names: Sequence[str]) -> list[Method]:
    """The methods of these names: HetComp first, then by what they learn from, then by name."""
    found = [described_by_class(name) for name in names]
    return sorted(found, key=lambda method: (method.name != FIRST, KINDS.index(method.kind), method.name))


def described_by_class(name: str) -> Method:
    """A method from the docstrings of its module and class.

    Raises:
        ValueError: the module's docstring does not begin with the name, or has no source with an address.
    """
    model = get_model(name)
    text = cleandoc(sys.modules[model.__module__].__doc__ or "")
    claim = re.match(rf"{name}: (.*?)(?:\n\n|\Z)", text, re.DOTALL)
    source = re.search(r"^Source: (.*?)(?:\n\n|\Z)", text, re.DOTALL | re.MULTILINE)
    if claim is None or source is None:
        raise ValueError(f"{model.__module__}: the docstring needs a first line '{name}: claim.' and 'Source: ..., address'")
    equation = cleandoc(model.__doc__ or "").splitlines()[0] if model.__doc__ else ""
    loss = equation.rstrip(".").replace("`", "") if equation.startswith("L = ") else ""
    return Method(name, " ".join(claim[1].split()).rstrip("."), paper(source[1]), loss, _kind(model))


def paper(source: str) -> str:
    """A source's title, or its authors where it has none, as a link to the first address, and the venue.

    Raises:
        ValueError: there is no address.
    """
    text = " ".join(source.split())
    found = re.search(r"https?://[^\s;]*[^\s;.,)]", text)
    if found is None:
        raise ValueError(f"a source without an address: {text!r}")
    before = text[: found.start()].rstrip(" ,(")
    quoted = re.search(r'"([^"]+)"(.*)$', before)
    return f"[{quoted[1]}]({found[0]}){quoted[2]}" if quoted else f"[{before}]({found[0]})"


def _kind(model: type) -> str:
    if not is_distilled(model):
        return ""
    if predicts_clicks(model):
        return "clicks"
    if issubclass(model, EmbeddingStudent):
        return "vectors"
    needs = vars(model).get("needs")
    if needs is None:
        return "what its methods need"
    return " and ".join(word for word, needed in (("lists", needs.trajectories), ("scores", needs.scores)) if needed)
