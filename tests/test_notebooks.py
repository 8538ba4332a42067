"""The notebooks of docs/ run from their first cell to their last, with what is installed, and say what they say.

Their trainings are shortened: a minute here and there is little to a reader, and much to a suite of tests.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "docs" / "notebooks").glob("*.ipynb"))
LONGEST = 600  # seconds
LAST = '    "show_progress": False,\n}\n'  # of the settings of each
SHORT = {"epochs": 4, "eval_step": 2}
SHORTER = f"settings |= {dict(**SHORT, without_distillation_config=SHORT, teacher_config={'BPR': SHORT})}\n"


def code_of(notebook: Path) -> list[str]:
    """The code of each cell."""
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    return ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs(notebook, tmp_path) -> None:
    program = tmp_path / "cells.py"
    code = "\n\n".join(code_of(notebook))
    assert code.count(LAST) == 1
    program.write_text(code.replace(LAST, LAST + SHORTER), encoding="utf-8")
    done = subprocess.run(
        [sys.executable, program], cwd=tmp_path, capture_output=True, text=True, timeout=LONGEST, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_was_saved_with_what_it_shows(notebook) -> None:
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    outputs = [output for cell in cells if cell["cell_type"] == "code" for output in cell["outputs"]]
    assert outputs
    assert not [output for output in outputs if output["output_type"] == "error"]
    assert "/" + "root" not in json.dumps(outputs)
