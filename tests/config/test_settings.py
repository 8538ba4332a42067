"""Settings out of range are named before anything is read or trained."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from recbole_hetcomp.commands.checks import check
from recbole_hetcomp.config import Config
from recbole_hetcomp.config.declarations import declarations_in
from recbole_hetcomp.config.errors import UserError
from recbole_hetcomp.config.registry import properties_dir
from recbole_hetcomp.config.settings import check_settings
from recbole_hetcomp.testing import wrong_values

FILES = [
    path for path in sorted(properties_dir().rglob("*.yaml")) if path.parent.name not in ("dataset", "presets", "space")
]


def model_of(path: Path) -> str:
    """A model that a yaml file holds for."""
    if path.parent.name in ("model", "teacher"):
        return path.stem
    return "KDDAGFMStudent" if path.stem.startswith("context") else "HetCompStudent"


def family_of(path: Path) -> dict[str, object]:
    """Settings under which the file is read."""
    if path.parent.name == "student":
        return {"student": path.stem}
    return {"in_sequential_run": True} if path.stem.startswith("sequential") else {}


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_every_setting_refuses_what_it_cannot_be_in_one_sentence(make_config, path: Path) -> None:
    config = make_config(model_of(path), **family_of(path))
    for key, declaration in declarations_in(path).items():
        default = config[key]
        for value in wrong_values(declaration.kind):
            config[key] = value
            with pytest.raises(UserError) as caught:
                check_settings(config, "somewhere: ")
            assert str(caught.value).startswith(f"somewhere: {key}: {value!r} ")
            assert "\n" not in str(caught.value)
        config[key] = default


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_every_default_is_what_its_setting_may_be(path: Path) -> None:
    config = Config(model_of(path), "toy", config_dict={"data_path": ".", **family_of(path)}, arguments=())
    check_settings(config)
    for key, default in config.read_yaml(path).items():
        declarations_in(path)[key].check(default)


def test_a_name_that_means_something_else_to_another_model_is_not_held_to_a_methods_words(make_config) -> None:
    with pytest.raises(UserError, match="guide: 'map' is none of student, teacher"):
        check_settings(make_config("CDStudent", guide="map"))
    with pytest.raises(UserError, match="distance: 'norm' is none of cosine, squared"):
        check_settings(make_config("FreqDStudent", distance="norm"))
    for model in ("BPR", "EmbedDistillStudent", "RRDStudent"):
        check_settings(make_config(model, distance="norm"))


def test_a_composite_holds_what_is_given_for_its_parts_to_their_declarations(make_config) -> None:
    methods = {"methods": {"CD": 1.0, "RRD": 1.0}}
    check_settings(make_config("CompositeStudent", **methods, guide="teacher", n_interesting=3))
    for given in ({"guide": "map"}, {"n_interesting": 0}):
        (key,) = given
        with pytest.raises(UserError, match=f"^{key}: "):
            check_settings(make_config("CompositeStudent", **methods, **given))


def test_a_students_own_settings_are_checked_beside_the_methods(make_config) -> None:
    with pytest.raises(UserError, match=r"^score_scale: 0 must be a number above 0"):
        check_settings(make_config("RRDStudent", student="ML", score_scale=0))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"topk": [5]}, "valid_metric: 'Recall@50' is not measured by metrics and topk; choose one of Recall@5, NDCG@5"),
        (
            {"metrics": ["MRR"]},
            "valid_metric: 'Recall@50' is not measured by metrics and topk; choose one of MRR@10, MRR@50",
        ),
        (
            {"valid_metric": "Recall"},
            "valid_metric: 'Recall' is not measured by metrics and topk; choose one of Recall@10",
        ),
        (
            {"valid_metric": "LogLoss"},
            "valid_metric: 'LogLoss' is not measured by metrics and topk; choose one of",
        ),
        (
            {"metrics": ["GAUC"], "valid_metric": "GAUC@10"},
            "'GAUC@10' is not measured by metrics and topk; choose one of GAUC",
        ),
        ({"checkpoint_dir": None}, "checkpoint_dir: None must be a name"),
        ({"teacher_config": {"all": {"epochs": "x"}}}, "epochs: 'x' must be a whole number"),
        ({"without_distillation_config": {"epochs": "x"}}, "epochs: 'x' must be a whole number"),
    ],
)
def test_what_would_fail_in_the_middle_of_a_run_is_refused_before_it(settings, given, message) -> None:
    ours = {**settings, "valid_metric": "Recall@50", "metrics": ["Recall", "NDCG"], "topk": [10, 50], **given}
    ours["without_distillation"] = True
    with pytest.raises(UserError, match=re.escape(message)):
        check(Config("HetCompStudent", "toy", config_dict=ours, arguments=()))


@pytest.mark.parametrize(("metric", "mode"), [("GAUC", "full"), ("logloss", "labeled"), ("ItemCoverage@5", "full")])
def test_a_metric_that_is_measured_may_choose_the_best_epoch(make_config, metric: str, mode: str) -> None:
    metrics = {"metrics": [metric.partition("@")[0]], "valid_metric": metric, "topk": [5]}
    split = {"split": {"RS": [0.6, 0.2, 0.2]}, "group_by": "user", "order": "RO"}
    check_settings(make_config("BPR", **metrics, eval_args={**split, "mode": mode}))


@pytest.mark.parametrize(("model", "given"), [("LightGCN", {"n_layers": 0}), ("MultiVAE", {"mlp_hidden_size": []})])
def test_what_recboles_models_take_is_not_refused(make_model, make_config, model: str, given) -> None:
    check_settings(make_config(model, **given))
    assert make_model(model, **given)


def test_a_misspelt_setting_of_the_student_alone_is_named(settings, caplog) -> None:
    ours = {**settings, "without_distillation": True, "without_distillation_config": {"epohs": 1}}
    with pytest.raises(UserError, match=r"without_distillation_config: epohs: nothing reads .* did you mean 'epochs'"):
        check(Config("HetCompStudent", "toy", config_dict=ours, arguments=()))
    ours["without_distillation_config"] = {"xyzzyx": 1}  # near nothing: it may be meant for another model
    check(Config("HetCompStudent", "toy", config_dict=ours, arguments=()))
    assert "unknown setting 'xyzzyx' from without_distillation_config is not used" in caplog.text
