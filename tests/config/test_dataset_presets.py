"""Presets by data set: whom they hold for, and who wins over them."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from recbole_hetcomp.commands.benchmark_configs import configs_of
from recbole_hetcomp.commands.checks import check
from recbole_hetcomp.commands.data_lines import say_data
from recbole_hetcomp.config import Config
from recbole_hetcomp.config.errors import UserError
from recbole_hetcomp.config.registry import get_model, is_distilled, known_models, properties_dir
from recbole_hetcomp.config.settings import check_settings
from recbole_hetcomp.data.split import make_split
from recbole_hetcomp.quick_start import run_benchmark, run_hetcomp
from recbole_hetcomp.teacher_training.alone import alone_config
from recbole_hetcomp.teacher_training.configs import teacher_config

SHIPPED = sorted(properties_dir().glob("dataset/*.yaml"))
LINE = "its preset holds for "


@pytest.fixture
def plain(settings) -> dict[str, Any]:
    """`settings` that say nothing about how anything is trained."""
    said = ("epochs", "eval_step", "train_batch_size", "embedding_size")
    return {**{key: value for key, value in settings.items() if key not in said}, "teacher_config": {}} | {
        "without_distillation_config": {}
    }


@pytest.fixture
def preset(properties: Path) -> Callable[..., None]:
    """`preset(BPR={...}, topk=[5])`: the preset of `toy`: names of models have settings of theirs, others are for all."""

    def write(dataset: str = "toy", **lines: Any) -> None:
        (properties / "dataset").mkdir(exist_ok=True)
        by_model = {name: lines.pop(name) for name in list(lines) if name in known_models()}
        text = yaml.safe_dump({**lines, **({"model_config": by_model} if by_model else {})})
        (properties / "dataset" / f"{dataset}.yaml").write_text(text)

    return write


def distilled(plain: dict[str, Any], model: str = "RRDStudent", arguments: tuple[str, ...] = (), **more: Any) -> Config:
    return Config(model, "toy", config_dict={**plain, **more}, arguments=arguments)


def test_teachers_students_alone_and_base_trainings_have_it(plain, preset) -> None:
    before = distilled(plain)
    preset(BPR={"learning_rate": 0.111}, MF={"learning_rate": 0.222, "epochs": 77})
    run = distilled(plain)
    assert before["learning_rate"] not in (0.111, 0.222)
    assert teacher_config(run, "BPR")["learning_rate"] == 0.111
    assert teacher_config(run, "LightGCN")["learning_rate"] == teacher_config(before, "LightGCN")["learning_rate"]
    for own in (run, alone_config(run)):
        assert (own["learning_rate"], own["epochs"]) == (0.222, 77)
        assert own["weight_decay"] == before["weight_decay"]
    assert distilled(plain, student="BPR")["learning_rate"] == 0.111


def test_it_is_of_one_data_set_alone(plain, preset, toy) -> None:
    folder = Path(toy) / "toys"
    folder.mkdir()
    for suffix in ("inter", "user", "item"):
        (folder / f"toys.{suffix}").write_text((Path(toy) / "toy" / f"toy.{suffix}").read_text())
    preset(MF={"learning_rate": 0.222}, BPR={"learning_rate": 0.111}, topk=[3, 4], valid_metric="Recall@3")
    other = Config("RRDStudent", "toys", config_dict=plain, arguments=())
    assert other["learning_rate"] != 0.222
    assert teacher_config(other, "BPR")["learning_rate"] != 0.111
    assert alone_config(other)["learning_rate"] != 0.222


def test_a_students_training_is_the_same_alone_and_with_a_method(plain, preset) -> None:
    """Also of one that has no file in properties/teacher."""
    preset(SimpleX={"learning_rate": 0.333, "train_batch_size": 99})
    run = distilled(plain, student="SimpleX")
    keys = ("learning_rate", "train_batch_size", "epochs", "weight_decay", "stopping_step")
    assert [run[key] for key in keys] == [alone_config(run)[key] for key in keys]
    assert run["train_batch_size"] == 99


@pytest.mark.parametrize("student", ["MF", "ML", "DL", "HistoryEncoder", "BPR", "LightGCN", "NeuMF"])
def test_without_a_preset_a_students_training_is_the_same_alone_and_with_a_method(plain, student) -> None:
    run = distilled(plain, student=student)
    alone = alone_config(run)
    for key in alone.parameters["Training"]:
        assert run[key] == alone[key], key


def test_a_methods_own_file_wins_over_its_students_part__and_its_own_part_over_its_file(plain, preset) -> None:
    before = distilled(plain, "HetCompStudent")
    preset(MF={"learning_rate": 0.222, "weight_decay": 0.3})
    assert distilled(plain, "HetCompStudent")["learning_rate"] == before["learning_rate"] != 0.222
    assert distilled(plain, "HetCompStudent")["weight_decay"] == 0.0  # as the method's file has it
    preset(MF={"learning_rate": 0.222}, HetCompStudent={"learning_rate": 0.444})
    assert distilled(plain, "HetCompStudent")["learning_rate"] == 0.444
    assert distilled(plain, "RRDStudent")["learning_rate"] == 0.222


def test_a_students_size_stays_that_of_all_students(plain, preset) -> None:
    preset(BPR={"embedding_size": 99})
    run = distilled(plain, student="BPR")
    assert teacher_config(run, "BPR")["embedding_size"] == 99
    assert run["embedding_size"] == alone_config(run)["embedding_size"] == 8


@pytest.mark.parametrize("source", ["file", "dict", "arguments"])
def test_what_the_user_says_wins_over_all_parts_of_it(plain, preset, source) -> None:
    preset(MF={"learning_rate": 0.222}, HetCompStudent={"learning_rate": 0.4}, topk=[3, 4], metrics=["Hit"])
    said = {"learning_rate": 0.9, "topk": [5, 10], "metrics": ["Recall"]}
    quiet = {key: value for key, value in plain.items() if key not in said}
    Path("own.yaml").write_text(yaml.safe_dump(said))
    for model in ("RRDStudent", "HetCompStudent"):
        config = Config(
            model,
            "toy",
            ["own.yaml"] if source == "file" else None,
            {**quiet, **(said if source == "dict" else {})},
            [f"--{key}={value}" for key, value in said.items()] if source == "arguments" else (),
        )
        assert {key: config[key] for key in said} == said


def test_what_the_user_says_of_teachers_and_of_the_student_alone_wins(plain, preset) -> None:
    preset(BPR={"learning_rate": 0.111, "epochs": 55}, LightGCN={"learning_rate": 0.112}, MF={"learning_rate": 0.222})
    given = {"all": {"epochs": 3}, "BPR": {"learning_rate": 0.9}}
    run = distilled(plain, teacher_config=given, without_distillation_config={"learning_rate": 0.8})
    assert (teacher_config(run, "BPR")["learning_rate"], teacher_config(run, "BPR")["epochs"]) == (0.9, 3)
    assert teacher_config(run, "LightGCN")["learning_rate"] == 0.112
    assert alone_config(run)["learning_rate"] == 0.8
    assert run["learning_rate"] == 0.222


def test_a_benchmark_has_it_and_model_config_wins(plain, preset) -> None:
    preset(BPR={"learning_rate": 0.111, "stopping_step": 3})
    own = {"model_config": {"BPR": {"learning_rate": 0.9}}}
    for given, rate in (({}, 0.111), (own, 0.9)):
        (config,) = configs_of("BPR", "toy", None, {**plain, **given}, 1, ())
        assert (config["learning_rate"], config["stopping_step"]) == (rate, 3)
    (config,) = configs_of("BPR", "toy", None, plain, 1, ["--learning_rate=0.8"])
    assert config["learning_rate"] == 0.8


def test_settings_of_all_models_hold_for_data_and_protocol(plain, preset) -> None:
    preset(eval_args={"split": {"LS": "valid_and_test"}, "group_by": "user", "order": "RO", "mode": "full"})
    run = distilled(plain)
    split = make_split(run)
    users = len(split.history.active_users)
    assert 0 < len(split.parts[1]) == len(split.parts[2]) <= users  # one interaction of each user
    for own in (teacher_config(run, "BPR"), alone_config(run), Config("Pop", "toy", config_dict=plain, arguments=())):
        assert own["eval_args"]["split"] == {"LS": "valid_and_test"}


def lines(caplog) -> list[str]:
    return [record.getMessage() for record in caplog.records if LINE in record.getMessage()]


def test_one_line_says_so(settings, preset, caplog) -> None:
    quick = {**settings, "state": "INFO", "teachers": ["EASE"], "epochs": 1, "without_distillation": False}
    caplog.set_level(logging.INFO)
    run_hetcomp("RRDStudent", "toy", config_dict=quick, arguments=())
    assert lines(caplog) == []
    preset(MF={"learning_rate": 0.01}, NeuMF={"learning_rate": 0.01})
    run_hetcomp("RRDStudent", "toy", config_dict=quick, arguments=())
    assert "holds for MF, unless" in lines(caplog)[0]  # NeuMF takes no part
    assert len(lines(caplog)) == 1
    assert lines(caplog)[0].startswith("toy: ")
    run_benchmark(["Pop", "MF"], "toy", config_dict=quick, seeds=1)
    assert "holds for MF, unless" in lines(caplog)[1]
    run_benchmark(["Pop", "EASE"], "toy", config_dict=quick, seeds=1)
    assert len(lines(caplog)) == 2


def held(make_config, model: str, *others: str, alone: bool = True, **settings: Any) -> str:
    """What the line about the preset of `toy` names."""
    first, *rest = (make_config(name, **settings) for name in (model, *others))
    with pytest.MonkeyPatch.context() as patch:
        said: list[str] = []
        patch.setattr("recbole_hetcomp.console.say", said.append)
        say_data(first, make_split(first), rest, alone=alone)
    return next((line.partition(LINE)[2].partition(", unless")[0] for line in said if LINE in line), "")


def test_the_line_names_what_takes_part_and_takes_a_setting_from_the_preset(preset, make_config) -> None:
    rate, weight = {"learning_rate": 0.01}, {"distillation_weight": 0.5}
    preset(BPR=rate, EASE=rate, MF=rate, NeuMF=rate, RRDStudent=weight, FitNetStudent=weight)
    of_both = held(make_config, "RRDStudent", "FitNetStudent", teachers=["BPR"], alone=False)
    assert of_both == "BPR, FitNetStudent, MF, RRDStudent"  # MF: they train as the student alone does
    assert held(make_config, "HetCompStudent", teachers=["BPR"]) == "BPR, MF"
    for settings in ({"alone": False}, {"without_distillation": False}):  # HetComp has a learning rate of its own
        assert held(make_config, "HetCompStudent", teachers=["BPR"], **settings) == "BPR"
    started = {"start_from": "FitNetStudent", "without_distillation": False}
    assert held(make_config, "HetCompStudent", teachers=["EASE"], **started) == "EASE, FitNetStudent"


def test_a_split_whose_files_are_not_there_is_left_out_and_a_line_says_so(preset, make_config, toy) -> None:
    def left_out(**settings: Any) -> list[str]:
        config, said = make_config("HetCompStudent", teachers=["BPR"], **settings), []
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("recbole_hetcomp.console.say", said.append)
            say_data(config, make_split(config))
        return [line for line in said if "left out" in line]

    preset(benchmark_filename=["train", "valid", "test"])
    (line,) = left_out()
    lacking = Path(toy) / "toy" / "toy.train.inter"
    assert line == f"the split of its preset is left out: there is no file '{lacking}'; eval_args makes another"
    assert left_out(dataset_preset=False) == []
    assert left_out(benchmark_filename=None) == []  # asked for
    timed = {"inter": ["user_id", "item_id", "timestamp"]}
    assert left_out(student="GRU4Rec", load_col=timed) == []  # whose protocol has a split of its own
    head, *rows = (Path(toy) / "toy" / "toy.inter").read_text().splitlines(keepends=True)
    for third, part in enumerate(("train", "valid", "test")):
        (Path(toy) / "toy" / f"toy.{part}.inter").write_text("".join([head, *rows[third::3]]))
    assert left_out() == []


def test_a_split_that_the_user_asks_for_is_had_and_a_line_says_so(preset, make_config, toy, monkeypatch) -> None:
    preset(benchmark_filename=["train", "valid", "test"])
    head, *rows = (Path(toy) / "toy" / "toy.inter").read_text().splitlines(keepends=True)
    for third, part in enumerate(("train", "valid", "test")):
        (Path(toy) / "toy" / f"toy.{part}.inter").write_text("".join([head, *rows[third::3]]))
    said: list[str] = []
    monkeypatch.setattr("recbole_hetcomp.console.say", said.append)
    halves = {"split": {"RS": [0.5, 0.25, 0.25]}, "order": "RO", "group_by": "none", "mode": "full"}
    config = make_config("HetCompStudent", teachers=["BPR"], eval_args=halves)
    split = make_split(config)
    say_data(config, split)
    assert len(split.parts[0]) == pytest.approx(len(rows) / 2, rel=0.01)  # the file has a third
    assert teacher_config(config, "BPR")["benchmark_filename"] is None
    assert said[-1] == "the split of its preset is left out: eval_args gives another split"
    drawn = make_config("HetCompStudent", teachers=["BPR"], eval_args={"mode": "uni5"})  # of the test alone
    assert drawn["benchmark_filename"] == ["train", "valid", "test"]
    named = make_config("HetCompStudent", eval_args=halves, benchmark_filename=["train", "valid", "test"])
    assert len(make_split(named).parts[0]) == pytest.approx(len(rows) / 3, rel=0.01)


def test_a_slip_in_a_preset_of_ones_own_is_said(preset, make_config, caplog, properties: Path) -> None:
    preset(MF={"learning_rte": 0.1, "learning_rate": 0.1}, valid_metrc="Recall@10")
    say_data(*(lambda config: (config, make_split(config)))(make_config("HetCompStudent", teachers=["BPR"])))
    of_all, of_model = (line for line in caplog.messages if line.startswith("setting '"))
    assert of_all.startswith(
        "setting 'valid_metrc' in the preset of toy: no file of settings has it; did you mean 'valid_metric'"
    )
    assert of_model.startswith(
        "setting 'learning_rte' of MF in the preset of toy: no file of settings has it; did you mean 'lear"
    )
    (properties / "dataset" / "toy.yaml").write_text("BPR: {learning_rate: 0.001}\n")
    with pytest.raises(UserError, match=r"^preset of toy: BPR is a model; write its settings under model_config:$"):
        held(make_config, "HetCompStudent", teachers=["BPR"])


def test_a_preset_of_a_model_that_there_is_not_is_refused(preset, make_config) -> None:
    preset(model_config={"LightGCM": {"n_layers": 3}})
    with pytest.raises(UserError, match=r"model_config of the preset: .*LightGCM.*did you mean 'LightGCN'"):
        held(make_config, "HetCompStudent", teachers=["BPR"])


def test_one_model_of_a_benchmark_has_no_preset_of_its_own(settings) -> None:
    given = {**settings, "model_config": {"MF": {"dataset_preset": False}}}
    with pytest.raises(UserError, match="dataset_preset"):
        run_benchmark(["BPR", "MF"], "toy", config_dict=given, seeds=1)


def test_a_plain_run_of_one_model_is_recboles_and_the_line_does_not_say_otherwise(settings, preset, caplog) -> None:
    quick = {**settings, "state": "INFO", "epochs": 1}
    caplog.set_level(logging.INFO)
    before = run_hetcomp("BPR", "toy", config_dict=quick, arguments=())["test_users"]["recall@10"]
    preset(BPR={"learning_rate": 0.5})
    assert run_hetcomp("BPR", "toy", config_dict=quick, arguments=())["test_users"]["recall@10"].tolist() == before.tolist()
    assert lines(caplog) == []
    preset(learning_rate=0.5)
    assert run_hetcomp("BPR", "toy", config_dict=quick, arguments=())["test_users"]["recall@10"].tolist() != before.tolist()
    assert len(lines(caplog)) == 1


def test_a_preset_with_comments_alone_is_none(plain, properties: Path) -> None:
    (properties / "dataset").mkdir(exist_ok=True)
    (properties / "dataset" / "toy.yaml").write_text("# nothing yet\n")
    config = distilled(plain)
    assert config.preset_of("toy") == {"model_config": {}}
    check(config)


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_a_shipped_preset_names_models_and_settings_that_there_are(path: Path) -> None:
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    by_model = content.pop("model_config", {})
    own = Config("HetCompStudent", path.stem, config_dict={"data_path": "."}, arguments=())
    assert own.unknown_keys(content) == {}
    check_settings(own)
    for name, settings in by_model.items():
        assert Config(name, "toy", config_dict={"data_path": "."}, arguments=()).unknown_keys(settings) == {}
        trained = own if is_distilled(get_model(name)) else teacher_config(own, name)
        check_settings(trained)
        if not is_distilled(get_model(name)):
            assert {key: trained[key] for key in settings} == settings


def test_files_that_a_users_own_data_do_not_have_are_not_asked_for(plain, preset, toy) -> None:
    preset(benchmark_filename=["train", "valid", "test"], MF={"learning_rate": 0.222})
    run = distilled(plain)
    assert run["benchmark_filename"] is None
    assert run["learning_rate"] == 0.222
    for part in ("train", "valid", "test"):
        (Path(toy) / "toy" / f"toy.{part}.inter").write_text("user_id:token\titem_id:token\nu1\ti1\n")
    assert distilled(plain)["benchmark_filename"] == ["train", "valid", "test"]


def test_files_of_a_preset_in_a_sequential_run_are_a_sentence_that_says_what_leaves_them_out(plain, preset, toy) -> None:
    preset(benchmark_filename=["train", "valid", "test"])
    for part in ("train", "valid", "test"):
        (Path(toy) / "toy" / f"toy.{part}.inter").write_text("user_id:token\titem_id:token\nu1\ti1\n")
    settings = {"student": "GRU4Rec", "teachers": ["BPR"]}
    with pytest.raises(UserError, match=r"^benchmark_filename: .*; write benchmark_filename: ~, "):
        check(distilled(plain, "HetCompStudent", **settings))
    check(distilled(plain, "HetCompStudent", benchmark_filename=None, **settings))


def test_it_can_be_left_out(plain, preset) -> None:
    before = distilled(plain)["learning_rate"]
    preset(BPR={"learning_rate": 0.111}, MF={"learning_rate": 0.222}, topk=[3, 4])
    run = distilled(plain, dataset_preset=False)
    assert run["learning_rate"] == alone_config(run)["learning_rate"] == before
    assert teacher_config(run, "BPR")["learning_rate"] != 0.111
    assert run["topk"] == plain["topk"]


@pytest.mark.parametrize("text", ["- MF", "model_config: [MF]", "model_config: {MF: 3}", "learning_rate"])
def test_what_is_no_preset_is_one_sentence(plain, properties: Path, text: str) -> None:
    (properties / "dataset").mkdir(exist_ok=True)
    (properties / "dataset" / "toy.yaml").write_text(text)
    with pytest.raises(UserError, match=r"toy\.yaml: it is no preset; write lines such as"):
        distilled(plain)
