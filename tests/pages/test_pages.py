"""The generated parts of README, docs and results are what the classes and the data say, and no figure is edited by hand."""

from __future__ import annotations

import importlib
import json
import math
import re
from pathlib import Path
from types import ModuleType
from xml.etree import ElementTree

import pytest
import yaml

ROOT = Path(__file__).parents[2]
NAMES = ("records", "tables", "methods", "picture", "writing")


@pytest.fixture
def pages(monkeypatch: pytest.MonkeyPatch) -> dict[str, ModuleType]:
    """The modules of benchmarks/pages, by name."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks" / "pages"))
    return {name: importlib.import_module(name) for name in NAMES}


def test_pages_are_as_generated_for_the_methods_that_they_list(pages: dict[str, ModuleType]) -> None:
    writing = pages["writing"]
    files = writing.pages()
    assert {file.name for file in files} >= {"README.md", "methods.md", "ml-100k.md", "citeulike-t.md"}
    for file in files:
        text = file.read_text(encoding="utf-8")
        assert writing.regenerated(text) == text, f"{file.name} is out of date or was edited by hand; run `make pages`"


def test_the_picture_is_as_generated_and_is_xml(pages: dict[str, ModuleType]) -> None:
    picture = pages["picture"].picture()
    assert pages["writing"].PICTURE.read_text(encoding="utf-8") == picture
    ElementTree.fromstring(picture)


def test_every_measured_method_is_listed() -> None:
    listed = (ROOT / "docs" / "methods.md").read_text(encoding="utf-8")
    for data in (ROOT / "results" / "data").glob("*/methods.json"):
        for row in json.loads(data.read_text(encoding="utf-8"))["rows"]:
            assert f"| `{row['model']}` " in listed


def test_an_edited_figure_is_found(pages: dict[str, ModuleType]) -> None:
    text = (ROOT / "docs" / "methods.md").read_text(encoding="utf-8")
    figure = re.search(r"0\.\d{4} / 0\.\d{4}", text)
    assert figure is not None
    edited = text.replace(figure[0], "0.9999 / 0.9999", 1)
    assert pages["writing"].regenerated(edited) == text


def test_a_paper_is_linked_by_its_title(pages: dict[str, ModuleType]) -> None:
    paper = pages["methods"].paper
    assert paper('A, B, "On\nLists", KDD 2018, https://x.org/1.') == "[On Lists](https://x.org/1), KDD 2018"
    assert paper("A and B, 2025, https://x.org/2 (C).") == "[A and B, 2025](https://x.org/2)"
    with pytest.raises(ValueError, match="without an address"):
        paper("A, 2025.")


def benchmark_json(folder: Path, model: str, values: list[float]) -> Path:
    """A file as `hetcomp benchmark` writes it, with one row."""
    costs = {"params": 8, "size_mb": 0.1, "ms_per_1000_users": 1.0, "train_seconds": [1.0, 1.0], "epochs": [3, 4]}
    row = {"model": model, "seeds": [2020, 2021], "recall@10": values, **costs, "p_values": {"recall@10": 0.01}}
    file = folder / "benchmark.json"
    file.write_text(json.dumps({"dataset": "toy", "split": "0", "rows": [row]}), encoding="utf-8")
    return file


def test_a_benchmark_is_added_and_only_its_rows_are_replaced(pages: dict[str, ModuleType], tmp_path: Path) -> None:
    records = pages["records"]
    records.write("toy/methods", {"command": "old", "commit": "0000000", "rows": [{"model": "A"}, {"model": "B"}]}, tmp_path)
    records.add(benchmark_json(tmp_path, "A", [0.1, 0.3]), "toy/methods", "hetcomp benchmark", tmp_path)
    record = records.read("toy/methods", tmp_path)
    new, old = record["rows"]
    assert record["command"] == "hetcomp benchmark"
    assert record["commit"] != "0000000"
    assert new["recall@10"] == {"mean": 0.2, "std": pytest.approx(0.14142)}
    assert (new["seeds"], new["epochs"], new["differs"]) == (2, 4, ["recall@10"])
    assert old == {"model": "B", "commit": "0000000"}


def test_students_of_several_sizes_stand_side_by_side(pages: dict[str, ModuleType], tmp_path: Path) -> None:
    records = pages["records"]
    for size in (8, 16, 8):
        rows = [
            {"role": "teacher", "model": "BPR", "recall@10": 0.5, "params": 9},
            {"role": "student", "model": "X", "params": size},
        ]
        file = tmp_path / "comparison.json"
        file.write_text(json.dumps({"settings": {"embedding_size": size}, "rows": rows}), encoding="utf-8")
        records.add(file, "toy/sizes", "hetcomp", tmp_path)
    assert [row.get("size") for row in records.read("toy/sizes", tmp_path)["rows"]] == [None, 8, 16]


def test_a_table_has_spreads_stars_and_gains(pages: dict[str, ModuleType]) -> None:
    rows = [
        {"model": "A", "ndcg@10": {"mean": 0.3, "std": 0.01}, "params": 1234},
        {"model": "B", "ndcg@10": {"mean": 0.2, "std": 0.02}, "params": 8, "differs": ["ndcg@10"]},
    ]
    lines = pages["tables"].table({"rows": rows, "baseline": "B"}).splitlines()
    assert [cell.strip() for cell in lines[0].split("|")[1:-1]] == ["model", "NDCG@10", "parameters", "NDCG@10 over B"]
    assert [cell.strip() for cell in lines[2].split("|")[1:-1]] == ["A", "0.3000 ± 0.0100", "1,234", "+50.0 %"]
    assert [cell.strip() for cell in lines[3].split("|")[1:-1]] == ["B", "0.2000 ± 0.0200\\*", "8", "+0.0 %"]


def test_a_star_says_that_seeds_have_a_spread_only_where_there_are_several(
    pages: dict[str, ModuleType], monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [{"model": "A", "ndcg@10": 0.3}, {"model": "B", "ndcg@10": 0.2, "differs": ["ndcg@10"]}]
    record = {"rows": rows, "command": "hetcomp", "commit": "", "date": "2026", "machine": "here"}
    monkeypatch.setattr(pages["tables"], "read", lambda name: record)
    assert pages["tables"].measured("x").endswith("(paired t-test over users, p < 0.05 after Holm).")
    rows[0]["ndcg@10"] = {"mean": 0.3, "std": 0.01}
    assert "over users, spread of the seeds included, p" in pages["tables"].measured("x")


def rows_of(record: str) -> list[dict[str, object]]:
    return json.loads((ROOT / "results" / "data" / f"{record}.json").read_text(encoding="utf-8"))["rows"]


def searches() -> list[dict[str, object]]:
    return rows_of("training/searches")


def test_the_summary_of_searches_is_that_of_its_rows() -> None:
    text = (ROOT / "results" / "training.md").read_text(encoding="utf-8")
    today = [*searches(), *rows_of("training/defaults")]  # of a model in both the latter
    for data in {row["data"] for row in today}:
        shares = {row["model"]: row["share of the found"] for row in today if row["data"] == data}
        alone = shares.pop("MF without distillation")
        least = min(shares, key=shares.get)
        mean = math.floor(1000 * sum(shares.values()) / len(shares) + 0.5) / 1000
        told = f"| {data} | {len(shares)} | {shares[least]:.3f} ({least.split()[1]}) | {mean:.3f} | {alone:.3f} |"
        assert told.replace("| 0.", "| .") in text


LATER = {("ml-100k", "teacher NeuMF"): 0.4720}  # by the former default, which came after that search


def test_the_share_of_todays_defaults_is_of_what_the_search_found() -> None:
    found = {(row["data"], row["model"]): row for row in searches()}
    for row in rows_of("training/defaults"):
        searched = found[row["data"], row["model"]]
        former = LATER.get((row["data"], row["model"]), searched["without a search"])
        assert (row["by the former default"], row["found"]) == (former, searched["found"])
        assert row["share of the found"] == round(min(1.0, row["by today's"] / searched["found"]), 3)


BY_HAND = {("citeulike-t", "BPR"), ("citeulike-loo", "MF"), ("citeulike-t", "MF"), ("foursquare", "MF")}


def test_presets_are_what_was_found_or_are_known_to_be_chosen_by_hand() -> None:
    found = {(row["data"], str(row["model"]).split()[-1]): str(row["settings found"]) for row in searches()}
    for path in (ROOT / "properties" / "dataset").glob("*.yaml"):
        for model, settings in yaml.safe_load(path.read_text(encoding="utf-8"))["model_config"].items():
            if (path.stem, model) in BY_HAND:
                continue
            told = dict(part.split(" ", 1) for part in found[path.stem, model].split(", "))
            for key, value in settings.items():
                if key == "stopping_step":  # in no search, and 5 in all of them
                    assert value == 5
                    continue
                (ours, *below), (theirs, *rest) = str(value).split(" / "), told[key].split(" / ")
                assert below == rest, (path.stem, model, key)
                assert ours == theirs or float(ours) == pytest.approx(float(theirs), rel=0.05), (path.stem, model, key)


def test_links_between_pages_lead_to_files() -> None:
    for page in [ROOT / "README.md", *ROOT.glob("docs/*.md"), *ROOT.glob("results/*.md")]:
        for link in re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text(encoding="utf-8")):
            assert (page.parent / link).exists(), f"{page.name} links to {link}"


def test_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 120


def test_methods_whose_weights_are_not_chosen_on_ml_100k_are_named() -> None:
    """A yaml file says "ml-100k" where its weight is the best of some that were tried there. A composite has none."""
    text = " ".join((ROOT / "docs" / "methods.md").read_text(encoding="utf-8").split())
    sentence = re.search(r"were chosen on the validation part of ml-100k, except for those of ([^.]+), which are", text)
    assert sentence is not None
    named = {name.replace("-", "") for name in re.split(", | and ", sentence[1])}
    files = [file for file in ROOT.glob("properties/model/*Student.yaml") if file.stem != "CompositeStudent"]
    assert named == {
        file.stem.removesuffix("Student") for file in files if "ml-100k" not in file.read_text(encoding="utf-8")
    }
