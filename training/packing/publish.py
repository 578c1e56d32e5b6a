"""A packed bundle: written, held against the network that it was made of, and published."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ...pruners.bundle import Bundle, import_text, published, report_of, size_of_state, write_file, write_state
from ...pruners.costs import Costs
from ...pruners.errors import VerificationError
from ...pruners.run import call_arguments, isolated, run
from ...pruners.verify import Case, fits_double, measured, varied, verify_bundle
from .found import Found, scaled_afterwards
from .packed import Packed

_KEPT = ("schema", "factory", "file", "source", "plan_sha256", "widths", "groups", "groups_kept", "frozen", "lost",
         "loads", "accuracy", "agreement", "search", "notes")  # fmt: skip
"""What a summary says that stays true: the outputs are the same."""
_SEEDS = (1, 2, 3)


def publish(bundle: Bundle, model: nn.Module, packed: Packed, inputs: Any, output: Path, force: bool) -> Bundle:
    """Raises VerificationError where the packed network computes something else; then nothing is published."""
    network = import_text(packed.text, bundle.summary["factory"])
    network.load_state_dict(packed.state)
    params = sum(p.numel() for p in network.parameters())
    file, state = bundle.file.name, {k: packed.state[k] for k in network.state_dict()}
    with published(output, force) as draft:
        write_file(draft / file, packed.text.encode())
        write_state(draft / "weights.pth", state)
        cases = [_case(model, packed.found, varied(inputs, seed, model)) for seed in _SEEDS]
        checked = verify_bundle(draft / file, bundle.summary["factory"], cases, Costs(params, 0, 0, 0), 1)
        facts = _facts(model, network.eval(), packed, inputs)
        sizes = {"before": size_of_state(model.state_dict()), "after": (draft / "weights.pth").stat().st_size}
        told = {
            **{k: bundle.summary[k] for k in _KEPT if k in bundle.summary},
            "size_bytes": sizes, "packed": facts, "verified": True, **checked.as_dict(), "trained": False,
        }  # fmt: skip
        write_file(draft / "plan.json", bundle.plan.to_json().encode())
        write_file(draft / "summary.json", (json.dumps(told, indent=2) + "\n").encode())
        write_file(draft / "report.html", report_of(draft).encode())
    return Bundle(output, bundle.plan, told)


def _case(model: nn.Module, found: Found, inputs: Any) -> Case:
    around = partial(scaled_afterwards, found=found)
    outputs, double = measured(model, inputs, fits_double(model), around)
    return Case("the weights as bits, against the network that they were made of", inputs, outputs, None, double)


def _facts(model: nn.Module, network: nn.Module, packed: Packed, inputs: Any) -> dict[str, Any]:
    """What was packed and what it saved, and how near its outputs are in float32, in which it is used."""
    names = list(packed.found.layers)
    before = sum(layer.signs.numel() * 4 for layer in packed.found.layers.values())
    after = sum(t.nbytes for key, t in packed.state.items() if key.rpartition(".")[0] in packed.found.layers)
    diff, same, rows = 0.0, 0, 0
    for seed in _SEEDS:
        one, two = (_outputs(m, varied(inputs, seed, model)) for m in (model, network))
        for a, b in zip(one, two, strict=True):
            diff = max(diff, float((a - b).abs().max()) / max(float(a.abs().max()), 1e-6))
        if one[0].ndim == 2:
            same += int((one[0].argmax(1) == two[0].argmax(1)).sum())
            rows += len(one[0])
    for name in names:
        _check_kernels(name, network.get_submodule(name))
    return {
        "layers": names, "batch_norms": dict(packed.folded), "left": dict(packed.found.others),
        "bytes": {"before": before, "after": after}, "float32": {"max_rel_diff": diff, "same_class": [same, rows]},
    }  # fmt: skip


@torch.no_grad()
def _outputs(model: nn.Module, inputs: Any) -> list[Tensor]:
    with isolated.buffers_restored(model), isolated.seeded():
        return isolated.tensors_in(run(model, *call_arguments(inputs)))


@torch.no_grad()
def _check_kernels(name: str, layer: Any) -> None:
    """VerificationError where this machine's kernels give other sums than torch, which are exact."""
    if layer.inputs == "numbers" or not layer.is_accelerated(torch.float32):
        return
    image = (layer.in_channels, *(2 * k + 3 for k in layer.kernel_size)) if hasattr(layer, "kernel_size") else None
    x = torch.randn(2, *(image or (layer.in_features,)), generator=torch.Generator().manual_seed(0))
    fast, layer.fits = layer(x), False
    try:
        if not torch.equal(fast, layer(x)):
            raise VerificationError(f"{name}: the kernels that numba compiled for this machine compute something else")
    finally:
        layer.fits = True
