"""Processes import what the one that starts them would, and no file that happens to lie in the working directory."""

from __future__ import annotations

import ast
import importlib.metadata
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import recbole_hetcomp
from recbole_hetcomp.config.errors import UserError
from recbole_hetcomp.trainer import search_path
from recbole_hetcomp.trainer.processes import _free_port
from recbole_hetcomp.trainer.search_path import refuse_hidden_modules, shared_search_path

HOME = Path(recbole_hetcomp.__file__).parents[1]
CONSOLE_SCRIPT = "import sys\nfrom recbole_hetcomp.cli import main\n\nif __name__ == '__main__':\n    sys.exit(main())\n"
needs_the_switch = pytest.mark.skipif(sys.version_info < (3, 11), reason="refused there")


@pytest.fixture
def canaries(tmp_path: Path) -> Any:
    """A folder with a file for each module there is, which makes a file where it is imported; no test imports one."""
    folder, signs = tmp_path / "here", tmp_path / "imported"
    folder.mkdir()
    signs.mkdir()
    for name in filter(
        str.isidentifier, {*sys.stdlib_module_names, *importlib.metadata.packages_distributions(), "recbole"}
    ):
        (folder / f"{name}.py").write_text(f"open({str(signs / name)!r}, 'w')\n", encoding="utf-8")
    yield folder
    assert sorted(path.name for path in signs.iterdir()) == []


def done(folder: Path, *command: str) -> str:
    """What a command says that is run in `folder` by a Python that can import this package."""
    environment = {**os.environ, "PYTHONPATH": str(HOME), "OMP_NUM_THREADS": "1"}
    environment.pop(search_path.SWITCH, None)
    found = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stderr[-3000:]
    return found.stdout + found.stderr


@pytest.fixture
def flags(settings: dict[str, Any], tmp_path: Path) -> list[str]:
    few = {**settings, "teachers": ["BPR", "Pop"], "epochs": 1, "without_distillation": False, "user_batches": True}
    return ["--model=HetCompStudent", "--dataset=toy", *(f"--{key}={value}" for key, value in few.items())]


def console_script(folder: Path) -> list[str]:
    """What pip installs as `hetcomp`."""
    (folder / "bin").mkdir()
    (folder / "bin" / "hetcomp").write_text(CONSOLE_SCRIPT, encoding="utf-8")
    return [sys.executable, str(folder / "bin" / "hetcomp")]


@needs_the_switch
@pytest.mark.slow
def test_a_command_imports_nothing_from_the_working_directory(canaries, flags, tmp_path) -> None:
    done(canaries, *console_script(tmp_path), "--nproc=2", "--teacher_workers=2", *flags)


STARTERS = {"concurrent", "joblib", "multiprocessing", "subprocess"}  # libraries that start processes
STARTING = ["teacher_training/side_by_side.py", "trainer/processes.py"]


def test_no_other_module_starts_processes_and_these_do_so_with_the_search_path_of_their_own() -> None:
    """So what holds for a run's workers and processes holds for those of a search and a benchmark too."""
    found = {}
    for path in Path(recbole_hetcomp.__file__).parent.rglob("*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        imports = [node for node in ast.walk(tree) if isinstance(node, (ast.Import, ast.ImportFrom))]
        modules = [getattr(node, "module", None) or "" for node in imports]
        modules += [alias.name for node in imports if isinstance(node, ast.Import) for alias in node.names]
        if STARTERS & {part for module in modules for part in module.split(".")}:
            found[path.relative_to(Path(recbole_hetcomp.__file__).parent).as_posix()] = ast.unparse(tree)
    assert sorted(found) == STARTING
    assert all("with shared_search_path()" in source for source in found.values())


OWN = """
import os

def leave(folder):
    open(os.path.join(folder, str(os.getpid())), "w").close()
"""
SCRIPT = """
from functools import partial
import sys

import own

if __name__ == "__main__":
    from recbole_hetcomp.config import Config
    from recbole_hetcomp.teacher_training.side_by_side import side_by_side
    from recbole_hetcomp.trainer.processes import Processes, launch

    given = {"data_path": ".", "checkpoint_dir": sys.argv[2], "use_gpu": False}
    config = Config("HetCompStudent", "toy", config_dict=given, arguments=())
    job = partial(own.leave, sys.argv[1])
    assert side_by_side(config, {"a": job, "b": job}, 2) == {}
    launch(job, Processes(1, 1, 0, "localhost", int(sys.argv[3])))
"""


@needs_the_switch
@pytest.mark.slow
def test_modules_beside_the_users_script_are_imported_by_the_processes(canaries, tmp_path) -> None:
    for name in ("project", "left"):
        (tmp_path / name).mkdir()
    (tmp_path / "project" / "own.py").write_text(OWN, encoding="utf-8")
    (tmp_path / "project" / "train.py").write_text(SCRIPT, encoding="utf-8")
    folders = [str(tmp_path / name) for name in ("left", "saved")]
    done(canaries, sys.executable, str(tmp_path / "project" / "train.py"), *folders, str(_free_port()))
    assert 2 <= len(list((tmp_path / "left").iterdir())) <= 3  # one worker may have done both jobs


# --- before Python 3.11 ---------------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "work").mkdir()
    return tmp_path / "work"


def a_file(folder: Path, name: str) -> None:
    (folder / f"{name}.py").write_text("", encoding="utf-8")


def a_package(folder: Path, name: str) -> None:
    (folder / name).mkdir()
    (folder / name / "__init__.py").write_text("", encoding="utf-8")


def a_folder(folder: Path, name: str) -> None:
    (folder / name).mkdir()


@pytest.mark.parametrize("name", ["numpy", "random", "joblib", "torch"])
@pytest.mark.parametrize("make", [a_file, a_package])
def test_a_file_that_hides_a_module_is_refused(folder, make: Callable[[Path, str], None], name) -> None:
    make(folder, name)
    with pytest.raises(UserError, match=rf"would run '{name}' of '.*work' in the place of the module of this name"):
        refuse_hidden_modules(folder)


@pytest.mark.parametrize(("make", "name"), [(a_file, "my_model"), (a_package, "mine"), (a_folder, "numpy")])
def test_other_files_are_not_refused(folder, make: Callable[[Path, str], None], name) -> None:
    make(folder, name)
    refuse_hidden_modules(folder)


def test_a_folder_that_this_process_looks_into_as_well_is_not_refused(folder, monkeypatch) -> None:
    a_file(folder, "numpy")
    monkeypatch.syspath_prepend(str(folder))
    refuse_hidden_modules(folder)


def test_earlier_pythons_look_before_they_start_a_process(folder, monkeypatch) -> None:
    a_file(folder, "numpy")
    monkeypatch.chdir(folder)
    monkeypatch.setattr(search_path.sys, "version_info", (3, 10, 0))
    with pytest.raises(UserError, match="'numpy'"), shared_search_path():
        pytest.fail("started")


@pytest.mark.parametrize("before", [None, "", "1"])
@pytest.mark.parametrize("fails", [True, False])
def test_the_environment_is_as_it_was_afterwards(monkeypatch, before, fails) -> None:
    monkeypatch.delenv(search_path.SWITCH, raising=False)
    if before is not None:
        monkeypatch.setenv(search_path.SWITCH, before)
    try:
        with shared_search_path():
            assert os.environ[search_path.SWITCH] == "1"
            if fails:
                raise OSError
    except OSError:
        assert fails
    assert os.environ.get(search_path.SWITCH) == before
