"""The command line: whatever goes wrong is one sentence and an exit code."""

from __future__ import annotations

import errno
import importlib.metadata
import logging
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from recbole_hetcomp import cli
from recbole_hetcomp.cli import main
from recbole_hetcomp.config.flags import parsed


@pytest.fixture
def flags(settings) -> list[str]:
    """`settings` as a user would type them."""
    fast = {**settings, "without_distillation": False, "epochs": 1}
    return ["--model=HetCompStudent", "--dataset=toy", *(f"--{key}={value}" for key, value in fast.items())]


def replaced(flags: list[str], **changes: Any) -> list[str]:
    kept = [flag for flag in flags if flag[2:].partition("=")[0] not in changes]
    return kept + [f"--{key}={value}" for key, value in changes.items()]


def refused(capsys, arguments: list[str]) -> str:
    """The one sentence with which the command line refuses `arguments`."""
    capsys.readouterr()
    assert main(arguments) == 2
    out, err = capsys.readouterr()
    assert "Traceback" not in out + err
    lines = [line for line in err.splitlines() if line.startswith("hetcomp: ")]
    assert len(lines) == 1
    assert err.strip().splitlines()[-1] == lines[0]
    return lines[0]


WRONG = {
    "unknown model": ({"model": "HetCompStudnt"}, "no model named 'HetCompStudnt'; did you mean 'HetCompStudent'"),
    "unknown teacher": ({"teachers": "['BPR','LigthGCN']"}, "no model named 'LigthGCN'; did you mean 'LightGCN'"),
    "unknown student": ({"student": "LightGNC"}, "no model named 'LightGNC'; did you mean 'LightGCN'"),
    "misspelt setting of a teacher": (
        {"teachers": "['BPR']", "teacher_config": "{'BPR': {'epoch': 3}}"},
        "teacher_config of BPR: epoch: nothing reads a setting of this name; did you mean 'epochs'",
    ),
    "misspelt setting": ({"curriculum_perod": "20"}, "curriculum_perod: nothing reads a setting of this name; did you mean"),
    "a size that is not the student's": (
        {"student": "NeuMF", "embedding_size": "8"},
        "embedding_size: NeuMF has no such setting; its own are mf_embedding_size, mlp_embedding_size, mlp_hidden_size",
    ),
    "teacher's value": (
        {"teacher_config": "{'BPR':{'embedding_size':'big'}}"},
        "teacher_config of BPR: embedding_size: 'big' must be a whole number",
    ),
    "metric": ({"metrics": "['Recal']"}, "metrics: There is no metric named 'Recal'"),
    "student that reads more": ({"student": "GRU4RecF"}, "student: 'GRU4RecF' is no general recommender"),
    "untrainable student": ({"student": "EASE"}, "student: EASE has no scores that can be trained"),
    "teacher that reads more": ({"teachers": "['DIN']"}, "teachers: 'DIN' is a sequential model that reads more"),
    "teacher that is distilled": ({"teachers": "['HetCompStudent']"}, "teachers: 'HetCompStudent' is itself distilled"),
    "teacher twice": ({"teachers": "['BPR','BPR']"}, "'BPR' is named twice"),
    "no teacher": ({"teachers": "[]"}, "teachers: [] is no list of names"),
    "teachers no list": ({"teachers": "BPR"}, "teachers: 'BPR' is no list of names"),
    "teacher file missing": ({"teachers": "['lists.tsv']"}, "there is no file 'lists.tsv'"),
    "teacher_config no dict": ({"teacher_config": "3"}, "teacher_config: 3 must be a dict of settings"),
    "teacher_config flat": ({"teacher_config": "{'epochs':2}"}, "is not of the form"),
    "teacher_config unknown": (
        {"teacher_config": "{'LightGNC':{}}"},
        "'LightGNC' is no teacher of this run; did you mean 'LightGCN'",
    ),
    "fractions": ({"trajectory_fractions": "[0.5,0.2]"}, "trajectory_fractions: [0.5, 0.2] must rise"),
    "trajectory rule": ({"trajectory_rule": "epcoh"}, "trajectory_rule: 'epcoh' is none of"),
    "dataset": ({"dataset": "toyy"}, "dataset 'toyy': there is no file"),
    "curriculum rule": (
        {"curriculum_rule": "offical"},
        "curriculum_rule: 'offical' is none of official, submission, patient, none",
    ),
    "transfer": ({"transfer": "no"}, "transfer: 'no' is none of adaptive, overall, fine"),
    "importance": ({"importance": "no"}, "importance: 'no' is none of rank_consistency"),
    "discrepancy": ({"discrepancy": "no"}, "discrepancy: 'no' is none of position, graded"),
    "config file missing": ({"config_files": "no.yaml"}, "config_files: there is no file 'no.yaml'"),
    "processes no number": ({"nproc": "two"}, "nproc: 'two' is no whole number of at least 1"),
    "processes for a model that is not distilled": ({"nproc": "2", "model": "BPR"}, "BPR is none; use --nproc=1"),
    "processes and a base loss": (
        {"nproc": "2", "base_loss_weight": "0.5"},
        "base_loss_weight: 0.5 trains on batches of interactions, which several processes cannot share; use --nproc=1",
    ),
    "processes and interactions": (
        {"nproc": "2", "user_batches": "False"},
        "user_batches: False trains on batches of inter",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_bad_input_is_one_sentence(capsys, flags, case):
    changes, sentence = WRONG[case]
    assert sentence in refused(capsys, replaced(flags, **changes))


@pytest.mark.parametrize("case", [case for case in WRONG if "nproc" in WRONG[case][0]])
def test_several_processes_are_refused_before_any_is_started(flags, monkeypatch, case):
    from recbole_hetcomp.trainer import processes

    monkeypatch.setattr(processes.mp, "start_processes", lambda *_, **__: pytest.fail("started"))
    assert main(replaced(flags, **WRONG[case][0])) == 2


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("a: [1\nb: }", "is not valid yaml"),
        ("", "holds no `key: value` lines"),
        ("- 1\n- 2\n", "holds no `key: value` lines"),
    ],
)
def test_an_unreadable_config_file_is_named(capsys, flags, tmp_path, content, sentence):
    (tmp_path / "my.yaml").write_text(content)
    line = refused(capsys, replaced(flags, config_files="my.yaml"))
    assert "'my.yaml'" in line
    assert sentence in line


