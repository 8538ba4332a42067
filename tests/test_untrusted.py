"""Files and settings that would run something, in every place from which they are read: nothing of them runs."""

from __future__ import annotations

import pickle
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from recbole.config import Config as RecBoleConfig
from recbole.data import create_dataset, data_preparation
from recbole.data.utils import load_split_dataloaders
from recbole.model.context_aware_recommender import kd_dagfm
from recbole.trainer import HyperTuning, Trainer
from recbole.utils import get_model, init_seed

from recbole_hetcomp.cli import main
from recbole_hetcomp.commands import pipeline
from recbole_hetcomp.commands.tuning import _search_space
from recbole_hetcomp.config.errors import UserError
from recbole_hetcomp.quick_start import run_hetcomp
from recbole_hetcomp.serving.student import load_student
from recbole_hetcomp.testing import write_toy
from recbole_hetcomp.trainer.checkpoint import CheckpointError, plain_config, save_checkpoint


class Canary:
    """Unpickled, it makes the file `sign`."""

    def __init__(self, sign: Path) -> None:
        self.sign = sign

    def __reduce__(self) -> tuple[Callable[..., object], tuple[str, str]]:
        return open, (str(self.sign), "w")


@pytest.fixture
def sign(tmp_path: Path) -> Any:
    """The file that a payload makes where it is run; no test leaves it behind."""
    path = tmp_path / "it-ran"
    yield path
    assert not path.exists()


@pytest.fixture
def flags(settings: dict[str, Any]) -> Callable[..., list[str]]:
    """`flags(model, **changes)`: a short run of a model on `toy`, as a user would type it."""

    def typed(model: str, **changes: Any) -> list[str]:
        own = {**settings, "without_distillation": False, "epochs": 1, **changes}
        return [f"--model={model}", "--dataset=toy", *(f"--{key}={value}" for key, value in own.items())]

    return typed


def refused(capsys: Any, arguments: list[str]) -> str:
    """The one sentence with which the command line refuses `arguments`."""
    capsys.readouterr()
    assert main(arguments) == 2
    out, err = capsys.readouterr()
    assert "Traceback" not in out + err
    (line,) = (line for line in err.splitlines() if line.startswith("hetcomp: "))
    assert len(line) <= 400 + len("hetcomp: ")
    return line


def test_a_canary_runs_where_it_is_unpickled(tmp_path) -> None:
    pickle.loads(pickle.dumps(Canary(tmp_path / "sign"))).close()
    assert (tmp_path / "sign").exists()


# --- the file of LDiffRec -------------------------------------------------------------------------------------------

CLUSTERS = {"n_cate": 2, "dims_dnn": [8], "steps": 2, "in_dims": [8], "out_dims": [], "ae_act_func": "tanh"}
ITEMS = 81  # of toy, without the padding


def objects(path: Path, sign: Path) -> None:
    np.save(path, np.array([Canary(sign)] * ITEMS, dtype=object), allow_pickle=True)


def a_pickle(path: Path, sign: Path) -> None:
    path.write_bytes(pickle.dumps(Canary(sign)))


def several_arrays(path: Path, sign: Path) -> None:
    with path.open("wb") as file:
        np.savez(file, a=np.zeros(2), b=np.array([Canary(sign)], dtype=object))


def names(path: Path, sign: Path) -> None:
    np.save(path, np.array(["a"] * ITEMS))


def no_file(path: Path, sign: Path) -> None:
    pass


FILES = [objects, a_pickle, several_arrays, names, no_file]


@pytest.fixture(params=FILES, ids=lambda write: write.__name__)
def item_embeddings(request, toy, sign) -> Path:
    path = Path(toy) / "toy" / "item_emb.npy"
    request.param(path, sign)
    return path


def test_ldiffrec_does_not_unpickle_its_file(capsys, flags, item_embeddings) -> None:
    line = refused(capsys, flags("LDiffRec", **CLUSTERS))
    assert "n_cate: LDiffRec cannot read" in line
    assert str(item_embeddings) in line


def test_ldiffrec_as_a_teacher_does_not_unpickle_its_file(capsys, flags, item_embeddings) -> None:
    wanted = {"teachers": ["LDiffRec"], "teacher_config": {"LDiffRec": {**CLUSTERS, "epochs": 1}}}
    assert str(item_embeddings) in refused(capsys, flags("HetCompStudent", **wanted))


def test_recommending_by_a_checkpoint_that_names_ldiffrec_does_not_unpickle_its_file(
    capsys, make_config, item_embeddings, tmp_path
) -> None:
    config = plain_config(make_config("LDiffRec", **CLUSTERS))
    save_checkpoint(tmp_path / "a.pth", {"config": config, "state_dict": {}, "other_parameter": {}})
    assert str(item_embeddings) in refused(capsys, ["recommend", f"--checkpoint={tmp_path / 'a.pth'}", "--users=u1"])


