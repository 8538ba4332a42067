"""Search over settings by RecBole's HyperTuning, for our models and RecBole's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from logging import getLogger
from pathlib import Path
from typing import Any

from recbole_hetcomp.errors import UserError
from recbole_hetcomp.pipeline import run_hetcomp


def objective_function(
    config_dict: Mapping[str, Any] | None = None,
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
    for handler in getLogger().handlers[:]:  # else each trial would write into the first one's log file
        getLogger().removeHandler(handler)
    result = run_hetcomp(model, dataset, config_file_list, config_dict, saved, arguments, compare=False)
    keys = ("best_valid_score", "valid_score_bigger", "best_valid_result", "test_result")
    return {"model": result["name"], **{key: result[key] for key in keys}}


def tune(
    model: str | None,
    dataset: str,
    config_files: Sequence[str] | None,
    params_file: str,
    output_file: str,
    algo: str,
    max_evals: str,
    arguments: Sequence[str],
) -> dict[str, Any]:
    """Search the space of `params_file` (RecBole's format), write `output_file`; returns the best settings found.

    Raises:
        UserError: no hyperopt, no such file, an unknown algorithm, or a wrong number of trials.
    """
    if not Path(params_file).is_file():
        raise UserError(f"params_file: there is no file {params_file!r}")
    if algo not in ("exhaustive", "random", "bayes"):
        raise UserError(f"algo: {algo!r} is none of exhaustive, random, bayes")
    if not max_evals.isdigit() or int(max_evals) < 1:
        raise UserError(f"max_evals: {max_evals!r} is no whole number of at least 1")
    try:
        import hyperopt  # noqa: F401
        from recbole.trainer import HyperTuning
    except ImportError as error:
        raise UserError(f"tune needs hyperopt ({error}); run `pip install hyperopt==0.2.5`") from error
    trial = partial(objective_function, model=model, dataset=dataset, arguments=tuple(arguments))
    search = HyperTuning(
        trial, params_file=params_file, fixed_config_file_list=config_files, algo=algo, max_evals=int(max_evals)
    )
    search.run()
    search.export_result(output_file=output_file)
    print(f"best settings: {search.best_params}\nbest result: {search.params2result[search.params2str(search.best_params)]}")
    return search.best_params
