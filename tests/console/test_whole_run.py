"""What a person sees of a whole run, and what the log file holds."""

from __future__ import annotations

import contextlib
import logging
import re
import shlex
import warnings
from pathlib import Path
from typing import Any

import pytest

from recbole_hetcomp.cli import main
from recbole_hetcomp.config.errors import UserError
from recbole_hetcomp.console import log_file, logged, say
from recbole_hetcomp.console.events import display
from recbole_hetcomp.quick_start import run_hetcomp

FIVE_COLUMNS = r"\| student +\| HetCompStudent \(MF\) \|.*\|"


@pytest.fixture
def flags(settings) -> list[str]:
    shown = {**settings, "state": "INFO", "show_progress": True, "epochs": 4, "curriculum_period": 1}
    return ["--model=HetCompStudent", "--dataset=toy", *(f"--{key}={value}" for key, value in shown.items())]


def bare_root() -> logging.Logger:
    """The root logger without pytest's handlers, which keep RecBole from opening its log file."""
    root = logging.getLogger()
    root.handlers[:] = [handler for handler in root.handlers if not type(handler).__module__.startswith("_pytest")]
    return root


def seen(capsys, flags: list[str]) -> tuple[str, str]:
    """Standard output and error of a command."""
    bare_root()
    assert main(flags) == 0
    return capsys.readouterr()


def log_texts() -> list[str]:
    """The log files' texts in the order of their writing: their names tell two runs of one second apart by a hash."""
    paths = sorted(Path("log").glob("*/*.log"), key=lambda path: path.stat().st_mtime_ns)
    return [path.read_text(encoding="utf-8") for path in paths]


def test_through_a_pipe_it_is_some_lines_and_the_table(capsys, flags):
    out, err = seen(capsys, flags)
    for line in (
        r"^toy: 61 users, 81 items, 711 interactions \(475 training, 118 validation, 118 test\)$",
        r"^teacher BPR: training, at most 2 epochs$",
        r"^teacher BPR: trained 2 epochs in \d+ s, best validation Recall@10 0\.\d{4} \(epoch [12]\); cached in .*BPR-",
        r"^teacher LightGCN: trained 2 epochs",
        r"^teachers count: BPR \d\.\d\d, LightGCN 1\.00: ",
        r"^HetCompStudent \(MF\): training, at most 4 epochs$",
        r"^HetCompStudent \(MF\): trained 4 epochs in \d+ s, best validation Recall@10 0\.\d{4}$",
        r"^MF without distillation: trained 2 epochs",
    ):
        assert len(re.findall(line, err, re.MULTILINE)) == 1, line
    assert re.search(FIVE_COLUMNS, out)
    assert re.search(r"^checkpoint: .*HetCompStudent-.*\.pth$", out, re.MULTILINE)
    assert re.search(r"^comparison: .*comparison\.md$", out, re.MULTILINE)
    assert re.search(r"^log file: +log/HetCompStudent/.*\.log$", out, re.MULTILINE)
    assert re.search(r"^next: .*hetcomp recommend --checkpoint=.*\.pth --users=u0,u1 --k=10$", out, re.MULTILINE)
    assert len((out + err).splitlines()) <= 40
    for noise in ("learning_rate", "Warning", "train loss", "it/s", "\x1b[", "FLOPs"):
        assert noise not in out + err, noise


def test_what_a_run_starts_from_repeats_no_warning_on_the_screen(capsys, flags):
    rows = [f"u{user}\ti{item}\t{rank}\n" for user in range(20) for rank, item in enumerate(range(40, 60))]
    Path("mine.tsv").write_text("user\titem\trank\n" + "".join(rows) + "nobody\ti1\t0\n", encoding="utf-8")
    flags = [flag for flag in flags if not flag.startswith(("--teachers=", "--teacher_config="))]
    own = ["--teachers=['mine.tsv']", "--without_distillation=False", "--start_from=RRDStudent"]
    own += ["--start_config={'epochs': 1, 'eval_step': 1}"]
    out, err = seen(capsys, [*flags, *own])
    warning = "have unknown ids (user 'nobody'); they are left out"
    assert (out + err).count(warning) == 1
    assert sum(text.count(warning) for text in log_texts()) == 2


def test_the_next_command_recommends(capsys, flags):
    out, _ = seen(capsys, flags)
    (arguments,) = re.findall(r"^next: .*hetcomp (recommend .*)$", out, re.MULTILINE)
    assert "user u0" in seen(capsys, arguments.split())[0]


def test_the_next_command_recommends_to_users_whose_names_have_commas_and_quotation_marks(capsys, flags, tmp_path):
    (path,) = tmp_path.rglob("toy.inter")
    text = re.sub(r"^u0\t", "Doe, Jane\t", path.read_text(encoding="utf-8"), flags=re.MULTILINE)
    path.write_text(re.sub(r"^u1\t", 'the "best" one\t', text, flags=re.MULTILINE), encoding="utf-8")
    (path.parent / "toy.user").unlink()
    out, _ = seen(capsys, flags)
    (arguments,) = re.findall(r"^next: .*hetcomp (recommend .*)$", out, re.MULTILINE)
    assert 'user "Doe, Jane"' in seen(capsys, shlex.split(arguments))[0]


def test_the_log_file_holds_what_recbole_writes_and_what_was_seen(capsys, flags):
    seen(capsys, flags)
    (text,) = log_texts()
    assert "learning_rate" in text  # the dump of the settings
    assert text.count("training [time: ") == 2 + 2 + 4 + 2
    assert text.count("evaluating [time: ") == 2 + 2 + 4 + 1
    assert "teacher BPR: training, at most 2 epochs" in text
    assert re.search(FIVE_COLUMNS, text)
    assert re.search(r"^\w{3} \d\d \w{3} \d{4} \d\d:\d\d:\d\d INFO  ", text, re.MULTILINE)


