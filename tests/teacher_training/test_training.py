"""Teachers are trained once, cached whole, and trained anew exactly when something that shapes them changes."""

from __future__ import annotations

import os
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from recbole_hetcomp.commands.checks import check
from recbole_hetcomp.config.errors import UserError
from recbole_hetcomp.config.registry import properties_dir
from recbole_hetcomp.data.split import make_split
from recbole_hetcomp.teacher_training import training
from recbole_hetcomp.teacher_training.alone import student_alone
from recbole_hetcomp.teacher_training.configs import teacher_config
from recbole_hetcomp.teacher_training.doubts import trainings
from recbole_hetcomp.teacher_training.scheduling import build_pool
from recbole_hetcomp.teachers import Trajectory
from recbole_hetcomp.teachers.ranking import ranked_history, top_unobserved
from recbole_hetcomp.trainer.checkpoint import load_checkpoint, save_checkpoint


@pytest.fixture
def trained(monkeypatch) -> list[str]:
    """Names of the models that RecBole has been asked to train, in order."""
    names: list[str] = []
    fit = training.fit_recorded

    def spy(config, *arguments, **named):
        names.append(config.model)
        return fit(config, *arguments, **named)

    monkeypatch.setattr(training, "fit_recorded", spy)
    return names


def cached(tmp_path: Path) -> list[str]:
    """What lies among the cached models, hidden folders included, without the fingerprints."""
    return sorted(path.name.rsplit("-", 2)[0] for path in (tmp_path / "saved" / "trained").iterdir())


def teachers_with(settings: dict, **by_teacher: dict) -> dict:
    return {**settings["teacher_config"], **by_teacher}


def test_teachers_are_trained_once_and_found_again_bit_for_bit(make_config, split, trained, tmp_path) -> None:
    first = build_pool(make_config("HetCompStudent"), split)
    assert trained == ["BPR", "LightGCN"]
    again = build_pool(make_config("HetCompStudent"), split)
    assert trained == ["BPR", "LightGCN"]
    for one, other in zip(first.teachers, again.teachers):
        assert torch.equal(one.trajectory.items, other.trajectory.items)
        assert torch.equal(one.scores(torch.arange(9)), other.scores(torch.arange(9)))
    assert cached(tmp_path) == ["BPR", "LightGCN"]


def test_a_kept_teacher_is_the_model_its_lists_come_from(make_config, split) -> None:
    for teacher in build_pool(make_config("HetCompStudent", teachers=["BPR", "EASE"]), split).teachers:
        lists = teacher.trajectory
        assert torch.equal(lists.items[-1], top_unobserved(teacher.model, split.history, 20))
        assert torch.equal(lists.observed, ranked_history(teacher.model, split.history, 100))
        assert (lists.teacher, lists.dataset_fingerprint) == (teacher.name, split.fingerprint)
        assert not teacher.model.training


def test_a_teacher_that_is_solved_at_once_has_equal_checkpoints(make_config, split) -> None:
    (ease,) = build_pool(make_config("HetCompStudent", teachers=["EASE"]), split).teachers
    assert ease.trajectory.n_stages == 2
    assert torch.equal(ease.trajectory.items[0], ease.trajectory.items[1])
    assert ease.trajectory.items.any()
    assert not ease.trajectory.rank_std.any()
    assert ease.trajectory.epochs.tolist() == [1, 1]


WITHOUT_EFFECT = [
    {"metrics": ["Hit", "MRR"]},
    {"show_progress": True},
    {"topk": [3, 10]},
    {"eval_batch_size": 500},
    {"max_block_mb": 0.01},
    {"epochs": 77, "learning_rate": 0.7, "student": "DL", "n_targets": 7},  # the student's own
    {"split_seed": 11},  # the run's seed, spelt out
]


@pytest.mark.parametrize("change", WITHOUT_EFFECT, ids=lambda change: next(iter(change)))
def test_settings_that_do_not_shape_a_teacher_do_not_retrain_it(make_config, split, trained, change) -> None:
    build_pool(make_config("HetCompStudent", teachers=["BPR"]), split)
    build_pool(make_config("HetCompStudent", teachers=["BPR"], **change), split)
    assert trained == ["BPR"]


def test_another_student_seed_shares_teachers_where_split_seed_is_set(make_config, split, trained) -> None:
    for seed in (1, 2):
        build_pool(make_config("HetCompStudent", teachers=["BPR"], seed=seed, split_seed=5), split)
    assert trained == ["BPR"]
    build_pool(make_config("HetCompStudent", teachers=["BPR"], seed=2, split_seed=6), split)
    assert trained == ["BPR", "BPR"]


