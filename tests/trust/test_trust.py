"""Short forms of `benchmarks/trust`: a run that is killed, two at once, and a disk that is too small."""

from __future__ import annotations

import importlib
import json
import os
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.skipif(os.name != "posix", reason="kills and mounts as POSIX has them")


@pytest.fixture
def trust(monkeypatch: pytest.MonkeyPatch) -> dict[str, ModuleType]:
    """The modules of benchmarks/trust, by name."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks" / "trust"))
    return {name: importlib.import_module(name) for name in ("runs", "kills", "twins", "disk", "damage")}


@pytest.mark.slow
def test_a_run_that_is_killed_and_started_again_ends_as_one_that_is_left_alone(trust, tmp_path) -> None:
    counts = trust["kills"].short(tmp_path)
    assert (counts.tried, counts.wrong) == (1, [])


@pytest.mark.slow
def test_two_identical_commands_at_once_both_end_right_and_the_second_says_for_whom_it_waits(trust, tmp_path) -> None:
    counts = trust["twins"].short(tmp_path)
    assert (counts.tried, counts.wrong) == (1, [])
    texts = [path.read_text() for path in tmp_path.glob("twins-0/output-*.txt")]
    assert any("waiting for process " in text and ", which has trained since " in text for text in texts)


@pytest.mark.slow
def test_two_students_that_need_the_same_teachers_have_them_trained_once(trust, tmp_path) -> None:
    twins, runs = trust["twins"], trust["runs"]
    flags = runs.toy_command(tmp_path, without_distillation=False)
    others = runs.toy_command(tmp_path, without_distillation=False, seed=12, split_seed=11)
    assert twins.twins(tmp_path, [*flags, "--split_seed=11"], 1, others).wrong == []
    texts = "".join(path.read_text() for path in tmp_path.glob("twins-0/output-*.txt"))
    assert texts.count("; cached in") == 2  # teachers


@pytest.mark.slow
def test_a_disk_that_is_too_small_ends_in_a_sentence_and_a_larger_one_goes_on(trust, tmp_path) -> None:
    reason = trust["disk"].why_not()
    if reason:
        pytest.skip(reason)
    counts = trust["disk"].short(tmp_path)
    assert (counts.tried, counts.wrong) == (1, [])


def a_run(runs: ModuleType, folder: Path, score: float, weight: float) -> dict[str, object]:
    """The outcome of a run that has left these files."""
    import torch

    (folder / "saved").mkdir(parents=True, exist_ok=True)
    torch.save({"state_dict": {"weight": torch.tensor([weight])}}, folder / "saved" / "a.pth")
    row = {"role": "student", "model": "MF", "recall@10": score, "ms_per_1000_users": os.getpid()}
    (folder / "saved" / "comparison.json").write_text(json.dumps({"checkpoint": "saved/a.pth", "rows": [row]}))
    return runs.outcome(folder)


def test_an_outcome_tells_students_and_tables_apart_to_the_last_bit(trust, tmp_path) -> None:
    runs = trust["runs"]
    first = a_run(runs, tmp_path, 0.5, 1.0)
    assert runs.differences(a_run(runs, tmp_path, 0.5, 1.0), first) == []
    assert runs.differences(a_run(runs, tmp_path, 0.5, 1.0 + 2**-23), first) == ["another student"]
    assert runs.differences(a_run(runs, tmp_path, 0.5 + 2**-53, 1.0), first) == ["another row student MF"]


def test_what_a_run_leaves_is_named(trust, tmp_path) -> None:
    runs = trust["runs"]
    (tmp_path / "saved" / "trained" / ".BPR.h-1-2-abcdefgh").mkdir(parents=True)
    (tmp_path / "saved" / "locks").mkdir()
    for name in ("locks/BPR.lock", "locks/BPR.owner", "MF.progress", ".MF.progress.h-1-2-abcdefgh.tmp", "comparison.md"):
        (tmp_path / "saved" / name).touch()
    found = [line.removeprefix("left ") for line in runs.leftovers(tmp_path)]
    assert sorted(found) == [
        ".MF.progress.h-1-2-abcdefgh.tmp",
        "MF.progress",
        "locks/BPR.owner",
        "trained/.BPR.h-1-2-abcdefgh",
    ]


def test_counts_say_what_was_wrong(trust) -> None:
    counts = trust["runs"].Counts()
    counts.add()
    counts.add("another student", "a traceback")
    assert (counts.tried, counts.as_promised, counts.wrong) == (2, 1, ["another student; a traceback"])
    assert str(counts) == "1 of 2 as promised\nanother student; a traceback"


def test_a_damaged_file_that_is_believed_or_ends_otherwise_is_counted(trust, tmp_path) -> None:
    damage = trust["damage"]
    (tmp_path / "a").write_bytes(b"abc")

    def kind(read: object) -> object:
        return damage.Kind(tmp_path / "a", lambda seed: b"abc" if seed % 2 else b"abd", read, exact=True)

    assert damage.damage(kind(lambda path: path.read_bytes()), 4).wrong == [
        "seed 0: read as another one",
        "seed 2: read as another one",
    ]
    assert damage.damage(kind(lambda path: {b"abc": 1, b"abd": 1}[path.read_bytes()]), 4).wrong == []
    assert damage.damage(kind(lambda path: {b"abc": 1}[path.read_bytes()]), 1).wrong == ["seed 0: KeyError: b'abd'"]


def test_each_kind_of_file_of_a_run_withstands_damage(trust, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    found = {name: trust["damage"].damage(kind, 60) for name, kind in trust["damage"].kinds(tmp_path).items()}
    assert not {name: counts.wrong for name, counts in found.items() if counts.wrong}
