"""One process at a time, the next one knows for whom it waits, and nobody waits for the dead."""

from __future__ import annotations

import dataclasses
import errno
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager
from datetime import datetime
from pathlib import Path
from threading import Event, Thread
from time import sleep, time

import filelock
import pytest
from filelock import FileLock

from recbole_hetcomp.config.errors import UserError
from recbole_hetcomp.console.events import display
from recbole_hetcomp.console.screen import Screen
from recbole_hetcomp.files import locks
from recbole_hetcomp.files.locks import Holder, held, unless_held
from recbole_hetcomp.files.process import Process

WHILE = 0.5  # seconds in which somebody who does not wait would be through


class _Heard(Screen):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, subject: str, text: str) -> None:
        self.lines.append(text)


@pytest.fixture
def heard(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    screen = _Heard()
    monkeypatch.setattr(display, "screen", screen)
    monkeypatch.setattr(locks, "SECONDS", 0.02)
    return screen.lines


def locks_in(root: Path) -> Path:
    (root / "locks").mkdir(exist_ok=True)
    return root / "locks"


class Another:
    """Somebody who wants the lock of `path`, in a thread of its own."""

    def __init__(self, path: Path, **options: bool) -> None:
        self.path, self.options = path, options
        self.inside, self.over = Event(), Event()
        self.thread = Thread(target=self._hold)
        self.thread.start()

    def _hold(self) -> None:
        with held(self.path, self.path.parent, "trained", **self.options):
            self.inside.set()
            self.over.wait()

    def end(self) -> None:
        self.over.set()
        self.thread.join()


@pytest.fixture
def elsewhere(tmp_path: Path) -> Iterator[Path]:
    """A path whose lock a process of another machine holds."""
    path = tmp_path / "MF"
    lock = FileLock(str(locks_in(tmp_path) / "MF.lock"))
    lock.acquire()
    holder = Holder(Process("elsewhere", 77, 5), "trained", time())
    (locks_in(tmp_path) / "MF.owner").write_text(json.dumps(dataclasses.asdict(holder)))
    yield path
    lock.release()


def test_the_second_waits_and_says_for_whom(tmp_path, heard) -> None:
    path, own = tmp_path / "MF", Process.current()
    before = datetime.now()
    first = Another(path)
    assert first.inside.wait(10)
    second = Another(path)
    assert not second.inside.wait(WHILE)
    first.end()
    assert second.inside.wait(10)
    times = {f"{when:%H:%M}" for when in (before, datetime.now())}
    assert heard[0] in {
        f"waiting for process {own.pid} on {own.host}, which has trained since {at} in {path}" for at in times
    }
    assert len(heard) == 1
    second.end()
    assert [file.name for file in tmp_path.rglob("*")] == ["locks", "MF.lock"]


def test_of_many_one_is_inside_at_a_time(tmp_path, heard) -> None:
    inside, most, done = [], [], []

    def work(number: int) -> None:
        for _ in range(5):
            with held(tmp_path / "MF", tmp_path, "trained"):
                inside.append(number)
                most.append(len(inside))
                inside.remove(number)
        done.append(number)

    threads = [Thread(target=work, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(done) == 6
    assert max(most) == 1


HOLDS = """
import sys
from filelock import FileLock
lock = FileLock(sys.argv[1])
lock.acquire()
print(flush=True)
input()
"""


def test_the_lock_of_a_process_that_was_killed_is_free(tmp_path, heard) -> None:
    process = subprocess.Popen(
        [
            sys.executable,
            "-c",
            HOLDS,
            str(locks_in(tmp_path) / "MF.lock"),
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert process.stdout is not None
    process.stdout.readline()
    second = Another(tmp_path / "MF")
    assert not second.inside.wait(WHILE)
    process.kill()
    process.communicate()
    assert second.inside.wait(10)
    second.end()


def test_another_machine_is_waited_for(elsewhere, heard) -> None:
    second = Another(elsewhere)
    assert not second.inside.wait(WHILE)
    assert heard[0].startswith("waiting for process 77 on elsewhere, which has trained since ")
    (locks_in(elsewhere.parent) / "MF.lock").unlink()  # the server has given the lock back
    assert second.inside.wait(10)
    second.end()


def end_one_by_one(contenders: list[Another]) -> None:
    """Each that is inside is alone there, and ends."""
    waiting = list(contenders)
    while waiting:
        now = next((contender for contender in waiting if contender.inside.wait(0.05)), None)
        if now is None:
            continue
        waiting.remove(now)
        assert not any(contender.inside.wait(WHILE) for contender in waiting)
        now.end()


def test_break_lock_takes_it_from_another_machine_once(elsewhere, heard, caplog) -> None:
    end_one_by_one([Another(elsewhere, break_lock=True) for _ in range(3)])
    assert caplog.text.count("break_lock:") == 1


def is_free(lock: Path) -> bool:
    try:
        FileLock(str(lock)).acquire(timeout=0).lock.release()
    except filelock.Timeout:
        return False
    return True


def test_who_takes_a_lock_while_it_is_broken_and_has_not_yet_said_who_it_is_is_not_joined(
    elsewhere, heard, caplog, monkeypatch
) -> None:
    unlink, write = Path.unlink, locks.write
    lost: list[Path] = []

    def unlink_and_lose_the_race(file: Path, missing_ok: bool = False) -> None:
        unlink(file, missing_ok=missing_ok)
        if file.suffix == ".lock" and not lost:
            lost.append(file)
            while is_free(file):
                sleep(0.05)  # until whoever breaks no lock has it

    def write_late(file: Path, text: str) -> None:
        sleep(0.3)  # in which another looks
        write(file, text)

    monkeypatch.setattr(Path, "unlink", unlink_and_lose_the_race)
    monkeypatch.setattr(locks, "write", write_late)
    end_one_by_one([Another(elsewhere), *(Another(elsewhere, break_lock=True) for _ in range(2))])
    assert len(lost) == 1
    assert caplog.text.count("break_lock:") == 1


def test_a_lock_that_its_file_system_has_freed_is_not_broken_while_its_new_owner_writes_who_it_is(
    tmp_path, heard, monkeypatch
) -> None:
    holder = Holder(Process("elsewhere", 77, 5), "trained", time())
    (locks_in(tmp_path) / "MF.owner").write_text(json.dumps(dataclasses.asdict(holder)))
    write, writing, go = locks.write, Event(), Event()

    def write_when_told(file: Path, text: str) -> None:
        writing.set()
        go.wait()
        write(file, text)

    monkeypatch.setattr(locks, "write", write_when_told)
    first = Another(tmp_path / "MF")
    assert writing.wait(10)
    second = Another(tmp_path / "MF", break_lock=True)
    assert not second.inside.wait(WHILE)
    go.set()
    end_one_by_one([first, second])


def test_a_break_that_failed_half_way_can_be_made_again(elsewhere, heard, monkeypatch) -> None:
    def full_disk(file: Path, text: str) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as full:
        full.setattr(locks, "write", full_disk)
        broken = held(elsewhere, elsewhere.parent, "trained", break_lock=True)
        with pytest.raises(UserError, match="cannot be written"), broken:
            pass
    again = Another(elsewhere, break_lock=True)
    assert again.inside.wait(10)
    again.end()


def test_break_lock_takes_nothing_from_a_process_of_this_machine(tmp_path, heard) -> None:
    first = Another(tmp_path / "MF")
    assert first.inside.wait(10)
    second = Another(tmp_path / "MF", break_lock=True)
    assert not second.inside.wait(WHILE)
    first.end()
    assert second.inside.wait(10)
    second.end()


GARBAGE = [
    "",
    "{",
    "[]",
    "null",
    '"x"',
    "{}",
    '{"process": {}}',
    '{"process": {"host": 1, "pid": "x", "started": 0}}',
    "\x00\xff",
]
GARBAGE += ['{"process": {"host": 1, "pid": "x", "started": 0}}']
GARBAGE += ['{"process": {"host": "h", "pid": 1, "started": 1}, "doing": "trained", "since": "noon"}']
GARBAGE += [
    f'{{"process": {{"host": "h", "pid": 1, "started": 1}}, "doing": "trained", "since": {since}}}'
    for since in ("NaN", "Infinity", "1e300")
]


@pytest.mark.parametrize("content", GARBAGE)
def test_a_damaged_note_names_nobody_and_nobody_is_robbed(tmp_path, heard, content) -> None:
    with FileLock(str(locks_in(tmp_path) / "MF.lock")):
        (locks_in(tmp_path) / "MF.owner").write_bytes(content.encode("latin1"))
        second = Another(tmp_path / "MF", break_lock=True)
        assert not second.inside.wait(0.15)
        assert heard == [f"waiting for another process in {tmp_path / 'MF'}"]
    assert second.inside.wait(10)
    second.end()


def test_a_day_is_named_where_it_is_not_today() -> None:
    holder = Holder(Process("h", 1, 0), "searched", datetime(2020, 3, 9, 14, 2).timestamp())
    assert str(holder) == "process 1 on h, which has searched since 09 March, 14:02"


def test_a_folder_that_cannot_be_written_is_one_sentence(tmp_path) -> None:
    (tmp_path / "file").touch()
    with (
        pytest.raises(UserError, match=r"^checkpoint_dir: .*file' cannot be written \(.+\); choose another"),
        held(tmp_path / "file" / "MF", tmp_path / "file", "trained"),
    ):
        pytest.fail("inside")


def test_an_error_inside_frees_the_lock(tmp_path) -> None:
    with pytest.raises(ZeroDivisionError), held(tmp_path / "MF", tmp_path, "trained"):
        raise ZeroDivisionError
    with unless_held(tmp_path / "MF", tmp_path) as free:
        assert free


def test_unless_held_says_whether_it_is_held_and_holds_it(tmp_path) -> None:
    with unless_held(tmp_path / "MF", tmp_path) as free:
        assert free
    assert not list(tmp_path.iterdir())  # a question leaves nothing
    first = Another(tmp_path / "MF")
    assert first.inside.wait(10)
    with unless_held(tmp_path / "MF", tmp_path) as free:
        assert not free
    first.end()
    with unless_held(tmp_path / "MF", tmp_path) as free:
        assert free
        second = Another(tmp_path / "MF")
        assert not second.inside.wait(WHILE)
    assert second.inside.wait(10)
    second.end()


@pytest.mark.skipif(os.name != "posix", reason="locks as POSIX has them")
def test_without_locks_of_the_file_system_a_marker_stands_for_one_or_the_folder_is_refused(tmp_path, monkeypatch) -> None:
    def no_locks(*_: object) -> None:
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr("fcntl.flock", no_locks)
    lock = locks_in(tmp_path) / "MF.lock"
    if int(filelock.__version__.partition(".")[0]) < 4:
        with pytest.raises(UserError, match=r"checkpoint_dir: '.*' is on a file system without locks"), held_by_us(tmp_path):
            pytest.fail("nobody else is kept out")
        return
    with held_by_us(tmp_path):
        assert lock.exists()
        with unless_held(tmp_path / "MF", tmp_path) as free:
            assert not free
    assert not lock.exists()
    lock.write_text(f"{2**22 + 1}\nelsewhere\n", encoding="utf-8")
    with unless_held(tmp_path / "MF", tmp_path) as free:
        assert not free


def test_a_filelock_that_knows_no_markers_is_a_sentence(tmp_path, monkeypatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise NotImplementedError("FileSystem does not appear to support flock; use SoftFileLock instead")

    monkeypatch.setattr(FileLock, "acquire", refuse)
    with pytest.raises(UserError, match="is on a file system without locks"), held_by_us(tmp_path):
        pytest.fail("nobody else is kept out")
    (locks_in(tmp_path) / "MF.lock").touch()
    with unless_held(tmp_path / "MF", tmp_path) as free:
        assert not free


def held_by_us(folder: Path) -> AbstractContextManager[None]:
    return held(folder / "MF", folder, "trained")
