"""Examples that are made of a model's configuration."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hub_models import SMALL, transformers

from secateur.pruners.configured import examples
from secateur.pruners.errors import NotGivenError

SEEN = {**{k: v for k, v in SMALL.items() if k not in ("vocab_size", "max_position_embeddings")},
        "image_size": 32, "patch_size": 8}  # fmt: skip
HEARD = {k: v for k, v in SMALL.items() if k != "max_position_embeddings"}


def text_and_image() -> Any:
    """It takes both, and says that images are its main input."""
    config = transformers.BlipConfig(
        text_config={**SMALL, "encoder_hidden_size": 32}, vision_config=SEEN, projection_dim=32,
        image_text_hidden_size=32,
    )  # fmt: skip
    return transformers.BlipForConditionalGeneration(config)


def image_to_text() -> Any:
    """Two models in one, each with a configuration."""
    decoder = transformers.TrOCRConfig(
        vocab_size=100, d_model=32, decoder_layers=1, decoder_attention_heads=4, decoder_ffn_dim=48,
        cross_attention_hidden_size=32,
    )  # fmt: skip
    both = transformers.VisionEncoderDecoderConfig.from_encoder_decoder_configs(
        transformers.ViTConfig(**SEEN), decoder, decoder_start_token_id=1, pad_token_id=0
    )
    return transformers.VisionEncoderDecoderModel(both)


def video() -> Any:
    return transformers.VideoMAEForVideoClassification(transformers.VideoMAEConfig(**SEEN, num_frames=4))


def features() -> Any:
    """Frames come before their features, not behind them as in a spectrum."""
    return transformers.Wav2Vec2BertForCTC(transformers.Wav2Vec2BertConfig(**HEARD, feature_projection_input_dim=16))


def test_a_model_of_whose_inputs_nothing_is_known_asks_for_an_example() -> None:
    config = transformers.PatchTSTConfig(d_model=32, num_hidden_layers=1, num_attention_heads=4, ffn_dim=48)
    with pytest.raises(NotGivenError, match="what PatchTSTForPrediction takes isn't known: give --example"):
        examples(transformers.PatchTSTForPrediction(config))


@pytest.mark.parametrize(
    "make, names",
    [
        (text_and_image, {"input_ids", "pixel_values", "attention_mask"}),
        (image_to_text, {"pixel_values", "decoder_input_ids"}),
        (video, {"pixel_values"}),
        (features, {"input_features"}),
    ],
)
def test_every_example_runs(make: Any, names: set[str]) -> None:
    torch.manual_seed(0)
    model = make().eval()
    made = examples(model)
    assert made[0].keys() == names
    for example in made:
        with torch.no_grad():
            model(**example)
