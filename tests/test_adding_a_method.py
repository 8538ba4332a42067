"""docs/adding_a_method.md is followed literally: in the tree, three new files and no other; and as a package of its own."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "adding_a_method.md").read_text(encoding="utf-8")
# Path and content of each file that the page shows: a line that begins with the path, then a block of code.
BLOCKS = dict(re.findall(r"^`([\w./]+)`[^\n]*(?:\n[^\n`]+)?\n\n```\w+\n(.*?)```", PAGE, re.DOTALL | re.MULTILINE))
IN_THE_TREE = {
    path: text for path, text in BLOCKS.items() if path.split("/")[0] in ("recbole_hetcomp", "properties", "tests")
}
ITS_CONTRACT = "kind_and_a_meaning or cannot_be or composite or padding or any_teachers"


def run(folder: Path, path: list[Path], *arguments: str) -> str:
    """What a command of this Python prints in `folder`, with `path` before everything that is installed."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, path)), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        [sys.executable, *arguments], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_page_shows_three_files_for_the_tree() -> None:
    assert [Path(path).parts[0] for path in IN_THE_TREE] == ["recbole_hetcomp", "properties", "tests"]
    assert not any((ROOT / path).exists() for path in IN_THE_TREE)


@pytest.mark.slow
def test_three_new_files_in_the_tree_are_a_method(tmp_path: Path) -> None:
    for part in ("recbole_hetcomp", "properties", "tests"):
        shutil.copytree(ROOT / part, tmp_path / part, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    for path, text in IN_THE_TREE.items():
        (tmp_path / path).write_text(text, encoding="utf-8")
    where = run(tmp_path, [tmp_path], "-c", "import recbole_hetcomp; print(recbole_hetcomp.__file__)")
    assert Path(where.strip()).parents[1] == tmp_path.resolve()
    own = ["tests/test_architecture.py", "tests/config/test_declarations.py", "tests/model/test_toptenstudent.py"]
    chosen = "toptenstudent and (not TestTopTenStudent or cannot_be or padding)"
    tests = run(tmp_path, [tmp_path], "-m", "pytest", "-vv", "-p", "no:cacheprovider", *own, "tests/contract", "-k", chosen)
    for found in ("TestTopTenStudent::test_padding", "citation[toptenstudent]", "kind_and_a_meaning[model/TopTenStudent]"):
        assert found in tests, tests


@pytest.mark.slow
def test_the_same_method_in_a_package_of_its_own_is_one_too(tmp_path: Path) -> None:
    source, installed = tmp_path / "source", tmp_path / "installed"
    (source / "my_package").mkdir(parents=True)
    (source / "my_package" / "__init__.py").touch()
    for path, text in IN_THE_TREE.items():
        if not path.startswith("tests"):
            (source / "my_package" / f"toptenstudent{Path(path).suffix}").write_text(text, encoding="utf-8")
    (source / "pyproject.toml").write_text(BLOCKS["pyproject.toml"], encoding="utf-8")
    offline = ["--quiet", "--no-index", "--no-deps", "--no-build-isolation", "--target", str(installed)]
    run(tmp_path, [], "-m", "pip", "install", *offline, str(source))
    (tmp_path / "test_topten.py").write_text(BLOCKS["test_topten.py"], encoding="utf-8")
    tests = run(tmp_path, [installed, ROOT], "-m", "pytest", "-p", "no:cacheprovider", "-k", ITS_CONTRACT, "test_topten.py")
    assert "7 passed" in tests, tests
    known = "from recbole_hetcomp.config.registry import known_models, properties_of, settings_of_any_model as keys\n"
    known += "print('TopTenStudent' in known_models(), properties_of('TopTenStudent').parent.parent, 'n_targets' in keys())"
    assert run(tmp_path, [installed, ROOT], "-c", known).split() == ["True", str(installed.resolve()), "True"]
