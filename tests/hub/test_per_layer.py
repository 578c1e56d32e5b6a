"""Models of Hugging Face's library whose layers keep widths of their own: code beside ``config.json`` makes them."""

from __future__ import annotations

import copy
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from app_helpers import app, refusal
from hub_models import llama, transformers

from secateur.pruners.bundle import Bundle
from secateur.pruners.configured import ConfiguredPruning
from secateur.pruners.errors import NotPrunableError
from secateur.pruners.hub import layers_of


def t5() -> Any:
    torch.manual_seed(0)
    config = transformers.T5Config(d_model=32, d_kv=8, d_ff=48, num_layers=2, num_heads=4, vocab_size=100,
                                   decoder_start_token_id=0)  # fmt: skip
    return transformers.T5ForConditionalGeneration(config).eval()


def kept(pruner: ConfiguredPruning, **left: int) -> dict[str, list[int]]:
    """The first groups of the widths whose names begin so; dots are written as __."""
    found = {}
    for width in pruner.graph.widths:
        for start, n in left.items():
            if width.name.startswith(start.replace("__", ".")):
                found[width.name] = sorted(g for b in range(width.n_blocks)
                                           for g in [g for g in range(width.size) if width.block_of[g] == b][:n])
    return found


# -- what is refused


def test_a_network_without_a_configuration_has_widths_of_its_own_anyway(tmp_path: Path) -> None:
    code, said = refusal("prune", "--arch", "lenet5", "--ratio", "0.5", "--per-layer")
    assert code == 2 and "--per-layer is for --model hf:DIR" in said
    text = "from torch import nn\n\n\ndef make():\n    return nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 2))\n"
    (tmp_path / "net.py").write_text(text)
    given = ("--model", f"{tmp_path}/net.py:make", "--input-shape", "4")
    code, said = refusal("prune", *given, "--ratio", "0.5", "--per-layer")
    assert code == 2 and "--per-layer is for models of Hugging Face's library" in said


def test_layers_whose_numbers_aren_t_in_a_configuration_of_theirs_are_refused_with_the_reason() -> None:
    torch.manual_seed(0)
    config = transformers.SegformerConfig(hidden_sizes=[8, 16], depths=[1, 1], num_attention_heads=[1, 2],
                                          num_encoder_blocks=2, decoder_hidden_size=16, mlp_ratios=[2, 2],
                                          sr_ratios=[2, 1], patch_sizes=[7, 3], strides=[4, 2])  # fmt: skip
    pruner = ConfiguredPruning(transformers.SegformerForSemanticSegmentation(config).eval(), per_layer=True)
    with pytest.raises(NotPrunableError, match=r"--per-layer: no layer can have numbers of its own: .*mlp_ratios\.0"):
        _ = pruner.graph


# -- what comes out


def test_every_layer_keeps_a_width_of_its_own_and_the_rest_is_zeroed_by_hand() -> None:
    model = llama()
    pruner = ConfiguredPruning(model, per_layer=True)
    pruned: Any = pruner.realize(kept(pruner, model__layers__0__i=10, model__layers__1__i=30))
    zeroed = copy.deepcopy(model)
    with torch.no_grad():
        zeroed.model.layers[0].mlp.down_proj.weight[:, 10:] = 0
        zeroed.model.layers[1].mlp.down_proj.weight[:, 30:] = 0
    tokens = torch.arange(10)[None]
    assert torch.allclose(pruned(tokens).logits, zeroed(tokens).logits, atol=1e-6)
    assert [b.mlp.up_proj.out_features for b in pruned.model.layers] == [10, 30]
    assert pruned.config.per_layer == {"model.layers": {"intermediate_size": [10, 30]}}
    assert pruned.config.intermediate_size == 30


_USED = """
import copy, json, sys, tempfile
import torch, transformers
folder = sys.argv[1]
model = transformers.AutoModelForCausalLM.from_pretrained(folder, trust_remote_code=True).eval()
tokens = torch.arange(3, 13)[None]
logits = model(tokens).logits
again = tempfile.mkdtemp()
model.save_pretrained(again)
reopened = transformers.AutoModelForCausalLM.from_pretrained(again, trust_remote_code=True).eval()
asked = {"max_new_tokens": 6, "min_new_tokens": 6, "do_sample": False}
other = copy.deepcopy(model)
other.set_attn_implementation("eager")
step = copy.deepcopy(model).train()
step.gradient_checkpointing_enable()
step(tokens, labels=tokens).loss.backward()
program = torch.export.export(model, (tokens,), {"use_cache": False}, strict=False)
print(json.dumps({
    "same": torch.equal(reopened(tokens).logits, logits), "half": str(copy.deepcopy(model).half().dtype),
    "cache": torch.equal(model.generate(tokens, **asked), model.generate(tokens, use_cache=False, **asked)),
    "eager": {layer.self_attn.config._attn_implementation for layer in other.model.layers} == {"eager"},
    "exported": torch.allclose(program.module()(tokens, use_cache=False).logits, logits, atol=1e-5),
    "trained": all(p.grad is not None for p in step.parameters()), "keys": list(model.state_dict()),
}))
"""


