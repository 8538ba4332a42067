"""A damaged file is refused in a sentence or reads as it was written; a crafted one is refused or is data."""

from __future__ import annotations

import importlib.util
import io
import json
import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from recbole_hetcomp.commands.benchmark import RECORD as OF_ALL
from recbole_hetcomp.commands.benchmark import arrays_in
from recbole_hetcomp.commands.measuring import RANKINGS
from recbole_hetcomp.config.errors import UserError
from recbole_hetcomp.config.records import read_record
from recbole_hetcomp.teachers import Trajectory
from recbole_hetcomp.trainer.checkpoint import CheckpointError, load_checkpoint, save_checkpoint

RECORD = {**OF_ALL, **RANKINGS.costs}


def of_trust(name: str) -> Any:
    """A module of benchmarks/trust."""
    spec = importlib.util.spec_from_file_location(name, Path(__file__).parents[2] / "benchmarks" / "trust" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


mutations, bounded, same = of_trust("mutations"), of_trust("bounds").bounded, of_trust("contents").same

SEEDS = 40  # of each mutation
REFUSED = (CheckpointError, UserError)


def state() -> dict[str, Any]:
    draw = torch.Generator().manual_seed(1)
    weights = OrderedDict(user=torch.rand(30, 8, generator=draw), item=torch.rand(40, 8, generator=draw))
    weights["mask"] = torch.tensor([True, False])
    return {
        "config": {"model": "BPR", "topk": [5, 10], "seed": 1, "note": "é"},
        "epoch": 3,
        "best_valid_score": 0.25,
        "best_valid_result": {"recall@10": 0.25},
        "state_dict": weights,
        "other_parameter": {"note": None},
        "optimizer": {"state": {0: {"step": torch.tensor(2.0)}}, "param_groups": [{"betas": (0.9, 0.999)}]},
    }


def own(path: Path) -> None:
    save_checkpoint(path, state())


def recboles(path: Path) -> None:
    other = {"array": np.arange(12.0).reshape(3, 4), "score": np.float64(0.5)}
    torch.save({**state(), "other_parameter": other}, path, pickle_protocol=4)


def trajectory(path: Path) -> None:
    draw = torch.Generator().manual_seed(3)
    items = torch.rand(2, 20, 30, generator=draw).argsort(-1)[..., :10].int() + 1
    deviation = torch.rand(items.shape, generator=draw)
    fingerprints = {"dataset_fingerprint": "abc", "config_fingerprint": "def"}
    Trajectory.from_lists(items, rank_std=deviation, observed=items[0, :, :3], teacher="BPR", **fingerprints).save(path)


def users(path: Path) -> None:
    np.savez(path, **{"recall@10": np.linspace(0, 1, 50), "ndcg@10": np.linspace(1, 0, 50)})


def read_trajectory(path: Path) -> dict[str, Any]:
    return vars(Trajectory.load(path))


def read_users(path: Path) -> dict[str, Any]:
    return arrays_in(path)


KINDS: dict[str, tuple[str, Callable[[Path], None], Callable[[Path], Any], tuple[Any, ...]]] = {
    "a checkpoint": ("a.pth", own, load_checkpoint, (*mutations.MUTATIONS, *mutations.OF_ARCHIVES)),
    "a checkpoint of RecBole": ("a.pth", recboles, load_checkpoint, (*mutations.MUTATIONS, *mutations.OF_ARCHIVES)),
    "a trajectory": (
        *("a.safetensors", trajectory, read_trajectory),
        (*mutations.MUTATIONS, *mutations.OF_SAFETENSORS),
    ),
    "metrics of users": (
        *("users.npz", users, read_users),
        (*mutations.MUTATIONS, mutations.deflated, mutations.a_header, mutations.a_name_twice),
    ),
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_damaged_file_is_refused_in_a_sentence_or_reads_as_it_was_written(tmp_path, kind) -> None:
    name, write, read, applied = KINDS[kind]
    path = tmp_path / name
    write(path)
    content, expected = path.read_bytes(), read(path)
    sentences = []
    for mutation in applied:
        for seed in range(SEEDS):
            changed = mutation(content, seed)
            assert mutation(content, seed) == changed
            path.write_bytes(changed)
            try:
                found = read(path)
            except REFUSED as error:
                sentences.append(str(error))
            else:
                assert same(found, expected), f"{mutation.__name__} with seed {seed} was read as another content"
    assert len(sentences) > SEEDS * len(applied) / 2
    assert all("\n" not in sentence and name in sentence for sentence in sentences)


@pytest.mark.parametrize("kind", ["a checkpoint", "a checkpoint of RecBole"])
@pytest.mark.parametrize("mutation", mutations.CRAFTED, ids=lambda mutation: mutation.__name__)
def test_a_crafted_checkpoint_is_refused_or_is_data(tmp_path, kind, mutation) -> None:
    path = tmp_path / "a.pth"
    KINDS[kind][1](path)
    content, sentences = path.read_bytes(), []
    with bounded(2**28):
        for seed in range(4 * SEEDS):
            path.write_bytes(mutation(content, seed))
            try:
                found = load_checkpoint(path)
            except CheckpointError as error:
                sentences.append(str(error))
            else:
                assert is_data(found)
    assert sentences
    assert not any("MemoryError" in sentence or "\n" in sentence for sentence in sentences)


def is_data(value: Any) -> bool:
    if isinstance(value, dict):
        return all(is_data(part) for pair in value.items() for part in pair)
    if isinstance(value, (list, tuple)):
        return all(map(is_data, value))
    return isinstance(value, (torch.Tensor, np.ndarray, str, int, float, bool, type(None)))


# ---- files of a few bytes that ask for much ----------------------------------------------------------------------------


def archive(pickled: bytes, **storages: bytes) -> bytes:
    return mutations.zipped([("a/data.pkl", pickled), *((f"a/data/{key}", part) for key, part in storages.items())])


def a_tensor(numel: int, size: tuple[int, ...], stride: tuple[int, ...], offset: int = 0) -> bytes:
    """The pickle {"state_dict": {"w": tensor}}, of a storage that declares `numel` floats."""

    class Tensor:
        pass

    class Pickler(pickle._Pickler):
        def persistent_id(self, value: Any) -> Any:
            return ("storage", torch.FloatStorage, "0", "cpu", numel) if value == "the storage" else None

        def reducer_override(self, value: Any) -> Any:
            if isinstance(value, Tensor):
                hooks: OrderedDict[str, Any] = OrderedDict()
                return torch._utils._rebuild_tensor_v2, ("the storage", offset, size, stride, False, hooks)
            return NotImplemented

    file = io.BytesIO()
    Pickler(file, 2).dump({"state_dict": {"w": Tensor()}})
    return file.getvalue()


def laughs(levels: int, opening: bytes = b"]") -> bytes:
    """Lists of ten references to the list before: 10^levels in all."""
    body = b"\x80\x02}X\x01\x00\x00\x00x]q\x00"
    for level in range(levels):
        body += b"](" + 10 * (b"h" + bytes([level])) + b"eq" + bytes([level + 1])
    return body + b"s."


BOMBS = {
    "a storage that declares more than it has": archive(a_tensor(2**40, (2**40,), (1,)), **{"0": bytes(16)}),
    "a storage that declares less than it has": archive(a_tensor(2, (2,), (1,)), **{"0": bytes(16)}),
    "a shape beyond the storage": archive(a_tensor(4, (2**20, 2**20), (2**20, 1)), **{"0": bytes(16)}),
    "a shape that repeats one number": archive(a_tensor(4, (2**20, 2**20), (0, 0)), **{"0": bytes(16)}),
    "an offset beyond the storage": archive(a_tensor(4, (1,), (1,), 2**40), **{"0": bytes(16)}),
    "a negative stride": archive(a_tensor(4, (2, 2), (-2, 1)), **{"0": bytes(16)}),
    "a negative offset": archive(a_tensor(4, (2, 2), (2, 1), -4), **{"0": bytes(16)}),
    "ten million lists": archive(b"\x80\x02}X\x01\x00\x00\x00x(" + 10**7 * b"]" + b"ls."),
    "lists in lists in lists": archive(b"\x80\x02}X\x01\x00\x00\x00x" + 10**5 * b"]" + 10**5 * b"a" + b"s."),
    "a billion references": archive(laughs(9)),
    "a list that holds itself": archive(b"\x80\x02}X\x01\x00\x00\x00x]q\x00h\x00as."),
    "a memo of gigabytes": archive(b"\x80\x02}r\xff\xff\xff\x7f."),
    "a text of gigabytes": archive(b"\x80\x04}\x8d" + (2**40).to_bytes(8, "little") + b"x."),
    "a number of gigabytes": archive(b"\x80\x02}\x8b\xff\xff\xff\x7f."),
    "a million classes": archive(
        b"\x80\x02}X\x01\x00\x00\x00x(" + b"".join(b"crecbole.a\n%d\n" % n for n in range(10**5)) + b"ls."
    ),
    "what unpacks to a gigabyte": mutations.zipped([("a/data.pkl", b"\x80\x02}" + bytes(2**26))], zipfile.ZIP_DEFLATED),
    "a pickle of protocol 5": archive(b"\x80\x05}\x96" + (2**40).to_bytes(8, "little") + b"."),
}


@pytest.mark.parametrize("bomb", BOMBS)
def test_a_small_file_that_asks_for_much_is_refused_without_giving_it(tmp_path, bomb) -> None:
    path = tmp_path / "a.pth"
    path.write_bytes(BOMBS[bomb])
    with bounded(2**28), pytest.raises(CheckpointError, match=r"a\.pth") as caught:
        load_checkpoint(path)
    assert "MemoryError" not in str(caught.value)
    assert len(str(caught.value)) <= 400


def test_reading_takes_the_memory_of_the_file_and_of_its_content(tmp_path) -> None:
    size = 2**26
    save_checkpoint(tmp_path / "a.pth", {"state_dict": {str(n): torch.ones(size // 16 // 4) for n in range(16)}})
    with bounded(3 * size):
        found = load_checkpoint(tmp_path / "a.pth")
    assert sum(len(tensor) for tensor in found["state_dict"].values()) == size // 4


# ---- records -----------------------------------------------------------------------------------------------------------

GOOD = {
    "test_result": {"recall@10": 0.25},
    **dict.fromkeys(("params", "epochs"), 3),
    **dict.fromkeys(("size_mb", "ms_per_1000_users", "train_seconds"), 0.5),
}


@pytest.mark.parametrize(
    "wrong",
    [None, "x", -1, True, [], {}, float("nan"), float("inf"), 10**400, {"recall@10": "x"}],
    ids=lambda x: f"{x!r:.12}",
)
@pytest.mark.parametrize("name", GOOD)
def test_a_record_with_an_impossible_entry_is_refused(tmp_path, name, wrong) -> None:
    path = tmp_path / "record.json"
    path.write_text(json.dumps(GOOD))
    assert read_record(path, RECORD, "measure again") == GOOD
    path.write_text(json.dumps({**GOOD, name: wrong}))
    with pytest.raises(UserError, match=rf"record\.json' cannot be read \({name} is .*\); measure again"):
        read_record(path, RECORD, "measure again")
    path.write_text(json.dumps({key: value for key, value in GOOD.items() if key != name}))
    with pytest.raises(UserError, match=f"{name} is 'missing'"):
        read_record(path, RECORD, "measure again")


@pytest.mark.parametrize("mutation", mutations.MUTATIONS, ids=lambda mutation: mutation.__name__)
def test_a_damaged_record_is_a_sentence_or_a_record(tmp_path, mutation) -> None:
    path = tmp_path / "record.json"
    content, sentences = json.dumps(GOOD).encode(), []
    for seed in range(4 * SEEDS):
        path.write_bytes(mutation(content, seed))
        try:
            found = read_record(path, RECORD, "measure again")
        except UserError as error:
            sentences.append(str(error))
        else:
            assert all(kind(found[name]) for name, kind in RECORD.items())
    assert sentences
    assert not any("\n" in sentence for sentence in sentences)


@pytest.mark.parametrize("content", [b"", b"[" * 10**5, b"\xff\xfe", b"1", b"null", b'{"a":' * 10**5])
def test_what_is_no_record_at_all_is_a_sentence(tmp_path, content) -> None:
    (tmp_path / "record.json").write_bytes(content)
    with pytest.raises(UserError, match=r"record\.json"):
        read_record(tmp_path / "record.json", RECORD, "measure again")
