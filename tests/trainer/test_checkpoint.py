"""Reading a checkpoint never runs code; writing one never leaves half a file."""

from __future__ import annotations

import builtins
import errno
import io
import json
import os
import pickle
import random
import sys
import types
import zipfile
from collections import OrderedDict

import numpy as np
import pytest
import scipy.sparse
import torch
from recbole.config import Config
from recbole.data import create_dataset, data_preparation
from recbole.trainer import Trainer
from recbole.utils import enum_type, get_model, init_seed

from recbole_hetcomp.files.records import Count, Record, as_json
from recbole_hetcomp.trainer.checkpoint import (
    CheckpointError,
    load_checkpoint,
    plain_config,
    plain_state,
    save_checkpoint,
)

LOAD_COL = {"inter": ["user_id", "item_id", "rating", "timestamp"]}
EVAL_ARGS = {"split": {"LS": "valid_and_test"}, "order": "TO", "mode": "full", "group_by": "user"}
STATE = {
    "config": {"model": "BPR", "topk": [5, 10], "seed": 1},
    "epoch": 3,
    "best_valid_score": 0.25,
    "state_dict": OrderedDict(weight=torch.arange(6.0).view(2, 3)),
    "other_parameter": {"note": None},
    "optimizer": {"state": {0: {"step": torch.tensor(2.0)}}, "param_groups": [{"betas": (0.9, 0.999), "params": [0]}]},
}


class Calls:
    """Pickles to a call of `function(*args)`."""

    def __init__(self, function, *args):
        self.call = function, args

    def __reduce__(self):
        return self.call


# --- the package's own format ---------------------------------------------------------------------------------------


def test_own_checkpoint_is_readable_with_weights_only(tmp_path):
    save_checkpoint(tmp_path / "a.pth", STATE)
    for loaded in (torch.load(tmp_path / "a.pth", weights_only=True), load_checkpoint(tmp_path / "a.pth")):
        assert torch.equal(loaded["state_dict"]["weight"], STATE["state_dict"]["weight"])
        assert loaded["config"] == STATE["config"]
        assert loaded["optimizer"]["param_groups"] == STATE["optimizer"]["param_groups"]


@pytest.mark.parametrize("value", [np.float64(0.5), np.zeros(2), {1, 2}, print, torch.device("cpu"), {(1, 2): 3}])
def test_saving_refuses_what_is_not_plain__and_says_where(tmp_path, value):
    with pytest.raises(TypeError, match=r"state\['other_parameter'\]\['x'\]"):
        save_checkpoint(tmp_path / "a.pth", {"other_parameter": {"x": value}})
    assert not list(tmp_path.iterdir())


def _full_disk(*_):
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_full_disk_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch, step):
    path = tmp_path / "a.pth"
    save_checkpoint(path, {"epoch": 1})
    monkeypatch.setattr(os, step, _full_disk)
    with pytest.raises(OSError, match=r"No space left.*a\.pth") as caught:
        save_checkpoint(path, {"epoch": 2})
    assert caught.value.errno == errno.ENOSPC
    assert load_checkpoint(path) == {"epoch": 1}
    assert [file.name for file in tmp_path.iterdir()] == ["a.pth"]


def test_an_interrupt_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    path = tmp_path / "a.pth"
    save_checkpoint(path, {"epoch": 1})
    monkeypatch.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        save_checkpoint(path, {"epoch": 2})
    assert [file.name for file in tmp_path.iterdir()] == ["a.pth"]


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere"):
        save_checkpoint(tmp_path / "nowhere" / "a.pth", {"epoch": 1})


def test_a_missing_file_is_an_os_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        load_checkpoint(tmp_path / "a.pth")


# --- hostile and damaged files --------------------------------------------------------------------------------------

HOSTILE = {
    "os.system": lambda path: Calls(os.system, f"touch {path}"),
    "eval": lambda path: Calls(eval, f"open({str(path)!r}, 'w')"),
    "exec": lambda path: Calls(exec, f"open({str(path)!r}, 'w')"),
    "open": lambda path: Calls(open, str(path), "w"),
    "getattr": lambda path: Calls(getattr, os, "system"),
    "import": lambda path: Calls(builtins.__import__, "antigravity"),
    "torch.load": lambda path: Calls(torch.load, str(path)),
}


