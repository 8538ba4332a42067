"""Sequential data: a user at a point of the training sequence is a row, and rows stand in the place of users."""

from __future__ import annotations

import hashlib
from functools import cached_property

import torch
from recbole.data.dataset import Dataset, SequentialDataset
from recbole.data.interaction import Interaction
from torch import Tensor

from recbole_hetcomp.data.history import History
from recbole_hetcomp.data.views import plain


class Sequences(History):
    """Rows in the place of users: each user at the end of the training sequence, and at some earlier points of it.

    Rows 0 to n_people - 1 are the users at the end, so a row's number is its user's; further rows are earlier points. The
    items of a row are all training items of its user, whatever the point: what came later is not to be recommended either.

    Args:
        users, items: [N] the training interactions, sorted by user, each user's in the order of time
        n_people, n_items: counts, the padding id 0 among them
        points: rows of a user; those who have fewer interactions have fewer
        longest: items of a sequence that a model is given at most, the latest ones
        fields: RecBole's names of the user, of the sequence and of its length
        seed: of the drawing of the earlier points

    Attributes:
        of_user: [R] int64, the user of each row
        lengths: [R] int64, training items before the row's point
        n_people: users, the padding id among them
    """

    def __init__(
        self,
        users: Tensor,
        items: Tensor,
        n_people: int,
        n_items: int,
        *,
        points: int,
        longest: int,
        fields: tuple[str, str, str],
        seed: int,
    ) -> None:
        self.n_people, self.longest_given, self.fields = n_people, longest, fields
        self.people = History(users, items, n_people, n_items)  # a row's items are its user's: they are held once
        self.in_order = torch.cat([items.long(), torch.zeros(1, dtype=torch.int64)])  # [N + 1], the last for who has none
        counts = torch.bincount(users.long(), minlength=n_people)
        self.begins = counts.cumsum(0) - counts  # [n_people] of each user's interactions in `in_order`
        earlier = _earlier_points(counts, points - 1, torch.Generator().manual_seed(seed))  # [2, M]
        self.of_user = torch.cat([torch.arange(n_people), earlier[0]])
        self.lengths = torch.cat([counts, earlier[1]])
        self.n_users, self.n_items = len(self.of_user), n_items
        self._rows_of_users = torch.sort(self.of_user, stable=True).indices
        self._n_rows = torch.bincount(self.of_user, minlength=n_people)
        self._first_rows = self._n_rows.cumsum(0) - self._n_rows
        self._on_device: dict[torch.device, tuple[Tensor, ...]] = {}

    @classmethod
    def of_part(cls, train: SequentialDataset, points: int, seed: int) -> Sequences:
        """The rows of RecBole's sequential training part."""
        return cls.of_plain(plain(train), points, seed)

    @classmethod
    def of_whole(cls, dataset: SequentialDataset) -> Sequences:
        """Each user at the end of all interactions of a dataset that is not split."""
        return cls.of_part(dataset, points=1, seed=0)

    @classmethod
    def of_plain(cls, train: Dataset, points: int, seed: int) -> Sequences:
        """The rows of interactions that are in order already, as `plain` makes them."""
        field = train.uid_field, train.iid_field
        config = train.config
        sequence = field[1] + config["LIST_SUFFIX"]
        return cls(
            train.inter_feat[field[0]],
            train.inter_feat[field[1]],
            train.user_num,
            train.item_num,
            points=points,
            longest=int(config["MAX_ITEM_LIST_LENGTH"]),
            fields=(field[0], sequence, config["ITEM_LIST_LENGTH_FIELD"]),
            seed=seed,
        )

    @cached_property
    def fingerprint(self) -> str:
        """sha256 of what a model can be asked: the rows' users and lengths, the items in order, and how many are given."""
        digest = hashlib.sha256(torch.stack([self.of_user, self.lengths]).numpy().tobytes())
        digest.update(self.in_order.numpy().tobytes())
        digest.update(str(self.longest_given).encode())
        return digest.hexdigest()

    # ---- what a History has, of rows ----------------------------------------------------------------------------------

    @cached_property
    def counts(self) -> Tensor:  # type: ignore[override]
        """[R] int64: the different training items of each row's user."""
        return self.people.counts[self.of_user]

    @cached_property
    def starts(self) -> Tensor:  # type: ignore[override]
        """[R] int64: where a row's begin in `items`."""
        return self.counts.cumsum(0) - self.counts

    @cached_property
    def items(self) -> Tensor:
        """[P] int64, row by row: made for who asks, since many rows have a user's items over and over."""
        within = torch.arange(int(self.counts.sum())) - self.starts.repeat_interleave(self.counts)
        return self.people.items[self.people.starts[self.of_user].repeat_interleave(self.counts) + within]

    @cached_property
    def popularity(self) -> Tensor:
        """[n_items] int64: the users, not the rows, that have each item in training."""
        return self.people.popularity

    @cached_property
    def pairs(self) -> Tensor:
        """[P] int64, sorted: row * n_items + item; made for who asks."""
        return torch.arange(self.n_users).repeat_interleave(self.counts) * self.n_items + self.items

    def padded(self, users: Tensor) -> Tensor:
        """[B, H] int64: the training items of the users of the rows `users` [B], filled up with 0."""
        return self.people.padded(self.users_of(users))

    def drawn(self, users: Tensor, generator: torch.Generator) -> Tensor:
        """[B] int64: one training item of the user of each of the rows `users` [B]."""
        return self.people.drawn(self.users_of(users), generator)

    def contains(self, users: Tensor, items: Tensor) -> Tensor:
        """bool: whether each item is a training item of the row's user, whatever the point."""
        return self.people.contains(self.users_of(users), items)

    # ---- what rows have beside ----------------------------------------------------------------------------------------

    def users_of(self, rows: Tensor) -> Tensor:
        """The users of `rows`, of whatever shape, on their device."""
        return self._on_rows(rows.device)[0][rows.long()]

    def asked(self, rows: Tensor) -> Interaction:
        """What a sequential model is asked for `rows` [B], on their device, as RecBole's datasets have it.

        The user [B], the latest items before the point [B, T] oldest first and filled up with 0, and their number [B]. Of a
        user without training items the sequence is one padding item: RecBole's models fail on empty ones.
        """
        of_user, lengths, begins, in_order = self._on_rows(rows.device)
        known = lengths[rows]
        taken = known.clamp(max=self.longest_given)  # [B]
        column = torch.arange(self.longest_given, device=rows.device)
        place = (begins[of_user[rows]] + known - taken)[:, None] + column
        inside = column < taken[:, None]
        items = torch.where(inside, in_order[place.clamp(max=len(in_order) - 1)], torch.zeros_like(place))
        user, sequence, length = self.fields
        return Interaction({user: of_user[rows], sequence: items, length: taken.clamp(min=1)})

    def drawn_rows(self, users: Tensor, generator: torch.Generator) -> Tensor:
        """[B] int64 on the CPU: one row of each of `users` [B], any of them alike."""
        which = (torch.rand(users.shape, generator=generator, dtype=torch.float64) * self._n_rows[users]).long()
        return self._rows_of_users[self._first_rows[users] + which]

    def following(self, k: int) -> Tensor:
        """[R, k] int32 on the CPU: the items that followed each row's point in training, nearest first, each once; 0 = none.

        Rows at the end have none, and of what comes back within the next `k` interactions the first time counts.
        """
        column = torch.arange(k)
        total = self.lengths[: self.n_people][self.of_user]
        inside = self.lengths[:, None] + column < total[:, None]
        place = (self.begins[self.of_user] + self.lengths)[:, None] + column
        found = self.in_order[place.clamp(max=len(self.in_order) - 1)].masked_fill(~inside, 0)
        for later in range(1, k):
            found[:, later].masked_fill_((found[:, :later] == found[:, later : later + 1]).any(1), 0)
        return found.gather(1, (found == 0).long().argsort(dim=1, stable=True)).int()

    def _on_rows(self, device: torch.device) -> tuple[Tensor, ...]:
        """(users, lengths, begins, items in order) on `device`, copied there once."""
        parts = (self.of_user, self.lengths, self.begins, self.in_order)
        if device.type == "cpu":
            return parts
        if device not in self._on_device:
            self._on_device[device] = tuple(part.to(device) for part in parts)
        return self._on_device[device]


def _earlier_points(counts: Tensor, n: int, generator: torch.Generator) -> Tensor:
    """[2, M] int64: users, and for each of them at most `n` different numbers from 1 to its count - 1, drawn at random."""
    most = int(counts.max()) if len(counts) else 0
    if n < 1 or most < 2:
        return torch.zeros(2, 0, dtype=torch.int64)
    users = (counts > 1).nonzero().squeeze(1)
    found = [torch.zeros(2, 0, dtype=torch.int64)]
    for block in users.split(max(1, 2**22 // most)):  # keys of the block's points, drawn at once
        keys = torch.rand(len(block), most - 1, generator=generator, dtype=torch.float64)
        keys = keys.masked_fill(torch.arange(1, most) >= counts[block][:, None], -1.0)
        best, points = keys.topk(min(n, most - 1), dim=1)
        row, column = (best >= 0).nonzero(as_tuple=True)
        found.append(torch.stack([block[row], points[row, column] + 1]))
    return torch.cat(found, 1)
