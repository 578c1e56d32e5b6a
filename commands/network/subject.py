"""What ``evaluate``, ``quantize``, ``profile`` and ``retrain`` work on: a published bundle."""

from __future__ import annotations

from pathlib import Path

from torch import nn

from ...pruners.bundle import Bundle
from ...pruners.run import widened
from ...training.data import Data, load_data
from .build import check_outputs
from .inputs import data_of_bundle, images
from .kinds import of_bundle


def subject_of_bundle(
    path: Path, data: str | None, measured: bool = True
) -> tuple[str, nn.Module, Data | None]:
    """A bundle's name, network and data: ``data``, else, to be ``measured`` on, what it was made with."""
    bundle = Bundle.open(path)
    spec = data_of_bundle(bundle, data) if data or measured else ""
    model = bundle.model
    widened(model)
    of_bundle(model, bundle.plan.provenance)
    found = load_data(spec) if spec else None
    if found is not None:
        found = check_outputs(str(path), model, images([found.input_shape]), found)
    return str(path), model, found
