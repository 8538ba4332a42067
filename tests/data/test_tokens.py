"""Tokens are what the files say, from the data to the recommendations: no value is missing, shortened, rounded or merged."""

from __future__ import annotations

import csv
import unicodedata
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recbole_hetcomp.cli import main
from recbole_hetcomp.compat.atomic_files import MISSING, read_atomic_file
from recbole_hetcomp.config.errors import UserError
from recbole_hetcomp.data.split import make_split
from recbole_hetcomp.quick_start import run_hetcomp
from recbole_hetcomp.serving.recommending import recommend
from recbole_hetcomp.serving.student import load_student
from recbole_hetcomp.serving.text import quoted, titles, tokens_in
from recbole_hetcomp.teachers.lists import read_lists

STRANGE = [*sorted(MISSING - {""}), "NAN", "none", "007", "7", "7.0", "1e5", "100000", "100000.0", "1.0", "True", "False"]
STRANGE += [
    '"a',
    'b"',
    '"c"',
    'd"e',
    '""',
    "'f'",
    "Doe, Jane",
    ",",
    " ",
    "  ",
    " left",
    "right ",
    "right",
    "left",
    "no\u00a0break",
]
STRANGE += [unicodedata.normalize(form, "é") for form in ("NFC", "NFD")] + ["É", "ß", "ss", "\U0001f600", "\u2028", "x\x0by"]
STRANGE += [
    "x" * 200_000,
    "[PAD]",
    "[pad]",
    "-5",
    "--k=3",
    "#comment",
    "\\t",
    "{}",
    "a;b",
    "$HOME",
    "0",
    "00",
    "inf",
    "1_000",
]


def strange(token: str) -> str:
    """A strange token in the place of each of toy's: users and items with the same number share one."""
    if not token[1:].isdigit():
        return token
    number = int(token[1:])
    return STRANGE[number] if number < len(STRANGE) else token


def rename(folder: Path) -> None:
    """Rewrites the files of `toy` with strange tokens for users and items."""
    for path in folder.glob("toy.*"):
        header, *rows = path.read_text(encoding="utf-8").splitlines()
        n_ids = {".inter": 2, ".user": 1, ".item": 1}[path.suffix]
        columns = [row.split("\t") for row in rows]
        renamed = ["\t".join([*map(strange, row[:n_ids]), *row[n_ids:]]) for row in columns]
        path.write_text("\n".join([header, *renamed]) + "\n", encoding="utf-8")


def test_the_strange_tokens_are_all_different() -> None:
    assert len({*STRANGE}) == len(STRANGE) > 60


def write_lists(path: Path, split, rename_token) -> None:
    """A table of ranked lists of all users, in the order of the ids, which is that of the file."""
    tokens = [split.whole.field2id_token[field][1:] for field in ("user_id", "item_id")]
    rows = [(user, item, rank) for user in tokens[0] for rank, item in enumerate(tokens[1])]
    with path.open("w", encoding="utf-8", newline="") as file:
        if path.suffix == ".csv":
            writer = csv.writer(file, lineterminator="\n")
            writer.writerows([("user", "item", "rank"), *((rename_token(u), rename_token(i), rank) for u, i, rank in rows)])
        else:
            file.write("user_id:token\titem_id:token\trank:float\n")
            file.writelines(f"{rename_token(user)}\t{rename_token(item)}\t{rank}\n" for user, item, rank in rows)


