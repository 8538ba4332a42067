"""The page says what was run, what won, by how much and how far to believe it, whatever the names and numbers are."""

from __future__ import annotations

import copy
import json
import re
import shutil
from collections.abc import Iterator
from html import unescape
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from recbole_hetcomp.cli import main
from recbole_hetcomp.config.errors import UserError
from recbole_hetcomp.report import write_report
from recbole_hetcomp.report.page import page_of
from recbole_hetcomp.report.records import read_records
from recbole_hetcomp.report.schema import FORMS

VOID = {"meta"}


def said(page: str) -> str:
    """The words of a page, without its style and script."""
    text = re.sub(r"<(style|script)>.*?</\1>", "", page, flags=re.DOTALL)
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", text)).replace("\xa0", " ").split())


class Balance(HTMLParser):
    """Notes every tag that is closed and was not opened last."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.wrong: list[str] = []

    def handle_starttag(self, tag: str, attrs: object) -> None:
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: object) -> None:
        pass

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open.pop() != tag:
            self.wrong.append(tag)


def test_a_run_a_benchmark_and_two_searches_are_on_the_page_the_newest_first(made: Path, records) -> None:
    assert set(records) == set(FORMS)
    page = (made / "report.html").read_text(encoding="utf-8")
    shown = re.findall(r'<section class="part" id="(\w+)"', page)
    assert sorted(shown) == sorted(records)
    made_at = [records[kind]["made"] for kind in shown]  # to the second: two may be as old as each other
    assert made_at == sorted(made_at, reverse=True)


@pytest.mark.parametrize("kind", FORMS)
def test_each_part_says_the_command_the_data_the_split_and_the_versions(records, kind: str) -> None:
    words = said(page_of({kind: records[kind]}))
    for told in (
        "toy: 61 users, 81 items",
        "60 / 20 / 20 % of each user's interactions, in random order, seed 11",
        "recbole_hetcomp 0.1.0, recbole 1.2.1, torch ",
        "--dataset=toy",
        records[kind]["dataset"]["fingerprint"][:8],
        "How far to believe it",
    ):
        assert told in words


def test_a_run_says_who_won_and_by_how_much(records) -> None:
    record = records["run"]
    words = said(page_of({"run": record}))
    rows = {row["role"]: row for row in record["rows"]}
    student, ensemble = rows["student"], rows["ensemble"]
    share = 100 * student["metrics"]["recall@10"] / ensemble["metrics"]["recall@10"]
    assert f"{share:.1f} % of it" in words
    assert f"{student['params']:,} parameters instead of {ensemble['params']:,}" in words
    alone = record["against"]["student without distillation"]["recall@10"]
    assert f"higher for {100 * alone['won']:.0f} % of the users" in words
    assert "One run, with one seed (11)" in words


def test_the_best_of_each_column_is_marked(records) -> None:
    page = page_of({"run": records["run"]})
    best = max(row["metrics"]["ndcg@10"] for row in records["run"]["rows"])
    assert f'class="best" data-sort="{best!r}">{best:.4f}<' in page


def test_the_page_is_one_small_file_that_asks_for_nothing(made: Path) -> None:
    page = (made / "report.html").read_text(encoding="utf-8")
    assert len(page.encode()) < 500_000
    assert not re.search(r"https?:|<link|<img|src=|@import|url\(", page)
    script = re.search(r"<script>\n(.*?)</script>", page, re.DOTALL)
    assert script is not None
    assert len(script[1].splitlines()) <= 100


def test_tags_are_balanced(made: Path) -> None:
    parser = Balance()
    parser.feed((made / "report.html").read_text(encoding="utf-8"))
    assert (parser.wrong, parser.open) == ([], [])


def test_hetcomp_report_makes_the_same_page_again(made: Path, tmp_path: Path, capsys) -> None:
    copied = Path(shutil.copytree(made, tmp_path / "copied"))
    (copied / "report.html").unlink()
    assert main(["report", str(copied)]) == 0
    assert (copied / "report.html").read_bytes() == (made / "report.html").read_bytes()
    assert capsys.readouterr().out.strip() == str(copied / "report.html")


def test_a_folder_without_records_is_one_sentence(tmp_path: Path, capsys) -> None:
    assert main(["report", str(tmp_path)]) == 2
    assert "there is no record" in capsys.readouterr().err
    assert not (tmp_path / "report.html").exists()


@pytest.mark.parametrize("content", ["", "{", "[]", "null", "{}", '{"version": 1}', "NaN", '{"a":' * 5000])
def test_a_record_that_is_damaged_is_one_sentence(made: Path, tmp_path: Path, capsys, content: str) -> None:
    copied = Path(shutil.copytree(made, tmp_path / "copied"))
    (copied / "report" / "run.json").write_text(content, encoding="utf-8")
    assert main(["report", str(copied)]) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1
    assert "run.json" in lines[0]
    assert "delete the file" in lines[0]


def test_a_damaged_record_costs_the_next_run_its_page_and_nothing_else(settings, caplog) -> None:
    from recbole_hetcomp.commands.pipeline import run_hetcomp

    folder = Path(settings["checkpoint_dir"])
    (folder / "report").mkdir(parents=True)
    (folder / "report" / "benchmark.json").write_text("{", encoding="utf-8")
    result = run_hetcomp("BPR", "toy", config_dict=settings, arguments=())
    assert Path(result["checkpoint"]).is_file()
    assert not (folder / "report.html").exists()
    assert "there is no new report.html" in caplog.text


def leaves(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where the values of nested data are; the first and the last entry of lists, and of settings, which are shown alike."""
    entries = list(value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ())
    alike = isinstance(value, list) or path[-1:] == ("settings",)
    for key, part in entries[:1] + entries[1:][-1:] if alike else entries:
        yield (*path, key)
        yield from leaves(part, (*path, key))


