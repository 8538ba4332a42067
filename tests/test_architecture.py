"""The package's own rules: imports run one way, every method has its files, nothing is read that could run code."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
import yaml

import recbole_hetcomp
from recbole_hetcomp.registry import properties_dir

PACKAGE = Path(recbole_hetcomp.__file__).parent
TESTS = Path(__file__).parent
MODULES = {path.relative_to(PACKAGE).as_posix(): path for path in sorted(PACKAGE.rglob("*.py"))}
METHODS = sorted(path for path in (PACKAGE / "model" / "general_recommender").glob("*.py") if path.stem != "__init__")

PURE = {"numpy", "scipy", "torch", "typing", "collections", "dataclasses", "functools", "math", "__future__"}
# module or room -> the modules and rooms of this package that it may import; from top to bottom, as the data flow
MAY_IMPORT = {
    "": {"compat"},
    "errors": set(),
    "history": set(),
    "compat": {"trainer.checkpoint"},
    "knowledge": set(),
    "losses": {"knowledge"},
    "registry": {"errors"},
    "trainer.restricted": set(),
    "trainer.checkpoint": {"trainer.restricted"},
    "trainer.random_state": set(),
    "trainer.entity_batches": set(),
    "trainer.parallel": {"errors"},
    "teachers.trajectory": {"errors"},
    "teachers.ranking": {"history"},
    "teachers.pool": {"errors", "teachers.ranking", "teachers.trajectory"},
    "teachers.ensemble": {"history", "knowledge", "teachers.pool"},
    "teachers.single": {"history", "knowledge", "teachers.ensemble", "teachers.pool"},
    "teachers.item_lists": {"history", "teachers.ranking", "teachers.single"},
    "teachers": {"teachers.pool", "teachers.trajectory"},
    "model.target_lists": {"errors", "knowledge", "teachers.ensemble", "teachers.pool"},
    "transfer": set(),
    "model.batch": {"transfer"},
    "model.backbone": {"losses"},
    "model.student": {
        "errors",
        "history",
        "losses",
        "model.backbone",
        "model.batch",
        "model.target_lists",
        "registry",
        "teachers.pool",
        "teachers.ranking",
        "transfer",
    },
    "model.projectors": {"knowledge", "transfer"},
    "model.pairwise": set(),
    "model.embedding_student": {
        "knowledge",
        "model.batch",
        "model.student",
        "teachers.pool",
        "teachers.single",
        "transfer",
    },
    "model.general_recommender": {
        "errors",
        "history",
        "knowledge",
        "losses",
        "model.backbone",
        "model.batch",
        "model.embedding_student",
        "model.pairwise",
        "model.projectors",
        "model.student",
        "registry",
        "teachers.item_lists",
        "teachers.pool",
        "teachers.single",
        "teachers.trajectory",
        "transfer",
    },
    "config": {"errors", "model.student", "registry"},
    "split": {"config", "errors", "history"},
    "teachers.lists": {"errors", "history", "split", "teachers.trajectory"},
    "teachers.recorder": {"teachers.trajectory", "trainer.checkpoint"},
    "teachers.cache": {"config", "errors", "teachers.ranking", "teachers.recorder", "trainer.parallel"},
    "settings": {"errors"},
    "trainer.processes": {"errors", "model.student", "trainer.parallel"},
    "trainer.distillation": {
        "errors",
        "model.student",
        "model.target_lists",
        "teachers.ranking",
        "trainer.checkpoint",
        "trainer.entity_batches",
        "trainer.parallel",
        "trainer.random_state",
    },
    "teachers.training": {
        "config",
        "errors",
        "model.student",
        "registry",
        "settings",
        "split",
        "teachers.cache",
        "teachers.lists",
        "teachers.pool",
        "teachers.ranking",
        "teachers.recorder",
        "teachers.side_by_side",
        "teachers.trajectory",
        "trainer.checkpoint",
        "trainer.parallel",
    },
    "teachers.side_by_side": {"config", "errors"},
    "evaluation": {"config", "history", "knowledge", "split", "teachers"},
    "pipeline": {
        "config",
        "errors",
        "evaluation",
        "losses.lookup",
        "model",
        "registry",
        "settings",
        "split",
        "teachers",
        "trainer",
    },
    "serving": {"config", "errors", "history", "split", "teachers.ranking", "trainer.checkpoint"},
    "benchmark": {"config", "errors", "evaluation", "pipeline", "split", "teachers.cache", "teachers.training"},
    "tuning": {"config", "errors", "pipeline"},
    "quick_start": {"benchmark", "pipeline", "serving", "tuning"},
    "cli": {
        "benchmark",
        "config",
        "errors",
        "pipeline",
        "serving",
        "trainer.checkpoint",
        "trainer.processes",
        "tuning",
    },
}
# Imports inside a function, of what stands further down; each has a reason, which the code gives.
DEFERRED = {
    ("registry", "model.student"),
    ("registry", "trainer.distillation"),
    ("registry", "trainer.entity_batches"),
}


def dotted(path: str) -> str:
    return path.removesuffix(".py").removesuffix("__init__").replace("/", ".").strip(".")


def room(name: str) -> str:
    """The row of the table for a module: its own, or the nearest one above it."""
    while name not in MAY_IMPORT:
        assert "." in name, f"{name} has no row in the table; add one, with what it may import"
        name = name.rpartition(".")[0]
    return name


def imports(path: Path) -> list[tuple[str, bool]]:
    """(full name of what is imported, whether inside a function) of every import statement that runs."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    inner = {
        id(node)
        for function in ast.walk(tree)
        if isinstance(function, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))
        for node in ast.walk(function)
    }
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [(alias.name, id(node) in inner) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name} imports relatively; write the full name"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            modules = [name if is_module(name) else str(node.module) for name in names]
            found += [(name, id(node) in inner) for name in dict.fromkeys(modules)]
    return found


