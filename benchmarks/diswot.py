"""Whether DisWOT's score, which trains no student, orders students as their quality after training does.

    python benchmarks/diswot.py [--how=alone,RRDStudent] [--shapes=29] [--results=diswot.jsonl] [--key=value ...]

Kendall's tau between the score and the validation metric over shapes of students, with a bootstrap interval over the shapes,
beside the tau of the number of parameters. Every trained shape is a line of the results file: the same command goes on from
there, and `--shapes=0` makes the table of what is there. Other `--key=value` are settings of the runs, such as
`--dataset` or `--teachers`.
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from scipy.stats import kendalltau
from tabulate import tabulate

from recbole_hetcomp.commands.student_models import UntrainedStudents
from recbole_hetcomp.commands.student_score import Scale, StudentScorer
from recbole_hetcomp.commands.student_search import MODEL, scorer_of
from recbole_hetcomp.commands.student_space import Shape, Space
from recbole_hetcomp.config import Config
from recbole_hetcomp.data.fitting import fit_to_data
from recbole_hetcomp.data.split import make_split
from recbole_hetcomp.evaluation.efficiency import n_parameters
from recbole_hetcomp.quick_start import run_hetcomp

SPACE = Space(
    {
        "MF": {"embedding_size": [2, 4, 6, 8, 12, 16, 24, 32]},
        "ML": {"embedding_size": [2, 4, 8, 12, 16, 32]},
        "LightGCN": {"embedding_size": [4, 8, 16], "n_layers": [1, 2, 3]},
        "HistoryEncoder": {"embedding_size": [4, 8, 16], "hidden_size": [0, 16]},
    }
)
ALONE = "alone"
RESAMPLES = 2000


def main() -> None:
    """Train what is missing, then print the table."""
    flags, settings = _flags()
    how, results = flags.how.split(","), Path(flags.results)
    config = Config(MODEL, flags.dataset, arguments=settings)
    shapes = SPACE.shapes()
    random.Random(0).shuffle(shapes)  # so that any first part has models of all kinds
    for shape in shapes[: flags.shapes]:
        for way in how:
            if (str(shape), way) not in {(row["shape"], row["how"]) for row in rows_of(results, flags.dataset)}:
                row = trained(shape, way, flags.dataset, settings)
                with results.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(row) + "\n")
                print(f"{shape.model} {shape.settings}, {way}: {row['valid']}, {row['seconds']:.0f} s", flush=True)
    rows = rows_of(results, flags.dataset)
    scored = {init: scores(config, shapes, rows, init) for init in ("sketch", "random")}
    print(f"\n{flags.dataset}, validation {flags.metric}, {RESAMPLES} resamples of the shapes, 95 % intervals\n")
    print(table(rows, scored, flags.metric))


def _flags() -> tuple[argparse.Namespace, list[str]]:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.allow_abbrev = False
    parser.add_argument("--dataset", default="ml-100k")
    parser.add_argument("--how", default=ALONE, help="alone, or methods by which the students are distilled, with commas")
    parser.add_argument("--shapes", type=int, default=10**6, help="train so many shapes at most")
    parser.add_argument("--results", default="diswot.jsonl")
    parser.add_argument("--metric", default="ndcg@10")
    return parser.parse_known_args()


def rows_of(results: Path, dataset: str) -> list[dict[str, Any]]:
    """What was trained on that dataset so far; a line that was cut off is left out."""
    found = []
    for line in results.read_text(encoding="utf-8").splitlines() if results.is_file() else ():
        try:
            found.append(json.loads(line))
        except ValueError:
            continue
    return [row for row in found if row["dataset"] == dataset]


def trained(shape: Shape, how: str, dataset: str, settings: Sequence[str]) -> dict[str, Any]:
    """Train a student of that shape by its own loss, or distilled by a method, with the settings that its model has."""
    given: dict[str, Any] = {**shape.of_a_run, "without_distillation": False}
    if how == ALONE:
        given["distillation_weight"] = 0.0
    result = run_hetcomp(MODEL if how == ALONE else how, dataset, None, given, arguments=settings, compare=False)
    Path(result["checkpoint"]).unlink()
    return {
        "dataset": dataset,
        "shape": str(shape),
        "how": how,
        "parameters": n_parameters(result["model"].backbone),
        "valid": {key: round(float(value), 4) for key, value in result["best_valid_result"].items()},
        "seconds": result["train_seconds"],
    }


def scores(
    config: Config, shapes: Sequence[Shape], rows: Sequence[Mapping[str, Any]], init: str
) -> dict[str, tuple[float, float, float, float]]:
    """By trained shape: the score, minus each of the two distances, and the seconds that they took."""
    split = make_split(config)
    fit_to_data(config, split)
    scorer: StudentScorer = scorer_of(UntrainedStudents(config, split, init))
    known, found, seconds = {row["shape"] for row in rows}, {}, {}
    for shape in (shape for shape in shapes if str(shape) in known):
        started = perf_counter()
        found[str(shape)] = scorer.distances(shape)
        seconds[str(shape)] = perf_counter() - started
    scale = Scale(list(found.values()))
    return {key: (scale.score(one), -one.relation, -one.semantic, seconds[key]) for key, one in found.items()}


def table(rows: Sequence[Mapping[str, Any]], scored: Mapping[str, Mapping[str, Sequence[float]]], metric: str) -> str:
    """A row a predictor and way of training: tau, its interval, and that of its lead over the number of parameters."""
    cells = []
    for how in dict.fromkeys(row["how"] for row in rows):
        own = [row for row in rows if row["how"] == how]
        quality = np.array([row["valid"][metric] for row in own])
        predictors = {"parameters": np.array([row["parameters"] for row in own], dtype=float)}
        for init, by_shape in scored.items():
            for place, name in enumerate(("DisWOT", "relations alone", "semantics alone")):
                predictors[f"{name}, {init}"] = np.array([by_shape[row["shape"]][place] for row in own])
        for name, values in predictors.items():
            tau = kendalltau(values, quality).statistic
            spread, lead = bootstrap(values, predictors["parameters"], quality)
            cells.append([how, len(own), name, f"{tau:.2f}", spread, "" if name == "parameters" else lead])
        speed = sum(row["seconds"] for row in own) / sum(scored["sketch"][row["shape"]][3] for row in own)
        cells.append([how, len(own), "training / scoring, seconds", f"{speed:.0f} x", "", ""])
    return tabulate(cells, ["trained", "shapes", "ordered by", "tau", "interval", "lead over parameters"], "github")


def bootstrap(values: np.ndarray, parameters: np.ndarray, quality: np.ndarray) -> tuple[str, str]:
    """95 % intervals of tau and of its difference from the parameters' tau, over resampled shapes."""
    draw = np.random.default_rng(0)
    taus = []
    for _ in range(RESAMPLES):
        chosen = draw.integers(len(quality), size=len(quality))
        pair = [kendalltau(predictor[chosen], quality[chosen]).statistic for predictor in (values, parameters)]
        taus.append((pair[0], pair[0] - pair[1]))
    low, high = np.nanpercentile(np.array(taus), [2.5, 97.5], axis=0)
    tau, lead = (f"{low[k]:.2f} to {high[k]:.2f}" for k in (0, 1))
    return tau, lead


if __name__ == "__main__":
    main()
