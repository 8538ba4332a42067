"""What RecBole's feature tables need on pandas 2.2 and later: missing values are filled, number sequences are refused."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import numpy as np
import pandas as pd
from recbole.data.dataset import dataset
from recbole.utils import FeatureSource, FeatureType

from recbole_hetcomp.config.atomic_rows import PathLike


def chained_fillna_is_unsafe() -> bool:
    """Whether this pandas warns of `frame[column].fillna(..., inplace=True)`, or leaves NaN there."""
    frame = pd.DataFrame({"x": [float("nan")]})
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        frame["x"].fillna(0, inplace=True)
    return bool(caught) or bool(frame["x"].isna().any())


def fill_nan(self: dataset.Dataset) -> None:
    """`Dataset._fill_nan`: tokens with the padding id, floats with their mean, sequences with an empty one."""
    for name in self.feat_name_list:
        feat = getattr(self, name)
        for field in feat:
            feat[field] = _filled(feat[field], self.field2type[field])


def _filled(column: pd.Series, kind: FeatureType) -> pd.Series:
    if kind == FeatureType.TOKEN:
        return column.fillna(0)
    if kind == FeatureType.FLOAT:
        return column.fillna(column.mean())
    dtype = np.int64 if kind == FeatureType.TOKEN_SEQ else np.float64
    return column.apply(lambda value: np.array([], dtype=dtype) if isinstance(value, float) else value)


def sequences_are_miscounted() -> bool:
    """Whether this pandas counts the columns of sequences, by `agg(len)`, as one."""
    return int(pd.__version__.partition(".")[0]) >= 3


def refusing_float_sequences(stock: Callable[..., pd.DataFrame]) -> Callable[..., pd.DataFrame]:
    """`Dataset._load_feat` that raises a NotImplementedError for number sequences, which it misreads on pandas 3."""

    def load_feat(self: dataset.Dataset, filepath: PathLike, source: FeatureSource | str) -> pd.DataFrame:
        load, unload = self._get_load_and_unload_col(source)
        with open(filepath, encoding=self.config["encoding"]) as file:
            header = file.readline().rstrip("\n").split(self.config["field_separator"])
        named = (column.partition(":") for column in header)
        sequences = [field for field, _, kind in named if kind == FeatureType.FLOAT_SEQ.value]
        wanted = [field for field in sequences if (load is None or field in load) and field not in (unload or ())]
        if wanted:
            raise NotImplementedError(
                f"RecBole 1.2.1 cannot read the number sequences {wanted} of {filepath} on pandas {pd.__version__}; "
                "install pandas<3, or leave them out with load_col"
            )
        with warnings.catch_warnings():  # of RecBole's own filling, which is done by then
            warnings.filterwarnings("ignore", message="A value is ")
            return stock(self, filepath, source)

    return load_feat
