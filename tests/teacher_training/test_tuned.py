"""What a search has found: which later runs train with it, and which do not. Nothing here needs Optuna."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from recbole_hetcomp.commands import benchmark
from recbole_hetcomp.commands.benchmark import run_benchmark
from recbole_hetcomp.config import Config
from recbole_hetcomp.config.errors import UserError
from recbole_hetcomp.data.fitting import fit_to_data
from recbole_hetcomp.data.split import Split, make_split
from recbole_hetcomp.quick_start import run_hetcomp
from recbole_hetcomp.teacher_training import tuning
from recbole_hetcomp.teacher_training.alone import alone_config, alone_folder, student_alone
from recbole_hetcomp.teacher_training.configs import teacher_config
from recbole_hetcomp.teacher_training.scheduling import build_pool
from recbole_hetcomp.teacher_training.training import teacher_folder
from recbole_hetcomp.teacher_training.tuned import Tuning, use_found
from recbole_hetcomp.teacher_training.tuning import prepare, trials_of, tune

QUICK = {"epochs": 2, "eval_step": 1, "train_batch_size": 256}
BPR = {"learning_rate": 0.0123, "weight_decay": "0.2 / (users + items)"}  # what has been found
MF = {"learning_rate": 0.0321, "weight_decay": "0.1 / (users + items)"}


@pytest.fixture(autouse=True)
def _no_optuna(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)


@pytest.fixture
def make_run(settings) -> Callable[..., Config]:
    """`make_run(model, **overrides)`: a run that gives its teachers and its student alone QUICK, and nothing to students."""
    mute = {key: value for key, value in settings.items() if key not in (*QUICK, "embedding_size")}
    given = {"teacher_config": {"all": QUICK}, "without_distillation_config": QUICK}

    def make(model: str = "RRDStudent", **overrides: Any) -> Config:
        return Config(model, "toy", config_dict={**mute, **given, **overrides}, arguments=())

    return make


def note(tuning: Tuning, settings: dict[str, Any]) -> Path:
    """A search that has found `settings` for each setting of the space."""
    assert set(settings) == set(tuning.space)
    tuning.folder.mkdir(parents=True)
    found = {"settings": settings, "score": 0.5, "first_score": 0.4, "trials": 3, "ended_early": 1, "seconds": 2.0}
    (tuning.folder / "found.json").write_text(json.dumps(found))
    return tuning.folder / "found.json"


@pytest.fixture
def noted(make_run, split) -> dict[str, Path]:
    """Searches on `split` that have found BPR for the teacher BPR and MF for the student alone."""
    run = make_run()
    return {
        "BPR": note(Tuning.of(teacher_config(run, "BPR"), run, split), BPR),
        "MF": note(Tuning.of(alone_config(run), run, split), MF),
    }


def teachers_settings(run: Config, split: Split, name: str = "BPR") -> dict[str, Any]:
    """What a teacher is trained with."""
    own = teacher_config(run, name)
    use_found(own, run, split)
    return {key: own[key] for key in BPR}


def students_settings(run: Config, split: Split) -> dict[str, Any]:
    """What the model of a run is trained with."""
    prepare(run, split)
    return {key: run[key] for key in MF}


@pytest.mark.usefixtures("noted")
def test_a_teacher_is_trained_with_what_was_found_for_it(make_run, split, tmp_path) -> None:
    build_pool(make_run(teachers=["BPR"]), split)
    (file,) = (tmp_path / "saved" / "trained").glob("BPR-*/record.json")
    record = json.loads(file.read_text())["settings"]
    assert record["learning_rate"] == 0.0123
    assert record["weight_decay"] == float(f"{0.2 / (61 + 81):.4g}")
    assert (record["epochs"], record["train_batch_size"]) == (2, 256)


@pytest.mark.usefixtures("noted")
def test_so_is_the_student_alone__and_it_is_another_model_than_without(make_run, split, tmp_path) -> None:
    found, plain = student_alone(make_run(), split), student_alone(make_run(tune=0), split)
    assert not torch.equal(found.user_embedding.weight, plain.user_embedding.weight)
    rates = {json.loads(path.read_text())["settings"]["learning_rate"] for path in tmp_path.glob("saved/trained/*/*.json")}
    assert rates == {0.0321, alone_config(make_run())["learning_rate"]}


def test_what_is_found_decides_where_a_teacher_is_kept(make_run, split) -> None:
    run = make_run()
    tuning = Tuning.of(teacher_config(run, "BPR"), run, split)
    folders = [teacher_folder(make_run(), split, "BPR")]
    for value in (0.01, 0.02):
        file = note(tuning, {**BPR, "learning_rate": value})
        folders.append(teacher_folder(make_run(), split, "BPR"))
        file.unlink()
        tuning.folder.rmdir()
    folders.append(teacher_folder(make_run(), split, "BPR"))
    assert folders[0] == folders[3]
    assert len(set(folders)) == 3


@pytest.mark.usefixtures("noted")
def test_others_are_not_trained_with_it(make_run, split) -> None:
    run = make_run()
    assert teachers_settings(run, split) == BPR
    for other in (
        make_run(tune=0),
        make_run(teacher_config={"all": QUICK, "BPR": {"embedding_size": 16}}),
        make_run(valid_metric="NDCG@10"),
    ):
        assert teachers_settings(other, split)["learning_rate"] == teacher_config(other, "BPR")["learning_rate"] != 0.0123
    longer = make_run(teacher_config={"all": {**QUICK, "epochs": 3, "eval_step": 3, "stopping_step": 1}})
    assert teachers_settings(longer, split) == BPR  # it holds for a training of another length
    assert teachers_settings(run, make_split(make_run(split_seed=99)))["learning_rate"] != 0.0123


@pytest.mark.usefixtures("noted")
@pytest.mark.parametrize("value", [0.7, 0.0123])
def test_a_setting_that_the_user_gives_is_the_users(make_run, split, value) -> None:
    own = make_run(teacher_config={"all": QUICK, "BPR": {"learning_rate": value}})
    plain = teacher_config(own, "BPR")["weight_decay"]
    assert teachers_settings(own, split) == {"learning_rate": value, "weight_decay": plain}  # another search's business
    alone = make_run(without_distillation_config={**QUICK, "learning_rate": value})
    assert alone_folder(alone, split) != alone_folder(make_run(), split)
    assert use_found(alone_config(alone), alone, split) is None


@pytest.mark.usefixtures("noted")
@pytest.mark.parametrize(
    "change",
    [
        {"seed": 12, "split_seed": 11},
        {"teacher_workers": 2},
        {"topk": [3, 10]},
        {"metrics": ["Recall", "NDCG", "Hit"]},
        {"student": "DL", "n_interesting": 3},
        {"teachers": ["BPR"]},
        {"tune": 3},
        {"show_progress": True},
        {"eval_batch_size": 500},
    ],
    ids=lambda change: next(iter(change)),
)
def test_what_makes_no_other_teacher_makes_no_other_search(make_run, split, change) -> None:
    assert teachers_settings(make_run(**change), split) == BPR


@pytest.mark.usefixtures("noted")
def test_a_method_with_the_students_own_loss_trains_as_was_found_for_the_student_alone(make_run, split) -> None:
    run = make_run("RRDStudent")
    assert students_settings(run, split) == MF
    fit_to_data(run, split)
    assert run["weight_decay"] == float(f"{0.1 / (61 + 81):.4g}")


@pytest.mark.usefixtures("noted")
def test_a_method_without_that_loss_does_not(make_run, split) -> None:
    before = make_run("HetCompStudent")
    plain = {key: before[key] for key in MF}
    assert students_settings(before, split) == plain
    assert plain["learning_rate"] != 0.0321
    assert (
        students_settings(make_run("HetCompStudent", base_loss_weight=0.5), split) == plain
    )  # its file has both of its own


@pytest.mark.usefixtures("noted")
def test_nor_does_a_method_where_the_user_says_otherwise_or_tune_is_0(make_run, split) -> None:
    assert students_settings(make_run(learning_rate=0.7), split) == {**MF, "learning_rate": 0.7}
    plain = make_run(tune=0)
    assert students_settings(plain, split)["learning_rate"] == alone_config(plain)["learning_rate"] != 0.0321


@pytest.mark.usefixtures("noted")
def test_a_student_of_another_size_has_another_search(make_run, split) -> None:
    assert students_settings(make_run(embedding_size=8), split) == MF  # the size of all students
    assert students_settings(make_run(embedding_size=16), split)["learning_rate"] != 0.0321


@pytest.mark.usefixtures("noted")
def test_a_benchmarks_row_of_the_student_trains_with_it_too(settings, monkeypatch) -> None:
    seen: dict[int, Config] = {}

    def watch(config: Config, *_: Any, **__: Any) -> None:
        seen[config["embedding_size"]] = config
        raise InterruptedError

    monkeypatch.setattr(benchmark, "run_on_split", watch)
    for size in (8, 16):
        with pytest.raises(InterruptedError):
            run_benchmark(["MF"], "toy", config_dict={**settings, "embedding_size": size}, seeds=1)
    assert (seen[8]["learning_rate"], seen[8]["weight_decay"]) == (0.0321, float(f"{0.1 / (61 + 81):.4g}"))
    assert seen[16]["learning_rate"] != 0.0321


DAMAGE = ["", "{", "[1]", "3", "null", "{}", '{"settings": {}}', '{"settings": null, "trials": 3}', "\xff\xfe"]
DAMAGE += ['{"settings": {"epochs": 3}, "score": 1, "first_score": 1, "trials": 1, "ended_early": 0, "seconds": 1}']


@pytest.mark.parametrize("content", DAMAGE)
def test_a_damaged_record_is_one_sentence_with_a_remedy_that_helps(make_run, split, noted, content) -> None:
    noted["BPR"].write_bytes(content.encode("latin-1"))
    with pytest.raises(UserError, match=r"cannot be read .*; delete its folder to search anew") as error:
        build_pool(make_run(teachers=["BPR"]), split)
    assert str(noted["BPR"]) in str(error.value)
    assert "\n" not in str(error.value)
    assert teachers_settings(make_run(tune=0), split)["learning_rate"] != 0.0123  # it is not even looked at
    noted["BPR"].unlink()
    noted["BPR"].parent.rmdir()
    assert teachers_settings(make_run(), split)["learning_rate"] == teacher_config(make_run(), "BPR")["learning_rate"]


@pytest.mark.usefixtures("noted")
def test_cut_offs_beyond_the_catalogue_do_not_hide_what_was_found(make_run, split) -> None:
    """A search is made before cut-offs are fitted to the data, a teacher is trained afterwards."""
    run = make_run(topk=[5, 500], valid_metric="Recall@500")
    prepare(run, split)
    note(Tuning.of(teacher_config(run, "BPR"), run, split), BPR)
    fit_to_data(run, split)
    assert teachers_settings(run, split) == BPR


def test_a_run_says_whom_it_trains_with_what_was_found(noted, make_run, caplog) -> None:
    caplog.set_level("INFO")
    run_hetcomp("RRDStudent", "toy", config_dict={**dict(make_run().external_config_dict), "epochs": 1}, arguments=())
    said = [line for line in caplog.messages if "as found by a search" in line]
    bpr = "as found by a search of 3 trials: learning_rate 0.0123, weight_decay 0.2 / (users + items)"
    mf = "as found by a search of 3 trials: learning_rate 0.0321, weight_decay 0.1 / (users + items)"
    assert sorted(said) == [f"MF without distillation: {mf}", f"RRDStudent (MF): {mf}", f"teacher BPR: {bpr}"]


def test_a_run_of_one_model_trains_with_what_was_found_for_it_and_says_so(settings, split, caplog) -> None:
    caplog.set_level("INFO")
    run = Config("BPR", "toy", config_dict=settings, arguments=())
    plain = run_hetcomp("BPR", "toy", config_dict=settings, arguments=())["test_users"]["ndcg@10"]
    note(Tuning.of(run, run, split), {"learning_rate": 0.05, "weight_decay": 1e-3})
    oracle = {**settings, "learning_rate": 0.05, "weight_decay": 1e-3}
    expected = run_hetcomp("BPR", "toy", config_dict=oracle, arguments=())["test_users"]["ndcg@10"]
    assert not any("as found by" in line for line in caplog.messages)
    found = run_hetcomp("BPR", "toy", config_dict=settings, arguments=())["test_users"]["ndcg@10"]
    assert found.tolist() == expected.tolist() != plain.tolist()
    assert sum(line.startswith("BPR: as found by a search of 3 trials: ") for line in caplog.messages) == 1


@pytest.mark.usefixtures("noted")
def test_a_search_that_does_not_hold_is_named(make_run, split, caplog) -> None:
    teachers_settings(make_run(), split)
    teachers_settings(make_run(tune=0, teacher_config={"all": QUICK, "BPR": {"embedding_size": 16}}), split)
    assert "does not hold here" not in caplog.text
    teachers_settings(make_run(teacher_config={"all": QUICK, "BPR": {"embedding_size": 16}}), split)
    assert "BPR: what a search has found does not hold here, for it was made with other settings" in caplog.text


@pytest.mark.parametrize(("key", "value"), [("learning_rate", -1), ("learning_rate", "os.remove"), ("weight_decay", [1])])
def test_what_a_setting_may_not_be_is_not_taken_from_a_file(make_run, split, key: str, value: object) -> None:
    run = make_run()
    note(Tuning.of(teacher_config(run, "BPR"), run, split), {**BPR, key: value})
    with pytest.raises(UserError, match=r"found\.json' cannot be read .*; delete its folder to search anew"):
        teachers_settings(run, split)


@pytest.mark.usefixtures("noted")
def test_a_run_knows_how_many_trials_its_base_training_rests_on(make_run, split) -> None:
    for run, trials in (
        (make_run(), 3),
        (make_run(**MF), 0),  # all is the user's
        (make_run("HetCompStudent"), 0),  # no base loss
        (make_run(tune=0), 0),
    ):
        prepare(run, split)
        assert run.trials == trials


def test_a_search_that_goes_on_beside_a_run_does_not_change_it_midway(make_run, split, noted) -> None:
    run = make_run(teachers=["BPR"])
    before, counts = teacher_folder(run, split, "BPR"), trials_of(run, split)
    for path in noted.values():
        found = json.loads(path.read_text())
        path.write_text(json.dumps({**found, "settings": {**found["settings"], "learning_rate": 0.0777}, "trials": 9}))
    assert teacher_folder(run, split, "BPR") == before
    assert trials_of(run, split) == counts
    later = make_run(teachers=["BPR"])
    assert teacher_folder(later, split, "BPR") != before
    assert set(trials_of(later, split).values()) == {9}


def test_searches_at_a_time_start_from_the_end_of_the_list_of_teachers(make_run, split, monkeypatch) -> None:
    begun: list[str] = []
    monkeypatch.setattr(tuning, "side_by_side", lambda config, jobs, workers: begun.extend(jobs) or {})
    tune(make_run(teachers=["BPR", "LightGCN"], tune=2, teacher_workers=2), split)
    assert begun == ["teacher LightGCN", "teacher BPR", "MF without distillation"]