@pytest.mark.parametrize("kind", FORMS)
@pytest.mark.parametrize("wrong", [None, "x", -1, 1e308, [], {}, True], ids=repr)
def test_whatever_a_record_holds_the_outcome_is_a_page_or_a_sentence(records, tmp_path: Path, kind: str, wrong: Any) -> None:
    (tmp_path / "report").mkdir()
    sentences = []
    for path in set(leaves(records[kind])):
        record = copy.deepcopy(records[kind])
        parent = record
        for key in path[:-1]:
            parent = parent[key]
        parent[path[-1]] = wrong
        (tmp_path / "report" / f"{kind}.json").write_text(json.dumps(record), encoding="utf-8")
        try:
            page_of(read_records(tmp_path))
        except UserError as error:
            sentences.append(error.sentence)
    assert sentences
    assert max(map(len, sentences)) <= 400


@pytest.mark.parametrize("kind", FORMS)
def test_names_are_text_and_never_markup(records, kind: str) -> None:
    evil = "<script>alert(1)</script>\"'&"

    def renamed(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: renamed(part) for key, part in value.items()}
        if isinstance(value, list):
            return [renamed(part) for part in value]
        return evil + value if isinstance(value, str) else value

    record = renamed(records[kind])
    record |= {key: value for key, value in records[kind].items() if key in ("made", "tested")}  # of few words
    page = page_of({kind: record})
    assert page.count("<script>") == 1
    assert "alert(1)" in page


def test_a_run_of_a_model_without_teachers_has_a_page(settings) -> None:
    from recbole_hetcomp.commands.pipeline import run_hetcomp

    run_hetcomp("BPR", "toy", config_dict=settings, arguments=())
    words = said((Path(settings["checkpoint_dir"]) / "report.html").read_text(encoding="utf-8"))
    assert "BPR on toy" in words
    assert "Learning curves" in words


def test_a_run_of_clicks_is_told_in_rows_products_and_differences(made_of_clicks: Path) -> None:
    record = read_records(made_of_clicks)["run"]
    words = said(page_of({"run": record}))
    rows = {row["role"]: row for row in record["rows"]}
    student, ensemble = rows["student"], rows["ensemble"]
    gap = record["against"]["student without distillation"]["auc"]
    assert gap["mean"] == pytest.approx(
        student["metrics"]["auc"] - rows["student without distillation"]["metrics"]["auc"], abs=1e-4
    )
    for told in (
        f"The student has AUC {student['metrics']['auc']:.4f}",
        f"{student['params']:,} parameters instead of {ensemble['params']:,}",
        "for 1,000 rows",
        f"{student['multiply_adds']:,.0f}",
        f"tested on {record['tested']['count']:,} rows",
        f"{gap['mean']:+.4f}".replace("-", "−"),
        "DeLong",
        "Fidelity is R²",
        "rows are scored, nothing is ranked",
        "Learning curves",
    ):
        assert told in words
    assert record["tested"]["count"] == record["dataset"]["parts"]["test"]
    for untold in ("1,000 users", "won", "Popularity", "D@50", "ranked against"):
        assert untold not in words


def test_a_benchmark_of_clicks_has_intervals_over_rows(made_of_clicks: Path) -> None:
    record = read_records(made_of_clicks)["benchmark"]
    words = said(page_of({"benchmark": record}))
    first, second = record["rows"]
    for metric in ("auc", "logloss"):
        for row in (first, second):
            interval, values = row["intervals"][metric], row["metrics"][metric]
            assert interval["mean"] == pytest.approx(sum(values) / 2, abs=1e-4)
            assert interval["low"] < interval["mean"] < interval["high"]
        means = [sum(row["metrics"][metric]) / 2 for row in (second, first)]
        assert second["against"][metric]["mean"] == pytest.approx(means[0] - means[1], abs=1e-4)
    assert "Differences from KDDAGFMStudent" in words
    assert "paired over rows" in words
    assert "users and seeds" not in words


