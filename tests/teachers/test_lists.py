"""Anyone's own teacher: a file of users, items and ranks."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from recbole_hetcomp.config.errors import UserError
from recbole_hetcomp.teachers import Teacher, TeacherPool, Trajectory
from recbole_hetcomp.teachers.lists import check_kept, is_list_file, read_lists
from recbole_hetcomp.teachers.ranking import top_of_block


@pytest.fixture
def ids(split):
    """(user token -> id, item token -> id)"""
    return split.whole.field2token_id["user_id"], split.whole.field2token_id["item_id"]


@pytest.fixture
def free(split):
    """`free(user)`: tokens of the items outside a user's training items, in the order of their ids."""
    tokens = split.whole.field2id_token["item_id"]

    def unobserved(user: str) -> list[str]:
        seen = split.history.padded(torch.tensor([split.whole.token2id("user_id", user)]))[0].tolist()
        return [str(tokens[item]) for item in range(1, split.whole.item_num) if item not in seen]

    return unobserved


def write(name: str, header: list[str], rows: list[tuple]) -> Path:
    separator = "," if name.endswith("csv") else "\t"
    Path(name).write_text("\n".join(separator.join(map(str, row)) for row in [header, *rows]) + "\n", encoding="utf-8")
    return Path(name)


@pytest.mark.parametrize("name", ["mine.tsv", "mine.csv", "mine.inter"])
@pytest.mark.parametrize("header", [["user", "item", "rank"], ["user_id:token", "item_id:token", "rank:float"]])
def test_a_table_becomes_lists_in_the_order_of_the_ranks(split, ids, free, name, header) -> None:
    users, items = ids
    wanted = {"u3": free("u3")[:3], "u7": free("u7")[4:5]}
    rows = [
        ("u3", wanted["u3"][2], 9),
        ("u7", wanted["u7"][0], 2),
        ("u3", wanted["u3"][0], -1),
        ("u3", wanted["u3"][1], 0.5),
    ]
    read = read_lists(write(name, header, rows), split)
    assert read.teacher == "mine"
    assert read.dataset_fingerprint == split.fingerprint
    expected = torch.zeros(1, split.whole.user_num, 3, dtype=torch.int32)
    for user, tokens in wanted.items():
        expected[0, users[user], : len(tokens)] = torch.tensor([items[token] for token in tokens])
    assert torch.equal(read.items, expected)


def test_columns_may_stand_in_any_order_beside_others(split, ids, free) -> None:
    users, items = ids
    (item,) = free("u5")[:1]
    path = write("mine.csv", ["rank", "note", "item", "user"], [(0, "x", item, "u5")])
    assert int(read_lists(path, split).items[0, users["u5"], 0]) == items[item]


def test_unknown_ids_and_training_items_are_left_out_and_counted(split, ids, free, caplog) -> None:
    users, items = ids
    (seen,) = split.history.padded(torch.tensor([users["u3"]]))[0].tolist()[:1]
    seen = split.whole.field2id_token["item_id"][seen]
    good = free("u3")[0]
    rows = [("u3", seen, 0), ("u3", good, 1), ("nobody", good, 0), ("u3", "nothing", 2), ("[PAD]", good, 0)]
    with caplog.at_level(logging.WARNING):
        read = read_lists(write("mine.tsv", ["user", "item", "rank"], rows), split)
    assert read.items[read.items > 0].tolist() == [items[good]]
    assert int(read.items[0, users["u3"], 0]) == items[good]  # the list closes up
    assert [record.getMessage() for record in caplog.records if "mine.tsv" in record.getMessage()] == [
        "mine.tsv: of 5 rows 1 are training items and 3 have unknown ids (user 'nobody', '[PAD]' and item 'nothing'); "
        "they are left out"
    ]


def test_unknown_ids_are_named_in_one_sentence_however_many_and_long(split) -> None:
    rows = [(f"{number}{'x' * 500}", f"{'y' * 500}{number}", 0) for number in range(40)]
    with pytest.raises(
        UserError, match=r"it does not know user '0xxx.*, \.\.\. and item 'yyy.*; give tokens as the \.inter"
    ) as caught:
        read_lists(write("mine.tsv", ["user", "item", "rank"], rows), split)
    assert len(str(caught.value)) <= 450
    with pytest.raises(UserError, match=r"user 'a', 'b', 'c', \.\.\. and item 'd'; give"):
        read_lists(write("mine.tsv", ["user", "item", "rank"], [(user, "d", 0) for user in "abcef"]), split)


