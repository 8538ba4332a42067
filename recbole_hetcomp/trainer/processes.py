"""Starting the processes that train one student together, by the flags of RecBole's `run_recbole.py`.

RecBole's own way behind these flags starts NCCL whatever the device, gives each process a seed and batches of its own, and
averages metrics over unequal shares; so of RecBole only the flags are used. What the processes do is in `parallel.py`.
"""

from __future__ import annotations

import logging
import socket
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from multiprocessing.queues import SimpleQueue
from typing import NamedTuple

import psutil
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from recbole.config import Config

from recbole_hetcomp.config.errors import UserError
from recbole_hetcomp.config.numbers import whole_number
from recbole_hetcomp.model.student import DistilledRecommender
from recbole_hetcomp.trainer.memory import keep_freed_memory
from recbole_hetcomp.trainer.parallel import DesertedError, SilenceError, join
from recbole_hetcomp.trainer.search_path import shared_search_path

RECBOLES_PORT = 5678
GRACE = 10.0  # seconds that a process deserted by another stays, so that the one that failed is heard
STOPPED = (psutil.STATUS_STOPPED, psutil.STATUS_TRACING_STOP)
POLL, SECONDS_TO_END = 2.0, 5.0  # between two looks at the processes; until one that is asked to end is killed


class Report(NamedTuple):
    """What a process says at its end: "failed", "deserted" by another one, or "silence" of another one."""

    local_rank: int
    kind: str
    sentence: str


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
        count, offset = whole_number("nproc", nproc, 1), whole_number("group_offset", group_offset, 0)
        total = count if world_size == "-1" else whole_number("world_size", world_size, 1)
        if offset + count > total:
            raise UserError(
                f"world_size: {total} is less than group_offset + nproc ({offset} + {count}); give the number of "
                "processes on all machines"
            )
        if port is None:  # found by this machine alone, so of use to this machine alone
            return cls(count, total, offset, ip, _free_port() if count == total else RECBOLES_PORT)
        return cls(count, total, offset, ip, whole_number("port", port, 1))

    def check(self, config: Config) -> None:
        """Raise a UserError where the run of `config` cannot be shared among these processes."""
        if config.family == "context":
            raise UserError(f"nproc: {config.model} learns from rows, which several processes cannot share; use --nproc=1")
        if not issubclass(config.model_class, DistilledRecommender):
            raise UserError(f"nproc: several processes train distilled models alone, {config.model} is none; use --nproc=1")
        for key, wanted in {"base_loss_weight": 0.0, "user_batches": True}.items():
            if config[key] != wanted:
                raise UserError(
                    f"{key}: {config[key]!r} trains on batches of interactions, which several processes cannot share; "
                    f"use --nproc=1, or --{key}={wanted}"
                )
        apart = config.model_class.trained_apart(config)
        if apart:
            raise UserError(
                f"nproc: {' and '.join(apart)} trains modules apart from the student, by an optimiser of their own that "
                "several processes do not share; use --nproc=1"
            )
        if config["start_from"] is not None:
            raise UserError(f"start_from: {config['start_from']} is trained by one process; use --nproc=1, or leave it out")
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


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("", 0))
        return int(probe.getsockname()[1])


def launch(work: Callable[[], object], processes: Processes, minutes: float = 10.0) -> None:
    """Run `work` in this machine's processes; when one fails, or gives no sign of life, all are ended.

    Args:
        work: importable by name, or a partial of such a function; it is sent to the processes
        minutes: without a sign of life after which a process is given up

    Raises:
        UserError: the first one that a process raised, or a process was killed, or is stopped or hangs.
        torch.multiprocessing.ProcessRaisedException: a process raised something else; it holds the traceback.
    """
    logging.getLogger("torch.multiprocessing.spawn").setLevel(logging.ERROR)  # else it tells of every process it ends
    with shared_search_path():  # the queue starts a process as well
        reports, limit = mp.get_context("spawn").SimpleQueue(), timedelta(minutes=minutes)
        arguments = (processes, work, reports, limit)
        started = mp.start_processes(_member, arguments, processes.nproc, join=False, start_method="spawn")
    try:
        _watch(started, processes, minutes)
    except mp.ProcessExitedException as error:
        raise UserError(_what_failed(error, _drained(reports), processes, minutes)) from error
    finally:
        _end(started.processes)  # after Ctrl-C, or where one gives no sign of life