WITH_EFFECT = [
    {"trajectory_depth": 7},
    {"trajectory_fractions": [0.25, 1.0]},
    {"trajectory_rule": "score"},
    {"consistency_window": 2},
    {"valid_metric": "NDCG@5"},
]


@pytest.mark.parametrize("change", WITH_EFFECT, ids=lambda change: next(iter(change)))
def test_settings_that_shape_every_teacher_retrain_it(make_config, split, trained, change) -> None:
    build_pool(make_config("HetCompStudent", teachers=["BPR"]), split)
    build_pool(make_config("HetCompStudent", teachers=["BPR"], **change), split)
    assert trained == ["BPR", "BPR"]


def test_one_teachers_own_setting_retrains_that_one_alone__and_both_versions_are_kept(
    make_config, settings, split, trained, tmp_path
) -> None:
    build_pool(make_config("HetCompStudent"), split)
    changed = teachers_with(settings, LightGCN={"n_layers": 1})
    pool = build_pool(make_config("HetCompStudent", teacher_config=changed), split)
    assert trained == ["BPR", "LightGCN", "LightGCN"]
    assert pool.teachers[1].model.n_layers == 1
    build_pool(make_config("HetCompStudent"), split)
    assert len(trained) == 3
    assert cached(tmp_path) == ["BPR", "LightGCN", "LightGCN"]


def test_another_split_retrains(make_config, split, trained) -> None:
    build_pool(make_config("HetCompStudent", teachers=["BPR"]), split)
    config = make_config("HetCompStudent", teachers=["BPR"])
    build_pool(config, make_split(make_config("BPR", seed=12)))
    assert trained == ["BPR", "BPR"]


def test_settings_of_a_teacher__our_yaml_then_all_then_its_own(make_config, settings) -> None:
    run = make_config("HetCompStudent", teacher_config=teachers_with(settings, BPR={"embedding_size": 3}), seed=4)
    own = teacher_config(run, "BPR")
    ours = own.read_yaml(properties_dir() / "teacher" / "BPR.yaml")
    assert own["stopping_step"] == ours["stopping_step"] != 10  # RecBole's
    assert own["epochs"] == 2  # all
    assert own["embedding_size"] == 3  # its own
    assert own["seed"] == 4
    assert teacher_config(run, "LightGCN")["embedding_size"] == 8


@pytest.mark.parametrize("file", ["trajectory.safetensors", "model.pth"])
def test_a_truncated_file_is_named_and_the_advice_helps(make_config, split, trained, tmp_path, file) -> None:
    config = make_config("HetCompStudent", teachers=["BPR"])
    build_pool(config, split)
    (folder,) = (tmp_path / "saved" / "trained").iterdir()
    content = (folder / file).read_bytes()
    (folder / file).write_bytes(content[: len(content) // 2])
    with pytest.raises(ValueError, match=f"{folder.name}.*{file}|{file}") as error:
        _ = build_pool(config, split).teachers[0].model
    assert trained == ["BPR"]
    if file == "trajectory.safetensors":
        assert isinstance(error.value, UserError)
        assert f"delete the folder {str(folder)!r}" in str(error.value)
    shutil.rmtree(folder)
    _ = build_pool(config, split).teachers[0].model
    assert trained == ["BPR", "BPR"]


def _nan(state: dict) -> None:
    next(iter(state["state_dict"].values())).view(-1)[0] = torch.nan


def _another_shape(state: dict) -> None:
    state["state_dict"] = {name: value[1:] for name, value in state["state_dict"].items()}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (_nan, "holds NaN"),
        (_another_shape, "of shape"),
        (lambda state: state["state_dict"].popitem(), "lacks"),
        (lambda state: state["state_dict"].update(x=torch.zeros(1)), "has 'x'"),
        (lambda state: state.update(state_dict={"a": "b"}), "no dict of tensors"),
        (lambda state: state.update(state_dict=None), "no dict of tensors"),
        (lambda state: state.pop("state_dict"), "no dict of tensors"),
        (lambda state: state.update(other_parameter={"forward": 1}), "names that the model does not have"),
        (lambda state: state.update(other_parameter="x"), "names that the model does not have"),
    ],
)
def test_kept_weights_that_are_not_this_models_are_a_sentence(make_config, split, tmp_path, change, reason) -> None:
    config = make_config("HetCompStudent", teachers=["BPR"])
    build_pool(config, split)
    (folder,) = (tmp_path / "saved" / "trained").iterdir()
    state = load_checkpoint(folder / "model.pth")
    change(state)
    save_checkpoint(folder / "model.pth", state)
    with pytest.raises(UserError, match=rf"{reason}.*; delete the folder .* to have BPR trained again"):
        _ = build_pool(config, split).teachers[0].model