@pytest.mark.parametrize("where", ["config", "state_dict", "other_parameter", "optimizer"])
@pytest.mark.parametrize("attack", HOSTILE)
@pytest.mark.parametrize("protocol", [2, 4])
def test_a_file_that_would_run_code_is_refused_and_does_not_run(tmp_path, attack, where, protocol):
    sign = tmp_path / "it-ran"
    bait = HOSTILE[attack](sign)
    if attack == "getattr":  # a module cannot be pickled; a class whose attribute is reached for can
        bait = Calls(getattr, Calls, "__init__")
    torch.save({**STATE, where: {"x": bait}}, tmp_path / "a.pth", pickle_protocol=protocol)
    with pytest.raises(CheckpointError, match=r"a\.pth was refused: the file refers to .*could run code"):
        load_checkpoint(tmp_path / "a.pth")
    assert not sign.exists()


def test_a_file_cannot_change_the_functions_it_is_read_with(tmp_path):
    rebuild = torch._utils._rebuild_tensor_v2

    body = io.BytesIO()
    pickler = pickle._Pickler(body, 4)
    pickler.write(pickle.PROTO + b"\x04" + pickle.EMPTY_DICT + pickle.MARK)
    pickler.save("x")
    pickler.write(b"ctorch._utils\n_rebuild_tensor_v2\n")
    pickler.save((None, {"__kwdefaults__": {"metadata": 1}, "marked": True}))
    pickler.write(pickle.BUILD + pickle.SETITEMS + pickle.STOP)
    _archive(tmp_path / "a.pth", {"a/data.pkl": body.getvalue(), "a/version": b"3\n"})
    with pytest.raises(CheckpointError):
        load_checkpoint(tmp_path / "a.pth")
    assert not hasattr(rebuild, "marked")
    assert rebuild.__kwdefaults__ is None


def test_an_array_of_objects_is_refused(tmp_path):
    torch.save({"other_parameter": {"w": np.array([{"a": 1}, None], dtype=object)}}, tmp_path / "a.pth", pickle_protocol=4)
    with pytest.raises(CheckpointError, match="not plain numbers"):
        load_checkpoint(tmp_path / "a.pth")


def test_a_sparse_matrix_that_points_outside_itself_is_refused(tmp_path):
    matrix = scipy.sparse.csr_matrix(np.eye(3))
    matrix.indices[0] = 10**6
    torch.save({"other_parameter": {"w": matrix}}, tmp_path / "a.pth", pickle_protocol=4)
    with pytest.raises(CheckpointError, match=r"a\.pth"):
        load_checkpoint(tmp_path / "a.pth")


@pytest.mark.parametrize(
    "code", ["__import__('os').system('x')", "[f('x') for f in [eval]]", "(lambda: 1)()", "os.getcwd()", " open('x')"]
)
def test_a_setting_that_config_would_run_is_refused(tmp_path, code):
    save_checkpoint(tmp_path / "a.pth", {"config": {"note": code}})
    with pytest.raises(CheckpointError, match="'note' would call a function"):
        load_checkpoint(tmp_path / "a.pth")


@pytest.mark.parametrize("text", ["data (1)/toy", "[3,inf)", "ml-100k", "10 ** -3", "C:\\data", ""])
def test_a_setting_that_config_would_not_run_is_kept(tmp_path, text):
    save_checkpoint(tmp_path / "a.pth", {"config": {"note": text}})
    assert load_checkpoint(tmp_path / "a.pth")["config"]["note"] == text


def _archive(path, files):
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)


def test_torchscript_is_refused(tmp_path):
    _archive(tmp_path / "a.pth", {"a/data.pkl": b"\x80\x02}.", "a/constants.pkl": b"\x80\x02)."})
    with pytest.raises(CheckpointError, match="TorchScript"):
        load_checkpoint(tmp_path / "a.pth")


@pytest.mark.parametrize("legacy", [True, False])
def test_formats_other_than_the_zip_archive_are_refused(tmp_path, legacy):
    if legacy:
        torch.save(STATE, tmp_path / "a.pth", _use_new_zipfile_serialization=False)
    else:
        (tmp_path / "a.pth").write_bytes(pickle.dumps(Calls(os.system, f"touch {tmp_path / 'it-ran'}")))
    with pytest.raises(CheckpointError, match=r"a\.pth is not a zip archive"):
        load_checkpoint(tmp_path / "a.pth")
    assert not (tmp_path / "it-ran").exists()


