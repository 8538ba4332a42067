"""Nothing here needs a network, and nothing asks for one: not when imported, not in a run, not where data are missing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import recbole_hetcomp
from recbole_hetcomp.testing import toy_settings, write_toy

# Read by every Python that starts, also by the processes that train teachers. What is asked for is noted before it is
# refused, lest an `except` hide it.
BARRED = """
import os, sys

def note(line):
    with open(os.environ["NETWORK_LOG"], "a", encoding="utf-8") as log:
        log.write(f"{os.getpid()} {line}\\n")

def refuse(event, arguments):
    if event in ("socket.getaddrinfo", "socket.gethostbyname", "urllib.Request"):
        address = arguments[0]
        local = address in ("localhost", "127.0.0.1", "::1")
    elif event in ("socket.connect", "socket.sendto", "socket.sendmsg"):
        address = arguments[1]
        local = isinstance(address, (str, bytes)) or address is None or address[0] in ("localhost", "127.0.0.1", "::1")
    else:
        return
    if not local:
        note(f"{event} {address}")
        raise PermissionError(f"{event} {address} in a test without a network")

note("barred")
sys.addaudithook(refuse)
"""


@pytest.fixture
def python(tmp_path):
    """`python(*arguments)`: a Python without a network; (exit code, output, processes, what asked for the network)."""
    barred, log = tmp_path / "barred", tmp_path / "network.log"
    barred.mkdir()
    (barred / "sitecustomize.py").write_text(BARRED, encoding="utf-8")
    paths = [str(barred), str(Path(recbole_hetcomp.__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths)), "NETWORK_LOG": str(log)}

    def run(*arguments: str) -> tuple[int, str, set[str], list[str]]:
        log.write_text("")
        done = subprocess.run([sys.executable, *arguments], capture_output=True, text=True, env=environment, check=False)
        lines = [line.partition(" ")[::2] for line in log.read_text(encoding="utf-8").splitlines()]
        asked = [what for _, what in lines if what != "barred"]
        return done.returncode, done.stdout + done.stderr, {process for process, _ in lines}, asked

    return run


def hetcomp(*commands: list[str]) -> list[str]:
    """The arguments with which Python runs some commands, one after the other, and prints their exit codes."""
    return ["-c", f"from recbole_hetcomp.cli import main\nprint([main(command) for command in {list(commands)!r}])"]


@pytest.fixture
def flags(tmp_path) -> list[str]:
    settings = toy_settings(write_toy(tmp_path / "data"), tmp_path / "saved")
    return ["--dataset=toy", *(f"--{key}={value}" for key, value in {**settings, "epochs": 1}.items())]


@pytest.mark.parametrize(
    "code",
    [
        "import socket; socket.create_connection(('192.0.2.1', 80), 1)",
        "import urllib.request; urllib.request.urlopen('http://recbole.io')",
        "import socket; socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'x', ('192.0.2.1', 53))",
    ],
)
def test_the_bar_holds_and_tells(python, code) -> None:
    code, _, _, asked = python("-c", f"try:\n    {code}\nexcept PermissionError:\n    pass")
    assert code == 0
    assert asked


def test_a_run_with_workers__its_recommendations_and_a_benchmark(python, flags, tmp_path) -> None:
    few = [*flags, "--without_distillation=False"]
    code, output, processes, asked = python(*hetcomp(["--model=HetCompStudent", "--teacher_workers=2", *few]))
    assert (code, asked) == (0, []), output
    assert len(processes) >= 3  # this one and two workers
    (checkpoint,) = (tmp_path / "saved").glob("*.pth")
    served = ["recommend", f"--checkpoint={checkpoint}", "--users=u1", "--k=2"]
    code, output, _, asked = python(*hetcomp(served, ["benchmark", "--models=HetCompStudent,BPR", "--seeds=1", *few]))
    assert (code, asked) == (0, []), output
    assert "user u1" in output
    assert output.splitlines().count("[0, 0]") == 1


def test_a_dataset_that_is_not_there_is_said_and_not_downloaded(python) -> None:
    """RecBole downloads those that it knows."""
    cases = [(command, name) for command in (["--model=HetCompStudent"], ["--model=KGAT"]) for name in ("ml-1m", "nowhere")]
    cases.append((["benchmark", "--models=BPR,MF"], "amazon-beauty"))
    code, output, _, asked = python(*hetcomp(*([*command, f"--dataset={name}"] for command, name in cases)))
    assert (code, asked) == (0, []), output
    assert str([2] * len(cases)) in output
    sentences = [line for line in output.splitlines() if line.startswith("hetcomp: ")]
    for (_, name), sentence in zip(cases, sentences):
        assert f"dataset '{name}': there is no file" in sentence
        assert "--data_path" in sentence
    assert len(sentences) == len(cases)
    assert not Path("dataset").exists()


def test_every_module_is_imported_without_a_network(python) -> None:
    root = Path(recbole_hetcomp.__file__).parent
    names = [".".join(("recbole_hetcomp", *path.relative_to(root).with_suffix("").parts)) for path in root.rglob("*.py")]
    wanted = sorted(name.removesuffix(".__init__") for name in names)
    code, output, _, asked = python(
        "-c", f"import importlib\nfor name in {json.dumps(wanted)}: importlib.import_module(name)"
    )
    assert (code, asked) == (0, []), output
    assert len(wanted) > 100
