"""Models of language that are retrained on text, in a folder that ``from_pretrained`` opens."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from app_helpers import app, refusal
from hub_models import SMALL as TINY
from hub_models import transformers

WORDS = 280
SMALL = {**TINY, "vocab_size": WORDS}


def text_and_tokenizer(folder: Path, source: Path) -> Path:
    from tokenizers import ByteLevelBPETokenizer

    text = folder / "text.txt"
    text.write_text("".join(f"def f{i}(x): return x * {i}\n" for i in range(800)), "utf-8")
    words = ByteLevelBPETokenizer()
    words.train([str(text)], vocab_size=WORDS, min_frequency=2)
    transformers.PreTrainedTokenizerFast(tokenizer_object=words._tokenizer).save_pretrained(source)
    return text


def pruned(folder: Path, model: Any) -> tuple[Path, Path]:
    """A pruned folder without data, and a text."""
    source, output = folder / "model", folder / "small"
    model.save_pretrained(source)
    text = text_and_tokenizer(folder, source)
    result = app("prune", "--model", f"hf:{source}", "--ratio", "0.5", "-o", str(output), "-q")
    assert result.exit_code == 0, result.output
    return output, text


def test_a_model_that_does_not_foretell_tokens_and_data_that_are_no_text_are_refused(tmp_path: Path) -> None:
    bert = transformers.BertForSequenceClassification(transformers.BertConfig(**SMALL))
    output, text = pruned(tmp_path / "bert", bert)
    code, said = refusal("retrain", str(output), "--data", f"text:{text}", "-o", str(tmp_path / "out"))
    assert code == 2 and "BertForSequenceClassification doesn't foretell the next token" in said
    code, said = refusal("evaluate", str(output), "--data", f"text:{text}")
    assert code == 2 and "measure it by a function of yours, --score FILE.py:FUNCTION" in said
    output, text = pruned(tmp_path / "gpt", transformers.LlamaForCausalLM(transformers.LlamaConfig(**SMALL)))
    code, said = refusal("retrain", str(output), "-o", str(tmp_path / "out"))
    assert code == 2 and "made without text" in said
    code, said = refusal("retrain", str(output), "--data", "digits", "-o", str(tmp_path / "out"))
    assert code == 2 and "--data text:FILES" in said
    code, said = refusal("evaluate", str(output), "--data", "digits")
    assert code == 2 and "--data text:FILES" in said
    code, said = refusal("evaluate", str(output), "--data", f"text:{text}", "--confusion")
    assert code == 2 and "--confusion is for classes of images" in said
    code, said = refusal("quantize", str(output), "--data", f"text:{text}")
    assert code == 2 and "quantize the folder as you would quantize the original" in said
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("kind", ["float32", "bfloat16"])
def test_a_pruned_model_learns_to_foretell_tokens_and_is_written_with_its_tokenizer(tmp_path: Path, kind: str) -> None:
    torch.manual_seed(0)
    model = transformers.LlamaForCausalLM(transformers.LlamaConfig(**SMALL, tie_word_embeddings=True))
    output, text = pruned(tmp_path, model.to(getattr(torch, kind)))
    better = tmp_path / "better"
    result = app(
        "retrain", str(output), "--data", f"text:{text}", "--epochs", "2", "--lr", "0.01", "-o", str(better), "--json"
    )
    assert result.exit_code == 0, result.output
    told = json.loads(result.stdout)["perplexity"]
    assert told["before"] is None and told["retrained"] < 0.7 * told["pruned"]
    network = transformers.LlamaForCausalLM.from_pretrained(better, dtype="auto")
    assert network.dtype == getattr(torch, kind) and network.config.intermediate_size == 24
    assert (better / "tokenizer.json").exists() and not (better / "weights.pth").exists()
    before, after = (json.loads((folder / "summary.json").read_text("utf-8")) for folder in (output, better))
    assert after["perplexity"] == told
    assert after["macs"] == before["macs"] and not after.get("warnings")
    assert measured(network.float(), better, text) == pytest.approx(told["retrained"], rel=0.02)
    for given in ([str(better)], ["--model", f"hf:{better}"]):
        result = app("evaluate", *given, "--data", f"text:{text}", "--json")
        assert result.exit_code == 0, result.output
        assert json.loads(result.stdout)["perplexity"] == pytest.approx(told["retrained"], rel=1e-4)


def measured(network: Any, folder: Path, text: Path) -> float:
    """Perplexity of the last tenth of the sequences, by the library's own loss."""
    tokens = transformers.AutoTokenizer.from_pretrained(folder)(text.read_text("utf-8"))["input_ids"]
    count = len(tokens) // 64
    held = torch.tensor(tokens[: count * 64]).view(count, 64)[count - count // 10 :]
    with torch.no_grad():
        return math.exp(float(network.eval()(input_ids=held, labels=held).loss))


# -- layers and widths together


def test_how_many_layers_go_is_not_chosen_without_data_or_a_budget(tmp_path: Path) -> None:
    transformers.LlamaForCausalLM(transformers.LlamaConfig(**SMALL)).save_pretrained(tmp_path)
    text = text_and_tokenizer(tmp_path, tmp_path)
    for given in (["--params", "0.7"], ["--data", f"text:{text}"], ["--data", f"text:{text}", "--ratio", "0.5"]):
        code, said = refusal("prune", "--model", f"hf:{tmp_path}", "--layers", "auto", *given)
        assert code == 2 and "--layers auto needs a budget" in said


def test_as_many_layers_go_as_move_the_outputs_least(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = transformers.LlamaForCausalLM(transformers.LlamaConfig(**{**SMALL, "num_hidden_layers": 4}))
    with torch.no_grad():  # two layers that hardly matter
        for layer in model.model.layers[1:3]:
            layer.self_attn.o_proj.weight.mul_(1e-4)
            layer.mlp.down_proj.weight.mul_(1e-4)
    source, output = tmp_path / "model", tmp_path / "small"
    model.save_pretrained(source)
    text = text_and_tokenizer(tmp_path, source)
    result = app(
        "prune", "--model", f"hf:{source}", "--data", f"text:{text}", "--params", "0.7", "--layers", "auto", "-o",
        str(output), "-v", "--calibration", "16",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    moved = dict(re.findall(r"with ([\d.]+) of the layers the outputs move by ([\d.e-]+)", result.stderr))
    summary = json.loads((output / "summary.json").read_text("utf-8"))
    assert len(moved) == 3 and min(moved, key=lambda share: float(moved[share])) == "0.5"
    assert summary["without"] == ["model.layers.1", "model.layers.2"] and summary["verified"]
    assert json.loads((output / "config.json").read_text("utf-8"))["num_hidden_layers"] == 2
    assert json.loads((output / "plan.json").read_text("utf-8"))["provenance"]["layers"] == 0.5