def is_module(name: str) -> bool:
    relative = name.removeprefix("recbole_hetcomp.").replace(".", "/")
    return f"{relative}.py" in MODULES or f"{relative}/__init__.py" in MODULES


def own(name: str) -> str | None:
    """The name inside this package, None for other packages'."""
    if name == "recbole_hetcomp":
        return ""
    return name.removeprefix("recbole_hetcomp.") if name.startswith("recbole_hetcomp.") else None


def allowed(importer: str, imported: str) -> bool:
    own_room = room(importer)
    if imported == own_room or (own_room and imported.startswith(f"{own_room}.") and room(imported) == own_room):
        return True
    return any(imported == name or (name and imported.startswith(f"{name}.")) for name in MAY_IMPORT[own_room])


@pytest.mark.parametrize("path", MODULES)
def test_imports_run_one_way(path):
    importer = dotted(path)
    for name, deferred in imports(MODULES[path]):
        imported = own(name)
        if imported is None or (deferred and (importer, imported) in DEFERRED):
            continue
        assert allowed(importer, imported), f"{importer} imports {imported}; see DEFERRED and MAY_IMPORT"


def test_the_table_itself_runs_one_way():
    """No row reaches itself through the rows that it may import."""

    def reach(name: str) -> set[str]:
        direct = {row for row in MAY_IMPORT for target in MAY_IMPORT[name] if row == target or row.startswith(f"{target}.")}
        return direct - ({name} if name in MAY_IMPORT[name] else set())

    done: set[str] = set()
    order = list(MAY_IMPORT)
    while order:
        free = [name for name in order if reach(name) <= done]
        assert free, f"a circle among {order}"
        done |= set(free)
        order = [name for name in order if name not in done]


def test_every_row_of_the_table_has_modules_and_every_edge_is_used():
    """Else the table would allow more than the code needs, and a new backward edge could slip in."""
    seen = {(room(dotted(path)), own(name)) for path, file in MODULES.items() for name, _ in imports(file)}
    for name, targets in MAY_IMPORT.items():
        for target in targets:
            used = any(
                importer == name and imported is not None and (imported == target or imported.startswith(f"{target}."))
                for importer, imported in seen
            )
            assert used, f"{name} no longer imports {target}: take it out of the table"
    for importer, imported in DEFERRED:
        assert (room(importer), imported) in seen


@pytest.mark.parametrize("path", [path for path in MODULES if path.split("/")[0] in ("knowledge", "losses")])
def test_the_papers_mathematics_needs_torch_numpy_and_scipy_alone(path):
    for name, _ in imports(MODULES[path]):
        assert name.split(".")[0] in PURE or own(name) is not None, f"{path} imports {name}"


@pytest.mark.parametrize("path", MODULES)
def test_no_module_is_longer_than_300_lines(path):
    assert len(MODULES[path].read_text(encoding="utf-8").splitlines()) <= 300


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
    assert (PACKAGE / "model" / "general_recommender" / f"{path.stem.lower()}.py").is_file()


SETTINGS = [path for path in sorted(properties_dir().rglob("*.yaml")) if path.parent.name != "presets"]


@pytest.mark.parametrize("path", SETTINGS, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_every_setting_has_its_type_and_its_meaning(path):
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.strip() and not line.startswith("#"):
            meaning = line.partition("# (")[2]
            kind, closed, words = meaning.partition(")")
            assert kind in ("int", "float", "str", "bool", "dict", "list", "list of int"), line
            assert closed, line
            assert len(words.split()) >= 2, line


@pytest.mark.parametrize("path", sorted(properties_dir().glob("presets/*.yaml")), ids=lambda path: path.stem)
def test_every_key_of_a_preset_is_a_setting(path):
    keys = set().union(
        *(yaml.safe_load(file.read_text(encoding="utf-8")) for file in SETTINGS if file.parent.name != "teacher")
    )
    preset = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert set(preset) - keys <= {"model", "dataset", "show_progress", "train_neg_sample_args"}  # RecBole's


RUNS_CODE = {"eval", "exec", "compile", "__import__"}
PICKLES = ("pickle", "dill", "marshal", "shelve")
READERS = {"trainer/restricted.py", "trainer/checkpoint.py"}


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
        assert not {name.split(".")[0] for name, _ in imports(MODULES[path])} & set(PICKLES)
