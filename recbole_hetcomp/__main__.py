"""`python -m recbole_hetcomp` is `hetcomp`: it takes no module from the working directory."""

import sys

import recbole_hetcomp

if __name__ == "__main__":
    recbole_hetcomp.leave_out_working_directory()
    from recbole_hetcomp.cli import main

    sys.exit(main())
