"""Which runs are sequential, by whatever names their models, and what RecBole's sequential models ask of settings."""

from __future__ import annotations

import inspect
import sys

import pytest
import yaml
from recbole.model import sequential_recommender as sequential
from recbole.utils import InputType

from recbole_hetcomp.commands.benchmark_configs import one_family
from recbole_hetcomp.commands.checks import check
from recbole_hetcomp.commands.starting import first_config
from recbole_hetcomp.config.errors import UserError
from recbole_hetcomp.config.registry import READ_MORE
from recbole_hetcomp.data.split import make_split
from recbole_hetcomp.teacher_training.configs import teacher_config

UNIFORM = {"distribution": "uniform", "sample_num": 1}
COLUMNS = {"load_col": {"inter": ["user_id", "item_id", "timestamp"]}}


@pytest.mark.parametrize(
    ("model", "given"),
    [("HetCompStudent", {"student": "SASRec", "teachers": ["BPR"]}), ("GRU4Rec", {}), ("SASRec", {"loss_type": "CE"})],
)
def test_cross_entropy_over_sequences_refuses_negatives(make_config, model, given) -> None:
    with pytest.raises(UserError, match=r"train_neg_sample_args: .* learns by cross-entropy .*; leave it out"):
        make_config(model, train_neg_sample_args=UNIFORM, **given)
    config = make_config(model, train_neg_sample_args={"distribution": "none"}, **given)  # as a checkpoint has it
    assert config["train_neg_sample_args"]["distribution"] == "none"


def test_no_sequential_model_trains_by_cross_entropy_on_drawn_items(make_config) -> None:
    """RepeatNet's class says that its batches are of single items, which has RecBole draw others with labels of 0."""
    theirs = {cls.__name__ for cls in vars(sequential).values() if inspect.isclass(cls) and "recommender" in cls.__module__}
    checked = set()
    for model in sorted(theirs - READ_MORE - {"SequentialRecommender"}):
        config = make_config(model, **COLUMNS, hidden_size=8, inner_size=8, n_heads=1)
        if config["loss_type"] == "CE" and config["MODEL_INPUT_TYPE"] != InputType.PAIRWISE:
            split = make_split(config)
            batches = list(split.loaders(config).train)
            assert sum(map(len, batches)) == len(split.instances[0]), model
            drawn = [name for batch in batches for name in batch.columns if name == "label" or name.startswith("neg_")]
            assert not drawn, model
            checked.add(model)
    assert checked >= {"RepeatNet", "SASRec", "GRU4Rec", "NARM", "SASRecCPR"}
    with pytest.raises(UserError, match=r"train_neg_sample_args: .* RepeatNet learns by cross-entropy"):
        make_config("RepeatNet", train_neg_sample_args=UNIFORM)


def test_pairs_over_sequences_have_the_negatives_that_are_asked_for(make_config) -> None:
    config = make_config(
        "HetCompStudent", student="GRU4Rec", teachers=["BPR"], loss_type="BPR", train_neg_sample_args=UNIFORM
    )
    assert config["train_neg_sample_args"]["sample_num"] == 1
    batch = next(iter(make_split(make_config("GRU4Rec", **COLUMNS)).loaders(config).train))
    assert "neg_item_id" in batch.columns


@pytest.mark.parametrize("teachers", [["SASRecc"], "SASRec", 3, None])
def test_teachers_that_are_none_are_refused_by_their_own_name(make_config, teachers) -> None:
    with pytest.raises(UserError, match=r"^teachers: "):
        check(make_config("HetCompStudent", teachers=teachers))


def test_a_setting_of_rows_makes_no_run_sequential(make_config) -> None:
    config = make_config("BPR", points_per_user=2)
    assert config.family == "general"
    assert "LS" not in config["eval_args"]["split"]
    assert "points_per_user" in config.unknown_keys()


