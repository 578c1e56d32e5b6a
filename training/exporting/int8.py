"""8-bit integers by torchao's PT2E: ranges seen on calibration inputs, then weights and sums in integers."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.fx import GraphModule

from ...pruners.errors import UnsuitedError
from ...pruners.run import described
from .program import Program, quiet


def quantized(program: Program, batches: Iterable[Tensor], target: str) -> Program:
    """The program with weights (per channel) and activations in 8 bits. UsageError where nothing of it can be.

    ``batches``: inputs whose ranges are taken. ExecuTorch gets what XNNPACK computes with (signed, symmetric weights);
    others what x86 processors do (unsigned activations).
    """
    exported = program.exported
    try:
        with quiet(), torch.no_grad():
            from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e

            prepared = prepare_pt2e(exported.module(), _quantizer(target))
            for batch in batches:
                prepared(batch)
            network = convert_pt2e(prepared)
    except Exception as error:  # torchao's
        raise UnsuitedError(f"{type(program.network).__name__} can't be quantized: {described(error)}") from error
    if not any("quantize_per" in str(node.target) for node in network.graph.nodes):
        raise UnsuitedError(f"{type(program.network).__name__} has no layers that compute in 8-bit integers")
    _forget_floats(network)
    return replace(program, network=network)


def _forget_floats(network: GraphModule) -> None:
    """The weights as they were go; conversion leaves them beside those in integers."""
    read = {str(node.target) for node in network.graph.nodes if node.op == "get_attr"}
    for name in [n for n, _ in network.named_parameters() if n not in read]:
        owner, _, attribute = name.rpartition(".")
        delattr(network.get_submodule(owner), attribute)


def _quantizer(target: str) -> Any:
    if target == "executorch":
        from executorch.backends.xnnpack.quantizer.xnnpack_quantizer import (
            XNNPACKQuantizer,
            get_symmetric_quantization_config,
        )

        return XNNPACKQuantizer().set_global(get_symmetric_quantization_config(is_per_channel=True))
    from torchao.quantization.pt2e.quantizer import x86_inductor_quantizer as x86

    return x86.X86InductorQuantizer().set_global(x86.get_default_x86_inductor_quantization_config())
