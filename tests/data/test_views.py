"""Sequential data whose order in time is not that of ids, and users with one interaction: both families see the same."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
import torch
from recbole.quick_start import run_recbole

from recbole_hetcomp.config import Config
from recbole_hetcomp.config.errors import UserError
from recbole_hetcomp.data.asked import asked_by
from recbole_hetcomp.data.split import Split, make_split
from recbole_hetcomp.data.views import plain
from recbole_hetcomp.quick_start import run_hetcomp
from recbole_hetcomp.serving.recommending import recommend
from recbole_hetcomp.serving.student import load_student
from recbole_hetcomp.teacher_training import source
from recbole_hetcomp.teacher_training.alone import alone_folder
from recbole_hetcomp.teacher_training.training import teacher_folder
from recbole_hetcomp.teacher_training.tuned import Tuning
from recbole_hetcomp.teacher_training.tuning import validation_sample

SIZES = {"hidden_size": 8, "inner_size": 8, "n_heads": 1, "MAX_ITEM_LIST_LENGTH": 10}
COLUMNS = {"load_col": {"inter": ["user_id", "item_id", "timestamp"]}}
Rows = list[tuple[str, str, int]]


def rows_of(toy: str) -> Rows:
    lines = (Path(toy) / "toy" / "toy.inter").read_text("utf-8").splitlines()[1:]
    return [(user, item, int(time)) for user, item, _, time in (line.split("\t") for line in lines)]


@pytest.fixture
def write(toy):
    """`write(rows)`: the interactions of `toy` from now on."""

    def into_file(rows: Rows) -> None:
        lines = ["user_id:token\titem_id:token\trating:float\ttimestamp:float"]
        lines += [f"{user}\t{item}\t1\t{time}" for user, item, time in rows]
        (Path(toy) / "toy" / "toy.inter").write_text("\n".join(lines) + "\n", "utf-8")

    return into_file


@pytest.fixture
def reversed_times(toy, write) -> Rows:
    """Who stands first in the file comes last in time, and so does each user's first item."""
    rows = [(user, item, 10_000 - time) for user, item, time in rows_of(toy)]
    write(rows)
    return rows


@pytest.fixture
def with_single(toy, write) -> Rows:
    """A user with a single interaction, before all others."""
    rows = [("lone", "i5", -1), *rows_of(toy)]
    write(rows)
    return rows


@pytest.fixture
def config(make_config):
    """`config(model, **settings)`: a Config for `toy` in a run with sequential models."""
    return lambda model="SASRec", **given: make_config(model, **{**COLUMNS, **SIZES, "in_sequential_run": True, **given})


def users_of(loader) -> list[int]:
    return [user for batch in loader for user in batch[0]["user_id"].tolist()]


@pytest.mark.usefixtures("reversed_times")
def test_models_of_both_families_are_tested_on_the_users_in_one_order(config) -> None:
    split = make_split(config())
    of_instances, of_users = (split.loaders(of) for of in (config(), config("BPR", repeatable=False)))
    for one, other in ((of_instances.valid, of_users.valid), (of_instances.test, of_users.test)):
        assert users_of(one) == users_of(other) == sorted(users_of(one))
        assert len(users_of(one)) == 60
    before = split.whole.inter_feat["user_id"].tolist()
    assert before != sorted(before)  # else the order would be no claim


@pytest.mark.usefixtures("reversed_times")
def test_without_the_mask_the_order_changes_none_of_recboles_figures(settings) -> None:
    common = {**settings, **COLUMNS, **SIZES, "metric_decimal_place": 12, "eval_batch_size": 4096}
    ours = run_hetcomp("GRU4Rec", "toy", config_dict={**common, "mask_seen": False}, arguments=())
    args = {"split": {"LS": "valid_and_test"}, "order": "TO", "mode": "full", "group_by": "user"}
    theirs = {**common, "eval_args": args, "metrics": ["Recall", "NDCG"], "repeatable": True, "train_neg_sample_args": None}
    expected = run_recbole("GRU4Rec", "toy", config_dict=theirs)
    for part in ("best_valid_result", "test_result"):
        assert dict(ours[part]) == dict(expected[part])


def pairs(split: Split, part) -> Counter:
    users, items = (part.inter_feat[field].numpy() for field in ("user_id", "item_id"))
    return Counter(zip(split.whole.id2token("user_id", users), split.whole.id2token("item_id", items)))


@pytest.mark.parametrize("longest", [1, 10])
def test_the_general_view_has_each_interaction_once(config, with_single, longest) -> None:
    """A user's first one, a lone one too; also where sequences have one item."""
    split = make_split(config(MAX_ITEM_LIST_LENGTH=longest))
    assert sum((pairs(split, part) for part in split.parts), Counter()) == Counter(row[:2] for row in with_single)
    assert pairs(split, plain(split.whole)) == Counter(row[:2] for row in with_single)
    lone = split.whole.token2id("user_id", "lone")
    assert split.history.padded(torch.tensor([lone])).tolist() == [[split.whole.token2id("item_id", "i5")]]
    assert split.rows(4, 1).asked(torch.tensor([lone]))["item_length"].item() == 1


def test_users_with_one_interaction_are_counted_in_the_log(config, with_single, caplog) -> None:
    make_split(config())
    assert "1 users have a single interaction: sequential models do not learn from it" in caplog.text