def test_ldiffrec_reads_numbers(flags, toy, monkeypatch) -> None:
    seen = []
    clusters = types.ModuleType("kmeans_pytorch")

    def kmeans(X: torch.Tensor, num_clusters: int, **_: Any) -> tuple[torch.Tensor, None]:  # noqa: N803
        seen.append(X)
        return torch.arange(len(X)) % num_clusters, None

    vars(clusters)["kmeans"] = kmeans
    monkeypatch.setitem(sys.modules, "kmeans_pytorch", clusters)
    numbers = np.random.default_rng(0).normal(size=(ITEMS, 4)).astype(np.float32)
    np.save(Path(toy) / "toy" / "item_emb.npy", numbers)
    assert main(flags("LDiffRec", **CLUSTERS)) == 0
    assert torch.equal(seen[0], torch.from_numpy(numbers))


# --- the teacher of KD_DAGFM ----------------------------------------------------------------------------------------

CONTEXT = {
    "threshold": {"rating": 3},
    "load_col": {"inter": ["user_id", "item_id", "rating"]},
    "metrics": ["AUC"],
    "valid_metric": "AUC",
    "train_neg_sample_args": None,
    "eval_args": {"split": {"RS": [0.8, 0.1, 0.1]}, "order": "RO", "mode": "labeled", "group_by": None},
    "t_cin": [4],
}


def kd_dagfm_of(settings: dict[str, Any], teacher: str) -> Any:
    """RecBole's own way to the model."""
    config = RecBoleConfig("KD_DAGFM", "toy", config_dict={**settings, **CONTEXT, "teacher": teacher})
    data = data_preparation(config, create_dataset(config))[0]
    return get_model("KD_DAGFM")(config, data._dataset)


@pytest.mark.parametrize("teacher", ["CrossNet", "CIN"])
def test_kd_dagfm_takes_its_teacher_by_name(settings, teacher) -> None:
    assert type(kd_dagfm_of(settings, teacher).teacher_network) is vars(kd_dagfm)[teacher]


@pytest.mark.parametrize(
    "teacher", ["open({sign!r}, 'w') or CIN", "DAGFM", "nn.Linear", "torch", "CrossNet ", "", "KD_DAGFM"]
)
def test_kd_dagfm_does_not_run_its_teacher(settings, sign, teacher) -> None:
    with pytest.raises(UserError, match=r"^teacher: .* is none of CrossNet, CIN$"):
        kd_dagfm_of(settings, teacher.format(sign=str(sign)))


def test_a_teacher_of_kd_dagfm_that_is_code_is_refused_at_the_start(capsys, flags, sign, monkeypatch) -> None:
    monkeypatch.setattr(pipeline, "make_split", lambda *_: pytest.fail("work has begun"))
    assert "teacher: " in refused(capsys, [*flags("KD_DAGFM", **CONTEXT), f"--teacher=open({str(sign)!r},'w') or CIN"])


# --- what RecBole has saved -----------------------------------------------------------------------------------------


@pytest.fixture
def saved_data(settings, tmp_path, sign) -> dict[str, str]:
    """Canaries wherever RecBole looks for datasets and loaders, and the settings that name two more."""
    folder = Path(settings["checkpoint_dir"])
    folder.mkdir()
    names = ["toy-Dataset.pth", "toy-for-BPR-dataloader.pth", "toy-for-HetCompStudent-dataloader.pth"]
    files = [*(folder / name for name in names), tmp_path / "dataset.pth", tmp_path / "loaders.pth"]
    for file in files:
        file.write_bytes(pickle.dumps(Canary(sign)))
    return {"dataset_save_path": str(files[-2]), "dataloaders_save_path": str(files[-1])}


@pytest.mark.parametrize("named", [True, False])
@pytest.mark.parametrize("model", ["BPR", "HetCompStudent"])
def test_saved_datasets_and_loaders_are_not_unpickled(flags, saved_data, settings, model, named) -> None:
    assert main(flags(model, teachers=["BPR"], **(saved_data if named else {}))) == 0
    (checkpoint,) = Path(settings["checkpoint_dir"]).glob(f"{model}-*.pth")
    assert main(["recommend", f"--checkpoint={checkpoint}", "--users=u1"]) == 0


@pytest.mark.parametrize("named", [True, False])
@pytest.mark.parametrize("load", [create_dataset, load_split_dataloaders])
def test_recboles_own_functions_refuse_them(make_config, saved_data, load, named) -> None:
    with pytest.raises(UserError, match=r"save_dataset, save_dataloaders: '.*pth' is a pickle"):
        load(make_config("BPR", **(saved_data if named else {})))


