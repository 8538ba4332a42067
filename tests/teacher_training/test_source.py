"""What is cached is found again as long as the code that made it is the same, and made anew as soon as it is not."""

from __future__ import annotations

import ast
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import recbole_hetcomp
from recbole_hetcomp.config.errors import UserError
from recbole_hetcomp.data.split import make_split
from recbole_hetcomp.model.general_recommender.mf import MF
from recbole_hetcomp.teacher_training import source, training
from recbole_hetcomp.teacher_training.cache import fingerprint
from recbole_hetcomp.teacher_training.scheduling import build_pool
from recbole_hetcomp.teacher_training.source import Source, imported_source, source_fingerprint
from recbole_hetcomp.teacher_training.training import teacher_folder

PACKAGE = Path(recbole_hetcomp.__file__).parent
CODE = "\nADDED = 1\n"
METHODS = "model.distilled_recommender"


@pytest.fixture
def edit(monkeypatch) -> Callable[..., None]:
    """`edit("losses.ranking", text)`: from now on that module of ours ends in `text`."""
    real = source.source_of

    def edited(module: str, text: str = CODE) -> None:
        def read(name: str) -> Source | None:
            found = real(name)
            return found._replace(text=found.text + text) if name == f"recbole_hetcomp.{module}" and found else found

        assert real(f"recbole_hetcomp.{module}") is not None
        monkeypatch.setattr(source, "source_of", read)

    return edited


@pytest.fixture
def names(make_config, split) -> Callable[[], dict[str, str]]:
    """What several models are cached under now, or their progress: two teachers and five students."""
    students = {
        "HetComp": {},
        "RRD": {},
        "HetComp of DL": {"student": "DL"},
        "Composite": {"methods": {"RRD": 1.0, "DE": 0.1}},
        "lists": {"teachers": ["mine.tsv"]},
    }

    def now() -> dict[str, str]:
        run = make_config("HetCompStudent", teachers=["BPR", "ItemVAE"], teacher_config={})
        teachers = {name: teacher_folder(run, split, name).name for name in ("BPR", "ItemVAE")}
        for name, settings in students.items():
            model = "RRDStudent" if name == "lists" else f"{name.split()[0]}Student"
            teachers[name] = fingerprint(make_config(model, **settings), {})
        return teachers

    return now


EVERYBODY = {"BPR", "ItemVAE", "HetComp", "RRD", "HetComp of DL", "Composite", "lists"}
STUDENTS = EVERYBODY - {"BPR", "ItemVAE"}


@pytest.mark.parametrize(
    ("module", "concerned"),
    [
        ("losses.ranking", {"HetComp", "HetComp of DL"}),
        ("losses.lookup", STUDENTS),  # the tables of MF and DL
        ("data.history", EVERYBODY),
        ("data.split", EVERYBODY),
        ("compat", EVERYBODY),
        ("compat.lightgcn_rows", EVERYBODY),
        ("trainer.entity_batches", STUDENTS | {"ItemVAE"}),
        ("trainer.distillation", STUDENTS),
        ("teachers.ensemble", STUDENTS),
        ("teachers.lists", {"lists"}),
        ("teacher_training.recorder", {"BPR", "ItemVAE"}),
        ("teacher_training.training", {"BPR", "ItemVAE"}),
        ("model.student", STUDENTS),
        ("model.general_recommender.itemvae", {"ItemVAE"}),
        ("model.general_recommender.dl", {"HetComp of DL"}),
        (f"{METHODS}.hetcompstudent", {"HetComp", "HetComp of DL"}),
        (f"{METHODS}.rrdstudent", {"RRD", "Composite", "lists"}),
        (f"{METHODS}.destudent", {"Composite"}),
        ("cli", set()),
        ("commands.pipeline", set()),
        ("evaluation.comparison", set()),
        ("config.errors", set()),
    ],
)
def test_an_edit_concerns_those_that_run_the_code_and_nobody_else(edit, names, module, concerned) -> None:
    before = names()
    edit(module)
    after = names()
    assert {name for name in before if after[name] != before[name]} == concerned


@pytest.mark.parametrize("text", ["\n# a remark\n", '\n"""More of the docstring."""\n', "\n\n\n"])
def test_comments_docstrings_and_layout_change_nothing(edit, names, text) -> None:
    before = names()
    for module in ("data.history", "losses.ranking", "compat"):
        edit(module, text)
        assert names() == before