def test_the_page_of_clicks_is_balanced_and_asks_for_nothing(made_of_clicks: Path) -> None:
    page = (made_of_clicks / "report.html").read_text(encoding="utf-8")
    parser = Balance()
    parser.feed(page)
    assert (parser.wrong, parser.open) == ([], [])
    assert not re.search(r"https?:|<link|<img|src=|@import|url\(", page)


def test_large_searches_are_thinned_on_the_page_and_keep_their_best(records) -> None:
    """400 trials of each of seven models, and 2,000 shapes of students."""
    teachers, students = copy.deepcopy(records["teacher_search"]), copy.deepcopy(records["student_search"])
    found = next(iter(teachers["searches"].values()))
    trial = found["trials"][0]
    trials = [
        {**trial, "trial": i + 1, "score": i / 1e4, "settings": {"learning_rate": 1e-4 * (i + 1), "embedding_size": i}}
        for i in range(400)
    ]
    many = {**found, "trials": trials, "score": trials[-1]["score"]}
    teachers["searches"] = {f"teacher {i}": many for i in range(7)}
    shape = {**students["ranked"][0], "settings": {"embedding_size": 8}}
    students["ranked"] = [{**shape, "parameters": 100 + i, "score": 1 - i / 2000} for i in range(2000)]
    page = page_of({"teacher_search": teachers, "student_search": students})
    assert len(page.encode()) < 500_000
    assert page.count("The first and the best of 400.") == 7
    assert page.count(f">{trials[-1]['score']:.4f}<") >= 7
    assert f">{trials[300]['score']:.4f}<" not in page


def test_curves_of_further_seeds_are_short(records) -> None:
    first, second = records["benchmark"]["rows"][0]["curves"]
    assert first["epochs"]
    assert second["epochs"] == []
    assert [entry["epoch"] for entry in second["validations"]]
    assert not any("distances" in entry for entry in second["validations"])


def test_models_of_a_benchmark_have_the_settings_that_differ_from_the_firsts(records) -> None:
    first, second = records["benchmark"]["rows"]
    assert first["settings"] == {}
    assert second["settings"]
    assert all(records["benchmark"]["settings"].get(key) != value for key, value in second["settings"].items())
    assert "Settings that differ from HetCompStudent's" in said(page_of({"benchmark": records["benchmark"]}))


def test_a_benchmark_of_one_model_and_one_seed_says_nothing_of_others(records) -> None:
    record = copy.deepcopy(records["benchmark"])
    (row,) = record["rows"] = record["rows"][:1]
    row |= {"seeds": row["seeds"][:1], "curves": row["curves"][:1]}
    row["metrics"] = {name: values[:1] for name, values in row["metrics"].items()}
    words = said(page_of({"benchmark": record}))
    assert "Benchmark of 1 model on toy" in words
    assert f"HetCompStudent has Recall@10 {row['metrics']['recall@10'][0]:.4f}." in words
    for untold in ("and seeds", "standard deviation", "* differs", "Differences from"):
        assert untold not in words


def test_a_run_chosen_by_a_metric_that_is_no_mean_shows_its_users_by_another(records) -> None:
    record = copy.deepcopy(records["run"])
    for row in record["rows"]:
        row["metrics"] = {"itemcoverage@10": 0.5, **row["metrics"]}
    record["valid_metric"] = "ItemCoverage@10"
    assert "Users won and lost" in said(page_of({"run": record}))


def test_losses_of_a_model_without_teachers_are_not_called_distillation(records) -> None:
    record = copy.deepcopy(records["run"])
    record["rows"], record["against"] = [{**record["rows"][-1], "role": "model"}], {}
    for entry in record["curves"]["epochs"]:
        entry["loss"] = [1.0, 2.0, 3.0]
    words = said(page_of({"run": record}))
    assert "distillation loss" not in words
    assert "loss, part 3" in words
    assert "p-values are over" not in words


def test_searches_of_plain_models_are_told(settings) -> None:
    pytest.importorskip("optuna")
    from recbole_hetcomp.commands.benchmark import run_benchmark
    from recbole_hetcomp.commands.pipeline import run_hetcomp

    searched = {**settings, "tune": 2, "epochs": 2}
    run_hetcomp("BPR", "toy", config_dict=searched, arguments=())
    rows = run_benchmark(["BPR"], "toy", config_dict=searched, seeds=1)
    words = said((Path(settings["checkpoint_dir"]) / "report.html").read_text(encoding="utf-8"))
    assert rows[0]["trials"] == 2
    assert "Settings were searched: trials by model: BPR 2." in words
    assert "No settings were searched" not in words


def test_an_unsaved_run_leaves_no_page(settings) -> None:
    from recbole_hetcomp.commands.pipeline import run_hetcomp

    run_hetcomp("BPR", "toy", config_dict=settings, arguments=(), saved=False)
    assert not (Path(settings["checkpoint_dir"]) / "report.html").exists()


def test_write_report_says_where_the_page_is(made: Path, tmp_path: Path) -> None:
    copied = Path(shutil.copytree(made, tmp_path / "copied"))
    assert write_report(copied) == copied / "report.html"
