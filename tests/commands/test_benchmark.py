"""Several models over several seeds: one split, one set of teachers, means and spreads."""

from __future__ import annotations

import json
from pathlib import Path
from statistics import mean, stdev

import pytest
import torch

from recbole_hetcomp.cli import main
from recbole_hetcomp.commands import benchmark
from recbole_hetcomp.commands.benchmark import run_benchmark
from recbole_hetcomp.config.errors import UserError
from recbole_hetcomp.evaluation.benchmark_table import benchmark_table
from recbole_hetcomp.quick_start import run_hetcomp
from recbole_hetcomp.teacher_training import source
from recbole_hetcomp.teacher_training.cache import folder_of
from recbole_hetcomp.teacher_training.configs import training_settings


@pytest.fixture
def watched(monkeypatch):
    """What each training ran on: (model, seed, split_seed, fingerprint of the split)."""
    seen = []
    run = benchmark.run_on_split

    def watch(config, split, *args, **settings):
        seen.append((config.model, config["seed"], config["split_seed"], split.fingerprint))
        return run(config, split, *args, **settings)

    monkeypatch.setattr(benchmark, "run_on_split", watch)
    return seen


def trained(settings) -> list[str]:
    return sorted(folder.name.split("-")[0] for folder in (Path(settings["checkpoint_dir"]) / "trained").iterdir())


def test_all_seeds_share_the_split_and_the_teachers(settings, watched):
    rows = run_benchmark(["HetCompStudent", "BPR"], "toy", config_dict=settings, seeds=3)
    assert [row["model"] for row in rows] == ["HetCompStudent", "BPR"]
    assert [name for name, *_ in watched] == ["HetCompStudent"] * 3 + ["BPR"] * 3
    assert [seed for _, seed, *_ in watched] == [11, 12, 13] * 2
    assert {tuple(rest) for _, _, *rest in watched} == {(11, watched[0][3])}
    assert trained(settings) == ["BPR", "LightGCN"]
    for row in rows:
        assert row["seeds"] == [11, 12, 13]
        assert len(row["recall@10"]) == len(row["train_seconds"]) == 3
        assert len(set(row["ndcg@10"])) > 1  # else the seed would reach nothing


def test_seeds_and_split_seed_may_be_given_on_the_command_line(settings, watched):
    run_benchmark(["BPR"], "toy", config_dict=settings, seeds=2, arguments=["--seed=3", "--split_seed=5"])
    assert [(seed, split) for _, seed, split, _ in watched] == [(3, 5), (4, 5)]


def test_first_seed_gives_what_a_run_with_the_tuned_settings_gives(settings, make_config):
    rows = run_benchmark(["BPR"], "toy", config_dict=settings, seeds=1)
    tuned = training_settings(make_config("BPR"), "BPR")
    assert tuned["learning_rate"] != make_config("BPR")["learning_rate"]
    result = run_hetcomp("BPR", "toy", config_dict={**tuned, **settings}, arguments=())["test_result"]
    assert {name: [value] for name, value in result.items()} == {name: rows[0][name] for name in result}


def test_single_models_may_have_settings_of_their_own(settings):
    own = {"model_config": {"MF": {"embedding_size": 2}}}
    rows = run_benchmark(["BPR", "MF"], "toy", config_dict={**settings, **own}, seeds=1)
    assert [row["params"] for row in rows] == [8 * (62 + 82), 2 * (62 + 82)]


def test_results_are_saved_as_table_and_as_numbers(settings):
    rows = run_benchmark(["BPR", "MF"], "toy", config_dict=settings, seeds=2)
    folder = Path(settings["checkpoint_dir"])
    content = json.loads((folder / "benchmark.json").read_text())
    assert content["rows"] == rows
    assert content["dataset"] == "toy"
    lines = (folder / "benchmark.md").read_text().splitlines()
    assert len(lines) == 4
    for row, line in zip(rows, lines[2:]):
        assert f"{mean(row['recall@5']):.4f} ± {stdev(row['recall@5']):.4f}" in line


def test_what_was_measured_before_a_crash_is_kept(settings, monkeypatch):
    run = benchmark.run_on_split

    def crash(config, *args, **given):
        if config.model == "BPR":
            raise RuntimeError("the power went out")
        return run(config, *args, **given)

    monkeypatch.setattr(benchmark, "run_on_split", crash)
    with pytest.raises(RuntimeError):
        run_benchmark(["EASE", "Pop", "BPR"], "toy", config_dict=settings, seeds=1)
    content = json.loads((Path(settings["checkpoint_dir"]) / "benchmark.json").read_text())
    assert [row["model"] for row in content["rows"]] == ["EASE", "Pop"]
    assert content["rows"][1]["p_values"]


