"""What is cached is found again as long as the code that made it is the same, and made anew as soon as it is not."""

from __future__ import annotations

import ast
import importlib
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import recbole_hetcomp
from recbole_hetcomp.commands.pipeline import _progress_file
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
    """`edit("losses.adaptive_transfer", text)`: from now on that module of ours ends in `text`."""
    real = source.source_of

    def edited(module: str, text: str = CODE) -> None:
        def read(name: str) -> Source | None:
            found = real(name)
            return found._replace(text=found.text + text) if name == f"recbole_hetcomp.{module}" and found else found

        assert real(f"recbole_hetcomp.{module}") is not None
        monkeypatch.setattr(source, "source_of", read)

    return edited


@pytest.fixture
def names(make_config, split, list_pool) -> Callable[[], dict[str, str]]:
    """What several models are cached under now, or their progress: two teachers and five students."""
    students = {
        "HetComp": {},
        "RRD": {},
        "HetComp of DL": {"student": "DL"},
        "Composite": {"methods": {"RRD": 1.0, "DE": 0.1}},
        "lists": {"teachers": ["mine.tsv"]},
    }

    pool = list_pool(1)

    def now() -> dict[str, str]:
        run = make_config("HetCompStudent", teachers=["BPR", "ItemVAE"], teacher_config={})
        teachers = {name: teacher_folder(run, split, name).name for name in ("BPR", "ItemVAE")}
        for name, settings in students.items():
            model = "RRDStudent" if name == "lists" else f"{name.split()[0]}Student"
            teachers[name] = _progress_file(make_config(model, **settings), split, pool, "").name
        return teachers

    return now


EVERYBODY = {"BPR", "ItemVAE", "HetComp", "RRD", "HetComp of DL", "Composite", "lists"}
STUDENTS = EVERYBODY - {"BPR", "ItemVAE"}


