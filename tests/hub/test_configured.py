"""Models of Hugging Face's library: pruned by their configuration, into a folder that ``from_pretrained`` opens."""

from __future__ import annotations

import copy
import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from app_helpers import app, refusal
from hub_models import SMALL, llama, transformers

from secateur.pruners.configured import ConfiguredPruning
from secateur.pruners.errors import BudgetError, NotPrunableError, PlanError
from secateur.pruners.plan import from_kept


def bert() -> Any:
    torch.manual_seed(0)
    return transformers.BertForSequenceClassification(transformers.BertConfig(**SMALL)).eval()


def halved(pruner: ConfiguredPruning) -> dict[str, list[int]]:
    """The first half of the groups of every block."""
    found = {}
    for width in pruner.graph.widths:
        groups = [[g for g in range(width.size) if width.block_of[g] == b] for b in range(width.n_blocks)]
        found[width.name] = sorted(g for block in groups for g in block[: len(block) // 2])
    return found


# -- what is refused


def test_a_folder_that_is_not_there_is_to_be_downloaded_first() -> None:
    code, said = refusal("prune", "--model", "hf:someone/some-model", "--ratio", "0.5")
    assert code == 2 and "hf download someone/some-model" in said


@pytest.mark.parametrize(
    "files, said",
    [
        ({}, "has no config.json"),
        ({"config.json": "{}"}, "has no weights"),
        ({"config.json": "{}", "pytorch_model.bin": ""}, "pytorch_model.bin is a pickle"),
        ({"config.json": "{", "model.safetensors": ""}, "is no JSON"),
        ({"config.json": '{"model_type": "nothing"}', "model.safetensors": ""}, "describes no model"),
        ({"config.json": '{"model_type": "bert", "hidden_size": "9"}', "model.safetensors": ""}, "'hidden_size': Type"),
        ({"config.json": '{"model_type": "bert", "dtype": "float99"}', "model.safetensors": ""}, "float99"),
        ({"config.json": '{"auto_map": {"AutoModel": "x.X"}}', "model.safetensors": ""}, "code of its own"),
        ({"config.json": '{"model_type": "bert"}', "model.safetensors": "x"}, "no safetensors file"),
        ({"config.json": '{"model_type": "bert"}', "model.safetensors.index.json": "[]", "a.safetensors": ""},
         "which files hold which weights"),
        ({"config.json": '{"model_type": "bert", "quantization_config": {"quant_method": "gptq"}}',
          "model.safetensors": ""}, "its weights are quantized (gptq), which can't be cut"),
    ],
)
def test_a_folder_without_a_model_is_refused_in_one_line(
    tmp_path: Path, files: dict[str, str], said: str
) -> None:
    for name, text in files.items():
        (tmp_path / name).write_text(text, "utf-8")
    code, error = refusal("prune", "--model", f"hf:{tmp_path}", "--ratio", "0.5", "-o", str(tmp_path / "out"))
    assert code == 2 and said in error.strip().splitlines()[-1] and not (tmp_path / "out").exists()


def test_weights_that_do_not_fit_their_configuration_are_refused(tmp_path: Path) -> None:
    bert().save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text("utf-8"))
    (tmp_path / "config.json").write_text(json.dumps({**config, "num_hidden_layers": 3}), "utf-8")
    code, error = refusal("prune", "--model", f"hf:{tmp_path}", "--ratio", "0.5", "-o", str(tmp_path / "out"))
    assert code == 2 and "has no weights for" in error


def test_options_of_other_networks_do_not_go_with_a_folder(tmp_path: Path) -> None:
    bert().save_pretrained(tmp_path)
    _, error = refusal("prune", "--model", f"hf:{tmp_path}", "--ratio", "0.5", "--input-shape", "3,8,8")
    assert "--input-shape doesn't go with" in error
    _, error = refusal("prune", "--arch", "lenet5", "--ratio", "0.5", "--dtype", "bfloat16")
    assert "--dtype is for --model hf:DIR" in error


def test_a_model_whose_every_number_is_left_alone_has_nothing_to_prune() -> None:
    pruner = ConfiguredPruning(bert(), skip=["intermediate_size"])
    with pytest.raises(NotPrunableError, match="--residual"):
        _ = pruner.graph


def test_layers_that_keep_different_numbers_are_refused() -> None:
    pruner = ConfiguredPruning(llama())
    width = pruner.graph.width("intermediate_size")
    with pytest.raises(PlanError, match="block 0 keeps 40"):
        from_kept(pruner.graph, {width.name: [*range(40), *range(48, 96)]})


def test_a_count_with_which_the_library_makes_other_layers_is_refused() -> None:
    torch.manual_seed(0)
    config = transformers.ElectraConfig(embedding_size=16, **SMALL)
    pruner = ConfiguredPruning(transformers.ElectraForPreTraining(config).eval(), residual=True)
    kept = halved(pruner)  # then no projection leads from the embeddings to the layers
    with pytest.raises(BudgetError, match=r"other layers with .*hidden_size 16"):
        pruner.realize({"hidden_size": kept["hidden_size"]})


def test_weights_of_other_sizes_than_the_configuration_s_are_named(tmp_path: Path) -> None:
    llama().save_pretrained(tmp_path)
    values = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**values, "intermediate_size": 40}))
    code, said = refusal("prune", "--model", f"hf:{tmp_path}", "--ratio", "0.5")
    assert code == 2 and "model.layers.0.mlp.down_proj.weight is 32 x 48, and 32 x 40 by config.json" in said


