"""Random networks, written as files, pruned, and judged by the values of their weights (``tests/helpers``).

    python benchmarks/random_networks.py --from 0 --count 1000      appends a line a network to random_networks.jsonl
    python benchmarks/random_networks.py --seed 17 --show           one network: its text and what became of it
    python benchmarks/random_networks.py --summary                  counts of all that the log holds

A line: seed, features that were drawn, outcome, detail, seconds. Outcomes: exact; whole (nothing could go); refused,
with the reason; and the faults: wrong, caught (by the verification, so nothing was published), crash, unfit (a fault of
the dice: the network itself doesn't run).
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import tempfile
import warnings
from collections import Counter
from pathlib import Path

HERE = Path(__file__).resolve().parent
LOG = HERE / "random_networks.jsonl"
sys.path[:0] = [str(HERE.parent), str(HERE.parent / "tests" / "helpers")]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--from", dest="first", type=int, default=0)
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--seed", type=int)
    parser.add_argument("--show", action="store_true")
    parser.add_argument("--summary", action="store_true")
    parser.add_argument("--log", type=Path, default=LOG)
    options = parser.parse_args()
    if options.summary:
        print(summary(options.log))
    elif options.seed is not None:
        walk(options.seed, 1, None, options.show)
    else:
        walk(options.first, options.count, options.log, False)


def walk(first: int, count: int, log: Path | None, show: bool) -> None:
    import torch
    from written_networks import written
    from written_outcomes import FAULTS, outcome

    from secateur.pruners.verify.process import many_verifications

    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    with many_verifications():
        for seed in range(first, first + count):
            if show:
                print(written(seed).text)
            with tempfile.TemporaryDirectory() as folder:
                found = outcome(seed, Path(folder))
            line = json.dumps({**vars(found), "seconds": round(found.seconds, 2)})
            if log is None or found.kind in FAULTS:
                print(line, flush=True)
            if log is not None:
                with log.open("a") as file:
                    file.write(line + "\n")


def summary(log: Path) -> str:
    """Outcomes, reasons of refusals, and seeds of faults."""
    from written_outcomes import FAULTS

    found = [json.loads(line) for line in log.read_text().splitlines()]
    kinds = Counter(f["kind"] for f in found).most_common()
    lines = [f"{len(found)} networks: " + ", ".join(f"{n} {kind}" for kind, n in kinds)]
    reasons = Counter(re.sub(r"\S*\d\S*", "...", f["detail"]) for f in found if f["kind"] == "refused")
    lines += [f"  refused {n}: {reason}" for reason, n in reasons.most_common()]
    lines += [f"  {f['kind']} {f['seed']}: {f['detail']}" for f in found if f["kind"] in FAULTS]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
