"""From names to classes: everything RecBole has, ours, other packages', and a helpful word for the rest."""

from __future__ import annotations

import importlib.util
import logging
import sys
from pathlib import Path

import pytest
import recbole
import recbole.trainer
from recbole.model.abstract_recommender import GeneralRecommender

from recbole_hetcomp.config.errors import UserError
from recbole_hetcomp.config.registry import get_model, known_models, properties_of, settings_of_any_model
from recbole_hetcomp.trainer.choice import get_trainer
from recbole_hetcomp.trainer.distillation import DistillationTrainer
from recbole_hetcomp.trainer.entity_batches import EntityTrainer

THEIRS = Path(recbole.__file__).parent
MODULES = {path.stem for path in (THEIRS / "model" / "general_recommender").glob("*.py")} - {"__init__"}
NAMES = {"Random", *(path.stem for path in (THEIRS / "properties" / "model").glob("*.yaml"))}  # Random has no settings
GENERAL = sorted(name for name in NAMES if name.lower() in MODULES)
NEEDS = {"NCL": "faiss"}
OURS = ("HetCompStudent", "MF", "ML", "DL", "CML", "ItemVAE")


def test_the_list_of_recboles_general_models_is_complete() -> None:
    assert {name.lower() for name in GENERAL} == MODULES


@pytest.mark.parametrize("name", GENERAL)
def test_every_general_model_of_recbole_is_found_under_its_name(name) -> None:
    needed = NEEDS.get(name)
    if needed and importlib.util.find_spec(needed) is None:
        pytest.skip(f"{name} needs {needed}")
    model = get_model(name)
    assert model.__name__ == name
    assert model.__module__.startswith("recbole.")
    assert name in known_models() or name == "Random"


@pytest.mark.parametrize("name", OURS)
def test_our_models_are_found_and_have_their_yaml(name) -> None:
    model = get_model(name)
    assert issubclass(model, GeneralRecommender)
    assert model.__name__ == name
    assert model.__module__.startswith("recbole_hetcomp.")
    assert properties_of(name).parent.parent.parent == Path(__file__).parents[2]


@pytest.mark.parametrize("name", ["SASRec", "FM", "CKE"])
def test_models_of_recboles_other_kinds_are_found(name) -> None:
    assert get_model(name).__name__ == name


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("LightGNC", "'LightGCN'"),
        ("bpr", "'BPR'"),
        ("hetcompstudent", "'HetCompStudent'"),
        ("NeuMf", "'NeuMF'"),
        ("RRD", "'RRDStudent'"),
    ],
)
def test_a_misspelt_name_gets_the_nearest_ones(name, hint) -> None:
    with pytest.raises(UserError, match=f"no model named '{name}'; did you mean .*{hint}"):
        get_model(name)


@pytest.mark.parametrize("name", ["", "a.b", "../bpr", "Qwxyz", "__init__", "abstract_recommender"])
def test_a_name_like_no_other_is_refused_without_a_guess(name) -> None:
    with pytest.raises(UserError, match="no model named") as error:
        get_model(name)
    assert str(error.value).count("no model named") == 1


def test_an_unknown_name_imports_no_library_of_decision_trees(monkeypatch) -> None:
    for library in ("lightgbm", "xgboost"):
        monkeypatch.setitem(sys.modules, library, None)  # an import of it raises ImportError
    for module in ("recbole.model.exlib_recommender.lightgbm", "recbole.model.exlib_recommender.xgboost"):
        monkeypatch.delitem(sys.modules, module, raising=False)
    with pytest.raises(UserError):
        get_model("NoSuchModel")
    with pytest.raises(ImportError):  # and the models themselves do
        get_model("lightgbm")


@pytest.mark.parametrize(
    ("name", "trainer"),
    [
        ("BPR", recbole.trainer.Trainer),
        ("EASE", recbole.trainer.TraditionalTrainer),
        ("RecVAE", recbole.trainer.RecVAETrainer),
        ("CKE", recbole.trainer.KGTrainer),
        ("KGAT", recbole.trainer.KGATTrainer),
        ("MF", recbole.trainer.Trainer),
        ("ItemVAE", EntityTrainer),
        ("HetCompStudent", DistillationTrainer),
    ],
)
def test_a_model_gets_the_trainer_that_is_made_for_it(name, trainer) -> None:
    assert get_trainer(get_model(name)) is trainer


