"""Multiply-adds of a sequential prediction: `python benchmarks/sequential_operations.py [architecture ...]`.

What each model computes to score one item after a user's sequence, by default of 20 items on MovieLens-100K. An architecture
of AdaRecNet is six operations with commas between, such as skip,max_pool,none,skip,avg_pool,skip.
"""

from __future__ import annotations

import argparse
import logging

from recbole.data.interaction import Interaction
from recbole.model.abstract_recommender import AbstractRecommender
from tabulate import tabulate

from recbole_hetcomp.config import Config
from recbole_hetcomp.data.fitting import fit_to_data
from recbole_hetcomp.data.split import make_split
from recbole_hetcomp.evaluation.efficiency import n_parameters
from recbole_hetcomp.evaluation.operations import multiply_adds
from recbole_hetcomp.teacher_training.configs import teacher_config
from recbole_hetcomp.trainer.building import build_model

TEACHERS = ("SASRec", "GRU4Rec")
SMALL = {"embedding_size": 16, "hidden_size": 32}
N_SEQUENCES = 64


def main() -> None:
    """Count and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("architectures", nargs="*")
    parser.add_argument("--dataset", default="ml-100k")
    parser.add_argument("--data_path", default="dataset")
    parser.add_argument("--length", type=int, default=20, help="of sequences at most (MAX_ITEM_LIST_LENGTH)")
    flags = parser.parse_args()
    logging.disable(logging.WARNING)
    data, shared = flags.dataset, {"data_path": flags.data_path, "MAX_ITEM_LIST_LENGTH": flags.length, "use_gpu": False}
    run = Config("HetCompStudent", data, None, {**shared, "student": "GRU4Rec"}, ())
    asked = {f"{name}, size 64": teacher_config(run, name) for name in TEACHERS}
    asked["GRU4Rec, size 16, state 32"] = Config("GRU4Rec", data, None, {**shared, **SMALL}, ())
    for given in flags.architectures:
        settings = {**shared, **SMALL, "architecture": given.split(",")}
        asked[f"AdaRecNet, {given.replace(',', ' ')}"] = Config("AdaRecNet", data, None, settings, ())
    rows = []
    for what, config in asked.items():
        model, sequences = untrained(config)
        rows.append([what, n_parameters(model), round(multiply_adds(model, sequences))])
    print(tabulate(rows, ["model", "parameters", "multiply-adds"], "github", intfmt=","))


def untrained(config: Config) -> tuple[AbstractRecommender, Interaction]:
    """A model as it begins, since training changes no count, and some of its training sequences."""
    split = make_split(config)
    fit_to_data(config, split)
    loaders = split.loaders(config)
    batch = next(iter(loaders.train))
    return build_model(config, loaders.train._dataset), batch[:N_SEQUENCES]


if __name__ == "__main__":
    main()
