"""RecBole's whole source, searched for what runs code, unpickles, starts a program or downloads.

Each such reference is closed by a row of the table of repairs, or is listed here as harmless with the reason. What happens
with files and settings that would run something is in tests/test_untrusted.py.
"""

from __future__ import annotations

import ast
import builtins
import importlib
from collections import Counter
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import recbole
import yaml
from recbole.config import Config

from recbole_hetcomp import compat
from recbole_hetcomp.compat.replacing import is_stock

ROOT = Path(recbole.__file__).parent


class Reference(NamedTuple):
    """Where a function that may run something is named: module, the function around it, its full name."""

    module: str
    function: str
    name: str


RUNS = {"eval", "exec", "compile", "__import__", "__builtins__", "os.system", "os.popen", "os.startfile"}
RUNS |= {"importlib.import_module", "importlib.__import__", "importlib.util.spec_from_file_location"}
RUNS |= {"joblib.load", "torch.load", "torch.jit.load", "torch.package.PackageImporter", "numpy.load"}
RUNS |= {"numpy.lib.format.read_array", "pandas.read_pickle", "pandas.read_hdf", "pandas.eval", "yaml.load", "yaml.load_all"}
RUNS |= {"yaml.full_load", "yaml.full_load_all", "yaml.FullLoader", "yaml.Loader", "yaml.UnsafeLoader"}
ALL_OF = ("builtins.", "pickle.", "_pickle.", "dill.", "cloudpickle.", "marshal.", "shelve.", "runpy.", "code.", "imp.")
ALL_OF += ("subprocess.", "pty.", "ctypes.", "os.exec", "os.spawn", "os.posix_spawn", "torch.hub.", "yaml.unsafe_load")
ALL_OF += ("urllib.request.", "urllib3.", "requests.", "http.client.", "ftplib.", "socket.")
WRITES = {"pickle.dump", "pickle.dumps", "pickle.HIGHEST_PROTOCOL"}


class Search(ast.NodeVisitor):
    """Finds the references in one module, by whatever name it imports a function and whether it calls it or hands it on."""

    def __init__(self, module: str, source: str) -> None:
        self.module, self.found = module, list[Reference]()
        self.scope, self.names = list[str](), dict[str, str]()
        tree = ast.parse(source)
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                for alias in node.names:
                    top = alias.name.partition(".")[0]
                    self.names[alias.asname or top] = alias.name if alias.asname else top
            elif isinstance(node, ast.ImportFrom) and not node.level:
                self.names.update((alias.asname or alias.name, f"{node.module}.{alias.name}") for alias in node.names)
        self.visit(tree)

    def visit_scope(self, node: Any) -> None:
        self.scope.append(node.name)
        self.generic_visit(node)
        self.scope.pop()

    visit_ClassDef = visit_FunctionDef = visit_AsyncFunctionDef = visit_scope  # noqa: N815

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        if any(alias.name == "*" for alias in node.names):
            self.note(f"{node.module}.*")

    def visit_Name(self, node: ast.Name) -> None:
        self.note(self.names.get(node.id, node.id))

    def visit_Attribute(self, node: ast.Attribute) -> None:
        root, *rest = ast.unparse(node).split(".")
        if root.isidentifier():
            self.note(".".join([self.names.get(root, root), *rest]))
        self.generic_visit(node)

    def note(self, name: str) -> None:
        if (name in RUNS or name.startswith(ALL_OF)) and name not in WRITES:
            self.found.append(Reference(self.module, ".".join(self.scope), name))


@cache
def found_in_recbole() -> list[Reference]:
    files = {path.relative_to(ROOT).as_posix(): path for path in sorted(ROOT.rglob("*.py"))}
    return [found for name, path in files.items() for found in Search(name, path.read_text(encoding="utf-8")).found]