@pytest.mark.parametrize(
    ("module", "concerned"),
    [
        ("losses.adaptive_transfer", {"HetComp", "HetComp of DL"}),
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
        ("commands.pipeline", STUDENTS),  # the order of their draws
        ("commands.compare", set()),
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
    for module in ("data.history", "losses.adaptive_transfer", "compat"):
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
    monkeypatch.setattr(
        training, "fit_recorded", lambda config, *rest, **named: trained.append(config.model) or fit(config, *rest, **named)
    )
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
    (home / "losses.py").write_text("def gap(a, b):\n    return b - a\n")
    assert source_fingerprint(["a_plug_in.mine"]) != before
    for name in [name for name in sys.modules if name.startswith("a_plug_in")]:
        del sys.modules[name]


def test_an_edited_file_counts_in_the_same_process(tmp_path, monkeypatch) -> None:
    (tmp_path / "edited_in_between.py").write_text("x = 1\n")
    monkeypatch.syspath_prepend(tmp_path)
    before = source_fingerprint(["edited_in_between"])
    (tmp_path / "edited_in_between.py").write_text("x = 2 \n")
    assert source_fingerprint(["edited_in_between"]) != before
    (tmp_path / "edited_in_between.py").write_text("x = 1\n")
    assert source_fingerprint(["edited_in_between"]) == before


@pytest.fixture
def files(tmp_path, monkeypatch) -> Iterator[Callable[..., Path]]:
    """`files(name=text)`: modules of a user, in a folder that is on the path; forgotten afterwards."""
    monkeypatch.syspath_prepend(tmp_path)
    before = set(sys.modules)

    def write(**texts: str) -> Path:
        for name, text in texts.items():
            path = tmp_path.joinpath(*name.split("__in__")[::-1]).with_suffix(".py")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return tmp_path

    yield write
    for name in set(sys.modules) - before:
        del sys.modules[name]


def test_files_beside_a_model_count_and_what_is_installed_does_not(files, tmp_path) -> None:
    files(
        my_losses="import json\nimport numpy.linalg\nfrom scipy import sparse\n\ngap = 1\n",
        my_model="import recbole.model.loss\nfrom my_losses import gap\nfrom my_folder import inner\nimport not_there\n",
        inner__in__my_folder="import torch\n",
    )
    assert set(imported_source(["my_model"])) == {"my_model", "my_losses", "my_folder.inner"}
    before = source_fingerprint(["my_model"])
    files(my_losses="gap = 12\n")
    assert source_fingerprint(["my_model"]) != before


def test_an_installed_package_counts_where_it_is_a_plug_ins_own_alone(files, tmp_path, monkeypatch) -> None:
    monkeypatch.syspath_prepend(tmp_path / "site-packages")
    installed = "site-packages"
    for name, text in (("theirs.py", "x = 1\n"), ("plug_in.py", "import theirs\n")):
        (tmp_path / installed).mkdir(exist_ok=True)
        (tmp_path / installed / name).write_text(text)
    assert set(imported_source(["plug_in"])) == {"plug_in"}


@pytest.mark.parametrize("started", [["my_script.py"], ["-m", "my_script"], ["-m", "my_package.script"]], ids=str)
def test_a_script_counts_with_the_files_beside_it(files, tmp_path, started) -> None:
    show = "from recbole_hetcomp.teacher_training import source\nprint(*source.imported_source(['__main__']))\n"
    files(
        my_losses="",
        losses__in__my_package="",
        my_script=f"import my_losses\n{show}",
        script__in__my_package=f"import my_losses\nfrom .losses import *\n{show}",
    )
    environment = {**os.environ, "PYTHONPATH": str(PACKAGE.parent)}
    shown = subprocess.run(
        [sys.executable, *started], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
    )
    theirs = {name for name in shown.stdout.split() if not name.startswith("recbole_hetcomp")}
    assert theirs == {"__main__", "my_losses", *(["my_package.losses"] if "my_package.script" in started else [])}


def test_base_classes_of_another_package_count(files, tmp_path, monkeypatch, make_config) -> None:
    monkeypatch.syspath_prepend(tmp_path / "site-packages")
    base = "from recbole_hetcomp.model.general_recommender.mf import MF\n\n\nclass Base(MF):\n    pass\n"
    (tmp_path / "site-packages").mkdir()
    (tmp_path / "site-packages" / "second_package.py").write_text(base)
    files(first_package="from second_package import Base\n\n\nclass Mine(Base):\n    pass\n")
    config = make_config("MF")
    config.model_class = importlib.import_module("first_package").Mine
    before = fingerprint(config, {})
    (tmp_path / "site-packages" / "second_package.py").write_text(base.replace("pass", "size = 1"))
    assert fingerprint(config, {}) != before


def test_a_class_without_a_file_is_one_sentence(make_config) -> None:
    config = make_config("BPR")
    config.model_class = type("Mine", (MF,), {"__module__": "typed_into_a_notebook"})
    with pytest.raises(UserError, match=r"^model: BPR cannot be cached.*'typed_into_a_notebook'.*put the class into a file"):
        fingerprint(config, {})


NO_LISTS = ("compat", "testing")  # the one counts by itself, the other is no part of a training
OF_THE_TOP = {"_HOMES", "__getattr__", "__dir__"}  # where its names are


@pytest.mark.parametrize(
    "path", [path for path in PACKAGE.rglob("__init__.py") if path.parent.name not in NO_LISTS], ids=str
)
def test_a_packages_init_is_a_list_of_names(path) -> None:
    """`source` passes over it; of the top one `compat` is counted by itself."""
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        names = [target.id for target in getattr(node, "targets", [])]
        if path.parent == PACKAGE and OF_THE_TOP & {*names, getattr(node, "name", ""), ast.unparse(node)}:
            continue
        listed = isinstance(node, (ast.Import, ast.ImportFrom)) or names in (["__all__"], ["__version__"])
        assert listed or ast.unparse(node) == "compat.install()" or isinstance(node.value, ast.Constant)


def test_data_and_settings_count_as_ever(make_config, split) -> None:
    run = make_config("HetCompStudent", teachers=["BPR"])
    other = make_split(make_config("BPR", seed=12))
    assert teacher_folder(run, split, "BPR") != teacher_folder(run, other, "BPR")
    assert fingerprint(run, {}) != fingerprint(make_config("HetCompStudent", teachers=["BPR"], n_targets=7), {})


@pytest.mark.parametrize("module", ["builtins", "abc", "collections.abc", "math", "typing"])
def test_pythons_own_modules_are_known_on_every_python(module: str) -> None:
    assert source.is_standard(module)


@pytest.mark.parametrize("module", ["__main__", "recbole_hetcomp.data.split", "torch.nn", "no_such_module"])
def test_other_modules_are_not_pythons_own(module: str) -> None:
    assert not source.is_standard(module)
