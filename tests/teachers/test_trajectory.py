"""Trajectories on disk, and the deviation of ranks against a loop."""

from __future__ import annotations

import errno
import os
import pickle
import statistics
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import save_file

from recbole_hetcomp.config.errors import UserError
from recbole_hetcomp.teachers import Trajectory
from recbole_hetcomp.teachers.trajectory import rank_deviation

E, U, L, P = 3, 5, 4, 2
TENSORS = ("items", "rank_std", "observed", "epochs", "valid_scores")


def example(**changes) -> Trajectory:
    generator = torch.Generator().manual_seed(3)
    items = torch.rand(E, U, 9, generator=generator).argsort(-1)[..., :L].int() + 1
    items[:, 0] = 0
    values = {
        "items": items,
        "rank_std": torch.rand(E, U, L, generator=generator).half(),
        "observed": torch.randint(0, 9, (U, P), generator=generator, dtype=torch.int32),
        "epochs": torch.tensor([2, 4, 9], dtype=torch.int32),
        "valid_scores": torch.tensor([0.1, 0.2, 0.3]),
        "teacher": "BPR",
        "dataset_fingerprint": "abc",
        "config_fingerprint": "déf",
    }
    return Trajectory(**{**values, **changes})


def assert_equal(first: Trajectory, second: Trajectory) -> None:
    for name in TENSORS:
        torch.testing.assert_close(getattr(first, name), getattr(second, name), rtol=0, atol=0, equal_nan=True)
    for name in ("teacher", "dataset_fingerprint", "config_fingerprint"):
        assert getattr(first, name) == getattr(second, name)


def test_save_and_load_give_the_same_bits(tmp_path) -> None:
    example().save(tmp_path / "t.safetensors")
    assert_equal(Trajectory.load(tmp_path / "t.safetensors"), example())


@pytest.mark.parametrize(("largest", "kind"), [(2**15, torch.int16), (2**16 - 1, torch.int16), (2**16, torch.int32)])
def test_small_ids_take_two_bytes_in_the_file__and_read_the_same(tmp_path, largest, kind) -> None:
    items = torch.tensor([[[0, 0, 0], [1, largest, 32_768]]])
    Trajectory.from_lists(items).save(tmp_path / "t.safetensors")
    with safe_open(tmp_path / "t.safetensors", framework="pt") as file:
        assert file.get_tensor("items").dtype == kind
    assert Trajectory.load(tmp_path / "t.safetensors").items.tolist() == items.tolist()


def test_lists_that_are_views_of_larger_ones_are_saved_as_they_read(tmp_path) -> None:
    wide = torch.arange(U * 2 * L, dtype=torch.int32).view(1, U, 2 * L)
    lists = Trajectory.from_lists(wide[:, :, ::2])
    lists.save(tmp_path / "t.safetensors")
    assert_equal(Trajectory.load(tmp_path / "t.safetensors"), lists)


def test_file_is_plain_safetensors_with_its_provenance_as_metadata(tmp_path) -> None:
    example().save(str(tmp_path / "t.safetensors"))
    with safe_open(str(tmp_path / "t.safetensors"), framework="pt") as file:
        metadata, names = file.metadata(), set(file.keys())
    assert names == set(TENSORS)
    assert metadata["teacher"] == "BPR"
    assert metadata["dataset_fingerprint"] == "abc"
    assert metadata["config_fingerprint"] == "déf"
    assert metadata["format"] == "recbole_hetcomp.trajectory/3"


@pytest.mark.parametrize("kept", [0.0, 0.02, 0.5, 0.99])
def test_truncated_file_is_refused__one_sentence_with_its_name(tmp_path, kept) -> None:
    path = tmp_path / "t.safetensors"
    example().save(path)
    content = path.read_bytes()
    path.write_bytes(content[: int(kept * len(content))])
    with pytest.raises(UserError, match=r"t\.safetensors.*cannot be read"):
        Trajectory.load(path)


def test_missing_file_and_pickle_are_refused__the_pickle_unopened(tmp_path) -> None:
    class Bomb:
        def __reduce__(self):
            return Path.touch, (tmp_path / "exploded",)

    (tmp_path / "p.safetensors").write_bytes(pickle.dumps(Bomb()))
    for name in ("p", "missing"):
        with pytest.raises(UserError, match=rf"{name}\.safetensors.*cannot be read"):
            Trajectory.load(tmp_path / f"{name}.safetensors")
    assert not (tmp_path / "exploded").exists()


