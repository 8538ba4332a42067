"""hetcomp predict: the probabilities of a file of rows are the model's for the same rows of the dataset."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
import torch

from recbole_hetcomp.cli import main
from recbole_hetcomp.commands import predict as command
from recbole_hetcomp.quick_start import run_hetcomp
from recbole_hetcomp.serving import clicks as serving
from recbole_hetcomp.serving.student import load_with_split

HEADER = "user_id,item_id,minutes\n"


@pytest.fixture
def saved(clicks):
    """The checkpoint of a distilled student."""
    settings = {**clicks, "teachers": ["LR"], "distil_epochs": 1, "epochs": 2, "student": "DeepFM"}
    return run_hetcomp("KDDAGFMStudent", "clicks", config_dict=settings, arguments=(), compare=False)["checkpoint"]


def said(saved, text, capsys, name="rows.csv", **flags):
    Path(name).write_text(text, encoding="utf-8")
    code = main(["predict", f"--checkpoint={saved}", f"--input={name}", *(f"--{k}={v}" for k, v in flags.items())])
    out, err = capsys.readouterr()
    return code, out, err


def written(whole, n):
    """The first rows of a dataset as its files have them: (user, item, minutes)."""
    rows = whole.inter_feat[torch.arange(n)]
    least, most = whole.ranges["minutes"]
    minutes = [f"{least + (most - least) * number:.1f}" for number in rows["minutes"][:, 0].double().tolist()]
    tokens = [whole.id2token(field, rows[field].numpy()) for field in ("user_id", "item_id")]
    return list(zip(*tokens, minutes))


def test_rows_of_the_dataset_are_predicted_as_the_dataset_has_them(saved, capsys, monkeypatch):
    monkeypatch.setattr(serving, "BLOCK", 7)
    _, model, split = load_with_split(saved, arguments=())
    rows = written(split.whole, 40)
    text = HEADER + "".join(",".join(row) + "\n" for row in rows)
    code, out, err = said(saved, text, capsys)
    assert (code, err) == (0, "")
    found = list(csv.DictReader(out.splitlines()))
    assert [(row["user_id"], row["item_id"]) for row in found] == [row[:2] for row in rows]
    assert len({row[2] for row in rows}) > 30
    with torch.no_grad():
        wanted = model.predict(split.whole[torch.arange(40)])
    torch.testing.assert_close(torch.tensor([float(row["probability"]) for row in found]), wanted, rtol=0, atol=2e-6)


def test_features_of_a_row_go_before_those_of_the_dataset(saved, capsys):
    text = "item_id,user_id,minutes,age,genre\ni3,u5,10,young,War Drama\ni3,u5,10,old,Crime\n"
    _, out, _ = said(saved, text, capsys)
    first, second = (float(row["probability"]) for row in csv.DictReader(out.splitlines()))
    assert first != second


def test_sequences_are_cut_where_the_dataset_cuts_them(clicks, capsys):
    settings = {**clicks, "epochs": 1, "seq_len": {"genre": 1}}
    model = run_hetcomp("FM", "clicks", config_dict=settings, arguments=())["checkpoint"]
    capsys.readouterr()
    text = "item_id,user_id,minutes,genre\ni3,u5,10,War Drama\ni3,u5,10,War\ni3,u5,10,Drama War\n"
    _, out, _ = said(model, text, capsys)
    first, second, third = (row["probability"] for row in csv.DictReader(out.splitlines()))
    assert first == second != third


def test_unknown_tokens_are_padding_and_said_in_one_line(saved, capsys):
    code, out, err = said(saved, HEADER + "nobody,i1,5\nu1,nothing,5\nu2,i2,5\n", capsys, output="clicks.csv")
    assert code == 0
    assert err == "hetcomp: unknown to the model, so taken as missing: 1 of user_id, 1 of item_id\n"
    assert out == "clicks.csv: probabilities of 3 rows\n"
    found = list(csv.DictReader(Path("clicks.csv").read_text().splitlines()))
    assert all(0 < float(row["probability"]) < 1 for row in found)


def test_a_table_with_tabs_and_types_in_its_header_is_read(saved, capsys):
    code, out, _ = said(saved, "user_id:token\titem_id:token\tminutes:float\nu1\ti1\t5\n", capsys, name="rows.tsv")
    assert code == 0
    assert out.splitlines()[0] == "user_id,item_id,minutes,probability"


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "has no column 'user_id', which the model reads"),
        (HEADER, "has no row below its header"),
        ("user_id,item_id\nu1,i1\n", "has no column 'minutes', which the model reads; add it"),
        ("user_id,item_id,minute\nu1,i1,3\n", "has no column 'minutes', which the model reads; did you mean 'minute'"),
        (HEADER + "u1,i1\n", "line 2 of 'rows.csv' has 2 values, and the header has 3"),
        (HEADER + "u1,i1,3\nu1,i1,soon\n", "line 3 of 'rows.csv' has 'soon' for the number minutes"),
        (HEADER + "u1,i1,nan\n", "line 2 of 'rows.csv' has 'nan' for the number minutes"),
        (HEADER + 'u1,"i1,3\n', "cannot be read"),
        ("user_id,item_id,minutes,minutes\nu1,i1,3,3\n", "has the column 'minutes' more than it may"),
        ("user_id,item_id,minutes,probability\nu1,i1,3,3\n", "has the column 'probability' more than it may"),
    ],
)
def test_a_malformed_file_is_one_sentence(saved, capsys, text, sentence):
    code, out, err = said(saved, text, capsys, output="clicks.csv")
    assert code == 2
    assert err.startswith("hetcomp: input: ")
    assert sentence in err
    assert err.count("\n") == 1
    assert out == ""
    assert not Path("clicks.csv").exists()


def test_models_that_rank_and_models_of_clicks_are_told_apart(saved, settings, capsys):
    ranks = run_hetcomp("BPR", "toy", config_dict=settings, arguments=())["checkpoint"]
    capsys.readouterr()
    code, _, err = said(ranks, HEADER + "u1,i1,3\n", capsys)
    assert code == 2
    assert "BPR ranks items; use `hetcomp recommend`" in err
    assert main(["recommend", f"--checkpoint={saved}", "--users=u1"]) == 2
    assert "predicts clicks of rows and ranks nothing; use `hetcomp predict`" in capsys.readouterr().err
    assert main(["vectors", f"--checkpoint={saved}", "--output=v.safetensors"]) == 2
    assert "predicts clicks of rows" in capsys.readouterr().err


def test_other_ranges_of_numbers_than_those_of_the_training_are_refused(saved, clicks, capsys):
    """One row's number changes, no user and no item."""
    file = Path(clicks["data_path"]) / "clicks" / "clicks.inter"
    header, first, *rows = file.read_text().splitlines()
    fields = first.split("\t")
    fields[3] = "500.0"
    file.write_text("\n".join([header, "\t".join(fields), *rows]) + "\n")
    code, _, err = said(saved, HEADER + "u1,i1,3\n", capsys)
    assert code == 2
    assert "or other ranges of numbers, than when" in err
    assert "restore the data it was trained on" in err


