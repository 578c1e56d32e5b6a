"""Deciding what goes, writing the source, proving it. ``secateur`` offers what users call."""

if __name__ == "pruners":  # a checkout's folder is on the path: no second copy of the package
    import importlib
    import sys

    sys.modules[__name__] = importlib.import_module("secateur.pruners")