def test_a_zip_archive_of_something_else_is_refused(tmp_path):
    _archive(tmp_path / "a.pth", {"readme.txt": b"hello"})
    with pytest.raises(CheckpointError, match="not a checkpoint"):
        load_checkpoint(tmp_path / "a.pth")


@pytest.mark.parametrize("kept", [0, 3, 200, -1])
@pytest.mark.parametrize("protocol", [2, 4])
def test_a_truncated_file_is_named(tmp_path, kept, protocol):
    torch.save(STATE, tmp_path / "a.pth", pickle_protocol=protocol)
    content = (tmp_path / "a.pth").read_bytes()
    (tmp_path / "a.pth").write_bytes(content[:kept])
    with pytest.raises(CheckpointError, match=r"a\.pth"):
        load_checkpoint(tmp_path / "a.pth")


@pytest.mark.parametrize("protocol", [2, 4])
def test_a_pickle_that_ends_early_is_named(tmp_path, protocol):
    _archive(tmp_path / "a.pth", {"a/data.pkl": bytes([0x80, protocol]) + b"}", "a/version": b"3\n"})
    with pytest.raises(CheckpointError, match=r"a\.pth"):
        load_checkpoint(tmp_path / "a.pth")


def test_a_file_that_holds_no_dict_is_refused(tmp_path):
    torch.save([1, 2], tmp_path / "a.pth")
    with pytest.raises(CheckpointError, match="holds a list"):
        load_checkpoint(tmp_path / "a.pth")


# --- RecBole's files ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    (folder / "toy").mkdir()
    draw = random.Random(7)
    rows = ["user_id:token\titem_id:token\trating:float\ttimestamp:float"]
    for user in range(20):
        rows += [f"u{user}\ti{item}\t{draw.randint(1, 5)}\t{t}" for t, item in enumerate(draw.sample(range(25), 8))]
    (folder / "toy" / "toy.inter").write_text("\n".join(rows) + "\n")
    features = [f"i{item}\t{'a b' if item % 2 else 'c'}" for item in range(25)]
    (folder / "toy" / "toy.item").write_text("\n".join(["item_id:token\tclass:token_seq", *features]) + "\n")
    return folder


