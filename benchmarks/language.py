"""A small model of language, trained for some minutes on the text of Python's own library, then pruned.

    python benchmarks/language.py train FOLDER          a Llama of 1.3 million parameters; needs pip install '.[hf]'
    python benchmarks/language.py prune FOLDER          perplexity at 80, 60 and 40 % of the parameters

Text: the .py files of the standard library, a tenth of them held out; 1,024 tokens, a byte-level BPE. One thread, the
seed 0.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import sysconfig
import time
from pathlib import Path

import torch

_STEPS, _BATCH, _LENGTH = 1500, 16, 128


def text_of(folder: Path) -> tuple[Path, Path]:
    """Files with what is trained on and what is held out."""
    folder.mkdir(parents=True, exist_ok=True)
    sources = sorted(Path(sysconfig.get_path("stdlib")).glob("*.py"))
    parts = {"train": [s for i, s in enumerate(sources) if i % 10], "held": sources[::10]}
    for name, files in parts.items():
        text = "\n".join(f.read_text("utf-8", errors="replace") for f in files)
        (folder / f"{name}.txt").write_text(text, "utf-8")
    return folder / "train.txt", folder / "held.txt"


def train(folder: Path, steps: int) -> None:
    import transformers
    from tokenizers import ByteLevelBPETokenizer

    torch.manual_seed(0)
    torch.set_num_threads(1)
    text, _ = text_of(folder)
    words = ByteLevelBPETokenizer()
    words.train([str(text)], vocab_size=1024, min_frequency=2)
    model_folder = folder / "model"
    transformers.PreTrainedTokenizerFast(tokenizer_object=words._tokenizer).save_pretrained(model_folder)
    tokens = torch.tensor(words.encode(text.read_text("utf-8")).ids)
    config = transformers.LlamaConfig(
        vocab_size=1024, hidden_size=160, intermediate_size=432, num_hidden_layers=4, num_attention_heads=8,
        num_key_value_heads=4, head_dim=20, max_position_embeddings=256, bos_token_id=None, eos_token_id=None,
        tie_word_embeddings=True,
    )  # fmt: skip
    model = transformers.LlamaForCausalLM(config)
    print(f"{sum(p.numel() for p in model.parameters()):,} parameters, {len(tokens):,} tokens", flush=True)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=0.1)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, steps, pct_start=0.1)
    begin = time.process_time()
    for step in range(steps):
        places = torch.randint(len(tokens) - _LENGTH, (_BATCH, 1)) + torch.arange(_LENGTH)
        loss = model(input_ids=tokens[places], labels=tokens[places]).loss
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if step % 100 == 99:
            print(f"{step + 1} steps, loss {float(loss):.3f}, {time.process_time() - begin:.0f} s", flush=True)
    model.save_pretrained(model_folder)


def prune(folder: Path) -> None:
    print("| parameters kept | before | slice | lstsq |\n|---|---|---|---|")
    for kept in (0.8, 0.6, 0.4):
        cells = []
        for transfer in ("slice", "lstsq"):
            output = folder / f"pruned_{kept}_{transfer}"
            done = subprocess.run(
                [sys.executable, "-m", "secateur", "prune", "--model", f"hf:{folder / 'model'}", "--params", str(kept),
                 "--data", f"text:{folder / 'train.txt'}", "--transfer", transfer, "--calibration", "256", "-q",
                 "--json", "--force", "-o", str(output)] if transfer == "lstsq" else
                [sys.executable, "-m", "secateur", "prune", "--model", f"hf:{folder / 'model'}", "--params", str(kept),
                 "--data", f"text:{folder / 'train.txt'}", "--transfer", transfer, "-q", "--json", "--force",
                 "-o", str(output)],
                capture_output=True, text=True,
            )  # fmt: skip
            if done.returncode:
                raise SystemExit(done.stderr)
            found = json.loads(done.stdout)["perplexity"]
            cells = [f"{found['before']:.2f}", *cells[1:], f"{found['pruned']:.2f}"]
        print(f"| {kept:.0%} | {' | '.join(cells)} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["train", "prune"])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--steps", type=int, default=_STEPS)
    arguments = parser.parse_args()
    if arguments.what == "train":
        train(arguments.folder, arguments.steps)
    else:
        prune(arguments.folder)


if __name__ == "__main__":
    main()
