"""What ``evaluate``, ``quantize``, ``profile`` and ``retrain`` work on: a published bundle."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor, nn

from ...pruners.bundle import Bundle
from ...pruners.errors import UnsuitedError
from ...pruners.hub import foretells, longest, tokenizer_of
from ...pruners.run import scores_of, widened
from ...training.data import LENGTH, Data, load_data, load_text
from .build import check_outputs
from .inputs import data_of_bundle, images
from .kinds import of_bundle


class Foretelling(nn.Module):
    """A model of language that gives a row of scores for every token but the first: tokens in, (N * (tokens - 1),
    words) out. Raises UnsuitedError for other models, with what to do ``instead``."""

    def __init__(self, name: str, model: nn.Module, instead: str) -> None:
        super().__init__()
        if not foretells(model):
            raise UnsuitedError(f"{name}: {type(model).__name__} doesn't foretell the next token: {instead}")
        self.model = model

    def forward(self, tokens: Tensor) -> Tensor:
        scores = scores_of(self.model(tokens), tokens)
        assert scores is not None
        return scores.view(*tokens.shape, -1)[:, :-1].flatten(0, 1)


def text_for(bundle: Bundle, network: Foretelling, spec: str) -> Data:
    """Text as tokens of the bundle's own. Raises UnsuitedError for other data."""
    if not spec.startswith("text:"):
        raise UnsuitedError(f"{bundle.path} is a model of language: give text, --data text:FILES")
    return load_text(spec, tokenizer_of(bundle.folder), longest(network.model, LENGTH))


def subject_of_bundle(
    path: Path, data: str | None, measured: bool = True, instead: str = ""
) -> tuple[str, nn.Module, Data | None]:
    """A bundle's name, network and data: ``data``, else, to be ``measured`` on, what it was made with. Text where it is
    a model of language; ``instead``: what to do with one, where it can't be measured."""
    bundle = Bundle.open(path)
    spec = data_of_bundle(bundle, data) if data or measured else ""
    model = bundle.model
    widened(model)
    of_bundle(model, bundle.plan.provenance)
    if spec and bundle.configured:
        return str(path), model, text_for(bundle, Foretelling(str(path), model, instead), spec)
    found = load_data(spec) if spec else None
    if found is not None:
        found = check_outputs(str(path), model, images([found.input_shape]), found)
    return str(path), model, found