def test_what_has_been_measured_is_not_measured_again(settings, watched):
    before = run_benchmark(["Pop", "BPR"], "toy", config_dict=settings, seeds=2)
    assert len(watched) == 4
    after = run_benchmark(["BPR", "EASE"], "toy", config_dict=settings, seeds=2)
    assert [name for name, *_ in watched[4:]] == ["EASE"] * 2
    assert {**after[0], "p_values": None} == {**before[1], "p_values": None}
    again = run_benchmark(["Pop", "BPR"], "toy", config_dict=settings, seeds=2)
    assert again == before
    assert len(watched) == 6


@pytest.mark.parametrize(
    "changed", [{"learning_rate": 0.02}, {"seed": 12}, {"metrics": ["Recall", "NDCG", "Hit"]}, {"resume": False}]
)
def test_other_settings_are_measured_anew(settings, watched, changed):
    for given in (settings, {**settings, **changed}):
        run_benchmark(["BPR"], "toy", config_dict={**given, "split_seed": 1}, seeds=1)
    assert len(watched) == 2


def test_other_code_or_another_teachers_file_is_measured_anew(settings, watched, monkeypatch, tmp_path):
    file = tmp_path / "teacher.csv"
    file.write_text("user,item,rank\nu1,i2,1\nu2,i3,1\n")
    ours = {**settings, "teachers": [str(file)], "without_distillation": False}
    run_benchmark(["RRDStudent"], "toy", config_dict=ours, seeds=1)
    file.write_text("user,item,rank\nu1,i3,1\nu2,i2,1\n")
    run_benchmark(["RRDStudent"], "toy", config_dict=ours, seeds=1)
    for module, text, times in (
        ("recbole_hetcomp.cli", "added = 1", 2),
        ("recbole_hetcomp.evaluation.significance", "# a remark", 2),
        ("recbole_hetcomp.evaluation.significance", "added = 1", 3),
        ("recbole_hetcomp.losses.plackett_luce", "added = 1", 4),
        ("recbole_hetcomp.commands.benchmark", "added = 1", 5),
    ):
        with monkeypatch.context() as patch:
            edit(patch, module, text)
            run_benchmark(["RRDStudent"], "toy", config_dict=ours, seeds=1)
        assert len(watched) == times


def test_what_was_measured_on_another_device_is_measured_anew(settings, split, make_config, monkeypatch):
    config, kept = make_config("BPR"), []

    def named(config, fingerprint, shaped_by, *_, home):
        kept.append(folder_of(config, fingerprint, shaped_by, home).name)
        raise InterruptedError

    monkeypatch.setattr(benchmark, "cached", named)
    for device in ("cpu", "cuda", "cpu"):
        config["device"] = torch.device(device)
        with pytest.raises(InterruptedError):
            benchmark._measured(config, split)
    assert kept[0] == kept[2] != kept[1]


def test_how_others_are_distilled_is_nothing_to_a_model_that_is_not(settings, make_config) -> None:
    def kept(name: str, teachers: list[str], **given) -> str:
        config = make_config(name, teachers=teachers, student="MF", teacher_config={teachers[0]: {"epochs": 1}}, **given)
        return folder_of(config, "0", {}).name

    for how in ({}, {"trajectory_depth": 7}, {"teacher_weighting": 1.0}, {"base_loss_weight": 0.5}):
        assert kept("GRU4Rec", ["BPR"]) == kept("GRU4Rec", ["EASE", "CML"], **how)
        assert kept("MF", ["BPR"]) == kept("MF", ["EASE", "CML"], **how)
        assert kept("FitNetStudent", ["BPR"]) != kept("FitNetStudent", ["BPR" if how else "CML"], **how)
    assert kept("MF", ["BPR"]) != kept("MF", ["BPR"], embedding_size=5)


def edit(patch, module: str, text: str) -> None:
    """From now on the source of `module` ends in a line `text`."""
    real = source.source_of
    edited = {module: real(module)._replace(text=f"{real(module).text}\n{text}\n")}
    patch.setattr(source, "source_of", lambda name: edited.get(name) or real(name))


def test_another_source_of_a_trained_teacher_is_measured_anew(settings, watched, monkeypatch):
    ours = {**settings, "teachers": ["ItemVAE"], "without_distillation": False}
    run_benchmark(["RRDStudent"], "toy", config_dict=ours, seeds=1)
    edit(monkeypatch, "recbole_hetcomp.model.general_recommender.itemvae", "added = 1")
    run_benchmark(["RRDStudent"], "toy", config_dict=ours, seeds=1)
    assert len(watched) == 2
    assert trained(settings) == ["ItemVAE", "ItemVAE"]


