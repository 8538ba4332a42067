"""Search over settings by RecBole's HyperTuning, for our models and RecBole's."""

from __future__ import annotations

import ast
import contextlib
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from recbole.trainer import HyperTuning

from recbole_hetcomp import console
from recbole_hetcomp.commands.pipeline import run_of
from recbole_hetcomp.config import Config
from recbole_hetcomp.config.errors import UserError
from recbole_hetcomp.config.numbers import whole_number
from recbole_hetcomp.files.atomic import replacing
from recbole_hetcomp.files.leftovers import remove_abandoned
from recbole_hetcomp.trainer import parallel

ALGORITHMS = ("exhaustive", "random", "bayes")
KINDS = {"uniform": 2, "quniform": 3, "loguniform": 2}  # of a search space's lines, beside choice, and their numbers


def objective_function(
    config_dict: Mapping[str, object] | None = None,
    config_file_list: Sequence[str] | None = None,
    saved: bool = True,
    *,
    model: str | None = None,
    dataset: str | None = None,
    arguments: Sequence[str] = (),
) -> dict[str, Any]:
    """One trial, in the form that RecBole's HyperTuning asks for: its four keys and the model's name.

    Teachers are trained in the first trial and found by the others, unless the trial changes a setting of theirs.
    """
    config = Config(model, dataset, config_file_list, config_dict, arguments)
    with parallel.logged(config):
        with console.muted():
            result = run_of(config, saved, compare=False)
        with console.about(console.listed(config_dict or {}) or config.model):
            console.say(f"valid score {result['best_valid_score']:.4f}, {console.counted(result['epochs'], 'epoch')}")
    keys = ("best_valid_score", "valid_score_bigger", "best_valid_result", "test_result")
    return {"model": result["name"], **{key: result[key] for key in keys}}


@dataclass(frozen=True)
class Search:
    """What to search, and how.

    Attributes:
        params_file: the space, in RecBole's format
        output_file: where all trials are written
        algo: one of ALGORITHMS
        max_evals: so many trials at most, as the command line gives it
    """

    params_file: str
    output_file: str
    algo: str
    max_evals: str

    def check(self) -> None:
        """Raise a UserError where it cannot be done."""
        if not Path(self.params_file).is_file():
            raise UserError(f"params_file: there is no file {self.params_file!r}; correct the path")
        if not Path(self.output_file).absolute().parent.is_dir():
            raise UserError(f"output_file: {self.output_file!r} lies in no folder that there is; make it, or choose another")
        if self.algo not in ALGORITHMS:
            raise UserError(f"algo: {self.algo!r} is none of {', '.join(ALGORITHMS)}")
        whole_number("max_evals", self.max_evals, 1)
        try:
            import hyperopt  # noqa: F401
        except ImportError as error:
            raise UserError(f"tune needs hyperopt ({error}); run `pip install hyperopt==0.2.5`") from error


def tune(
    model: str | None, dataset: str, config_files: Sequence[str] | None, search: Search, arguments: Sequence[str]
) -> dict[str, Any]:
    """Search the space, and write what each trial gave; returns the best settings found.

    Raises:
        UserError: no hyperopt, no such file, a line that cannot be read, an unknown algorithm, or a wrong number of trials.
    """
    search.check()
    config = Config(model, dataset, config_files, arguments=arguments)
    config.warn_of_unknown_keys()
    space = _search_space(Path(search.params_file), config)
    output = Path(search.output_file).parent
    remove_abandoned(output, output)
    trial = partial(objective_function, model=model, dataset=dataset, arguments=tuple(arguments))
    n_most = int(search.max_evals)
    tuning = HyperTuning(trial, params_dict=space, fixed_config_file_list=config_files, algo=search.algo, max_evals=n_most)
    _try_out(tuning)
    with replacing(search.output_file) as temporary:
        tuning.export_result(output_file=temporary)
    print(f"best settings: {tuning.best_params}\nbest result: {tuning.params2result[tuning.params2str(tuning.best_params)]}")
    return tuning.best_params


def _try_out(tuning: HyperTuning) -> None:
    """All trials, without what HyperTuning prints of each: that is a line of ours."""
    import hyperopt

    with contextlib.redirect_stdout(io.StringIO()):
        hyperopt.fmin(
            tuning.trial,
            tuning.space,
            algo=tuning.algo,
            max_evals=tuning.max_evals,
            early_stop_fn=tuning.early_stop_fn,
            show_progressbar=False,
        )


def _search_space(path: Path, config: Config) -> dict[str, dict[str, Any]]:
    """The lines `name kind values` of a file as kind -> name -> values. RecBole would evaluate the values as code."""
    space: dict[str, dict[str, Any]] = {}
    lines = (line.partition("#")[0].strip() for line in path.read_text(encoding="utf-8").splitlines())
    for line in filter(None, lines):
        name, kind, text = [*line.split(maxsplit=2), "", ""][:3]
        try:
            values = ast.literal_eval(text)
        except (ValueError, SyntaxError):
            values = None
        values = values if isinstance(values, (list, tuple)) else ()
        numbers = kind not in KINDS or all(isinstance(value, (int, float)) for value in values)
        if not values or len(values) != KINDS.get(kind, len(values)) or not numbers:
            raise UserError(f"params_file: {line!r} is not like `dropout uniform 0,1` or `size choice [8,16]`")
        for key, near in config.unknown_keys([] if config.given(name) else [name]).items():
            raise UserError(f"params_file: there is no setting {key!r}{near or '; correct its name'}")
        if kind not in (*KINDS, "choice"):
            raise UserError(f"params_file: {kind!r} in {line!r} is none of choice, {', '.join(KINDS)}")
        space.setdefault(kind, {})[name] = values
    if not space:
        raise UserError(f"params_file: {str(path)!r} is empty; write lines such as `learning_rate choice [0.002,0.005]`")
    return space
