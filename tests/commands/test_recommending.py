"""`hetcomp recommend`: whom, where to, and what is refused."""

from __future__ import annotations

import csv
import json
import os
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from recbole_hetcomp.cli import main
from recbole_hetcomp.quick_start import load_student, recommend, run_hetcomp
from recbole_hetcomp.serving import writing
from recbole_hetcomp.serving.recommending import all_users


@pytest.fixture
def checkpoint(settings) -> str:
    few = {**settings, "teachers": ["BPR"], "without_distillation": False, "epochs": 1}
    return run_hetcomp("HetCompStudent", "toy", config_dict=few, arguments=(), compare=False)["checkpoint"]


def expected(checkpoint: str, k: int = 10):
    _, model, dataset = load_student(checkpoint)
    return recommend(model, dataset, all_users(dataset), k)


def from_rows(rows) -> dict[str, list[tuple[str, float]]]:
    """(user, item, rank, score) rows by user, in their order; ranks are 1, 2, ..."""
    found: dict[str, list[tuple[str, float]]] = {}
    for user, item, rank, score in rows:
        found.setdefault(user, []).append((item, float(np.float32(score))))
        assert int(rank) == len(found[user])
    return found


def read(path: str) -> dict[str, list[tuple[str, float]]]:
    if path.endswith(".jsonl"):
        lines = [json.loads(line) for line in Path(path).read_text(encoding="utf-8").splitlines()]
        return from_rows(
            (line["user"], item, rank, score)
            for line in lines
            for rank, (item, score) in enumerate(zip(line["items"], line["scores"]), 1)
        )
    if path.endswith(".parquet"):
        return from_rows(pd.read_parquet(path).itertuples(index=False))
    with open(path, encoding="utf-8", newline="") as file:
        header, *rows = csv.reader(file)
    assert header == ["user", "item", "rank", "score"]
    return from_rows(rows)


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet"])
def test_all_users_in_a_file_are_those_of_the_function__in_small_blocks_too(checkpoint, suffix, monkeypatch, capsys):
    if suffix == "parquet":
        pytest.importorskip("pyarrow")
    monkeypatch.setattr(writing, "ROWS", 70)
    output = f"out.{suffix}"
    command = ["recommend", f"--checkpoint={checkpoint}", "--users=all", f"--output={output}", "--k=7"]
    assert main([*command, "--max_block_mb=0.001"]) == 0
    assert capsys.readouterr().out == f"{output}: 420 recommendations\n"
    found, wanted = read(output), expected(checkpoint, 7)
    assert list(found) == list(wanted) == [f"u{number}" for number in range(60)]
    for user, items in wanted.items():
        assert [item for item, _ in found[user]] == [item for item, _ in items]
        assert np.allclose([score for _, score in found[user]], [score for _, score in items], rtol=1e-5)


def test_a_table_has_a_row_for_each(checkpoint):
    _, model, dataset = load_student(checkpoint)
    wanted = recommend(model, dataset, ["u1", "u0"], 4)
    table = recommend(model, dataset, ["u1", "u0"], 4, as_frame=True)
    assert list(table.columns) == ["user", "item", "rank", "score"]
    assert from_rows(table.itertuples(index=False)) == wanted
    assert recommend(model, dataset, [], 4, as_frame=True).empty