def test_what_a_student_starts_from_is_part_of_what_is_measured(settings, watched, monkeypatch):
    """An edit of the first method is measured anew; without one, what was measured is found."""
    ours = {**settings, "teachers": ["BPR"], "without_distillation": False}
    first = {"start_from": "FitNetStudent", "start_config": {"epochs": 1, "eval_step": 1}}
    run = lambda: run_benchmark(["RRDStudent"], "toy", config_dict={**ours, **first}, seeds=1)  # noqa: E731
    run()
    run()
    assert len(watched) == 1
    edit(monkeypatch, "recbole_hetcomp.model.distilled_recommender.fitnetstudent", "added = 1")
    run()
    run()
    assert len(watched) == 2
    assert len(list((Path(settings["checkpoint_dir"]) / "started").iterdir())) == 2


def test_table_marks_the_best_mean_and_shows_no_spread_of_one_seed():
    costs = {
        "params": 1234567,
        "size_mb": 1.0,
        "ms_per_1000_users": 2.0,
        "train_seconds": [3.0],
        "epochs": [2],
        "p_values": {},
    }
    rows = [{"model": name, "recall@5": values, **costs} for name, values in (("A", [0.2]), ("B", [0.1, 0.5]))]
    text = benchmark_table(rows)
    assert text.splitlines()[2].split("|")[2].strip() == "0.2000"
    assert f"**0.3000 ± {stdev([0.1, 0.5]):.4f}**" in text
    assert "1,234,567" in text


def test_a_difference_that_is_more_than_chance_has_a_star():
    costs = {"params": 1, "size_mb": 1.0, "ms_per_1000_users": 2.0, "train_seconds": [3.0], "epochs": [2]}
    rows = [
        {"model": name, "recall@5": [value], "ndcg@5": [value], "p_values": p_values, **costs}
        for name, value, p_values in (("A", 0.2, {}), ("B", 0.1, {"recall@5": 0.01, "ndcg@5": 0.2}))
    ]
    lines = benchmark_table(rows).splitlines()
    assert [cell.strip() for cell in lines[3].split("|")[2:4]] == ["0.1000*", "0.1000"]
    assert lines[-1].startswith("\\* differs from A")
    assert "differs" not in benchmark_table(rows[:1])


def test_the_trials_of_a_search_are_shown_where_there_were_any():
    costs = {"params": 1, "size_mb": 1.0, "ms_per_1000_users": 2.0, "train_seconds": [3.0], "epochs": [2], "p_values": {}}
    rows = [{"model": name, "recall@5": [0.1], "trials": trials, **costs} for name, trials in (("A", 0), ("B", 12))]
    lines = [[cell.strip() for cell in line.split("|")] for line in benchmark_table(rows).splitlines()]
    assert [line[-2] for line in lines if len(line) > 1 and line[1] in ("model", "A", "B")] == ["trials", "0", "12"]
    assert "trials" not in benchmark_table(rows[:1])


def test_models_are_compared_user_by_user(settings):
    rows = run_benchmark(["EASE", "Pop", "BPR"], "toy", config_dict=settings, seeds=2)
    assert rows[0]["p_values"] == {}
    metrics = {f"{metric}@{k}" for metric in ("recall", "ndcg") for k in (5, 10)} & set(rows[0])
    assert metrics
    for row in rows[1:]:
        assert metrics <= set(row["p_values"])
        assert all(0 <= p <= 1 for p in row["p_values"].values())


def test_a_wrong_model_is_found_before_any_training(settings, watched):
    with pytest.raises(UserError, match="did you mean 'LightGCN'"):
        run_benchmark(["BPR", "LightGNC"], "toy", config_dict=settings, seeds=1)
    with pytest.raises(UserError, match="teachers"):
        run_benchmark(["BPR", "HetCompStudent"], "toy", config_dict={**settings, "teachers": []}, seeds=1)
    with pytest.raises(UserError, match="names one twice"):
        run_benchmark(["BPR", "BPR"], "toy", config_dict=settings, seeds=1)
    assert watched == []


def test_command_line_runs_it(settings, watched):
    flags = [f"--{key}={value}" for key, value in settings.items()]
    assert main(["benchmark", "--models=BPR,MF", "--seeds=1", "--dataset=toy", *flags]) == 0
    assert [name for name, *_ in watched] == ["BPR", "MF"]


@pytest.mark.parametrize("name", ["DIN", "CKE"])
def test_models_that_read_more_than_interactions_are_refused_before_any_training(settings, watched, name):
    with pytest.raises(UserError, match=f"^models: '{name}' is a .* model that reads more than interactions; leave it out"):
        run_benchmark(["BPR", name], "toy", config_dict=settings, seeds=1)
    assert watched == []


