"""Repeated interactions: RecBole sorts all rows, be there anything to remove or not, and does not say how much that was."""

from __future__ import annotations

from collections.abc import Callable

from recbole.data.dataset import Dataset


def removing_what_is_repeated(stock: Callable[..., None]) -> Callable[..., None]:
    """`Dataset._remove_duplication` that keeps the order of the rows where none is repeated, and else says how many are."""

    def _remove_duplication(self: Dataset) -> None:
        keep, fields = self.config["rm_dup_inter"], [self.uid_field, self.iid_field]
        if keep is None or None in fields:
            return stock(self)
        n_repeats = int(self.inter_feat.duplicated(fields).sum())
        if n_repeats:
            self.logger.warning(
                f"{n_repeats:,} of {len(self.inter_feat):,} interactions repeat another one, the same user's with the same "
                f"item, and are left out (rm_dup_inter: {keep}); --rm_dup_inter=None keeps them in training"
            )
            stock(self)
        return None

    return _remove_duplication
