"""The repairs say truly where they are needed, are made once, and can be taken back."""

from __future__ import annotations

import collections
import importlib
import os
import pickle
import subprocess
import sys
import tempfile
import types
import warnings
from contextlib import suppress
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import recbole
import scipy.sparse
import torch
from recbole.config import Config, configurator
from recbole.data import utils as data_utils
from recbole.data.dataloader.abstract_dataloader import AbstractDataLoader
from recbole.data.dataloader.general_dataloader import FullSortEvalDataLoader
from recbole.data.dataset import Dataset
from recbole.data.dataset import dataset as dataset_module
from recbole.data.interaction import Interaction
from recbole.evaluator.collector import Collector, DataStruct
from recbole.model.context_aware_recommender import fwfm, kd_dagfm
from recbole.model.general_recommender import dgcf, ldiffrec, lightgcn, multivae, neumf
from recbole.model.loss import EmbLoss
from recbole.sampler.sampler import AbstractSampler
from recbole.trainer import Trainer, hyper_tuning
from recbole.trainer import trainer as trainer_module
from recbole.utils import FeatureType

from recbole_hetcomp import compat
from recbole_hetcomp.compat import pandas_features, pretrained, repairs
from recbole_hetcomp.config import Config as HetCompConfig
from recbole_hetcomp.data.split import make_split

NAMES = [repair.name for repair in compat.REPAIRS]
ROWS = {repair.name: repair for repair in compat.REPAIRS}


@pytest.fixture(autouse=True)
def _leave_it_installed():
    yield
    compat.uninstall()
    compat.install()


@pytest.fixture
def nothing_installed():
    compat.uninstall()


def raises(*errors):
    """A symptom: the function ends in one of `errors`."""

    def decorate(function):
        def symptom():
            try:
                function()
            except errors:
                return True
            return False

        return symptom

    return decorate


@raises(AttributeError)
def numpy_names():
    Config.compatibility_settings(None)


@raises(AttributeError)
def dok_update():
    scipy.sparse.dok_matrix((2, 2))._update({(0, 1): 1.0})


def fill_nan():
    frame = pd.DataFrame({"token": [1.0, np.nan], "float": [1.0, np.nan]})
    dataset = object.__new__(Dataset)
    dataset.logger = types.SimpleNamespace(debug=lambda *_: None)
    dataset.feat_name_list, dataset.item_feat = ["item_feat"], frame
    dataset.field2type = {"token": FeatureType.TOKEN, "float": FeatureType.FLOAT}
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        dataset._fill_nan()
    return bool(caught) or frame["token"].tolist() != [1, 0] or frame["float"].tolist() != [1, 1]


@raises(ValueError, RuntimeError)
def download_barrier():
    dataset_module.torch.distributed.barrier()


@raises(AttributeError)
def collector():
    collector = object.__new__(Collector)
    collector.data_struct = DataStruct()
    collector.data_struct.set("data.num_items", 3)
    collector.data_struct.set("data.count_items", collections.Counter([1, 1]))
    collector.data_struct.set("rec.items", torch.ones(2))
    struct = collector.get_data_struct()
    assert (struct["data.num_items"], struct["data.count_items"][1]) == (3, 2)
    assert torch.equal(struct["rec.items"], torch.ones(2))
    assert "data.num_items" in collector.data_struct
    assert "rec.items" not in collector.data_struct


@raises(ValueError)
def dgcf_sample():
    users, items = dgcf.sample_cor_samples(3, 9, 7)
    assert len(users) == len(items) == 3


def amp():
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        trainer_module.amp.GradScaler(enabled=False)
    return any("deprecated" in str(warning.message) for warning in caught)


def checkpoints():
    """A pretrained model that cannot be written to its end, such as one on a disk that becomes full."""
    pretraining = object.__new__(trainer_module.PretrainTrainer)
    pretraining.config, pretraining.optimizer = {}, torch.optim.SGD([torch.ones(1)])
    pretraining.model = types.SimpleNamespace(state_dict=dict, other_parameter=lambda: lambda: None)  # which pickle refuses
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "RaCT-toy-1.pth"
        path.write_bytes(b"old")
        with suppress(AttributeError, pickle.PicklingError):
            pretraining.save_pretrained_model(0, str(path))
        return [other.name for other in path.parent.iterdir()] != [path.name] or path.read_bytes() != b"old"


