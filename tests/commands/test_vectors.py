"""`hetcomp vectors`: what a saved model knows, as a teacher where the same tokens have other data."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
import torch

from recbole_hetcomp.cli import main
from recbole_hetcomp.commands.vectors import write_vectors
from recbole_hetcomp.quick_start import load_student, run_hetcomp
from recbole_hetcomp.teachers.vectors import EntityVectors

FILE = "mine.safetensors"


@pytest.fixture
def saved(settings):
    """`saved(model, **settings)`: the checkpoint of a model that was trained on `toy`."""

    def train(model: str, **changes) -> str:
        fast = {"without_distillation": False, "weight_decay": 0.0, **changes}
        return run_hetcomp(model, "toy", config_dict={**settings, **fast}, arguments=(), compare=False)["checkpoint"]

    return train


@pytest.mark.parametrize("model", ["BPR", "LightGCN", "MF", "ML", "HistoryEncoder", "HetCompStudent"])
def test_products_of_the_vectors_are_the_models_scores(saved, split, model) -> None:
    checkpoint = saved(model)
    assert main(["vectors", f"--checkpoint={checkpoint}", f"--output={FILE}"]) == 0
    vectors = EntityVectors.load(FILE)
    _, loaded, dataset = load_student(checkpoint)
    users = torch.tensor(dataset.token2id("user_id", vectors.user_tokens))
    items = torch.tensor(dataset.token2id("item_id", vectors.item_tokens))
    assert torch.equal(users, split.history.active_users)
    assert torch.equal(items, split.history.items.unique())
    with torch.no_grad():
        scores = loaded.full_sort_predict({"user_id": users}).view(len(users), -1)[:, items]
    assert torch.allclose(vectors.users @ vectors.items.T, scores, rtol=1e-3, atol=1e-5)
    assert vectors.teacher == model


def test_a_model_without_vectors_gives_factors_of_its_scores(saved) -> None:
    checkpoint = saved("EASE")
    assert main(["vectors", f"--checkpoint={checkpoint}", f"--output={FILE}", "--rank=5"]) == 0
    assert EntityVectors.load(FILE).items.size(1) == 5


def test_it_says_what_it_wrote_and_the_file_teaches(saved, settings, capsys, caplog) -> None:
    caplog.set_level(logging.INFO)
    write_vectors(saved("BPR"), FILE)
    before = Path(FILE).read_bytes()
    changes = {"teachers": [FILE], "without_distillation": False}
    result = run_hetcomp("CUKDStudent", "toy", config_dict={**settings, **changes}, arguments=())
    assert result["comparison"][0]["model"] == "mine"
    assert "vectors of 100% of the users and 100% of the items" in caplog.text
    assert Path(FILE).read_bytes() == before


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (["--output=a.safetensors"], "vectors: --checkpoint or --output is missing"),
        (["--checkpoint=a.pth"], "vectors: --checkpoint or --output is missing"),
        (["--checkpoint=a.pth", "--output=a.safetensors"], "checkpoint: there is no file 'a.pth'"),
        (["--checkpoint=a.pth", "--output=a.npy"], "output: 'a.npy' does not end in .safetensors"),
        (["--checkpoint=a.pth", "--output=b/a.safetensors"], "output: 'b/a.safetensors' cannot be written (No such file"),
        (["--checkpoint=a.pth", "--output=/proc/a.safetensors"], "output: '/proc/a.safetensors' cannot be written ("),
        (["--checkpoint=a.pth", "--output=folder.safetensors"], "output: 'folder.safetensors' is a folder; name a file"),
        (["--checkpoint=a.pth", "--output=a.safetensors", "--rank=0"], "rank: '0' is no whole number of at least 1"),
        (["--checkpoint=a.pth", "--output=a.safetensors", "--rank=many"], "rank: 'many' is no whole number"),
    ],
)
def test_whatever_is_wrong_is_one_sentence(capsys, flags, sentence) -> None:
    Path("folder.safetensors").mkdir()
    assert main(["vectors", *flags]) == 2
    out, err = capsys.readouterr()
    assert sentence in err
    assert "Traceback" not in out + err
