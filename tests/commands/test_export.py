"""`hetcomp export`: what is written recommends what the student does, without this package, RecBole or torch."""

from __future__ import annotations

import ast
import dataclasses
import importlib
import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from recbole_hetcomp.cli import main
from recbole_hetcomp.commands.export import export_student
from recbole_hetcomp.commands.export_check import compared
from recbole_hetcomp.config.errors import UserError
from recbole_hetcomp.data.split import make_split
from recbole_hetcomp.evaluation.on_test import metrics_of
from recbole_hetcomp.quick_start import load_student, recommend, run_hetcomp
from recbole_hetcomp.serving.exported import Exported, in_float32
from recbole_hetcomp.serving.formats import FORMATS
from recbole_hetcomp.serving.student import load_with_split

SEQUENTIAL = {
    "load_col": {"inter": ["user_id", "item_id", "timestamp"]},
    "eval_args": {"split": {"LS": "valid_and_test"}, "order": "TO", "group_by": "user", "mode": "full"},
    "loss_type": "CE",
    "train_neg_sample_args": None,
}
WITHOUT = ("recbole", "recbole_hetcomp", "torch")


def with_library(form: str) -> str:
    for name in FORMATS[form].needs:
        try:
            importlib.import_module(name)
        except ImportError:
            pytest.skip(f"{name} is not installed")
    return form


@pytest.fixture
def train(settings):
    def trained(student: str = "MF", compare: bool = False, **changes) -> str:
        few = {**settings, "teachers": ["BPR"], "without_distillation": False, "student": student, **changes}
        return run_hetcomp("HetCompStudent", "toy", config_dict=few, arguments=(), compare=compare)["checkpoint"]

    return trained


