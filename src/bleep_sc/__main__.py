"""``python -m bleep_sc``: the command line, also where the script is not on the path."""

import sys

from bleep_sc._cli.main import main

if __name__ == "__main__":
    sys.exit(main())
