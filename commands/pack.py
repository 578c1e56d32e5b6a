"""``app.py pack``: a bundle whose binary layers hold their weights as bits, for inference."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..pruners.bundle import Bundle, check_free, held, write_file
from ..pruners.errors import UnsuitedError
from ..pruners.outputs import unwritable
from ..pruners.scratch import scratch
from ..pruners.verify import varied
from ..training.data import load_data
from ..training.packing import as_text, find_binary, pack, publish
from .cli import GENERATED, PackOptions, packed_folder, require_one
from .network import Network, data_of_bundle, inputs_of_bundle, kind_in, network_from, new_pruner
from .show import Voice

_PATTERNS = 3


def run(options: PackOptions) -> None:
    require_one(options)
    with Voice(options.verbose, options.json) as voice, ExitStack() as stack:
        if options.bundle is not None:
            bundle, output = Bundle.open(options.bundle), options.output or packed_folder(options.bundle)
            stack.enter_context(held(output))
            check_free(output, options.force)
        else:
            network = network_from(options, voice)
            output = options.output or GENERATED / f"{network.label}_packed"
            check_free(output, options.force)
            if network.weights is None:
                voice.remark(f"no --weights: {network.name} is packed as its factory returns it")
            folder = stack.enter_context(scratch())
            bundle = unpruned(network, folder / "bundle")
            stack.enter_context(held(output))
        inputs = inputs_of_bundle(bundle, options.example)
        made = packed(bundle, str(options.bundle or output), inputs, output, options.force, voice)
        if options.text is not None:
            _write_text(options.text, made, inputs, options)
            voice.remark(f"{options.text}: the parameters as text, and the signs for {_PATTERNS} images")
    voice.result(_shown(made), dict(made.summary))


def _write_text(folder: Path, made: Bundle, inputs: Any, options: PackOptions) -> None:
    """The first test images, or random ones where there are no data, go through the network."""
    spec = data_of_bundle(made, options.data)
    data = load_data(spec) if spec else None
    if data is None and not (isinstance(inputs, Tensor) and inputs.ndim == 4):
        raise UnsuitedError("--text is for networks of images")
    patterns = next(data.test.batches(_PATTERNS))[0] if data is not None else torch.cat(
        [varied(inputs, seed) for seed in range(_PATTERNS)]
    )[:_PATTERNS]
    try:
        for name, lines in as_text(made.model, patterns):
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            write_file(path, lines.encode())
    except OSError as error:
        raise unwritable(folder, error) from None


def unpruned(network: Network, folder: Path) -> Bundle:
    """The network as a bundle from which nothing was pruned. UsageError where it has no layers that can be packed."""
    find_binary(network.model, network.example_input, network.name, network.chosen.kind.name if network.chosen else "")
    pruner = new_pruner(network, provenance=network.facts)
    return pruner.publish(pruner.plan({}), folder)


def packed(bundle: Bundle, name: str, inputs: Any, output: Path, force: bool, voice: Voice) -> Bundle:
    """The bundle with weights as bits, published at ``output``."""
    if "packed" in bundle.summary:
        raise UnsuitedError(f"{name} is packed already")
    kind, model = kind_in(bundle.plan.provenance), bundle.model
    made = pack(model, bundle.source, find_binary(model, inputs, name, kind.name if kind else ""), inputs)
    for layer, reason in made.found.others.items():
        voice.remark(f"{layer} stays as it is: {reason}")
    return publish(bundle, model, made, inputs, output, force)


def _shown(made: Bundle) -> list[str]:
    facts: dict[str, Any] = made.summary["packed"]
    size, bits = made.summary["size_bytes"], facts["bytes"]
    same, rows = facts["float32"]["same_class"]
    classes = f", {same} of {rows} outputs of the same class" if rows else ""
    return [
        f"{made.file}: the weights of {len(facts['layers'])} layers are bits ({_times(bits)}), "
        f"{len(facts['batch_norms'])} batch norms are in their scales and offsets",
        f"weights.pth: {size['before']:,} -> {size['after']:,} bytes ({_times(size)})",
        f"verified in a fresh process, largest difference {made.summary['max_rel_diff']:.1g} of the largest output in "
        f"{made.summary['precision']}, {facts['float32']['max_rel_diff']:.1g} in float32{classes}",
    ]


def _times(size: dict[str, int]) -> str:
    return f"{size['before'] / max(size['after'], 1):.1f} times smaller"