def test_a_student_of_strange_tokens_is_that_of_plain_ones__as_are_its_recommendations(settings, toy, capsys) -> None:
    """Data, split, training with a file of lists as a teacher, checkpoint, `hetcomp recommend`."""
    found, printed = [], []
    few = {**settings, "without_distillation": False, "teachers": ["BPR", "lists.csv"]}
    for rename_token, folder in ((str, "plain"), (strange, "strange")):
        if rename_token is strange:
            rename(Path(toy) / "toy")
        given = {**few, "checkpoint_dir": folder}
        split = make_split(run_config(given))
        write_lists(Path("lists.csv"), split, str)
        result = run_hetcomp("HetCompStudent", "toy", config_dict=given, arguments=())
        _, model, dataset = load_student(result["checkpoint"])
        users = [rename_token(f"u{number}") for number in range(60)]
        recommendations = recommend(model, dataset, users, 80)
        assert [*recommendations] == users
        found.append([recommendations[user] for user in users])
        capsys.readouterr()
        short = [user for user in users if len(user) < 1000]
        assert (
            main(["recommend", f"--checkpoint={result['checkpoint']}", f"--users={','.join(map(quoted, short))}", "--k=1"])
            == 0
        )
        printed.append([line for line in capsys.readouterr().out.split("\n") if line.startswith("user ")])
        assert printed[-1] == [f"user {quoted(user)}" for user in short]
    assert found[1] == [[(strange(item), score) for item, score in items] for items in found[0]]


def run_config(given):
    from recbole_hetcomp.config import Config

    return Config("HetCompStudent", "toy", config_dict=given, arguments=())


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".inter"])
def test_a_file_of_lists_names_the_same_tokens(make_config, toy, suffix) -> None:
    plain = make_split(make_config("BPR"))
    write_lists(Path(f"plain{suffix}"), plain, str)
    expected = read_lists(Path(f"plain{suffix}"), plain)
    rename(Path(toy) / "toy")
    renamed = make_split(make_config("BPR"))
    write_lists(Path(f"strange{suffix}"), renamed, str)
    found = read_lists(Path(f"strange{suffix}"), renamed)
    assert (found.items == expected.items).all()
    assert (found.items > 0).sum() == 61 * 81 - len(plain.train)  # of each user all but the training items


def test_rows_of_lists_longer_than_their_header_are_refused(split) -> None:
    Path("lists.csv").write_text("user,item,rank\nu0,i1,1,\nu0,i2,2,\n")
    with pytest.raises(UserError, match=r"teachers: 'lists\.csv' has more columns in its rows than in its header"):
        read_lists(Path("lists.csv"), split)


def test_titles_are_as_written_too(make_config, toy) -> None:
    path = Path(toy) / "toy" / "toy.item"
    path.write_text(
        'item_id:token\tmovie_title:token_seq\ni0\tNone\ni1\t"Sunset Boulevard\ni2\tNA\nNA\tnull\ni4\n', encoding="utf-8"
    )
    whole = make_split(make_config("BPR")).whole
    assert titles(whole) == {"i0": "None", "i1": '"Sunset Boulevard', "i2": "NA", "NA": "null", "i4": ""}
    words, ids = whole.field2id_token["movie_title"], whole.field2token_id["item_id"]
    assert [words[word] for word in whole.item_feat["movie_title"][ids["i1"]].tolist()] == ['"Sunset', "Boulevard"]
    assert words[whole.item_feat["movie_title"][ids["NA"]][0]] == "null"


token = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\t\n\r\0"), max_size=8)


@given(st.lists(st.tuples(token.filter(bool), token, token), min_size=1))
def test_any_table_is_read_as_written(tmp_path_factory, rows) -> None:
    path = tmp_path_factory.mktemp("files") / "toy.inter"
    header = ["user_id:token", "item_id:token", "words:token_seq"]
    path.write_text("\n".join("\t".join(row) for row in [header, *rows]) + "\n", encoding="utf-8")
    frame = read_atomic_file(path, delimiter="\t", usecols=header, encoding="utf-8")
    assert frame["user_id:token"].tolist() == [row[0] for row in rows]
    assert [value if isinstance(value, str) else "" for value in frame["item_id:token"]] == [row[1] for row in rows]
    assert frame["words:token_seq"].tolist() == [row[2] for row in rows]


numbers = st.one_of(
    st.floats(allow_nan=False).map(repr), st.integers(-(2**63), 2**63 - 1).map(str), st.sampled_from(sorted(MISSING))
)


