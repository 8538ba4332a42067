"""RecBole's sequential models under our defaults: each runs to a test result, and without the mask to RecBole's own."""

from __future__ import annotations

import inspect
import logging
import math
from pathlib import Path

import pytest
import recbole.model.sequential_recommender as sequential
from recbole.model.abstract_recommender import AbstractRecommender

from recbole_hetcomp.commands import pipeline
from recbole_hetcomp.commands.provenance import split_in_words
from recbole_hetcomp.config.errors import UserError
from recbole_hetcomp.config.registry import READ_MORE, family_of, get_model
from recbole_hetcomp.quick_start import run_benchmark, run_hetcomp

ALL = sorted(name for name, cls in vars(sequential).items() if inspect.isclass(cls) and issubclass(cls, AbstractRecommender))
SMALL = {"hidden_size": 8, "inner_size": 8, "n_heads": 1, "MAX_ITEM_LIST_LENGTH": 10, "epochs": 1}
FEW = {"SASRecCPR": {"reranker_CAN_NUM": 5}, "GRU4RecCPR": {"reranker_CAN_NUM": 5}}  # as `toy` has few items
COLUMNS = {"inter": ["user_id", "item_id", "timestamp"]}


@pytest.fixture
def run(settings):
    """`run(model, **settings)`: a run of one model on `toy`, under the defaults of the family."""

    def start(model: str, **changes: object) -> dict:
        config = {**settings, **SMALL, "load_col": COLUMNS, **changes}
        return run_hetcomp(model, "toy", config_dict=config, arguments=())

    return start


@pytest.mark.parametrize("model", [name for name in ALL if name not in READ_MORE])
def test_it_runs_to_its_test_result(run, model) -> None:
    result = run(model, **FEW.get(model, {}))
    assert family_of(get_model(model)) == "sequential"
    assert all(math.isfinite(value) for value in result["test_result"].values())
    assert 0 <= result["test_result"]["recall@10"] <= 1


@pytest.mark.parametrize("model", ["SASRec", "GRU4Rec", "FPMC"])
def test_without_the_mask_it_is_recboles_own_run_to_the_last_digit(run, settings, model) -> None:
    from recbole.quick_start import run_recbole

    common = {**settings, **SMALL, "load_col": COLUMNS, "epochs": 3, "metric_decimal_place": 12, "eval_batch_size": 4096}
    ours = run(model, epochs=3, mask_seen=False, metric_decimal_place=12)
    if model != "FPMC":
        common["train_neg_sample_args"] = None
    protocol = {"eval_args": {"split": {"LS": "valid_and_test"}, "order": "TO", "mode": "full", "group_by": "user"}}
    theirs = run_recbole(model, "toy", config_dict={**common, **protocol, "metrics": ["Recall", "NDCG"], "repeatable": True})
    for part in ("best_valid_result", "test_result"):
        assert dict(ours[part]) == dict(theirs[part])
    masked = run(model, epochs=3, metric_decimal_place=12)
    assert dict(masked["test_result"]) != dict(ours["test_result"])


@pytest.fixture
def with_classes(toy) -> dict:
    """`toy` with columns of the items, as RecBole's ml-100k has them; settings to load them."""
    path = Path(toy) / "toy" / "toy.item"
    tokens = [line.split("\t")[0] for line in path.read_text("utf-8").splitlines()[1:]]
    lines = [f"{token}\t{1990 + place % 9}\tc{place % 3} c{place % 5}" for place, token in enumerate(tokens)]
    path.write_text("item_id:token\trelease_year:token\tclass:token_seq\n" + "\n".join(lines) + "\n", "utf-8")
    return {"load_col": {**COLUMNS, "item": ["item_id", "release_year", "class"]}}


@pytest.mark.parametrize(
    ("model", "by", "settings_of_one"),
    [
        ("FDSA", "recall@10", {}),
        ("GRU4RecF", "recall@10", {}),
        ("SASRecF", "recall@10", {}),
        ("DIN", "auc", {"valid_metric": "AUC"}),
        ("DIEN", "auc", {"valid_metric": "AUC", "topk": [10]}),
    ],
)
def test_a_model_that_reads_more_runs_alone_by_recboles_protocol(run, with_classes, model, by, settings_of_one) -> None:
    result = run(model, selected_features=["class"], **with_classes, **settings_of_one)
    assert 0 <= result["test_result"][by] <= 1