def test_kept_lists_that_no_training_records_are_a_sentence(make_config, split, tmp_path) -> None:
    config = make_config("HetCompStudent", teachers=["BPR"])
    build_pool(config, split)
    (folder,) = (tmp_path / "saved" / "trained").iterdir()
    lists = Trajectory.load(folder / "trajectory.safetensors")
    replace(lists, valid_scores=lists.valid_scores + 1).save(folder / "trajectory.safetensors")
    sentence = r"^teachers: what is kept of BPR is damaged \(it has a Recall@\d+ above 1.*; delete the folder"
    with pytest.raises(UserError, match=sentence):
        build_pool(config, split)
    assert (folder / "model.pth").is_file()  # nothing that took hours is deleted


@pytest.mark.parametrize("content", [b"", b"{}", b'{"valid": [0.5]}', b"[" * 10**5, b"\xff"])
def test_a_damaged_record_is_a_sentence(make_config, split, tmp_path, content) -> None:
    config = make_config("HetCompStudent", teachers=["BPR"])
    build_pool(config, split)
    (folder,) = (tmp_path / "saved" / "trained").iterdir()
    (folder / "record.json").write_bytes(content)
    with pytest.raises(UserError, match=r"record\.json' cannot be read .*; delete the folder"):
        trainings(config, split)


def test_lists_that_were_deleted_are_missed_by_name_and_the_advice_helps(make_config, split, trained, tmp_path) -> None:
    config = make_config("HetCompStudent", teachers=["BPR"])
    before = build_pool(config, split).topk(9)
    (folder,) = (tmp_path / "saved" / "trained").iterdir()
    (folder / "trajectory.safetensors").unlink()
    with pytest.raises(UserError, match="delete the folder"):
        build_pool(config, split)
    shutil.rmtree(folder)
    assert torch.equal(build_pool(config, split).topk(9), before)  # trained again, it is the same teacher
    assert trained == ["BPR", "BPR"]


def test_an_exception_in_the_second_teacher_keeps_the_first_and_leaves_no_half(
    make_config, split, tmp_path, monkeypatch
) -> None:
    trained, fit = [], training.fit_recorded

    def fails(config, split, snapshots, depth, **named):
        trained.append(config.model)
        trainer = fit(config, split, snapshots, depth)
        if config.model == "LightGCN" and trained.count("LightGCN") == 1:
            assert len(list(snapshots.folder.iterdir())) == 2  # it had begun to write
            raise KeyboardInterrupt
        return trainer

    monkeypatch.setattr(training, "fit_recorded", fails)
    with pytest.raises(KeyboardInterrupt):
        build_pool(make_config("HetCompStudent"), split)
    assert cached(tmp_path) == ["BPR"]
    build_pool(make_config("HetCompStudent"), split)
    assert trained == ["BPR", "LightGCN", "LightGCN"]
    assert cached(tmp_path) == ["BPR", "LightGCN"]


def test_a_kept_folder_holds_model_lists_and_record_and_no_snapshots(make_config, split, tmp_path) -> None:
    build_pool(make_config("HetCompStudent", teachers=["BPR"]), split)
    (folder,) = (tmp_path / "saved" / "trained").iterdir()
    assert sorted(path.name for path in folder.iterdir()) == ["model.pth", "record.json", "trajectory.safetensors"]


