"""All that lies in a model's folder: what comes out holds what ``from_pretrained`` and ``generate`` need."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from app_helpers import app
from hub_models import llama, transformers
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from secateur.pruners.hub import open_folder, save_folder

GENERATION = {"temperature": 0.6, "top_p": 0.9, "do_sample": False, "bos_token_id": 1, "eos_token_id": [2, 3]}
FILES = {"tokenizer.json": "{}", "chat_template.jinja": "{{ messages }}", "LICENSE": "mine", "modeling_x.py": "1 / 0",
         "preprocessor_config.json": "{}"}  # fmt: skip


def folder_of_somebody(folder: Path) -> Path:
    """Sharded, of 16 bits but for the norms, tied, with code that the library has too, and all kinds of files."""
    llama(tie_word_embeddings=True).to(torch.bfloat16).save_pretrained(folder, max_shard_size="10KB")
    assert len(list(folder.glob("*.safetensors"))) > 2
    for shard in folder.glob("*.safetensors"):
        tensors = load_file(shard)
        for name in [n for n in tensors if "norm" in n]:
            tensors[name] = tensors[name].float() + 1e-4 * torch.rand(tensors[name].shape)
        save_file(tensors, shard, metadata={"format": "pt"})
    config = json.loads((folder / "config.json").read_text("utf-8"))
    config |= {"auto_map": {"AutoModelForCausalLM": "modeling_x.X"}, "somebodys": 7}
    (folder / "config.json").write_text(json.dumps(config), "utf-8")
    (folder / "generation_config.json").write_text(json.dumps(GENERATION), "utf-8")
    for name, text in {**FILES, "README.md": "It has 7 billion parameters.", "model.onnx": ""}.items():
        (folder / name).write_text(text, "utf-8")
    save_file({"other": torch.zeros(3)}, folder / "consolidated.safetensors")
    (folder / "original").mkdir()
    (folder / "original" / "params.json").write_text("{}", "utf-8")
    return folder


def test_a_folder_of_somebody_comes_out_whole_and_what_stays_behind_is_told(tmp_path: Path) -> None:
    model, out = folder_of_somebody(tmp_path / "model"), tmp_path / "out"
    made = app("prune", "--model", f"hf:{model}", "--ratio", "0.5", "-o", str(out))
    assert made.exit_code == 0, made.output
    told = json.loads((out / "summary.json").read_text("utf-8"))
    assert told["left_behind"] == ["README.md", "consolidated.safetensors", "model.onnx", "original/"]
    assert "don't go along (left_behind in summary.json)" in " ".join(made.stdout.split())
    assert {name: (out / name).read_text("utf-8") for name in FILES} == FILES
    config = json.loads((out / "config.json").read_text("utf-8"))
    assert config["somebodys"] == 7 and config["tie_word_embeddings"] and "auto_map" not in config
    assert config.get("dtype", config.get("torch_dtype")) == "bfloat16"
    generation = json.loads((out / "generation_config.json").read_text("utf-8"))
    assert {name: generation[name] for name in GENERATION} == GENERATION
    weights = json.loads((out / "model.safetensors.index.json").read_text("utf-8"))["weight_map"]
    assert len(set(weights.values())) > 1 and "lm_head.weight" not in weights
    assert {p.name for p in out.glob("*.safetensors")} == set(weights.values())
    whole = transformers.AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32)
    for name, file in weights.items():
        with safe_open(out / file, "pt") as held:
            tensor = held.get_tensor(name)
        assert tensor.dtype == (torch.float32 if "norm" in name else torch.bfloat16), name
        if "norm" in name:
            assert torch.equal(tensor, whole.get_parameter(name))
    pruned = transformers.AutoModelForCausalLM.from_pretrained(out, dtype="auto")
    assert pruned.dtype == torch.bfloat16 and pruned.lm_head.weight is pruned.model.embed_tokens.weight
    assert pruned.generation_config.eos_token_id == [2, 3] and pruned.config.intermediate_size == 24
    assert pruned.generate(torch.tensor([[1, 5, 6]]), max_new_tokens=3).shape[1] > 3


def test_weights_of_two_types_are_of_one_where_that_is_asked_for(tmp_path: Path) -> None:
    folder, out = folder_of_somebody(tmp_path / "model"), tmp_path / "out"
    model, _ = open_folder(folder)
    save_folder(model, folder, out, torch.float16)
    kinds = {tensor.dtype for file in out.glob("*.safetensors") for tensor in load_file(file).values()}
    assert kinds == {torch.float16}