@given(st.lists(st.tuples(st.sampled_from(["u1", "u 2", "3"]), numbers), min_size=1))
def test_numbers_are_what_pandas_makes_of_them(tmp_path_factory, rows) -> None:
    path = tmp_path_factory.mktemp("files") / "toy.inter"
    path.write_text("".join(f"{user}\t{number}\n" for user, number in [("user_id:token", "rating:float"), *rows]))
    asked = {"delimiter": "\t", "usecols": ["user_id:token", "rating:float"], "encoding": "utf-8"}
    stock = pd.read_csv(path, dtype={"user_id:token": str, "rating:float": np.float64}, engine="python", **asked)
    found = read_atomic_file(path, **asked)
    np.testing.assert_array_equal(found["rating:float"].to_numpy(), stock["rating:float"].to_numpy())
    assert found["user_id:token"].tolist() == stock["user_id:token"].tolist()


def test_what_pandas_takes_for_a_missing_number_is_missing_in_a_run(make_config, toy) -> None:
    appended(Path(toy) / "toy" / "toy.inter", *(f"u{n}\ti7{n}\t{value}\t{n}" for n, value in enumerate(sorted(MISSING))))
    whole = make_split(make_config("BPR", load_col={"inter": ["user_id", "item_id", "rating"]})).whole
    assert not whole.inter_feat["rating"].isnan().any()  # RecBole fills in the mean


def test_a_byte_order_mark_in_a_file_of_features_is_read_over(make_config, toy) -> None:
    path = Path(toy) / "toy" / "toy.item"
    path.write_text(path.read_text(encoding="utf-8"), encoding="utf-8-sig")
    assert titles(make_split(make_config("BPR")).whole)["i3"] == "The 3th Film"