def test_a_teacher_that_becomes_nan_is_named_with_a_remedy__and_not_kept(make_config, settings, split, tmp_path) -> None:
    wild = teachers_with(settings, LightGCN={"learning_rate": 1e30})
    with pytest.raises(UserError, match=r"LightGCN cannot be trained.*nan.*learning_rate"):
        build_pool(make_config("HetCompStudent", teacher_config=wild), split)
    assert cached(tmp_path) == ["BPR"]


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"teachers": ["BPR", "BPR"]}, "'BPR' is named twice"),
        ({"teachers": ["BPR", "LihgtGCN"]}, "no model named 'LihgtGCN'; did you mean 'LightGCN'"),
        ({"teachers": ["DIN"]}, "'DIN' is a sequential model that reads more"),
        ({"teachers": ["FM"]}, "'FM' is a context model"),
        ({"teachers": ["HetCompStudent"]}, "'HetCompStudent' is itself"),
        ({"teachers": []}, "is no list of names"),
        ({"teachers": "BPR"}, "is no list of names"),
        ({"teachers": ["missing.tsv"]}, "no file 'missing.tsv'"),
        ({"teacher_config": {"LightGCM": {}}}, "'LightGCM' is no teacher of this run; did you mean 'LightGCN'"),
        ({"teacher_config": {"all": 3}}, "teacher_config: .*is not of the form"),
        ({"trajectory_rule": "epochs"}, "trajectory_rule: 'epochs' is none of"),
        ({"trajectory_fractions": [0.5, 0.25, 1.0]}, "trajectory_fractions"),
        ({"trajectory_fractions": [0.5]}, "trajectory_fractions"),
        ({"trajectory_fractions": [0, 1]}, "trajectory_fractions"),
        ({"trajectory_fractions": []}, "trajectory_fractions"),
    ],
)
def test_teachers_that_cannot_be_are_refused_before_any_is_trained(make_config, trained, change, sentence) -> None:
    if "teachers" in change:
        change["teacher_config"] = {}
    with pytest.raises(UserError, match=sentence):
        check(make_config("HetCompStudent", **change))
    assert not trained


def test_the_teachers_of_the_default_settings_pass(make_config, settings) -> None:
    check(make_config("HetCompStudent"))
    names = ["BPR", "CML", "NeuMF", "LightGCN", "MultiVAE", "ItemVAE"]
    check(make_config("HetCompStudent", teachers=names))


def test_a_file_stands_beside_a_trained_teacher(make_config, split, trained) -> None:
    whole = split.whole
    seen = set(split.history.padded(torch.tensor([1]))[0].tolist())
    item = next(item for item in range(1, whole.item_num) if item not in seen)
    tokens = [whole.field2id_token[field][index] for field, index in (("user_id", 1), ("item_id", item))]
    Path("mine.tsv").write_text("user\titem\trank\n" + "\t".join(tokens) + "\t0\n")
    Path("BPR.tsv").write_text(Path("mine.tsv").read_text())
    named = build_pool(make_config("HetCompStudent", teachers=["mine.tsv", "BPR", "BPR.tsv"]), split)
    assert [teacher.name for teacher in named.teachers] == ["mine", "BPR", "BPR.tsv"]  # no two alike
    pool = build_pool(make_config("HetCompStudent", teachers=["BPR", "mine.tsv"]), split)
    assert trained == ["BPR"]
    assert [teacher.name for teacher in pool.teachers] == ["BPR", "mine"]
    assert int(pool.topk(1)[1, 1, 0]) == item


def test_a_folder_that_cannot_be_written_is_one_sentence(make_config, split, tmp_path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"checkpoint_dir.*cannot be written"):
        build_pool(make_config("HetCompStudent", checkpoint_dir=str(tmp_path / "file")), split)


def test_student_alone_is_trained_once_as_the_runs_own_student(make_config, split, trained, tmp_path) -> None:
    config = make_config("HetCompStudent", embedding_size=5, learning_rate=0.77)
    first, again = student_alone(config, split), student_alone(config, split)
    assert trained == ["MF"]
    assert type(first).__name__ == "MF"
    assert {parameter.size(-1) for parameter in first.parameters()} == {5}
    assert cached(tmp_path) == ["MF"]
    assert torch.equal(*(top_unobserved(model, split.history, 9) for model in (first, again)))


def test_student_alone_has_training_settings_of_its_own(make_config, split, trained) -> None:
    student_alone(make_config("HetCompStudent"), split)
    student_alone(make_config("HetCompStudent", learning_rate=0.77, epochs=9, train_batch_size=7, teachers=["EASE"]), split)
    assert trained == ["MF"]
    student_alone(make_config("HetCompStudent", without_distillation_config={"epochs": 1}), split)
    student_alone(make_config("HetCompStudent", seed=99, split_seed=11), split)
    assert trained == ["MF"] * 3


def test_two_trainings_at_once_leave_one_model(make_config, split, tmp_path, monkeypatch) -> None:
    """Another process finishes the same teacher first; this one's is dropped and the other's used."""
    config, real, replaced = make_config("HetCompStudent", teachers=["BPR"]), os.replace, []

    def late(source, target):
        if Path(source).is_dir() and Path(target).name.startswith("BPR-") and not replaced:
            replaced.append(target)
            shutil.copytree(source, target)
        return real(source, target)

    monkeypatch.setattr(os, "replace", late)
    pool = build_pool(config, split)
    assert replaced
    assert cached(tmp_path) == ["BPR"]
    assert pool.topk(3).any()