@pytest.mark.usefixtures("with_single")
@pytest.mark.parametrize("model", ["BPR", "GRU4Rec", "HetCompStudent"])
def test_nobody_is_recommended_what_they_have_had(settings, model, with_single) -> None:
    given = {"student": "MF", "teachers": ["GRU4Rec"], "in_sequential_run": True, "without_distillation": False}
    result = run_hetcomp(model, "toy", config_dict={**settings, **COLUMNS, **SIZES, **given}, arguments=(), compare=False)
    _, served, dataset = load_student(result["checkpoint"])
    for user in ("lone", "u0", "u33"):
        had = {item for other, item, _ in with_single if other == user}
        found = {item for item, _ in recommend(served, dataset, [user], 81)[user]}
        assert not found & had
        assert len(found) + len(had) == len(dataset.field2id_token["item_id"]) - 1


def test_metrics_of_the_training_part_count_the_same_interactions_for_both_families(config) -> None:
    split = make_split(config())
    assert split.instances is not None
    assert split.instances[0].item_counter == split.train.item_counter
    assert split.instances[0].user_counter == split.train.user_counter


def test_data_in_another_order_are_other_data_to_what_reads_the_order_alone(config, toy, write) -> None:
    """The same pairs in the same parts: within the training part the first two interactions of each user are exchanged."""
    run = config("HetCompStudent", student="GRU4Rec", teachers=["SASRec", "BPR"])
    rows = rows_of(toy)
    places = [[place for place, row in enumerate(rows) if row[0] == user] for user in dict.fromkeys(row[0] for row in rows)]
    exchanged = list(rows)
    for first, second in (sorted(of_user, key=lambda place: rows[place][2])[:2] for of_user in places):
        exchanged[first], exchanged[second] = (
            (rows[here][0], rows[here][1], rows[there][2]) for here, there in ((first, second), (second, first))
        )
    found = []
    for given in (rows, exchanged):
        write(given)
        split = make_split(run)
        folders = {name: teacher_folder(run, split, name).name for name in ("SASRec", "BPR")}
        alone = alone_folder(run, split).name
        tuned = Tuning.of(config("GRU4Rec"), run, split).folder.name
        found.append((folders, alone, tuned, split.rows(4, 1).fingerprint, split.fingerprint))
    (one, *by_order), (other, *by_other) = found
    assert one["BPR"] == other["BPR"]
    assert by_order.pop() == by_other.pop()  # the split is the same
    assert one["SASRec"] != other["SASRec"]
    assert all(here != there for here, there in zip(by_order, by_other))


def test_what_asks_by_sequences_is_part_of_what_shaped_a_sequential_teacher(config, monkeypatch) -> None:
    """And of no general one."""
    run = config("HetCompStudent", student="GRU4Rec", teachers=["SASRec", "BPR"])
    split, read = make_split(run), source._read
    before = {name: teacher_folder(run, split, name).name for name in ("SASRec", "BPR")}
    asked = Path(asked_by.__code__.co_filename).read_text("utf-8")
    edited = source._Read("edited", read(asked).imports)
    monkeypatch.setattr(source, "_read", lambda text: edited if text == asked else read(text))
    after = {name: teacher_folder(run, split, name).name for name in before}
    assert before["BPR"] == after["BPR"]
    assert before["SASRec"] != after["SASRec"]


def test_rows_of_longer_sequences_are_other_rows(config) -> None:
    one, other = (make_split(config(MAX_ITEM_LIST_LENGTH=longest)).rows(2, 1).fingerprint for longest in (5, 6))
    assert one != other


HAS_ALL = [("HetCompStudent", {"student": "SASRec", "teachers": ["BPR"]}), ("BPR", {"repeatable": False})]


@pytest.mark.parametrize(("model", "given"), HAS_ALL)
def test_a_user_who_has_every_item_is_refused_where_a_general_model_draws_negatives(
    config, toy, write, model, given
) -> None:
    rows = rows_of(toy)
    items = list(dict.fromkeys(item for _, item, _ in rows))
    write([*rows, *(("greedy", item, time) for time, item in enumerate(items))])
    (Path(toy) / "toy" / "toy.item").unlink()
    with pytest.raises(UserError, match=r"user 'greedy' has all 80 items"):
        make_split(config(model, **{"load_col": COLUMNS["load_col"], **given}))
    make_split(config("HetCompStudent", student="SASRec", teachers=["GRU4Rec"], in_sequential_run=False))


def test_a_sample_of_validation_users_is_the_same_for_both_families(config) -> None:
    split = make_split(config())
    fewer = validation_sample(split, 7, seed=3)
    assert fewer.instances is not None
    of_instances, of_users = (part.inter_feat["user_id"].tolist() for part in (fewer.instances[1], fewer.parts[1]))
    assert of_instances == of_users
    assert len(of_users) == 7
    assert fewer.instances[0] is split.instances[0]


@pytest.mark.parametrize("setting", [{"MAX_ITEM_LIST_LENGTH": 5}, {"mask_seen": False}])
def test_a_search_holds_for_its_protocol(config, setting) -> None:
    split = make_split(config())
    folders = {Tuning.of(config("GRU4Rec", **given), config(), split).folder for given in ({}, setting)}
    assert len(folders) == 2


def test_a_column_of_times_that_is_not_there_is_named_with_its_remedy(config: type[Config]) -> None:
    with pytest.raises(
        UserError, match=r"needs the column 'when' .TIME_FIELD.*name the column of times with TIME_FIELD"
    ) as error:
        make_split(config(TIME_FIELD="when", load_col={"inter": ["user_id", "item_id", "when"]}))
    assert "order: RO" not in error.value.sentence
