"""Inputs that a model of Hugging Face's library takes, made from its configuration."""

from __future__ import annotations

import inspect
from typing import Any

import torch
from torch import Tensor, nn

from ..run import without_traces

_TOKENS, _FEWER, _SAMPLES = 12, 7, 4000


def inputs_of(model: nn.Module) -> list[dict[str, Any]]:
    """Examples of one batch of two: whole sequences, padded ones, and with labels where the model computes a loss.

    Raises ValueError where nothing is known of what it takes.
    """
    config: Any = model.config
    named = inspect.signature(model.forward).parameters
    random = torch.Generator().manual_seed(0)
    inputs: dict[str, Any] = {}
    for name, make in _MAKERS.items():
        if name in named and _wanted(model, name):
            inputs[name] = make(config, random)
    if not inputs:
        raise ValueError(f"what {type(model).__name__} takes isn't known")
    if config.is_encoder_decoder and "decoder_input_ids" in named:
        inputs["decoder_input_ids"] = _tokens(config, random, _FEWER)
    examples = [inputs]
    if "attention_mask" in named and "input_ids" in inputs:
        inputs["attention_mask"] = torch.ones_like(inputs["input_ids"])
        padded = torch.ones_like(inputs["input_ids"])
        padded[1, -3:] = 0
        examples.append({**inputs, "attention_mask": padded})
    if "labels" in named:
        examples += _labelled(model, inputs)
    return examples


def _wanted(model: nn.Module, name: str) -> bool:
    main = getattr(model, "main_input_name", "input_ids")
    both = type(model).__name__.endswith(("CLIPModel", "SiglipModel"))
    return name == main or (both and name in ("input_ids", "pixel_values"))


def _labelled(model: nn.Module, inputs: dict[str, Any]) -> list[dict[str, Any]]:
    """The example with labels of the first form that the model takes."""
    tokens = inputs.get("decoder_input_ids", inputs.get("input_ids"))
    forms: list[Tensor] = [] if tokens is None else [tokens]
    forms.append(torch.zeros(2, dtype=torch.long))
    for labels in forms:
        example = {**inputs, "labels": labels}
        try:
            with torch.no_grad(), without_traces(model):
                model(**example)
        except Exception:  # labels of another form
            continue
        return [example]
    return []


def _text(config: Any) -> Any:
    return getattr(config, "text_config", None) or config


def _vision(config: Any) -> Any:
    return getattr(config, "vision_config", None) or config


def _tokens(config: Any, random: torch.Generator, length: int = _TOKENS) -> Tensor:
    """Tokens that mean nothing special, and, where one ends a text that is looked for, that one last."""
    text = _text(config)
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


def _pixels(config: Any, random: torch.Generator) -> Tensor:
    vision = _vision(config)
    size = getattr(vision, "image_size", None) or 64
    height, width = size if isinstance(size, (list, tuple)) else (size, size)
    return torch.randn(2, getattr(vision, "num_channels", 3), height, width, generator=random)


def _spectrum(config: Any, random: torch.Generator) -> Tensor:
    return torch.randn(2, config.num_mel_bins, 2 * config.max_source_positions, generator=random)


def _samples(config: Any, random: torch.Generator) -> Tensor:
    return torch.randn(2, _SAMPLES, generator=random)


_MAKERS = {"input_ids": _tokens, "pixel_values": _pixels, "input_features": _spectrum, "input_values": _samples}
