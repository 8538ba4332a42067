"""docs/adding_a_method.md is followed literally: its file, its yaml, and a run."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import recbole_hetcomp.model.distilled_recommender as home
from recbole_hetcomp.config import config, registry
from recbole_hetcomp.quick_start import run_hetcomp

PAGE = Path(__file__).parents[1] / "docs" / "adding_a_method.md"


def test_the_page_adds_a_method(tmp_path: Path, settings: dict, monkeypatch: pytest.MonkeyPatch) -> None:
    page = PAGE.read_text(encoding="utf-8")
    (name,) = re.findall(r"`properties/model/(\w+)\.yaml`", page)
    (code,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    (yaml,) = re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)
    added = tmp_path / "added"
    (added / "model").mkdir(parents=True)
    for source in [*registry.properties_dir().glob("*.yaml"), *registry.properties_dir().glob("model/*.yaml")]:
        (added / source.relative_to(registry.properties_dir())).write_text(source.read_text(encoding="utf-8"))
    (added / f"{name.lower()}.py").write_text(code)
    (added / "model" / f"{name}.yaml").write_text(yaml)
    monkeypatch.setattr(home, "__path__", [*home.__path__, str(added)])
    for module in (registry, config):
        monkeypatch.setattr(module, "properties_dir", lambda: added)
    teachers = {"teachers": ["BPR"], "teacher_config": {"all": {"epochs": 20, "learning_rate": 0.05}}}
    training = {"epochs": 40, "eval_step": 10, "learning_rate": 0.05, "train_batch_size": 64}
    result = run_hetcomp(name, config_dict={**settings, **teachers, **training}, dataset="toy")
    alone, taught = result["comparison"][-2:]
    assert taught["role"] == "student"
    assert taught["fidelity"] > alone["fidelity"]  # it has learnt from the teacher; plain training has not
