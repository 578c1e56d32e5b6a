"""Inputs that a model of Hugging Face's library takes, made from its configuration."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from itertools import islice, product
from typing import Any

import torch
from torch import Tensor, nn

from ..run import without_traces

_TOKENS, _FEWER, _SAMPLES, _FRAMES = 12, 7, 4000, 64
_PARTS = {"text": ("text_config", "encoder"), "vision": ("vision_config", "encoder"), "decoder": ("decoder",)}


def inputs_of(model: nn.Module) -> list[dict[str, Any]]:
    """Examples of one batch of two: whole sequences, padded ones, and with labels where the model computes a loss.

    What can have several forms is of the first that the model takes. Raises ValueError where nothing is known of what
    it takes.
    """
    config: Any = model.config
    named = inspect.signature(model.forward).parameters
    random = torch.Generator().manual_seed(0)
    forms = {name: list(make(config, random)) for name, make in _MAKERS.items() if name in named}
    tried = [f for f in _tried(forms, getattr(model, "main_input_name", "input_ids")) if f]
    if config.is_encoder_decoder and "decoder_input_ids" in named:
        decoded = _drawn(_part(config, "decoder"), random, _FEWER)
        tried = [{**inputs, "decoder_input_ids": decoded} for inputs in tried]
    inputs = _first_taken(model, tried)
    if inputs is None:
        raise ValueError(f"what {type(model).__name__} takes isn't known")
    examples = [inputs]
    if "attention_mask" in named and "input_ids" in inputs:
        inputs["attention_mask"] = torch.ones_like(inputs["input_ids"])
        padded = torch.ones_like(inputs["input_ids"])
        padded[1, -3:] = 0
        examples.append({**inputs, "attention_mask": padded})
    if "labels" in named:
        tokens = inputs.get("decoder_input_ids", inputs.get("input_ids"))
        labels = [*([] if tokens is None else [tokens]), torch.zeros(2, dtype=torch.long)]
        labelled = ({**inputs, "labels": one} for one in labels)
        examples += islice((e for e in labelled if _takes(model, e)), 1)
    return examples


def _tried(forms: dict[str, list[Tensor]], main: str) -> Iterator[dict[str, Tensor]]:
    """Inputs that a model may take: the main one alone, all together, any one alone."""
    for name in [main] if main in forms else forms:
        yield from ({name: form} for form in forms[name])
    if len(forms) > 1:
        yield from (dict(zip(forms, chosen, strict=True)) for chosen in product(*forms.values()))


def _first_taken(model: nn.Module, tried: Sequence[dict[str, Any]]) -> dict[str, Any] | None:
    """The only one isn't tried: a large model takes long."""
    return tried[0] if len(tried) == 1 else next((inputs for inputs in tried if _takes(model, inputs)), None)


def _takes(model: nn.Module, inputs: dict[str, Any]) -> bool:
    try:
        with torch.no_grad(), without_traces(model):
            model(**inputs)
    except Exception:  # inputs of another form
        return False
    return True


def _part(config: Any, kind: str) -> Any:
    found = (getattr(config, name, None) for name in _PARTS[kind])
    return next((part for part in found if hasattr(part, "to_dict")), config)


def _tokens(config: Any, random: torch.Generator) -> Iterator[Tensor]:
    text = _part(config, "text")
    if getattr(text, "vocab_size", None):
        yield _drawn(text, random, _TOKENS)


def _drawn(text: Any, random: torch.Generator, length: int) -> Tensor:
    """Tokens that mean nothing special, and, where one ends a text that is looked for, that one last."""
    special = {v for k, v in vars(text).items() if k.endswith("_token_id") and isinstance(v, int)}
    known = [n for n in range(min(text.vocab_size, 1000)) if n not in special] or [0]
    places = getattr(text, "max_position_embeddings", None) or length
    length = min(length, places)
    drawn = torch.randint(len(known), (2, length), generator=random)
    tokens = torch.tensor(known)[drawn]
    end = getattr(text, "eos_token_id", None)
    if "clip" in str(text.model_type) and isinstance(end, int) and 0 <= end < text.vocab_size:
        tokens[:, -1] = end
    return tokens


def _pixels(config: Any, random: torch.Generator) -> Iterator[Tensor]:
    vision = _part(config, "vision")
    size = getattr(vision, "image_size", None) or 64
    height, width = size if isinstance(size, (list, tuple)) else (size, size)
    image = (getattr(vision, "num_channels", 3), height, width)
    frames = getattr(vision, "num_frames", None)
    yield torch.randn(2, *(image if frames is None else (frames, *image)), generator=random)


def _spectrum(config: Any, random: torch.Generator) -> Iterator[Tensor]:
    names = ("num_mel_bins", "input_feat_per_channel", "feature_projection_input_dim")
    bins = next((n for name in names if (n := getattr(config, name, None))), None)
    if bins:
        yield torch.randn(2, bins, 2 * (getattr(config, "max_source_positions", None) or _FRAMES), generator=random)
        yield torch.randn(2, _FRAMES, bins, generator=random)


def _samples(config: Any, random: torch.Generator) -> Iterator[Tensor]:
    if (bins := getattr(config, "num_mel_bins", None)) and (length := getattr(config, "max_length", None)):
        yield torch.randn(2, length, bins, generator=random)
    samples = torch.randn(2, _SAMPLES, generator=random)
    yield from (samples, samples[:, None])


_MAKERS = {"input_ids": _tokens, "pixel_values": _pixels, "input_features": _spectrum, "input_values": _samples}
