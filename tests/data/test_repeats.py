"""A file with repeated interactions: models, ensembles and students are scored alike, and the reader is told."""

from __future__ import annotations

import copy
import logging
from pathlib import Path

import pytest
import torch

from recbole_hetcomp.config import Config
from recbole_hetcomp.config.errors import UserError
from recbole_hetcomp.data.repeats import pairs_of
from recbole_hetcomp.data.split import make_split
from recbole_hetcomp.evaluation.comparison import teacher_rows
from recbole_hetcomp.teacher_training.scheduling import build_pool

TIMES = {"load_col": {"inter": ["user_id", "item_id", "rating", "timestamp"]}}


@pytest.fixture
def shop(toy: str) -> int:
    """Puts every third interaction of `toy` there again, a little later, with the rating 9; the number of copies."""
    path = Path(toy) / "toy" / "toy.inter"
    rows = path.read_text(encoding="utf-8").splitlines()
    columns = [row.split("\t") for row in rows[1::3]]
    copies = ["\t".join([user, item, "9", f"{time}.5"]) for user, item, _, time in columns]
    path.write_text("\n".join([*rows, *copies]) + "\n", encoding="utf-8")
    return len(copies)


def messages(caplog) -> list[str]:
    return [record.getMessage() for record in caplog.records if "repeat" in record.getMessage()]


@pytest.mark.parametrize("method", ["BPR", "EASE", "HetCompStudent"])
def test_by_default_a_pair_counts_once__which_is_said_once(make_config, split, shop, caplog, method) -> None:
    with caplog.at_level(logging.INFO):
        found = make_split(make_config(method))
    assert found.fingerprint == split.fingerprint  # of the file without the copies
    (said,) = messages(caplog)
    assert f"{shop} of {shop + len(split.whole)} interactions repeat" in said
    assert "rm_dup_inter" in said


@pytest.mark.parametrize(("keep", "repeated_ratings"), [("first", False), ("last", True)])
def test_the_first_or_the_last_in_time_is_kept(make_config, shop, keep, repeated_ratings) -> None:
    found = make_split(make_config("BPR", rm_dup_inter=keep, normalize_all=False, **TIMES))
    pairs = pairs_of(found.whole)
    assert len(pairs) == len(set(pairs.tolist()))
    assert int((found.whole.inter_feat["rating"] == 9).sum()) == (shop if repeated_ratings else 0)


@pytest.mark.parametrize(
    "settings_of_split", [{}, {"order": "TO"}, {"group_by": "none"}, {"split": {"LS": "valid_and_test"}}]
)
def test_kept_copies_are_trained_on_and_never_evaluated(make_config, shop, caplog, settings_of_split) -> None:
    evaluated = {"split": {"RS": [0.6, 0.2, 0.2]}, "group_by": "user", "order": "RO", "mode": "full", **settings_of_split}
    with caplog.at_level(logging.INFO):
        found = make_split(make_config("BPR", rm_dup_inter=None, eval_args=evaluated, **TIMES))
    train, valid, test = (pairs_of(part) for part in found.parts)
    assert len(train) > len({*train.tolist()})
    assert not {*train.tolist()} & {*valid.tolist()}
    assert not ({*train.tolist()} | {*valid.tolist()}) & {*test.tolist()}
    left_out = len(found.whole) - len(train) - len(valid) - len(test)
    (said,) = messages(caplog)
    counts = [int(word) for word in said.split() if word.isdigit()]
    assert left_out == sum(counts) > 0
    assert said.endswith("rm_dup_inter: first leaves copies out")


def test_given_parts_that_share_pairs_are_evaluated_without_them(make_config, toy, caplog) -> None:
    """rm_dup_inter, RecBole's or ours, does not act there."""
    folder = Path(toy) / "toy"
    header, *rows = (folder / "toy.inter").read_text(encoding="utf-8").splitlines()
    files = {"one": rows[:-200], "two": [*rows[-200:-100], *rows[:7]], "three": [*rows[-100:], *rows[5:10], rows[-150]]}
    for name, lines in files.items():
        (folder / f"toy.{name}.inter").write_text("\n".join([header, *lines]) + "\n", encoding="utf-8")
    with caplog.at_level(logging.INFO):
        found = make_split(make_config("BPR", benchmark_filename=list(files)))
    assert [len(part) for part in found.parts] == [len(rows) - 200, 100, 100]
    (said,) = messages(caplog)
    assert "7 validation and 6 test interactions repeat" in said
    assert said.endswith("take them out of the files")