def _watch(started: mp.ProcessContext, processes: Processes, minutes: float) -> None:
    """Wait until all processes have ended well; raises as `launch` does, or torch's ProcessExitedException."""
    members, seconds = started.processes, 60 * minutes
    stopped_since: dict[int, float] = {}  # local rank -> when it was first seen stopped
    while True:
        alive = [process for process in members if process.is_alive()]
        failed = next((rank for rank, process in enumerate(members) if process.exitcode), None)
        if failed is not None:
            _end(members)  # torch would wait for one that is stopped
            started.sentinels = {members[failed].sentinel: failed}
            started.join()
        if not alive:
            return
        now = time.monotonic()
        stopped = [rank for rank, process in enumerate(members) if _is_stopped(process)]
        stopped_since = {rank: stopped_since.get(rank, now) for rank in stopped}
        silent = [rank for rank, since in stopped_since.items() if now - since > seconds]
        if silent:
            raise UserError(_silence(processes, silent, minutes))
        wait([process.sentinel for process in alive], timeout=min(POLL, seconds / 4))


def _what_failed(error: mp.ProcessExitedException, reports: Sequence[Report], processes: Processes, minutes: float) -> str:
    """Why the processes ended: what one said that was not merely deserted, a kill, or one that gives no sign of life."""
    failed = [report for report in reports if report.kind == "failed"]
    if failed:
        return failed[0].sentence
    if error.exit_code < 0 or not reports:
        return f"nproc: {error}; what was kept so far stays, the same command goes on from there"
    silent = sorted(set(range(processes.nproc)) - {report.local_rank for report in reports})
    if any(report.kind == "silence" for report in reports) and (silent or processes.world_size > processes.nproc):
        return _silence(processes, silent, minutes)
    return reports[0].sentence


def _silence(processes: Processes, local_ranks: Sequence[int], minutes: float) -> str:
    named = " and ".join(str(processes.offset + rank) for rank in local_ranks)
    who = f"process {named} of {processes.world_size}" if named else "a process of another machine"
    return (
        f"nproc: {who} gave no sign of life for {minutes:g} minutes (stopped, or hung) and all were ended; what was kept so "
        "far stays, the same command goes on from there; --process_timeout gives more minutes"
    )


def _is_stopped(process: BaseProcess) -> bool:
    try:
        return process.is_alive() and psutil.Process(process.pid).status() in STOPPED
    except psutil.Error:  # it has ended
        return False


def _drained(reports: SimpleQueue[Report]) -> list[Report]:
    found = []
    while not reports.empty():
        found.append(reports.get())
    return found


def _end(members: Sequence[BaseProcess]) -> None:
    """End the processes that are left; one that is stopped takes no signal but SIGKILL."""
    for process in members:
        process.terminate()
    for process in members:
        process.join(0 if _is_stopped(process) else SECONDS_TO_END)
        process.kill()
        process.join()


def _member(
    local_rank: int, processes: Processes, work: Callable[[], object], reports: SimpleQueue[Report], limit: timedelta
) -> None:
    """What one process does: join the others, work, and hand in the sentence if that fails."""
    torch.set_num_threads(max(1, torch.get_num_threads() // processes.nproc))
    keep_freed_memory()
    try:
        rank = processes.offset + local_rank
        join(rank, processes.world_size, local_rank, processes.ip, processes.port, limit)
        work()
        dist.destroy_process_group()
    except UserError as error:
        kind = "silence" if isinstance(error, SilenceError) else "deserted" if isinstance(error, DesertedError) else "failed"
        reports.put(Report(local_rank, kind, error.sentence))
        time.sleep({"failed": 0.0, "deserted": GRACE, "silence": POLL}[kind])
        sys.exit(2)