def test_a_file_without_fault_is_read_in_silence(split, free, caplog) -> None:
    read_lists(write("mine.tsv", ["user", "item", "rank"], [("u3", free("u3")[0], 0)]), split)
    assert not caplog.records


def test_an_item_that_is_listed_twice_keeps_its_better_rank(split, ids, free) -> None:
    users, items = ids
    a, b = free("u3")[:2]
    read = read_lists(write("mine.tsv", ["user", "item", "rank"], [("u3", a, 5), ("u3", b, 3), ("u3", a, 1)]), split)
    assert read.items[0, users["u3"]].tolist() == [items[a], items[b]]


def test_checkpoints_become_stages_in_the_order_of_their_values(split, ids, free) -> None:
    users, items = ids
    a, b, c = free("u3")[:3]
    rows = [("u3", a, 0, 100), ("u3", b, 1, 100), ("u3", c, 0, 9), ("u3", b, 0, 20)]
    read = read_lists(write("mine.tsv", ["user", "item", "rank", "checkpoint"], rows), split)
    assert read.n_stages == 3
    expected = [[items[c], 0], [items[b], 0], [items[a], items[b]]]
    assert read.items[:, users["u3"]].tolist() == expected


def test_tokens_that_look_like_numbers_are_tokens(tmp_path, make_config, free) -> None:
    """RecBole's ids are text: 007 is not 7."""
    from recbole_hetcomp.data.split import make_split

    folder = tmp_path / "data" / "toy"
    rows = (folder / "toy.inter").read_text().replace("u7\t", "007\t").replace("u17\t", "7\t")
    (folder / "toy.inter").write_text(rows)
    split = make_split(make_config("BPR", load_col={"inter": ["user_id", "item_id"]}))
    user = split.whole.token2id("user_id", "007")
    seen = split.history.padded(torch.tensor([user]))[0].tolist()
    item = next(i for i in range(1, split.whole.item_num) if i not in seen)
    path = write("mine.tsv", ["user", "item", "rank"], [("007", split.whole.field2id_token["item_id"][item], 0)])
    assert read_lists(path, split).items[0, user].tolist() == [item]


BAD = {
    "no column rank": (["user", "item"], [("u3", "i1")], r"mine\.tsv.*lacks the columns \['rank'\]"),
    "a rank that is no number": (["user", "item", "rank"], [("u3", "i1", "first")], r"mine\.tsv.*rank.*'first'"),
    "a checkpoint that is no number": (
        ["user", "item", "rank", "checkpoint"],
        [("u3", "i1", 1, "last")],
        r"mine\.tsv.*checkpoint.*'last'",
    ),
    "no known user": (["user", "item", "rank"], [("nobody", "i1", 0)], r"no row of 'mine\.tsv'"),
    "a header alone": (["user", "item", "rank"], [], r"no row of 'mine\.tsv'"),
}


@pytest.mark.parametrize(("header", "rows", "sentence"), BAD.values(), ids=BAD.keys())
def test_a_table_that_cannot_serve_is_one_sentence(split, header, rows, sentence) -> None:
    with pytest.raises(UserError, match=sentence):
        read_lists(write("mine.tsv", header, rows), split)


@pytest.mark.parametrize("content", [b"", b"\xff\xfe\x00\x01", None])
def test_a_file_that_is_no_table_is_one_sentence(split, content) -> None:
    if content is not None:
        Path("mine.tsv").write_bytes(content)
    with pytest.raises(UserError, match=r"mine\.tsv"):
        read_lists(Path("mine.tsv"), split)


def saved(split, items: torch.Tensor | None = None, fingerprint: str | None = None) -> Path:
    items = torch.tensor([[0, 0], *[[1, 2]] * (split.whole.user_num - 1)]) if items is None else items
    fingerprint = split.fingerprint if fingerprint is None else fingerprint
    Trajectory.from_lists(items, teacher="mine", dataset_fingerprint=fingerprint).save("mine.safetensors")
    return Path("mine.safetensors")


def test_a_trajectory_file_is_read_as_it_was_saved(split) -> None:
    unobserved = [
        [item for item in range(1, split.whole.item_num) if item not in row][:3]
        for row in split.history.padded(torch.arange(split.whole.user_num)).tolist()
    ]
    items = torch.tensor([[0, 0, 0], *unobserved[1:]], dtype=torch.int32)
    assert torch.equal(read_lists(saved(split, items), split).items[0], items)


