"""The package's own rules: imports run one way, every method has its files, nothing is read that could run code."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
import yaml

import recbole_hetcomp
from recbole_hetcomp.config.registry import properties_dir

PACKAGE = Path(recbole_hetcomp.__file__).parent
TESTS = Path(__file__).parent
MODULES = {path.relative_to(PACKAGE).as_posix(): path for path in sorted(PACKAGE.rglob("*.py"))}
KINDS = tuple(f"{kind}_recommender" for kind in ("distilled", "general", "sequential", "context_aware"))
METHODS = sorted(path for kind in KINDS for path in (PACKAGE / "model" / kind).glob("*.py") if path.stem != "__init__")

PURE = {"numpy", "scipy", "torch", "typing", "collections", "dataclasses", "functools", "math", "__future__"}
# Each package imports only those above it. `compat` stands beside: it repairs RecBole before anything else is imported.
FLOORS = (
    ("config",),
    ("console",),
    ("files",),
    ("knowledge", "losses"),
    ("data",),
    ("teachers",),
    ("model",),
    ("trainer",),
    ("teacher_training",),
    ("evaluation", "serving"),
    ("report",),
    ("commands",),
    ("usage",),
    ("looking_up",),
    ("cli", "quick_start", "split", "testing"),
)
ABOVE = {
    package: {above for floor in FLOORS[:height] for above in floor}
    for height, floor in enumerate(FLOORS)
    for package in floor
}
ABOVE |= {"knowledge": set(), "losses": {"knowledge"}, "compat": {"config", "files", "trainer"}, "": {"compat"}}


def imports(path: Path) -> list[str]:
    """The full name of what each import statement of a file brings in."""
    found: list[str] = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name} imports relatively; write the full name"
            found += [f"{node.module}.{alias.name}" for alias in node.names]
    return found


def package(name: str) -> str | None:
    """The package of ours that a full name belongs to, None where it is another project's."""
    parts = name.split(".")
    if parts[0] != "recbole_hetcomp":
        return None
    return parts[1] if len(parts) > 1 and parts[1] in ABOVE else ""


@pytest.mark.parametrize("path", MODULES)
def test_each_package_imports_only_those_above_it(path):
    own = path.removesuffix(".py").split("/")[0] if path != "__init__.py" else ""
    assert own in ABOVE, f"{own} has no place in FLOORS"
    for name in imports(MODULES[path]):
        assert package(name) in {None, own, *ABOVE[own]} or name == "recbole_hetcomp", f"{path} imports {name}"


@pytest.mark.parametrize("path", [path for path in MODULES if path.startswith("model/distilled_recommender/")])
def test_a_method_imports_no_other_method(path):
    """But for what is a sum of methods."""
    for name in imports(MODULES[path]):
        assert "distilled_recommender." not in name or name.endswith("compositestudent.CompositeStudent"), name


@pytest.mark.parametrize("path", [path for path in MODULES if path.split("/")[0] in ("knowledge", "losses")])
def test_the_papers_mathematics_needs_torch_numpy_and_scipy_alone(path):
    for name in imports(MODULES[path]):
        assert name.split(".")[0] in PURE or package(name) is not None, f"{path} imports {name}"


@pytest.mark.parametrize("path", MODULES)
def test_no_module_is_longer_than_250_lines(path):
    assert len(MODULES[path].read_text(encoding="utf-8").splitlines()) <= 250


@pytest.mark.parametrize("path", [path for path, file in MODULES.items() if file.stat().st_size])
def test_every_module_says_what_it_is_for(path):
    assert ast.get_docstring(ast.parse(MODULES[path].read_text(encoding="utf-8")))


@pytest.mark.parametrize("path", METHODS, ids=lambda path: path.stem)
def test_every_model_has_its_yaml_its_test_and_its_citation(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    classes = [node.name for node in tree.body if isinstance(node, ast.ClassDef) and node.name.lower() == path.stem]
    assert len(classes) == 1, "a model's file is its class in lower case"
    assert (properties_dir() / "model" / f"{classes[0]}.yaml").is_file()
    assert (TESTS / "model" / f"test_{path.stem}.py").is_file()
    docstring = ast.get_docstring(tree) or ""
    assert "http" in docstring, "the citation with an address"
    assert "Source:" in docstring or "Reference" in docstring or "WWW" in docstring


@pytest.mark.parametrize("path", sorted(properties_dir().glob("model/*.yaml")), ids=lambda path: path.stem)
def test_every_yaml_of_a_model_belongs_to_a_model(path):
    assert any((PACKAGE / "model" / kind / f"{path.stem.lower()}.py").is_file() for kind in KINDS)


SETTINGS = [
    path for path in sorted(properties_dir().rglob("*.yaml")) if path.parent.name not in ("dataset", "presets", "space")
]


@pytest.mark.parametrize("path", sorted(properties_dir().glob("presets/*.yaml")), ids=lambda path: path.stem)
def test_every_key_of_a_preset_is_a_setting(path):
    keys = set().union(
        *(yaml.safe_load(file.read_text(encoding="utf-8")) for file in SETTINGS if file.parent.name != "teacher")
    )
    preset = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert set(preset) - keys <= {"model", "dataset", "show_progress", "train_neg_sample_args"}  # RecBole's


RUNS_CODE = {"eval", "exec", "compile", "__import__"}
PICKLES = ("pickle", "dill", "marshal", "shelve")
READERS = {"files/restricted.py"}


@pytest.mark.parametrize("path", MODULES)
def test_nothing_is_read_that_could_run_code(path):
    for node in ast.walk(ast.parse(MODULES[path].read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call):
            function = node.func
            assert not (isinstance(function, ast.Name) and function.id in RUNS_CODE), ast.unparse(node)
            name = ast.unparse(function)
            assert name not in ("yaml.unsafe_load", "yaml.full_load", "os.system"), name
            if name in ("pickle.load", "pickle.loads", "dill.load", "joblib.load"):
                pytest.fail(f"{path}: {name}")
            if name == "torch.load":
                safe = {word.arg: ast.unparse(word.value) for word in node.keywords}
                assert safe.get("weights_only") == "True" or (path in READERS and safe.get("pickle_module") == "reader")
        if isinstance(node, ast.ImportFrom) and node.module == "joblib":  # its processes, not its files
            assert not {alias.name for alias in node.names} & {"load", "Memory"}
    if path not in READERS:
        assert not {name.split(".")[0] for name in imports(MODULES[path])} & set(PICKLES)
