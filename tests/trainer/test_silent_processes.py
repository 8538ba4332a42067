"""A process that hangs or is stopped ends all after `process_timeout` minutes, in one sentence that names it."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

import recbole_hetcomp
from recbole_hetcomp.config.errors import LONGEST, UserError
from recbole_hetcomp.trainer.processes import Processes, Report, _free_port, _what_failed, launch

MINUTES = 0.05
MEMBER = '''
import os
import signal
import time

import torch

from recbole_hetcomp.trainer import parallel


def hang():
    """The second process never comes to the sum that the first one waits for."""
    if parallel.rank() == 1:
        time.sleep(1000)
    parallel.total(torch.zeros(1))


def hang_before_its_turn():
    """The second process never comes to hear that the first one has done its work."""
    if parallel.rank() == 1:
        time.sleep(1000)
    parallel.in_turn(lambda: None)


def stop_while_the_other_waits():
    """The first process is stopped where the other one waits as long as it trains teachers."""
    parallel.in_turn(lambda: os.kill(os.getpid(), signal.SIGSTOP) if parallel.rank() == 0 else None)


def end_while_the_other_waits():
    """The first process is killed where the other one waits as long as it trains teachers."""
    parallel.in_turn(lambda: os.kill(os.getpid(), signal.SIGKILL) if parallel.rank() == 0 else None)


def work_long():
    """Longer than the limit, in which nobody may be given up."""
    parallel.in_turn(lambda: time.sleep(6) if parallel.rank() == 0 else None)


def evaluate_long():
    """As the first process does, whose metrics the others wait for."""
    if parallel.rank() == 0:
        time.sleep(6)
    parallel.from_first(1.0)
'''


@pytest.fixture
def member(tmp_path, monkeypatch):
    """A module that other processes can import."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    (tmp_path / "silent_member.py").write_text(MEMBER)
    monkeypatch.syspath_prepend(tmp_path)
    import silent_member

    return silent_member


def two() -> Processes:
    return Processes.from_flags("2", "-1", "0", "localhost", None)


@pytest.mark.parametrize(
    ("work", "silent"),
    [("hang", 1), pytest.param("hang_before_its_turn", 1, marks=pytest.mark.slow), ("stop_while_the_other_waits", 0)],
)
def test_a_process_without_a_sign_of_life_is_named_and_all_are_ended(member, work, silent) -> None:
    with pytest.raises(UserError, match=rf"^nproc: process {silent} of 2 gave no sign of life for 0\.05 minutes") as caught:
        launch(getattr(member, work), two(), MINUTES)
    assert "the same command goes on from there; --process_timeout gives more minutes" in str(caught.value)
    assert len(str(caught.value)) <= LONGEST
    assert not [child for child in psutil.Process().children() if "--multiprocessing-fork" in child.cmdline()]


FIRST = (
    "import sys, silent_member as m; m.parallel.join(0, 2, 0, 'localhost', int(sys.argv[1])); m.end_while_the_other_waits()"
)


def test_a_first_process_on_another_machine_that_ends_while_it_trains_teachers_is_noticed(member, tmp_path) -> None:
    """The wait for its teachers has no limit, so nothing but its end can end the wait."""
    port = _free_port()
    path = os.pathsep.join([str(tmp_path), str(Path(recbole_hetcomp.__file__).parents[1])])
    first = subprocess.Popen([sys.executable, "-c", FIRST, str(port)], env={**os.environ, "PYTHONPATH": path})
    with pytest.raises(UserError, match=r"^nproc: process 1 of 2 has lost the others"):
        launch(member.end_while_the_other_waits, Processes.from_flags("1", "2", "1", "localhost", str(port)), 60)
    assert first.wait() == -signal.SIGKILL


@pytest.mark.slow
@pytest.mark.parametrize("work", ["work_long", "evaluate_long"])
def test_the_first_process_may_work_longer_than_the_limit_while_others_wait_for_it(member, work) -> None:
    launch(getattr(member, work), two(), MINUTES)


class Killed:
    """What torch raises, as far as it is asked."""

    def __init__(self, exit_code: int) -> None:
        self.exit_code = exit_code

    def __str__(self) -> str:
        return "process 1 terminated with signal SIGKILL" if self.exit_code < 0 else "process 0 terminated with exit code 2"


FAILED, DESERTED, SILENCE = Report(1, "failed", "why"), Report(0, "deserted", "lost"), Report(0, "silence", "timed out")


@pytest.mark.parametrize(
    ("exit_code", "reports", "nproc", "sentence"),
    [
        (2, [DESERTED, FAILED], 2, "^why$"),
        (2, [SILENCE, FAILED], 2, "^why$"),
        (-9, [DESERTED], 2, "^nproc: process 1 terminated with signal SIGKILL; what was kept so far stays"),
        (-9, [], 2, "^nproc: process 1 terminated with signal SIGKILL"),
        (2, [SILENCE], 2, "^nproc: process 1 of 2 gave no sign"),
        (2, [SILENCE], 4, "^nproc: process 1 and 2 and 3 of 4 gave no sign"),
        (2, [DESERTED], 2, "^lost$"),
    ],
)
def test_of_what_the_processes_say_the_reason_is_told(exit_code, reports, nproc, sentence) -> None:
    processes = Processes(nproc, nproc, 0, "localhost", 1)
    assert re.search(sentence, _what_failed(Killed(exit_code), reports, processes, 10))


def test_silence_on_another_machine_is_said_to_be_there() -> None:
    processes = Processes(1, 2, 0, "localhost", 1)
    assert "a process of another machine gave no sign" in _what_failed(Killed(2), [SILENCE], processes, 10)
