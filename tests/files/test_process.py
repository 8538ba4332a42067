"""Whether a process that a file names is gone, also where a later one has its number."""

from __future__ import annotations

import dataclasses
import subprocess
import sys

import psutil
import pytest

from recbole_hetcomp.files.process import TOLERANCE, Process


def test_this_process_is_not_gone() -> None:
    assert Process.current().is_here
    assert not Process.current().is_gone


@pytest.mark.parametrize("seconds", [-3600, -TOLERANCE - 1, TOLERANCE + 1, 3600])
def test_a_number_that_a_later_process_has_is_of_one_that_is_gone(seconds) -> None:
    own = Process.current()
    assert dataclasses.replace(own, started=own.started + seconds).is_gone


@pytest.mark.parametrize("seconds", [-1, 1])
def test_a_start_that_is_rounded_otherwise_is_the_same(seconds) -> None:
    own = Process.current()
    assert not dataclasses.replace(own, started=own.started + seconds).is_gone


def test_a_clock_that_is_set_changes_nothing(monkeypatch) -> None:
    """Both times of psutil move with the clock."""
    own, create, boot = Process.current(), psutil.Process.create_time, psutil.boot_time
    monkeypatch.setattr(psutil.Process, "create_time", lambda process: create(process) + 86400)
    monkeypatch.setattr(psutil, "boot_time", lambda: boot() + 86400)
    assert not own.is_gone
    assert Process.current() == own


def test_of_another_machine_nothing_is_known() -> None:
    assert not Process("elsewhere", 2**22 + 1, 0).is_gone
    assert not Process("elsewhere", 2**22 + 1, 0).is_here


def test_a_process_that_has_ended_is_gone_even_before_its_parent_asks() -> None:
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    started = round(psutil.Process(child.pid).create_time() - psutil.boot_time())
    process = dataclasses.replace(Process.current(), pid=child.pid, started=started)
    assert not process.is_gone
    child.kill()
    while psutil.Process(child.pid).status() != psutil.STATUS_ZOMBIE:
        pass
    assert process.is_gone
    child.communicate()
    assert process.is_gone
