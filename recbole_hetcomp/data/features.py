"""The columns of context-aware data: what they were before RecBole scaled them, and what tells two such data sets apart."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from recbole.data.dataset import Dataset
from recbole.data.interaction import Interaction
from recbole.utils import FeatureType


class FeatureDataset(Dataset):
    """RecBole's dataset, which also keeps the range of each column of numbers, so that new rows can be scaled alike.

    Attributes:
        ranges: (least, largest) of each column of numbers that RecBole scales to 0..1, as the files have it
    """

    def _normalize(self) -> None:
        fields = self.config["normalize_field"] or (self.float_like_fields if self.config["normalize_all"] else [])
        self.ranges: dict[str, tuple[float, float]] = {}
        for field in fields:
            for table in self.field2feats(field) if self.field2type.get(field) == FeatureType.FLOAT else ():
                self.ranges[field] = (float(table[field].min()), float(table[field].max()))
        super()._normalize()


def further_fields(dataset: Dataset) -> list[str]:
    """The columns of tokens beside users and items whose ids a model of these data knows; of general data none."""
    if not isinstance(dataset, FeatureDataset):
        return []
    return sorted(set(dataset.field2id_token) - {dataset.uid_field, dataset.iid_field})


def scales(dataset: Dataset) -> str:
    """How the columns of numbers are scaled, as text: a model knows them so; "" where none is."""
    ranges = getattr(dataset, "ranges", {})
    return "\n".join(f"{field} {least} {most}" for field, (least, most) in sorted(ranges.items()))


def rows_fingerprint(whole: Dataset, parts: Sequence[Dataset]) -> str:
    """sha256 of all columns of the parts in their order, of the users' and items' features, and of the id maps."""
    digest = hashlib.sha256()
    for field in sorted(whole.field2id_token):
        digest.update("\n".join([field, *map(str, whole.field2id_token[field])]).encode())
    for table in (whole.user_feat, whole.item_feat, *(part.inter_feat for part in parts)):
        _add(digest, table)
    return digest.hexdigest()


def _add(digest: hashlib._Hash, table: Interaction | None) -> None:
    digest.update(b"|")  # a part begins here
    if table is None:
        return
    for name in sorted(table.columns):
        digest.update(name.encode())
        digest.update(table[name].numpy().tobytes())