def test_a_docstring_is_no_code_wherever_it_stands(tmp_path, monkeypatch) -> None:
    bare = "class A:\n    x = 1\n\n    def f(self):\n        return 'text'\n"
    documented = (
        '"""M."""\nclass A:\n    """C."""\n\n    x = 1\n    """Of x."""\n\n'
        '    def f(self):\n        """F."""\n        return "text"\n'
    )
    for name, text in (("bare", bare), ("documented", documented)):
        (tmp_path / f"{name}_source.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    assert len(set(imported_source(["bare_source", "documented_source"]).values())) == 1


def test_an_edited_history_trains_a_teacher_anew_and_a_remark_does_not(edit, make_config, split, monkeypatch) -> None:
    trained, fit = [], training.fit_recorded
    monkeypatch.setattr(training, "fit_recorded", lambda config, *rest: trained.append(config.model) or fit(config, *rest))
    for module, text in (("cli", CODE), ("data.history", "# a remark\n"), ("data.history", CODE)):
        edit(module, text)
        build_pool(make_config("HetCompStudent", teachers=["BPR"]), split)
    assert trained == ["BPR", "BPR"]


def test_a_plug_in_counts_with_what_it_imports(tmp_path, monkeypatch, make_config) -> None:
    home = tmp_path / "a_plug_in"
    home.mkdir()
    (home / "__init__.py").write_text("from .losses import gap as distance\n")
    (home / "losses.py").write_text("def gap(a, b):\n    return a - b\n")
    (home / "unused.py").write_text("")
    (home / "mine.py").write_text(
        "from a_plug_in import distance\nfrom recbole_hetcomp.model.general_recommender.mf import MF\n\n\nclass Mine(MF):\n"
        "    pass\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    ours = imported_source(["a_plug_in.mine"])
    assert {name for name in ours if name.startswith("a_plug_in")} == {"a_plug_in.mine", "a_plug_in.losses"}
    assert set(imported_source([MF.__module__])) < set(ours)
    before = source_fingerprint(["a_plug_in.mine"])
    source.source_of.cache_clear()
    (home / "losses.py").write_text("def gap(a, b):\n    return b - a\n")
    assert source_fingerprint(["a_plug_in.mine"]) != before
    source.source_of.cache_clear()
    for name in [name for name in sys.modules if name.startswith("a_plug_in")]:
        del sys.modules[name]


def test_source_is_read_once_lest_an_edit_split_a_run(tmp_path, monkeypatch) -> None:
    (tmp_path / "edited_in_between.py").write_text("x = 1\n")
    monkeypatch.syspath_prepend(tmp_path)
    before = source_fingerprint(["edited_in_between"])
    (tmp_path / "edited_in_between.py").write_text("x = 2\n")
    assert source_fingerprint(["edited_in_between"]) == before


def test_a_class_without_a_file_is_one_sentence(make_config) -> None:
    config = make_config("BPR")
    config.model_class = type("Mine", (MF,), {"__module__": "typed_into_a_notebook"})
    with pytest.raises(UserError, match=r"^model: BPR cannot be cached.*'typed_into_a_notebook'.*put the class into a file"):
        fingerprint(config, {})


NO_LISTS = ("compat", "testing")  # the one counts by itself, the other is no part of a training


@pytest.mark.parametrize(
    "path", [path for path in PACKAGE.rglob("__init__.py") if path.parent.name not in NO_LISTS], ids=str
)
def test_a_packages_init_is_a_list_of_names(path) -> None:
    """`source` passes over it; of the top one `compat` is counted by itself."""
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        names = [target.id for target in getattr(node, "targets", [])]
        listed = isinstance(node, (ast.Import, ast.ImportFrom)) or names in (["__all__"], ["__version__"])
        assert listed or ast.unparse(node) == "compat.install()" or isinstance(node.value, ast.Constant)


def test_data_and_settings_count_as_ever(make_config, split) -> None:
    run = make_config("HetCompStudent", teachers=["BPR"])
    other = make_split(make_config("BPR", seed=12))
    assert teacher_folder(run, split, "BPR") != teacher_folder(run, other, "BPR")
    assert fingerprint(run, {}) != fingerprint(make_config("HetCompStudent", teachers=["BPR"], n_targets=7), {})