# -- which numbers count what


def test_whole_groups_of_heads_and_inner_widths_go_and_the_residual_stream_stays() -> None:
    pruner = ConfiguredPruning(llama())
    assert {w.name: (w.size, w.share_of) for w in pruner.graph.widths} == {
        "intermediate_size": (96, (1, 1)), "num_attention_heads+num_key_value_heads": (4, (1, 1)),
    }  # fmt: skip
    assert any("--residual" in f.reason for f in pruner.graph.frozen)


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_both_ways_to_compute_attention_have_the_same_widths(attention: str) -> None:
    found = ConfiguredPruning(llama(attn_implementation=attention), residual=True).graph
    assert {w.name for w in found.widths} == {
        "hidden_size", "intermediate_size", "num_attention_heads+num_key_value_heads"
    }  # fmt: skip


def test_heads_fall_with_the_residual_stream_where_their_size_follows_from_it() -> None:
    pruner = ConfiguredPruning(bert(), residual=True)
    values = pruner.configuration(halved(pruner))
    assert (values["hidden_size"], values["num_attention_heads"], values["intermediate_size"]) == (16, 2, 24)


def test_what_the_library_makes_up_is_written_into_the_configuration() -> None:
    torch.manual_seed(0)
    config = transformers.GPT2Config(n_embd=32, n_layer=2, n_head=4, vocab_size=100, n_positions=64, eos_token_id=2)
    pruner = ConfiguredPruning(transformers.GPT2LMHeadModel(config).eval())
    assert pruner.configuration(halved(pruner))["n_inner"] == 64


def test_a_number_that_says_something_else_too_is_not_changed() -> None:
    """Gemma multiplies its embeddings by the root of hidden_size."""
    torch.manual_seed(0)
    config = transformers.GemmaConfig(num_key_value_heads=2, head_dim=8, **SMALL)
    pruner = ConfiguredPruning(transformers.GemmaForCausalLM(config).eval(), residual=True)
    assert "hidden_size" not in {w.name for w in pruner.graph.widths}
    assert "computes something else" in pruner.unsaid["hidden_size"]


def test_heads_go_in_steps_that_the_library_makes_models_with() -> None:
    """A Llama's hidden_size must be a multiple of its heads: of four pairs, two stay or all."""
    pruner = ConfiguredPruning(llama(hidden_size=40, num_attention_heads=8, num_key_value_heads=4, head_dim=8))
    assert pruner.graph.width("num_attention_heads+num_key_value_heads").step == 2 * 2


