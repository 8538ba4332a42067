"""Several models, ours and RecBole's, over several seeds on one split: means and spreads in one table."""

from __future__ import annotations

import io
import json
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from recbole_hetcomp import console
from recbole_hetcomp.commands.benchmark_configs import check_models, configs_of, one_family, warn_of_unknown_keys
from recbole_hetcomp.commands.checks import check, check_with_data
from recbole_hetcomp.commands.data_lines import say_data
from recbole_hetcomp.commands.measuring import measuring_of
from recbole_hetcomp.commands.pipeline import run_on_split
from recbole_hetcomp.commands.provenance import spelt, unlike_candidates
from recbole_hetcomp.commands.reporting import report_benchmark, report_lines
from recbole_hetcomp.commands.starting import started, teachers_of
from recbole_hetcomp.config import Config
from recbole_hetcomp.config.errors import UserError
from recbole_hetcomp.config.records import Kind, each, is_count, is_duration, is_number, read_record
from recbole_hetcomp.config.registry import is_distilled
from recbole_hetcomp.data.fitting import fit_to_data
from recbole_hetcomp.data.split import Split, is_sequential, make_split
from recbole_hetcomp.evaluation.benchmark_table import benchmark_table, table_and_remark
from recbole_hetcomp.files.archive import read_archive
from recbole_hetcomp.files.atomic import write
from recbole_hetcomp.files.locks import held
from recbole_hetcomp.report.schema import CURVES, read
from recbole_hetcomp.teacher_training.cache import cached, settings_of
from recbole_hetcomp.teacher_training.source import source_fingerprint
from recbole_hetcomp.teacher_training.tuning import prepare

# Pipeline and these modules put all parts together, so they count without their imports.
ALONE = ("recbole_hetcomp.commands.pipeline", "recbole_hetcomp.commands.measuring")
RECORD: dict[str, Kind] = {"test_result": each(is_number), "epochs": is_count, "train_seconds": is_duration}


def run_benchmark(
    models: Sequence[str],
    dataset: str = "ml-100k",
    config_file_list: Sequence[str] | None = None,
    config_dict: Mapping[str, object] | None = None,
    *,
    seeds: int = 3,
    arguments: Sequence[str] = (),
) -> list[dict[str, Any]]:
    """Train and test each model `seeds` times on the same split, with the same teachers.

    The split and the teachers have the seed `split_seed` (by default `seed`); the models have seed, seed + 1, ... A model
    with a file in properties/teacher is trained with the settings there, the others with RecBole's, unless the user says
    otherwise; `model_config`, such as {'BPR': {'embedding_size': 8}}, gives single models settings of their own, which win
    over those that all models are given, wherever either is said.

    Returns:
        a row a model: `model`, `seeds`, each metric's values over the seeds, `params`, `size_mb`, `ms_per_1000_users`,
        `train_seconds` (of the model alone, not of its teachers, validations included), `epochs`, `trials` (of the search
        for its training settings), and `p_values`, each top-k metric's against the first model
        (`evaluation/significance.py`). The table is printed, and saved after each model as `benchmark.md` and
        `benchmark.json` in `checkpoint_dir`, with `report.html` beside them at the end. What a model gave with a seed is
        kept in its folder `benchmark`, and found there by any later command for which code, data and settings are the same,
        unless `resume` is False: an interrupted benchmark goes on, and a longer one need not begin anew.

    Raises:
        UserError: bad input, for whichever model, before any training.
    """
    check_models(models)
    given = one_family(models, dataset, config_file_list, config_dict, arguments)
    configs = {name: configs_of(name, dataset, config_file_list, given, seeds, arguments) for name in models}
    flags = {"models": ",".join(models), "seeds": seeds, "dataset": configs[models[0]][0].dataset}
    files = {"config_files": " ".join(map(str, config_file_list))} if config_file_list else {}
    command = spelt("benchmark", {**flags, **files, **(config_dict or {})}, arguments)
    with console.logged(configs[models[0]][0]):
        return _rows(configs, command)


def _rows(configs: Mapping[str, Sequence[Config]], command: str) -> list[dict[str, Any]]:
    """What `run_benchmark` returns; `configs` are those of each model, one a seed; `command` says the same in a line."""
    first, *others = of_models = [runs[0] for runs in configs.values()]
    warn_of_unknown_keys(of_models)
    for config in of_models:
        check(config)
    split = make_split(first)
    for config in of_models:
        check_with_data(config, split)
    say_data(first, split, others, alone=False)
    rows, measured, kind, curves = [], [], measuring_of(first), {}
    for name, runs in configs.items():
        results = []
        for config in runs:
            config["show_progress"] = first["show_progress"]
            config.searched = first.searched
            prepare(config, split)
            fit_to_data(config, split)
            with console.about(f"{name}, seed {config['seed']}"):
                results.append(_measured(config, split))
        rows.append(_row(name, runs, [of_seed.record for of_seed in results]))
        measured.append([of_seed.arrays for of_seed in results])
        curves[name] = [of_seed.curves for of_seed in results]
        for row, p_values in zip(rows[1:], kind.p_values(measured)):
            row["p_values"] = p_values
        _save(rows, first, split)  # so that a crash loses one model, not all
        settings = {name: settings_of(runs[0]) for name, runs in configs.items() if name in curves}
        report = _report(first, split, command, rows, measured, curves, settings)
    _show(rows, of_models, report)
    return rows


