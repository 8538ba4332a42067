"""What setup.py declares is what the other files say: the lowest versions, the repairs."""

from __future__ import annotations

import re
import runpy
from pathlib import Path
from typing import Any

import setuptools

from recbole_hetcomp.compat import REPAIRS

ROOT = Path(__file__).parents[1]


def test_the_lowest_versions_tried_are_the_lowest_declared() -> None:
    declared = (ROOT / "setup.py").read_text(encoding="utf-8").split("install_requires=")[1].split("extras_require")[0]
    floors = dict(re.findall(r'"(\w+)>=([\d.]+)', declared))
    pins = dict(re.findall(r"^(\w+)==([\d.]+)$", (ROOT / "constraints-lowest.txt").read_text(encoding="utf-8"), re.M))
    assert len(floors) >= 6
    assert {name: pins[name] for name in floors} == floors


def test_the_page_on_compatibility_lists_the_repairs_in_their_order() -> None:
    page = (ROOT / "docs" / "compatibility.md").read_text(encoding="utf-8")
    listed = re.findall(r"^\| `(\w+)` \|", page, re.M)
    assert listed == [repair.name for repair in REPAIRS]


def test_every_yaml_file_is_installed_and_every_package_has_its_folder(monkeypatch) -> None:
    declared: dict[str, Any] = {}
    monkeypatch.setattr(setuptools, "setup", declared.update)
    monkeypatch.chdir(ROOT)
    runpy.run_path(str(ROOT / "setup.py"))
    files = sorted((ROOT / "properties").rglob("*.yaml"))
    assert {path.parent.name for path in files} >= {"properties", "model", "teacher", "presets", "space"}
    for path in files:
        package = ".".join(["recbole_hetcomp", *path.parent.relative_to(ROOT).parts])
        assert package in declared["packages"]
        assert (ROOT / declared["package_dir"][package]).resolve() == path.parent
        assert declared["package_data"][package] == ["*.yaml"]
    for package in declared["packages"]:
        assert (ROOT / declared["package_dir"].get(package, package.replace(".", "/"))).is_dir(), package
