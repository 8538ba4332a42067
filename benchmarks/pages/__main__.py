"""Make the generated tables and the picture anew: `make pages`.

To bring a new measurement in first, name the file that a run has left, its record and its command:

    python benchmarks/pages --add=saved/benchmark.json --name=ml-100k/methods --command="hetcomp benchmark --models=..."
"""

from __future__ import annotations

import argparse
from pathlib import Path

from records import ROOT, add
from writing import write_all


def main() -> None:
    """Add a measurement where one is given, then write all pages."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--add", type=Path, help="benchmark.json, comparison.json or tuning.json of a checkpoint_dir")
    parser.add_argument("--name", help="the record in results/data, such as ml-100k/methods")
    parser.add_argument("--command", help="the command that was run")
    flags = parser.parse_args()
    if flags.add:
        if not (flags.name and flags.command):
            parser.error("--add needs --name=DATASET/TABLE and --command=...")
        add(flags.add, flags.name, flags.command)
    for page in write_all():
        print(f"written: {page.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
