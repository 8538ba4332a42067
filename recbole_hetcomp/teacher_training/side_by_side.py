"""Independent trainings in processes of their own, on this machine or on a Ray cluster."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from logging import LogRecord, getLogRecordFactory, setLogRecordFactory
from typing import Any

from joblib import Parallel, delayed, parallel_config
from joblib.externals.loky import get_reusable_executor
from recbole.utils import init_logger

from recbole_hetcomp.config import Config
from recbole_hetcomp.config.errors import UserError

BACKENDS = ("loky", "ray")  # of joblib


def check_backend(name: str) -> None:
    """Make joblib ready for the backend `name`; raise a UserError where that cannot be."""
    if name not in BACKENDS:
        raise UserError(f"teacher_backend: {name!r} is none of {', '.join(BACKENDS)}")
    if name == "ray":
        try:
            from ray.util.joblib import register_ray
        except ImportError as error:
            raise UserError("teacher_backend: ray is not installed; run `pip install ray`, or choose loky") from error
        register_ray()


def side_by_side(config: Config, jobs: Mapping[str, Callable[[], Any]], workers: int) -> dict[str, UserError]:
    """Do the `jobs`, several at a time, in the order that they have; what they return is dropped.

    By joblib, whose backend `ray` spreads them over a Ray cluster (with a `checkpoint_dir` that all its machines see). Each
    message of a process's log begins with the job's name. A training sets its own number of threads, `teacher_threads`, so
    that its result does not depend on how many run at once; what else a process does takes as many.

    Args:
        config: of the run
        jobs: by name
        workers: processes at a time

    Returns:
        what the jobs that failed say, in the order of `jobs`
    """
    backend = config["teacher_backend"]
    threads = {"inner_max_num_threads": config["teacher_threads"]} if backend == "loky" else {}
    with parallel_config(backend=backend, n_jobs=workers, **threads):
        errors = Parallel()(delayed(_in_worker)(config, name, job) for name, job in jobs.items())
    if backend == "loky":
        get_reusable_executor().shutdown()  # idle workers would hold on to their memory
    return {name: error for name, error in zip(jobs, errors) if error is not None}


def _in_worker(config: Config, name: str, job: Callable[[], Any]) -> UserError | None:
    """Do one job in a process of its own; what makes it impossible is returned, lest others be cancelled."""
    init_logger(config)
    plain = getLogRecordFactory()

    def begin_with_name(*values: Any, **more: Any) -> LogRecord:
        record = plain(*values, **more)
        record.msg, record.args = f"[{name}] {record.getMessage()}", ()
        return record

    setLogRecordFactory(begin_with_name)
    try:
        job()
    except UserError as error:
        return error
    finally:
        setLogRecordFactory(plain)
    return None
