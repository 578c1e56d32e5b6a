"""Whole experts of mixtures that go, with their rows of the router."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from app_helpers import app, refusal
from hub_models import SMALL, llama, transformers

from secateur.pruners.configured import ConfiguredPruning
from secateur.pruners.errors import BudgetError, NotPrunableError


def mixtral(**more: Any) -> Any:
    torch.manual_seed(0)
    experts = {"num_key_value_heads": 2, "num_local_experts": 4, "num_experts_per_tok": 2}
    config = transformers.MixtralConfig(**{**SMALL, **experts, **more})
    return transformers.MixtralForCausalLM(config).eval()


# -- what is refused


def test_as_many_experts_stay_as_a_token_goes_to(tmp_path: Path) -> None:
    with pytest.raises(BudgetError, match=r"of 4 experts 1 would stay, and every token goes to 2: 0.5 is the least"):
        ConfiguredPruning(mixtral()).fewer_experts(0.4)


def test_a_model_without_a_mixture_and_one_without_a_configuration_are_refused(tmp_path: Path) -> None:
    with pytest.raises(NotPrunableError, match="no number of the configuration counts experts"):
        ConfiguredPruning(llama()).fewer_experts(0.5)
    code, said = refusal("prune", "--arch", "lenet5", "--experts", "0.5", "-o", str(tmp_path / "out"))
    assert code == 2 and "--experts is for models of Hugging Face's library" in said


def test_a_router_that_chooses_among_groups_of_experts_is_refused() -> None:
    """DeepSeek's takes the best group first: the experts that are left make other groups."""
    torch.manual_seed(0)
    config = transformers.DeepseekV3Config(
        **SMALL, num_key_value_heads=4, n_routed_experts=8, num_experts_per_tok=2, moe_intermediate_size=24,
        n_group=2, topk_group=1, first_k_dense_replace=1, q_lora_rank=16, kv_lora_rank=16, qk_rope_head_dim=8,
        qk_nope_head_dim=8, v_head_dim=8,
    )  # fmt: skip
    pruner = ConfiguredPruning(transformers.DeepseekV3ForCausalLM(config).eval())
    with pytest.raises(NotPrunableError, match="computes something else than when its routers never choose them"):
        pruner.take_out(["model.layers.1.mlp.experts.0", "model.layers.1.mlp.experts.1"])


# -- what comes out


def test_inner_channels_go_from_experts_that_no_token_of_the_example_goes_to() -> None:
    """Of many experts some get no token, others with other weights: what runs is another number of products."""
    model = mixtral(num_local_experts=24, num_hidden_layers=1)
    pruner = ConfiguredPruning(model)
    kept = {"intermediate_size": [*range(0, 48, 2)]}
    assert {w.name for w in pruner.graph.widths} == {"intermediate_size", "num_attention_heads+num_key_value_heads"}
    tokens = torch.arange(3, 33).reshape(1, 30)
    zeroed = copy.deepcopy(model)
    with torch.no_grad():
        zeroed.model.layers[0].mlp.experts.down_proj[:, :, 1::2] = 0
    torch.testing.assert_close(pruner.realize(kept)(tokens).logits, zeroed(tokens).logits)


def test_the_experts_that_fewest_tokens_go_to_are_gone_and_the_rest_is_as_if_the_router_never_chose_them() -> None:
    model = mixtral()
    block = model.model.layers[0].mlp
    tokens = torch.arange(3, 23).reshape(2, 10)
    used = torch.zeros(4)

    def counted(module: Any, args: Any) -> None:
        used.add_(torch.bincount(args[1].flatten(), minlength=4))

    block.experts.register_forward_pre_hook(counted)
    model(tokens)
    pruner = ConfiguredPruning(model, {"input_ids": tokens})
    gone = pruner.fewer_experts(0.75, [{"input_ids": tokens}])
    assert gone[0] == f"model.layers.0.mlp.experts.{int(used.argmin())}" and len(gone) == 2
    pruned: Any = pruner.model
    left = [i for i in range(4) if i != int(used.argmin())]
    assert torch.equal(pruned.model.layers[0].mlp.gate.weight, block.gate.weight[left])
    assert torch.equal(pruned.model.layers[0].mlp.experts.down_proj, block.experts.down_proj[left])
    rows = {id(b.mlp.gate): int(name[-1]) for b, name in zip(model.model.layers, gone, strict=True)}

    def never(router: Any, args: Any) -> Any:
        logits = args[0].reshape(-1, 32) @ router.weight.T
        logits[:, rows[id(router)]] = -torch.inf
        scores, chosen = logits.softmax(-1).topk(2, -1)
        return logits, scores / scores.sum(-1, keepdim=True), chosen

    for layer in model.model.layers:
        layer.mlp.gate.register_forward_hook(lambda router, args, out: never(router, args))
    torch.testing.assert_close(pruned(tokens).logits, model(tokens).logits, atol=1e-5, rtol=1e-5)


def test_experts_go_before_widths_and_the_plan_is_applied_to_the_same_bytes(tmp_path: Path) -> None:
    mixtral().save_pretrained(tmp_path / "model")
    given = ("--model", f"hf:{tmp_path / 'model'}", "-q")
    made = app("prune", *given, "--experts", "0.75", "--params", "0.7", "-o", str(tmp_path / "out"), "--json")
    assert made.exit_code == 0, made.output
    told = json.loads(made.stdout)
    assert told["configuration"]["num_local_experts"] == {"before": 4, "after": 3} and "warnings" not in told
    assert told["params"]["after"] <= 0.7 * told["params"]["before"]
    opened = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    assert opened.config.num_local_experts == 3 and opened.model.layers[1].mlp.gate.weight.shape == (3, 32)
    made = app("apply", str(tmp_path / "out" / "plan.json"), *given, "-o", str(tmp_path / "again"))
    assert made.exit_code == 0, made.output
    for name in ("config.json", "model.safetensors"):
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "again" / name).read_bytes()
