"""A student serves without the data that it was trained on, and with data that grew since."""

from __future__ import annotations

import shutil
from pathlib import Path

import pandas as pd
import pytest
import torch

from recbole_hetcomp.cli import main
from recbole_hetcomp.config.errors import UserError
from recbole_hetcomp.data.split import make_split
from recbole_hetcomp.data.stored import places_of, stored_data, stored_split
from recbole_hetcomp.quick_start import run_hetcomp
from recbole_hetcomp.serving.recommending import all_users, recommend
from recbole_hetcomp.serving.student import load_student, load_with_split
from recbole_hetcomp.trainer.building import build_model
from recbole_hetcomp.trainer.checkpoint import DATA, load_checkpoint, save_checkpoint

SEQUENTIAL = {
    "load_col": {"inter": ["user_id", "item_id", "timestamp"], "item": ["item_id", "movie_title"]},
    "eval_args": {"split": {"LS": "valid_and_test"}, "order": "TO", "group_by": "user", "mode": "full"},
}
STUDENTS = {
    "MF": {},
    "ML": {},
    "HistoryEncoder": {},
    "LightGCN": {},
    "MultiVAE": {},
    "GRU4Rec": {**SEQUENTIAL, "loss_type": "CE", "train_neg_sample_args": None},
    "SASRec": {**SEQUENTIAL, "loss_type": "CE", "train_neg_sample_args": None},
}


@pytest.fixture
def train(settings):
    """`train(student)`: the checkpoint of a student of one teacher."""

    def trained(student: str = "MF") -> str:
        few = {**settings, "teachers": ["BPR"], "without_distillation": False, "epochs": 1, **STUDENTS[student]}
        few["student"] = student
        if student in ("MultiVAE", "SASRec"):  # which have sizes of their own
            del few["embedding_size"]
        return run_hetcomp("HetCompStudent", "toy", config_dict=few, arguments=(), compare=False)["checkpoint"]

    return trained


@pytest.fixture
def add(toy):
    """`add("u1\\ti2\\t5\\t9999")`: rows at the end of the file of interactions."""

    def write(*rows: str) -> None:
        path = Path(toy) / "toy" / "toy.inter"
        path.write_text(path.read_text(encoding="utf-8") + "".join(f"{row}\n" for row in rows), encoding="utf-8")

    return write


def lists(checkpoint: str, users: list[str] | None = None):
    _, model, dataset = load_student(checkpoint)
    return recommend(model, dataset, users or all_users(dataset), 10)


@pytest.mark.parametrize("student", STUDENTS)
def test_without_the_data_it_recommends_what_it_recommends_with_them(train, toy, student):
    """And the same as by the split that the files make, to the last bit."""
    checkpoint = train(student)
    with_data = lists(checkpoint)
    config, model, kept = load_with_split(checkpoint)
    made = make_split(config)
    assert kept.fingerprint == made.fingerprint
    if kept.instances is not None:
        assert kept.rows(1, 0).fingerprint == made.rows(1, 0).fingerprint
    from_files = build_model(config, made.train_for(config))
    from_files.load_state_dict(model.state_dict())
    assert recommend(from_files.eval(), made.whole, all_users(made.whole), 10) == with_data
    shutil.rmtree(toy)
    assert lists(checkpoint) == with_data
    assert len(with_data) == 60


def test_every_method_is_built_from_the_data_in_its_checkpoint(any_method, make_config):
    name, own = any_method
    config = make_config(name, **own)
    split = make_split(config)
    kept = stored_split(stored_data(split), config)
    assert kept.id_fingerprint == split.id_fingerprint
    states = [build_model(config, one.train_for(config)).state_dict() for one in (split, kept)]
    assert {key: value.shape for key, value in states[0].items()} == {key: value.shape for key, value in states[1].items()}


def test_data_that_grew_serve_old_users_as_before__with_new_interactions_masked(train, add):
    checkpoint = train("HistoryEncoder")
    before = lists(checkpoint)
    best = before["u3"][0][0]
    add(f"u3\t{best}\t5\t9999", "u3\tnew item\t5\t9999", "newcomer\ti1\t5\t9999")
    after = lists(checkpoint)
    assert {user: items for user, items in after.items() if user != "u3"} == {
        user: items for user, items in before.items() if user != "u3"
    }
    assert after["u3"][:9] == before["u3"][1:]


def test_a_sequential_student_follows_what_came_new(train, add):
    checkpoint = train("GRU4Rec")
    before = lists(checkpoint)
    add(f"u3\t{before['u3'][0][0]}\t5\t9999")
    after = lists(checkpoint)
    assert after["u4"] == before["u4"]
    assert before["u3"][0][0] not in dict(after["u3"])
    assert dict(after["u3"]).get(before["u3"][1][0]) != before["u3"][1][1]


