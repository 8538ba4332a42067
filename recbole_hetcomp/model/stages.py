"""What a model has computed on its way to the scores: a vector a user, or a pair of user and item, at each of its stages."""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType

from recbole.model.abstract_recommender import GeneralRecommender
from recbole.model.general_recommender import lightgcn
from torch import Tensor, nn

from recbole_hetcomp.model.general_recommender.dl import DL
from recbole_hetcomp.model.general_recommender.historyencoder import HistoryEncoder

PREFIXES = (0.25, 0.5, 0.75)  # parts of a vector that stand for stages where a model has none


class Taps:
    """Notes, inside a `with` block, what enters and leaves some modules of a model each time that it computes.

    Args:
        model: any module
        paths: the modules' names as `get_submodule` takes them, such as `layers.0`

    Attributes:
        entered: the first argument of each module at its last call, in the order of `paths`, with gradients
        left: what each module gave then, of several tensors the first
    """

    def __init__(self, model: nn.Module, paths: Sequence[str]) -> None:
        self._modules = [model.get_submodule(path) for path in paths]
        self._seen: dict[int, Tensor] = {}
        self._given: dict[int, Tensor] = {}

    def __enter__(self) -> Taps:
        def note(place: int, arguments: tuple[Tensor, ...]) -> None:
            self._seen[place] = arguments[0]

        def note_result(place: int, result: Tensor | tuple[Tensor, ...]) -> None:
            self._given[place] = result[0] if isinstance(result, tuple) else result

        self._handles = [
            module.register_forward_pre_hook(lambda _, arguments, place=place: note(place, arguments))
            for place, module in enumerate(self._modules)
        ]
        self._handles += [
            module.register_forward_hook(lambda _, __, result, place=place: note_result(place, result))
            for place, module in enumerate(self._modules)
        ]
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for handle in self._handles:
            handle.remove()

    @property
    def entered(self) -> list[Tensor]:
        """What has entered the modules."""
        return [self._seen[place] for place in range(len(self._modules))]

    @property
    def left(self) -> list[Tensor]:
        """What the modules have given."""
        return [self._given[place] for place in range(len(self._modules))]


def stages(backbone: GeneralRecommender, users: Tensor, items: Tensor) -> list[Tensor]:
    """The model's stages, first to last, with gradients: [B, d_s] of users, or [B, n, d_s] of pairs; none if it has none.

    LightGCN: the users after each propagation. HistoryEncoder: the mean of the history, and the hidden layer, where it has
    one. DL: the pairs' hidden layers.

    Args:
        backbone: the model
        users: [B] int64
        items: [B, n] int64, of pairs with the users
    """
    if isinstance(backbone, lightgcn.LightGCN):
        return _propagations(backbone, users)
    if isinstance(backbone, HistoryEncoder) and len(backbone.layers):
        with Taps(backbone, ["layers.0", "layers.2"]) as taps:
            backbone.user_vectors(users)
        return taps.entered
    if isinstance(backbone, DL):
        with Taps(backbone, [f"layers.{place}" for place in range(len(backbone.layers))]) as taps:
            backbone(users[:, None], items)
        return taps.entered
    return []


def prefixes(vectors: Tensor) -> list[Tensor]:
    """The first quarter, half and three quarters of vectors [B, d], each once and no whole one: [B, d_s] for d_s < d."""
    size = vectors.size(1)
    lengths = dict.fromkeys(max(1, round(part * size)) for part in PREFIXES)
    return [vectors[:, :length] for length in lengths if length < size]


def _propagations(backbone: lightgcn.LightGCN, users: Tensor) -> list[Tensor]:
    product = lightgcn.torch.sparse.mm  # torch's, or the faster one that stands in its place there (compat/lightgcn_rows.py)
    found, vectors = [], backbone.get_ego_embeddings()
    for _ in range(backbone.n_layers):
        vectors = product(backbone.norm_adj_matrix, vectors)
        found.append(vectors[users])
    return found