def served(folder: str) -> list[tuple[str, float]]:
    """What the script in README.md prints, where none of `WITHOUT` can be imported."""
    text = Path(folder, "README.md").read_text(encoding="utf-8")
    script = re.search(r"```python\n(.*?)```", text, re.DOTALL)
    assert script is not None
    assert len(text[: script.start()].splitlines()) <= 10
    missing = f"import sys\nsys.modules.update(dict.fromkeys({WITHOUT}))\n"
    ended = subprocess.run(
        [sys.executable, "-c", missing + script[1]], cwd=folder, capture_output=True, text=True, check=False, timeout=120
    )
    assert ended.returncode == 0, ended.stderr
    return ast.literal_eval(ended.stdout)


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("student", ["MF", "ML", "HistoryEncoder", "LightGCN"])
def test_float32_recommends_what_the_student_does(train, form, student):
    with_library(form)
    checkpoint = train(student)
    result = export_student(checkpoint, form, output="out")
    assert result["users_whose_top_50_differs"] == 0
    assert result["users"] == 60
    assert result["largest_deviation_of_scores"] <= 1e-5
    _, model, dataset = load_student(checkpoint)
    wanted, found = recommend(model, dataset, ["u0"], 10)["u0"], served("out")
    assert [item for item, _ in found] == [item for item, _ in wanted]
    assert np.allclose([score for _, score in found], [score for _, score in wanted], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("dtype", ["float16", "int8"])
def test_lower_precision_is_smaller_and_says_what_it_costs(train, form, dtype, capsys):
    with_library(form)
    checkpoint = train("MF", embedding_size=32, init_std=1.0)
    assert main(["export", f"--checkpoint={checkpoint}", f"--format={form}", f"--dtype={dtype}", "--output=out"]) == 0
    printed = capsys.readouterr().out
    found = json.loads(Path("out/export.json").read_text(encoding="utf-8"))
    assert 0.8 < found["overlap@50"] <= 1.0
    assert set(found["ndcg@10"]) == {"student", "export"}
    assert f"overlap@50 {found['overlap@50']:.4f}" in printed
    assert f"NDCG@10 on the test part {found['ndcg@10']['export']:.4f}" in printed
    assert all(line in printed for line in (f"exported: {form} {dtype}", "this package", "RecBole's full_sort_predict"))
    assert len(served("out")) == 10
    full = export_student(checkpoint, form, output="full")["costs"][f"exported: {form} float32"][0]
    small = json.loads(json.dumps(export_student(checkpoint, form, dtype, "again")["costs"]))[f"exported: {form} {dtype}"][0]
    assert small < full


def test_the_ndcg_is_recboles(train, settings):
    checkpoint = train()
    config, model, split = load_with_split(checkpoint)
    exported = Exported.of(model, split.whole)
    Path("out").mkdir()
    FORMATS["npz"].write(exported, "float32", Path("out"))
    agreement = compared(model, config, split, exported, FORMATS["npz"].opened(Path("out")))
    made = make_split(config)
    assert agreement.ndcg[0] == pytest.approx(metrics_of(model, config, made.loaders(config))["ndcg@10"], abs=6e-5)
    assert agreement.ndcg[1] == agreement.ndcg[0]


def test_a_wrong_export_is_noticed(train):
    checkpoint = train()
    config, model, split = load_with_split(checkpoint)
    exported = Exported.of(model, split.whole)
    exported = dataclasses.replace(exported, items=exported.items + 0.5 * (np.arange(len(exported.items)) == 3)[:, None])
    exported = dataclasses.replace(exported, items=exported.items.astype(np.float32))
    Path("out").mkdir()
    FORMATS["npz"].write(exported, "float32", Path("out"))
    agreement = compared(model, config, split, exported, FORMATS["npz"].opened(Path("out")))
    assert agreement.differing > 0
    assert agreement.deviation > 1e-3


def test_a_sequential_student_is_exported_at_the_end_of_each_sequence(train):
    result = export_student(train("GRU4Rec", **SEQUENTIAL), "npz", output="out")
    assert result["users_whose_top_50_differs"] == 0
    assert "ndcg@10" not in result
    assert len(served("out")) == 10


def test_the_ensemble_of_the_run_stands_in_the_table(train):
    checkpoint = train(compare=True)
    assert "ensemble: 1 teacher" in export_student(checkpoint, "npz", output="out")["costs"]
    Path(checkpoint).with_name("comparison.json").write_text("[]", encoding="utf-8")
    assert len(export_student(checkpoint, "npz", output="again")["costs"]) == 3


def test_it_is_exported_without_the_data_too(train, toy):
    checkpoint = train()
    export_student(checkpoint, "npz", output="with")
    Path(toy, "toy", "toy.inter").unlink()
    export_student(checkpoint, "npz", output="without")
    for name in ("model.npz", "seen.npz", "tokens.json", "README.md"):
        assert Path("with", name).read_bytes() == Path("without", name).read_bytes() or name.endswith("npz")
    for name in ("model.npz", "seen.npz"):
        one, other = np.load(Path("with", name)), np.load(Path("without", name))
        assert all(np.array_equal(one[key], other[key]) for key in one.files)


def test_scores_that_are_no_products_are_one_sentence(train, capsys):
    assert main(["export", f"--checkpoint={train('DL')}", "--format=npz", "--output=out"]) == 2
    assert "export: the scores of DL are no inner products of vectors" in capsys.readouterr().err
    assert not Path("out").exists()


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (["--format=npz"], "export: --checkpoint or --format is missing"),
        (["--checkpoint=no.pth"], "export: --checkpoint or --format is missing"),
        (
            ["--checkpoint=no.pth", "--format=onx"],
            "format: 'onx' is none of safetensors, npz, onnx, faiss; did you mean",
        ),
        (["--checkpoint=no.pth", "--format=npz", "--dtype=int4"], "dtype: 'int4' is none of float32, float16, int8"),
        (["--checkpoint=no.pth", "--format=npz", "--output=there"], "output: 'there' is there already"),
        (["--checkpoint=no.pth", "--format=npz", "--ouput=x"], "--ouput: there is no such flag or setting"),
    ],
)
def test_wrong_flags_are_one_sentence(flags, sentence, capsys):
    Path("there").mkdir()
    Path("there/mine").write_text("mine", encoding="utf-8")
    assert main(["export", *flags]) == 2
    assert sentence in capsys.readouterr().err


@pytest.mark.parametrize(("form", "name"), [("onnx", "onnxruntime"), ("faiss", "faiss")])
def test_a_missing_library_is_asked_for(form, name, monkeypatch):
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(UserError, match=rf"format: {form} needs .*pip install 'recbole_hetcomp\[export\]'"):
        export_student("no.pth", form)


def test_int8_keeps_products_of_columns_of_any_size():
    """As those of squared distances are, of which one column is the square of a vector and another is 1."""
    generator = np.random.default_rng(0)
    users, items = (generator.normal(size=(n, 8)).astype(np.float32) for n in (30, 40))
    users[:, 0] *= 1000
    items[:, 0] /= 1000
    exported = Exported(users, items, [], [], np.zeros(0), np.zeros(0))
    arrays = exported.arrays("int8")
    assert arrays["users"].dtype == arrays["items"].dtype == np.int8
    products = in_float32(arrays, "users") @ in_float32(arrays, "items").T
    assert np.abs(products - users @ items.T).max() < 0.03 * np.abs(users @ items.T).max()
    assert torch.isfinite(torch.from_numpy(products)).all()