def test_users_of_a_file_are_lines_as_they_are(checkpoint, capsys):
    Path("users.txt").write_text("u5\n\nu2\nu5\n", encoding="utf-8")
    assert main(["recommend", f"--checkpoint={checkpoint}", "--users_file=users.txt", "--k=1"]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert [line for line in printed if line.startswith("user")] == ["user u5", "user u2"]
    Path("users.txt").write_text("Doe, Jane\n", encoding="utf-8")
    assert main(["recommend", f"--checkpoint={checkpoint}", "--users_file=users.txt"]) == 2
    assert "has no user 'Doe, Jane'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (["--users=u0", "--users_file=x"], "give --checkpoint=FILE --users=TOKEN,TOKEN"),
        (["--users_file=no.txt"], "users_file: 'no.txt' cannot be read"),
        (["--users=u0", "--output=out.xlsx"], "output: 'out.xlsx' is none of csv, jsonl, parquet"),
        (["--users=u0", "--output=out", "--format=html"], "format: 'html' is none of csv, jsonl, parquet"),
        (["--users=u0", "--format=csv"], "format: the screen has one format"),
        (["--users=u0", "--output=."], "output: '.' is none of"),
        (["--users=u0", "--output=no/out.csv"], "output: 'no/out.csv' cannot be written"),
        (["--users=u0", "--top=3"], "--top: there is no such flag or setting; did you mean 'topk'"),
        (["--users=u0", "--frobnicate=3"], "--frobnicate: there is no such flag or setting"),
        (["--users=u0", "--topk=3"], "topk: it is of the evaluation; leave it out, and say by --k"),
        (["--users=u0", "--k=0"], "k: "),
    ],
)
def test_wrong_flags_are_one_sentence_before_anything_is_loaded(flags, sentence, capsys):
    assert main(["recommend", "--checkpoint=no.pth", *flags]) == 2
    error = capsys.readouterr().err
    assert sentence in error
    assert error.count("\n") == 1


def test_parquet_without_its_library_asks_for_it(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    assert main(["recommend", "--checkpoint=no.pth", "--users=u0", "--output=out.parquet"]) == 2
    assert "pip install 'recbole_hetcomp[parquet]'" in capsys.readouterr().err


def test_an_older_file_stays_where_the_command_fails(checkpoint):
    Path("out.csv").write_text("mine", encoding="utf-8")
    assert main(["recommend", f"--checkpoint={checkpoint}", "--users=nobody", "--output=out.csv"]) == 2
    assert Path("out.csv").read_text(encoding="utf-8") == "mine"


@pytest.mark.parametrize("suffix", ["csv", "jsonl"])
def test_a_user_who_has_every_item_has_no_row(settings, toy, suffix):
    few = {**settings, "teachers": ["BPR"], "without_distillation": False, "epochs": 1}
    made = run_hetcomp("HetCompStudent", "toy", config_dict=few, arguments=(), compare=False)["checkpoint"]
    items = load_student(made)[2].field2id_token["item_id"][1:]
    with (Path(toy) / "toy" / "toy.inter").open("a", encoding="utf-8") as file:
        file.writelines(f"u0\t{item}\t5\t9999\n" for item in items)
    for users, there in (("u0", set()), ("u0,u1", {"u1"})):
        assert main(["recommend", f"--checkpoint={made}", f"--users={users}", f"--output=out.{suffix}"]) == 0
        assert set(read(f"out.{suffix}")) == there


def test_what_is_read_and_what_is_no_plain_file_is_not_replaced(checkpoint, tmp_path, capsys):
    Path("who.csv").write_text("u1\n", encoding="utf-8")
    Path("real.csv").write_text("old", encoding="utf-8")
    Path("link.csv").symlink_to("real.csv")
    os.mkfifo("pipe.csv")
    for output, sentence in (
        ("who.csv", "is the users_file as well"),
        (checkpoint, "is the checkpoint as well"),
        ("link.csv", "is no plain file"),
        ("pipe.csv", "is no plain file"),
    ):
        flags = ["recommend", f"--checkpoint={checkpoint}", "--users_file=who.csv", f"--output={output}", "--format=csv"]
        assert main(flags) == 2
        assert sentence in capsys.readouterr().err
    assert Path("real.csv").read_text(encoding="utf-8") == "old"
    assert Path("link.csv").is_symlink()


def test_nobody_is_no_user(checkpoint, capsys):
    assert main(["recommend", f"--checkpoint={checkpoint}", "--users="]) == 2
    assert "users: nobody is named" in capsys.readouterr().err