@pytest.mark.parametrize("metadata", [None, {"format": "recbole_hetcomp.trajectory/4"}, {"teacher": "BPR"}])
def test_file_of_another_format_is_refused(tmp_path, metadata) -> None:
    save_file({name: getattr(example(), name) for name in TENSORS}, tmp_path / "t.safetensors", metadata=metadata)
    with pytest.raises(UserError, match=r"has format .*reads 'recbole_hetcomp\.trajectory/3'"):
        Trajectory.load(tmp_path / "t.safetensors")


@pytest.mark.parametrize("number", [1, 2])
def test_files_of_earlier_formats_are_read_without_a_checksum(tmp_path, number) -> None:
    metadata = {"format": f"recbole_hetcomp.trajectory/{number}", "teacher": "BPR"}
    metadata.update(dataset_fingerprint="abc", config_fingerprint="déf")
    save_file({name: getattr(example(), name) for name in TENSORS}, tmp_path / "t.safetensors", metadata=metadata)
    assert_equal(Trajectory.load(tmp_path / "t.safetensors"), example())


@pytest.mark.parametrize("tensor", TENSORS)
@pytest.mark.parametrize("format_number", [1, 2, 3])
def test_a_file_with_other_numbers_than_its_checksum_is_refused_whatever_format_it_claims(
    tmp_path, tensor, format_number
) -> None:
    path = tmp_path / "t.safetensors"
    example().save(path)
    with safe_open(path, framework="pt") as file:
        metadata, tensors = file.metadata(), {name: file.get_tensor(name) for name in TENSORS}
    metadata["format"] = f"recbole_hetcomp.trajectory/{format_number}"
    tensors[tensor].view(-1)[-1] = 1
    save_file(tensors, path, metadata=metadata)
    with pytest.raises(UserError, match="does not have its checksum"):
        Trajectory.load(path)


@pytest.mark.parametrize("name", ["teacher", "dataset_fingerprint", "config_fingerprint", "sha256"])
def test_the_checksum_covers_what_else_the_file_says(tmp_path, name) -> None:
    path = tmp_path / "t.safetensors"
    example().save(path)
    with safe_open(path, framework="pt") as file:
        metadata, tensors = file.metadata(), {name: file.get_tensor(name) for name in TENSORS}
    for changed in ({**metadata, name: "x"}, {key: value for key, value in metadata.items() if key != name}):
        save_file(tensors, path, metadata=changed)
        with pytest.raises(UserError, match="does not have its checksum"):
            Trajectory.load(path)


def test_lists_stay_as_they_were_read_when_the_file_is_written_over(tmp_path) -> None:
    path = tmp_path / "lists.safetensors"
    example().save(path)
    loaded = Trajectory.load(path)
    with open(path, "r+b") as file:  # in its place, as an editor or another program may do it
        file.write(b"\xff" * path.stat().st_size)
    assert_equal(loaded, example())


def test_file_without_one_of_the_tensors_is_refused(tmp_path) -> None:
    tensors = {name: getattr(example(), name) for name in TENSORS[1:]}
    save_file(tensors, tmp_path / "t.safetensors", metadata={"format": "recbole_hetcomp.trajectory/1"})
    with pytest.raises(UserError, match="cannot be read"):
        Trajectory.load(tmp_path / "t.safetensors")


BROKEN = {
    "items of type int64": {"items": example().items.long()},
    "deviations in float32": {"rank_std": example().rank_std.float()},
    "lists of one checkpoint without its dimension": {"items": example().items[0]},
    "fewer epochs than checkpoints": {"epochs": torch.zeros(E - 1, dtype=torch.int32)},
    "fewer users in observed": {"observed": example().observed[1:]},
    "deviations of other lists": {"rank_std": example().rank_std[..., 1:]},
    "a negative id": {"items": example().items - 5},
    "no checkpoint at all": {
        "items": example().items[:0],
        "rank_std": example().rank_std[:0],
        "epochs": example().epochs[:0],
        "valid_scores": example().valid_scores[:0],
    },
}


@pytest.mark.parametrize("changes", BROKEN.values(), ids=BROKEN.keys())
def test_tensors_that_do_not_fit_are_refused__in_memory_and_from_a_file(tmp_path, changes) -> None:
    with pytest.raises(UserError, match="BPR"):
        example(**changes)
    tensors = {name: changes.get(name, getattr(example(), name)).contiguous() for name in TENSORS}
    metadata = {"format": "recbole_hetcomp.trajectory/1", "teacher": "BPR"}
    save_file(tensors, tmp_path / "t.safetensors", metadata=metadata)
    with pytest.raises(UserError, match="BPR"):
        Trajectory.load(tmp_path / "t.safetensors")