def test_recboles_own_function_reads_a_saved_model_as_data(settings, tmp_path, sign) -> None:
    from recbole.quick_start import load_data_and_model

    config = RecBoleConfig("BPR", "toy", config_dict=settings)
    init_seed(config["seed"], True)
    train, valid, _ = data_preparation(config, create_dataset(config))
    trainer = Trainer(config, get_model("BPR")(config, train._dataset))
    trainer.fit(train, valid, verbose=False)
    loaded_config, model, dataset, *loaders = load_data_and_model(trainer.saved_model_file)
    best = torch.load(trainer.saved_model_file, weights_only=False)["state_dict"]
    assert all(torch.equal(value, best[name]) for name, value in model.state_dict().items())
    assert (loaded_config["embedding_size"], dataset.user_num, len(loaders)) == (8, 62, 3)
    torch.save({"config": Canary(sign), "state_dict": {}}, tmp_path / "evil.pth", pickle_protocol=4)
    with pytest.raises(CheckpointError, match=r"evil\.pth was refused"):
        load_data_and_model(tmp_path / "evil.pth")


# --- yaml -----------------------------------------------------------------------------------------------------------

TAGS = [
    "!!python/object/apply:builtins.open [{sign!r}, w]",
    "!!python/object/new:io.FileIO [{sign!r}, w]",
    "!!python/object/new:type {{args: [z, !!python/tuple [], {{}}], state: {{}}, listitems: !!python/name:exec }}",
    "!!python/name:os.system",
    "!!python/module:os",
    "!!python/object:pathlib.Path {{}}",
]


@pytest.fixture(params=TAGS)
def tag(request, sign) -> str:
    return request.param.format(sign=str(sign))


def test_tags_in_a_configuration_file_make_nothing(capsys, flags, tag) -> None:
    Path("own.yaml").write_text(f"wandb_project: {tag}\n", encoding="utf-8")
    assert "own.yaml" in refused(capsys, ["--config_files=own.yaml", *flags("BPR")])


@pytest.mark.parametrize("file", ["dataset/toy.yaml", "teacher/BPR.yaml", "space/BPR.yaml", "presets/own.yaml"])
def test_tags_in_presets_and_in_spaces_make_nothing(capsys, flags, properties, tag, file) -> None:
    (properties / file).write_text(f"learning_rate: {tag}\n", encoding="utf-8")
    more = {"dataset/toy.yaml": [], "presets/own.yaml": ["--config_files=own"]}.get(file, ["--tune=1"])
    assert Path(file).name in refused(capsys, [*more, *flags("HetCompStudent", teachers=["BPR"])])


def test_tags_in_the_yaml_of_a_model_make_nothing(capsys, flags, properties, tag) -> None:
    (properties / "model" / "MF.yaml").write_text(f"init_std: {tag}\n", encoding="utf-8")
    refused(capsys, flags("MF"))


def test_recboles_own_config_makes_nothing_of_tags(settings, tag) -> None:
    Path("own.yaml").write_text(f"wandb_project: {tag}\n", encoding="utf-8")
    with pytest.raises(yaml.YAMLError):
        RecBoleConfig("BPR", "toy", ["own.yaml"], settings)


def test_recboles_own_config_reads_numbers_as_ever(settings) -> None:
    Path("own.yaml").write_text("learning_rate: 1e-5\ntopk: [5]\nnote: a\n", encoding="utf-8")
    given = {key: value for key, value in settings.items() if key != "topk"}
    config = RecBoleConfig("BPR", "toy", ["own.yaml"], {**given, "valid_metric": "Recall@5"})
    assert (config["learning_rate"], config["topk"], config["note"]) == (1e-5, [5], "a")


LINES = ["learning_rate choice {code}", "learning_rate choice [{code}]", "learning_rate choice !!python/name:os.system"]
LINES += ["learning_rate uniform {code},1"]


@pytest.mark.parametrize("line", LINES)
def test_a_params_file_is_not_run(make_config, sign, line) -> None:
    Path("space.txt").write_text(line.format(code=f"open({str(sign)!r},'w')") + "\n", encoding="utf-8")
    with pytest.raises(UserError, match=r"^params_file: .* is not like"):
        _search_space(Path("space.txt"), make_config("BPR"))


@pytest.mark.parametrize("line", LINES)
def test_recboles_own_search_does_not_run_it(sign, line) -> None:
    pytest.importorskip("hyperopt")
    Path("space.txt").write_text(line.format(code=f"open({str(sign)!r},'w')") + "\n", encoding="utf-8")
    with pytest.raises((ValueError, SyntaxError)):
        HyperTuning._build_space_from_file("space.txt")


# --- settings -------------------------------------------------------------------------------------------------------