def test_the_models_of_a_sequential_run_know_it_and_their_checkpoints_do(make_config) -> None:
    run = make_config("HetCompStudent", student="MF", teachers=["GRU4Rec", "BPR"])
    teacher = teacher_config(run, "BPR")
    kept = {
        "in_sequential_run": teacher["in_sequential_run"],
        "repeatable": teacher["repeatable"],
    }  # as the checkpoint has it
    again = make_config("BPR", **kept)
    assert run.family == teacher.family == again.family == "sequential"
    assert not teacher.unknown_keys()
    assert teacher["repeatable"] is False
    assert teacher_config(run, "GRU4Rec")["repeatable"] is True


def test_a_benchmark_of_one_family_needs_no_word_of_it(settings) -> None:
    assert one_family(["BPR", "MF"], "toy", None, settings, ()) == settings
    assert one_family(["GRU4Rec", "SASRec"], "toy", None, settings, ()) == settings
    assert one_family(["BPR", "SASRec"], "toy", None, settings, ()) == {**settings, "in_sequential_run": True}


def test_teachers_of_a_plug_ins_yaml_and_of_a_preset_count(make_config, settings, tmp_path, monkeypatch, properties) -> None:
    (tmp_path / "ownstudent.py").write_text(
        "from recbole_hetcomp.model.distilled_recommender.hetcompstudent import HetCompStudent\n\n"
        "class OwnStudent(HetCompStudent):\n    pass\n"
    )
    (tmp_path / "ownstudent.yaml").write_text(yaml.safe_dump({"teachers": ["SASRec", "BPR"]}))
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "ownstudent", raising=False)
    from ownstudent import OwnStudent

    plain = {key: value for key, value in settings.items() if key != "teachers"}
    from recbole_hetcomp.config import Config

    assert Config(OwnStudent, "toy", config_dict=plain, arguments=()).family == "sequential"
    assert Config(OwnStudent, "toy", config_dict={**plain, "teachers": ["BPR"]}, arguments=()).family == "general"
    assert Config("HetCompStudent", "toy", config_dict=plain, arguments=()).family == "general"
    (properties / "dataset" / "toy.yaml").write_text(yaml.safe_dump({"teachers": ["GRU4Rec"]}))
    assert Config("HetCompStudent", "toy", config_dict=plain, arguments=()).family == "sequential"


@pytest.mark.parametrize(("student", "repeats"), [("GRU4Rec", True), ("MF", False)])
def test_what_a_student_starts_from_is_of_the_students_family(make_config, student, repeats) -> None:
    given = {"student": student, "teachers": ["SASRec"], "start_from": "FitNetStudent", "without_distillation": False}
    config = make_config("HetCompStudent", **COLUMNS, **given)
    check(config)
    assert first_config(config)["repeatable"] is repeats


@pytest.mark.parametrize("key", ["points_per_user", "mask_seen", "MAX_ITEM_LIST_LENGTH"])
def test_what_a_student_starts_from_has_the_runs_sequences(make_config, key) -> None:
    given = {"student": "GRU4Rec", "teachers": ["SASRec"], "start_from": "FitNetStudent", "start_config": {key: 2}}
    with pytest.raises(UserError, match=rf"^start_config: {key} is the run's own"):
        check(make_config("HetCompStudent", **COLUMNS, **given))


@pytest.mark.parametrize("key", ["MAX_ITEM_LIST_LENGTH", "mask_seen", "points_per_user", "eval_args", "USER_ID_FIELD"])
@pytest.mark.parametrize("setting", ["teacher_config of SASRec", "teacher_config of all", "without_distillation_config"])
def test_one_model_of_a_sequential_run_has_no_sequences_of_its_own(make_config, key, setting) -> None:
    values = {"MAX_ITEM_LIST_LENGTH": 5, "mask_seen": False, "points_per_user": 2, "eval_args": {}, "USER_ID_FIELD": "user"}
    own = {key: values[key]}
    name, _, teacher = setting.partition(" of ")
    given = {name: {teacher: own} if teacher else own, "student": "GRU4Rec", "teachers": ["SASRec"]}
    with pytest.raises(UserError, match=f"^{setting}: {key} is the run's own"):
        check(make_config("HetCompStudent", **{**COLUMNS, "teacher_config": {}, **given}))
    check(make_config("HetCompStudent", teacher_config={"all": {"eval_batch_size": 4096, "valid_metric": "NDCG@5"}}))