@pytest.mark.parametrize("order", ["RO", "TO"])
def test_without_repeats_nothing_changes_and_nothing_is_said(make_config, caplog, order) -> None:
    """RecBole would sort the rows by time, and with them the ids and the split."""
    folder = Path(make_config("BPR")["data_path"])
    header, *rows = (folder / "toy.inter").read_text(encoding="utf-8").splitlines()
    (folder / "toy.inter").write_text("\n".join([header, *reversed(rows)]) + "\n", encoding="utf-8")
    protocol = {"split": {"RS": [0.6, 0.2, 0.2]}, "group_by": "user", "order": order, "mode": "full"}
    with caplog.at_level(logging.WARNING):
        by_default, as_they_are = (
            make_split(make_config("BPR", eval_args=protocol, **TIMES, **given)) for given in ({}, {"rm_dup_inter": None})
        )
    assert by_default.fingerprint == as_they_are.fingerprint
    for part, same in zip(by_default.parts, as_they_are.parts):
        assert all(torch.equal(part.inter_feat[field], same.inter_feat[field]) for field in same.inter_feat.columns)
    assert not caplog.records


@pytest.mark.parametrize(
    ("model", "kept"),
    [("BPR", "first"), ("EASE", "first"), ("RRDStudent", "first"), ("KGAT", "first"), ("SASRec", None), ("FM", None)],
)
def test_repeats_are_data_to_sequential_and_context_aware_models(settings, model, kept) -> None:
    own = {key: settings[key] for key in ("data_path", "checkpoint_dir", "use_gpu", "gpu_id")}
    own["train_neg_sample_args"] = None if model == "SASRec" else {"distribution": "uniform", "sample_num": 1}
    assert Config(model, "toy", config_dict=own, arguments=())["rm_dup_inter"] == kept
    for given, meant in (("None", None), ("last", "last")):
        assert Config(model, "toy", config_dict=own, arguments=[f"--rm_dup_inter={given}"])["rm_dup_inter"] == meant


def test_copies_stay_in_the_parts_of_a_context_aware_model(make_config, shop, caplog) -> None:
    columns = {"load_col": {"inter": ["user_id", "item_id", "rating"]}, "threshold": {"rating": 3}}
    found = make_split(make_config("FM", **columns))
    assert sum(map(len, found.parts)) == len(found.whole)
    assert {*pairs_of(found.parts[0]).tolist()} & {*pairs_of(found.parts[2]).tolist()}
    assert not messages(caplog)


@pytest.mark.parametrize("wrong", [False, True, "every", 1])
def test_another_rule_is_refused(make_config, wrong) -> None:
    with pytest.raises(UserError, match=f"^rm_dup_inter: {wrong!r} is none of first, last; write ~"):
        make_split(make_config("BPR", rm_dup_inter=wrong))


@pytest.mark.parametrize("kept", [{}, {"rm_dup_inter": None}])
@pytest.mark.usefixtures("shop")
def test_a_teacher_and_the_ensemble_of_it_alone_are_scored_alike(make_config, kept) -> None:
    """RecBole's way of counting gave the teacher what its lists cannot have: items of the training part."""
    deep = {"trajectory_depth": 81, "teachers": ["BPR"], "importance_cutoff": 81}
    config = make_config("HetCompStudent", **deep, **kept)
    split = make_split(config)
    pool = build_pool(config, split)
    teacher, ensemble = teacher_rows(pool, config, split, split.loaders(copy.copy(config)))
    for metric in ("recall@10", "ndcg@10", "recall@5"):
        assert teacher[metric] == pytest.approx(ensemble[metric], abs=1e-6)
    assert teacher["recall@10"] > 0.05


@pytest.mark.parametrize("kept", [{}, {"rm_dup_inter": None}])
@pytest.mark.usefixtures("shop")
def test_a_model_and_the_file_of_its_lists_are_scored_alike(make_config, kept) -> None:
    given = {"trajectory_depth": 81, "teachers": ["BPR"], "importance_cutoff": 81, "trajectory_fractions": [1.0], **kept}
    config = make_config("HetCompStudent", **given)
    split = make_split(config)
    pool = build_pool(config, split)
    users, items = (split.whole.field2id_token[field] for field in ("user_id", "item_id"))
    lists = pool.teachers[0].trajectory.items[-1]
    rows = [
        f"{users[user]},{items[item]},{rank}"
        for user, row in enumerate(lists.tolist())
        for rank, item in enumerate(row)
        if item
    ]
    Path("lists.csv").write_text("\n".join(["user,item,rank", *rows]), encoding="utf-8")
    of_lists = make_config("HetCompStudent", **{**given, "teachers": ["lists.csv"]})
    model, _ = teacher_rows(pool, config, split, split.loaders(copy.copy(config)))
    lists, _ = teacher_rows(build_pool(of_lists, split), of_lists, split, split.loaders(copy.copy(of_lists)))
    for metric in ("recall@10", "ndcg@10", "recall@5"):
        assert model[metric] == pytest.approx(lists[metric], abs=1e-6)
    assert model["recall@10"] > 0.05