def test_verbose_brings_everything_to_the_console(capsys, flags):
    out, err = seen(capsys, [*flags, "--verbose=True"])
    assert "learning_rate" in err
    assert "train loss" in err
    assert "Train" in err  # RecBole's bars
    assert err.count("teacher BPR\x1b") == 0
    assert err.count("teacher BPR: training, at most 2 epochs") == 1
    assert not re.search(FIVE_COLUMNS, out)  # it is in the log's words


def test_a_second_run_repeats_nothing_and_has_a_log_file_of_its_own(capsys, flags):
    seen(capsys, flags)
    _, err = seen(capsys, [*flags, "--seed=12", "--split_seed=11"])
    assert err.count("teacher BPR: found in ") == 1
    assert err.count("HetCompStudent (MF): training") == 1
    first, second = log_texts()
    assert "found in" in second
    assert "found in" not in first


def test_a_state_of_warning_shows_warnings_alone(capsys, flags):
    out, err = seen(capsys, [*flags, "--state=WARNING", "--topk=[5,500]", "--valid_metric=Recall@500"])
    assert out == ""
    assert "reaches beyond the 81 items" in err
    assert all("WARNING" in line for line in err.splitlines())


def test_warnings_of_ours_are_seen_and_those_of_others_are_logged(capsys, flags, monkeypatch):
    from recbole_hetcomp.trainer.distillation import DistillationTrainer

    evaluate = DistillationTrainer.evaluate

    def deprecated(*arguments: Any, **settings: Any) -> Any:
        warnings.warn("soon gone", FutureWarning, stacklevel=1)
        return evaluate(*arguments, **settings)

    monkeypatch.setattr(DistillationTrainer, "evaluate", deprecated)
    show = warnings.showwarning
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        out, err = seen(capsys, [*flags, "--topk=[5,500]", "--valid_metric=Recall@500"])
    assert "warning: topk: [5, 500] reaches beyond the 81 items" in err
    assert "soon gone" not in out + err
    assert "soon gone" in log_texts()[0]
    assert warnings.showwarning is show


def test_a_failing_run_is_one_sentence(capsys, flags):
    assert main([*flags, "--teachers=['BRP']"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    (line,) = err.splitlines()
    assert line.startswith("hetcomp: teachers: there is no model named 'BRP'")


@pytest.mark.parametrize("wrong", [{}, {"data_path": "nowhere"}])
def test_after_a_run_and_after_a_failed_one_nothing_of_it_is_left(capsys, settings, wrong):
    root, screen = bare_root(), display.screen
    level = root.level
    with pytest.raises(UserError) if wrong else contextlib.nullcontext():
        run_hetcomp("BPR", "toy", config_dict={**settings, "state": "INFO", "verbose": False, **wrong}, arguments=())
    assert len(log_texts()) == 1
    assert (root.handlers, root.level, display.screen) == ([], level, screen)
    capsys.readouterr()
    say("afterwards")
    assert capsys.readouterr() == ("", "")
    logging.basicConfig()
    assert len(root.handlers) == 1


def test_a_run_inside_another_has_a_file_of_its_own_and_the_outer_one_goes_on(capsys, make_config):
    root = bare_root()
    with logged(make_config("BPR", state="INFO")):
        outer, handlers, screen = log_file(), set(root.handlers), display.screen
        with logged(make_config("MF", state="INFO")):
            say("inner")
        say("outer")
        assert (log_file(), set(root.handlers), display.screen) == (outer, handlers, screen)
    assert capsys.readouterr().err == "inner\nouter\n"
    assert sorted(text.partition("INFO  ")[2] for text in log_texts()) == ["inner\n", "outer\n"]
    assert log_file() is None


def test_recbole_finds_its_log_folder_made(make_config, monkeypatch):
    """It looks whether the folder is there and then makes it: of two runs at once, one would find it made in between."""
    there = []
    monkeypatch.setattr("recbole.utils.logger.ensure_dir", lambda path: there.append(Path(path).is_dir()))
    for _ in range(2):
        with logged(make_config("BPR")):
            pass
    assert there == [True, True] * 2


def test_a_benchmark_says_when_a_model_begins_and_ends(capsys, flags):
    out, err = seen(capsys, ["benchmark", "--models=BPR,EASE", "--seeds=2", *flags[1:]])
    assert len(re.findall(r"^(?:BPR|EASE), seed 1[12]: training", err, re.MULTILINE)) == 4
    assert len(re.findall(r"^(?:BPR|EASE), seed 1[12]: trained", err, re.MULTILINE)) == 4
    assert len([line for line in err.splitlines() if not line.startswith("warning: unknown setting")]) == 9
    assert re.search(r"^\| BPR +\|", out, re.MULTILINE)
    assert "benchmark.md" in out


def test_a_trial_is_one_line(capsys, settings):
    from recbole_hetcomp.commands.tuning import objective_function

    shown = {**settings, "state": "INFO"}
    objective_function(
        {"learning_rate": 0.01}, None, model="BPR", dataset="toy", arguments=[f"--{k}={v}" for k, v in shown.items()]
    )
    out, err = capsys.readouterr()
    assert out == ""
    assert re.fullmatch(r"learning_rate 0\.01: valid score 0\.\d{4}, 2 epochs\n", err)
