"""What `hetcomp search-student` leaves: a table on the screen, the ranking, the settings of the best, the next command."""

from __future__ import annotations

import hashlib
import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import chain, count
from pathlib import Path
from typing import Any

import yaml

from recbole_hetcomp import console
from recbole_hetcomp.commands.provenance import command_of
from recbole_hetcomp.commands.reporting import report_lines, report_search
from recbole_hetcomp.commands.result import hetcomp
from recbole_hetcomp.commands.student_costs import Budget
from recbole_hetcomp.commands.student_score import Distances
from recbole_hetcomp.commands.student_space import Shape
from recbole_hetcomp.config import Config
from recbole_hetcomp.config.registry import own_properties_of
from recbole_hetcomp.console import Table
from recbole_hetcomp.data.split import Split
from recbole_hetcomp.files.atomic import write
from recbole_hetcomp.files.locks import held

SHOWN = 10  # rows of the table
OWN = "# sha256 of the other lines, by which the next search knows that it may replace them: "


@dataclass(frozen=True)
class Candidate:
    """A shape that is within the budget, and what was found of it; `milliseconds` where the budget is of these."""

    shape: Shape
    parameters: int
    milliseconds: float | None
    distances: Distances
    score: float

    def record(self) -> dict[str, Any]:
        """As the file of results has it."""
        costs = {"parameters": self.parameters, "milliseconds": self.milliseconds}
        return {
            "model": self.shape.model,
            "settings": self.shape.settings,
            **costs,
            **asdict(self.distances),
            "score": self.score,
        }


def leave(
    config: Config,
    split: Split,
    files: Sequence[str],
    ranked: Sequence[Candidate],
    budget: Budget,
    flags: Mapping[str, object],
) -> None:
    """Print the table and the next command; write the ranking, the settings of the best student, and the page about them.

    Args:
        config: of the search
        split: the data
        files: of settings, from which it was made
        ranked: best first
        budget: what they may cost
        flags: of the command, as they were given
    """
    headers = ["student", "score", "relations", "semantics", "parameters", "ms / 1,000 users"]
    rows = [_row(candidate) for candidate in ranked[:SHOWN]]
    if ranked[0].milliseconds is None:
        headers, rows = headers[:-1], [row[:-1] for row in rows]
    first = f", the first {SHOWN}" if len(ranked) > SHOWN else ""
    title = f"{len(ranked):,} students of {config.dataset}, {budget}, untrained; nearest to the teachers first{first}"
    console.show_table(title, Table(headers, rows, dispensable=headers[2:4]))
    folder, best = Path(config["checkpoint_dir"]), ranked[0].shape
    content = {"dataset": config.dataset, "budget": asdict(budget), "ranked": [candidate.record() for candidate in ranked]}
    with held(folder / "student.yaml", folder, "written", break_lock=config["break_lock"]):
        write(folder / "student_search.json", json.dumps(content, indent=1) + "\n")
        chosen = free_place(folder)
        head = f"# The student that `hetcomp search-student` has chosen for {config.dataset}: {budget}.\n"
        settings = yaml.safe_dump(best.of_a_run, sort_keys=False)
        write(chosen, f"{head}{OWN}{_digest(head + settings)}\n{settings}")
    if chosen.name != "student.yaml":
        console.say(f"{folder / 'student.yaml'} is not of a search, or was changed since; it stays as it is")
    found = {"budget": str(budget), "ranked": content["ranked"]}
    report = report_search(config, split, "student_search", command_of(config, "search-student", flags), found)
    places = [("all shapes", str(folder / "student_search.json")), ("the best", str(chosen))]
    places += [*report_lines(report), *console.log_line()]
    console.show_lines([*places, ("next", next_command(config, [*files, str(chosen)], best))])


def free_place(folder: Path) -> Path:
    """The first of student.yaml, student-2.yaml, ... in `folder` that is not there, or that a search has left unchanged."""
    names = chain(["student.yaml"], (f"student-{number}.yaml" for number in count(2)))
    return next(path for path in (folder / name for name in names) if _is_free(path))


def _is_free(path: Path) -> bool:
    if not path.is_symlink() and not path.exists():
        return True
    try:
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    except (OSError, ValueError):
        return False
    return len(lines) > 2 and lines[1] == f"{OWN}{_digest(''.join([lines[0], *lines[2:]]))}\n"


def _digest(lines: str) -> str:
    return hashlib.sha256(lines.encode()).hexdigest()


def next_command(config: Config, files: Sequence[str], best: Shape) -> str:
    """The command that distils into the best student, with the data and all else that the search was given for a run.

    What says how students are ranked is left out, and what the last of `files`, the settings of the best, says.
    """
    own = own_properties_of(config.model_class)
    of_search = {*((config.read_yaml(own) or {}) if own is not None else {}), "config_files", "dataset", "model"}
    by_file = all(len(file.split()) == 1 for file in files)  # the flag parts them at spaces
    given = {**({} if by_file else config.file_config_dict), **config.variable_config_dict, **config.cmd_config_dict}
    flags = {key: value for key, value in given.items() if key not in {*of_search, *best.of_a_run}}
    flags = {"config_files": " ".join(files), **flags} if by_file else {**flags, **best.of_a_run}
    spelt = [f"--{key}={value if isinstance(value, str) else repr(value)}" for key, value in flags.items()]
    return shlex.join([hetcomp(), "--model=HetCompStudent", f"--dataset={config.dataset}", *spelt])


def _row(candidate: Candidate) -> list[str]:
    what = f"{candidate.shape.model} ({console.listed(candidate.shape.settings)})"
    numbers = [f"{candidate.score:.3f}", f"{candidate.distances.relation:.3e}", f"{candidate.distances.semantic:.3e}"]
    milliseconds = "" if candidate.milliseconds is None else f"{candidate.milliseconds:.1f}"
    return [what, *numbers, f"{candidate.parameters:,}", milliseconds]