def test_training_items_in_a_trajectory_file_are_left_out_and_the_rest_moves_up(split, caplog) -> None:
    n_users, n_items = split.whole.user_num, split.whole.item_num
    items = torch.stack([torch.arange(1, n_items), torch.arange(1, n_items).flip(0)]).int()[:, None].repeat(1, n_users, 1)
    items[:, 0] = 0
    deviation = items.float() / 128
    fingerprints = {"dataset_fingerprint": split.fingerprint}
    Trajectory.from_lists(items, rank_std=deviation, teacher="mine", **fingerprints).save("mine.safetensors")
    with caplog.at_level(logging.WARNING):
        read = read_lists(Path("mine.safetensors"), split)
    assert f"{2 * len(split.history.items)} entries are training items" in caplog.text
    for user, trained in enumerate(split.history.padded(torch.arange(n_users)).tolist()[1:], start=1):
        free = [item for item in range(1, n_items) if item not in trained]
        padding = [0] * (n_items - 1 - len(free))
        assert read.items[0, user].tolist() == free + padding
        assert read.items[1, user].tolist() == free[::-1] + padding
    assert torch.equal(read.rank_std, (read.items.float() / 128).half())


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"fingerprint": "of another split"}, "another dataset or split"),
        ({"items": torch.ones(5, 3)}, "other users or items"),
        ({"items": torch.full((62, 3), 82)}, "other users or items"),
        ({"items": torch.tensor([[0, 0], *[[4, 4]] * 61])}, "an item twice for user 1"),
        ({"items": torch.tensor([[1, 2], *[[4, 5]] * 61])}, "row 0, the padding user"),
        ({"items": torch.zeros(62, 3)}, "no item at all"),
    ],
)
def test_a_trajectory_file_of_other_data_is_refused(split, change, sentence) -> None:
    with pytest.raises(UserError, match=sentence):
        read_lists(saved(split, **change), split)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"observed": torch.full((62, 2), 10**6)}, "other users or items"),
        ({"observed": torch.ones(62, 2)}, "observes an item outside"),
        ({"rank_std": torch.full((62, 2), -1.0)}, "rank_std below 0"),
        ({"rank_std": torch.full((62, 2), torch.nan)}, "rank_std below 0"),
    ],
)
def test_the_other_tensors_of_a_trajectory_file_are_checked_too(split, changes, sentence) -> None:
    items = torch.tensor([[0, 0], *[[1, 2]] * 61])
    Trajectory.from_lists(items, dataset_fingerprint=split.fingerprint, **changes).save("mine.safetensors")
    with pytest.raises(UserError, match=sentence):
        read_lists(Path("mine.safetensors"), split)


def test_a_trajectory_file_of_training_items_alone_is_refused(split) -> None:
    with pytest.raises(UserError, match="nothing but training items"):
        read_lists(saved(split, split.history.padded(torch.arange(62))), split)


def test_a_trajectory_file_that_names_no_split_goes_with_teachers_of_this_one(split) -> None:
    read = read_lists(saved(split, fingerprint=""), split)
    own = Trajectory.from_lists(read.items, dataset_fingerprint=split.fingerprint)
    assert len(TeacherPool([Teacher("BPR", own), Teacher("mine", read)])) == 2


@pytest.mark.parametrize(
    ("name", "expected"), [("a/b.tsv", True), ("b.csv", True), ("b.inter", True), ("b.safetensors", True), ("BPR", False)]
)
def test_files_are_told_from_models_by_their_ending(name, expected) -> None:
    assert is_list_file(name) is expected


# --- lists that were kept ----------------------------------------------------------------------------------------------


@pytest.fixture
def kept(split) -> Trajectory:
    """Lists as a training records them: two checkpoints, nothing trained on, ordered training items."""
    draw = torch.Generator().manual_seed(5)
    users = split.history.active_users
    items = torch.zeros(2, split.whole.user_num, 8, dtype=torch.int32)
    for stage in range(2):
        scores = torch.rand(len(users), split.whole.item_num, generator=draw)
        items[stage, users] = top_of_block(scores, split.history.padded(users), 8).int()
    observed = torch.zeros(split.whole.user_num, 2, dtype=torch.int32)
    observed[users] = split.history.padded(users)[:, :2].int()
    made = Trajectory.from_lists(items, observed=observed, dataset_fingerprint=split.fingerprint)
    return replace(made, epochs=torch.tensor([2, 4], dtype=torch.int32), valid_scores=torch.tensor([0.1, 0.2]))


