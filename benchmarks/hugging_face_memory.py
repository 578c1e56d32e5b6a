"""How much memory and time it takes to prune a large model of Hugging Face's library: a Llama with random weights.

    python benchmarks/hugging_face_memory.py                    100 million parameters
    python benchmarks/hugging_face_memory.py --size 1b          1.1 billion

Memory is what all processes together have at the worst moment, files that are mapped among it: the sum of RSS, sampled
five times a second.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SIZES = {
    "100m": {"hidden_size": 768, "intermediate_size": 2048, "num_hidden_layers": 8, "num_attention_heads": 12},
    "1b": {"hidden_size": 2048, "intermediate_size": 5632, "num_hidden_layers": 22, "num_attention_heads": 32},
}  # fmt: skip
_INTERVAL = 0.2


def make(folder: Path, size: str) -> None:
    """Write the model in bfloat16."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    torch.set_default_dtype(torch.bfloat16)
    config = LlamaConfig(**SIZES[size], num_key_value_heads=4, vocab_size=32000, max_position_embeddings=2048)
    LlamaForCausalLM(config).save_pretrained(folder)


def resident(process: int) -> int:
    """Bytes that a process and those that it started have in memory."""
    children: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(stat.read_text().rpartition(")")[2].split()[1])
        except OSError:  # it has just ended
            continue
        children.setdefault(parent, []).append(int(stat.parent.name))
    pages, waiting = 0, [process]
    while waiting:
        one = waiting.pop()
        waiting += children.get(one, [])
        try:
            pages += int(Path(f"/proc/{one}/statm").read_text().split()[1])
        except OSError:
            continue
    return pages * os.sysconf("SC_PAGE_SIZE")


def processor_seconds(process: int) -> float:
    """What a process has taken so far."""
    try:
        ticks = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(ticks[11]) + int(ticks[12])) / os.sysconf("SC_CLK_TCK")


def watched(command: list[str]) -> tuple[int, int]:
    """Run it: the most that it had in memory, and how it ended. Its lines are shown with seconds, its processor's
    in brackets, and memory until then."""
    start, most = time.monotonic(), 0
    with subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True) as run:
        stderr = run.stderr
        assert stderr is not None

        def read() -> None:
            for line in stderr:
                spent = processor_seconds(run.pid)
                told = f"{time.monotonic() - start:7.1f} s [{spent:.0f}]  {most / 1e9:5.2f} GB  {line.rstrip()}"
                print(told, flush=True)

        reader = threading.Thread(target=read)
        reader.start()
        while run.poll() is None:
            most = max(most, resident(run.pid))
            time.sleep(_INTERVAL)
        reader.join()
    return most, run.returncode


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=SIZES, default="100m")
    parser.add_argument("--folder", type=Path, default=ROOT / "generated" / "memory", help="where models are written")
    parser.add_argument("rest", nargs="*", default=["--params", "0.7"], help="how to prune, after --")
    given = parser.parse_args()
    model, output = given.folder / given.size, given.folder / f"{given.size}_pruned"
    if not (model / "config.json").exists():
        make(model, given.size)
    command = [sys.executable, str(ROOT / "app.py"), "prune", "--model", f"hf:{model}", "--force", "-o", str(output)]
    most, code = watched([*command, *given.rest])
    checkpoint = sum(f.stat().st_size for f in model.glob("*.safetensors"))
    told = {"checkpoint_gb": checkpoint / 1e9, "peak_gb": most / 1e9, "times": most / checkpoint, "exit": code}
    print(json.dumps({k: round(v, 2) for k, v in told.items()}))


if __name__ == "__main__":
    main()