GENERAL, CONTEXT = "model/general_recommender", "model/context_aware_recommender"
# By the row of the table that closes it; what stands twice in a function stands twice here.
CLOSED = {
    "evaluate": [("trainer/trainer.py", "Trainer.evaluate", "torch.load")],
    "resume": [("trainer/trainer.py", "Trainer.resume_checkpoint", "torch.load")],
    "pretrained": [
        (f"{CONTEXT}/kd_dagfm.py", "KD_DAGFM.__init__", "torch.load"),
        (f"{GENERAL}/convncf.py", "ConvNCF.__init__", "torch.load"),
        (f"{GENERAL}/nais.py", "NAIS._load_pretrain", "torch.load"),
        *[(f"{GENERAL}/neumf.py", "NeuMF.load_pretrain", "torch.load")] * 2,
        *[(f"{GENERAL}/ract.py", "RaCT.__init__", "torch.load")] * 2,
        ("model/sequential_recommender/s3rec.py", "S3Rec.__init__", "torch.load"),
    ],
    "load_data_and_model": [("quick_start/quick_start.py", "load_data_and_model", "torch.load")],
    "saved_data": [
        ("data/utils.py", "create_dataset", "pickle.load"),
        ("data/utils.py", "load_split_dataloaders", "pickle.load"),
    ],
    "item_embeddings": [(f"{GENERAL}/ldiffrec.py", "LDiffRec.__init__", "numpy.load")],
    "teacher_network": [(f"{CONTEXT}/kd_dagfm.py", "KD_DAGFM.__init__", "eval")],
    "settings": [
        ("config/configurator.py", "Config._convert_config_dict", "eval"),
        ("trainer/hyper_tuning.py", "HyperTuning._build_space_from_file", "eval"),
    ],
    "yaml_loader": [
        ("config/configurator.py", "Config._build_yaml_loader", "yaml.FullLoader"),
        ("config/configurator.py", "Config._load_config_files", "yaml.load"),
        ("config/configurator.py", "Config._update_internal_config_dict", "yaml.load"),
        ("data/dataset/dataset.py", "Dataset._get_download_url", "yaml.load"),
    ],
}
HARMLESS = {
    "it imports recbole.data.dataset, whatever the settings say": [
        ("data/utils.py", "create_dataset", "importlib.import_module"),
    ],
    "it imports recbole.trainer, whatever the settings say": [
        ("utils/utils.py", "get_trainer", "importlib.import_module"),
    ]
    * 4,
    "it imports a module of recbole.model alone: the setting is the last part of its name": [
        ("utils/utils.py", "get_model", "importlib.import_module"),
    ],
    "it imports the installed library of a fixed name": [
        ("trainer/trainer.py", "XGBoostTrainer.__init__", "__import__"),
        ("trainer/trainer.py", "LightGBMTrainer.__init__", "__import__"),
    ],
    "addresses are those of RecBole's own url.yaml and kg_url.yaml; what arrives is unpacked and read as text": [
        ("utils/url.py", "decide_download", "urllib.request.urlopen"),
        ("utils/url.py", "download_url", "urllib.request.urlopen"),
    ],
}


def listed() -> Counter[tuple[str, str, str]]:
    return Counter(line for lines in (*CLOSED.values(), *HARMLESS.values()) for line in lines)


def test_everything_in_recbole_that_may_run_something_is_closed_or_known_to_be_harmless() -> None:
    found = Counter(found_in_recbole())
    assert found - listed() == Counter(), "neither closed nor listed"
    assert listed() - found == Counter(), "listed, but RecBole has it no longer"


@pytest.mark.parametrize("row", CLOSED)
def test_the_rows_that_close_are_applied(row) -> None:
    assert compat.install()[row] == "applied"