def test_a_config_file_that_is_no_text_is_named(capsys, flags, tmp_path):
    (tmp_path / "my.yaml").write_bytes(b"\xff\xfe\x00binary")
    assert "my.yaml" in refused(capsys, replaced(flags, config_files="my.yaml"))


@pytest.mark.parametrize("content", ["", "user_id:token\titem_id:token\n"])
def test_an_empty_dataset_is_named(capsys, flags, toy, content):
    (Path(toy) / "toy" / "toy.inter").write_text(content)
    assert "holds no interaction" in refused(capsys, flags)


def test_a_column_without_a_type_is_named(capsys, flags, toy):
    path = Path(toy) / "toy" / "toy.inter"
    rows = path.read_text().split("\n", 1)[1]
    path.write_text("user_id\titem_id:token\trating:float\ttimestamp:float\n" + rows)
    assert "column 'user_id'" in (line := refused(capsys, flags))
    assert "user_id:token" in line


def test_a_filter_that_leaves_nothing_is_named(capsys, flags):
    line = refused(capsys, replaced(flags, user_inter_num_interval="[1000,inf)"))
    assert "dataset 'toy'" in line


@pytest.mark.parametrize("code", [errno.EACCES, errno.EROFS, errno.ENOSPC])
def test_a_checkpoint_dir_that_cannot_be_written_is_named(capsys, flags, monkeypatch, code):
    from recbole_hetcomp.teacher_training import cache

    def denied(*_: Any, **__: Any) -> str:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(cache, "working_folder", denied)
    line = refused(capsys, flags)
    assert "checkpoint_dir" in line
    assert os.strerror(code) in line


def test_a_checkpoint_dir_that_is_a_file_is_named(capsys, flags, tmp_path):
    (tmp_path / "file").write_text("")
    line = refused(capsys, replaced(flags, checkpoint_dir=tmp_path / "file"))
    assert "checkpoint_dir" in line


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_a_disk_that_is_full_when_the_student_is_saved_is_one_sentence(capsys, flags, monkeypatch, code):
    from recbole_hetcomp.files import atomic

    def full(*_: Any) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(atomic.os, "fsync", full)
    assert os.strerror(code) in refused(capsys, replaced(flags, teachers="['BPR']"))


@pytest.mark.parametrize("damage", ["cut", "noise"])
def test_a_damaged_trajectory_among_the_kept_ones_is_named(capsys, flags, settings, damage):
    flags = replaced(flags, teachers="['BPR']")
    assert main(flags) == 0
    (path,) = (Path(settings["checkpoint_dir"]) / "trained").glob("BPR-*/trajectory.safetensors")
    content = path.read_bytes()
    path.write_bytes(content[:100] if damage == "cut" else b"\xff" * len(content))
    line = refused(capsys, flags)
    assert "BPR is damaged (trajectory 'trajectory.safetensors' cannot be read (" in line
    assert f"delete the folder '{path.parent}'" in line
    shutil.rmtree(path.parent)  # the remedy
    assert main(flags) == 0
    assert path.stat().st_size == len(content)


