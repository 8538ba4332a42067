"""CUKD's claim: a teacher that never saw the student's users gives a better start than chance; an unrelated one does not.

`python benchmarks/another_context.py [--seeds=3]` halves MovieLens-100K by users. BPR is trained on one half, its vectors
are written as by `hetcomp vectors`, and CUKD students of the other half, whose users have other tokens, start from them: the
items are what both share. The table has the area under the first ten epochs' validation NDCG@10, a mean over the seeds.
"""

from __future__ import annotations

import argparse
import os
import random
import tempfile
from dataclasses import replace
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import recbole
import yaml

from recbole_hetcomp.commands.pipeline import run_hetcomp
from recbole_hetcomp.commands.vectors import write_vectors
from recbole_hetcomp.config.registry import properties_dir
from recbole_hetcomp.model.student import DistilledRecommender
from recbole_hetcomp.teachers.vectors import EntityVectors

DATA = Path(recbole.__file__).parent / "dataset_example" / "ml-100k" / "ml-100k.inter"
EPOCHS = 10
QUIET = {"show_progress": False, "state": "ERROR", "load_col": {"inter": ["user_id", "item_id"]}, "use_gpu": False}


def write_halves(folder: Path, seed: int) -> None:
    """Write `first` and `second`: disjoint users of MovieLens-100K, those of `first` by other tokens."""
    header, *rows = DATA.read_text("utf-8").splitlines()
    users = sorted({row.split("\t")[0] for row in rows})
    first = set(random.Random(seed).sample(users, len(users) // 2))
    for name, part in (
        ("first", [f"elsewhere-{row}" for row in rows if row.split("\t")[0] in first]),
        ("second", [row for row in rows if row.split("\t")[0] not in first]),
    ):
        (folder / name).mkdir()
        (folder / name / f"{name}.inter").write_text("\n".join([header, *part]) + "\n", encoding="utf-8")


def curve(settings: dict[str, Any]) -> list[float]:
    """Validation NDCG@10 after each of the first epochs of a CUKD student of the second half."""
    scores: list[float] = []
    after_validation = DistilledRecommender.after_validation

    def noted(model: DistilledRecommender, score: float, epoch: int, ranking: Any) -> str:
        scores.append(score)
        return after_validation(model, score, epoch, ranking)

    DistilledRecommender.after_validation = noted  # type: ignore[method-assign]
    try:
        training = {"epochs": EPOCHS, "eval_step": 1, "stopping_step": EPOCHS, "valid_metric": "NDCG@10"}
        changes = {**QUIET, **training, "without_distillation": False, **settings}
        run_hetcomp("CUKDStudent", "second", config_dict=changes, arguments=(), saved=False, compare=False)
    finally:
        DistilledRecommender.after_validation = after_validation  # type: ignore[method-assign]
    return scores


def main() -> None:
    """Train the teacher, measure all starts, print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, default=3)
    seeds = range(parser.parse_args().seeds)
    os.chdir(tempfile.mkdtemp())
    folder = Path.cwd()
    write_halves(folder, seed=1)
    own = yaml.safe_load((properties_dir() / "teacher" / "BPR.yaml").read_text("utf-8"))
    settings = {**QUIET, "data_path": str(folder), "checkpoint_dir": str(folder / "saved")}
    teacher = run_hetcomp("BPR", "first", config_dict={**settings, **own, "embedding_size": 64}, arguments=())
    vectors = write_vectors(teacher["checkpoint"], "teacher.safetensors")
    order = random.Random(2).sample(range(len(vectors.items)), len(vectors.items))
    replace(vectors, items=vectors.items[order]).save("shuffled.safetensors")
    print(f"BPR on the first half: {teacher['test_result']}; {len(EntityVectors.load('teacher.safetensors').items):,} items")
    starts = {
        "at random (distillation_weight: 0)": {"teachers": ["teacher.safetensors"], "distillation_weight": 0.0},
        "from the teacher, start alone (anchor_weight: 0)": {"teachers": ["teacher.safetensors"], "anchor_weight": 0.0},
        "from the teacher": {"teachers": ["teacher.safetensors"]},
        "from the teacher with its rows shuffled": {"teachers": ["shuffled.safetensors"]},
    }
    print("| start | area | standard deviation | epoch 1 | epoch 10 |\n|---|---|---|---|---|")
    for name, changes in starts.items():
        curves = [curve({**settings, **changes, "seed": 2020 + seed, "split_seed": 2020}) for seed in seeds]
        areas = [mean(scores) for scores in curves]
        spread = stdev(areas) if len(areas) > 1 else 0.0
        first, last = (mean(scores[epoch] for scores in curves) for epoch in (0, -1))
        print(f"| {name} | {mean(areas):.4f} | {spread:.4f} | {first:.4f} | {last:.4f} |", flush=True)


if __name__ == "__main__":
    main()
