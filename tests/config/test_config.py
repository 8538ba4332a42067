"""The Config: who wins, what is read, what is said of a key that nothing reads."""

from __future__ import annotations

import logging
import sys
from pathlib import Path

import numpy as np
import pytest
import recbole
import yaml
from recbole.utils import InputType

from recbole_hetcomp.config import Config, derive
from recbole_hetcomp.config.errors import UserError
from recbole_hetcomp.config.registry import properties_dir
from recbole_hetcomp.config.settings import check_settings


def yaml_file(name: str, **values) -> str:
    Path(name).write_text(yaml.safe_dump(values), encoding="utf-8")
    return name


def recbole_yaml(model: str) -> dict:
    return yaml.safe_load((Path(recbole.__file__).parent / "properties" / "model" / f"{model}.yaml").read_text())


def test_later_sources_win__recbole_ours_file_dict_command_line(toy) -> None:
    chain = {
        "stopping_step": 10,  # RecBole's overall.yaml
        "valid_metric": "Recall@50",  # ours, over RecBole's MRR@10
        "seed": 1,
        "epochs": 2,
        "learning_rate": 0.3,
    }
    first = yaml_file("a.yaml", seed=0, epochs=0, learning_rate=0.0)
    second = yaml_file("b.yaml", seed=1, epochs=1, learning_rate=0.1)
    config = Config(
        "BPR",
        "toy",
        [first, second],
        {"data_path": toy, "epochs": 2, "learning_rate": 0.2},
        ["--learning_rate=0.9", "--learning_rate=0.3"],
    )
    assert {key: config[key] for key in chain} == chain


def test_our_model_yaml_wins_over_the_settings_of_all_distilled_models(make_config) -> None:
    config = make_config("HetCompStudent")
    assert config["n_targets"] == 100  # model/HetCompStudent.yaml
    assert config["consistency_window"] == 5  # distillation.yaml
    assert config["init_std"] == 0.01  # model/MF.yaml, the student's
    assert config["eval_args"]["split"] == {"RS": [0.6, 0.2, 0.2]}  # overall.yaml


@pytest.mark.parametrize("source", ["file", "dict", "arguments"])
def test_students_own_recbole_yaml_is_read__wherever_the_student_is_named(settings, source) -> None:
    files = [yaml_file("student.yaml", student="SimpleX")] if source == "file" else None
    given = {**settings, **({"student": "SimpleX"} if source == "dict" else {})}
    arguments = ["--student=SimpleX"] if source == "arguments" else []
    config = Config("HetCompStudent", "toy", files, given, arguments)
    theirs = recbole_yaml("SimpleX")
    assert (config["history_len"], config["margin"]) == (theirs["history_len"], theirs["margin"])
    assert config["embedding_size"] == settings["embedding_size"]  # given, so neither yaml's


@pytest.mark.parametrize("student", ["MF", "ML", "LightGCN"])
def test_a_student_with_a_method_is_trained_as_it_is_alone__unless_the_method_says_otherwise(make_config, student) -> None:
    keys = {"learning_rate", "weight_decay", "stopping_step"}
    path = properties_dir() / "teacher" / f"{student}.yaml"
    tuned = make_config("RRDStudent").read_yaml(path)
    method = Config("RRDStudent", "toy", config_dict={"data_path": ".", "student": student}, arguments=())
    for key in keys & tuned.keys():
        assert method[key] == tuned[key]
    assert method["embedding_size"] == 8
    hetcomp = Config("HetCompStudent", "toy", config_dict={"data_path": ".", "student": student}, arguments=())
    assert (hetcomp["learning_rate"], hetcomp["train_batch_size"]) == (0.02, "interactions / 15")


def test_settings_of_a_student_that_was_not_chosen_are_not_there(make_config) -> None:
    assert make_config("HetCompStudent")["n_layers"] is None
    assert make_config("BPR")["n_targets"] is None


def test_negatives_are_drawn_for_the_students_own_loss(make_config) -> None:
    kinds = [make_config("HetCompStudent", student=student)["MODEL_INPUT_TYPE"] for student in ("BPR", "NeuMF")]
    assert kinds == [InputType.PAIRWISE, InputType.POINTWISE]


def test_unknown_keys_are_warned_of__nearest_key_and_source(settings, caplog) -> None:
    files = [yaml_file("own.yaml", n_target=5)]
    config = Config("HetCompStudent", "toy", files, {**settings, "learning_rat": 0.1}, ["--xyzzyx=1"])
    with caplog.at_level(logging.WARNING):
        lines = config.warn_of_unknown_keys()
    assert len(lines) == 3
    assert [record.getMessage() for record in caplog.records][-3:] == lines
    by_key = {line.split("'")[1]: line for line in lines}
    assert "a configuration file" in by_key["n_target"]
    assert "'n_targets'" in by_key["n_target"]
    assert "the configuration dict" in by_key["learning_rat"]
    assert "'learning_rate'" in by_key["learning_rat"]
    assert "the command line" in by_key["xyzzyx"]
    assert "did you mean" not in by_key["xyzzyx"]


