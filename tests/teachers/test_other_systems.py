"""Teachers from the files of LensKit, Elliot and RecDistillery."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pandas as pd
import pytest
import torch

from recbole_hetcomp.config.errors import UserError
from recbole_hetcomp.quick_start import run_hetcomp
from recbole_hetcomp.teacher_training.scheduling import build_pool
from recbole_hetcomp.teachers.lists import read_lists
from recbole_hetcomp.teachers.tables import read_table

RANKED = {"u3": ["i70", "i71", "i72"], "u7": ["i60", "i61"]}
ROWS = [(user, item, rank) for user, items in RANKED.items() for rank, item in enumerate(items, start=1)]


@pytest.fixture
def listed(split):
    """`listed(file)`: the tokens of the items that a file lists for the users of RANKED."""

    def tokens(file: str) -> dict[str, list[str]]:
        whole = split.whole
        items = read_lists(Path(file), split).items[-1]
        rows = {user: items[whole.token2id("user_id", user)].tolist() for user in RANKED}
        assert int(items.any(1).sum()) == len(RANKED)
        return {user: list(whole.id2token("item_id", [item for item in row if item])) for user, row in rows.items()}

    return tokens


@pytest.fixture(autouse=True)
def unobserved(split) -> None:
    """What RANKED lists is outside of the training part, without which the tests would say nothing."""
    users = torch.tensor([split.whole.token2id("user_id", user) for user, _, _ in ROWS])
    items = torch.tensor([split.whole.token2id("item_id", item) for _, item, _ in ROWS])
    assert not split.history.contains(users, items).any()


def lenskit(shuffled: bool = True) -> pd.DataFrame:
    """As `ItemListCollection.to_df` has it, here with the rows in another order."""
    table = pd.DataFrame(ROWS, columns=["user_id", "item_id", "rank"])
    table.insert(2, "score", -1.5 * table["rank"])
    return table.sample(frac=1.0, random_state=1) if shuffled else table


def test_lenskits_table_is_read(listed) -> None:
    lenskit().to_csv("lists.csv", index=False)
    assert listed("lists.csv") == RANKED


def test_a_score_stands_in_place_of_a_rank(listed) -> None:
    lenskit().drop(columns="rank").to_csv("lists.csv", index=False)
    assert listed("lists.csv") == RANKED


def test_elliots_table_without_a_header_is_read_from_its_first_line(listed) -> None:
    Path("lists.tsv").write_text("".join(f"{user}\t{item}\t{10.0 - rank}\n" for user, item, rank in ROWS))
    assert listed("lists.tsv") == RANKED


def test_both_layouts_of_lenskits_parquet_are_read(listed) -> None:
    pytest.importorskip("pyarrow", reason="parquet needs pyarrow")
    flat = lenskit(shuffled=False)
    flat.to_parquet("flat.parquet")
    entries = flat.groupby("user_id", sort=False)[["item_id", "rank", "score"]]
    nested = pd.DataFrame([{"user_id": user, "items": part.to_dict("records")} for user, part in entries])
    nested.to_parquet("native.parquet")
    for user_items in nested["items"]:
        for entry in user_items:
            del entry["rank"], entry["score"]
    nested.to_parquet("ordered.parquet")
    for file in ("flat.parquet", "native.parquet", "ordered.parquet"):
        assert listed(file) == RANKED, file


def test_whole_numbers_of_parquet_are_tokens(split, toy) -> None:
    pytest.importorskip("pyarrow", reason="parquet needs pyarrow")
    pd.DataFrame({"user_id": [3], "item_id": [70], "rank": [1]}).to_parquet("numbers.parquet")
    with pytest.raises(UserError, match="it does not know user '3' and item '70'"):
        read_lists(Path("numbers.parquet"), split)


def test_parquet_without_pyarrow_is_one_sentence(split, monkeypatch) -> None:
    Path("lists.parquet").write_bytes(b"PAR1")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(UserError, match=r"needs pyarrow; pip install 'recbole_hetcomp\[parquet\]'"):
        read_lists(Path("lists.parquet"), split)


def test_a_pyarrow_that_would_run_a_files_types_reads_nothing(split, monkeypatch) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    Path("theirs.parquet").write_bytes(b"anything")
    monkeypatch.setattr(pd, "read_parquet", lambda path: pytest.fail("it was read"))
    monkeypatch.setattr(pyarrow, "__version__", "14.0.0")
    with pytest.raises(UserError, match=r"pyarrow 14\.0\.0, which may run code"):
        read_lists(Path("theirs.parquet"), split)


def test_damaged_parquet_is_one_sentence(split) -> None:
    pytest.importorskip("pyarrow", reason="parquet needs pyarrow")
    Path("lists.parquet").write_bytes(b"PAR1 and no more")
    with pytest.raises(UserError, match="cannot be read as parquet"):
        read_lists(Path("lists.parquet"), split)


def teacher_file(path: str, **content: object) -> None:
    """A file as RecDistillery's `save_teacher_state` writes it."""
    common = {"format_version": "recdistill.teacher.v2", "model_name": "theirs", "metadata": {"source": "native"}}
    common |= {"user_embeddings": None, "item_embeddings": None, "scorer": None}
    torch.save({**common, **content}, path)