def test_a_misspelt_setting_in_a_file_is_a_warning_with_the_nearest_name(flags, caplog, tmp_path):
    (tmp_path / "own.yaml").write_text("curriculum_perod: 20\n")
    with caplog.at_level(logging.WARNING):
        assert main([f"--config_files={tmp_path / 'own.yaml'}", *replaced(flags, teachers="['BPR']")]) == 0
    lines = [record.getMessage() for record in caplog.records if "unknown setting" in record.getMessage()]
    assert len(lines) == 1
    assert "'curriculum_perod' from a configuration file is not used; did you mean 'curriculum_period'" in lines[0]


def test_a_setting_of_other_models_is_a_warning(flags, caplog):
    with caplog.at_level(logging.WARNING):
        assert main(["--latent_dimension=2", *replaced(flags, teachers="['BPR']")]) == 0
    assert "unknown setting 'latent_dimension' from the command line is not used" in caplog.text


def test_known_settings_give_no_warning(flags, caplog):
    with caplog.at_level(logging.WARNING):
        assert main(replaced(flags, teachers="['BPR']")) == 0
    assert [record.getMessage() for record in caplog.records if "unknown setting" in record.getMessage()] == []


def test_cut_offs_beyond_the_catalogue_are_one_warning(flags, caplog):
    with caplog.at_level(logging.WARNING):
        assert main(replaced(flags, teachers="['BPR']", topk="[5,500]", valid_metric="Recall@500")) == 0
    lines = [record.getMessage() for record in caplog.records if "beyond" in record.getMessage()]
    assert lines == ["topk: [5, 500] reaches beyond the 81 items; cut-offs end at 81"]


def test_interrupt_is_130_and_says_that_work_is_kept(capsys, flags, monkeypatch):
    from recbole_hetcomp.trainer.distillation import DistillationTrainer

    def interrupted(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(DistillationTrainer, "_train_epoch", interrupted)
    assert main(replaced(flags, teachers="['BPR']")) == 130
    assert "interrupted" in capsys.readouterr().err


def test_an_error_of_ours_keeps_its_traceback(flags, monkeypatch):
    """A bug has to be seen as one."""

    def broken(_: Any) -> None:
        raise ZeroDivisionError

    monkeypatch.setitem(cli.COMMANDS, "run", broken)
    with pytest.raises(ZeroDivisionError):
        main(flags)


def test_settings_of_the_student_alone_are_checked_though_it_is_not_trained(capsys, flags):
    sentence = refused(capsys, [*flags, "--without_distillation_config={'epoch':1}"])  # `flags` leave that student out
    assert "epoch" in sentence


def test_the_version_is_the_packages(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"recbole_hetcomp {importlib.metadata.version('recbole_hetcomp')}\n"


@pytest.mark.parametrize("flag", ["-h", "--help"])
def test_help_shows_every_command(capsys, flag):
    assert main([flag]) == 0
    out = capsys.readouterr().out
    assert out.startswith("usage: hetcomp")
    for name in set(cli.COMMANDS) - {"run"}:
        assert f"hetcomp {name}" in out


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["fly"], "there is no command 'fly'; choose one of run, recommend, predict"),
        (["benchmrk"], "settings; did you mean 'benchmark'?"),
        (["recommend"], "give --checkpoint=FILE --users=TOKEN,TOKEN"),
        (["recommend", "--checkpoint=no.pth", "--users=u1"], "there is no file 'no.pth'"),
        (["recommend", "--checkpoint=no.pth", "--users=u1", "--k=0"], "k: '0' is no whole number of at least 1"),
        (["benchmark"], "give --models="),
        (["benchmark", "--models=BPR", "--seeds=x"], "seeds: 'x' is no whole number"),
        *(
            (["recommend", "--checkpoint=no.pth", "--users=u1", f"--{flag}=toy"], f"{flag}: the checkpoint decides it")
            for flag in ("model", "dataset", "config_files")
        ),
        (["tune"], "give --params_file=FILE"),
        (["tune", "--params_file=no.txt"], "there is no file 'no.txt'"),
    ],
)
def test_a_command_says_what_it_lacks(capsys, arguments, sentence):
    assert sentence in refused(capsys, arguments)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--modle=HetCompStudent"], "--modle: there is no such flag or setting; did you mean --model?"),
        (["--modle", "HetCompStudent"], "did you mean --model?"),
        (["--model=MF", "--datset=toy"], "--datset: there is no such flag or setting; did you mean --dataset?"),
        (["--model=MF", "--config_file=a.yaml"], "did you mean --config_files?"),
        (["--model=HetCompStudent", "--nprocs=2"], "did you mean --nproc?"),
        (["--model=MF", "--seeds=3"], "seeds: nothing reads a setting of this name; did you mean 'seed'"),
        (["benchmark", "--modles=BPR"], "did you mean --models?"),
        (["benchmark", "--models=BPR", "--epoch=3"], "did you mean 'epochs'"),
        (["recommend", "--chekpoint=a.pth", "--users=u1"], "did you mean --checkpoint?"),
        (["recommend", "--checkpoint=a.pth", "--usrs=u1"], "did you mean --users?"),
        (["tune", "--param_file=a.txt"], "did you mean --params_file?"),
    ],
)
def test_a_misspelt_flag_is_refused_with_the_nearest_one(capsys, monkeypatch, arguments, sentence):
    from recbole_hetcomp.commands import benchmark, pipeline

    for module in (benchmark, pipeline):
        monkeypatch.setattr(module, "make_split", lambda *_: pytest.fail("work has begun"))
    assert sentence in refused(capsys, arguments)


