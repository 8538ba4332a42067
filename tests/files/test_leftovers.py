"""What a killed process has left is removed, and nothing else."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from recbole_hetcomp.files.leftovers import remove_abandoned
from recbole_hetcomp.files.locks import forget_the_gone
from recbole_hetcomp.files.process import Process

GONE = dataclasses.replace(Process.current(), started=Process.current().started - 100)  # whose number this process has now
OWNERS = {"gone": GONE, "here": Process.current(), "elsewhere": dataclasses.replace(GONE, host="elsewhere")}


def hidden(name: str, owner: Process, end: str = "") -> str:
    return f".{name}.{owner.host}-{owner.pid}-{owner.started}-0123abcd{end}"


def folder_of(home: Path, owner: Process) -> Path:
    folder = home / hidden("BPR-1-2", owner)
    folder.mkdir()
    (folder / "epoch-000001.safetensors").write_bytes(b"large")
    return folder


@pytest.mark.parametrize("name", OWNERS)
def test_unfinished_files_and_folders_of_processes_that_are_gone_are_removed(tmp_path, name) -> None:
    owner = OWNERS[name]
    folder_of(tmp_path, owner)
    (tmp_path / hidden("student.pth", owner, ".tmp")).write_bytes(b"half")
    (tmp_path / "student.pth").write_bytes(b"whole")
    (tmp_path / ".own.tmp").touch()
    remove_abandoned(tmp_path, tmp_path)
    assert len(list(tmp_path.iterdir())) == (2 if name == "gone" else 4)
    assert (tmp_path / "student.pth").read_bytes() == b"whole"


def test_a_folder_whose_lock_somebody_holds_stays(tmp_path) -> None:
    """Another container, which has this machine's name and whose processes nobody sees here."""
    folder = folder_of(tmp_path, GONE)
    (tmp_path / "locks").mkdir()
    with FileLock(str(tmp_path / "locks" / "BPR-1-2.lock")):
        remove_abandoned(tmp_path, tmp_path)
        assert folder.is_dir()
    remove_abandoned(tmp_path, tmp_path)
    assert not folder.exists()


@pytest.mark.parametrize("name", OWNERS)
def test_the_owner_of_a_lock_is_forgotten_when_it_is_gone(tmp_path, name) -> None:
    owner: dict[str, Any] = {"process": dataclasses.asdict(OWNERS[name]), "doing": "trained", "since": 0.0}
    note = tmp_path / "locks" / "trained" / "BPR-1-2.owner"
    note.parent.mkdir(parents=True)
    note.write_text(json.dumps(owner))
    with FileLock(str(note.with_suffix(".lock"))):
        forget_the_gone(tmp_path)
        assert note.exists()
    forget_the_gone(tmp_path)
    assert note.exists() == (name != "gone")


def test_a_folder_that_is_not_there_is_no_error(tmp_path) -> None:
    remove_abandoned(tmp_path / "none", tmp_path)
