"""A full disk, wherever it is met, is one sentence and exit code 2; what was there stays, and the next run goes on."""

from __future__ import annotations

import errno
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import recbole_hetcomp
from recbole_hetcomp.cli import main
from recbole_hetcomp.files import atomic
from recbole_hetcomp.trainer import progress_file

FULL = os.strerror(errno.ENOSPC)


def flags_of(settings: dict[str, Any], **changes: object) -> list[str]:
    quick = {**settings, "epochs": 1, "teachers": ["BPR"], "without_distillation": False, **changes}
    return ["--dataset=toy", *(f"--{key}={value}" for key, value in quick.items())]


def kind_of(path: object, folder: object) -> str:
    """A file's place without what differs from run to run: the name of a working folder, the time, fingerprints."""
    place = re.sub(r"(^|/)\.([^/]+?)\.[^/]+-\d+-\d+-\w{8}/", r"\1\2/", os.path.relpath(str(path), str(folder)))
    return re.sub(r"-[A-Z][a-z]{2}-[\w-]+(?=\.pth$)|-[0-9a-f]{8}-[0-9a-f]{12}", "", place)


@pytest.fixture
def refused_once(settings, monkeypatch) -> list[str]:
    """Each file is refused once, in the order in which runs write them: the list of those that were."""
    refused: list[str] = []
    real = os.replace

    def replace(source: Any, target: Any) -> None:
        kind = kind_of(target, settings["checkpoint_dir"])
        if kind not in refused:
            refused.append(kind)
            raise OSError(errno.ENOSPC, FULL)
        real(source, target)

    monkeypatch.setattr(atomic.os, "replace", replace)
    monkeypatch.setattr(progress_file, "pause_after", lambda seconds: 0.0)
    return refused


def until_it_ends(arguments: list[str], capsys: pytest.CaptureFixture[str], refused: list[str]) -> None:
    """Run until nothing is refused any more; each time that something is, there is one sentence."""
    while True:
        before = len(refused)
        code = main(arguments)
        out, err = capsys.readouterr()
        assert "Traceback" not in out + err
        if code == 0:
            assert len(refused) == before
            return
        assert code == 2
        assert len(refused) > before  # one, and of searches one each
        assert err.strip().splitlines()[-1].startswith("hetcomp: ")
        assert FULL in err


def unfinished_in(folder: Path) -> list[Path]:
    return [*folder.rglob(".*"), *folder.rglob("*.owner")]


RUN = {f"trained/BPR/{name}" for name in ("epoch-000001.safetensors", "trajectory.safetensors", "model.pth", "record.json")}
RUN |= {"trained/BPR", "locks/trained/BPR.owner", "trained/MF/model.pth", "HetCompStudent.progress", "HetCompStudent.pth"}
RUN |= {"comparison.md", "comparison.json", "report/run.json", "report.html", "HetCompStudent.curves.json"}


def test_a_run_goes_on_after_each_file_that_the_disk_did_not_take(settings, capsys, refused_once) -> None:
    arguments = flags_of(settings, model="HetCompStudent", epochs=2, without_distillation=True)
    until_it_ends(arguments, capsys, refused_once)
    assert set(refused_once) >= RUN
    assert not unfinished_in(Path(settings["checkpoint_dir"]))


def test_recboles_own_checkpoint_is_written_at_once(settings, capsys, refused_once) -> None:
    until_it_ends(flags_of(settings, model="BPR"), capsys, refused_once)
    assert "BPR.pth" in refused_once


def test_a_benchmark_goes_on_after_each_file_that_the_disk_did_not_take(settings, capsys, refused_once) -> None:
    arguments = ["benchmark", "--models=BPR", "--seeds=1", *flags_of(settings)]
    until_it_ends(arguments, capsys, refused_once)
    assert set(refused_once) >= {"benchmark/BPR/users.npz", "benchmark/BPR/record.json", "benchmark.md", "benchmark.json"}
    assert set(refused_once) >= {"benchmark/BPR/curves.json", "report/benchmark.json", "report.html"}
    assert not unfinished_in(Path(settings["checkpoint_dir"]))


def test_a_search_goes_on_after_each_file_that_the_disk_did_not_take(settings, capsys, refused_once) -> None:
    until_it_ends(["tune-teachers", *flags_of(settings, tune=2, student="MF")], capsys, refused_once)
    assert set(refused_once) >= {"tuned/BPR/trials.json", "tuned/BPR/found.json", "tuned/MF/found.json", "tuning.json"}
    assert not unfinished_in(Path(settings["checkpoint_dir"]))


# The prelude of a process, its outputs, and whether it can still say what is wrong
DEVICE = Path("/dev/full")  # takes nothing
LOG = "import logging; logging.FileHandler._open = lambda handler: open('/dev/full', 'w')"
TENSORBOARD = """
import builtins
from tensorboard.summary.writer import event_file_writer
event_file_writer.tf.io.gfile.GFile = lambda *_: builtins.open('/dev/full', 'wb')
"""
PLACES = {"stdout": ("", DEVICE, None), "stderr": ("", None, DEVICE), "both": ("", DEVICE, DEVICE)}
PLACES |= {"the log": (LOG, None, None), "tensorboard": (TENSORBOARD, None, None)}


@pytest.mark.skipif(not DEVICE.exists(), reason="there is no /dev/full")
@pytest.mark.parametrize(("prelude", "out", "err"), PLACES.values(), ids=PLACES)
def test_what_is_told_and_logged_may_be_refused_as_well(settings, tmp_path, prelude, out, err) -> None:
    code = f"import sys\nfrom recbole_hetcomp.cli import main\n{prelude}\nsys.exit(main(sys.argv[1:]))"
    arguments = flags_of(settings, model="BPR", state="INFO")
    home = str(Path(recbole_hetcomp.__file__).parents[1])
    with (out or tmp_path / "out.txt").open("w") as stdout, (err or tmp_path / "err.txt").open("w") as stderr:
        done = subprocess.run(
            [sys.executable, "-c", code, *arguments],
            stdout=stdout,
            stderr=stderr,
            env={**os.environ, "PYTHONPATH": home, "OMP_NUM_THREADS": "1"},
            cwd=tmp_path,
            check=False,
        )
    assert done.returncode == 2
    if err is None:
        text = (tmp_path / "err.txt").read_text()
        assert "Traceback" not in text
        assert re.search(
            rf"^hetcomp: .* cannot be written \({FULL}\); what was kept so far stays$", text.strip().splitlines()[-1]
        )
