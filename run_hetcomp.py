"""Train a small student from an ensemble of teachers: `python run_hetcomp.py --model=HetCompStudent`."""

import sys

from recbole_hetcomp.cli import main

if __name__ == "__main__":
    sys.exit(main())