@pytest.mark.parametrize("model", ["HetCompStudent", "MF", "ML", "DL", "CML", "ItemVAE"])
def test_no_key_of_our_yaml_files_is_unknown(model, settings) -> None:
    folder = Path(__file__).parents[2] / "properties"
    given = {**yaml.safe_load((folder / "overall.yaml").read_text()), "data_path": settings["data_path"]}
    given.update(yaml.safe_load((folder / "model" / f"{model}.yaml").read_text()))
    assert Config(model, "toy", config_dict=given, arguments=()).warn_of_unknown_keys() == []


LITERALS = [
    ("3", 3),
    ("1e-5", 1e-5),
    ("true", True),
    ("False", False),
    ("None", None),
    ("~", None),
    ("[5, 10]", [5, 10]),
    ("{'LightGCN': {'n_layers': 2}}", {"LightGCN": {"n_layers": 2}}),
    ("LightGCN", "LightGCN"),
    ("a=b", "a=b"),
    ("", ""),
]


@pytest.mark.parametrize(("text", "value"), LITERALS)
def test_a_string_becomes_the_literal_that_it_spells(settings, text, value) -> None:
    config = Config("BPR", "toy", config_dict=settings, arguments=[f"--teacher_config={text}"])
    assert config["teacher_config"] == value
    assert type(config["teacher_config"]) is type(value)


@pytest.mark.parametrize("source", ["dict", "arguments", "sys.argv"])
def test_code_in_a_string_is_refused_and_does_not_run(settings, monkeypatch, source) -> None:
    code = "__import__('pathlib').Path('run').touch()"
    given = {**settings, **({"wandb_project": code} if source == "dict" else {})}
    monkeypatch.setattr(sys, "argv", ["run.py", f"--wandb_project={code}"] if source == "sys.argv" else ["run.py"])
    arguments = [f"--wandb_project={code}"] if source == "arguments" else None
    with pytest.raises(UserError, match=r"^wandb_project: .* would call a function where RecBole reads it"):
        Config("BPR", "toy", config_dict=given, arguments=arguments)
    assert not Path("run").exists()


def test_given_arguments_shut_the_command_line_out(settings, monkeypatch) -> None:
    monkeypatch.setattr(sys, "argv", ["run.py", "--epochs=77"])
    assert Config("BPR", "toy", config_dict=settings)["epochs"] == 77
    assert Config("BPR", "toy", config_dict=settings, arguments=())["epochs"] == settings["epochs"]


def test_the_dict_that_is_handed_in_is_left_as_it_was(settings) -> None:
    given = {**settings, "eval_args": {"split": {"RS": [0.8, 0.1, 0.1]}}, "epochs": "4"}
    config = Config("BPR", "toy", config_dict=given, arguments=())
    config["eval_args"]["split"]["RS"][0] = 0.1
    assert given["eval_args"] == {"split": {"RS": [0.8, 0.1, 0.1]}}
    assert given["epochs"] == "4"


@pytest.mark.parametrize(
    ("model", "given", "arguments", "sentence"),
    [
        ("LightGNC", {}, (), "no model named 'LightGNC'; did you mean 'LightGCN'"),
        ("HetCompStudent", {"student": "LihtGCN"}, (), "no model named 'LihtGCN'"),
        ("BPR", {}, ["epochs=3"], "'epochs=3' is not of the form --key=value"),
        ("BPR", {}, ["--epochs"], "'--epochs' is not of the form"),
        ("BPR", {"metrics": ["Recal"]}, (), "no metric named 'Recal'"),
        ("BPR", {"topk": [0]}, (), "topk"),
        (None, {}, (), "^model: none is given; write --model=HetCompStudent"),
        ("BPR", {"metrics": []}, (), r"^metrics: \[\] is no list of names"),
        ("BPR", {"metrics": 3}, (), "^metrics: 3 is no list of names"),
        ("BPR", {"valid_metric": 5}, (), "^valid_metric: 5 must be a name"),
        ("BPR", {"valid_metric": None}, (), "^valid_metric: None must be a name"),
    ],
)
def test_bad_settings_are_one_sentence(settings, model, given, arguments, sentence) -> None:
    with pytest.raises(UserError, match=sentence):
        Config(model, "toy", config_dict={**settings, **given}, arguments=arguments)


def test_a_dataset_that_is_not_given_is_named(settings) -> None:
    with pytest.raises(UserError, match=r"^dataset: none is given; write --dataset=ml-100k"):
        Config("BPR", config_dict=settings, arguments=())