def test_the_folder_is_opened_used_saved_and_opened_again_with_the_library_alone(tmp_path: Path) -> None:
    model = llama()
    pruner = ConfiguredPruning(model, per_layer=True)
    plan = pruner.plan(kept(pruner, model__layers__0__i=10, model__layers__0__n=1, model__layers__1__i=30))
    told = pruner.publish(plan, tmp_path / "out").summary
    assert told["configuration"]["model.layers.*.num_key_value_heads"] == {"before": 2, "after": [1, 2]}
    text = (tmp_path / "out" / "modeling_llama.py").read_text()
    assert "secateur" not in text and len(text.splitlines()) < 40
    environment = {**os.environ, "HF_MODULES_CACHE": str(tmp_path / "modules"), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", _USED, str(tmp_path / "out")], capture_output=True,
                          text=True, env=environment, cwd=tmp_path)  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert found == {"same": True, "half": "torch.float16", "cache": True, "eager": True, "exported": True,
                     "trained": True, "keys": list(model.state_dict())}  # fmt: skip


def test_encoder_and_decoder_have_lists_of_their_own_and_the_bundle_opens(tmp_path: Path) -> None:
    pruner = ConfiguredPruning(t5(), per_layer=True)
    pruner.publish(pruner.plan(kept(pruner, encoder__block__0__d_ff=12, decoder__block__1__d_ff=30)), tmp_path / "out")
    model: Any = Bundle.open(tmp_path / "out").model
    assert model.config.per_layer["encoder.block"] == {"d_ff": [12, 48]}
    assert model.config.per_layer["decoder.block"] == {"d_ff": [48, 30]}
    assert model.encoder.block[0].layer[1].DenseReluDense.wi.out_features == 12
    again = ConfiguredPruning(model)  # numbers of lists are numbers, too
    assert {w.name: w.size for w in again.graph.widths}["per_layer.encoder.block.d_ff.0"] == 12
    again.publish(again.plan(kept(again, per_layer__encoder__block__d_ff__0=6)), tmp_path / "again")
    assert Bundle.open(tmp_path / "again").model.config.per_layer["encoder.block"] == {"d_ff": [6, 48]}
    assert "has_relative_attention_bias=i == 0" in (tmp_path / "out" / "modeling_t5.py").read_text()


def test_a_list_within_layers_gives_way_to_the_layers() -> None:
    def layer() -> torch.nn.Module:
        return torch.nn.ModuleDict({"one": torch.nn.Linear(2, 2), "more": torch.nn.ModuleList(
            [torch.nn.Linear(2, 2), torch.nn.Linear(2, 2)])})  # fmt: skip

    model = torch.nn.ModuleDict({"layers": torch.nn.ModuleList([layer(), layer()]), "head": torch.nn.Linear(2, 2)})
    inner = {"more": ["layers.1.more.0.weight", "layers.1.more.0.bias"]}
    assert layers_of(model, inner) == {"more": ("layers.1.more", 0)}
    assert layers_of(model, {**inner, "one": ["layers.0.one.weight"], "head": ["head.weight"]}) == {
        "more": ("layers", 1), "one": ("layers", 0), "head": None,
    }  # fmt: skip


def test_what_is_in_no_layer_keeps_the_number_of_the_configuration() -> None:
    torch.manual_seed(0)
    config = transformers.SiglipVisionConfig(hidden_size=32, num_hidden_layers=2, num_attention_heads=4,
                                             intermediate_size=48, image_size=16, patch_size=8)  # fmt: skip
    model = transformers.SiglipVisionModel(config).eval()
    pruner = ConfiguredPruning(model, per_layer=True)
    pruned: Any = pruner.realize(kept(pruner, encoder__layers__0=10, encoder__layers__1=30, intermediate_size=20))
    assert pruned.config.per_layer == {"encoder.layers": {"intermediate_size": [10, 30]}}
    assert pruned.config.intermediate_size == pruned.head.mlp.fc1.out_features == 20
    zeroed = copy.deepcopy(model)
    with torch.no_grad():
        for mlp, n in ((zeroed.encoder.layers[0].mlp, 10), (zeroed.encoder.layers[1].mlp, 30), (zeroed.head.mlp, 20)):
            mlp.fc2.weight[:, n:] = 0
    images = torch.rand(2, 3, 16, 16)
    assert torch.allclose(pruned(images).pooler_output, zeroed(images).pooler_output, atol=1e-6)


def test_a_plan_of_single_layers_is_applied_to_the_same_bytes(tmp_path: Path) -> None:
    llama().save_pretrained(tmp_path / "model")
    given = ("--model", f"hf:{tmp_path / 'model'}")
    made = app("prune", *given, "--params", "0.8", "--per-layer", "-q", "-o", str(tmp_path / "out"))
    assert made.exit_code == 0, made.output
    made = app("apply", str(tmp_path / "out" / "plan.json"), *given, "-q", "-o", str(tmp_path / "again"))
    assert made.exit_code == 0, made.output
    for name in ("config.json", "modeling_llama.py", "model.safetensors"):
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "again" / name).read_bytes()