def tokens(n_users: int = 60, n_items: int = 80) -> dict[str, object]:
    """Id maps of both forms: a list, and a dict by row."""
    users = [f"u{user}" for user in range(n_users)]
    items = {item: f"i{item}" for item in range(n_items)}
    return {"local_to_public_user_id": users, "local_to_public_item_id": items}


def test_recdistillerys_lists_are_read(listed) -> None:
    topk = torch.full((60, 3), -1)
    topk[3] = torch.tensor([70, 71, 72])
    topk[7, :2] = torch.tensor([60, 61])
    scorer = {"type": "precomputed_topk", "topk_items": topk, "topk_scores": None, "fill_value": 0.0, "num_items": 80}
    teacher_file("theirs.teacher", scorer=scorer, **tokens())
    assert listed("theirs.teacher") == RANKED


def test_recdistillerys_scores_are_lists_of_the_best(split) -> None:
    scores = torch.rand(60, 80, generator=torch.Generator().manual_seed(1))
    teacher_file("theirs.teacher", scorer={"type": "precomputed_scores", "scores": scores}, **tokens())
    items, whole = read_lists(Path("theirs.teacher"), split).items[-1], split.whole
    for user in (3, 40):
        row = items[whole.token2id("user_id", f"u{user}")]
        found = [int(token[1:]) for token in whole.id2token("item_id", row[row > 0].tolist())]
        assert found == sorted(found, key=lambda item: -float(scores[user, item]))
        seen = whole.id2token("item_id", split.history.padded(torch.tensor([whole.token2id("user_id", f"u{user}")]))[0])
        assert set(found) == {item for item in range(80) if f"i{item}" not in set(seen)}


def test_scores_that_are_missing_are_in_no_list_and_nan_is_one_sentence(split) -> None:
    scores = torch.full((60, 80), -torch.inf)
    scores[:, 10:15] = torch.arange(5.0)
    teacher_file("sparse.teacher", **tokens(), scorer={"type": "precomputed_scores", "scores": scores})
    rows = read_table(Path("sparse.teacher"))
    assert len(rows) == 60 * 5
    assert rows[rows["user"] == "u3"].sort_values("rank")["item"].tolist() == ["i14", "i13", "i12", "i11", "i10"]
    scores[3, 3] = torch.nan
    teacher_file("nan.teacher", **tokens(), scorer={"type": "precomputed_scores", "scores": scores})
    with pytest.raises(UserError, match=r"scores that are no numbers \(nan\)"):
        read_table(Path("nan.teacher"))


def test_id_maps_may_be_tensors(split) -> None:
    maps = {f"local_to_public_{side}_id": torch.arange(n) for side, n in (("user", 60), ("item", 80))}
    teacher_file("numbers.teacher", **maps, scorer={"type": "precomputed_topk", "topk_items": torch.arange(60)[:, None]})
    rows = read_table(Path("numbers.teacher"))
    assert rows["user"].tolist() == rows["item"].tolist() == [str(number) for number in range(60)]


def test_recdistillerys_embeddings_teach_a_method_of_vectors(settings, make_config, split) -> None:
    generator = torch.Generator().manual_seed(2)
    users, items = torch.randn(60, 6, generator=generator), torch.randn(80, 6, generator=generator)
    teacher_file("theirs.teacher", user_embeddings=users, item_embeddings=items, **tokens())
    (teacher,) = build_pool(make_config("FitNetStudent", teachers=["theirs.teacher"]), split).teachers
    whole = split.whole
    held = teacher.model.user_embedding.weight[whole.token2id("user_id", "u9")]
    assert torch.equal(held, users[9])
    assert teacher.trajectory.teacher == "theirs"
    run = {**settings, "teachers": ["theirs.teacher"], "epochs": 1, "without_distillation": False}
    assert run_hetcomp("FitNetStudent", "toy", config_dict=run, arguments=(), compare=False)["epochs"] == 1


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ({"format_version": "recdistill.teacher.v9"}, "is of format 'recdistill.teacher.v9'"),
        ({}, "has neither embeddings nor ranked lists nor scores"),
        ({"user_embeddings": torch.ones(3, 2), "item_embeddings": torch.ones(4, 2)}, "has no local_to_public_user_id"),
    ],
)
def test_what_a_teacher_file_lacks_is_one_sentence(make_config, split, content, sentence) -> None:
    teacher_file("theirs.teacher", **content)
    with pytest.raises(UserError, match=sentence):
        build_pool(make_config("FitNetStudent", teachers=["theirs.teacher"]), split)


class _Runs:
    def __reduce__(self):
        return os.mkdir, ("was_here",)


def test_nothing_in_a_teacher_file_is_run(make_config, split) -> None:
    teacher_file("theirs.teacher", metadata=_Runs())
    with pytest.raises(UserError, match=r"cannot be read as a \.teacher"):
        build_pool(make_config("FitNetStudent", teachers=["theirs.teacher"]), split)
    assert not Path("was_here").exists()