def test_a_row_with_the_character_nul_is_refused(tmp_path) -> None:
    (tmp_path / "toy.inter").write_text("user_id:token\titem_id:token\nu1\ti1\nu2\ti\0\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"line 3 of '.*toy\.inter' holds the character NUL"):
        read_atomic_file(
            tmp_path / "toy.inter", delimiter="\t", usecols=["user_id:token", "item_id:token"], encoding="utf-8"
        )


def appended(path: Path, *rows: str) -> int:
    """Puts rows at the end of a file; the number of the first one's line."""
    text = path.read_text(encoding="utf-8")
    path.write_text(text + "".join(f"{row}\n" for row in rows), encoding="utf-8")
    return text.count("\n") + 1


@pytest.mark.parametrize(
    ("file", "rows", "said"),
    [
        ("inter", ["\ti1\t1\t2"], r"1 rows of '.*toy\.inter' have an empty user_id, the first in line {}; give each"),
        (
            "inter",
            ["u1\t\t1\t2", "u2\ti1\t1\t1", "u2\t\t1\t2"],
            r"2 rows of '.*' have an empty item_id, the first in line {};",
        ),
        ("inter", ["", "  ", "u1\t\t1\t2"], r"1 rows of '.*' have an empty item_id, the first in line {2};"),
        ("item", ["\tNameless"], r"1 rows of '.*toy\.item' have an empty item_id, the first in line {};"),
        ("inter", ["u1\ti1\tfive\t2"], r"line {} of '.*' has 'five' as rating:float, which is no number; mend it"),
    ],
)
def test_what_cannot_be_taken_as_it_is_is_refused_by_file_and_line(make_config, toy, file, rows, said) -> None:
    first = appended(Path(toy) / "toy" / f"toy.{file}", *rows)
    with pytest.raises(UserError) as caught:
        make_split(make_config("BPR", load_col={"inter": "*", "user": "*", "item": "*"}))
    sentence = said.format(first, None, first + 2)
    assert caught.match(f"^dataset 'toy' cannot be loaded: {sentence}")
    assert len(str(caught.value)) <= 300 + len(toy)


def test_empty_lines_are_no_rows(make_config, toy) -> None:
    appended(Path(toy) / "toy" / "toy.user", "u61", "", "u62")
    appended(Path(toy) / "toy" / "toy.inter", "", "  ")
    assert make_split(make_config("BPR")).whole.user_num == 64


@pytest.mark.parametrize("row", ["u1\ti1\t1\t2\t3", '"u\t1"\ti1\t1\t2', "u1\ti1\t1\t2\t"])
@pytest.mark.parametrize("first", [True, False])
def test_a_row_with_more_columns_than_the_header_is_refused(tmp_path, row, first) -> None:
    """pandas shifts the columns, or leaves the last ones out."""
    header, good = "user_id:token\titem_id:token\trating:float\ttimestamp:float", "u2\ti1\t5\t1"
    path = tmp_path / "toy.inter"
    path.write_text("\n".join([header, "", *([row, good] if first else [good, row])]) + "\n")
    with pytest.raises(
        ValueError, match=rf"^line {4 - first} of '.*toy\.inter' has 5 columns and its header 4; mend it .*quotation marks"
    ):
        read_atomic_file(path, delimiter="\t", usecols=header.split("\t")[:2])


def test_an_empty_id_in_a_part_of_a_given_split_is_refused(make_config, toy) -> None:
    """RecBole filters nothing there: the empty id would be the padding's."""
    folder = Path(toy) / "toy"
    header, *rows = (folder / "toy.inter").read_text(encoding="utf-8").splitlines()
    for name, part in (("one", rows[:-200]), ("two", rows[-200:-100]), ("three", [*rows[-100:], "\ti1\t1\t1"])):
        (folder / f"toy.{name}.inter").write_text("\n".join([header, *part]) + "\n", encoding="utf-8")
    with pytest.raises(UserError, match=r"toy\.three\.inter' have an empty user_id, the first in line 102;"):
        make_split(make_config("BPR", benchmark_filename=["one", "two", "three"]))


def test_an_empty_feature_is_missing_and_the_token_na_is_none(make_config, toy) -> None:
    path = Path(toy) / "toy" / "toy.user"
    kinds = ("NA", "", "x", "None")
    rows = [f"u{number}\t{kinds[number % 4]}\t{'NA' if number % 4 else number}" for number in range(60)]
    path.write_text("user_id:token\tkind:token\tage:float\n" + "\n".join(rows) + "\n", encoding="utf-8")
    columns = {"inter": ["user_id", "item_id", "rating"], "user": "*"}
    whole = make_split(make_config("FM", load_col=columns, threshold={"rating": 2}, normalize_all=False)).whole
    names, ids = whole.field2id_token["kind"], whole.field2token_id["user_id"]
    found = [names[whole.user_feat["kind"][ids[f"u{number}"]]] for number in range(4)]
    assert found == ["NA", "[PAD]", "x", "None"]
    assert whole.user_feat["age"].numpy()[ids["u1"]] == pytest.approx(np.mean(range(0, 60, 4)))


@given(st.lists(token, min_size=1).filter(lambda tokens: tokens != [""]))
def test_the_list_of_users_holds_any_token(tokens) -> None:
    assert tokens_in(",".join(map(quoted, tokens))) == tokens


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("196,186", ["196", "186"]),
        ("u1, u2", ["u1", "u2"]),
        ('"Doe, Jane",007', ["Doe, Jane", "007"]),
        ('5" disk', ['5" disk']),
    ],
)
def test_plain_tokens_need_no_quotation_marks(text, tokens) -> None:
    assert tokens_in(text) == tokens


@pytest.mark.parametrize("text", ['"a', '"a"b', 'x,"a', "x" * 200_000])
def test_a_list_that_cannot_be_read_is_one_sentence(text) -> None:
    with pytest.raises(UserError, match=r"^users: .* cannot be read \(.*\); write a token with a comma") as caught:
        tokens_in(text)
    assert len(str(caught.value)) <= 400


def test_one_long_token_does_not_widen_the_others(make_config, toy) -> None:
    """RecBole's array holds every token in the width of the longest."""
    rename(Path(toy) / "toy")
    tokens = make_split(make_config("BPR")).whole.field2id_token["user_id"]
    assert tokens.nbytes < 1000
    assert {type(token) for token in tokens} == {str}