def files_as_written():
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "toy.inter"
        path.write_text('user_id:token\titem_id:token\nNA\t"a\nu1\tb"\n', encoding="utf-8")
        columns = ["user_id:token", "item_id:token"]
        frame = dataset_module.pd.read_csv(
            path, delimiter="\t", usecols=columns, dtype=dict.fromkeys(columns, str), encoding="utf-8", engine="python"
        )
    return frame.to_numpy().tolist() != [["NA", '"a'], ["u1", 'b"']]


SYMPTOMS = {
    "numpy_names": numpy_names,
    "dok_update": dok_update,
    "fill_nan": fill_nan,
    "files_as_written": files_as_written,
    "download_barrier": download_barrier,
    "collector": collector,
    "dgcf_sample": dgcf_sample,
    "amp": amp,
    "checkpoints": checkpoints,
}


@pytest.mark.parametrize("name", SYMPTOMS)
@pytest.mark.usefixtures("nothing_installed")
def test_the_probe_tells_the_truth_and_the_repair_cures(name):
    assert ROWS[name].needed() is SYMPTOMS[name]()
    compat.install()
    assert not SYMPTOMS[name]()


@pytest.mark.parametrize("name", NAMES)
def test_no_repair_is_needed_once_installed(name):
    assert not ROWS[name].needed()


CLOSING = ["evaluate", "resume", "pretrained", "saved_data", "item_embeddings", "teacher_network", "settings", "yaml_loader"]


@pytest.mark.parametrize("name", CLOSING)
@pytest.mark.usefixtures("nothing_installed")
def test_reading_files_and_settings_as_data_is_always_needed(name):
    assert ROWS[name].needed()


def patched():
    """What the repairs put in place, or what stands there without them."""
    return {
        "names": vars(Config)["compatibility_settings"],
        "dok": vars(scipy.sparse.dok_matrix).get("_update"),
        "evaluate": vars(Trainer)["evaluate"],
        "resume": vars(Trainer)["resume_checkpoint"],
        "neumf": neumf.torch,
        "saved_data": data_utils.pickle,
        "ldiffrec": ldiffrec.np,
        "kd_dagfm": vars(kd_dagfm).get("eval"),
        "kd_dagfm_device": kd_dagfm.DAGFM.__init__,
        "kd_dagfm_teacher": vars(kd_dagfm.KD_DAGFM).get("state_dict"),
        "kd_dagfm_phase": kd_dagfm.KD_DAGFM.__init__,
        "fwfm": fwfm.FwFM.__init__,
        "configurator": vars(configurator).get("eval"),
        "hyper_tuning": vars(hyper_tuning).get("eval"),
        "yaml_loader": vars(Config)["_build_yaml_loader"],
        "fill_nan": vars(Dataset)["_fill_nan"],
        "load_feat": vars(Dataset)["_load_feat"],
        "remap": vars(Dataset)["_remap"],
        "pandas": dataset_module.pd,
        "dataset": dataset_module.torch,
        "repeats": vars(Dataset)["_remove_duplication"],
        "collector": vars(Collector)["get_data_struct"],
        "dgcf": dgcf.sample_cor_samples,
        "amp": trainer_module.amp,
        "row_index": vars(Interaction)["__getitem__"],
        "negatives": vars(AbstractSampler)["sample_by_key_ids"],
        "batches": vars(AbstractDataLoader)["__init__"],
        "checkpoints": trainer_module.torch,
        "adam": trainer_module.optim,
        "full_sort_users": vars(FullSortEvalDataLoader)["collate_fn"],
        "top_items": vars(Collector)["eval_batch_collect"],
        "emb_loss": vars(EmbLoss)["forward"],
        "multivae_rows": vars(multivae.MultiVAE)["calculate_loss"],
        "lightgcn_rows": vars(lightgcn.LightGCN)["get_norm_adj_mat"],
        "lightgcn": lightgcn.torch,
        "neumf_rows": vars(neumf.NeuMF).get("full_sort_predict"),
    }


