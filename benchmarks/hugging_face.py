"""Small models of Hugging Face's library with random weights, of many architectures, each pruned by half of every width
that its configuration counts, written as a folder and verified: what goes and what is refused.

    python benchmarks/hugging_face.py                   all that hugging_face.md lacks; needs pip install '.[hf]'
    python benchmarks/hugging_face.py --again llama     these anew

Residual: what all blocks add to goes as well (--residual). Per layer: every layer keeps a width of its own
(--per-layer), half of it and three quarters in turn; lists are of the layers, the rest stays one number.
"""

from __future__ import annotations

import argparse
import tempfile
import warnings
from pathlib import Path
from typing import Any

import torch
import transformers as T

TABLE = Path(__file__).with_name("hugging_face.md")
TEXT = {"vocab_size": 100, "max_position_embeddings": 64}
BLOCKS = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48}
GROUPED = {**BLOCKS, **TEXT, "num_key_value_heads": 2}
SEEN = {**BLOCKS, "image_size": 32, "patch_size": 8}
CHOICES: list[dict[str, bool]] = [{}, {"residual": True}, {"per_layer": True}]
MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "BertForMaskedLM": ("BertConfig", {**BLOCKS, **TEXT}),
    "BertForSequenceClassification": ("BertConfig", {**BLOCKS, **TEXT}),
    "BertForQuestionAnswering": ("BertConfig", {**BLOCKS, **TEXT}),
    "DistilBertForSequenceClassification": (
        "DistilBertConfig", {"dim": 32, "hidden_dim": 48, "n_layers": 2, "n_heads": 4, **TEXT}
    ),
    "RobertaForMaskedLM": ("RobertaConfig", {**BLOCKS, **TEXT, "pad_token_id": 1}),
    "ElectraForPreTraining": ("ElectraConfig", {**BLOCKS, **TEXT, "embedding_size": 24}),
    "AlbertForMaskedLM": ("AlbertConfig", {**BLOCKS, **TEXT, "embedding_size": 16}),
    "MobileBertForSequenceClassification": (
        "MobileBertConfig",
        {**BLOCKS, **TEXT, "embedding_size": 16, "intra_bottleneck_size": 16, "true_hidden_size": 16},
    ),
    "DebertaV2ForSequenceClassification": (
        "DebertaV2Config",
        {**BLOCKS, **TEXT, "relative_attention": True, "position_buckets": 8, "pos_att_type": ["p2c", "c2p"]},
    ),
    "GPT2LMHeadModel": (
        "GPT2Config",
        {"n_embd": 32, "n_layer": 2, "n_head": 4, "vocab_size": 100, "n_positions": 64, "eos_token_id": 2},
    ),
    "LlamaForCausalLM": ("LlamaConfig", GROUPED),
    "MistralForCausalLM": ("MistralConfig", GROUPED),
    "Qwen2ForCausalLM": ("Qwen2Config", GROUPED),
    "Qwen3ForCausalLM": ("Qwen3Config", {**GROUPED, "head_dim": 8}),
    "GemmaForCausalLM": ("GemmaConfig", {**GROUPED, "head_dim": 8}),
    "PhiForCausalLM": ("PhiConfig", GROUPED),
    "T5ForConditionalGeneration": (
        "T5Config",
        {"d_model": 32, "d_kv": 8, "d_ff": 48, "num_layers": 2, "num_heads": 4, "vocab_size": 100,
         "decoder_start_token_id": 0},
    ),
    "BartForConditionalGeneration": (
        "BartConfig",
        {"d_model": 32, "encoder_ffn_dim": 48, "decoder_ffn_dim": 40, "encoder_layers": 2, "decoder_layers": 2,
         "encoder_attention_heads": 4, "decoder_attention_heads": 4, **TEXT},
    ),
    "ViTForImageClassification": ("ViTConfig", SEEN),
    "DeiTForImageClassification": ("DeiTConfig", SEEN),
    "SwinForImageClassification": (
        "SwinConfig",
        {"embed_dim": 16, "depths": [2, 2], "num_heads": [2, 4], "window_size": 4, "image_size": 32, "patch_size": 4},
    ),
    "ConvNextForImageClassification": (
        "ConvNextConfig", {"hidden_sizes": [16, 24, 32, 40], "depths": [1, 1, 1, 1], "image_size": 64}
    ),
    "SegformerForSemanticSegmentation": (
        "SegformerConfig",
        {"hidden_sizes": [8, 16, 24, 32], "depths": [1, 1, 1, 1], "num_attention_heads": [1, 2, 4, 4],
         "decoder_hidden_size": 16, "mlp_ratios": [2, 2, 2, 2]},
    ),
    "CLIPTextModel": ("CLIPTextConfig", {**BLOCKS, **TEXT, "eos_token_id": 99}),
    "CLIPVisionModel": ("CLIPVisionConfig", SEEN),
    "WhisperForConditionalGeneration": (
        "WhisperConfig",
        {"d_model": 32, "encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 4,
         "decoder_attention_heads": 4, "encoder_ffn_dim": 48, "decoder_ffn_dim": 40, "vocab_size": 100,
         "num_mel_bins": 16, "max_source_positions": 32, "max_target_positions": 32, "pad_token_id": 0,
         "bos_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 3},
    ),
    "Wav2Vec2ForCTC": (
        "Wav2Vec2Config",
        {**BLOCKS, "vocab_size": 30, "conv_dim": (16, 16, 16), "conv_stride": (5, 2, 2), "conv_kernel": (10, 3, 3),
         "num_conv_pos_embeddings": 16, "num_conv_pos_embedding_groups": 4, "num_feat_extract_layers": 3},
    ),
    "MambaForCausalLM": (
        "MambaConfig",
        {"hidden_size": 32, "num_hidden_layers": 2, "state_size": 4, "vocab_size": 100, "intermediate_size": 64,
         "time_step_rank": 4},
    ),
    "DetrForObjectDetection": (
        "DetrConfig",
        {"use_timm_backbone": False, "backbone": None, "use_pretrained_backbone": False, "d_model": 32,
         "backbone_config": {"model_type": "resnet", "embedding_size": 8, "hidden_sizes": [8, 16, 16, 24],
                             "depths": [1, 1, 1, 1], "out_features": ["stage4"]},
         "encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 4, "decoder_attention_heads": 4,
         "encoder_ffn_dim": 48, "decoder_ffn_dim": 40, "num_queries": 5, "num_labels": 7},
    ),
    "MixtralForCausalLM": ("MixtralConfig", {**GROUPED, "num_local_experts": 4}),
    "Qwen2MoeForCausalLM": (
        "Qwen2MoeConfig",
        {**GROUPED, "num_experts": 4, "moe_intermediate_size": 24, "shared_expert_intermediate_size": 32},
    ),
    "Gemma3ForCausalLM": ("Gemma3TextConfig", {**GROUPED, "head_dim": 8, "sliding_window": 4}),
    "Olmo2ForCausalLM": ("Olmo2Config", GROUPED),
    "Phi3ForCausalLM": ("Phi3Config", {**GROUPED, "pad_token_id": 0}),
    "GraniteForCausalLM": ("GraniteConfig", GROUPED),
    "StableLmForCausalLM": ("StableLmConfig", GROUPED),
    "FalconForCausalLM": (
        "FalconConfig",
        {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "ffn_hidden_size": 48, **TEXT},
    ),
    "OPTForCausalLM": ("OPTConfig", {**BLOCKS, **TEXT, "ffn_dim": 48, "word_embed_proj_dim": 32}),
    "BloomForCausalLM": ("BloomConfig", {"hidden_size": 32, "n_layer": 2, "n_head": 4, "vocab_size": 100}),
    "GPTNeoXForCausalLM": ("GPTNeoXConfig", {**BLOCKS, **TEXT}),
    "Cohere2ForCausalLM": ("Cohere2Config", {**GROUPED, "sliding_window": 4}),
    "Qwen3MoeForCausalLM": (
        "Qwen3MoeConfig", {**GROUPED, "num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 24}
    ),
    "ModernBertForMaskedLM": ("ModernBertConfig", {**BLOCKS, **TEXT, "pad_token_id": 0, "local_attention": 8}),
    "Dinov2ForImageClassification": ("Dinov2Config", {**SEEN, "mlp_ratio": 2}),
    "SiglipVisionModel": ("SiglipVisionConfig", SEEN),
    "SiglipTextModel": ("SiglipTextConfig", {**BLOCKS, **TEXT, "eos_token_id": 99}),
    "OlmoeForCausalLM": ("OlmoeConfig", {**GROUPED, "num_experts": 32, "num_experts_per_tok": 2}),
    "DeepseekV3ForCausalLM": (
        "DeepseekV3Config",
        {**GROUPED, "num_key_value_heads": 4, "n_routed_experts": 8, "num_experts_per_tok": 2, "n_group": 2,
         "topk_group": 1, "moe_intermediate_size": 24, "first_k_dense_replace": 1, "q_lora_rank": 24,
         "kv_lora_rank": 16, "qk_rope_head_dim": 8, "qk_nope_head_dim": 12, "v_head_dim": 10},
    ),
    "GptOssForCausalLM": (
        "GptOssConfig",
        {**GROUPED, "head_dim": 8, "num_local_experts": 4, "num_experts_per_tok": 2, "sliding_window": 4},
    ),
    "Glm4ForCausalLM": ("Glm4Config", {**GROUPED, "head_dim": 8, "pad_token_id": 0}),
    "Gemma2ForCausalLM": ("Gemma2Config", {**GROUPED, "head_dim": 8, "sliding_window": 4}),
    "SmolLM3ForCausalLM": ("SmolLM3Config", {**GROUPED, "no_rope_layers": [1, 0], "pad_token_id": 0}),
    "Lfm2ForCausalLM": (
        "Lfm2Config", {**GROUPED, "layer_types": ["conv", "full_attention"], "block_auto_adjust_ff_dim": False}
    ),
    "NemotronForCausalLM": ("NemotronConfig", GROUPED),
    "GPTJForCausalLM": (
        "GPTJConfig",
        {"vocab_size": 100, "n_positions": 64, "n_embd": 32, "n_layer": 2, "n_head": 4, "rotary_dim": 4,
         "bos_token_id": 1, "eos_token_id": 2},
    ),
    "Qwen2VLForConditionalGeneration": (
        "Qwen2VLConfig",
        {"text_config": {**GROUPED, "rope_parameters": {"rope_type": "default", "mrope_section": [1, 1, 2],
                                                        "rope_theta": 10000.0}},
         "vision_config": {"depth": 2, "embed_dim": 32, "hidden_size": 32, "num_heads": 4, "mlp_ratio": 2}},
    ),
    "CLIPModel": (
        "CLIPConfig",
        {"text_config": {**BLOCKS, **TEXT, "eos_token_id": 99}, "vision_config": SEEN, "projection_dim": 24},
    ),
    "BlipForConditionalGeneration": (
        "BlipConfig",
        {"text_config": {**BLOCKS, **TEXT, "encoder_hidden_size": 32, "bos_token_id": 1, "sep_token_id": 2},
         "vision_config": SEEN, "projection_dim": 32, "image_text_hidden_size": 32},
    ),
    "VideoMAEForVideoClassification": ("VideoMAEConfig", {**SEEN, "num_frames": 4}),
    "XLMRobertaForSequenceClassification": ("XLMRobertaConfig", {**BLOCKS, **TEXT, "pad_token_id": 1}),
    "LayoutLMForTokenClassification": ("LayoutLMConfig", {**BLOCKS, **TEXT, "max_2d_position_embeddings": 64}),
    "Mamba2ForCausalLM": (
        "Mamba2Config",
        {"hidden_size": 32, "num_hidden_layers": 2, "num_heads": 8, "head_dim": 8, "state_size": 4, "n_groups": 2,
         "vocab_size": 100, "chunk_size": 8, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2},
    ),
    "LevitForImageClassification": (
        "LevitConfig",
        {"image_size": 64, "hidden_sizes": [16, 24, 32], "num_attention_heads": [2, 3, 4], "depths": [1, 1, 1],
         "key_dim": [8, 8, 8]},
    ),
}  # fmt: skip


def row(name: str, **choices: bool) -> str:
    """What the configuration says before and after, or why nothing is pruned."""
    from secateur.pruners.configured import ConfiguredPruning
    from secateur.pruners.errors import SecateurError

    config, values = MODELS[name]
    torch.manual_seed(0)
    model = getattr(T, name)(getattr(T, config)(**values)).eval()
    try:
        pruner = ConfiguredPruning(model, **choices)
        ranking = pruner.rank("l1")
        widths = pruner.graph.widths
        shares = [(2 + n % 2 * bool(choices.get("per_layer"))) / 4 for n in range(len(widths))]
        kept = {w.name: ranking.keep(w, max(int(w.size // w.step * s), 1) * w.step)
                for w, s in zip(widths, shares, strict=True)}  # fmt: skip
        with tempfile.TemporaryDirectory() as folder:
            told = pruner.publish(pruner.plan(kept), Path(folder) / "out").summary
    except SecateurError as error:
        return f"refused: {error}"
    return ", ".join(f"{n} {v['before']:g} -> {_told(v['after'])}" for n, v in told["configuration"].items())


def _told(value: float | list[float]) -> str:
    return f"{value:g}" if isinstance(value, (int, float)) else f"[{', '.join(f'{n:g}' for n in value)}]"


def written() -> dict[str, list[str]]:
    lines = TABLE.read_text("utf-8").splitlines() if TABLE.is_file() else []
    cells = [[c.strip() for c in line.strip("|").split("|")] for line in lines if line.startswith("| ")]
    return {name: [cell for cell in rest if cell] for name, *rest in cells[1:]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--again", nargs="*", default=[])
    again = parser.parse_args().again
    warnings.simplefilter("ignore")
    T.utils.logging.set_verbosity_error()
    T.utils.logging.disable_progress_bar()
    table = {name: cells for name, cells in written().items() if name not in again}
    for name in MODELS:
        if name not in table:
            table[name] = []
        for choices in CHOICES[len(table[name]) :]:
            table[name].append(row(name, **choices))
            print(name, table[name][-1], sep="\n    ", flush=True)
        rows = "".join(f"| {n} | {' | '.join([*table[n], '', '', ''][:3])} |\n" for n in MODELS if n in table)
        head = "| model | verified with | with --residual | with --per-layer |\n|---|---|---|---|\n"
        TABLE.write_text(f"# Models of Hugging Face's library\n\n{__doc__}\n{head}{rows}", "utf-8")


if __name__ == "__main__":
    main()