CODE = [
    "__import__('os').system('touch {sign}')",
    "[__import__('pathlib').Path('{sign}').touch()]",
    "open('{sign}', 'w')",
    "[f('{sign}', 'w') for f in [open]]",
    "(lambda: open('{sign}', 'w'))()",
    "{{'a': open('{sign}', 'w')}}['a'].close()",
    "sys.modules['os'].system('touch {sign}')",
    " exec('x=1') or 'saved'",
    'f\'{{open("{sign}", "w")}}\'',
]


@pytest.fixture(params=CODE)
def code(request, sign, monkeypatch) -> str:
    monkeypatch.setattr(pipeline, "make_split", lambda *_: pytest.fail("work has begun"))
    return request.param.format(sign=sign)


@pytest.mark.parametrize("key", ["wandb_project", "checkpoint_dir", "encoding", "anything"])
def test_code_on_the_command_line_is_refused_at_the_start(capsys, flags, code, key) -> None:
    assert f"{key}: " in (line := refused(capsys, [*flags("HetCompStudent"), f"--{key}={code}"]))
    assert "would call a function" in line


def test_code_in_a_configuration_file_is_refused_at_the_start(capsys, flags, code) -> None:
    Path("own.yaml").write_text(yaml.safe_dump({"wandb_project": code}), encoding="utf-8")
    assert "wandb_project: " in refused(capsys, ["--config_files=own.yaml", *flags("HetCompStudent")])


def test_code_in_a_dict_is_refused_at_the_start(settings, code) -> None:
    with pytest.raises(UserError, match=r"^wandb_project: .* would call a function"):
        run_hetcomp("HetCompStudent", "toy", config_dict={**settings, "wandb_project": code}, arguments=())


def test_code_in_a_teachers_settings_is_refused_at_the_start(settings, code) -> None:
    teachers = {"teachers": ["BPR"], "teacher_config": {"BPR": {"wandb_project": code}}}
    with pytest.raises(UserError, match=r"wandb_project: .* would call a function"):
        run_hetcomp("HetCompStudent", "toy", config_dict={**settings, **teachers}, arguments=())


def test_code_in_the_settings_of_a_checkpoint_is_refused(capsys, make_config, code) -> None:
    config = {**plain_config(make_config("BPR")), "wandb_project": code}
    save_checkpoint("a.pth", {"config": config, "state_dict": {}, "other_parameter": {}})
    assert "'wandb_project' would call a function" in refused(capsys, ["recommend", "--checkpoint=a.pth", "--users=u1"])


@pytest.mark.parametrize("source", ["file", "dict", "sys.argv"])
def test_recboles_own_config_leaves_code_as_text(settings, sign, monkeypatch, source) -> None:
    text = f"open({str(sign)!r}, 'w')"
    Path("own.yaml").write_text(yaml.safe_dump({"note": text}), encoding="utf-8")
    monkeypatch.setattr(sys, "argv", ["run.py", f"--note={text}"] if source == "sys.argv" else ["run.py"])
    given = {**settings, **({"note": text} if source == "dict" else {})}
    config = RecBoleConfig("BPR", "toy", ["own.yaml"] if source == "file" else None, given)
    assert config["note"] == text


def test_recboles_own_config_reads_literals_as_ever(settings, monkeypatch) -> None:
    given = {"a": "3", "b": "1e-5", "c": "[1, 'x']", "d": "TRUE", "e": "None", "f": "plain", "g": "{'h': (1,)}"}
    read = {"a": 3, "b": 1e-5, "c": [1, "x"], "d": True, "e": None, "f": "plain", "g": {"h": (1,)}}
    config = RecBoleConfig("BPR", "toy", config_dict={**settings, **given})
    assert {key: config[key] for key in given} == read


HARMLESS = [
    "data (1)/toy",
    "data(1)",
    "my.data (1)/v2",
    "saved (old)",
    "[3,inf)",
    "ml-100k",
    "10 ** -3",
    "C:\\data (1)",
    "f(x",
]
HARMLESS += ["interactions / (users + items)", "print", "a b(c)", "/srv/data (1)", "((((", "{[]: 1}", "(" * 300]


@pytest.mark.parametrize("text", HARMLESS)
def test_text_that_calls_nothing_is_accepted(make_config, text) -> None:
    assert make_config("BPR", wandb_project=text)["wandb_project"] is not None


def test_folders_with_brackets_in_their_names_are_trained_in_and_recommended_from(flags) -> None:
    write_toy(Path("data (1)"))
    assert main(flags("BPR", data_path="data (1)", checkpoint_dir="saved (1)")) == 0
    (checkpoint,) = Path("saved (1)").glob("*.pth")
    config, _, _ = load_student(checkpoint)
    assert config["data_path"] == "data (1)/toy"
    assert main(["recommend", f"--checkpoint={checkpoint}", "--users=u1"]) == 0
