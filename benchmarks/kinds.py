"""Every bundled network in the form for binary layers, of every kind, trained as it is by default on the digits of
scikit-learn: what it reaches, and in what time.

    python benchmarks/kinds.py                              all that kinds.md lacks; each in a process of its own
    python benchmarks/kinds.py --again resnet20_binary      the rows of these anew

A cell: test accuracy in percent (360 images), and in brackets the processor time in seconds from the start of Python to
the saved weights, on one thread. One run each, with the seed 0.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

TABLE = Path(__file__).with_name("kinds.md")


def networks() -> list[str]:
    """Small ones first."""
    from secateur.models import registry

    names = [name for name in registry.ARCHS if name.endswith("_binary") or name.startswith("vgg_small")]
    return sorted(names, key=lambda n: sum(p.numel() for p in registry.create(n).parameters()))


def kinds() -> list[str]:
    from secateur.training.binarization.kinds import KINDS

    return list(KINDS)


def cell(network: str, kind: str) -> str:
    """Trains one network; raises RuntimeError with the last line of a run that failed."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    with tempfile.TemporaryDirectory() as folder:
        command = ["train", "--arch", network, "--network", kind, "--data", "digits", "--json", "-q"]
        done = subprocess.run(
            [sys.executable, "-m", "secateur", *command, "-o", f"{folder}/weights.pt"],
            capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"},
        )  # fmt: skip
    if done.returncode:
        raise RuntimeError(f"{network}, {kind}: {(done.stderr.strip().splitlines() or ['no message'])[-1]}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return f"{100 * json.loads(done.stdout)['accuracy']['test']:.1f} ({seconds:.0f})"


def written() -> dict[str, dict[str, str]]:
    """The cells that the table holds: network -> kind -> cell."""
    lines = TABLE.read_text("utf-8").splitlines() if TABLE.is_file() else []
    rows = [[word.strip() for word in line.strip("|").split("|")] for line in lines if line.startswith("| ")]
    head = rows[0][1:] if rows else []
    found = {name: zip(head, values, strict=True) for name, *values in rows[1:]}
    return {name: {kind: value for kind, value in cells if value} for name, cells in found.items()}


def write(table: dict[str, dict[str, str]], names: list[str], columns: list[str]) -> None:
    head = f"| network | {' | '.join(columns)} |\n|{'---|' * (len(columns) + 1)}\n"
    rows = "".join(f"| {n} | {' | '.join(table.get(n, {}).get(k, '') for k in columns)} |\n" for n in names)
    TABLE.write_text(f"# Kinds of networks on small images\n\n{__doc__}\n{head}{rows}", "utf-8")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--again", nargs="*", default=[])
    again = parser.parse_args().again
    table, names, columns = written(), networks(), kinds()
    for name in again:
        table.pop(name, None)
    for name in names:
        row = table.setdefault(name, {})
        for kind in columns:
            if kind not in row:
                row[kind] = cell(name, kind)
                print(name, kind, row[kind], flush=True)
                write(table, names, columns)


if __name__ == "__main__":
    main()
