"""The comment beside a setting: what it may be, for every line of every yaml file."""

from __future__ import annotations

from pathlib import Path

import pytest
import recbole
import yaml

from recbole_hetcomp.config.declarations import COMPARISONS, LINE, Declaration, Kind, declarations_in
from recbole_hetcomp.config.errors import UserError
from recbole_hetcomp.config.registry import properties_dir
from recbole_hetcomp.knowledge import RELEVANCES, RULES
from recbole_hetcomp.teacher_training.recorder import CHECKPOINT_RULES
from recbole_hetcomp.teachers.ensemble import IMPORTANCES
from recbole_hetcomp.testing import wrong_values

FILES = [
    path for path in sorted(properties_dir().rglob("*.yaml")) if path.parent.name not in ("dataset", "presets", "space")
]


def name_of(path: Path) -> str:
    return f"{path.parent.name}/{path.stem}"


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_every_line_of_every_file_has_a_kind_and_a_meaning(path: Path) -> None:
    lines = [line for line in path.read_text(encoding="utf-8").splitlines() if line and not line.startswith("#")]
    for line in lines:
        found = LINE.match(line.strip())
        assert found, line
        assert Kind.read(found["kind"]).sentence
        assert len(found["meaning"].split()) >= 2, line
    assert list(declarations_in(path)) == list(yaml.safe_load(path.read_text(encoding="utf-8")))


@pytest.mark.parametrize(
    ("kind", "good", "bad", "sentence"),
    [
        ("int", [0, -3], [1.0, "1", True, None], "a whole number"),
        ("int >= 1", [1, 7], [0, 1.5], "a whole number of at least 1"),
        ("int or ~", [3, None], ["x"], "a whole number or nothing"),
        ("float", [0, -0.5], ["x", float("nan"), float("inf"), False], "a number"),
        ("float > 0", [0.1, 3], [0, -1.0], "a number above 0"),
        ("float > 0 or ~", [None, 40], [0], "a number above 0 or nothing"),
        ("float > 1e-8", [2e-8, 1], [1e-8, 0], "a number above 1e-8"),
        ("float 1.5e-3..1e+2", [0.0015, 100], [0.001, 101], "a number from 1.5e-3 to 1e+2"),
        ("float 0..1", [0, 1, 0.5], [-0.1, 1.1], "a number from 0 to 1"),
        ("float >= 0 and < 1 or ~", [0, 0.9, None], [1, -0.1], "a number of at least 0 and below 1 or nothing"),
        ("bool", [True, False], [1, "True", None], "True or False"),
        ("str", ["x"], [3, None], "a name"),
        ("dict", [{}, {"a": 1}], [3, [], None], "a dict of settings"),
        ("list", [[1, "x"], (1,)], ["x", None], "a list"),
        ("list of float", [[0.5, 1], (2,)], [[], [None], ["a"], 0.5], "a list of numbers"),
        ("list of int >= 1", [[5, 10]], [[5, 0], [1.5], [True]], "a list of whole numbers of at least 1"),
    ],
)
def test_a_kind_takes_what_it_says_and_nothing_else(kind, good, bad, sentence) -> None:
    read = Kind.read(kind)
    assert all(map(read.fits, good))
    assert not any(map(read.fits, bad))
    assert read.sentence == sentence
    for value in bad:
        with pytest.raises(UserError) as caught:
            Declaration("n", "", read, "its meaning").check(value, "of x: ")
        assert str(caught.value) == f"of x: n: {value!r} must be {sentence}"


def test_words_and_lists_of_names_are_refused_with_what_could_stand_there() -> None:
    with pytest.raises(UserError, match=r"^form: 'lst' is none of list, pair$"):
        Declaration("form", "list", Kind.read("str: list | pair"), "its meaning").check("lst")
    names = Declaration("teachers", "['BPR', 'CML', 'DL']", Kind.read("list of str"), "whom to learn from")
    with pytest.raises(UserError) as caught:
        names.check("BPR")
    assert str(caught.value) == "teachers: 'BPR' is no list of names; write --teachers=\"['BPR']\""
    with pytest.raises(UserError) as caught:
        names.check("['BPR'")  # half a list cannot be mended by a list around it
    assert str(caught.value) == "teachers: \"['BPR'\" is no list of names; write --teachers=\"['BPR','CML']\""


@pytest.mark.parametrize(
    "kind", ["int >= x", "float > 1e", "int: 1", "int > 0 or", "str > 1", "list of bool", "int: a | b", "int ~"]
)
def test_a_kind_that_nobody_could_check_is_refused(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "some.yaml"
    path.write_text(f"n_targets: 1   # ({kind}) items a user\n", encoding="utf-8")
    with pytest.raises(UserError, match=r"^some\.yaml: n_targets: .* is no kind of setting; write \(int >= 1\)"):
        declarations_in(path)


def test_a_kind_needs_no_meaning_and_an_ordinary_comment_is_no_kind(tmp_path: Path) -> None:
    path = tmp_path / "some.yaml"
    lines = ["n: 3  # (int >= 1)", "weight: 0.1   # (Eq. 3) of the loss", "size: 3  # ()", "depth: 1  # (integer) layers"]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    found = declarations_in(path)
    assert list(found) == ["n"]
    assert (found["n"].kind.sentence, found["n"].meaning) == ("a whole number of at least 1", "")


@pytest.mark.parametrize(
    "kind", ["int < 3", "float < 0.5", "float > 1e-8", "float <= 0.5", "float 1e-8..0.5", "int 1..2", "list of int >= 1"]
)
def test_wrong_values_are_wrong(kind: str) -> None:
    assert not any(map(Kind.read(kind).fits, wrong_values(Kind.read(kind))))


@pytest.mark.parametrize("comparison", COMPARISONS)
def test_bounds_are_what_python_makes_of_them(comparison: str) -> None:
    kind = Kind.read(f"float {comparison} 2")
    for value in (1.5, 2, 2.5):
        assert kind.fits(value) is eval(f"{value} {comparison} 2")


@pytest.mark.parametrize(
    ("key", "words"),
    [
        ("importance", IMPORTANCES),
        ("curriculum_rule", [*RULES, "none"]),
        ("discrepancy", RELEVANCES),
        ("trajectory_rule", CHECKPOINT_RULES),
    ],
)
def test_the_words_of_a_setting_are_those_that_the_code_knows(key: str, words) -> None:
    assert declarations_in(properties_dir() / "distillation.yaml")[key].kind.words == tuple(words)


def test_what_is_said_of_recboles_settings_is_said_of_its_defaults() -> None:
    theirs = Path(recbole.__file__).parent / "properties"
    defaults = {}
    for name in ("model/BPR.yaml", "overall.yaml", "dataset/sample.yaml"):
        defaults |= yaml.load((theirs / name).read_text(encoding="utf-8"), Loader=yaml.SafeLoader)
    ours = yaml.safe_load((properties_dir() / "recbole.yaml").read_text(encoding="utf-8"))
    assert ours == {key: defaults.get(key) for key in ours}  # RecBole reads `encoding`, which no file of it names