def test_installing_twice_leaves_the_same_objects():
    before, status = patched(), compat.install()
    assert compat.install() == status
    assert all(value is before[name] for name, value in patched().items())


def test_uninstalling_restores_recbole():
    compat.uninstall()
    stock = patched()
    compat.install()
    assert stock["evaluate"] is not Trainer.evaluate
    compat.uninstall()
    assert all(value is stock[name] for name, value in patched().items())
    assert stock["neumf"] is torch
    assert "recbole.quick_start" not in sys.modules
    assert not hasattr(recbole, "quick_start")


def test_every_row_has_a_status_and_is_reported():
    assert list(compat.install()) == NAMES
    report = compat.report()
    assert all(name in report for name in NAMES)
    assert f"numpy {np.__version__}" in report


@pytest.mark.parametrize(
    ("value", "off"), [("0", set(NAMES)), ("amp, collector", {"amp", "collector"}), ("", set()), ("1", set())]
)
@pytest.mark.usefixtures("nothing_installed")
def test_the_environment_switches_rows_off(monkeypatch, value, off):
    monkeypatch.setenv(compat.SWITCH, value)
    status = compat.install()
    assert {name for name, state in status.items() if "switched off" in state} == off


@pytest.mark.usefixtures("nothing_installed")
def test_an_unknown_name_in_the_environment_is_warned_about(monkeypatch):
    monkeypatch.setenv(compat.SWITCH, "fil_nan")
    with pytest.warns(UserWarning, match="names no repair: fil_nan; there are adam, amp, "):
        compat.install()


@pytest.mark.usefixtures("nothing_installed")
def test_another_version_of_recbole_is_left_alone(monkeypatch):
    monkeypatch.setattr(recbole, "__version__", "1.3.0")
    before, status = patched(), compat.install()
    assert status["evaluate"] == "skipped: written for RecBole 1.2.1, found 1.3.0"
    assert all(value is before[name] for name, value in patched().items() if name != "dok")


def test_numpy_names_that_exist_keep_their_meaning(monkeypatch):
    monkeypatch.setattr(np, "object", "mine", raising=False)
    repairs.set_missing_numpy_names(None)
    assert np.object == "mine"
    assert np.float is np.float64


def test_pretrained_loading_is_undone_on_leaving():
    compat.uninstall()
    with compat.pretrained_loading():
        assert neumf.torch.load is pretrained.load_pretrained
        assert neumf.torch.nn is torch.nn
    assert neumf.torch is torch


def test_number_sequences_are_refused_where_pandas_would_spoil_them(tmp_path):
    (tmp_path / "toy.item").write_text("item_id:token\ttitle:token_seq\tprices:float_seq\n")
    read = pandas_features.refusing_float_sequences(lambda *_: "read")
    dataset = types.SimpleNamespace(config={"encoding": "utf-8", "field_separator": "\t"})
    dataset._get_load_and_unload_col = lambda source: (None, None)
    with pytest.raises(NotImplementedError, match=r"\['prices'\].*pandas<3"):
        read(dataset, tmp_path / "toy.item", "item")
    for load, unload in (({"item_id", "title"}, None), (None, {"prices"})):
        dataset._get_load_and_unload_col = lambda source, answer=(load, unload): answer
        assert read(dataset, tmp_path / "toy.item", "item") == "read"


@pytest.fixture
def _read_by_pandas(monkeypatch):
    """Files are read as without `files_as_written`."""
    compat.uninstall()
    monkeypatch.setenv(compat.SWITCH, "files_as_written")
    compat.install()
    yield
    monkeypatch.undo()


@pytest.mark.skipif(pd.__version__ >= "3", reason="RecBole itself reads none there")
@pytest.mark.usefixtures("_read_by_pandas")
def test_recbole_reads_the_same_sequences_on_pandas_2(settings, toy):
    assert sequences_of(settings, toy) == {"i0": ["The", "0th", "Film"], "i1": [], "unseen": ["Never", "Shown"]}


