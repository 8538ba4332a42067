"""Does a narrow code tell odd entities from ordinary ones, and one that is too wide not? On synthetic vectors and on data.

    python benchmarks/narrow_code.py                      synthetic: linear encoder and decoders, codes of several widths
    python benchmarks/narrow_code.py --dataset=ml-100k    users of whom a part has shuffled items, by `find_anomalies`

Whatever else is given, such as --epochs=50, is a setting of the second. Both print a table in markdown.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor

from recbole_hetcomp.commands.anomalies import find_anomalies
from recbole_hetcomp.config import Config
from recbole_hetcomp.model.one_class import Decoders, encoder, restoration_errors

SIZES, FACTORS, NOISE = [16, 16, 16], 6, 0.3
WIDTHS = (3, 6, 12, 24, 48)


def synthetic(count: int, maps: Sequence[Tensor], generator: torch.Generator, *, odd: bool = False) -> Tensor:
    """[count, sum of D_k]: each teacher's view of an entity's factors, with noise; each sees another where it is odd."""
    shared = torch.randn(count, FACTORS, generator=generator)
    views = [torch.randn(count, FACTORS, generator=generator) if odd else shared for _ in maps]
    rows = torch.cat([view @ matrix for view, matrix in zip(views, maps)], 1)
    return rows + NOISE * torch.randn(rows.shape, generator=generator)


def auroc(ordinary: Tensor, odd: Tensor) -> float:
    """The share of pairs in which the odd one has the larger error; half of those with equal errors."""
    gaps = odd[:, None] - ordinary[None]
    return float(((gaps > 0).double() + 0.5 * (gaps == 0)).mean())


def ablation(width: int, seed: int = 0, steps: int = 2000) -> float:
    """The AUROC of a linear code of `width` numbers, on 300 ordinary and 300 odd entities that were not trained on."""
    generator = torch.Generator().manual_seed(seed)
    maps = [torch.randn(FACTORS, size, generator=generator) / FACTORS**0.5 for size in SIZES]
    rows, ordinary = (synthetic(count, maps, generator) for count in (600, 300))
    odd = synthetic(300, maps, generator, odd=True)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        encode, decode = encoder(SIZES, 64, width, linear=True), Decoders(SIZES, width, linear=True)
    optimizer = torch.optim.Adam([*encode.parameters(), *decode.parameters()], lr=0.02)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(steps):
        optimizer.zero_grad()
        restoration_errors(rows, decode(encode(rows)), SIZES).sum(1).mean().backward()
        optimizer.step()
        schedule.step()
    with torch.no_grad():
        errors = [restoration_errors(part, decode(encode(part)), SIZES).sum(1) for part in (ordinary, odd)]
    return auroc(*errors)


def shuffled(source: Path, target: Path, share: float, draw: random.Random) -> set[str]:
    """Copy an .inter file to `target`; a `share` of its users, whom it returns, have each item replaced by any other one."""
    lines = source.read_text(encoding="utf-8").splitlines()
    columns = [column.split(":")[0] for column in lines[0].split("\t")]
    user, item = columns.index("user_id"), columns.index("item_id")
    rows = [line.split("\t") for line in lines[1:]]
    users, items = sorted({row[user] for row in rows}), sorted({row[item] for row in rows})
    odd = set(draw.sample(users, round(share * len(users))))
    free = {one: draw.sample(items, len(items)) for one in sorted(odd)}
    for row in rows:
        if row[user] in odd:
            row[item] = free[row[user]].pop()
    target.parent.mkdir(parents=True)
    target.write_text("\n".join([lines[0], *("\t".join(row) for row in rows)]) + "\n", encoding="utf-8")
    return odd


def planted(dataset: str, share: float, settings: Sequence[str]) -> list[tuple[str, float]]:
    """(what the score is, AUROC of the users with shuffled items), on a copy of `dataset`."""
    source = Path(str(Config("BPR", dataset, arguments=())["data_path"])) / f"{dataset}.inter"
    with TemporaryDirectory() as folder:
        odd = shuffled(source, Path(folder) / "planted" / "planted.inter", share, random.Random(1))
        given: dict[str, Any] = {"data_path": folder, "checkpoint_dir": f"{folder}/saved", "state": "WARNING"}
        given |= {"load_col": {"inter": ["user_id", "item_id"]}, "show_progress": False}
        found = find_anomalies(f"{folder}/anomalies.csv", None, "planted", None, given, settings)
    users = [one for one in found if one.kind == "user"]
    scores = {"anomaly": [one.anomaly for one in users], "fewest interactions": [-float(one.interactions) for one in users]}
    is_odd = torch.tensor([one.token in odd for one in users])
    print(f"{len(users)} users, {int(is_odd.sum())} of them with shuffled items")
    return [(name, auroc(torch.tensor(score)[~is_odd], torch.tensor(score)[is_odd])) for name, score in scores.items()]


def main() -> None:
    """Measure what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dataset")
    parser.add_argument("--share", type=float, default=0.05)
    flags, settings = parser.parse_known_args()
    if flags.dataset:
        print("| score | AUROC |\n|---|---|")
        for name, value in planted(flags.dataset, flags.share, settings):
            print(f"| {name} | {value:.3f} |")
        return
    print("| numbers in the code | AUROC, mean of 3 | least | most |\n|---|---|---|---|")
    for width in WIDTHS:
        values = [ablation(width, seed) for seed in range(3)]
        print(f"| {width} | {sum(values) / 3:.3f} | {min(values):.3f} | {max(values):.3f} |")


if __name__ == "__main__":
    main()