def test_numpys_numbers_and_paths_are_pythons(settings) -> None:
    given = {
        **settings,
        "checkpoint_dir": Path("saved"),
        "epochs": np.int64(3),
        "learning_rate": np.float32(0.5),
        "use_gpu": np.bool_(False),
        "topk": np.array([5, 10]),
        "teacher_config": {"all": {"epochs": np.int64(2)}},
    }
    config = Config("HetCompStudent", "toy", config_dict=given, arguments=())
    check_settings(config)
    for key, value in {"checkpoint_dir": "saved", "epochs": 3, "learning_rate": 0.5, "use_gpu": False}.items():
        assert config[key] == value
        assert type(config[key]) is type(value)
    assert config["topk"] == [5, 10]
    assert type(config["teacher_config"]["all"]["epochs"]) is int


def test_a_single_value_is_taken_where_recbole_takes_one(settings) -> None:
    arguments = ["--topk=10", "--metrics=Recall", "--valid_metric=recall@10"]
    config = Config("BPR", "toy", config_dict=settings, arguments=arguments)
    check_settings(config)
    assert (config["topk"], config["metrics"]) == ([10], ["Recall"])


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (None, "there is no file"),
        ("", "no `key: value` lines"),
        ("- 1\n", "no `key: value` lines"),
        ("a: [", "not valid yaml"),
    ],
)
def test_unreadable_configuration_files_are_named(settings, content, sentence) -> None:
    if content is not None:
        Path("broken.yaml").write_text(content)
    with pytest.raises(UserError, match=rf"config_files.*{sentence}|config_files.*'broken\.yaml'.*{sentence}"):
        Config("BPR", "toy", ["broken.yaml"], settings, ())


def test_numbers_with_exponents_in_yaml_files_are_numbers(settings) -> None:
    Path("numbers.yaml").write_text("learning_rate: 1e-5\n")
    del settings["epochs"]
    assert Config("BPR", "toy", ["numbers.yaml"], settings, ())["learning_rate"] == 1e-5


def test_derived_config_shares_data_and_protocol_but_not_training(make_config, monkeypatch) -> None:
    run = make_config(
        "HetCompStudent",
        eval_args={"split": {"LS": "valid_and_test"}, "group_by": "user", "order": "RO", "mode": "full"},
        metrics=["Hit", "NDCG"],
        max_block_mb=3,
        epochs=77,
        learning_rate=0.77,
        train_batch_size=77,
        weight_decay=0.77,
        stopping_step=77,
        eval_step=7,
    )
    monkeypatch.setattr(sys, "argv", ["run.py", "--metrics=['MRR']", "--epochs=99", "--n_layers=9"])
    other = derive(run, "LightGCN", {"n_layers": 1, "epochs": 5}, seed=42)
    shared = ("data_path", "load_col", "eval_args", "metrics", "topk", "valid_metric", "checkpoint_dir", "show_progress")
    shared += ("max_block_mb", "device", "use_gpu", "reproducibility")
    assert {key: other[key] for key in shared} == {key: run[key] for key in shared}
    plain = Config("LightGCN", "toy", config_dict={"data_path": "."}, arguments=())
    own = ("learning_rate", "train_batch_size", "weight_decay", "stopping_step", "eval_step", "embedding_size")
    assert {key: other[key] for key in own} == {key: plain[key] for key in own}
    assert (other["n_layers"], other["epochs"], other["seed"], other.model) == (1, 5, 42, "LightGCN")
    assert other["teachers"] is None


def test_derived_config_is_its_own__changing_it_does_not_change_the_run(make_config) -> None:
    run = make_config("HetCompStudent")
    other = derive(run, "BPR", {}, seed=1)
    other["metrics"].append("MRR")
    other["eval_args"]["mode"] = "uni10"
    assert "MRR" not in run["metrics"]
    assert run["eval_args"]["mode"] != "uni10"


def test_a_yaml_file_can_make_nothing_but_plain_data(settings) -> None:
    Path("evil.yaml").write_text("epochs: !!python/name:os.system\n", encoding="utf-8")
    with pytest.raises(UserError, match=r"evil\.yaml"):
        Config("BPR", "toy", ["evil.yaml"], settings, arguments=())
    Path("plain.yaml").write_text("learning_rate: 1e-5\n", encoding="utf-8")
    assert Config("BPR", "toy", ["plain.yaml"], settings, arguments=())["learning_rate"] == 1e-5


def test_a_preset_is_found_by_its_name_from_any_folder(settings) -> None:
    assert Config("HetCompStudent", "toy", ["official"], settings, arguments=())["curriculum_rule"] == "official"
    with pytest.raises(UserError, match=r"config_files: there is no file 'oficial'.*demo, official, submission"):
        Config("HetCompStudent", "toy", ["oficial"], settings, arguments=())
