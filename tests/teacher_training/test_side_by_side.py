"""What the worker processes say, and that one that fails does not stop the others."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from functools import partial
from io import StringIO
from logging import getLogger
from pathlib import Path

import numpy as np
import psutil
import pytest
from rich.console import Console

import recbole_hetcomp
from recbole_hetcomp.config.errors import LONGEST, UserError
from recbole_hetcomp.console import follow
from recbole_hetcomp.console.events import display
from recbole_hetcomp.console.screen import Bars
from recbole_hetcomp.teacher_training.side_by_side import _in_worker, side_by_side


def say_and_fail() -> None:
    getLogger().warning("epoch %d", 3)
    getLogger("another").warning("slow")
    raise UserError("its loss is NaN")


def test_the_messages_of_a_job_begin_with_its_name_and_those_after_it_do_not(make_config, tmp_path, caplog) -> None:
    config = make_config("HetCompStudent")
    with follow(tmp_path / "told.jsonl"):
        error = _in_worker(config, tmp_path / "told.jsonl", "50%s", say_and_fail)
    getLogger().warning("afterwards")
    assert caplog.messages[-3:] == ["[50%s] epoch 3", "[50%s] slow", "afterwards"]
    assert str(error) == "its loss is NaN"


def test_what_fails_is_told_by_name_in_the_order_of_the_jobs(make_config) -> None:
    jobs = {"first": say_and_fail, "second": print, "third": say_and_fail}
    failures = side_by_side(make_config("HetCompStudent"), jobs, workers=2)
    assert {name: str(error) for name, error in failures.items()} == dict.fromkeys(["first", "third"], "its loss is NaN")
    assert list(failures) == ["first", "third"]


def break_off() -> None:
    raise OSError(errno.ENOSPC, "full")


def test_a_job_that_breaks_off_leaves_no_worker(make_config) -> None:
    with pytest.raises(OSError, match="full"):
        side_by_side(make_config("HetCompStudent"), {"first": break_off, "second": print}, workers=2)
    commands = [" ".join(child.cmdline()) for child in psutil.Process().children(recursive=True)]
    assert not [command for command in commands if "popen_loky" in command]


def np_float_is_there() -> None:
    """What RecBole's metrics use, and numpy has no longer."""
    assert np.dtype(vars(np)["float"]) == np.float64


def test_a_job_that_builds_no_config_has_what_recbole_gives_numpy_with_one(make_config) -> None:
    assert side_by_side(make_config("HetCompStudent"), {"first": np_float_is_there, "second": print}, workers=2) == {}


def begin_and_die() -> None:
    display.screen.begin("teacher BPR", 3)
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_killed_worker_is_one_sentence_and_leaves_no_bar(make_config, monkeypatch) -> None:
    text = StringIO()
    bars = Bars(Console(file=text, force_terminal=True, _environ={"TERM": "xterm"}), progress=True)
    monkeypatch.setattr(display, "screen", bars)
    config = make_config("HetCompStudent")
    with pytest.raises(UserError, match=r"teacher_workers: one of 2 workers was killed, .*--teacher_workers=1") as caught:
        side_by_side(config, {"done": print, "teacher A": begin_and_die, "waits": partial(time.sleep, 30)}, workers=2)
    assert "; teacher A" in str(caught.value)
    assert "done" not in str(caught.value)
    assert f"what is finished is kept in {config['checkpoint_dir']!r}" in str(caught.value)
    assert len(str(caught.value)) <= LONGEST
    assert bars.bars is None
    assert text.getvalue().rindex("\x1b[?25l") < text.getvalue().rindex("\x1b[?25h")  # the cursor is shown again


PARENT = """
import sys
import time
from functools import partial
from recbole_hetcomp.config import Config
from recbole_hetcomp.teacher_training.side_by_side import side_by_side

if __name__ == "__main__":
    given = {"data_path": ".", "checkpoint_dir": "saved", "use_gpu": False}
    config = Config("HetCompStudent", "toy", config_dict=given, arguments=())
    side_by_side(config, {"short": partial(time.sleep, 0), "long": partial(time.sleep, 600)}, 2)
"""


@pytest.mark.skipif(os.name != "posix", reason="kills as POSIX has them")
def test_the_workers_of_a_killed_run_end_without_a_word(tmp_path) -> None:
    """One of them trains, the other one waits for more to do."""
    (tmp_path / "parent.py").write_text(PARENT, encoding="utf-8")
    environment = {**os.environ, "PYTHONPATH": str(Path(recbole_hetcomp.__file__).parents[1]), "OMP_NUM_THREADS": "1"}
    with (tmp_path / "output.txt").open("w") as output:
        command = [sys.executable, str(tmp_path / "parent.py")]
        run = subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=output, stderr=output)
        while run.poll() is None and not any(tmp_path.glob("saved/trained/.workers.*/long.running")):
            time.sleep(0.05)
        children = psutil.Process(run.pid).children(recursive=True)
        run.kill()
        run.wait()
    assert len(children) >= 2
    try:
        assert psutil.wait_procs(children, timeout=30)[1] == []
    finally:
        for child in children:
            with suppress(psutil.NoSuchProcess):
                child.kill()
    assert (tmp_path / "output.txt").read_text(encoding="utf-8") == ""
