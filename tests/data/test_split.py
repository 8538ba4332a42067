"""The split: RecBole's own, made once, and a fingerprint that changes exactly when the data do."""

from __future__ import annotations

import copy
import logging
import re
from itertools import chain
from pathlib import Path

import pytest
import torch
from recbole.data import create_dataset, data_preparation
from recbole.utils import init_seed

from recbole_hetcomp.config.errors import UserError
from recbole_hetcomp.data.fitting import fit_to_data
from recbole_hetcomp.data.split import Split, make_split


def pairs_of(part) -> list[tuple[int, int]]:
    return sorted(zip(part.inter_feat["user_id"].tolist(), part.inter_feat["item_id"].tolist()))


def with_rows(split: Split, *rows: torch.Tensor) -> Split:
    """The same split with the given rows of each part's table."""
    return Split(split.whole, tuple(part.copy(part.inter_feat[index]) for part, index in zip(split.parts, rows)))


def all_rows(split: Split) -> list[torch.Tensor]:
    return [torch.arange(len(part)) for part in split.parts]


def test_every_interaction_lies_in_exactly_one_part_and_each_user_is_split_60_20_20(split) -> None:
    parts = [pairs_of(part) for part in split.parts]
    assert sorted(chain.from_iterable(parts)) == pairs_of(split.whole)
    for user in range(1, split.whole.user_num):
        train, valid, test = (sum(u == user for u, _ in part) for part in parts)
        n = train + valid + test
        assert (valid, test) == (int(0.2 * n), int(0.2 * n))


def test_user_and_item_without_interactions_stay_in_the_id_maps(split) -> None:
    assert split.whole.user_num == 1 + 60 + 1
    assert split.whole.item_num == 1 + 80 + 1
    assert split.whole.item_feat["movie_title"].shape[0] == split.whole.item_num


def test_split_is_recboles_own_for_the_same_seed(make_config) -> None:
    config = make_config("BPR")
    ours = make_split(config)
    init_seed(config["seed"], config["reproducibility"])
    dataset = create_dataset(config)
    theirs = Split(dataset, tuple(loader._dataset for loader in data_preparation(config, dataset)))
    assert [pairs_of(part) for part in ours.parts] == [pairs_of(part) for part in theirs.parts]
    assert ours.fingerprint == theirs.fingerprint


def test_split_depends_on_the_seed__unless_split_seed_is_set(make_config) -> None:
    by_seed = [make_split(make_config("BPR", seed=seed)).fingerprint for seed in (1, 2)]
    fixed = [make_split(make_config("BPR", seed=seed, split_seed=2)).fingerprint for seed in (1, 7)]
    assert by_seed[0] != by_seed[1]
    assert fixed[0] == fixed[1] == by_seed[1]


def test_fingerprint_is_unchanged_by_the_order_of_the_rows(split) -> None:
    shuffled = with_rows(split, *(torch.randperm(len(part)) for part in split.parts))
    assert torch.equal(shuffled.train.inter_feat["item_id"].sort().values, split.train.inter_feat["item_id"].sort().values)
    assert shuffled.fingerprint == split.fingerprint


def test_fingerprint_is_changed_by_one_pair_that_moves_to_another_part(split) -> None:
    train, valid, test = all_rows(split)
    removed = with_rows(split, train[1:], valid, test)
    first = split.train.inter_feat[train[:1]]
    valid_part = copy.copy(split.parts[1])
    valid_part.inter_feat = copy.copy(valid_part.inter_feat)
    valid_part.inter_feat.interaction = {
        field: torch.cat([values, first[field]]) for field, values in split.parts[1].inter_feat.interaction.items()
    }
    valid_part.inter_feat.length += 1
    moved = Split(split.whole, (removed.train, valid_part, split.parts[2]))
    assert sorted(chain.from_iterable(map(pairs_of, moved.parts))) == pairs_of(split.whole)
    assert len({split.fingerprint, removed.fingerprint, moved.fingerprint}) == 3


@pytest.mark.parametrize("field", ["user_id", "item_id"])
def test_fingerprint_is_changed_by_an_id_map_alone(split, field) -> None:
    other = copy.copy(split.whole)
    tokens = other.field2id_token[field].copy()
    tokens[[1, 2]] = tokens[[2, 1]]
    other.field2id_token = {**other.field2id_token, field: tokens}
    assert Split(other, split.parts).fingerprint != split.fingerprint


def test_fingerprint_is_changed_by_swapped_parts(split) -> None:
    assert Split(split.whole, (split.parts[0], split.parts[2], split.parts[1])).fingerprint != split.fingerprint


def test_loaders_of_different_models_share_the_parts_and_leave_them_alone(make_config, split) -> None:
    before, rows = split.fingerprint, split.train.inter_feat["item_id"].clone()
    held_out = []
    for model in ("BPR", "NeuMF", "MultiVAE", "BPR"):
        loaders = split.loaders(make_config(model))
        list(loaders.train)
        evaluated = {"valid": [], "test": []}
        for name, loader in (("valid", loaders.valid), ("test", loaders.test)):
            for batch, _, rows_of_batch, positives in loader:
                users = batch["user_id"][rows_of_batch].tolist()
                evaluated[name] += list(zip(users, positives.tolist()))
        held_out.append({name: sorted(pairs) for name, pairs in evaluated.items()})
        assert pairs_of(loaders.train._dataset) == pairs_of(split.train)
    assert held_out[0] == held_out[1] == held_out[2] == held_out[3]
    assert held_out[0] == {"valid": pairs_of(split.parts[1]), "test": pairs_of(split.parts[2])}
    assert torch.equal(split.train.inter_feat["item_id"], rows)  # a teacher's loaders do not reorder the student's
    assert Split(split.whole, split.parts).fingerprint == before