SHARES = {"split": {"RS": [0.8, 0.1, 0.1]}, "order": "TO", "mode": "full", "group_by": "user"}


@pytest.mark.parametrize("model", ["BPR", "SASRec"])
def test_a_benchmark_over_both_families_has_the_split_of_sequences(make_config, model) -> None:
    with pytest.raises(UserError, match=r"^eval_args: a run with sequential models leaves each user's last two items out"):
        check(make_config(model, in_sequential_run=True, eval_args=SHARES))
    check(make_config(model, eval_args=SHARES))


@pytest.mark.parametrize("mode", ["uni100", {"valid": "full", "test": "pop50"}])
@pytest.mark.parametrize(("model", "mixed"), [("BPR", True), ("SASRec", True), ("HetCompStudent", False)])
def test_models_of_both_families_are_not_tested_among_drawn_items(make_config, model, mixed, mode) -> None:
    protocol = {"split": {"LS": "valid_and_test"}, "order": "TO", "group_by": "user", "mode": mode}
    given = {"in_sequential_run": True} if mixed else {"student": "GRU4Rec", "teachers": ["BPR"]}
    with pytest.raises(UserError, match=r"^eval_args: mode: .* draws other items .*; write mode: full"):
        check(make_config(model, **given, eval_args=protocol))
    with pytest.raises(UserError, match=r"^eval_args: mode: "):
        check(make_config(model, **given, eval_args={"mode": mode}))  # RecBole's split comes with it
    check(make_config(model, **given, eval_args={**protocol, "mode": "full"}))


@pytest.mark.parametrize("student", ["MF", "GRU4Rec"])
def test_a_users_word_on_repeats_makes_no_general_model_draw_training_items(make_config, student) -> None:
    """RecBole's own file for sequential models has `repeatable: True`."""
    config = make_config("HetCompStudent", **COLUMNS, student=student, teachers=["SASRec", "BPR"], repeatable=True)
    split = make_split(config)
    assert config["repeatable"] is (student == "GRU4Rec")
    for batch in split.loaders(teacher_config(config, "BPR")).train:
        assert not split.history.contains(batch["user_id"], batch["neg_item_id"]).any()
    alone = make_config("BPR", **COLUMNS, in_sequential_run=True, repeatable=True)
    for batch in make_split(alone).loaders(alone).train:
        assert not split.history.contains(batch["user_id"], batch["neg_item_id"]).any()
    assert make_config("BPR", repeatable=True)["repeatable"] is True  # a general run is RecBole's


@pytest.mark.parametrize("model", ["SASRec", "HetCompStudent"])
def test_parts_of_ones_own_are_refused_in_a_sequential_run(make_config, model) -> None:
    with pytest.raises(UserError, match=r"^benchmark_filename: "):
        check(make_config(model, student="SASRec", teachers=["BPR"], benchmark_filename=["a", "b", "c"]))


def test_models_that_read_more_have_recboles_protocol(make_config) -> None:
    din, other, with_graph = (make_config(name) for name in ("DIN", "FDSA", "KSR"))
    assert din["eval_args"]["mode"] == {"valid": "uni100", "test": "uni100"}
    assert din["metrics"] == ["AUC", "LogLoss"]
    assert "mask_seen" not in other
    for config in (other, with_graph):
        assert config["eval_args"]["split"] == {"LS": "valid_and_test"}
        assert config["eval_args"]["mode"] == {"valid": "full", "test": "full"}
