"""The formats of an exported student: how each is written, and how what was written is asked."""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from recbole_hetcomp.config.errors import UserError
from recbole_hetcomp.serving.exported import Arrays, Exported, in_float32
from recbole_hetcomp.serving.onnx_graph import onnx_model

ERRORS = 3  # of onnxruntime's levels of logging
Seen = tuple[np.ndarray, np.ndarray]  # places in the batch [n], rows of items [n]
Top = Callable[[np.ndarray, Seen, int], tuple[np.ndarray, np.ndarray]]  # (users' rows [B], seen, k) -> items, scores [B, k]


class Format(NamedTuple):
    """A format.

    Attributes:
        files: names of what holds the vectors
        needs: packages that write and read it
        write: (what is exported, dtype, folder)
        opened: (folder) -> how it is asked
    """

    files: tuple[str, ...]
    needs: tuple[str, ...]
    write: Callable[[Exported, str, Path], None]
    opened: Callable[[Path], Top]


def check_libraries(form: str) -> None:
    """Raise a UserError where a package that the format needs is missing."""
    for name in FORMATS[form].needs:
        try:
            importlib.import_module(name)
        except ImportError as error:
            raise UserError(
                f"format: {form} needs {name} ({error}); pip install 'recbole_hetcomp[export]', or choose safetensors or npz"
            ) from error


def write_model(exported: Exported, form: str, dtype: str, folder: Path) -> int:
    """Write vectors, tokens and seen items into `folder`; returns the bytes of the files that hold the vectors.

    Raises:
        UserError: the vectors do not fit the format or the dtype.
    """
    FORMATS[form].write(exported, dtype, folder)
    names = {"users": exported.user_tokens, "items": exported.item_tokens}
    (folder / "tokens.json").write_text(json.dumps(names, ensure_ascii=False), encoding="utf-8")
    np.savez(folder / "seen.npz", starts=exported.seen_starts, items=exported.seen_items)
    return sum((folder / name).stat().st_size for name in FORMATS[form].files)


def _write_safetensors(exported: Exported, dtype: str, folder: Path) -> None:
    from safetensors.numpy import save_file

    save_file(
        {name: np.ascontiguousarray(array) for name, array in exported.arrays(dtype).items()}, folder / "model.safetensors"
    )


def _write_npz(exported: Exported, dtype: str, folder: Path) -> None:
    np.savez(folder / "model.npz", **exported.arrays(dtype))


def _write_onnx(exported: Exported, dtype: str, folder: Path) -> None:
    (folder / "model.onnx").write_bytes(onnx_model(exported.arrays(dtype), "student").SerializeToString())


def _write_faiss(exported: Exported, dtype: str, folder: Path) -> None:
    import faiss

    size = exported.items.shape[1]
    exported.arrays(dtype)  # which refuses vectors beyond float16
    index: faiss.Index
    if dtype == "float32":
        index = faiss.IndexFlatIP(size)
    else:
        kind = {"float16": faiss.ScalarQuantizer.QT_fp16, "int8": faiss.ScalarQuantizer.QT_8bit}[dtype]
        index = faiss.IndexScalarQuantizer(size, kind, faiss.METRIC_INNER_PRODUCT)
    items = np.ascontiguousarray(exported.items)
    index.train(items)
    index.add(items)
    faiss.write_index(index, str(folder / "items.faiss"))
    np.save(folder / "users.npy", exported.users.astype(np.float16 if dtype == "float16" else np.float32))


def _open_safetensors(folder: Path) -> Top:
    from safetensors.numpy import load_file

    return _products(load_file(folder / "model.safetensors"))


def _open_npz(folder: Path) -> Top:
    with np.load(folder / "model.npz", allow_pickle=False) as file:
        return _products(dict(file))


def _products(arrays: Arrays) -> Top:
    """Of vectors: products, and the largest of each row."""
    users, items = in_float32(arrays, "users"), in_float32(arrays, "items")

    def top(rows: np.ndarray, seen: Seen, k: int) -> tuple[np.ndarray, np.ndarray]:
        scores = users[rows] @ items.T
        scores[seen] = -np.inf
        best = np.argpartition(scores, scores.shape[1] - k, axis=1)[:, -k:]
        of_best = np.take_along_axis(scores, best, 1)
        order = np.argsort(-of_best, axis=1, kind="stable")
        return np.take_along_axis(best, order, 1), np.take_along_axis(of_best, order, 1)

    return top


def _open_onnx(folder: Path) -> Top:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()  # as for all that it is compared with
    options.log_severity_level = ERRORS  # it warns that inputs have defaults
    session: Any = onnxruntime.InferenceSession(str(folder / "model.onnx"), options, providers=["CPUExecutionProvider"])

    def top(rows: np.ndarray, seen: Seen, k: int) -> tuple[np.ndarray, np.ndarray]:
        places, items = seen
        counts = np.bincount(places, minlength=len(rows))
        padded = np.full((len(rows), max(1, int(counts.max(initial=0)))), -1, dtype=np.int64)
        padded[places, np.arange(len(places)) - (counts.cumsum() - counts)[places]] = items
        return tuple(session.run(["best", "scores"], {"user": rows, "seen": padded, "k": np.array([k])}))

    return top


def _open_faiss(folder: Path) -> Top:
    import faiss

    index, users = faiss.read_index(str(folder / "items.faiss")), np.load(folder / "users.npy", allow_pickle=False)

    def top(rows: np.ndarray, seen: Seen, k: int) -> tuple[np.ndarray, np.ndarray]:
        """More than k are looked for, by as many as a user has seen; those are taken out of what was found."""
        faiss.omp_set_num_threads(torch.get_num_threads())
        places, items = seen
        most = int(np.bincount(places, minlength=len(rows)).max(initial=0))
        scores, found = index.search(users[rows].astype(np.float32), min(k + most, index.ntotal))
        pairs = np.arange(len(rows))[:, None] * index.ntotal + found
        scores = np.where(np.isin(pairs, places * index.ntotal + items), -np.inf, scores).astype(np.float32)
        order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
        return np.take_along_axis(found, order, 1), np.take_along_axis(scores, order, 1)

    return top


FORMATS = {
    "safetensors": Format(("model.safetensors",), ("safetensors",), _write_safetensors, _open_safetensors),
    "npz": Format(("model.npz",), (), _write_npz, _open_npz),
    "onnx": Format(("model.onnx",), ("onnx", "onnxruntime"), _write_onnx, _open_onnx),
    "faiss": Format(("items.faiss", "users.npy"), ("faiss",), _write_faiss, _open_faiss),
}
