"""Every general recommender of RecBole trains an epoch and is evaluated: any can be a teacher or a backbone."""

from __future__ import annotations

import importlib.util
import inspect
import logging
import math
import random
import sys
from pathlib import Path

import psutil
import pytest
import recbole.model.general_recommender as general
import torch
from recbole.model.abstract_recommender import AbstractRecommender

import recbole_hetcomp  # noqa: F401  (the repairs)
from recbole_hetcomp.trainer.checkpoint import CheckpointError, load_checkpoint, save_checkpoint

N_USERS, N_ITEMS = 60, 80
GENERAL = sorted(
    name for name, cls in vars(general).items() if inspect.isclass(cls) and issubclass(cls, AbstractRecommender)
)
NEEDS = {"NCL": "faiss"}
SMALL = {
    "embedding_size": 8,
    "train_batch_size": 256,
    "eval_batch_size": 4096,
    "n_layers": 1,
    "hidden_size": 8,
    "inner_size": 8,
    "n_heads": 1,
    "latent_dimension": 4,
    "latent_dim": 4,
    "mlp_hidden_size": [8],
    "lat_dim": 4,
    "hidden_dim": 8,
    "encoding_dim": 4,
}
OVERRIDES = {
    "ConvNCF": {"cnn_channels": [1, 4, 4], "cnn_kernels": [2, 2], "cnn_strides": [2, 2]},
    "DGCF": {"n_factors": 2, "n_iterations": 1},
    "DiffRec": {"dims_dnn": [8], "embedding_size": 4, "steps": 2},
    "DMF": {
        "user_embedding_size": 8,
        "item_embedding_size": 8,
        "user_hidden_size_list": [8],
        "item_hidden_size_list": [8],
    },
    "GCMC": {"gcn_output_dim": 8},
    "LDiffRec": {
        "dims_dnn": [8],
        "embedding_size": 4,
        "steps": 2,
        "ae_act_func": "tanh",
        "in_dims": [8],
        "out_dims": [],
    },
    "MultiDAE": {"mlp_hidden_size": [8]},
    "NCL": {"num_clusters": 8},
    "NGCF": {"hidden_size_list": [8]},
    "NNCF": {
        "ui_embedding_size": 8,
        "neigh_embedding_size": 8,
        "neigh_num": 4,
        "conv_kernel_size": 2,
        "pool_kernel_size": 2,
    },
    "NeuMF": {"mf_embedding_size": 8, "mlp_embedding_size": 8},
    "RaCT": {"critic_layers": [8], "pretrain_epochs": 1, "save_step": 1},
    "SimpleX": {"aggregator": "mean"},
}


@pytest.fixture(scope="module")
def toy_folder(tmp_path_factory):
    """A folder with the dataset `toy` in RecBole's atomic format: two groups of users, two halves of the items."""
    folder = tmp_path_factory.mktemp("data")
    (folder / "toy").mkdir()
    draw = random.Random(7)
    rows = ["user_id:token\titem_id:token\trating:float\ttimestamp:float"]
    for user in range(N_USERS):
        half = [item for item in range(N_ITEMS) if (item + user) % 2]
        rows += [f"u{user}\ti{item}\t{draw.randint(1, 5)}\t{t}" for t, item in enumerate(draw.sample(half, 12))]
    (folder / "toy" / "toy.inter").write_text("\n".join(rows) + "\n")
    return folder


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["test"])
    monkeypatch.setattr(psutil, "cpu_percent", lambda *_, **__: 0.0)  # RecBole's environment report measures it for 1 s
    handlers = logging.getLogger().handlers[:]
    yield
    logging.getLogger().handlers[:] = handlers


def run(model: str, config_dict: dict) -> dict:
    """Trains and evaluates; the one place that knows which runner is under test."""
    from recbole.quick_start import run_recbole

    return run_recbole(model=model, dataset="toy", config_dict=config_dict)