def test_teachers_trained_side_by_side_are_those_trained_one_by_one(make_config, split) -> None:
    teachers = {"teachers": ["BPR", "LightGCN", "EASE"]}
    alone = build_pool(make_config("HetCompStudent", **teachers, checkpoint_dir="alone"), split)
    beside = build_pool(make_config("HetCompStudent", **teachers, checkpoint_dir="beside", teacher_workers=2), split)
    for one, other in zip(alone.teachers, beside.teachers):
        assert one.name == other.name
        assert torch.equal(one.trajectory.items, other.trajectory.items)
        assert torch.equal(one.trajectory.rank_std, other.trajectory.rank_std)
        assert torch.equal(one.trajectory.valid_scores, other.trajectory.valid_scores)
        users = split.history.active_users
        assert torch.equal(one.scores(users), other.scores(users))


def test_the_student_alone_is_trained_beside_the_teachers(make_config, split) -> None:
    settings = {"teachers": ["EASE"], "student": "MF", "without_distillation_config": {"epochs": 3}}
    later = make_config("HetCompStudent", **settings, checkpoint_dir="later/saved")
    build_pool(later, split, and_student_alone=True)
    assert cached(Path("later")) == ["EASE"]  # one worker: its turn comes when it is asked for
    config = make_config("HetCompStudent", **settings, checkpoint_dir="beside/saved", teacher_workers=2)
    build_pool(config, split, and_student_alone=True)
    assert cached(Path("beside")) == ["EASE", "MF"]
    ours, theirs = student_alone(config, split).state_dict(), student_alone(later, split).state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_of_teachers_side_by_side_one_that_fails_is_named_and_the_others_are_kept(make_config, split) -> None:
    spoilt = {"all": {"epochs": 2}, "BPR": {"epochs": 2, "learning_rate": 1e30}}
    config = make_config("HetCompStudent", teachers=["BPR", "LightGCN", "EASE"], teacher_config=spoilt, teacher_workers=2)
    with pytest.raises(UserError, match=r"BPR cannot be trained.*nan"):
        build_pool(config, split)
    cached = {path.name.split("-")[0] for path in Path(config["checkpoint_dir"], "trained").iterdir()}
    assert cached == {"LightGCN", "EASE"}


def test_beside_the_student_alone_the_last_teacher_that_fails_is_named(make_config, split) -> None:
    spoilt = {"all": {"epochs": 2}, "BPR": {"epochs": 2, "learning_rate": 1e30}}
    config = make_config("HetCompStudent", teachers=["EASE", "BPR"], student="MF", teacher_config=spoilt, teacher_workers=2)
    with pytest.raises(UserError, match=r"BPR cannot be trained.*nan"):
        build_pool(config, split, and_student_alone=True)
    assert {path.name.split("-")[0] for path in Path(config["checkpoint_dir"], "trained").iterdir()} == {"EASE", "MF"}


def test_a_student_alone_that_fails_beside_the_teachers_says_so_when_it_is_asked_for(make_config, split) -> None:
    wild = {"epochs": 2, "learning_rate": 1e30}
    config = make_config(
        "HetCompStudent", teachers=["EASE"], student="MF", without_distillation_config=wild, teacher_workers=2
    )
    assert len(build_pool(config, split, and_student_alone=True)) == 1
    with pytest.raises(UserError, match=r"MF cannot be trained.*nan"):
        student_alone(config, split)


def test_a_backend_that_is_not_there_is_one_sentence(make_config, monkeypatch) -> None:
    with pytest.raises(UserError, match="teacher_backend: 'dask' is none of loky, ray"):
        check(make_config("HetCompStudent", teacher_backend="dask"))
    monkeypatch.setitem(sys.modules, "ray.util.joblib", None)
    with pytest.raises(UserError, match="teacher_backend: ray is not installed"):
        check(make_config("HetCompStudent", teacher_backend="ray"))


def test_a_teacher_that_says_nothing_of_anybody_is_refused(make_config, split, monkeypatch) -> None:
    alike = {"all": {"epochs": 1, "eval_step": 1}}
    config = make_config("HetCompStudent", teachers=["EASE"], teacher_config=alike)
    monkeypatch.setattr(
        "recbole.model.general_recommender.ease.EASE.full_sort_predict",
        lambda model, users: torch.ones(len(users), model.n_items),
    )
    with pytest.raises(UserError, match="EASE scores all items alike for every user: it teaches nothing"):
        build_pool(config, split)
