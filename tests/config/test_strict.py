"""A setting that the code reads is declared somewhere: otherwise a misspelt name would silently be None."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
import recbole
import yaml
from recbole.utils import dataset_arguments, evaluation_arguments, general_arguments, training_arguments

import recbole_hetcomp
from recbole_hetcomp.commands.pipeline import run_on_split
from recbole_hetcomp.config.config import Config
from recbole_hetcomp.config.errors import UserError
from recbole_hetcomp.config.recbole import READ_BY_RECBOLE
from recbole_hetcomp.config.registry import properties_dir
from recbole_hetcomp.config.strict import StrictConfig, settings_of
from recbole_hetcomp.model.distilled_recommender.cdstudent import CDStudent

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


class Careless(CDStudent):
    """A method that reads a setting of a name that nobody declares, as it is made."""

    def __init__(self, config, dataset) -> None:
        super().__init__(config, dataset)
        self.read = config["n_target"]


def test_a_method_that_reads_a_misspelt_setting_as_it_is_made_is_told_so(make_config, split) -> None:
    config = make_config("CDStudent")
    with pytest.raises(UserError, match=r"^n_target: CDStudent reads this setting, and no yaml file declares it"):
        Careless(settings_of(config), split.train)
    config.model_class = Careless
    with pytest.raises(UserError, match=r"^n_target: CDStudent reads this setting"):  # in the run as well
        run_on_split(config, split)


@pytest.mark.parametrize("student", ["MF", "LightGCN", "NeuMF"])
def test_the_student_of_a_method_reads_what_it_likes(make_config, split, student: str) -> None:
    model = CDStudent(settings_of(make_config("CDStudent", student=student)), split.train)
    assert type(model.config) is StrictConfig
    config = make_config("BPR")
    assert settings_of(config) is config


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
    again = StrictConfig(strict)
    with pytest.raises(UserError, match="n_layers"):
        again["n_layers"]
    again["n_interesting"] = 8
    assert type(again.plain) is Config
    assert again.plain["n_layers"] is None
    assert config["n_interesting"] == again.plain["n_interesting"] == 8