def settings(model, folder, **more):
    return {
        **SMALL,
        **OVERRIDES.get(model, {}),
        "data_path": str(folder),
        "checkpoint_dir": "saved",
        "load_col": {"inter": ["user_id", "item_id", "rating", "timestamp"]},
        "epochs": 1,
        "eval_args": {"split": {"LS": "valid_and_test"}, "order": "TO", "mode": "full", "group_by": "user"},
        "metrics": ["Recall", "NDCG"],
        "topk": [5, 10],
        "valid_metric": "NDCG@10",
        "use_gpu": False,
        "gpu_id": "",
        "show_progress": False,
        "state": "ERROR",
        **more,
    }


def assert_finite(result, keys=("recall@10", "ndcg@10")):
    assert all(math.isfinite(result["test_result"][key]) for key in keys), result["test_result"]


@pytest.mark.parametrize("model", GENERAL)
def test_general_recommender_trains_and_is_evaluated(model, toy_folder):
    if model in NEEDS and importlib.util.find_spec(NEEDS[model]) is None:
        pytest.skip(f"{model} needs {NEEDS[model]}")
    assert_finite(run(model, settings(model, toy_folder)))


def test_sasrec_trains_and_is_evaluated(toy_folder):
    more = {"train_neg_sample_args": None, "MAX_ITEM_LIST_LENGTH": 10}
    assert_finite(run("SASRec", settings("SASRec", toy_folder, **more)))


def test_fm_trains_and_is_evaluated(toy_folder):
    more = {
        "threshold": {"rating": 3},
        "metrics": ["AUC", "LogLoss"],
        "valid_metric": "AUC",
        "train_neg_sample_args": None,
    }
    more["eval_args"] = {"split": {"RS": [0.8, 0.1, 0.1]}, "order": "RO", "mode": "labeled", "group_by": None}
    assert_finite(run("FM", settings("FM", toy_folder, **more)), keys=("auc", "logloss"))


def test_metrics_that_look_at_the_training_data_are_computed(toy_folder):
    metrics = ["Recall", "ItemCoverage", "GiniIndex", "AveragePopularity", "TailPercentage", "ShannonEntropy"]
    result = run("BPR", settings("BPR", toy_folder, metrics=metrics, valid_metric="Recall@10"))
    assert_finite(result, keys=[f"{name.lower()}@10" for name in metrics])


def test_a_model_starts_from_the_checkpoints_of_two_others(toy_folder):
    parts = {"mf": {"mlp_train": False}, "mlp": {"mf_train": False}}
    start = {"use_pretrain": True}
    for part, more in parts.items():
        run("NeuMF", settings("NeuMF", toy_folder, checkpoint_dir=part, **more))
        (saved,) = Path(part).glob("NeuMF-*.pth")
        start[f"{part}_pretrain_path"] = str(saved)
    assert_finite(run("NeuMF", settings("NeuMF", toy_folder, **start)))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda state: state.pop("user_mlp_embedding.weight"), "user_mlp_embedding"),
        (lambda state: state.update({"user_mlp_embedding.weight": torch.zeros(2, 3)}), "NeuMF: RuntimeError"),
        (lambda state: state.update({"user_mlp_embedding.weight": torch.full((3, 3), torch.nan)}), "NaN"),
        (lambda state: state.update({"user_mlp_embedding.weight": "x"}), "no dict of tensors"),
    ],
)
def test_a_pretrained_model_that_does_not_fit_is_a_sentence(toy_folder, change, reason):
    parts = {"mf": {"mlp_train": False}, "mlp": {"mf_train": False}}
    start = {"use_pretrain": True}
    for part, more in parts.items():
        run("NeuMF", settings("NeuMF", toy_folder, checkpoint_dir=part, **more))
        (saved,) = Path(part).glob("NeuMF-*.pth")
        start[f"{part}_pretrain_path"] = str(saved)
    state = load_checkpoint(start["mlp_pretrain_path"])
    change(state["state_dict"])
    save_checkpoint(start["mlp_pretrain_path"], {"state_dict": state["state_dict"]})
    with pytest.raises(CheckpointError, match=rf"mlp/NeuMF-.*{reason}"):
        run("NeuMF", settings("NeuMF", toy_folder, **start))