def test_files_as_written_read_the_same_sequences(settings, toy):
    assert sequences_of(settings, toy) == {"i0": ["The", "0th", "Film"], "i1": [], "unseen": ["Never", "Shown"]}


def sequences_of(settings, toy):
    """The words of three titles as RecBole holds them, of a file in which one has none."""
    file = Path(toy) / "toy" / "toy.item"
    file.write_text(file.read_text(encoding="utf-8").replace("The 1th Film", ""), encoding="utf-8")
    dataset = make_split(HetCompConfig("BPR", "toy", config_dict=settings, arguments=())).whole
    words, ids = dataset.field2id_token["movie_title"], dataset.field2token_id["item_id"]
    rows = {item: dataset.item_feat["movie_title"][ids[item]].tolist() for item in ("i0", "i1", "unseen")}
    return {item: [str(words[word]) for word in row if word] for item, row in rows.items()}


# --- in a fresh interpreter -----------------------------------------------------------------------------------------


def fresh(code, **environment):
    """Runs `code` in a new interpreter in which the package can be imported; its output."""
    path = os.pathsep.join(filter(None, [str(Path(compat.__file__).parents[2]), os.environ.get("PYTHONPATH")]))
    environment = {**os.environ, "PYTHONPATH": path, **environment}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_importing_the_package_needs_no_ray_and_changes_nothing_else():
    code = """
import logging, os, sys, warnings
class NoRay:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("ray", "lightgbm", "xgboost"):
            raise ImportError(f"{name} was imported")
sys.meta_path.insert(0, NoRay())
import numpy, torch
environment, handlers, names = dict(os.environ), logging.getLogger().handlers[:], set(vars(numpy))
filters = warnings.filters[:]
from recbole_hetcomp import compat
assert compat.install()["ray"] == "applied"
assert not [name for name in sys.modules if name.partition(".")[0] == "ray"]
assert "recbole.quick_start.quick_start" in sys.modules
assert dict(os.environ) == environment and logging.getLogger().handlers == handlers
assert not ({"float", "int", "object", "str"} & (set(vars(numpy)) - names))
from recbole.quick_start import quick_start
quick_start.tune.report(recall=1.0)
try:
    quick_start.tune.run
except ImportError as error:
    print(error)
"""
    assert "ray.tune.run needs ray" in fresh(code)


def test_a_users_own_ray_survives():
    code = """
import sys, types
ray, tune = types.ModuleType("ray"), types.ModuleType("ray.tune")
ray.tune = tune
sys.modules.update({"ray": ray, "ray.tune": tune})
from recbole_hetcomp import compat
assert compat.install()["ray"] == "not needed"
assert sys.modules["ray"] is ray
from recbole.quick_start import load_data_and_model, quick_start
assert quick_start.tune is tune
assert load_data_and_model is quick_start.load_data_and_model
assert load_data_and_model.__module__ == "recbole_hetcomp.compat.entrances"
stock, = (cell.cell_contents for cell in load_data_and_model.__closure__)
assert stock.__module__ == "recbole_hetcomp.compat.closing"
compat.uninstall()
assert quick_start.run_recbole.__module__ == quick_start.load_data_and_model.__module__ == quick_start.__name__
"""
    fresh(code)


def test_a_report_reaches_a_ray_that_is_imported_later(monkeypatch):
    reported = []
    tune = types.ModuleType("ray.tune")
    tune.report = lambda **metrics: reported.append(metrics)
    monkeypatch.setitem(sys.modules, "ray.tune", tune)
    repairs.LazyTune().report(recall=0.5)
    assert reported == [{"recall": 0.5}]


def test_importing_sequential_models_does_not_turn_anomaly_detection_on() -> None:
    """RecBole's SINE turns it on for the whole process, at import; every training then pays for it."""
    importlib.import_module("recbole.model.sequential_recommender.sine")
    assert not torch.is_anomaly_enabled()


def test_anomaly_detection_that_somebody_turned_on_stays_on() -> None:
    code = "import torch; torch.autograd.set_detect_anomaly(True)\nimport recbole_hetcomp; print(torch.is_anomaly_enabled())"
    assert fresh(code).split() == ["True"]