def test_models_of_both_families_have_one_split_and_are_compared_user_by_user(settings):
    small = {"hidden_size": 8, "inner_size": 8, "student": "GRU4Rec", "teachers": ["SASRec"]}
    small["load_col"] = {"inter": ["user_id", "item_id", "timestamp"]}
    small["teacher_config"] = {"SASRec": {"hidden_size": 8, "inner_size": 8, "epochs": 2, "eval_step": 1}}
    rows = run_benchmark(["HetCompStudent", "MF", "GRU4Rec"], "toy", config_dict={**settings, **small}, seeds=2)
    assert [row["model"] for row in rows] == ["HetCompStudent", "MF", "GRU4Rec"]
    for row in rows[1:]:  # as many users in each, or there would be none
        assert 0 <= row["p_values"]["recall@10"] <= 1


def test_what_is_said_for_one_model_wins_wherever_it_is_said(settings, monkeypatch):
    seen = {}
    monkeypatch.setattr(benchmark, "run_on_split", lambda config, *_, **__: seen.update({config.model: config}) or 1 / 0)
    plain = {key: value for key, value in settings.items() if key != "epochs"}
    own = "{'BPR': {'epochs': 3, 'seed': 7}}"
    for arguments in ([f"--model_config={own}", "--epochs=40", "--seed=5"], ["--epochs=40", "--seed=5"]):
        given = plain if len(arguments) == 3 else {**plain, "model_config": {"BPR": {"epochs": 3, "seed": 7}}}
        for name in ("BPR", "Pop"):
            with pytest.raises(ZeroDivisionError):
                run_benchmark([name], "toy", config_dict=given, seeds=1, arguments=arguments)
        assert (seen["BPR"]["epochs"], seen["BPR"]["seed"]) == (3, 7)
        assert (seen["Pop"]["epochs"], seen["Pop"]["seed"]) == (40, 5)


@pytest.mark.parametrize(
    ("more", "arguments", "sentence"),
    [
        ({"model_config": {"BRP": {"epochs": 3}}}, [], "^model_config: there is no model named 'BRP'; did you mean 'BPR'"),
        ({"model_config": {"BPR": {"epoch": 3}}}, [], "^model_config of BPR: epoch: nothing reads .* did you mean 'epochs'"),
        ({"model_config": {"BPR": 3}}, [], "^model_config: .* is not of the form"),
        ({}, ["--epoch=3"], "^epoch: nothing reads a setting of this name; did you mean 'epochs'"),
        ({}, ["--seed=x"], "^seed: 'x' must be a whole number"),
    ],
)
def test_a_misspelt_setting_is_refused_before_any_training(settings, watched, more, arguments, sentence):
    with pytest.raises(UserError, match=sentence):
        run_benchmark(["BPR", "Pop"], "toy", config_dict={**settings, **more}, seeds=1, arguments=arguments)
    assert watched == []


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("topk", [5]),
        ("metrics", ["Hit"]),
        ("valid_metric", "NDCG@5"),
        ("eval_args", {"split": {"RS": [0.8, 0.1, 0.1]}}),
        ("rm_dup_inter", "first"),
        ("user_inter_num_interval", "[5,inf)"),
        ("split_seed", 3),
    ],
)
@pytest.mark.parametrize("on_command_line", [True, False])
def test_one_models_own_protocol_is_refused_before_any_training(settings, watched, key, value, on_command_line):
    own = {"BPR": {"epochs": 1, key: value}}
    more, arguments = ({}, [f"--model_config={own}"]) if on_command_line else ({"model_config": own}, [])
    with pytest.raises(
        UserError, match=f"^model_config of BPR: {key}: .* for one model alone.*; give {key} to all of them$"
    ):
        run_benchmark(["Pop", "BPR"], "toy", config_dict={**settings, **more}, seeds=1, arguments=arguments)
    assert watched == []


@pytest.mark.parametrize(("key", "value"), [("seed", "x"), ("epochs", "many")])
@pytest.mark.parametrize("on_command_line", [True, False])
def test_a_wrong_value_for_one_model_is_refused_before_any_training(settings, watched, key, value, on_command_line):
    own = {"BPR": {key: value}}
    more, arguments = (
        ({}, [f"--model_config={own}", "--seed=3"]) if on_command_line else ({"model_config": own}, ["--seed=3"])
    )
    with pytest.raises(UserError, match=f"^model_config of BPR: {key}: '{value}' must be a whole number"):
        run_benchmark(["Pop", "BPR"], "toy", config_dict={**settings, **more}, seeds=1, arguments=arguments)
    assert watched == []


def test_one_models_own_seed_leaves_the_split_and_the_teachers_as_they_are(settings, watched):
    own = {"model_config": {"BPR": {"seed": 7}}}
    run_benchmark(["BPR", "Pop"], "toy", config_dict={**settings, **own}, seeds=1)
    assert [(name, seed, split) for name, seed, split, _ in watched] == [("BPR", 7, 11), ("Pop", 11, 11)]