@pytest.fixture
def plugin(tmp_path, monkeypatch) -> str:
    """An installed package that announces a model by an entry point."""
    (tmp_path / "elsewhere.py").write_text("from recbole.model.general_recommender import BPR\nclass Cousin(BPR): ...\n")
    metadata = tmp_path / "elsewhere-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: elsewhere\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text("[recbole_hetcomp.methods]\nCousin = elsewhere:Cousin\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    yield "Cousin"
    sys.modules.pop("elsewhere", None)


def test_a_model_of_another_package_is_found_by_its_entry_point(plugin) -> None:
    assert get_model(plugin).__module__ == "elsewhere"
    assert plugin in known_models()
    with pytest.raises(UserError, match="'Cousin'"):
        get_model("Cousn")


def test_a_package_that_is_installed_while_this_process_runs_is_found(tmp_path, monkeypatch) -> None:
    folder = tmp_path / "packages"
    folder.mkdir()
    monkeypatch.syspath_prepend(str(folder))
    assert "Cousin" not in known_models()
    metadata = folder / "elsewhere-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: elsewhere\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text("[recbole_hetcomp.methods]\nCousin = elsewhere:Cousin\n")
    assert "Cousin" in known_models()


def test_an_entry_point_cannot_take_the_place_of_our_models(plugin, tmp_path) -> None:
    points = tmp_path / "elsewhere-1.0.dist-info" / "entry_points.txt"
    points.write_text("[recbole_hetcomp.methods]\nHetCompStudent = elsewhere:Cousin\n")
    assert get_model("HetCompStudent").__name__ == "HetCompStudent"
    assert properties_of("HetCompStudent").parent.parent.name == "properties"


def test_an_entry_point_goes_before_recboles_model_of_that_name(plugin, tmp_path) -> None:
    points = tmp_path / "elsewhere-1.0.dist-info" / "entry_points.txt"
    points.write_text("[recbole_hetcomp.methods]\nBPR = elsewhere:BPR\n")
    (tmp_path / "elsewhere.py").write_text("from recbole.model.general_recommender import NeuMF\nclass BPR(NeuMF): ...\n")
    (tmp_path / "bpr.yaml").write_text("own_setting: 1\n")
    assert get_model("BPR").__module__ == "elsewhere"
    assert properties_of("BPR") == (tmp_path / "bpr.yaml").resolve()


def broken_package(folder: Path) -> None:
    """The module behind the entry point, in a package that cannot be imported."""
    (folder / "elsewhere").mkdir()
    (folder / "elsewhere" / "__init__.py").write_text("import no_such_library\n")
    (folder / "elsewhere" / "models.py").write_text("class Cousin: ...\n")
    (folder / "elsewhere-1.0.dist-info" / "entry_points.txt").write_text(
        "[recbole_hetcomp.methods]\nCousin = elsewhere.models:Cousin\n"
    )


def test_the_settings_of_another_packages_model_are_known_without_an_import(plugin, tmp_path) -> None:
    broken_package(tmp_path)
    (tmp_path / "elsewhere" / "properties").mkdir()
    path = tmp_path / "elsewhere" / "properties" / "Cousin.yaml"
    path.write_text("a_cousins_setting: 1\n")
    assert "a_cousins_setting" in settings_of_any_model()
    assert properties_of(plugin) == path.resolve()


@pytest.mark.parametrize("package", [True, False])
def test_another_package_that_is_broken_is_one_warning_and_an_error_only_where_it_is_asked_for(
    plugin, tmp_path, caplog, package
) -> None:
    (tmp_path / "elsewhere.py").unlink()
    if package:
        broken_package(tmp_path)
    with caplog.at_level(logging.WARNING):
        assert "learning_rate" in settings_of_any_model()
    assert [record.getMessage().split(":")[0] for record in caplog.records] == [
        f"the entry point Cousin = elsewhere{'.models' if package else ''}"
    ]
    assert get_model("BPR").__name__ == "BPR"
    with pytest.raises(UserError, match=r"^teachers: 'Cousin' is elsewhere.*, which cannot be imported \(No module named"):
        get_model(plugin, "teachers")
