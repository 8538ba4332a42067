"""RecBole's inner loops over the rows of a batch, with the same results to the last bit, but faster."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Optional, Union

import numpy as np
import torch
from recbole.data.dataloader.abstract_dataloader import AbstractDataLoader
from recbole.data.dataloader.general_dataloader import FullSortEvalDataLoader
from recbole.data.interaction import Interaction
from recbole.evaluator.collector import Collector
from recbole.model.loss import EmbLoss
from recbole.sampler.sampler import AbstractSampler
from torch.optim import Adam
from torch.utils.data import BatchSampler, RandomSampler, SequentialSampler

if TYPE_CHECKING:
    from recbole.model.sequential_recommender import BERT4Rec

FullSortBatch = tuple[Interaction, Optional[tuple[torch.Tensor, torch.Tensor]], torch.Tensor, torch.Tensor]
Ids = Union[Sequence[int], np.ndarray, torch.Tensor]

KEY_BITS = 32  # of a value's id beside its key's in one int64


def rows_of_interaction(self: Interaction, index: object) -> Interaction | torch.Tensor:
    """`Interaction.__getitem__` with one index for all columns, where RecBole reads a Python list for each of them."""
    if isinstance(index, str):
        return self.interaction[index]
    if isinstance(index, np.ndarray):
        index = torch.from_numpy(index.astype(np.int64)) if index.ndim == 1 and index.dtype.kind in "iu" else index.tolist()
    if isinstance(index, torch.Tensor):
        if index.dim() == 1 and index.dtype in (torch.int64, torch.int32):
            rows = index.long()
            return Interaction({name: column[rows.to(column.device)] for name, column in self.interaction.items()})
        index = index.tolist()
    return Interaction({name: column[index] for name, column in self.interaction.items()})


def sampling_by_sorted_pairs(stock: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
    """`AbstractSampler.sample_by_key_ids` that draws the same [len(key_ids) * num] int64, by sorted pairs, not by sets."""

    def sample_by_key_ids(self: AbstractSampler, key_ids: Ids, num: int) -> torch.Tensor:
        keys = np.array(key_ids)
        if (keys == keys[0]).all() or keys.min() < 0 or keys.max() >= len(self.used_ids):  # the last two end in its error
            return stock(self, key_ids, num)
        keys = np.tile(keys.astype(np.int64), num) << KEY_BITS
        values, open_places, used = np.zeros(len(keys), dtype=np.int64), np.arange(len(keys)), used_pairs(self)
        while len(open_places):
            values[open_places] = self.sampling(len(open_places))
            open_places = open_places[_are_in(keys[open_places] | values[open_places], used)]
        return torch.tensor(values, dtype=torch.long)

    return sample_by_key_ids


def used_pairs(sampler: AbstractSampler) -> np.ndarray:
    """[N] int64, sorted: the (key, value) pairs that a sampler must not draw; kept until it is given others."""
    found, pairs = vars(sampler).get("_sorted_pairs", (None, None))
    if pairs is None or found is not sampler.used_ids:
        counts = [len(values) for values in sampler.used_ids]
        keys = np.repeat(np.arange(len(counts), dtype=np.int64), counts) << KEY_BITS
        values = np.fromiter((value for values in sampler.used_ids for value in values), np.int64, len(keys))
        pairs = np.sort(keys | values)
        sampler._sorted_pairs = (sampler.used_ids, pairs)
    return pairs


def _are_in(pairs: np.ndarray, ascending: np.ndarray) -> np.ndarray:
    if not len(ascending):
        return np.zeros(len(pairs), dtype=bool)
    places = np.searchsorted(ascending, pairs)
    return ascending[np.minimum(places, len(ascending) - 1)] == pairs


class Places:
    """The row numbers 0 to n - 1, as a loader's data set: a batch of them comes as one array. Pickled as RecBole's list."""

    def __init__(self, n: int) -> None:
        self.n = n

    def __len__(self) -> int:
        return self.n

    def __getitem__(self, place: int) -> int:
        return range(self.n)[place]

    def __getitems__(self, places: Sequence[int]) -> np.ndarray:
        return np.asarray(places)

    def __reduce__(self) -> tuple[type[list], tuple[range]]:
        return list, (range(self.n),)


class BatchesOfPlaces:
    """torch's BatchSampler, but [<= size] int64 arrays; pickled as it.

    The sampler is read as far as the batch at hand, no farther: a loop may end early, and what a sampler draws at its own
    end must then stay undrawn.
    """

    def __init__(self, sampler: RandomSampler | SequentialSampler, size: int) -> None:
        self.sampler, self.batch_size, self.drop_last = sampler, size, False

    def __len__(self) -> int:
        return -(-len(self.sampler) // self.batch_size)

    def __iter__(self) -> Iterator[np.ndarray]:
        places = iter(self.sampler)
        while len(batch := np.fromiter(islice(places, self.batch_size), np.int64)):
            yield batch

    def __reduce__(self) -> tuple[type[BatchSampler], tuple[object, ...]]:
        return BatchSampler, (self.sampler, self.batch_size, self.drop_last)


def loading_by_arrays(stock: Callable[..., None]) -> Callable[..., None]:
    """`AbstractDataLoader.__init__`, after which batches come as int64 arrays of row numbers instead of lists.

    torch calls a loader's parts constant once it is made, so they are changed beneath its `__setattr__`.
    """

    def make(self: AbstractDataLoader, *arguments: object, **settings: object) -> None:
        stock(self, *arguments, **settings)
        if type(self.sampler) in (RandomSampler, SequentialSampler):
            batches = BatchesOfPlaces(self.sampler, self.batch_size)
            vars(self).update(dataset=Places(self.sample_size), batch_sampler=batches)

    return make


def users_of_full_sort(stock: Callable[..., FullSortBatch]) -> Callable[..., FullSortBatch]:
    """`FullSortEvalDataLoader.collate_fn` that gives the same batch of users from a few tensors for all of them."""

    def collate_fn(self: FullSortEvalDataLoader, index: Sequence[int]) -> FullSortBatch:
        if self.is_sequential:
            return stock(self, index)
        user_df = self.user_df[np.array(index)]
        users = user_df[self.uid_field].numpy()
        (history_u, history_i), (positive_u, positive_i) = (
            _side_by_side(lists[users]) for lists in (self.uid2history_item, self.uid2positive_item)
        )
        return user_df, (history_u, history_i), positive_u, positive_i

    return collate_fn


def _side_by_side(lists: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
    """[B] of tensors -> the places in it and the values, of all tensors together."""
    lengths = torch.tensor([len(values) for values in lists])
    return torch.repeat_interleave(torch.arange(len(lists)), lengths), torch.cat(list(lists))


def adam_in_one_pass(params: Iterable[torch.Tensor | dict[str, object]], **settings: object) -> Adam:
    """torch's Adam, on a CPU in its fused form: one pass over the parameters a step, where the plain one takes ten.

    A table of 50,000 rows of 64 numbers takes 5 ms instead of 60. The two differ in how they round.
    """
    optimizer = Adam(params, **settings)  # type: ignore[arg-type]
    every = [param for group in optimizer.param_groups for param in group["params"]]
    if all(param.device.type == "cpu" and param.is_floating_point() for param in every):
        groups = [{**group, "fused": True} for group in optimizer.param_groups]
        return Adam(groups, fused=True, **settings)  # type: ignore[arg-type]
    return optimizer


def collecting_top_items(stock: Callable[..., None]) -> Callable[..., None]:
    """`Collector.eval_batch_collect` that looks the top items up among the positive ones, without a users x items matrix."""

    def eval_batch_collect(
        self: Collector, scores: torch.Tensor, interaction: Interaction, users: torch.Tensor, items: torch.Tensor
    ) -> None:
        if any(map(self.register.need, ("rec.meanrank", "rec.score", "data.label"))):
            stock(self, scores, interaction, users, items)
            return
        if any(map(self.register.need, ("rec.items", "rec.topk"))):
            top = scores.topk(max(self.topk), dim=-1).indices
        if self.register.need("rec.items"):
            self.data_struct.update_tensor("rec.items", top)
        if self.register.need("rec.topk"):
            n_users, n_items = scores.shape
            pairs = (users.to(scores.device) * n_items + items.to(scores.device)).unique()
            rows = torch.arange(n_users, device=scores.device)[:, None] * n_items
            counts = torch.bincount(pairs // n_items, minlength=n_users)
            found = torch.cat((torch.isin(rows + top, pairs), counts[:, None]), dim=1)
            self.data_struct.update_tensor("rec.topk", found.long())

    return eval_batch_collect


def norm_of_embeddings(self: EmbLoss, *embeddings: torch.Tensor, require_pow: bool = False) -> torch.Tensor:
    """`EmbLoss.forward` [1] whose sum begins on the embeddings' device; RecBole's waits for the device to copy a 0 to it."""
    total = torch.zeros(1, device=embeddings[-1].device)
    for embedding in embeddings:
        norm = torch.norm(embedding, p=self.norm)
        total += torch.pow(norm, self.norm) if require_pow else norm
    total /= embeddings[-1].shape[0]
    if require_pow:
        total /= self.norm
    return total


def masked_at_the_end(self: BERT4Rec, item_seq: torch.Tensor, item_seq_len: torch.Tensor) -> torch.Tensor:
    """`BERT4Rec.reconstruct_test_data` [B, T] at once: sequences moved by a place, the mask behind the last item."""
    longer = torch.nn.functional.pad(item_seq, (0, 1))
    return longer.scatter_(1, item_seq_len[:, None], self.mask_token)[:, 1:]
