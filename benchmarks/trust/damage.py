"""Files of a real run, damaged thousands of times and read: each is refused in a sentence, or reads as it was written.

What may be written by hand (a table of lists, an .inter file, settings, an archive with right checksums) may also read as
another one; then it is data.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import mutations
import texts
from bounds import bounded, in_time
from contents import same
from kills import PHASES
from product import Reader
from runs import SAVED, Counts, Run, digest_of_student, toy_command, undisturbed

from recbole_hetcomp.commands.checks import check
from recbole_hetcomp.config import Config
from recbole_hetcomp.config.errors import LONGEST, UserError
from recbole_hetcomp.data.split import Split, make_split
from recbole_hetcomp.teachers.lists import read_lists
from recbole_hetcomp.trainer.checkpoint import CheckpointError

MOST_BYTES = 3 * 2**29  # of memory beyond what the process has when it begins: 1.5 GB


class Kind(NamedTuple):
    """A kind of file.

    Attributes:
        path: the file
        damaged: the bytes for a seed
        read: what the package makes of it
        exact: whether it is refused wherever it does not read as it was written
    """

    path: Path
    damaged: Callable[[int], bytes]
    read: Callable[[Path], Any]
    exact: bool


def kinds(folder: Path) -> dict[str, Kind]:
    """One of each kind that a run reads, made in `folder` by runs on the toy dataset."""
    flags = toy_command(folder)
    undisturbed(folder / "ended", flags)
    interrupted = Run(folder / "interrupted", flags)
    interrupted.wait_for(lambda: PHASES["in the student"](folder / "interrupted"))
    interrupted.kill()
    ended, resumed = Reader(flags, folder / "ended"), Reader(flags, folder / "interrupted")
    split, read_model = ended.split, ended.kept_model("BPR")
    lists = folder / "lists.csv"
    lists.write_text(
        "user,item,rank\n" + "".join(f"u{user},i{item},{item}\n" for user in range(60) for item in range(0, 80, 9))
    )
    trained = folder / "ended" / SAVED / "trained"
    student, model = next((folder / "ended" / SAVED).glob("*.pth")), next(trained.glob("BPR*/model.pth"))
    progress = next((folder / "interrupted" / SAVED).glob("*.progress"))
    read_progress = resumed.progress(folder / "best.pth")
    archives = (*mutations.MUTATIONS, *mutations.OF_ARCHIVES)
    tensors = (*mutations.MUTATIONS, *mutations.OF_SAFETENSORS)
    return {
        "archive of a student": _binary(student, archives, ended.student()),
        "archive of a teacher's model": _binary(model, archives, read_model),
        "archive of progress": _binary(progress, archives, read_progress),
        "crafted archive of a teacher's model": _binary(model, mutations.CRAFTED, read_model)._replace(exact=False),
        "crafted archive of progress": _binary(progress, mutations.CRAFTED, read_progress)._replace(exact=False),
        "trajectory": _binary(next(trained.glob("BPR*/trajectory.safetensors")), tensors, lambda path: _lists(path, split)),
        "table of lists (csv)": _binary(lists, mutations.MUTATIONS, lambda path: _lists(path, split))._replace(exact=False),
        "interactions (.inter)": Kind(_damaged_data(folder), texts.damaged_interactions, lambda _: _split_of(folder), False),
        "settings (yaml)": Kind(folder / "c.yaml", texts.damaged_settings, lambda path: _settings(folder, path), False),
    }


def _binary(path: Path, applied: Sequence[mutations.Mutation], read: Callable[[Path], Any]) -> Kind:
    content = path.read_bytes()
    return Kind(path, lambda seed: applied[seed % len(applied)](content, seed), read, True)


def _config(folder: Path, files: Sequence[str] = (), data: str = "data", **settings: object) -> Config:
    given = {"data_path": str(folder / data), "load_col": {"inter": ["user_id", "item_id"]}, "use_gpu": False, **settings}
    return Config("BPR", "toy", list(files), given, ())


def _lists(path: Path, split: Split) -> dict[str, Any]:
    """Without the digest of the file itself."""
    return {name: part for name, part in vars(read_lists(path, split)).items() if name != "config_fingerprint"}


def _damaged_data(folder: Path) -> Path:
    (folder / "damaged" / "toy").mkdir(parents=True)
    return folder / "damaged" / "toy" / "toy.inter"


def _split_of(folder: Path) -> None:
    make_split(_config(folder, data="damaged", load_col={"inter": "*"}))


def _settings(folder: Path, path: Path) -> None:
    config = _config(folder, [str(path)])
    check(config)
    make_split(config)


def damage(kind: Kind, n: int) -> Counts:
    """Read `n` damaged files of a kind."""
    expected = kind.read(kind.path) if kind.exact else None
    counts, before = Counts(), kind.path.read_bytes() if kind.path.is_file() else b""
    with bounded(MOST_BYTES):
        for seed in range(n):
            kind.path.write_bytes(kind.damaged(seed))
            counts.add(*(f"seed {seed}: {line}" for line in _read(kind, expected)))
    kind.path.write_bytes(before)
    return counts


def _read(kind: Kind, expected: Any) -> list[str]:
    """What is wrong with the reading of the file as it is now."""
    try:
        with in_time():
            found = kind.read(kind.path)
    except (CheckpointError, UserError) as error:
        sentence = UserError(str(error)).sentence
        if "MemoryError" in sentence or "larger than the memory" in sentence:
            return [f"it took too much memory: {sentence[:100]}"]
        return ["no sentence"] if "\n" in sentence or len(sentence) > LONGEST else []
    except BaseException as error:  # whatever it is, nobody promised it
        if isinstance(error, KeyboardInterrupt):
            raise
        return [f"{type(error).__name__}: {str(error)[:100]}"]
    return ["read as another one"] if kind.exact and not same(found, expected) else []


def whole_runs(folder: Path, n: int) -> Counts:
    """Damage a kept teacher's lists `n` times and run the command again: it refuses them, or ends as before."""
    flags = toy_command(folder)
    expected, _ = undisturbed(folder / "first", flags)
    path = next((folder / "first" / SAVED / "trained").glob("BPR*/trajectory.safetensors"))
    content, counts = path.read_bytes(), Counts()
    tensors = (*mutations.MUTATIONS, *mutations.OF_SAFETENSORS)
    for seed in range(n):
        place = folder / "run"
        shutil.copytree(folder / "first" / SAVED / "trained", place / SAVED / "trained")
        damaged = place / path.relative_to(folder / "first")
        damaged.write_bytes(tensors[seed % len(tensors)](content, seed))
        run = Run(place, flags)
        code, wrong = run.wait(), []
        if code == 0 and digest_of_student(next((place / SAVED).glob("*.pth"))) != expected["student"]:
            wrong.append("trained on damaged lists")
        elif code not in (0, 2) or "Traceback" in run.text():
            wrong.append(f"exit code {code}")
        counts.add(*(f"seed {seed}: {line}" for line in wrong))
        shutil.rmtree(place)
    return counts


def refuse_code() -> None:
    """From now on, code of a file that starts a program or ends this one is an error of its own."""

    def ran(*_: object) -> None:
        raise AssertionError("code of a file has run")

    for name in ("abort", "system", "popen"):
        with suppress(AttributeError):
            setattr(os, name, ran)