@pytest.fixture
def train(folder, tmp_path, monkeypatch):
    """Trains a RecBole model for an epoch with the stock trainer: (trainer, model, valid data)."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["test"])

    def train(model_name, **settings):
        plain = {"data_path": str(folder), "epochs": 1, "embedding_size": 8, "use_gpu": False, "gpu_id": ""}
        plain.update(checkpoint_dir=str(tmp_path), show_progress=False, eval_args=EVAL_ARGS, load_col=LOAD_COL)
        plain.update(settings)
        config = Config(model=model_name, dataset="toy", config_dict=plain)
        init_seed(config["seed"], True)
        train_data, valid_data, _ = data_preparation(config, create_dataset(config))
        model = (get_model(model_name) if isinstance(model_name, str) else model_name)(config, train_data._dataset)
        trainer = Trainer(config, model)
        trainer.fit(train_data, valid_data, verbose=False, saved=True)
        return trainer, model, valid_data

    return train


def _same(found, expected):
    if scipy.sparse.issparse(expected):
        assert type(found) is type(expected)
        assert found.dtype == expected.dtype
        assert (found != expected).nnz == 0
    elif isinstance(expected, np.ndarray):
        assert type(found) is type(expected)
        np.testing.assert_array_equal(found, expected)
    elif isinstance(expected, torch.Tensor):
        assert torch.equal(found, expected)
    else:
        assert found == expected


@pytest.mark.parametrize("name", ["BPR", "LightGCN", "MultiVAE", "Pop", "EASE", "ItemKNN", "AsymKNN", "SLIMElastic"])
def test_recbole_checkpoint_round_trip(train, name):
    trainer, _, valid_data = train(name)
    loaded = load_checkpoint(trainer.saved_model_file)
    trusted = torch.load(trainer.saved_model_file, weights_only=False)
    assert loaded["state_dict"].keys() == trusted["state_dict"].keys()
    for section in ("state_dict", "other_parameter"):
        for key, value in trusted[section].items():
            _same(loaded[section][key], value)
    assert type(loaded["best_valid_score"]) is float
    assert loaded["best_valid_score"] == trusted["best_valid_score"]
    assert loaded["config"] == plain_config(trusted["config"])
    before = trainer.evaluate(valid_data, load_best_model=False)
    assert trainer.evaluate(valid_data, model_file=trainer.saved_model_file) == before


@pytest.mark.parametrize("name", ["BPR", "EASE", "ItemKNN", "AsymKNN", "SLIMElastic", "Pop"])
def test_plain_state_and_the_constructor_make_the_same_model(train, name, tmp_path):
    trainer, model, valid_data = train(name)
    expected = trainer.evaluate(valid_data, load_best_model=False)
    save_checkpoint(tmp_path / "own.pth", {**plain_state(model), "config": plain_config(trainer.config)})
    other_trainer, _, other_valid_data = train(name, seed=5)
    assert other_trainer.evaluate(other_valid_data, model_file=tmp_path / "own.pth") == expected


def test_a_module_among_the_other_parameters_is_left_to_the_constructor(train):
    settings = {"load_col": {"inter": ["user_id", "item_id", "timestamp"], "item": ["item_id", "class"]}}
    settings.update(selected_features=["class"], train_neg_sample_args=None, hidden_size=8, inner_size=8, n_heads=1)
    trainer, model, valid_data = train("SASRecF", **settings)
    loaded = load_checkpoint(trainer.saved_model_file)
    assert loaded["other_parameter"] == {}
    assert any(key.startswith("feature_embed_layer.") for key in loaded["state_dict"])
    trainer.evaluate(valid_data)
    assert isinstance(model.feature_embed_layer, torch.nn.Module)


def test_a_model_of_the_users_own_is_read_back_by_its_trainer(train):
    from recbole.model.general_recommender import BPR

    own = type("OwnModel", (BPR,), {"__module__": "a_users_module"})
    sys.modules["a_users_module"] = types.ModuleType("a_users_module")
    sys.modules["a_users_module"].OwnModel = own
    try:
        trainer, _, valid_data = train(own)
        assert trainer.evaluate(valid_data)
        with pytest.raises(CheckpointError, match=r"a_users_module\.OwnModel"):
            load_checkpoint(trainer.saved_model_file)
        assert load_checkpoint(trainer.saved_model_file, known=[own])["config"]["model"] == "OwnModel"
    finally:
        del sys.modules["a_users_module"]


def test_training_resumes_from_either_kind_of_file(train, tmp_path):
    trainer, model, _ = train("BPR")
    trusted = torch.load(trainer.saved_model_file, weights_only=False)
    own = {"epoch": 4, "cur_step": 1, "best_valid_score": 0.5, "optimizer": trusted["optimizer"], **plain_state(model)}
    save_checkpoint(tmp_path / "own.pth", {**own, "config": plain_config(trainer.config)})
    trainer.resume_checkpoint(trainer.saved_model_file)
    assert trainer.start_epoch == 1
    trainer.resume_checkpoint(str(tmp_path / "own.pth"))
    assert (trainer.start_epoch, trainer.cur_step, trainer.best_valid_score) == (5, 1, 0.5)


def test_plain_config_makes_the_same_config_again(train):
    trainer, _, _ = train("BPR", topk=[3, 5], metrics=["Recall"], valid_metric="Recall@3")
    settings = plain_config(trainer.config)
    again = Config(model="BPR", dataset="toy", config_dict=json.loads(json.dumps(settings)))
    assert plain_config(again) == settings
    assert plain_config(settings) == settings
    for key in ("MODEL_TYPE", "MODEL_INPUT_TYPE", "eval_type", "device", "single_spec", "data_path"):
        assert again[key] == trainer.config[key]


@pytest.mark.parametrize(
    ("name", "arguments"), [("__setattr__", ("ModelType", 1)), ("__delattr__", ("ModelType",)), ("Enum", ("A", "name"))]
)
def test_of_recboles_enums_a_file_calls_nothing_but_their_members(monkeypatch, name, arguments) -> None:
    before = dict(vars(enum_type))
    record = type(name, (Record,), {"kind": f"recbole.utils.enum_type.{name}"})(*arguments)
    assert as_json({"kept": 1, "left out": record}, Count(100)) == {"kept": 1}
    assert dict(vars(enum_type)) == before


def test_a_member_of_recboles_enums_is_its_name() -> None:
    record = type("ModelType", (Record,), {"kind": "recbole.utils.enum_type.ModelType"})(enum_type.ModelType.GENERAL.value)
    assert as_json({"type": record}, Count(100)) == {"type": "GENERAL"}
