"""Starting the processes that train one student together, by the flags of RecBole's `run_recbole.py`.

RecBole's own way behind these flags starts NCCL whatever the device, gives each process a seed and batches of its own, and
averages metrics over unequal shares; so of RecBole only the flags are used. What the processes do is in `parallel.py`.
"""

from __future__ import annotations

import logging
import socket
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.queues import SimpleQueue

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from recbole.config import Config

from recbole_hetcomp.config.errors import UserError
from recbole_hetcomp.model.student import DistilledRecommender
from recbole_hetcomp.trainer.parallel import DesertedError, join
from recbole_hetcomp.trainer.search_path import shared_search_path

RECBOLES_PORT = 5678
GRACE = 10.0  # seconds that a process deserted by another keeps quiet, so that the one that failed is heard first


@dataclass(frozen=True)
class Processes:
    """Which processes train together, in RecBole's terms.

    Attributes:
        nproc: processes on this machine
        world_size: processes on all machines
        offset: processes on the machines before this one
        ip, port: where the first process listens
    """

    nproc: int
    world_size: int
    offset: int
    ip: str
    port: int

    @classmethod
    def from_flags(cls, nproc: str, world_size: str, group_offset: str, ip: str, port: str | None) -> Processes:
        """From the command line; -1 for `world_size` stands for `nproc`, and without a port a free one is found.

        Raises:
            UserError: a number is none, or the numbers do not go together.
        """
        count, offset = _whole("nproc", nproc, 1), _whole("group_offset", group_offset, 0)
        total = count if world_size == "-1" else _whole("world_size", world_size, 1)
        if offset + count > total:
            raise UserError(
                f"world_size: {total} is less than group_offset + nproc ({offset} + {count}); give the number of "
                "processes on all machines"
            )
        if port is None:  # found by this machine alone, so of use to this machine alone
            return cls(count, total, offset, ip, _free_port() if count == total else RECBOLES_PORT)
        return cls(count, total, offset, ip, _whole("port", port, 1))

    def check(self, config: Config) -> None:
        """Raise a UserError where the run of `config` cannot be shared among these processes."""
        if not issubclass(config.model_class, DistilledRecommender):
            raise UserError(f"nproc: several processes train distilled models alone, {config.model} is none; use --nproc=1")
        for key, wanted in {"base_loss_weight": 0.0, "user_batches": True}.items():
            if config[key] != wanted:
                raise UserError(
                    f"{key}: {config[key]!r} trains on batches of interactions, which several processes cannot share; "
                    f"use --nproc=1, or --{key}={wanted}"
                )
        not_shared = config.model_class.not_user_by_user(config)
        if not_shared:
            raise UserError(
                f"nproc: the loss of {' and '.join(not_shared)} over a batch is more than its users' parts, so several "
                "processes would train another student than one; use --nproc=1"
            )
        if config["device"].type == "cuda" and torch.cuda.device_count() < self.nproc:
            raise UserError(
                f"gpu_id: {config['gpu_id']!r} gives {torch.cuda.device_count()} GPU(s) to {self.nproc} processes; name "
                "one for each, such as --gpu_id=0,1, or none for the CPU, --gpu_id="
            )


def _whole(flag: str, text: str, least: int) -> int:
    if not text.isdigit() or int(text) < least:
        raise UserError(f"{flag}: {text!r} is no whole number of at least {least}")
    return int(text)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("", 0))
        return int(probe.getsockname()[1])


def launch(work: Callable[[], object], processes: Processes) -> None:
    """Run `work` in this machine's processes; when one fails, the others are ended.

    Args:
        work: importable by name, or a partial of such a function; it is sent to the processes

    Raises:
        UserError: the first one that a process raised, or a process was killed.
        torch.multiprocessing.ProcessRaisedException: a process raised something else; it holds the traceback.
    """
    logging.getLogger("torch.multiprocessing.spawn").setLevel(logging.ERROR)  # else it tells of every process it ends
    with shared_search_path():
        sentences = mp.get_context("spawn").SimpleQueue()
        started = mp.start_processes(
            _member, (processes, work, sentences), processes.nproc, join=False, start_method="spawn"
        )
    try:
        while not started.join():
            pass
    except mp.ProcessExitedException as error:
        if not sentences.empty():
            raise UserError(sentences.get()) from error
        raise UserError(f"nproc: {error}; what was kept so far stays, the same command goes on from there") from error
    finally:
        for process in started.processes:
            process.terminate()  # after Ctrl-C; the others have ended


def _member(local_rank: int, processes: Processes, work: Callable[[], object], sentences: SimpleQueue[str]) -> None:
    """What one process does: join the others, work, and hand in the sentence if that fails."""
    torch.set_num_threads(max(1, torch.get_num_threads() // processes.nproc))
    try:
        rank = processes.offset + local_rank
        join(rank, processes.world_size, local_rank, processes.ip, processes.port)
        work()
        dist.destroy_process_group()
    except UserError as error:
        if isinstance(error, DesertedError):
            time.sleep(GRACE)
        sentences.put(str(error))
        sys.exit(2)
