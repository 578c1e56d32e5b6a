"""Deciding what goes, writing the source, proving it. ``secateur`` offers what users call."""

if __name__ == "pruners":  # a checkout's folder is on the path: no second copy of the package
    import sys

    import secateur.pruners

    sys.modules[__name__] = secateur.pruners
