"""Runs in a fresh process, as a script: a bundle's file alone, without the toolkit. Prints one line of JSON.

    python -I isolated/__main__.py model.py FACTORY weights.pth check.pt blocked,module,names   ("": its own weights)
    python -I isolated/__main__.py --serve MODULE ...   (these imported; the same arguments as JSON lists, one a line)

``check.pt`` holds the inputs and the outputs they must give.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path
from types import ModuleType


def _proof() -> ModuleType:
    """The module beside this file, in a package whose name nothing else has."""
    home, name = Path(__file__).parent, "_isolated"
    spec = importlib.util.spec_from_file_location(name, home / "__init__.py", submodule_search_locations=[str(home)])
    assert spec is not None and spec.loader is not None
    package = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(package)
    return importlib.import_module(f"{name}.proof")


if __name__ == "__main__":
    if sys.argv[1] == "--serve":
        _proof().serve(sys.argv[2:])
    else:
        print(_proof().report(sys.argv[1:]), flush=True)
        os._exit(0)  # to take torch down takes half as long as to import it