@pytest.mark.parametrize("text", ["\u00b2", "\u0663", "9" * 10, "9" * 5000, "", "-1", "+1", "1.0", "1_0"])
@pytest.mark.parametrize(
    "arguments",
    [
        ["recommend", "--checkpoint=no.pth", "--users=u1", "--k"],
        ["vectors", "--checkpoint=no.pth", "--output=a.safetensors", "--rank"],
        ["benchmark", "--models=BPR", "--seeds"],
        ["run", "--nproc"],
        ["tune", f"--params_file={__file__}", "--output_file=a.txt", "--max_evals"],
    ],
    ids=lambda arguments: arguments[0],
)
def test_what_is_no_whole_number_in_plain_digits_is_one_sentence(capsys, arguments, text):
    assert "is no whole number of at least 1" in refused(capsys, [*arguments[:-1], f"{arguments[-1]}={text}"])


@pytest.mark.parametrize("setting", ["mode=1", "seed=3", "topk=[5]", "n_layers=2", "state=INFO"])
def test_a_setting_near_a_flag_is_no_misspelt_one(setting):
    assert parsed([f"--{setting}"], "", models=None, seeds="3", k="10")[1] == [f"--{setting}"]


def test_other_packages_are_looked_at_only_where_a_setting_is_near_a_flag(monkeypatch):
    monkeypatch.setattr("recbole_hetcomp.config.registry.settings_of_any_model", lambda: pytest.fail("they are looked at"))
    assert parsed(["--model=BPR", "--epochs=1", "--learning_rate=0.1"], "")[1] == ["--epochs=1", "--learning_rate=0.1"]


@pytest.mark.parametrize("argument", ["-model=MF", "-model", "-learning-rate=1", "-nproc=2"])
def test_a_name_with_one_dash_is_refused(capsys, flags, argument):
    assert f"write -{argument}" in refused(capsys, [*flags, argument])


def test_a_short_flag_with_its_value_attached_is_told_how_to_write_it(capsys):
    assert "-mBPR: write -m BPR for the flag, or --mBPR=VALUE for a setting" in refused(capsys, ["-mBPR"])
    assert "write -d ml-100k for the flag" in refused(capsys, ["-m", "BPR", "-dml-100k"])


@pytest.mark.parametrize("argument", ["epochs=3", "--epochs", "epochs"])
def test_a_malformed_argument_is_named(capsys, flags, argument):
    line = refused(capsys, [*flags, argument])
    assert argument.split("=")[0] in line


def test_recommend_prints_tokens_and_titles(capsys, flags, settings):
    assert main(replaced(flags, teachers="['BPR']")) == 0
    (checkpoint,) = Path(settings["checkpoint_dir"]).glob("*.pth")
    capsys.readouterr()
    assert main(["recommend", f"--checkpoint={checkpoint}", "--users=u1, u2", "--k=3"]) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("user ") or "Film" in line]
    assert [line for line in lines if line.startswith("user ")] == ["user u1", "user u2"]
    assert "no user 'u_1'; did you mean 'u1'" in refused(capsys, ["recommend", f"--checkpoint={checkpoint}", "--users=u_1"])


def test_a_reader_that_has_enough_is_no_error() -> None:
    """As `hetcomp models | head -1`."""
    command = [sys.executable, "-c", "import sys; from recbole_hetcomp.cli import main; sys.exit(main(['models']))"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as running:
        running.stdout.close()
        error = running.stderr.read()
    assert "Traceback" not in error
    assert "Broken pipe" not in error
    assert running.returncode == 141
