"""The search itself: its first trial, its order, how hopeless trials end, how it goes on, and what comes of it."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from threading import Thread
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from filelock import FileLock

from recbole_hetcomp.commands import pipeline
from recbole_hetcomp.commands.checks import check
from recbole_hetcomp.config import Config
from recbole_hetcomp.config.errors import UserError
from recbole_hetcomp.data.fitting import fit_to_data
from recbole_hetcomp.data.split import Split
from recbole_hetcomp.quick_start import run_benchmark, run_hetcomp
from recbole_hetcomp.teacher_training import search, training
from recbole_hetcomp.teacher_training.alone import alone_config
from recbole_hetcomp.teacher_training.configs import teacher_config
from recbole_hetcomp.teacher_training.scheduling import build_pool
from recbole_hetcomp.teacher_training.tuned import Tuning
from recbole_hetcomp.teacher_training.tuning import tune, tunings, validation_sample
from recbole_hetcomp.testing.results import same, state_of

pytest.importorskip("optuna", reason="searches need the extra [tune]")

QUICK = {"epochs": 2, "eval_step": 1, "embedding_size": 8, "train_batch_size": 256}
QUICK_ALONE = {"epochs": 2, "eval_step": 1, "train_batch_size": 256}
FALLING = {"metrics": ["Recall", "AveragePopularity"], "valid_metric": "AveragePopularity@10"}


@pytest.fixture
def make_run(settings) -> Callable[..., Config]:
    """`make_run(**overrides)`: a run of RRDStudent with the teacher BPR, each trained for two epochs."""
    quick = {"teachers": ["BPR"], "teacher_config": {"all": QUICK}, "without_distillation_config": QUICK_ALONE}
    mute = {key: value for key, value in settings.items() if key != "train_batch_size"}

    def make(model: str = "RRDStudent", **overrides: Any) -> Config:
        return Config(model, "toy", config_dict={**mute, **quick, **overrides}, arguments=())

    return make


@pytest.fixture
def of_teacher(make_run, split) -> Callable[..., Tuning]:
    """`of_teacher("BPR", **overrides)`: the search for a teacher of such a run."""

    def make(name: str = "BPR", **overrides: Any) -> Tuning:
        run = make_run(teachers=[name], **overrides)
        return Tuning.of(teacher_config(run, name), run, split)

    return make


Script = Callable[[Config, int], Sequence[float]]


@pytest.fixture
def scripted(monkeypatch) -> Callable[[Script], list[Config]]:
    """`scripted(scores)`: trainings whose validation scores are `scores(config, number)`; the list grows with each."""

    def install(scores: Script) -> list[Config]:
        begun: list[Config] = []

        def fit(config: Config, split: Split, snapshots: object, depth: int = 0, after_validation: Any = None) -> Any:
            begun.append(config)
            told = []
            for epoch, score in enumerate(scores(config, len(begun))):
                told.append(score)
                after_validation(epoch, score)
            best = (max if config["valid_metric_bigger"] else min)(told)
            return SimpleNamespace(best_valid_score=best, best_epoch=told.index(best) + 1, epochs_trained=len(told))

        monkeypatch.setattr(search, "fit_recorded", fit)
        return begun

    return install


def rising_to_what_the_settings_are_worth(config: Config, _: int) -> list[float]:
    """Thirty validations; the best settings are in the middle of the space, and worse ones rise more slowly, too."""
    rate, decay = math.log(config["learning_rate"] / 0.004), math.log(config["weight_decay"] * 142 / 0.05)
    worth = math.exp(-(rate**2) - decay**2 / 4)
    return [worth * (1 - 0.9**epoch) for epoch in range(1, 31)]


def trials_of(tuning: Tuning) -> list[dict[str, Any]]:
    """All trials, but for the time that they took."""
    trials = json.loads((tuning.folder / "trials.json").read_text())
    return [{key: value for key, value in trial.items() if key != "seconds"} for trial in trials]


def found_of(tuning: Tuning) -> dict[str, Any]:
    found = tuning.found()
    assert found is not None
    return {key: value for key, value in found.items() if key != "seconds"}


# What a search comes to


def test_the_first_trial_is_the_training_without_a_search(make_run, split) -> None:
    """The same score to the last digit: same settings, same seed, same data."""
    run = make_run(tune=1)
    tune(run, split)
    (teacher,) = build_pool(make_run(tune=0), split).teachers
    tuning = Tuning.of(teacher_config(run, "BPR"), run, split)
    (trial,) = trials_of(tuning)
    assert trial["score"] == pytest.approx(float(teacher.trajectory.valid_scores[-1]), rel=1e-6)
    plain = teacher_config(run, "BPR")
    assert trial["settings"] == {key: plain[key] for key in ("learning_rate", "weight_decay")}
    assert found_of(tuning)["first_score"] == found_of(tuning)["score"] == trial["score"]


def test_the_model_that_is_trained_with_what_was_found_has_the_score_that_was_found(make_run, split) -> None:
    run = make_run(tune=6)
    tune(run, split)
    found = found_of(Tuning.of(teacher_config(run, "BPR"), run, split))
    assert found["score"] > found["first_score"]  # of six, one is better than the default on these data
    (teacher,) = build_pool(make_run(), split).teachers
    assert float(teacher.trajectory.valid_scores[-1]) == pytest.approx(found["score"], rel=1e-6)
    alone_found = found_of(Tuning.of(alone_config(run), run, split))
    assert alone_found["trials"] == 6  # the student alone is searched as long as a teacher


@pytest.mark.parametrize("name", ["BPR", "CML", "LightGCN", "NeuMF", "MultiVAE", "ItemVAE", "ML", "DL", "HistoryEncoder"])
def test_the_first_trial_has_all_settings_of_the_files__even_outside_of_what_is_tried(
    of_teacher, split, scripted, name
) -> None:
    begun = scripted(lambda *_: [0.5])
    tuning = of_teacher(name, teacher_config={})
    expected = tuning.with_settings({})
    search.search(tuning, split, 2, 1)
    fit_to_data(expected, split)
    for key in tuning.space:
        assert begun[0][key] == expected[key], key
    assert any(begun[1][key] != expected[key] for key in tuning.space)


@pytest.mark.parametrize("trials", [1, 3])
def test_there_are_as_many_trials_as_asked_for__and_the_best_of_them_is_kept(of_teacher, split, scripted, trials) -> None:
    scores = [0.3, 0.1, 0.4]
    begun = scripted(lambda _, number: [0.01, scores[number - 1], 0.02])
    tuning = of_teacher()
    search.search(tuning, split, trials, 1)
    assert len(begun) == len(trials_of(tuning)) == trials
    assert [trial["score"] for trial in trials_of(tuning)] == scores[:trials]
    assert {trial["best_epoch"] for trial in trials_of(tuning)} == {2}
    best = max(range(trials), key=lambda number: scores[number])
    assert found_of(tuning) == {
        "settings": trials_of(tuning)[best]["settings"],
        "score": scores[best],
        "first_score": 0.3,
        "trials": trials,
        "ended_early": 0,
    }
    for key, value in tuning.found()["settings"].items():
        assert tuning.with_settings(tuning.found()["settings"])[key] == value
    search.search(tuning, split, trials, 1)
    assert len(begun) == trials  # all of it is there


def test_with_a_metric_that_is_to_be_small_the_smallest_is_kept(of_teacher, split, scripted) -> None:
    scores = [0.3, 0.1, 0.4]
    scripted(lambda _, number: [0.9, scores[number - 1], 0.8])
    tuning = of_teacher(**FALLING)
    search.search(tuning, split, 3, 1)
    assert [trial["score"] for trial in trials_of(tuning)] == scores
    assert (found_of(tuning)["score"], found_of(tuning)["first_score"]) == (0.1, 0.3)


def test_a_trial_is_validated_as_a_run_is(make_run, of_teacher, split, scripted) -> None:
    """As many users at once, which nothing but the time depends on; and by the same cut-offs."""
    begun = scripted(lambda *_: [0.5])
    run = make_run(tune=1, topk=[5, 500], valid_metric="Recall@500")
    plain = teacher_config(run, "BPR")["eval_batch_size"]
    pipeline.prepare(run, split)
    assert len(begun) == 2
    fit_to_data(run, split)
    for config in begun:
        assert config["eval_batch_size"] == run["eval_batch_size"] != plain
        assert config["valid_metric"] == "Recall@81"
    assert Tuning.of(teacher_config(run, "BPR"), run, split).found()  # found by the teacher, which is trained after this


def test_every_trial_and_every_model_is_searched_by_the_splits_seed(make_run, split, scripted) -> None:
    begun = scripted(lambda *_: [0.5])
    tune(make_run(tune=2, seed=77, split_seed=5), split)
    assert [config["seed"] for config in begun] == [5] * 4


# The order of the trials


def interrupting(number: int, validations: int) -> Script:
    """The same scores, but the training `number` is interrupted after some validations."""

    def scores(config: Config, begun: int) -> Any:
        for done, score in enumerate(rising_to_what_the_settings_are_worth(config, begun)):
            if (begun, done) == (number, validations):
                raise KeyboardInterrupt
            yield score

    return scores


@pytest.fixture
def in_one_go(of_teacher, split, scripted) -> Tuning:
    """A search of eight trials, some of which end early."""
    tuning = of_teacher(checkpoint_dir="in_one_go")
    scripted(rising_to_what_the_settings_are_worth)
    search.search(tuning, split, 8, 1)
    assert {trial["state"] for trial in trials_of(tuning)} == {"complete", "pruned"}
    return tuning


@pytest.mark.parametrize(("number", "validations"), [(1, 0), (1, 20), (2, 7), (2, 8), (3, 20), (5, 9), (8, 3)])
def test_an_interrupted_search_goes_on_as_it_would_have(of_teacher, split, scripted, in_one_go, number, validations) -> None:
    tuning = of_teacher(checkpoint_dir="interrupted")
    scripted(interrupting(number, validations))
    try:
        search.search(tuning, split, 8, 1)
    except KeyboardInterrupt:
        assert len(trials_of(tuning)) == number - 1
    else:  # that trial had ended early
        assert trials_of(in_one_go)[number - 1]["state"] == "pruned"
    scripted(rising_to_what_the_settings_are_worth)
    search.search(tuning, split, 8, 1)
    assert trials_of(tuning) == trials_of(in_one_go)
    assert found_of(tuning) == found_of(in_one_go)


def test_one_that_is_interrupted_again_and_again_does_too(of_teacher, split, scripted, in_one_go) -> None:
    tuning = of_teacher(checkpoint_dir="interrupted")
    for number in range(1, 20):
        scripted(interrupting(1 if number % 2 else 2, 12))
        try:
            search.search(tuning, split, 8, 1)
            break
        except KeyboardInterrupt:
            continue
    scripted(rising_to_what_the_settings_are_worth)
    search.search(tuning, split, 8, 1)
    assert trials_of(tuning) == trials_of(in_one_go)


@pytest.mark.parametrize("first", [1, 3, 7])
def test_an_extended_search_is_one_of_so_many_trials(of_teacher, split, scripted, in_one_go, first) -> None:
    tuning = of_teacher(checkpoint_dir="extended")
    begun = scripted(rising_to_what_the_settings_are_worth)
    for trials in (first, 8):
        search.search(tuning, split, trials, 1)
        assert len(begun) == trials
    assert trials_of(tuning) == trials_of(in_one_go)


@pytest.mark.parametrize("other", [{"epochs": 3}, {"eval_step": 2}, {"stopping_step": 9}])
def test_a_search_does_not_go_on_with_trials_of_another_length(make_run, split, scripted, other) -> None:
    """Successive halving compares them by their validations, and the first is what there is without a search."""
    begun = scripted(rising_to_what_the_settings_are_worth)
    tune(make_run(tune=2, without_distillation=False), split)
    before = len(begun)
    unlike = {"teacher_config": {"all": {**QUICK, **other}}, "without_distillation": False}
    tune(make_run(tune=2, **unlike), split)  # nothing to do: what was found holds for another length
    (key,) = other
    with pytest.raises(
        UserError, match=rf"^tune: the trials of BPR in .* had {key} \d+, and this run has {key} {other[key]}; "
    ):
        tune(make_run(tune=3, **unlike), split)
    assert len(begun) == before
    tune(make_run(tune=3, without_distillation=False), split)
    assert len(begun) > before


def test_nor_with_trials_that_another_sample_has_judged(make_run, split, scripted) -> None:
    """Parts that are given as files are one split whatever the seed, and the users are drawn by it."""
    begun = scripted(rising_to_what_the_settings_are_worth)
    tune(make_run(tune=1, tune_users=5, split_seed=1), split)
    before = len(begun)
    with pytest.raises(
        UserError, match=r"had split_seed 1, and this run has split_seed 2; give what they had, leave tune out"
    ):
        tune(make_run(tune=2, tune_users=5, split_seed=2), split)
    assert len(begun) == before


@pytest.mark.parametrize("content", [None, "[", "{}", "[3]"])
def test_the_journal_is_asked_too(of_teacher, split, scripted, content) -> None:
    """The file beside it may be damaged, and another command may have begun the search a moment ago."""
    begun = scripted(rising_to_what_the_settings_are_worth)
    tuning = of_teacher()
    search.search(tuning, split, 2, 1)
    path = tuning.folder / "trials.json"
    path.unlink() if content is None else path.write_text(content)
    longer = of_teacher(teacher_config={"all": {**QUICK, "epochs": 3}})
    longer.refuse_unlike()  # the file does not know
    with pytest.raises(UserError, match=r"had epochs 2, and this run has epochs 3"):
        search.search(longer, split, 3, 1)
    assert len(begun) == 2


def test_trials_of_which_no_length_is_known_are_gone_on_with(of_teacher, split, scripted, monkeypatch) -> None:
    """Those of the versions before."""
    begun = scripted(rising_to_what_the_settings_are_worth)
    with monkeypatch.context() as patch:
        patch.setattr(Tuning, "common", None)
        patch.setattr(Tuning, "refuse_unlike", lambda *_: None)
        search.search(of_teacher(), split, 1, 1)
    search.search(of_teacher(teacher_config={"all": {**QUICK, "epochs": 3}}), split, 2, 1)
    with pytest.raises(UserError, match=r"had epochs 3, and this run has epochs 2"):
        search.search(of_teacher(), split, 3, 1)
    assert len(begun) == 2


def test_a_kill_between_a_trial_and_its_table_loses_nothing(of_teacher, split, scripted, in_one_go, monkeypatch) -> None:
    tuning = of_teacher(checkpoint_dir="killed")
    begun = scripted(rising_to_what_the_settings_are_worth)
    save = search._save

    def killed(*arguments: Any) -> None:
        if len(begun) == 8:
            raise KeyboardInterrupt
        save(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(search, "_save", killed)
        with pytest.raises(KeyboardInterrupt):
            search.search(tuning, split, 8, 1)
    assert len(trials_of(tuning)) == 7
    search.search(tuning, split, 8, 1)
    assert len(begun) == 8
    assert trials_of(tuning) == trials_of(in_one_go)


def test_trials_differ_from_one_another_and_from_those_of_another_seed(of_teacher, split, scripted, in_one_go) -> None:
    settings = [json.dumps(trial["settings"]) for trial in trials_of(in_one_go)]
    assert len(set(settings)) == 8
    other = of_teacher(checkpoint_dir="other", split_seed=99)
    search.search(other, split, 8, 1)
    assert other.config["seed"] == 99
    assert trials_of(other)[0]["settings"] == trials_of(in_one_go)[0]["settings"]
    assert [json.dumps(trial["settings"]) for trial in trials_of(other)[1:]] != settings[1:]


# Trials that end early


@pytest.mark.parametrize(("overrides", "worse", "better"), [({}, 0.1, 0.9), (FALLING, 0.9, 0.1)])
def test_a_hopeless_trial_ends_at_the_first_comparison_and_a_better_one_goes_on(
    of_teacher, split, scripted, overrides, worse, better
) -> None:
    told: dict[int, int] = {}

    def scores(_: Config, number: int) -> Any:
        for told[number] in range(1, 41):
            yield {1: 0.5, 2: worse, 3: better}[number]

    scripted(scores)
    tuning = of_teacher(**overrides)
    search.search(tuning, split, 3, 1)
    assert told == {1: 40, 2: 20, 3: 40}
    assert [trial["state"] for trial in trials_of(tuning)] == ["complete", "pruned", "complete"]
    assert (found_of(tuning)["score"], found_of(tuning)["first_score"]) == (better, 0.5)
    assert (found_of(tuning)["trials"], found_of(tuning)["ended_early"]) == (3, 1)


def test_a_trial_is_compared_by_its_best_score_so_far(of_teacher, split, scripted) -> None:
    """The last one before the comparison may be a bad one."""
    scripted(lambda _, number: [0.5] * 20 if number == 1 else [0.1, 0.9, *[0.1] * 18])
    tuning = of_teacher()
    search.search(tuning, split, 2, 1)
    assert [trial["state"] for trial in trials_of(tuning)] == ["complete", "complete"]


def test_short_trainings_are_never_ended(of_teacher, split, scripted) -> None:
    scripted(lambda _, number: [1 / number] * 3)
    tuning = of_teacher()
    search.search(tuning, split, 4, 1)
    assert found_of(tuning)["ended_early"] == 0


# Trials that fail


def test_a_trial_that_becomes_nan_counts_and_does_not_end_the_search(of_teacher, split, scripted) -> None:
    def scores(_: Config, number: int) -> Any:
        yield 0.1 * number
        if number == 2:
            raise UserError("BPR cannot be trained: Training loss is nan; lower its learning_rate or leave it out")

    scripted(scores)
    tuning = of_teacher()
    search.search(tuning, split, 3, 1)
    assert [trial["state"] for trial in trials_of(tuning)] == ["complete", "pruned", "complete"]
    assert "loss is nan" in trials_of(tuning)[1]["error"]
    assert (found_of(tuning)["trials"], found_of(tuning)["ended_early"], found_of(tuning)["score"]) == (3, 1, 0.1 * 3)


def test_where_the_first_trial_fails_there_is_no_score_without_a_search(of_teacher, split, scripted, caplog) -> None:
    def scores(_: Config, number: int) -> Any:
        if number == 1:
            raise UserError("BPR cannot be trained: Training loss is nan")
        yield 0.25

    scripted(scores)
    tuning = of_teacher()
    caplog.set_level("INFO")
    search.search(tuning, split, 2, 1)
    assert (found_of(tuning)["first_score"], found_of(tuning)["score"]) == (None, 0.25)
    assert "without a search" not in caplog.messages[-1]


NOTHING_FOUND = r"^tune: no trial of BPR came to an end \(BPR cannot be trained: .*nan.*\); see '.*BPR-.*'$"


def test_where_all_trials_fail_it_is_one_sentence_and_the_other_searches_are_made(make_run, split) -> None:
    run = make_run(tune=1, teacher_config={"all": QUICK, "BPR": {"learning_rate": 1e30}})
    with pytest.raises(UserError, match=NOTHING_FOUND) as error:
        tune(run, split)
    assert "\n" not in str(error.value)
    assert Tuning.of(teacher_config(run, "BPR"), run, split).found() is None
    assert found_of(Tuning.of(alone_config(run), run, split))["trials"] == 1
    with pytest.raises(UserError, match=NOTHING_FOUND):
        tune(run, split)  # again: nothing is tried any more


def test_an_error_of_ours_is_not_taken_for_a_bad_trial(of_teacher, split, scripted) -> None:
    scripted(lambda *_: [1 / 0])
    with pytest.raises(ZeroDivisionError):
        search.search(of_teacher(), split, 2, 1)


# Runs that search


def test_a_run_searches_its_teachers_and_its_student_alone(make_run, split) -> None:
    run = make_run("HetCompStudent", teachers=["BPR", "EASE", "LightGCN"])
    assert list(tunings(run, split)) == ["teacher BPR", "teacher LightGCN", "MF without distillation"]
    single = make_run("BPR")
    assert list(tunings(single, split)) == ["BPR"]
    assert tunings(make_run("Pop"), split) == {}


def test_searches_side_by_side_are_those_one_by_one(make_run, split) -> None:
    folders = {}
    for workers in (1, 2):
        wild = {"all": QUICK, "BPR": {"learning_rate": 1e30}}
        run = make_run(tune=3, teachers=["BPR", "LightGCN"], teacher_config=wild, teacher_workers=workers)
        run["checkpoint_dir"] = f"by_{workers}"
        with pytest.raises(UserError, match=NOTHING_FOUND):
            tune(run, split)
        folders[workers] = {title: trials_of(tuning) for title, tuning in tunings(run, split).items()}
        assert not list(Path(f"by_{workers}").glob("trained/*"))  # no folder of a worker is left
    assert folders[1] == folders[2]
    assert [len(trials) for trials in folders[2].values()] == [3, 3, 3]


def test_what_a_run_has_found_later_runs_train_with__without_optuna(make_run, monkeypatch) -> None:
    given = dict(make_run().external_config_dict)
    first = run_hetcomp("RRDStudent", "toy", config_dict={**given, "tune": 3}, arguments=())
    trained: list[str] = []
    monkeypatch.setattr(training, "fit_recorded", lambda config, *_, **__: trained.append(config.model))
    monkeypatch.setattr(search, "fit_recorded", lambda *_, **__: pytest.fail("a trial"))
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "optuna", None)
        again = run_hetcomp("RRDStudent", "toy", config_dict=given, arguments=())
        with pytest.raises(UserError, match=r"^tune: Optuna 4.0 or newer is not installed; run `pip install"):
            check(make_run(tune=3))
        check(make_run(tune=0))
    assert trained == []
    assert same(state_of(first), state_of(again))
    assert first["test_result"] == again["test_result"]
    with pytest.raises(AttributeError):  # without what was found another teacher is trained: the spy gives none
        run_hetcomp("RRDStudent", "toy", config_dict={**given, "tune": 0}, arguments=())
    assert trained == ["BPR"]


def test_a_benchmark_searches_once_for_all_its_rows_and_seeds(settings, scripted, monkeypatch) -> None:
    begun = scripted(lambda _, number: [0.1 * number])
    ours = {**settings, "teachers": ["BPR"], "teacher_config": {"all": QUICK}, "without_distillation": False, "tune": 2}
    rows = run_benchmark(["RRDStudent", "Pop", "BPR"], "toy", config_dict=ours, seeds=2)
    assert len(rows) == 3
    assert [config.model for config in begun] == ["BPR"] * 2 + ["MF"] * 2  # the row BPR is trained like the teacher


@pytest.mark.parametrize("value", [-1, 1.5, "x", True])
def test_a_wrong_number_of_trials_is_one_sentence(make_run, value) -> None:
    with pytest.raises(UserError, match=f"^tune: {value!r} must be a whole number of at least 0 or nothing$"):
        check(make_run(tune=value))


# The users that trials are judged by


def rows_of(part: Any) -> list[tuple[int, int]]:
    return list(zip(part.inter_feat["user_id"].tolist(), part.inter_feat["item_id"].tolist()))


@pytest.mark.parametrize("users", [1, 7, 59])
def test_a_sample_has_so_many_users_and_all_of_their_validation_rows(split, users) -> None:
    before = rows_of(split.parts[1])
    sample = validation_sample(split, users, seed=3)
    kept = rows_of(sample.parts[1])
    chosen = {user for user, _ in kept}
    assert len(chosen) == users
    assert kept == [row for row in before if row[0] in chosen]
    assert rows_of(split.parts[1]) == before  # the split itself keeps all
    assert sample.parts[0] is split.parts[0]
    assert sample.parts[2] is split.parts[2]
    assert sample.whole is split.whole


@pytest.mark.parametrize("users", [None, 60, 61, 5000])
def test_no_more_users_than_there_are_is_the_split_itself(split, users) -> None:
    assert len({user for user, _ in rows_of(split.parts[1])}) == 60
    assert validation_sample(split, users, seed=3) is split


def test_a_sample_is_drawn_by_its_seed(split) -> None:
    one, again, other = (rows_of(validation_sample(split, 20, seed).parts[1]) for seed in (3, 3, 4))
    assert one == again != other


def test_trials_are_judged_by_the_sample_and_teachers_by_all(make_run, split, monkeypatch) -> None:
    judged = []
    fit = search.fit_recorded

    def watch(config: Config, split: Split, *arguments: Any, **named: Any) -> Any:
        judged.append(len(np.unique(split.parts[1].inter_feat["user_id"].numpy())))
        return fit(config, split, *arguments, **named)

    monkeypatch.setattr(search, "fit_recorded", watch)
    run = make_run(tune=2, tune_users=9)
    tune(run, split)
    assert judged == [9] * 4
    (teacher,) = build_pool(make_run(), split).teachers
    found = found_of(Tuning.of(teacher_config(run, "BPR"), run, split))
    assert torch.isfinite(teacher.trajectory.valid_scores).all()
    assert float(teacher.trajectory.valid_scores[-1]) != pytest.approx(found["score"], rel=1e-6)


def test_of_two_processes_in_one_folder_the_second_waits_and_then_has_what_it_wants(of_teacher, split, scripted) -> None:
    begun = scripted(lambda _, number: [0.1 * number])
    tuning = of_teacher()
    tuning.folder.mkdir(parents=True)
    (tuning.folder.parents[1] / "locks" / "tuned").mkdir(parents=True)
    lock = FileLock(str(tuning.folder.parents[1] / "locks" / "tuned" / f"{tuning.folder.name}.lock"))
    lock.acquire()
    second = Thread(target=search.search, args=(tuning, split, 2, 1))
    second.start()
    second.join(0.3)
    assert second.is_alive()
    assert not begun
    lock.release()
    second.join()
    assert found_of(tuning)["trials"] == len(begun) == 2


def test_a_damaged_journal_is_one_sentence(of_teacher, split, scripted) -> None:
    scripted(lambda _, number: [0.1 * number])
    tuning = of_teacher()
    tuning.folder.mkdir(parents=True)
    (tuning.folder / "trials.log").write_text("{}\n[]\n")
    with pytest.raises(UserError, match=r"has a damaged trials\.log .*; delete the folder$"):
        search.search(tuning, split, 2, 1)