def test_same_seed_gives_the_same_batches_whoever_built_loaders_before(make_config, split) -> None:
    def first_batch() -> torch.Tensor:
        config = make_config("BPR")
        init_seed(3, True)
        return next(iter(split.loaders(config).train))["item_id"]

    before = first_batch()
    list(split.loaders(make_config("MultiVAE")).test)
    assert torch.equal(first_batch(), before)


def test_missing_dataset_is_one_sentence_with_file_and_remedy(make_config, toy) -> None:
    (Path(toy) / "toy" / "toy.inter").unlink()
    with pytest.raises(UserError, match=r"'toy'.*there is no file.*toy\.inter.*--data_path"):
        make_split(make_config("BPR"))


def test_a_data_path_that_is_a_folder_too_deep_is_told_the_one_above(make_config, toy) -> None:
    with pytest.raises(UserError, match=rf"there is no file .*; did you mean --data_path={re.escape(str(toy))}\?$"):
        make_split(make_config("BPR", data_path=str(Path(toy) / "toy")))


@pytest.mark.parametrize("content", ["", "user_id:token\titem_id:token\n"])
def test_empty_dataset_is_one_sentence(make_config, toy, content) -> None:
    (Path(toy) / "toy" / "toy.inter").write_text(content)
    with pytest.raises(UserError, match=r"'toy'.*holds no interaction"):
        make_split(make_config("BPR"))


@pytest.mark.parametrize(
    "bad",
    [
        {"user_inter_num_interval": "[1000,inf)"},
        {"eval_args": {"split": {"RS": [1, 0, 0]}, "group_by": "user", "order": "RO", "mode": "full"}},
        {"eval_args": {"split": {"RS": [0.8, 0.2, 0]}, "group_by": "user", "order": "RO", "mode": "full"}},
    ],
)
def test_settings_that_leave_a_part_empty_or_do_not_fit_the_files_are_refused(make_config, bad) -> None:
    with pytest.raises(UserError, match="dataset 'toy'"):
        make_split(make_config("BPR", **bad))


@pytest.mark.parametrize("key", ["USER_ID_FIELD", "ITEM_ID_FIELD"])
def test_id_fields_that_the_file_does_not_have_are_named_with_those_it_has(make_config, key) -> None:
    with pytest.raises(UserError, match=f"{key}.*no column 'person'.*user_id, item_id, rating, timestamp"):
        make_split(make_config("BPR", **{key: "person"}))


@pytest.mark.parametrize(
    ("load_col", "sentence"),
    [
        ({"inter": ["user_id"]}, "leaves 'item_id' out"),
        ({"user": ["user_id"]}, "leaves 'user_id' out"),
        ({"inter": "user_id"}, "no dict of lists"),
        (["user_id", "item_id"], "no dict of lists"),
    ],
)
def test_columns_that_cannot_be_loaded_are_named(make_config, load_col, sentence) -> None:
    with pytest.raises(UserError, match=f"load_col.*{sentence}"):
        make_split(make_config("BPR", load_col=load_col))


def test_all_columns_may_be_asked_for(make_config) -> None:
    assert make_split(make_config("BPR", load_col={"inter": "*"})).fingerprint


def test_a_column_that_a_file_lacks_is_passed_over_with_a_warning_as_recbole_does(make_config, caplog) -> None:
    with caplog.at_level(logging.WARNING):
        assert make_split(make_config("BPR", load_col={"inter": ("user_id", "item_id", "colour")})).fingerprint
    assert "no column colour" in caplog.text


def test_a_file_in_another_encoding_is_read_by_it_or_named(make_config) -> None:
    path = Path(make_config("BPR")["data_path"]) / "toy.inter"
    path.write_bytes(path.read_text(encoding="utf-8").replace("u3\t", "ü3\t").encode("latin-1"))
    assert make_split(make_config("BPR", encoding="latin-1", load_col={"inter": "*"})).whole.token2id("user_id", "ü3")
    with pytest.raises(UserError, match=r"encoding: 'utf-8' does not read|cannot be loaded"):
        make_split(make_config("BPR"))


def test_cutoffs_beyond_the_catalogue_are_shortened_with_one_warning(make_config, split, caplog) -> None:
    config = make_config("BPR", topk=[5, 100, 500], valid_metric="Recall@500")
    with caplog.at_level(logging.WARNING):
        fit_to_data(config, split)
    assert config["topk"] == [5, 81]
    assert config["valid_metric"] == "Recall@81"
    assert [record.getMessage().partition(":")[0] for record in caplog.records] == ["topk"]


def test_cutoffs_within_the_catalogue_stay_as_they_are_in_silence(make_config, split, caplog) -> None:
    config = make_config("BPR", topk=[10, 81], valid_metric="NDCG@10")
    fit_to_data(config, split)
    assert (config["topk"], config["valid_metric"]) == ([10, 81], "NDCG@10")
    assert not caplog.records


def test_eval_batch_size_is_chosen_by_memory__unless_given(make_config, split) -> None:
    chosen, given = make_config("BPR", max_block_mb=0.01), make_config("BPR", eval_batch_size=123)
    for config in (chosen, given):
        fit_to_data(config, split)
    users = int(0.01 * 2**20 / 4 / 82)
    assert chosen["eval_batch_size"] == users * 82
    assert given["eval_batch_size"] == 123
    assert all(len(batch[0]["user_id"]) <= users for batch in split.loaders(chosen).test)


def test_history_of_a_split_is_that_of_its_training_part(split) -> None:
    expected = {user for user, _ in pairs_of(split.train)}
    assert set(split.history.active_users.tolist()) == expected
