"""What setup.py declares is what the other files say, and what is built from it holds all that a run needs."""

from __future__ import annotations

import os
import re
import runpy
import shutil
import subprocess
import sys
import tarfile
import zipfile
from email.parser import Parser
from pathlib import Path
from typing import Any

import pytest
import setuptools
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.version import Version

from recbole_hetcomp.compat import REPAIRS
from recbole_hetcomp.testing import toy_settings, write_toy

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


# --- what is built ----------------------------------------------------------------------------------------------------

NOT_IN_A_RELEASE = {".ci", ".git", ".gitignore", ".venv", ".venv-lowest", "build", "dist", "saved", "log", "log_tensorboard"}


def build(kind: str, source: Path, into: Path) -> Path:
    """The wheel or the sdist of `source`, built without a network; setuptools writes into `source`."""
    code = f"from setuptools import build_meta; print(build_meta.build_{kind}({str(into)!r}))"
    done = subprocess.run([sys.executable, "-c", code], cwd=source, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return into / done.stdout.splitlines()[-1]


def release_files(folder: Path) -> set[str]:
    found = {path.relative_to(folder) for path in folder.rglob("*") if path.is_file()}
    kept = (path for path in found if not path.parts[0].startswith(".") and path.parts[0] not in NOT_IN_A_RELEASE)
    return {path.as_posix() for path in kept if not re.search(r"__pycache__|\.egg-info/|\.pyc$", path.as_posix())}


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> dict[str, Path]:
    """The sdist of this checkout, what it unpacks to, and the wheel that is built from that."""
    folder = tmp_path_factory.mktemp("built")
    source = folder / "source"
    for name in release_files(ROOT):
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, source / name)
    sdist = build("sdist", source, folder)
    with tarfile.open(sdist) as archive:
        archive.extractall(folder / "unpacked", filter="data") if hasattr(tarfile, "data_filter") else archive.extractall(
            folder / "unpacked"
        )
    (unpacked,) = (folder / "unpacked").iterdir()
    return {"sdist": sdist, "unpacked": unpacked, "wheel": build("wheel", unpacked, folder)}


def test_the_sdist_holds_the_whole_project(built) -> None:
    found = release_files(built["unpacked"])
    assert release_files(ROOT) - found == set()
    assert found - release_files(ROOT) == {"PKG-INFO", "setup.cfg", "MANIFEST.in"} - release_files(ROOT)


def test_the_wheel_holds_each_module_and_each_yaml_file_and_nothing_else(built) -> None:
    with zipfile.ZipFile(built["wheel"]) as wheel:
        names = {name for name in wheel.namelist() if ".dist-info/" not in name}
    modules = {path.relative_to(ROOT).as_posix() for path in (ROOT / "recbole_hetcomp").rglob("*.py")}
    settings = {f"recbole_hetcomp/{path.relative_to(ROOT).as_posix()}" for path in (ROOT / "properties").rglob("*.yaml")}
    others = {"recbole_hetcomp/py.typed", "recbole_hetcomp/__init__.pyi", "recbole_hetcomp/report/templates/report.html"}
    assert names == modules | settings | others


def test_what_the_wheel_requires_is_here(built) -> None:
    """As `pip check` has it; RecBole itself is not asked what it requires (docs/compatibility.md)."""
    from importlib import metadata

    with zipfile.ZipFile(built["wheel"]) as wheel:
        (name,) = (name for name in wheel.namelist() if name.endswith(".dist-info/METADATA"))
        declared = Parser().parsestr(wheel.read(name).decode())
    required = [Requirement(line) for line in declared.get_all("Requires-Dist") or ()]
    needed = [line for line in required if not line.marker or line.marker.evaluate({**default_environment(), "extra": ""})]
    assert len(needed) >= 10
    for requirement in needed:
        assert requirement.specifier.contains(Version(metadata.version(requirement.name)).base_version), str(requirement)


def test_the_installed_wheel_does_the_main_job_from_another_folder(built, tmp_path) -> None:
    installed, elsewhere = tmp_path / "installed", tmp_path / "elsewhere"
    elsewhere.mkdir()
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps", "--target", str(installed)]
    subprocess.run([*pip, str(built["wheel"])], check=True)
    settings = {**toy_settings(write_toy(tmp_path / "data"), tmp_path / "saved"), "epochs": 1, "teachers": ["BPR"]}
    command = [str(installed / "bin" / "hetcomp"), "--model=HetCompStudent", "--dataset=toy"]
    command += [f"--{key}={value}" for key, value in settings.items()]
    environment = {**os.environ, "PYTHONPATH": str(installed)}
    done = subprocess.run(command, cwd=elsewhere, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "HetCompStudent (MF)" in (tmp_path / "saved" / "comparison.md").read_text(encoding="utf-8")
    where = [sys.executable, "-c", "import recbole_hetcomp; print(recbole_hetcomp.__file__)"]
    done = subprocess.run(where, cwd=elsewhere, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.startswith(str(installed))


# --- the versions that are tested --------------------------------------------------------------------------------------

LOCKED = {"python_version": "3.11", "python_full_version": "3.11.7", "sys_platform": "linux", "platform_machine": "x86_64"}


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def test_the_lock_has_the_versions_of_the_constraints_each_with_hashes() -> None:
    text = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    entries = re.findall(r"^(\S+)==(\S+) \\\n((?:    --hash=sha256:[0-9a-f]{64}(?: \\)?\n)+)", text, re.M)
    rest = re.sub(r"^(\S+)==(\S+) \\\n((?:    --hash=sha256:[0-9a-f]{64}(?: \\)?\n)+)", "", text, flags=re.M)
    assert all(line.startswith("#") for line in rest.splitlines()), "each line is a version with hashes"
    locked = {canonical(name): Version(version).public for name, version, _ in entries}
    assert len(locked) == len(entries) > 60
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = [Requirement(line) for line in lines if line and not line.startswith("#")]
    here = [pin for pin in pins if not pin.marker or pin.marker.evaluate({**default_environment(), **LOCKED})]
    constrained = {canonical(pin.name): str(pin.specifier).removeprefix("==") for pin in here}
    assert len(constrained) > 25
    assert {name: locked.get(name) for name in constrained} == constrained


def test_the_lock_has_all_that_setup_py_requires(monkeypatch) -> None:
    declared: dict[str, Any] = {}
    monkeypatch.setattr(setuptools, "setup", declared.update)
    monkeypatch.chdir(ROOT)
    runpy.run_path(str(ROOT / "setup.py"))
    extras = declared["extras_require"]
    installed = (declared["install_requires"], *(extras[name] for name in ("dev", "tune", "export")))
    required = [Requirement(line) for lines in installed for line in lines]
    text = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    locked = {canonical(name): version for name, version in re.findall(r"^(\S+)==(\S+) ", text, re.M)}
    for requirement in required:
        if not requirement.marker or requirement.marker.evaluate({**default_environment(), **LOCKED}):
            assert requirement.specifier.contains(Version(locked[canonical(requirement.name)]).public), str(requirement)