def test_a_model_that_reads_more_than_the_sequence_is_no_teacher_and_no_student(run) -> None:
    assert set(ALL) >= READ_MORE
    with pytest.raises(UserError, match="teachers: 'DIN' is a sequential model that reads more"):
        run("HetCompStudent", teachers=["DIN"])
    with pytest.raises(UserError, match="student: 'SASRecF' is no general recommender, nor a sequential one"):
        run("HetCompStudent", student="SASRecF", teachers=["BPR"])


def test_a_sequential_run_on_another_split_is_one_sentence(run) -> None:
    shares = {"split": {"RS": [0.8, 0.1, 0.1]}, "order": "TO", "mode": "full", "group_by": "user"}
    with pytest.raises(UserError, match="eval_args: a run with sequential models leaves each user's last two items out"):
        run("HetCompStudent", student="GRU4Rec", teachers=["BPR"], eval_args=shares)


@pytest.mark.parametrize(
    ("teacher", "mask", "said"), [("BPR", False, True), ("BPR", True, False), ("GRU4Rec", False, False)]
)
def test_below_a_table_of_masked_and_unmasked_models_it_is_said(run, caplog, teacher, mask, said) -> None:
    given = {"student": "GRU4Rec", "teachers": [teacher], "teacher_config": {"all": {"epochs": 1, "eval_step": 1}}}
    caplog.set_level(logging.INFO)
    run("HetCompStudent", **given, mask_seen=mask, without_distillation=False, state="INFO")
    (table,) = [line for line in caplog.messages if line.startswith("comparison on toy")]
    assert ("mask_seen: False lets sequential models recommend what a user has had; general ones never do" in table) == said
    assert "| student" in table


@pytest.mark.parametrize(("models", "said"), [("SASRec,MF", True), ("MF,SASRec", True), ("SASRec,GRU4Rec", False)])
def test_below_a_benchmark_too(settings, caplog, models, said) -> None:
    caplog.set_level(logging.INFO)
    given = {**settings, **SMALL, "load_col": COLUMNS, "mask_seen": False, "state": "INFO"}
    run_benchmark(models.split(","), "toy", config_dict=given, seeds=1)
    (table,) = [line for line in caplog.messages if line.startswith("benchmark on toy")]
    assert ("mask_seen: False lets sequential models recommend" in table) == said


@pytest.mark.parametrize("model", ["BPR", "SASRec"])
@pytest.mark.parametrize("mixed", [True, False])
def test_a_record_says_which_items_are_ranked(make_config, model, mixed) -> None:
    both = "ranked against all items; mask_seen: False lets sequential models recommend what a user has had; general"
    own = "the user has not had" if model == "BPR" else "the user has had among them"
    words = split_in_words(
        make_config(
            model,
            load_col=COLUMNS,
            **({"mask_seen": False} if mixed or model != "BPR" else {}),
            **({"in_sequential_run": True} if mixed else {}),
        )
    )
    assert (both if mixed else own) in words


@pytest.mark.parametrize("where", ["predict", "elsewhere"])
def test_an_assertion_of_another_kind_still_ends_a_run(run, monkeypatch, where) -> None:
    """Only a `predict` of RecBole's that is itself an assertion costs no more than the count of operations."""

    def fails(*_: object) -> None:
        raise AssertionError

    if where == "predict":
        monkeypatch.setattr(sequential.GRU4Rec, "predict", fails)  # of no file of RecBole's
    else:
        monkeypatch.setattr(pipeline, "construct_transform", fails)
    with pytest.raises(AssertionError):
        run("GRU4Rec")


@pytest.mark.parametrize("student", ["GRU4Rec", "MF"])
def test_the_comparison_asks_the_ensemble_on_the_test_instances(run, student) -> None:
    """With one teacher of weight 1, the ensemble has the teacher's own metrics, whichever family the student is of."""
    teacher = {"SASRec": {"hidden_size": 8, "inner_size": 8, "epochs": 2, "eval_step": 1}}
    rows = run(
        "HetCompStudent",
        student=student,
        teachers=["SASRec"],
        teacher_config=teacher,
        trajectory_depth=80,
        without_distillation=True,
        epochs=2,
    )["comparison"]
    of = {row["role"]: row for row in rows}
    for metric in ("recall@5", "recall@10", "ndcg@10"):
        assert of["ensemble"][metric] == pytest.approx(of["teacher"][metric])
    assert 0 < of["student"]["fidelity"] <= 1
