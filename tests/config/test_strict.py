"""A setting that the code reads is declared somewhere: otherwise a misspelt name would silently be None."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
import recbole
import yaml
from recbole.utils import dataset_arguments, evaluation_arguments, general_arguments, training_arguments

import recbole_hetcomp
from recbole_hetcomp.config.config import READ_BY_RECBOLE, Config
from recbole_hetcomp.config.errors import UserError
from recbole_hetcomp.config.registry import properties_dir
from recbole_hetcomp.config.strict import StrictConfig

PACKAGE = Path(recbole_hetcomp.__file__).parent
FILES = sorted(path for path in PACKAGE.rglob("*.py") if "testing" not in path.parts)
THEIRS = Path(recbole.__file__).parent / "properties"
ARGUMENTS = {*general_arguments, *training_arguments, *evaluation_arguments, *dataset_arguments}
# What is set while a command runs, and the one setting that belongs to a command: `hetcomp benchmark --model_config=...`.
SET_BY_COMMANDS = {"id_fingerprint", "model_config"}


def keys_read(path: Path) -> set[str]:
    """The literal keys of `config["..."]`, `self.config["..."]` and the like in a file."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Constant) and isinstance(node.slice.value, str):
            name = ast.unparse(node.value).split(".")[-1]
            if name in ("config", "own", "alone", "first"):
                found.add(node.slice.value)
    return found


def declared() -> set[str]:
    files = [*properties_dir().rglob("*.yaml"), *THEIRS.rglob("*.yaml")]
    keys = {key for path in files for key in yaml.safe_load(path.read_text(encoding="utf-8")) or ()}
    return keys | ARGUMENTS | READ_BY_RECBOLE | SET_BY_COMMANDS


def test_every_setting_that_the_package_reads_is_declared(make_config) -> None:
    known = declared() | set(make_config("BPR").final_config_dict)  # RecBole's Config adds device, MODEL_TYPE and such
    undeclared = {str(path.relative_to(PACKAGE)): keys_read(path) - known for path in FILES}
    assert {path: keys for path, keys in undeclared.items() if keys} == {}
    assert len(set().union(*map(keys_read, FILES))) > 150  # they are found


def test_a_method_that_reads_a_misspelt_setting_is_told_so_at_once(make_model) -> None:
    model = make_model("RRDStudent")
    assert model.config["n_interesting"] == 40
    with pytest.raises(
        UserError, match=r"^n_interestin: RRDStudent reads .* did you mean 'n_interesting'.* in RRDStudent\.yaml"
    ):
        model.config["n_interestin"]


def test_what_recbole_may_lack_it_is_told_without_an_error(make_config) -> None:
    config = make_config("RRDStudent")
    strict = StrictConfig(config)
    assert config["n_layers"] is None
    assert strict["nproc"] is None
    assert strict["transform"] is None
    with pytest.raises(UserError, match="n_layers"):
        strict["n_layers"]


def test_it_is_a_view_of_the_config(make_config) -> None:
    config = make_config("RRDStudent")
    strict = StrictConfig(config)
    config["n_interesting"] = 7
    assert strict["n_interesting"] == 7
    assert isinstance(strict, Config)
    assert strict.given("seed")
