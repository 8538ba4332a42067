"""`tune-teachers` of context-aware models: a space for each shipped one, and what is found is used by the next run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from recbole_hetcomp.quick_start import run_hetcomp, tune_teachers
from recbole_hetcomp.teacher_training.configs import teacher_config
from recbole_hetcomp.teacher_training.space import space_of

SEARCHED = ["AutoInt", "DAGFM", "DCNV2", "DeepFM", "FM", "xDeepFM"]


@pytest.mark.parametrize("model", SEARCHED)
def test_the_settings_that_hold_without_a_search_lie_in_the_space(clicks_config, model):
    own = teacher_config(clicks_config("KDDAGFMStudent", teachers=[model], teacher_config={}), model)
    space = space_of(own)
    assert {"learning_rate", "weight_decay", "train_batch_size"} <= set(space)
    assert all(part.number(own[key]) is not None for key, part in space.items())


def test_what_a_search_found_is_used_by_the_next_run(clicks):
    pytest.importorskip("optuna")
    settings = {**clicks, "teachers": ["FM"], "teacher_config": {"all": {"epochs": 2}}, "student": "FM", "epochs": 2}
    settings = {key: value for key, value in settings.items() if key not in ("learning_rate", "train_batch_size")}
    settings |= {"weight_decay": 0.0, "distil_epochs": 1}
    found = tune_teachers("KDDAGFMStudent", "clicks", config_dict={**settings, "tune": 2})
    assert set(found) == {"teacher FM", "FM without distillation"}
    assert all(0 < result["score"] <= 1 for result in found.values())
    settings["without_distillation"] = True
    rows = run_hetcomp("KDDAGFMStudent", "clicks", config_dict=settings, arguments=())["comparison"]
    assert rows[0]["trials"] == 2
    kept = [json.loads(path.read_text())["settings"] for path in Path("saved/trained").glob("FM-*/record.json")]
    wanted = found["teacher FM"]["settings"]
    assert any(all(of[key] == value for key, value in wanted.items()) for of in kept)
