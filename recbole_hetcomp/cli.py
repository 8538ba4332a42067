"""The command line: run_recbole.py's flags, and the sub-commands of `hetcomp`."""

from __future__ import annotations

import errno
import os
import select
import sys
from argparse import Namespace
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import TextIO

import recbole_hetcomp
from recbole_hetcomp import looking_up
from recbole_hetcomp.config.errors import UserError, close_matches
from recbole_hetcomp.config.flags import parsed
from recbole_hetcomp.config.numbers import number, whole_number
from recbole_hetcomp.console import warnings_in_log
from recbole_hetcomp.files.disk import heard_of_threads, refusal
from recbole_hetcomp.trainer.checkpoint import CheckpointError
from recbole_hetcomp.trainer.memory import keep_freed_memory
from recbole_hetcomp.usage import help_of, overview

INTERRUPTED = (
    "hetcomp: interrupted; finished teachers and models and the progress of a distilled student are kept, and the same "
    "command goes on from there; a teacher that was not finished starts again"
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit code: 0, 2 for bad input (one sentence, no traceback), 130 after Ctrl-C, 141
    where nobody reads on."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if {"-h", "--help"} & set(arguments):
        print(help_of(arguments[0]) if arguments[0] in COMMANDS else overview())
        return 0
    if arguments == ["--version"]:
        print(f"recbole_hetcomp {recbole_hetcomp.__version__}")
        return 0
    name = arguments.pop(0) if arguments and not arguments[0].startswith("-") else "run"
    try:
        if name not in COMMANDS:
            near = close_matches(name, COMMANDS)
            raise UserError(f"there is no command {name!r}; choose one of {', '.join(COMMANDS)}{near}")
        keep_freed_memory()
        _in_one_sentence(partial(COMMANDS[name], arguments))
    except UserError as error:
        _tell(f"hetcomp: {error.sentence}")
        return 2
    except KeyboardInterrupt:
        _tell(INTERRUPTED)
        return 130
    except BrokenPipeError:
        if not _nobody_reads():  # another pipe, such as one between processes
            raise
        _drop(sys.stdout)
        return 141  # the reader, such as `head`, has what it wanted: as the shell counts programs that this ends
    return 0


def _tell(sentence: str) -> None:
    """The last sentence of a command; where the disk under the output is full, the exit code has to say it."""
    with suppress(OSError):
        print(sentence, file=sys.stderr, flush=True)
    for stream in filter(None, (sys.stdout, sys.stderr)):
        try:
            stream.flush()
        except OSError:
            _drop(stream)


def _drop(stream: TextIO) -> None:
    """Let what is left for a stream go nowhere.

    Python would try again at its end, and put an exit code of its own in the place of ours.
    """
    with suppress(OSError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _nobody_reads() -> bool:
    """Whether the standard output is a pipe whose other end is closed."""
    with suppress(OSError):
        ends = select.poll()
        ends.register(sys.stdout.fileno(), 0)  # an error is reported unasked
        return bool(ends.poll(0))
    return False


def _in_one_sentence(work: Callable[[], object]) -> None:
    """Do `work`; whatever a person can mend is a UserError then."""
    try:
        with warnings_in_log(), heard_of_threads():
            work()
            print(end="", flush=True)
    except UserError:
        raise
    except CheckpointError as error:
        raise UserError(str(error)) from error
    except Exception as error:
        refused = refusal(error)
        if refused is None:
            raise
        file = refused.filename or "a file"
        what = "used" if refused.errno in (errno.EACCES, errno.EPERM, errno.ENOTDIR) else "written"
        raise UserError(f"{file} cannot be {what} ({refused.strerror}); what was kept so far stays") from error


def _parsed(arguments: Sequence[str], **options: str | None) -> tuple[Namespace, list[str]]:
    return parsed(arguments, overview(), **options)


def _run(arguments: Sequence[str]) -> None:
    from recbole_hetcomp.commands.checks import check
    from recbole_hetcomp.commands.pipeline import run_hetcomp
    from recbole_hetcomp.config import Config
    from recbole_hetcomp.trainer.processes import Processes, launch

    flags, settings = _parsed(arguments, nproc="1", ip="localhost", port=None, world_size="-1", group_offset="0")
    processes = Processes.from_flags(flags.nproc, flags.world_size, flags.group_offset, flags.ip, flags.port)
    run = partial(run_hetcomp, flags.model, flags.dataset, flags.config_files, arguments=settings)
    if processes.world_size == 1:
        run()
        return
    config = Config(flags.model, flags.dataset, flags.config_files, arguments=settings)
    check(config)
    processes.check(config)
    launch(partial(_in_one_sentence, run), processes, config["process_timeout"])


def _recommend(arguments: Sequence[str]) -> None:
    from recbole_hetcomp.commands.recommending import Request, recommend_to_users

    flags, settings = _parsed(arguments, **vars(Request()))
    recommend_to_users(Request(**{name: vars(flags)[name] for name in vars(Request())}), settings)


def _predict(arguments: Sequence[str]) -> None:
    from recbole_hetcomp.commands.predict import predict

    flags, settings = _parsed(arguments, checkpoint=None, input=None, output=None)
    if not flags.checkpoint or not flags.input:
        raise UserError("predict: --checkpoint or --input is missing; give --checkpoint=FILE.pth --input=ROWS.csv")
    text, remark = predict(flags.checkpoint, flags.input, flags.output, arguments=settings)
    if remark:
        print(f"hetcomp: {remark}", file=sys.stderr)
    rows = text.count("\n") - 1
    print(text, end="") if flags.output is None else print(f"{flags.output}: probabilities of {rows:,} rows")


def _vectors(arguments: Sequence[str]) -> None:
    from recbole_hetcomp.commands.vectors import write_vectors

    flags, settings = _parsed(arguments, checkpoint=None, output=None, rank="64")
    if not flags.checkpoint or not flags.output:
        raise UserError("vectors: --checkpoint or --output is missing; give --checkpoint=FILE.pth --output=FILE.safetensors")
    made = write_vectors(flags.checkpoint, flags.output, rank=whole_number("rank", flags.rank, 1), arguments=settings)
    (n_users, size), n_items = made.users.shape, len(made.items)
    print(f"{flags.output}: vectors of {size} numbers for {n_users:,} users and {n_items:,} items")


def _export(arguments: Sequence[str]) -> None:
    from recbole_hetcomp.commands.export import export_student, report_of

    flags, settings = _parsed(arguments, checkpoint=None, format=None, dtype="float32", output=None)
    print(report_of(export_student(flags.checkpoint, flags.format, flags.dtype, flags.output, settings)))


def _benchmark(arguments: Sequence[str]) -> None:
    from recbole_hetcomp.commands.benchmark import run_benchmark

    flags, settings = _parsed(arguments, models=None, seeds="3")
    if not flags.models:
        raise UserError("benchmark: give --models=HetCompStudent,BPR")
    models = [name.strip() for name in flags.models.strip("[]").replace("'", "").replace('"', "").split(",")]
    run_benchmark(models, flags.dataset, flags.config_files, seeds=whole_number("seeds", flags.seeds, 1), arguments=settings)


def _anomalies(arguments: Sequence[str]) -> None:
    from recbole_hetcomp.commands.anomalies import find_anomalies

    flags, settings = _parsed(arguments, output="anomalies.csv")
    find_anomalies(flags.output, flags.model, flags.dataset, flags.config_files, arguments=settings)


def _tune(arguments: Sequence[str]) -> None:
    from recbole_hetcomp.commands.tuning import Search, tune

    flags, settings = _parsed(arguments, params_file=None, output_file="tuning.txt", algo="exhaustive", max_evals="10")
    if flags.params_file is None:
        raise UserError("tune: give --params_file=FILE, with a line such as `learning_rate choice [0.001,0.005]`")
    search = Search(flags.params_file, flags.output_file, flags.algo, flags.max_evals)
    tune(flags.model, flags.dataset, flags.config_files, search, settings)


def _tune_teachers(arguments: Sequence[str]) -> None:
    from recbole_hetcomp.commands.teacher_tuning import tune_teachers

    flags, settings = _parsed(arguments)
    tune_teachers(flags.model or "HetCompStudent", flags.dataset, flags.config_files, arguments=settings)


def _search_student(arguments: Sequence[str]) -> None:
    from recbole_hetcomp.commands.student_costs import Budget
    from recbole_hetcomp.commands.student_search import MODEL, search_student

    options = {"max_parameters": None, "max_milliseconds": None, "space": None, "init": "sketch"}
    flags, settings = _parsed(arguments, **options)
    if flags.model not in (None, MODEL):
        raise UserError("model: search-student finds a student for any method; leave --model out")
    limits = [number(flags, flag, kind) for flag, kind in (("max_parameters", int), ("max_milliseconds", float))]
    budget = None if limits == [None, None] else Budget(*limits)
    common = {"arguments": settings, "budget": budget, "space": flags.space, "init": flags.init}
    search_student(flags.dataset, flags.config_files, **common)


COMMANDS: dict[str, Callable[[Sequence[str]], None]] = {
    "run": _run,
    "recommend": _recommend,
    "predict": _predict,
    "vectors": _vectors,
    "benchmark": _benchmark,
    "anomalies": _anomalies,
    "tune": _tune,
    "tune-teachers": _tune_teachers,
    "export": _export,
    "search-student": _search_student,
    "report": looking_up.report,
    "models": looking_up.models,
    "settings": partial(looking_up.settings, _parsed),
}