def test_a_new_user_is_said_to_be_new(train, add, toy, capsys):
    checkpoint = train()
    add("newcomer\ti1\t5\t9999")
    with (Path(toy) / "toy" / "toy.user").open("a", encoding="utf-8") as file:
        file.write("newcomer\n")
    with pytest.raises(UserError, match=r"users: 'newcomer' is new: dataset 'toy' has this user.*--history"):
        lists(checkpoint, ["newcomer"])
    with pytest.raises(UserError, match="dataset 'toy' has no user 'nobody'"):
        lists(checkpoint, ["nobody"])
    assert main(["recommend", f"--checkpoint={checkpoint}", "--users=newcomer"]) == 2


def test_users_who_grow_out_of_the_intervals_of_the_training_are_served(settings, add, toy):
    counts = pd.read_csv(Path(toy) / "toy" / "toy.inter", sep="\t", dtype=str).iloc[:, 0].value_counts()
    most, least = int(counts.iloc[len(counts) // 4]), int(counts.min()) + 1
    few = {**settings, "teachers": ["BPR"], "without_distillation": False, "epochs": 1}
    few["user_inter_num_interval"] = f"[{least},{most}]"
    checkpoint = run_hetcomp("HetCompStudent", "toy", config_dict=few, arguments=(), compare=False)["checkpoint"]
    before = lists(checkpoint)
    full = next(user for user in before if counts[user] == most)
    add(f"{full}\t{before[full][0][0]}\t5\t9999", "newcomer\ti1\t5\t9999")
    with (Path(toy) / "toy" / "toy.user").open("a", encoding="utf-8") as file:
        file.write("newcomer\n")
    after = lists(checkpoint)
    assert {user: items for user, items in after.items() if user != full} == {
        user: items for user, items in before.items() if user != full
    }
    assert after[full][:9] == before[full][1:]
    with pytest.raises(UserError, match="users: 'newcomer' is new"):
        lists(checkpoint, ["newcomer"])


def test_data_that_lack_what_it_was_trained_on_are_refused(train, toy):
    checkpoint = train()
    path = Path(toy) / "toy" / "toy.inter"
    header, first, *rows = path.read_text(encoding="utf-8").splitlines()
    path.write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
    user, item = first.split("\t")[:2]
    with pytest.raises(
        UserError, match=f"dataset 'toy' lacks 1 interactions, such as that of user '{user}' with item '{item}'"
    ):
        load_student(checkpoint)


def test_without_the_data_this_is_said(train, toy, caplog):
    checkpoint = train()
    shutil.rmtree(toy)
    load_student(checkpoint)
    assert "what users have is what the checkpoint says" in caplog.text


def test_a_checkpoint_without_the_data_in_it_serves_with_them(train):
    checkpoint = train()
    found = lists(checkpoint)
    state = load_checkpoint(checkpoint)
    del state[DATA]
    save_checkpoint(checkpoint, state)
    assert lists(checkpoint) == found


def test_repeated_interactions_come_back_in_their_order(make_config):
    """Of a sequential run a pair may be in the training and the test part: which copy is which is known."""
    assert places_of(torch.tensor([5, 7, 5]).numpy(), torch.tensor([5, 5, 9, 7]).numpy()).tolist() == [0, 3, 1]
    assert places_of(torch.tensor([5, 5]).numpy(), torch.tensor([5]).numpy()).tolist() == [0, -1]
    config = make_config("GRU4Rec", **STUDENTS["GRU4Rec"])
    split = make_split(config)
    back = stored_split(stored_data(split), config)
    for one, other in zip(split.parts, back.parts):
        for field in ("user_id", "item_id"):
            assert torch.equal(one.inter_feat[field], other.inter_feat[field])


def _changed(**changes):
    return lambda section: {**section, **changes}


@pytest.mark.parametrize(
    "change",
    [
        lambda section: "x",
        lambda section: {},
        _changed(counts=torch.zeros(3, dtype=torch.int32)),
        _changed(items=torch.zeros(3)),
        _changed(parts=torch.zeros(3, dtype=torch.uint8)),
        lambda section: {**section, "items": section["items"] + 1000},
        lambda section: {**section, "items": section["items"] * 0},
        lambda section: {**section, "counts": section["counts"] - 1},
        lambda section: {**section, "parts": section["parts"] + 9},
        lambda section: {**section, "parts": section["parts"] * 0 + 3},
        lambda section: {**section, "user_tokens": section["user_tokens"] * 0 + 255},
        lambda section: {**section, "user_tokens": section["item_tokens"]},
        lambda section: {**section, "item_tokens": section["item_tokens"] * 0 + 10},
    ],
)
def test_data_that_no_training_writes_are_one_sentence(train, change, capsys):
    checkpoint = train()
    state = load_checkpoint(checkpoint)
    state[DATA] = change(state[DATA])
    save_checkpoint(checkpoint, state)
    assert main(["recommend", f"--checkpoint={checkpoint}", "--users=u0"]) == 2
    sentence = capsys.readouterr().err
    assert sentence.startswith("hetcomp: checkpoint: ")
    assert sentence.count("\n") == 1
