"""``python -m secateur``: the command line."""

import shlex
import sys

from secateur.app import main

if __name__ == "__main__":
    main(shlex.join([sys.orig_argv[0], "-m", "secateur"]))
