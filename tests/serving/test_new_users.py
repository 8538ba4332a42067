"""Recommendations for histories: of whom the training has not seen, by each kind of student."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from recbole_hetcomp.cli import main
from recbole_hetcomp.config.errors import UserError
from recbole_hetcomp.data.history import History
from recbole_hetcomp.losses.streaming import Vectors
from recbole_hetcomp.quick_start import load_student, recommend, recommend_for, run_hetcomp
from recbole_hetcomp.serving.new_users import FoldIn

SEQUENTIAL = {
    "load_col": {"inter": ["user_id", "item_id", "timestamp"]},
    "eval_args": {"split": {"LS": "valid_and_test"}, "order": "TO", "group_by": "user", "mode": "full"},
    "loss_type": "CE",
    "train_neg_sample_args": None,
}


@pytest.fixture
def train(settings):
    def trained(student: str, **changes) -> str:
        few = {**settings, "teachers": ["BPR"], "without_distillation": False, "student": student, **changes}
        return run_hetcomp("HetCompStudent", "toy", config_dict=few, arguments=(), compare=False)["checkpoint"]

    return trained


def items_of(dataset, user: str) -> list[str]:
    number = dataset.token2id("user_id", user)
    there = dataset.inter_feat["item_id"][dataset.inter_feat["user_id"] == number]
    return [str(token) for token in dataset.id2token("item_id", there)]


@pytest.mark.parametrize("student", ["GRU4Rec", "HistoryEncoder"])
def test_the_history_of_a_known_user_is_served_as_the_user(train, student):
    """Of HistoryEncoder that of the training part, from which it makes a user's vector."""
    _, model, dataset = load_student(train(student, **(SEQUENTIAL if student == "GRU4Rec" else {})))
    known = recommend(model, dataset, ["u3", "u8"], 8)
    if student == "HistoryEncoder":
        users = torch.tensor(dataset.token2id("user_id", np.array(["u3", "u8"])))
        rows = model.backbone.history.padded(users)
        histories = [[str(dataset.id2token("item_id", int(item))) for item in row if item] for row in rows]
    else:
        histories = [items_of(dataset, "u3"), items_of(dataset, "u8")]
    found = recommend_for(model, dataset, dict(zip(("a", "b"), histories)), 80)
    for user, name in zip(known, found):
        barred = set(items_of(dataset, user))
        rest = [(item, score) for item, score in found[name] if item not in barred][:8]
        assert [item for item, _ in rest] == [item for item, _ in known[user]]
        assert np.allclose([score for _, score in rest], [score for _, score in known[user]], atol=1e-5)


@pytest.mark.parametrize("student", ["MF", "ML", "HistoryEncoder", "LightGCN"])
def test_a_history_gets_what_its_user_gets_rather_than_what_others_get(train, student):
    """And nothing that is in it: each known user's items as if they were somebody new."""
    _, model, dataset = load_student(train(student, epochs=60, learning_rate=0.05, teachers=["EASE"]))
    users = [f"u{number}" for number in range(60)]
    own = {user: {item for item, _ in items} for user, items in recommend(model, dataset, users, 10).items()}
    histories = {user: items_of(dataset, user) for user in users}
    found = recommend_for(model, dataset, histories, 10)
    shared = np.array([[len(own[other] & {item for item, _ in found[user]}) for other in users] for user in users])
    assert shared.diagonal().mean() > shared.mean() + 1
    assert not any({*histories[user]} & {item for item, _ in items} for user, items in found.items())
    table = recommend_for(model, dataset, histories, 10, as_frame=True)
    assert table["item"].tolist() == [item for items in found.values() for item, _ in items]


def test_the_fold_in_finds_a_map_that_is_there():
    """Where each user's vector is a linear map of the mean of the items' vectors."""
    generator = torch.Generator().manual_seed(0)
    items = torch.randn(41, 4, generator=generator)
    users, of_users = torch.arange(1, 31).repeat_interleave(6), torch.randint(1, 41, (180,), generator=generator)
    history = History(users, of_users, 31, 41)
    matrix = torch.randn(4, 4, generator=generator)
    counts = history.counts.clamp(min=1)[:, None]
    means = torch.stack([items[history.items[history.pairs // 41 == user]].sum(0) for user in range(31)]) / counts
    fold_in = FoldIn(Vectors(means @ matrix + 1.0, items), history)
    new = torch.tensor([[3, 9, 0], [4, 5, 6]])
    wanted = torch.stack([items[[3, 9]].mean(0), items[[4, 5, 6]].mean(0)]) @ matrix + 1.0
    assert torch.allclose(fold_in.users(new), wanted, atol=0.05)


def test_items_that_are_not_there_are_left_out_and_named(train, caplog):
    _, model, dataset = load_student(train("HistoryEncoder"))
    with_unknown = recommend_for(model, dataset, {"a": ["i1", "nothing", "i2"]}, 5)
    assert "does not have 'nothing'; left out" in caplog.text
    assert with_unknown == recommend_for(model, dataset, {"a": ["i1", "i2"]}, 5)
    with pytest.raises(UserError, match="history: that of 'a' has no item of dataset 'toy'"):
        recommend_for(model, dataset, {"a": ["nothing"]})


@pytest.mark.parametrize(("student", "changes"), [("DL", {}), ("FPMC", {**SEQUENTIAL, "loss_type": "BPR"})])
def test_students_that_have_no_way_to_take_a_history_say_so(train, student, changes):
    changes = {key: value for key, value in changes.items() if key != "train_neg_sample_args"}
    _, model, dataset = load_student(train(student, **changes))
    with pytest.raises(UserError, match=f"history: .*{student}"):
        recommend_for(model, dataset, {"a": ["i1"]})


@pytest.mark.parametrize("student", ["MF", "HistoryEncoder"])
def test_an_item_that_is_named_twice_counts_once(train, student):
    _, model, dataset = load_student(train(student))
    found = recommend_for(model, dataset, {"once": ["i1", "i2"], "twice": ["i1", "i1", "i2", "i1"]}, 10)
    assert [item for item, _ in found["once"]] == [item for item, _ in found["twice"]]
    assert np.allclose(*([score for _, score in items] for items in found.values()), rtol=1e-5)


def test_the_command_takes_a_history_or_a_file_of_them(train, toy, capsys):
    checkpoint = train("HistoryEncoder")
    (Path(toy) / "toy" / "toy.inter").unlink()  # it needs no data
    assert main(["recommend", f"--checkpoint={checkpoint}", "--history=i1,i5", "--k=3"]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert printed[0] == "user new"
    assert len(printed) == 4
    Path("them.csv").write_text('"Doe, Jane",i1,i5\nbob,i2\n', encoding="utf-8")
    assert main(["recommend", f"--checkpoint={checkpoint}", "--histories_file=them.csv", "--k=3", "--output=out.csv"]) == 0
    rows = Path("out.csv").read_text(encoding="utf-8").splitlines()
    assert rows[1].startswith('"Doe, Jane",')
    assert [row.split(",")[-3] for row in rows[1:4]] == [line.split()[1] for line in printed[1:]]
    capsys.readouterr()
    for text, sentence in (("bob\n", "'bob' has no item"), ("bob,i1\nbob,i2\n", "'bob' stands twice")):
        Path("them.csv").write_text(text, encoding="utf-8")
        assert main(["recommend", f"--checkpoint={checkpoint}", "--histories_file=them.csv"]) == 2
        assert sentence in capsys.readouterr().err
