"""``app.py archs``: the bundled networks. Needs no torch."""

from __future__ import annotations

import json
from dataclasses import asdict

from ..models.registry import ALIASES, ARCHS
from .cli import CommonOptions


def run(options: CommonOptions) -> None:
    short = {name: [a for a, full in ALIASES.items() if full == name] for name in ARCHS}
    if options.json:
        print(json.dumps([{**asdict(arch), "aliases": short[arch.name]} for arch in ARCHS.values()], indent=2))
        return
    for arch in ARCHS.values():
        names = ", ".join([arch.name, *short[arch.name]])
        print(f"{names:<18} {'x'.join(map(str, arch.input_shape)):<9} {arch.description}")