@pytest.mark.parametrize("line", [line for lines in CLOSED.values() for line in dict.fromkeys(lines)], ids=str)
def test_what_is_closed_is_out_of_reach(line) -> None:
    """The function has been replaced, or what it finds by the dangerous name is another function."""
    path, function, name = line
    module = importlib.import_module(f"recbole.{path.removesuffix('.py').replace('/', '.')}")
    if name.startswith("yaml."):  # the loader decides what yaml.load does
        assert issubclass(Config._build_yaml_loader(object.__new__(Config)), yaml.SafeLoader)
        return
    owner: Any = module
    for part in function.split("."):
        owner = vars(owner)[part]
    if is_stock(getattr(owner, "__func__", owner)):
        top, _, attribute = name.rpartition(".")
        holder = vars(module)[{"numpy": "np"}.get(top, top)] if top else module
        stock = getattr(importlib.import_module(top), attribute) if top else vars(builtins)[attribute]
        assert getattr(holder, attribute) is not stock


# --- the search itself ----------------------------------------------------------------------------------------------

NEW = {
    "value = eval(config['x'])": "eval",
    "values = list(map(eval, texts))": "eval",
    "exec(config['x'])": "exec",
    "import builtins\nbuiltins.exec(text)": "builtins.exec",
    "__import__(config['library'])": "__import__",
    "from importlib import import_module as load\nload(config['module'])": "importlib.import_module",
    "import importlib\ngetattr(importlib.import_module(name), cls)": "importlib.import_module",
    "import pickle as p\np.load(file)": "pickle.load",
    "from pickle import loads\nloads(text)": "pickle.loads",
    "import pickle\npickle.Unpickler(file).load()": "pickle.Unpickler",
    "from pickle import *\nload(file)": "pickle.*",
    "import numpy\nnumpy.load(path, allow_pickle=True)": "numpy.load",
    "import numpy as np\nread = np.load": "numpy.load",
    "from functools import partial\nimport torch as t\nread = partial(t.load, map_location='cpu')": "torch.load",
    "import torch\ntorch.hub.load('a/b', 'c')": "torch.hub.load",
    "import yaml\nyaml.load(text, Loader=yaml.Loader)": "yaml.Loader",
    "import yaml\nyaml.unsafe_load(text)": "yaml.unsafe_load",
    "import pandas as pd\npd.read_pickle(path)": "pandas.read_pickle",
    "import joblib\njoblib.load(path)": "joblib.load",
    "import os\nos.system('ls')": "os.system",
    "from os import popen\npopen('ls')": "os.popen",
    "import os\nos.execvp('ls', [])": "os.execvp",
    "from subprocess import run\nrun(['ls'])": "subprocess.run",
    "import subprocess as sp\nsp.Popen(['ls']).communicate()": "subprocess.Popen",
    "import urllib.request\nurllib.request.urlretrieve(url)": "urllib.request.urlretrieve",
    "import urllib.request as ur\nur.urlopen(url).read()": "urllib.request.urlopen",
    "import requests\nrequests.get(url)": "requests.get",
    "import marshal\nmarshal.loads(text)": "marshal.loads",
}


@pytest.mark.parametrize("source", NEW)
def test_a_new_reference_is_found_and_not_excused(source) -> None:
    body = "\n        ".join(source.splitlines())
    found = Search("model/new.py", f"class New:\n    def read(self):\n        {body}\n").found
    assert Reference("model/new.py", "New.read", NEW[source]) in found
    assert Counter(found) - listed() == Counter(found)


def test_one_more_of_what_a_function_has_already_is_found() -> None:
    more = Counter([*found_in_recbole(), Reference(f"{GENERAL}/ldiffrec.py", "LDiffRec.__init__", "numpy.load")])
    assert sum((more - listed()).values()) == 1


@pytest.mark.parametrize(
    "source",
    [
        "self.model.eval()",
        "import re\nre.compile('x')",
        "import yaml\nyaml.safe_load(text)",
        "import pickle\npickle.dump(self, file)",
        "import torch\ntorch.save(state, path)",
        "self.load(path)",
        "import json\njson.load(file)",
    ],
)
def test_what_runs_nothing_is_not_found(source) -> None:
    assert Search("model/new.py", source).found == []