def test_heads_go_whole_where_positions_turn_a_part_of_each_only() -> None:
    torch.manual_seed(0)
    config = transformers.GlmConfig(**SMALL, num_key_value_heads=2, head_dim=8, pad_token_id=0, eos_token_id=1)
    pruner = ConfiguredPruning(transformers.GlmForCausalLM(config).eval())
    assert "num_attention_heads+num_key_value_heads" in {w.name for w in pruner.graph.widths}


def test_what_all_blocks_add_to_stays_where_parts_that_nothing_reaches_may_read_it() -> None:
    """What a picture becomes is put among the embeddings of words, which is as wide as they are."""
    torch.manual_seed(0)
    turns = {"rope_type": "default", "mrope_section": [1, 1, 2], "rope_theta": 1e4}
    config = transformers.Qwen2VLConfig(
        text_config={**SMALL, "num_hidden_layers": 1, "num_key_value_heads": 2, "rope_parameters": turns},
        vision_config={"depth": 1, "embed_dim": 32, "hidden_size": 32, "num_heads": 4, "mlp_ratio": 2},
    )  # fmt: skip
    pruner = ConfiguredPruning(transformers.Qwen2VLForConditionalGeneration(config).eval(), residual=True)
    assert {w.name for w in pruner.graph.widths} == {"text_config.intermediate_size"}
    assert any("model.visual" in f.reason for f in pruner.graph.frozen)


# -- what comes out


def test_the_pruned_model_computes_what_the_whole_one_does_without_the_rest() -> None:
    """Held against weights that are zeroed by hand: inner channels that nothing reads any more."""
    model = llama()
    pruner = ConfiguredPruning(model)
    pruned = pruner.realize({"intermediate_size": [*range(24), *range(48, 72)]})
    zeroed = copy.deepcopy(model)
    with torch.no_grad():
        for layer in zeroed.model.layers:
            layer.mlp.down_proj.weight[:, 24:] = 0
    tokens = torch.arange(10)[None]
    assert torch.allclose(pruned(tokens).logits, zeroed(tokens).logits, atol=1e-6)
    assert pruned.config.intermediate_size == 24 and pruned.model.layers[0].mlp.up_proj.weight.shape == (24, 32)


def test_a_folder_comes_out_that_the_library_opens_by_itself(tmp_path: Path) -> None:
    source, output = tmp_path / "model", tmp_path / "small"
    llama().to(torch.bfloat16).save_pretrained(source, max_shard_size="20KB")
    (source / "tokenizer.json").write_text("{}", "utf-8")
    result = app("prune", "--model", f"hf:{source}", "--params", "0.8", "-o", str(output), "-q", "--json")
    assert result.exit_code == 0, result.output
    told = json.loads(result.stdout)
    assert told["verified"] and {"greedy generation", "greedy generation, without a cache"} <= set(told["compared"])
    model = transformers.AutoModelForCausalLM.from_pretrained(output)
    assert model.dtype == torch.bfloat16 and type(model).__name__ == "LlamaForCausalLM"
    now = {name: entry["after"] for name, entry in told["configuration"].items()}
    assert {name: getattr(model.config, name) for name in now} == now
    assert sum(p.numel() for p in model.parameters()) == told["params"]["after"] <= 0.8 * told["params"]["before"]
    assert (output / "tokenizer.json").read_text("utf-8") == "{}"
    assert len(list(source.glob("*.safetensors"))) > 1 and len(list(output.glob("*.safetensors"))) > 1
    assert not list(output.glob("*.pth"))


def test_a_folder_is_written_over_only_if_asked_for_and_its_plan_can_be_applied(tmp_path: Path) -> None:
    source, output = tmp_path / "model", tmp_path / "small"
    bert().save_pretrained(source)
    prune = ("prune", "--model", f"hf:{source}", "--ratio", "0.5", "--residual", "-o", str(output), "-q")
    assert app(*prune).exit_code == 0
    assert "exists" in refusal(*prune)[1]
    plan, again = output / "plan.json", tmp_path / "again"
    result = app("apply", str(plan), "--model", f"hf:{source}", "-o", str(again), "-q")
    assert result.exit_code == 0, result.output
    assert app(*prune, "--force").exit_code == 0
    assert (again / "model.safetensors").read_bytes() == (output / "model.safetensors").read_bytes()
    assert (again / "config.json").read_bytes() == (output / "config.json").read_bytes()


