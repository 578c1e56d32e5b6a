"""What becomes of a random network that is pruned: exact, refused with a reason, or a fault."""

from __future__ import annotations

import importlib.util
import random
import re
import sys
import time
import traceback
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn
from weight_values import difference, give_every_value_once, masked, outputs
from written_networks import Written, written

from secateur import prune
from secateur.pruners.errors import NotPrunableError, SecateurError, VerificationError

FAULTS = ("wrong", "caught", "crash", "unfit")
_ALLOWED = 1e-6  # relative: statistics of small batches multiply rounding errors


@dataclass(frozen=True)
class Outcome:
    """``kind``: exact; whole (nothing could go); refused; or a fault: wrong, caught (by the verification), crash,
    unfit (of the dice: the network itself doesn't run)."""

    seed: int
    kind: str
    detail: str
    features: tuple[str, ...]
    seconds: float


def outcome(seed: int, folder: Path) -> Outcome:
    """Write the network of this seed, prune it, and judge the file that comes out."""
    start, network = time.perf_counter(), written(seed)
    kind, detail = _outcome(seed, network, folder)
    return Outcome(seed, kind, detail, network.features, time.perf_counter() - start)


def _outcome(seed: int, network: Written, folder: Path) -> tuple[str, str]:
    original = _load(folder / "author.py", network.text, f"author_{seed}")
    give_every_value_once(original, seed)
    original.eval()
    inputs = network.inputs(2, False)
    try:
        outputs(original, inputs, False)
    except RuntimeError as error:
        return "unfit", _line(error)
    dice = random.Random(seed)
    try:
        bundle = prune(
            original, inputs if len(inputs) > 1 else inputs[0], ratio=dice.choice([0.25, 0.5, 0.7]),
            metric=dice.choice(["l1", "l2", "random"]), output=folder / "out",
        )  # fmt: skip
    except NotPrunableError as error:
        return "refused", _line(error)
    except VerificationError as error:
        return "caught", _line(error)
    except SecateurError as error:
        return ("whole" if "nothing" in str(error) else "refused"), _line(error)
    except Exception as error:
        place = traceback.extract_tb(error.__traceback__)[-1]
        return "crash", f"{type(error).__name__}: {_line(error)} ({Path(place.filename).name}:{place.lineno})"
    finally:
        sys.modules.pop(f"author_{seed}", None)
    text = (bundle.path / "model.py").read_text() if bundle.path else ""
    pruned = _load(folder / "model.py", text, f"pruned_{seed}", bundle.summary["factory"])
    pruned.load_state_dict(torch.load(bundle.path / "weights.pth", weights_only=True))
    return _judged(network, original, pruned)


def _judged(network: Written, original: nn.Module, pruned: nn.Module) -> tuple[str, str]:
    try:
        whole = masked(original, pruned)
        for training in (False, True):
            for batch, larger in ((2, False), (3, False), (2, True)):
                inputs = network.inputs(batch, larger)
                expected = outputs(whole, inputs, training)
                off = difference(expected, outputs(pruned, inputs, training))
                if not off <= _ALLOWED:
                    mode = "training" if training else "evaluation"
                    return "wrong", f"off by {off:.2g} in {mode}, batch {batch}, {'larger' if larger else 'as given'}"
    except Exception as error:
        return "wrong", f"{type(error).__name__}: {_line(error)}"
    before, after = (sum(p.numel() for p in m.parameters()) for m in (original, pruned))
    return ("exact", "") if after < before else ("whole", "nothing went")


def _load(file: Path, text: str, name: str, factory: str = "Net") -> nn.Module:
    file.write_text(text)
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    made: nn.Module = getattr(module, factory)()
    return made


def _line(error: BaseException) -> str:
    first = (str(error).strip().splitlines() or [""])[0]
    return re.sub(r"/\S*/", "", first)
