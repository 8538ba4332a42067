"""A full disk is known by whatever library tells of it."""

from __future__ import annotations

import errno
import os
import pickle
import threading
from contextlib import nullcontext

import pytest

from recbole_hetcomp.files.disk import FULL, REFUSALS, heard_of_threads, refusal


def wrapped(error: Exception, wrapper: Exception, explicitly: bool) -> Exception:
    """`wrapper`, raised while `error` was handled."""
    try:
        try:
            raise error
        except type(error) as inner:
            if explicitly:
                raise wrapper from inner
            raise wrapper  # noqa: B904
    except type(wrapper) as outer:
        return outer


@pytest.mark.parametrize("code", REFUSALS)
def test_the_systems_own_error(code) -> None:
    found = refusal(OSError(code, os.strerror(code), "file"))
    assert found is not None
    assert (found.errno, found.filename) == (code, "file")


@pytest.mark.parametrize("code", FULL)
@pytest.mark.parametrize("explicitly", [True, False])
@pytest.mark.parametrize("wrapper", [pickle.PicklingError("Could not pickle the task"), RuntimeError("x"), OSError("y")])
def test_a_full_disk_behind_another_error(code, explicitly, wrapper) -> None:
    found = refusal(wrapped(OSError(code, os.strerror(code)), type(wrapper)(*wrapper.args), explicitly))
    assert found is not None
    assert found.errno == code


@pytest.mark.parametrize("code", FULL)
@pytest.mark.parametrize("form", ["unable to write to file </torch_1>: {} ({})", "I/O error: {} (os error {})"])
def test_a_full_disk_in_a_text(code, form) -> None:
    found = refusal(RuntimeError(form.format(os.strerror(code), code)))
    assert found is not None
    assert found.errno == code


OTHERS = [ValueError("wrong"), OSError(errno.ENOENT, "No such file"), OSError("without a number"), KeyError("No space")]


@pytest.mark.parametrize("error", OTHERS, ids=str)
def test_other_errors_are_none(error) -> None:
    assert refusal(error) is None


def test_a_bug_while_a_permission_was_asked_for_is_no_refusal() -> None:
    assert refusal(wrapped(PermissionError(errno.EACCES, "Permission denied"), KeyError("bug"), False)) is None


@pytest.mark.parametrize(("error", "told"), [(OSError(errno.ENOSPC, "full"), False), (ValueError("a bug"), True)])
def test_what_a_thread_is_refused_is_raised_at_the_end_and_not_printed(monkeypatch, error, told) -> None:
    def work() -> None:
        raise error

    printed = []
    monkeypatch.setattr(threading, "excepthook", lambda failure: printed.append(failure.exc_value))
    with nullcontext() if told else pytest.raises(OSError, match="full"), heard_of_threads():
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
    assert printed == [error] * told