@pytest.mark.parametrize("header", ["user_id,item_id,minutes\nu1,i1,3\n", "user_id,item_id\nu1,i1\n"])
def test_a_model_of_a_discretised_column_says_that_it_cannot_predict_new_rows(clicks, capsys, header):
    buckets = {"minutes": {"method": "ED", "bucket": 4}}
    settings = {**clicks, "epochs": 1, "discretization": buckets}
    model = run_hetcomp("FM", "clicks", config_dict=settings, arguments=())["checkpoint"]
    capsys.readouterr()
    code, _, err = said(model, header, capsys)
    assert code == 2
    assert "reads the column 'minutes' of interactions" in err
    assert "cannot predict new rows; train it without minutes, or without its discretization" in err


def test_what_is_missing_is_said_before_anything_is_loaded(monkeypatch, capsys):
    monkeypatch.setattr(command, "load_student", lambda *_, **__: pytest.fail("loaded"))
    assert main(["predict", "--checkpoint=a.pth"]) == 2
    assert "--checkpoint or --input is missing" in capsys.readouterr().err
    assert main(["predict", "--checkpoint=a.pth", "--input=none.csv"]) == 2
    assert "input: there is no file 'none.csv'" in capsys.readouterr().err


def test_quotation_marks_of_a_table_with_tabs_belong_to_the_tokens(saved, capsys):
    text = 'user_id\titem_id\tminutes\n"u1\ti1\t5\nu1\ti1\t5\n'
    code, out, err = said(saved, text, capsys, name="rows.tsv")
    assert code == 0
    assert [row["user_id"] for row in csv.DictReader(out.splitlines())] == ['"u1', "u1"]
    assert "1 " in err


def test_the_rows_themselves_are_not_written_over(saved, capsys):
    text = HEADER + "u1,i1,3\n"
    code, _, err = said(saved, text, capsys, output="rows.csv")
    assert code == 2
    assert "is the input as well" in err
    assert Path("rows.csv").read_text(encoding="utf-8") == text


@pytest.mark.parametrize("flags", [["recommend", "--history=i1"], ["export", "--format=npz"]])
def test_a_model_of_clicks_is_neither_asked_for_histories_nor_exported(saved, capsys, flags):
    assert main([flags[0], f"--checkpoint={saved}", *flags[1:]]) == 2
    assert "predicts clicks of rows and ranks nothing; use `hetcomp predict`" in capsys.readouterr().err