def _report(
    first: Config,
    split: Split,
    command: str,
    rows: Sequence[Mapping[str, Any]],
    measured: Sequence[Sequence[Mapping[str, np.ndarray]]],
    curves: Mapping[str, list[Any]],
    settings: Mapping[str, dict[str, Any]],
) -> Path | None:
    """The page about the benchmark."""
    differences = measuring_of(first).differences
    against = {row["model"]: differences(of_model, measured[0]) for row, of_model in zip(rows[1:], measured[1:])}
    intervals = {row["model"]: differences(of_model, []) for row, of_model in zip(rows, measured)}
    n_tested = len(next(iter(measured[0][0].values()), ()))
    return report_benchmark(first, split, command, rows, n_tested, against, intervals, curves, settings)


def _show(rows: Sequence[Mapping[str, Any]], of_models: Sequence[Config], report: Path | None) -> None:
    """The table, and where everything is."""
    first, sequential = of_models[0], [is_sequential(config) for config in of_models]
    title = f"benchmark on {first.dataset}, {console.counted(len(rows[0]['seeds']), 'seed')}, test part"
    table, star = table_and_remark(rows)
    console.show_table(title, table, "; ".join(filter(None, [star, unlike_candidates(first, sequential)])))
    console.show_lines(
        [("table", str(Path(first["checkpoint_dir"]) / "benchmark.md")), *report_lines(report), *console.log_line()]
    )


def _save(rows: Sequence[Mapping[str, Any]], first: Config, split: Split) -> None:
    """Write what there is so far."""
    folder = Path(first["checkpoint_dir"])
    content = {"dataset": first.dataset, "split": split.fingerprint, "rows": rows}
    with held(folder / "benchmark.json", folder, "written", break_lock=first["break_lock"]):
        write(folder / "benchmark.md", benchmark_table(rows) + "\n")
        write(folder / "benchmark.json", json.dumps(content, indent=1) + "\n")


class Measured(NamedTuple):
    """What one model gives with one seed: a record, arrays such as each metric of each test user, and its curves, if any."""

    record: dict[str, Any]
    arrays: dict[str, np.ndarray]
    curves: dict[str, Any] | None


def _measured(config: Config, split: Split) -> Measured:
    """What one model gives with one seed, found or measured now."""
    kind = measuring_of(config)
    if config["resume"] is False:
        with tempfile.TemporaryDirectory() as temporary:
            record, folder = _measure(config, split, Path(temporary)), Path(temporary)
            return Measured(record, arrays_in(folder / kind.file), _curves_in(folder))
    shaped_by = {
        "measuring": source_fingerprint(kind.modules, alone=[*ALONE, __name__]),
        "device": str(config["device"]),  # times are results
        **(_learnt_from(config, split) if is_distilled(config.model_class) else {"teachers": []}),
        **{key: config[key] for key in ("split_seed", "metrics", "topk")},
    }
    folder = cached(
        config, split.fingerprint_for(config), shaped_by, lambda work: _measure(config, split, work), home="benchmark"
    )
    remedy = f"delete the folder {str(folder)!r} to have it measured again"
    record = read_record(folder / "record.json", {**RECORD, **kind.costs}, remedy)
    return Measured(record, arrays_in(folder / kind.file, remedy), _curves_in(folder, remedy))


def _learnt_from(config: Config, split: Split) -> dict[str, object]:
    """What a distilled model begins with, and learns from."""
    return {"teachers": teachers_of(config, split), "started": started(config, split), **split.rows_key(config)}


def _measure(config: Config, split: Split, folder: Path) -> dict[str, Any]:
    """The record of a model that is trained and tested now; the arrays and its curves go into `folder`."""
    result, kind = run_on_split(config, split, compare=False), measuring_of(config)
    costs, arrays = kind.measure(result, config, split)
    content = io.BytesIO()
    np.savez(content, **arrays)
    write(folder / kind.file, content.getbuffer())
    write(folder / "curves.json", json.dumps(result["curves"]) + "\n")
    return {
        "test_result": {key: float(value) for key, value in result["test_result"].items()},
        **costs,
        "train_seconds": result["train_seconds"],
        "epochs": result["epochs"],
    }


def _curves_in(folder: Path, remedy: str = "measure it again") -> dict[str, Any] | None:
    return read(folder / "curves.json", CURVES, remedy) if (folder / "curves.json").is_file() else None


def arrays_in(path: Path, remedy: str = "measure it again") -> dict[str, np.ndarray]:
    """The arrays [N] of a file by their names, such as each metric of each test user: finite numbers.

    Raises:
        UserError: the file is damaged.
    """
    try:
        found = {name.removesuffix(".npy"): _array(part) for name, part in read_archive(path).items()}
        if len({len(values) for values in found.values()}) > 1 or not all(np.isfinite(x).all() for x in found.values()):
            raise ValueError("it has no number for each metric and user")
    except (OSError, ValueError, TypeError, SyntaxError) as error:
        raise UserError(f"{str(path)!r} cannot be read ({str(error)[:120]}); {remedy}") from error
    return found


def _array(part: memoryview) -> np.ndarray:
    """[U] numbers from an entry of numpy's archive, as large as the entry is, whatever it declares."""
    file = io.BytesIO(part)
    np.lib.format.read_magic(file)
    shape, _, dtype = np.lib.format.read_array_header_1_0(file)
    if dtype.kind not in "fiu" or len(shape) != 1:
        raise ValueError(f"it holds {dtype} of shape {shape}")
    return np.frombuffer(part, dtype, offset=file.tell()).reshape(shape)


def _row(name: str, configs: Sequence[Config], records: Sequence[dict[str, Any]]) -> dict[str, Any]:
    return {
        "model": name,
        "seeds": [run["seed"] for run in configs],
        **{key: [record["test_result"][key] for record in records] for key in records[0]["test_result"]},
        **{key: records[-1][key] for key in measuring_of(configs[0]).costs},
        **{key: [record[key] for record in records] for key in ("train_seconds", "epochs")},
        "trials": configs[0].trials,
        "p_values": {},
    }