def put(tensor: torch.Tensor, place: tuple[int, ...], value: float) -> torch.Tensor:
    tensor = tensor.clone()
    tensor[place] = value
    return tensor


IMPOSSIBLE = {
    "an id above the catalogue": lambda t, s, u: {"items": put(t.items, (0, u, 0), s.whole.item_num)},
    "an item twice": lambda t, s, u: {"items": put(t.items, (1, u, 0), int(t.items[1, u, 1]))},
    "a training item": lambda t, s, u: {"items": put(t.items, (0, u, 3), int(t.observed[u, 0]))},
    "a gap": lambda t, s, u: {"items": put(t.items, (0, u, 3), 0)},
    "a list of the padding user": lambda t, s, u: {"items": put(t.items, (0, 0, 0), 1)},
    "a list at one checkpoint alone": lambda t, s, u: {"items": put(t.items, (0, u), 0)},
    "no list at all": lambda t, s, u: {"items": torch.zeros_like(t.items)},
    "an observed item that was not trained on": lambda t, s, u: {"observed": put(t.observed, (u, 0), int(t.items[0, u, 0]))},
    "an observed item twice": lambda t, s, u: {"observed": put(t.observed, (u, 0), int(t.observed[u, 1]))},
    "a deviation that is NaN": lambda t, s, u: {"rank_std": put(t.rank_std, (0, u, 0), torch.nan)},
    "a deviation that is infinite": lambda t, s, u: {"rank_std": put(t.rank_std, (0, u, 0), torch.inf)},
    "a deviation below 0": lambda t, s, u: {"rank_std": put(t.rank_std, (0, u, 0), -1)},
    "a deviation beyond the list": lambda t, s, u: {"rank_std": put(t.rank_std, (0, u, 0), 9)},
    "epochs that fall": lambda t, s, u: {"epochs": t.epochs.flip(0)},
    "an epoch below 0": lambda t, s, u: {"epochs": put(t.epochs, (0,), -2)},
    "an epoch of 0": lambda t, s, u: {"epochs": put(t.epochs, (0,), 0)},
    "one score that is NaN": lambda t, s, u: {"valid_scores": put(t.valid_scores, (1,), torch.nan)},
    "an infinite score": lambda t, s, u: {"valid_scores": put(t.valid_scores, (1,), torch.inf)},
    "a score below 0": lambda t, s, u: {"valid_scores": put(t.valid_scores, (0,), -0.1)},
    "a recall above 1": lambda t, s, u: {"valid_scores": put(t.valid_scores, (1,), 1.5)},
}
LEFT_OUT = {"a training item", "a gap"}  # a person's file is mended
NOT_OURS = {"a list at one checkpoint alone", "a deviation beyond the list", "an epoch of 0", "a recall above 1"}


@pytest.mark.parametrize("what", IMPOSSIBLE)
def test_kept_lists_that_no_training_records_are_refused__and_files_too_where_no_system_lists_so(split, kept, what) -> None:
    check_kept(kept, split, "Recall@10")
    user = int(split.history.active_users[0])
    wrong = replace(kept, **IMPOSSIBLE[what](kept, split, user))
    if what != "no list at all":  # of a teacher that scores all items alike, which is said elsewhere
        with pytest.raises(UserError, match=r"^it "):
            check_kept(wrong, split, "Recall@10")
    wrong.save("mine.safetensors")
    if what in LEFT_OUT | NOT_OURS:
        read = read_lists(Path("mine.safetensors"), split)
        assert not ((read.items[..., 1:] > 0) & (read.items[..., :-1] == 0)).any()
    else:
        with pytest.raises(UserError, match=r"^teachers: 'mine\.safetensors' .*; "):
            read_lists(Path("mine.safetensors"), split)


def test_a_loss_may_be_above_1_and_a_training_without_validation_has_no_score(split, kept) -> None:
    check_kept(replace(kept, valid_scores=torch.tensor([3.0, 2.5])), split, "LogLoss")
    check_kept(replace(kept, valid_scores=torch.full((2,), torch.nan)), split, "Recall@10")