@pytest.mark.parametrize("name", ["t5", "swin"])
def test_encoders_with_decoders_and_stages_are_published(tmp_path: Path, name: str) -> None:
    torch.manual_seed(0)
    if name == "t5":
        config = transformers.T5Config(
            d_model=32, d_kv=8, d_ff=48, num_layers=2, num_heads=4, vocab_size=100, decoder_start_token_id=0
        )  # fmt: skip
        pruner = ConfiguredPruning(transformers.T5ForConditionalGeneration(config).eval())
    else:
        config = transformers.SwinConfig(
            embed_dim=16, depths=[1, 2], num_heads=[2, 4], window_size=4, image_size=32, patch_size=4
        )
        pruner = ConfiguredPruning(transformers.SwinForImageClassification(config).eval())
    bundle = pruner.publish(pruner.plan(halved(pruner)), tmp_path / "out")
    expected = {"t5": {"d_ff": 24, "num_heads": 2}, "swin": {"mlp_ratio": 2.0}}[name]
    assert {n: e["after"] for n, e in bundle.summary["configuration"].items()} == expected
    assert bundle.model.config.to_dict().items() >= expected.items()


def test_text_calibrates_and_is_measured_on(tmp_path: Path) -> None:
    from tokenizers import ByteLevelBPETokenizer

    text = "".join(f"def f{i}(x): return x * {i}\n" for i in range(800))
    (tmp_path / "text.txt").write_text(text, "utf-8")
    words = ByteLevelBPETokenizer()
    words.train([str(tmp_path / "text.txt")], vocab_size=280, min_frequency=2)
    source, output = tmp_path / "model", tmp_path / "small"
    llama(vocab_size=280).save_pretrained(source)
    transformers.PreTrainedTokenizerFast(tokenizer_object=words._tokenizer).save_pretrained(source)
    result = app(
        "prune", "--model", f"hf:{source}", "--ratio", "0.5", "--data", f"text:{tmp_path}/text.txt", "--calibration",
        "16", "--metric", "reconstruction", "-o", str(output), "-q", "--json",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    told = json.loads(result.stdout)
    assert told["transfer"]["name"] == "lstsq" and told["transfer"]["images"] == 16
    assert {fit["layer"].rpartition(".")[2] for fit in told["transfer"]["fitted"]} >= {"down_proj", "o_proj"}
    assert 1 < told["perplexity"]["before"] < 1000 and 1 < told["perplexity"]["pruned"] < 1000
    tokenizer = transformers.AutoTokenizer.from_pretrained(output)
    assert tokenizer.decode(tokenizer("def f1(x)")["input_ids"]) == "def f1(x)"


def test_text_without_a_tokenizer_is_refused(tmp_path: Path) -> None:
    llama().save_pretrained(tmp_path)
    code, error = refusal("prune", "--model", f"hf:{tmp_path}", "--ratio", "0.5", "--data", f"text:{__file__}")
    assert code == 2 and "no tokenizer" in error
    code, error = refusal("prune", "--arch", "lenet5", "--ratio", "0.5", "--data", f"text:{__file__}")
    assert code == 2 and "is for --model hf:DIR" in error


def test_a_tokenizer_of_another_model_is_refused_by_its_largest_token(tmp_path: Path) -> None:
    from tokenizers import ByteLevelBPETokenizer

    (tmp_path / "text.txt").write_text("x" * 9000, "utf-8")
    words = ByteLevelBPETokenizer()
    words.train([str(tmp_path / "text.txt")], vocab_size=256, min_frequency=2)
    llama(vocab_size=60).save_pretrained(tmp_path / "model")
    transformers.PreTrainedTokenizerFast(tokenizer_object=words._tokenizer).save_pretrained(tmp_path / "model")
    given = ("--data", f"text:{tmp_path}/text.txt")
    code, said = refusal("prune", "--model", f"hf:{tmp_path / 'model'}", "--ratio", "0.5", *given)
    assert code == 2 and "and the model knows 60: they are of two models" in said


# -- whole layers


def test_layers_go_by_the_configuration_and_what_it_lists_of_each_layer_follows() -> None:
    torch.manual_seed(0)
    types = ["full_attention", "sliding_attention", "full_attention"]
    config = transformers.Qwen3Config(
        **{**SMALL, "num_hidden_layers": 3, "num_key_value_heads": 2, "head_dim": 8}, layer_types=types,
        sliding_window=4, use_sliding_window=True,
    )  # fmt: skip
    model = transformers.Qwen3ForCausalLM(config).eval()
    ids = torch.randint(3, 90, (2, 12))
    pruner = ConfiguredPruning(model, {"input_ids": ids})
    pruner.take_out(["model.layers.1"])
    assert pruner.model.config.layer_types == ["full_attention", "full_attention"]
    short = copy.deepcopy(model)
    del short.model.layers[1]
    short.config.num_hidden_layers = 2
    short.config.layer_types = ["full_attention", "full_attention"]
    torch.testing.assert_close(pruner.model(ids, use_cache=False).logits, short(ids, use_cache=False).logits)


def test_lists_of_layers_that_are_never_empty_and_names_of_stages_follow() -> None:
    torch.manual_seed(0)
    config = transformers.SmolLM3Config(
        **{**SMALL, "num_hidden_layers": 3}, num_key_value_heads=2, no_rope_layers=[1, 0, 1], pad_token_id=0
    )
    words = ConfiguredPruning(transformers.SmolLM3ForCausalLM(config).eval())
    words.take_out(["model.layers.0"])
    assert words.model.config.no_rope_layers == [0, 1]
    seen = {k: v for k, v in SMALL.items() if k not in ("vocab_size", "max_position_embeddings", "intermediate_size")}
    config = transformers.Dinov2Config(**seen, image_size=32, patch_size=8)
    images = ConfiguredPruning(transformers.Dinov2ForImageClassification(config).eval())
    images.take_out(["dinov2.encoder.layer.0"])
    assert images.model.config.stage_names == ["stem", "stage1"]


def test_a_layer_that_the_configuration_can_t_leave_out_stays() -> None:
    torch.manual_seed(0)
    config = transformers.T5Config(d_model=32, d_kv=8, d_ff=48, num_layers=3, num_heads=4, vocab_size=100)
    model = transformers.T5ForConditionalGeneration(config).eval()
    pruner = ConfiguredPruning(model, {"input_ids": torch.arange(12)[None], "decoder_input_ids": torch.arange(7)[None]})
    with pytest.raises(NotPrunableError, match=r"encoder\.block\.0"):
        pruner.take_out(["encoder.block.0"])
    pruner.shorten(0.7)
    assert len(pruner.without) == 2 and not any(name.endswith(".0") for name in pruner.without)


def test_a_folder_with_fewer_layers_is_opened_by_the_library(tmp_path: Path) -> None:
    model = llama(num_hidden_layers=3)
    model.save_pretrained(tmp_path / "whole")
    made = app("prune", "--model", f"hf:{tmp_path / 'whole'}", "--layers", "0.7", "--params", "0.6", "-q", "-o",
               str(tmp_path / "small"))  # fmt: skip
    assert made.exit_code == 0, made.output
    opened = transformers.LlamaForCausalLM.from_pretrained(tmp_path / "small")
    told = json.loads((tmp_path / "small" / "summary.json").read_text())
    assert opened.config.num_hidden_layers == 2 and told["configuration"]["num_hidden_layers"]["before"] == 3
    assert sum(p.numel() for p in opened.parameters()) <= 0.6 * sum(p.numel() for p in model.parameters())


# -- what a configuration doesn't say


def test_experts_of_a_mixture_are_cut_alike_and_the_given_model_stays_as_it_is(tmp_path: Path) -> None:
    torch.manual_seed(0)
    config = transformers.MixtralConfig(**SMALL, num_key_value_heads=2, num_local_experts=4)
    model = transformers.MixtralForCausalLM(config).eval()
    experts = model.config._experts_implementation
    pruner = ConfiguredPruning(model, {"input_ids": torch.randint(3, 90, (2, 12))})
    assert {"intermediate_size", "num_attention_heads+num_key_value_heads"} == {w.name for w in pruner.graph.widths}
    pruner.publish(from_kept(pruner.graph, halved(pruner)), tmp_path / "small")
    opened = transformers.MixtralForCausalLM.from_pretrained(tmp_path / "small")
    assert opened.model.layers[0].mlp.experts.down_proj.shape == (4, 32, 24)
    assert (opened.config.num_attention_heads, opened.config.num_key_value_heads, opened.config.head_dim) == (2, 1, 8)
    assert model.config._experts_implementation == experts


def test_a_number_that_the_library_makes_up_is_written_where_heads_go(tmp_path: Path) -> None:
    torch.manual_seed(0)
    config = transformers.ViTConfig(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=48, image_size=32, patch_size=8
    )
    model = transformers.ViTForImageClassification(config).eval()
    assert not hasattr(model.config, "head_dim")
    pruner = ConfiguredPruning(model, {"pixel_values": torch.randn(2, 3, 32, 32)})
    pruner.publish(from_kept(pruner.graph, halved(pruner)), tmp_path / "small")
    opened = transformers.ViTForImageClassification.from_pretrained(tmp_path / "small")
    assert (opened.config.num_attention_heads, opened.config.head_dim, opened.config.hidden_size) == (2, 8, 32)


def test_parts_of_a_model_with_configurations_and_attention_of_their_own(tmp_path: Path) -> None:
    torch.manual_seed(0)
    backbone = transformers.ResNetConfig(
        embedding_size=8, hidden_sizes=[8, 16, 16, 24], depths=[1, 1, 1, 1], out_features=["stage4"]
    )
    config = transformers.DetrConfig(
        use_timm_backbone=False, backbone=None, backbone_config=backbone, d_model=32, num_queries=5,
        encoder_layers=1, decoder_layers=1, encoder_attention_heads=4, decoder_attention_heads=4,
        encoder_ffn_dim=48, decoder_ffn_dim=40,
    )  # fmt: skip
    model = transformers.DetrForObjectDetection(config).eval()
    pruner = ConfiguredPruning(model, {"pixel_values": torch.randn(2, 3, 64, 64)})
    pruner.publish(from_kept(pruner.graph, halved(pruner)), tmp_path / "small")
    opened = transformers.DetrConfig.from_pretrained(tmp_path / "small")
    assert (opened.encoder_ffn_dim, opened.backbone_config.hidden_sizes[3]) == (24, 12)


def test_a_model_that_a_function_returns_comes_with_a_file_that_makes_it(tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text(
        "import transformers\n\n\ndef make():\n"
        f"    return transformers.BertModel(transformers.BertConfig(**{SMALL!r}))\n"
    )
    made = app("prune", "--model", f"{tmp_path / 'net.py'}:make", "--ratio", "0.5", "-q", "-o", str(tmp_path / "out"))
    assert made.exit_code == 0, made.output
    spec = importlib.util.spec_from_file_location("written", tmp_path / "out" / "model.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    network = module.make().eval()
    network.load_state_dict(torch.load(tmp_path / "out" / "weights.pth", weights_only=True))
    opened = transformers.BertModel.from_pretrained(tmp_path / "out").eval()
    ids = torch.randint(3, 90, (2, 12))
    assert torch.equal(network(ids).last_hidden_state, opened(ids).last_hidden_state)
    assert network.config.intermediate_size == 24


# -- what is shown


def test_inspect_lists_the_layers_that_one_number_counts(tmp_path: Path) -> None:
    llama().save_pretrained(tmp_path)
    told = json.loads(app("inspect", "--model", f"hf:{tmp_path}", "--json").stdout)
    parts = {w["name"]: w["parts"] for w in told["widths"]}
    assert parts["intermediate_size"] == {f"model.layers.{n}.mlp.gate_proj": 48 for n in range(2)}
    lines = app("inspect", "--model", f"hf:{tmp_path}").stdout.splitlines()
    assert any("intermediate_size" in line and "in 2 layers, below" in line for line in lines)
    assert any(line.startswith("model.layers.1.mlp.gate_proj") and " 48 " in line for line in lines)
