"""What the processes of one training have to tell each other, and which of them does what.

Every process builds the same model and meets the same batches. The gradient of its share of a batch's users is scaled such
that the sum over the processes, one all-reduce a batch, is the gradient of the whole batch; the optimiser does the same
everywhere, so parameters, and with them the curriculum, stay the same everywhere. The student's lists at a validation are
made in shares as well; RecBole's metrics are the first process's, over all users, handed to the others. The first process
alone trains teachers, compares and writes: checkpoints, progress, logs.

Where there is no process group every function does what a single process needs: nothing.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import TypeVar

import recbole.trainer.trainer
import torch
import torch.distributed as dist
from recbole.config import Config
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from recbole_hetcomp import console
from recbole_hetcomp.config.errors import UserError
from recbole_hetcomp.files import locks

MEETING = timedelta(minutes=10)  # until all processes have to be there
WAITING = timedelta(days=30)  # while the first one trains teachers or compares
PATIENT = "patient"  # the group of these waits

Result = TypeVar("Result")
_groups: dict[
    str, dist.ProcessGroup
] = {}  # device type -> the group for its tensors; gloo's, the default one, where none is given; and PATIENT


class DesertedError(UserError):
    """Another process of the training has ended; what went wrong is said there."""


class SilenceError(DesertedError):
    """Another process of the training has given no sign of life for `process_timeout` minutes."""


def join(rank: int, world_size: int, local_rank: int, ip: str, port: int, limit: timedelta = MEETING) -> None:
    """Meet the other processes: by gloo, and by NCCL for what lies on GPUs.

    Args:
        rank: this process's number among all `world_size`, from 0
        local_rank: its number among those on this machine, and that of its GPU
        ip, port: where the first process listens
        limit: how long it waits for another one in the midst of a training

    Raises:
        UserError: the port is taken, or not all processes came.
    """
    try:
        store = dist.TCPStore(ip, port, world_size, rank == 0, timeout=MEETING)
        dist.init_process_group("gloo", store=store, rank=rank, world_size=world_size, timeout=limit)
        _groups[PATIENT] = dist.new_group(backend="gloo", timeout=WAITING if rank else limit)  # the first one is waited for
        if torch.cuda.is_available():
            torch.cuda.set_device(local_rank)
            _groups["cuda"] = dist.new_group(backend="nccl", timeout=limit)
    except RuntimeError as error:
        reason = str(error).partition("\n")[0]
        raise UserError(
            f"port: the {world_size} processes did not meet at {ip}:{port} ({reason}); correct --ip, --port, "
            "--world_size and --group_offset"
        ) from error


def rank() -> int:
    """This process's number among all, from 0."""
    return dist.get_rank() if _several() else 0


def world_size() -> int:
    """The number of processes."""
    return dist.get_world_size() if _several() else 1


def is_first() -> bool:
    """Whether this process is the one that writes."""
    return rank() == 0


def _several() -> bool:
    return dist.is_available() and dist.is_initialized()


# ---- what they tell each other -----------------------------------------------------------------------------------------


@contextmanager
def _together() -> Iterator[None]:
    """Around everything that needs the other processes."""
    try:
        yield
    except RuntimeError as error:
        silence = re.search(r"timed? ?out", str(error), re.IGNORECASE)
        raise (SilenceError if silence else DesertedError)(
            f"nproc: process {rank()} of {world_size()} has lost the others ({str(error).splitlines()[0]}); the output of "
            "the one that failed says why"
        ) from error


def total(tensor: Tensor) -> Tensor:
    """The sum of every process's `tensor`, all of one shape; `tensor` itself takes it up."""
    if _several():
        with _together():
            dist.all_reduce(tensor, group=_groups.get(tensor.device.type))
    return tensor


def _broadcast(tensor: Tensor) -> Tensor:
    """The first process's `tensor`, put into everyone's."""
    with _together():
        dist.broadcast(tensor, src=0, group=_groups.get(tensor.device.type))
    return tensor


def wait() -> None:
    """Go on when all processes are here, however long the first one has to work before."""
    if _several():
        with _together():
            dist.all_reduce(torch.zeros(1), group=_groups.get(PATIENT))


def in_turn(work: Callable[[], Result]) -> Result:
    """`work()` on the first process, and then, with what that has left on the disk, on the others."""
    if not is_first():
        wait()
    result = work()
    if is_first():
        wait()
    return result


def from_first(value: Result) -> Result:
    """The first process's `value`, of JSON types or numpy's numbers, on all."""
    if not _several():
        return value
    wait()  # the first process may have worked for longer than the others may be silent, as at an evaluation
    content = list(json.dumps(value, default=float).encode()) if is_first() else []
    size = int(_broadcast(torch.tensor(len(content))))
    content = _broadcast(torch.tensor(content or [0] * size, dtype=torch.uint8)).tolist()
    return value if is_first() else json.loads(bytes(content))


def agree(value: object, otherwise: str) -> None:
    """Raise a UserError that says `otherwise` on all processes unless all have the same `value`, of JSON types."""
    different = total(torch.tensor(int(value != from_first(value))))
    if different:
        raise UserError(otherwise)


@contextmanager
def held(path: Path, root: Path, doing: str, *, break_lock: bool) -> Iterator[None]:
    """`files.locks.held` for all processes: the first one holds the lock, and the others go on when it has it."""
    if not is_first():
        wait()
        yield
        return
    with locks.held(path, root, doing, break_lock=break_lock):
        wait()
        yield


@contextmanager
def logged(config: Config) -> Iterator[None]:
    """Around a run: log and screen on the first process; the others show errors alone from now on, nothing of RecBole's."""
    if is_first():
        with console.logged(config):
            yield
        return
    logging.getLogger().setLevel(logging.ERROR)
    config["show_progress"] = config["log_wandb"] = False
    recbole.trainer.trainer.get_tensorboard = lambda logger: _NoTensorboard()
    yield


class _NoTensorboard:
    """Stands for tensorboard's writer where nothing is to be written."""

    def add_scalar(self, *values: object, **options: object) -> None:
        pass

    def add_hparams(self, *values: object, **options: object) -> None:
        pass


# ---- one model, one gradient -------------------------------------------------------------------------------------------


def share(users: Tensor) -> Tensor:
    """This process's part of `users` [B], which may be empty; each user belongs to one process."""
    return users[rank() :: world_size()]


def align(model: nn.Module) -> None:
    """Give the first process's parameters and buffers to all.

    Raises:
        UserError: the model normalises over batches, of which no process sees a whole one.
    """
    if not _several():
        return
    for module in model.modules():
        if isinstance(module, _BatchNorm):
            name = type(module).__name__
            raise UserError(f"student: its {name} needs whole batches, which several processes split; use --nproc=1")
    for tensor in model.state_dict().values():
        _broadcast(tensor)


def align_generator(generator: torch.Generator) -> None:
    """Give the first process's state of `generator` to all: what is drawn for all users is the same everywhere."""
    if _several():
        generator.set_state(_broadcast(generator.get_state()))


def own_randomness(seed: int, epoch: int) -> None:
    """Begin the random stream of an epoch on all processes but the first, whose stream runs on as a single process's.

    Dropout then differs among processes, and the first one's random state is all that a resume needs.
    """
    if not is_first():
        torch.manual_seed((seed * 1_000_003 + epoch) * world_size() + rank())
