"""Independent trainings in processes of their own, on this machine or on a Ray cluster."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from functools import cache
from logging import LogRecord, getLogRecordFactory, setLogRecordFactory
from multiprocessing import resource_tracker
from pathlib import Path
from shutil import rmtree
from threading import Thread
from time import sleep
from urllib.parse import quote

from joblib import Parallel, delayed, parallel_config
from joblib.externals.loky import get_reusable_executor
from joblib.externals.loky.backend import resource_tracker as loky_resource_tracker
from joblib.externals.loky.process_executor import TerminatedWorkerError

from recbole_hetcomp import console
from recbole_hetcomp.config import Config
from recbole_hetcomp.config.errors import UserError, shorter, shown
from recbole_hetcomp.files.atomic import working_folder
from recbole_hetcomp.files.disk import heard_of_threads
from recbole_hetcomp.teacher_training.cache import make_folder
from recbole_hetcomp.trainer.memory import keep_freed_memory
from recbole_hetcomp.trainer.search_path import shared_search_path

SECONDS = 0.5  # between two looks of a worker at its parent


def check_backend(name: str) -> None:
    """Make joblib ready for the backend `name`; raise a UserError where that cannot be."""
    if name == "ray":
        try:
            from ray.util.joblib import register_ray
        except ImportError as error:
            raise UserError("teacher_backend: ray is not installed; run `pip install ray`, or choose loky") from error
        register_ray()


def side_by_side(config: Config, jobs: Mapping[str, Callable[[], object]], workers: int) -> dict[str, UserError]:
    """Do the `jobs`, several at a time, in the order that they have; what they return is dropped.

    By joblib, whose backend `ray` spreads them over a Ray cluster (with a `checkpoint_dir` that all its machines see). Each
    process takes `teacher_threads` threads, so that a result does not depend on how many run at once. This process shows
    and logs what they tell (in a file of `checkpoint_dir`); each message in the log begins with the job's name.

    Args:
        config: of the run
        jobs: by name
        workers: processes at a time

    Returns:
        what the jobs that failed say, in the order of `jobs`

    Raises:
        UserError: a process was killed, which ends all that were training; what is finished stays. Or a process would import
            a file of the working directory.
    """
    backend = config["teacher_backend"]
    threads = {"inner_max_num_threads": config["teacher_threads"]} if backend == "loky" else {}
    parent = os.getpid() if backend == "loky" else None
    home = Path(config["checkpoint_dir"]) / "trained"
    make_folder(home)
    folder = working_folder(home / "workers")
    told = folder.resolve() / f"{(console.log_file() or Path('workers')).stem}.jsonl"
    try:
        with shared_search_path(), console.follow(told), parallel_config(backend=backend, n_jobs=workers, **threads):
            _start_silent_trackers()
            errors = Parallel()(delayed(_in_worker)(config, told, name, job, parent) for name, job in jobs.items())
    except TerminatedWorkerError as error:
        in_training = shorter(" and ".join(name for name in jobs if _mark(told, name).exists()), 120)
        raise UserError(
            f"teacher_workers: one of {workers} workers was killed, often for want of memory; {in_training or 'nothing'} "
            f"was in training and starts again; what is finished is kept in {shown(Path(config['checkpoint_dir']))}; write "
            "the same command with --teacher_workers=1"
        ) from error
    finally:
        rmtree(folder, ignore_errors=True)
        if backend == "loky":
            get_reusable_executor().shutdown()  # idle workers would hold on to their memory, and warn at the end
    return {name: error for name, error in zip(jobs, errors) if error is not None}


def _start_silent_trackers() -> None:
    """Start the processes that clear semaphores away: they would warn of those of killed workers, which nobody can mend."""
    before = os.environ.get("PYTHONWARNINGS")
    os.environ["PYTHONWARNINGS"] = ",".join(filter(None, [before, "ignore:resource_tracker:UserWarning"]))
    try:
        for tracker in (resource_tracker, loky_resource_tracker):
            tracker.ensure_running()
    finally:
        del os.environ["PYTHONWARNINGS"]
        if before is not None:
            os.environ["PYTHONWARNINGS"] = before


@cache
def _end_with(parent: int) -> None:
    """From now on this process ends, as if it were killed, once its `parent` is gone: nobody is left to take its result.

    It would hold its locks until the end of its training, and end with a traceback when it handed that in.
    """

    def watch() -> None:
        while os.getppid() == parent:
            sleep(SECONDS)
        os._exit(1)

    Thread(target=watch, daemon=True).start()


def _in_worker(
    config: Config, told: Path, name: str, job: Callable[[], object], parent: int | None = None
) -> UserError | None:
    """Do one job in a process of its own; what makes it impossible is returned, lest others be cancelled.

    Args:
        config: of the run
        told: the file that the process `parent` follows
        name: of the job
        job: to do
        parent: the process that has started this one, where that is known
    """
    if parent is not None:
        _end_with(parent)
        keep_freed_memory()
    config.compatibility_settings()  # RecBole's, of a process: it makes them with each Config, and a job may build none
    plain = getLogRecordFactory()

    def begin_with_name(*values: object, **more: object) -> LogRecord:
        record = plain(*values, **more)
        record.msg, record.args = f"[{name}] {record.getMessage()}", ()
        return record

    setLogRecordFactory(begin_with_name)
    mark = _mark(told, name)
    mark.touch()  # it stays where this process is killed
    try:
        with console.relayed(told), heard_of_threads():
            job()
    except UserError as error:
        return error
    finally:
        mark.unlink(missing_ok=True)
        setLogRecordFactory(plain)
    return None


def _mark(told: Path, name: str) -> Path:
    """The file that is there while the job `name` is done."""
    return told.with_name(f"{quote(name, safe='')}.running")
