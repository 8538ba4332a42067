"""A file is the old one or the new one, whatever comes between."""

from __future__ import annotations

import errno
import os
import socket
from pathlib import Path
from threading import Thread

import pytest

from recbole_hetcomp.files import atomic
from recbole_hetcomp.files.atomic import replacing, unfinished, working_folder, write
from recbole_hetcomp.files.process import Process


@pytest.mark.parametrize("content", ["", "ä\n", b"\x00\xff", memoryview(b"view")], ids=["empty", "text", "bytes", "view"])
def test_what_is_written_is_read(tmp_path, content) -> None:
    write(tmp_path / "file", "old")
    write(tmp_path / "file", content)
    assert (tmp_path / "file").read_bytes() == (content.encode() if isinstance(content, str) else bytes(content))
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


class _Full:
    """A file on a disk that takes the first bytes alone."""

    def __init__(self, path: Path, error: BaseException) -> None:
        self.path, self.error = path, error

    def __enter__(self) -> _Full:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def write(self, content: bytes) -> None:
        self.path.write_bytes(content[:3])
        raise self.error


ERRORS = [OSError(code, os.strerror(code)) for code in (errno.ENOSPC, errno.EDQUOT, errno.EIO)] + [KeyboardInterrupt()]


@pytest.mark.parametrize("error", ERRORS, ids=str)
@pytest.mark.parametrize("step", ["open", "write", "fsync", "replace"])
@pytest.mark.parametrize("old", ["old", None])
def test_an_error_at_any_step_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch, step, error, old) -> None:
    path = tmp_path / "file"
    if old:
        write(path, old)

    def fail(*_: object) -> None:
        raise error

    if step in ("open", "write"):
        opened = fail if step == "open" else lambda path, mode: _Full(path, error)
        monkeypatch.setattr(atomic, "open", opened, raising=False)
    else:
        monkeypatch.setattr(os, step, fail)
    with pytest.raises(type(error)) as caught:
        write(path, "newer")
    if isinstance(error, OSError):
        assert (caught.value.errno, caught.value.filename) == (error.errno, str(path))
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == ({"file": old} if old else {})


def test_an_error_while_a_library_writes_leaves_the_old_file(tmp_path) -> None:
    def fail(error: Exception) -> None:
        with replacing(tmp_path / "file") as temporary:
            temporary.write_text("half")
            raise error

    write(tmp_path / "file", "old")
    for error in (RuntimeError("of the library"), OSError(errno.ENOSPC, "full")):
        with pytest.raises(type(error)):
            fail(error)
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"file": "old"}


def test_readers_beside_writers_see_whole_files(tmp_path) -> None:
    path, contents = tmp_path / "file", {bytes([byte]) * 50_000 for byte in range(8)}
    write(path, min(contents))
    writers = [Thread(target=lambda own=own: [write(path, own) for _ in range(10)]) for own in contents]
    for writer in writers:
        writer.start()
    while any(writer.is_alive() for writer in writers):
        assert path.read_bytes() in contents
    assert [file.name for file in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("host", ["plain", "a.b-c-1-2", "with (brackets)", "[x]*"])
@pytest.mark.parametrize("name", ["file", "a.host-1-2-abcdefgh", ".hidden", "MF-12-ab.progress"])
def test_what_is_unfinished_says_whose_it_is(tmp_path, monkeypatch, host, name) -> None:
    monkeypatch.setattr(socket, "gethostname", lambda: host)
    folder = working_folder(tmp_path / name)
    with replacing(tmp_path / name) as temporary:
        temporary.write_text("")
        found = {part.path: part for part in unfinished(tmp_path)}
    assert found.keys() == {folder, temporary}
    assert {(part.name, part.owner) for part in found.values()} == {(name, Process.current())}


@pytest.mark.parametrize(
    "name", ["file", ".file", ".file.tmp", ".x.other-1-2-abcdefgh", ".x.{host}-1-2-abc", "x.{host}-1-2-abcdefgh"]
)
def test_files_of_others_are_not_taken_for_ours(tmp_path, name) -> None:
    (tmp_path / name.format(host=socket.gethostname())).touch()
    assert unfinished(tmp_path) == []