def test_full_disk_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch) -> None:
    path = tmp_path / "t.safetensors"
    example().save(path)

    def full(_) -> None:
        raise OSError(errno.ENOSPC, "disk full")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="disk full"):
        example(teacher="other").save(path)
    monkeypatch.undo()
    assert_equal(Trajectory.load(path), example())
    assert [file.name for file in tmp_path.iterdir()] == ["t.safetensors"]


def test_file_never_bears_its_name_before_it_is_complete(tmp_path, monkeypatch) -> None:
    path, written, real = tmp_path / "t.safetensors", [], os.replace

    def spy(temporary, target) -> None:
        written.append((Path(temporary), path.exists()))
        assert_equal(Trajectory.load(temporary), example())
        real(temporary, target)

    monkeypatch.setattr(os, "replace", spy)
    example().save(path)
    ((temporary, existed),) = written
    assert not existed
    assert temporary != path
    assert temporary.parent == path.parent  # else the renaming would be a copy
    assert [file.name for file in tmp_path.iterdir()] == ["t.safetensors"]


@pytest.mark.parametrize("k", [0, 2, L, L + 3])
def test_topk_is_the_head_of_a_checkpoints_lists__by_default_the_last(k) -> None:
    lists = example()
    assert torch.equal(lists.topk(k), lists.items[E - 1][:, :k])
    assert torch.equal(lists.topk(k, 0), lists.items[0][:, :k])


def test_from_lists_takes_plain_lists_of_one_checkpoint() -> None:
    made = Trajectory.from_lists([[0, 0], [3, 1]], teacher="mine")
    assert made.items.tolist() == [[[0, 0], [3, 1]]]
    assert made.rank_std.tolist() == [[[0.0, 0.0], [0.0, 0.0]]]
    assert made.observed.shape == (2, 0)
    assert made.n_stages == 1
    assert made.valid_scores.isnan().all()


def test_from_lists_keeps_checkpoints_deviations_and_observed() -> None:
    whole = example()
    made = Trajectory.from_lists(whole.items.long(), rank_std=whole.rank_std.float(), observed=whole.observed.long())
    for name in ("items", "rank_std", "observed"):
        assert torch.equal(getattr(made, name), getattr(whole, name))


def ranked_list(length: int, n_items: int = 8):
    """A list of distinct items, 0-padded at the end."""
    some = st.lists(st.integers(1, n_items), unique=True, max_size=length)
    return some.map(lambda items: items + [0] * (length - len(items)))


@st.composite
def windows(draw) -> torch.Tensor:
    """[W, U, L]"""
    length = draw(st.integers(1, 5))
    window = st.lists(st.lists(ranked_list(length), min_size=2, max_size=2), min_size=1, max_size=4)
    return torch.tensor(draw(window), dtype=torch.int32)


@given(windows())
def test_rank_deviation_agrees_with_a_loop(window) -> None:
    judged = window[-1]
    length = judged.size(1)
    expected = torch.zeros(judged.shape)
    for user in range(len(judged)):
        for place, item in enumerate(judged[user].tolist()):
            if item:
                rows = [snapshot[user].tolist() for snapshot in window]
                expected[user, place] = statistics.pstdev(row.index(item) if item in row else length for row in rows)
    found = rank_deviation(judged, list(window))
    assert found.dtype == torch.float16
    torch.testing.assert_close(found.float(), expected, rtol=1e-3, atol=1e-3)


def test_rank_deviation_of_a_steady_list_is_0_and_grows_with_each_swap() -> None:
    steady = torch.tensor([[4, 2, 9]], dtype=torch.int32)
    swapped = torch.tensor([[2, 4, 9]], dtype=torch.int32)
    assert rank_deviation(steady, [steady] * 3).tolist() == [[0, 0, 0]]
    assert rank_deviation(steady, [swapped, steady]).tolist() == [[0.5, 0.5, 0]]


@pytest.mark.parametrize("items", [[1, 2, 3], [[[[1]]]], [[1.5, 2.0]]])
def test_lists_of_another_form_are_refused(items) -> None:
    with pytest.raises(UserError, match="whole numbers of shape"):
        Trajectory.from_lists(items)
