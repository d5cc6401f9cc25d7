"""`python -m handeye.cli` is the `handeye` command."""

import sys

from handeye.cli import main

if __name__ == "__main__":
    sys.exit(main())
