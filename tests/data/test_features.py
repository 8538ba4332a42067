"""The columns of context-aware data: which of them have a range, and labels beside which negatives are drawn."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from recbole_hetcomp.data.split import make_split


@pytest.mark.parametrize(
    "scaled", [{"normalize_all": True}, {"normalize_all": None, "normalize_field": ["minutes", "shape"]}]
)
@pytest.mark.skipif(pd.__version__ >= "3", reason="RecBole misreads sequences of numbers on pandas 3")
def test_sequences_of_numbers_are_scaled_and_have_no_range(clicks, clicks_config, scaled):
    file = Path(clicks["data_path"]) / "clicks" / "clicks.item"
    header, *rows = file.read_text().splitlines()
    file.write_text("\n".join([header + "\tshape:float_seq", *(f"{row}\t{n}.5 2 3" for n, row in enumerate(rows))]) + "\n")
    columns = {**clicks["load_col"], "item": ["item_id", "genre", "shape"]}
    data = make_split(clicks_config("FM", load_col=columns, **scaled)).whole
    assert set(data.ranges) - {"label"} == {"minutes"}
    assert 0 <= data.item_feat["shape"].min() < data.item_feat["shape"].max() == 1
