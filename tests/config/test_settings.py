"""Settings out of range are named before anything is read or trained."""

from __future__ import annotations

import re

import pytest

from recbole_hetcomp.commands.pipeline import check
from recbole_hetcomp.config import Config
from recbole_hetcomp.config.errors import UserError
from recbole_hetcomp.config.registry import properties_dir
from recbole_hetcomp.config.settings import RANGES, check_settings

BAD = {
    "consistency_window": 0,
    "n_targets": 1.5,
    "n_observed": True,
    "embedding_size": 0,
    "trajectory_depth": 0,
    "importance_cutoff": -1,
    "importance_temperature": "x",
    "max_block_mb": "x",
    "score_clamp": 0,
    "teacher_weighting": None,
    "base_loss_weight": "x",
    "fine_weights": ["a", "b"],
    "trajectory_fractions": 0.5,
    "teacher_config": 3,
    "split_seed": "x",
}


@pytest.mark.parametrize("key", BAD)
def test_a_value_out_of_range_is_one_sentence_with_setting_and_value(key: str) -> None:
    with pytest.raises(UserError, match=f"^{key}: .* must be ") as caught:
        check_settings({key: BAD[key]})
    assert repr(BAD[key]) in str(caught.value)


KINDS = {"int": (-1, 1.5, "x", True), "float": (-0.5, "x", True), "bool": ("x", 1)}  # what none of the kind takes


def numbers_of_methods() -> list[tuple[str, str, str]]:
    """(method, setting, kind) of every whole number, number and truth value in the methods' own yaml files."""
    found = []
    for path in sorted(properties_dir().glob("model/*Student.yaml")):
        for line in path.read_text(encoding="utf-8").splitlines():
            read = re.match(r"(\w+): (\S+) +# \((int|float|bool)\)", line)
            if read and read[2] != "~":
                found.append((path.stem, read[1], read[3]))
    return found


@pytest.mark.parametrize(("method", "key", "kind"), numbers_of_methods())
def test_every_methods_numbers_are_checked_before_any_work(method: str, key: str, kind: str) -> None:
    for value in KINDS[kind]:
        if key in ("label_shift", "eval_step") and (value == -1 or value == -0.5 or value is True):
            continue  # may be negative; RecBole's own may be True
        with pytest.raises(UserError, match=f"^{key}: {re.escape(repr(value))} must be "):
            check_settings({"distillation_weight": 1.0, key: value})


@pytest.mark.parametrize("method", sorted({method for method, _, _ in numbers_of_methods()}))
def test_the_defaults_of_every_method_are_in_range(make_config, method: str) -> None:
    check_settings(make_config(method))


def test_the_defaults_are_in_range_and_every_row_speaks_of_real_settings(make_config) -> None:
    config = make_config("HetCompStudent")
    check_settings(config)
    assert {key for _, _, keys in RANGES for key in keys} <= set(config.final_config_dict)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"topk": [5]}, "valid_metric: 'Recall@50' is not measured by metrics and topk; choose one of Recall@5, NDCG@5"),
        (
            {"metrics": ["MRR"]},
            "valid_metric: 'Recall@50' is not measured by metrics and topk; choose one of MRR@10, MRR@50",
        ),
        ({"teacher_config": {"all": {"epochs": "x"}}}, "epochs: 'x' must be a whole number"),
        ({"without_distillation_config": {"epochs": "x"}}, "epochs: 'x' must be a whole number"),
    ],
)
def test_what_would_fail_in_the_middle_of_a_run_is_refused_before_it(settings, given, message) -> None:
    ours = {**settings, "valid_metric": "Recall@50", "metrics": ["Recall", "NDCG"], "topk": [10, 50], **given}
    ours["without_distillation"] = True
    with pytest.raises(UserError, match=re.escape(message)):
        check(Config("HetCompStudent", "toy", config_dict=ours, arguments=()))


def test_a_misspelt_setting_of_the_student_alone_is_named(settings, caplog) -> None:
    ours = {**settings, "without_distillation": True, "without_distillation_config": {"epohs": 1}}
    with pytest.raises(UserError, match=r"without_distillation_config: epohs: nothing reads .* did you mean 'epochs'"):
        check(Config("HetCompStudent", "toy", config_dict=ours, arguments=()))
    ours["without_distillation_config"] = {"xyzzyx": 1}  # near nothing: it may be meant for another model
    check(Config("HetCompStudent", "toy", config_dict=ours, arguments=()))
    assert "unknown setting 'xyzzyx' from without_distillation_config is not used" in caplog.text
