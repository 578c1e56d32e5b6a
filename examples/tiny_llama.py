"""A folder of Hugging Face's library with a small Llama, and some text for it.

python tiny_llama.py    trains for some seconds on Python's own library; writes llama/ and text.txt
Needs pip install transformers.
"""

import sysconfig
from pathlib import Path

import torch
import transformers
from tokenizers import ByteLevelBPETokenizer

LENGTH = 64


def main(steps: int = 60) -> None:
    torch.manual_seed(0)
    sources = sorted(Path(sysconfig.get_path("stdlib")).glob("t*.py"))
    text = "\n".join(source.read_text("utf-8") for source in sources)
    Path("text.txt").write_text(text, "utf-8")
    words = ByteLevelBPETokenizer()
    words.train_from_iterator([text], vocab_size=512, show_progress=False)
    words.save("tokenizer.json")
    transformers.PreTrainedTokenizerFast(tokenizer_file="tokenizer.json").save_pretrained("llama")
    config = transformers.LlamaConfig(
        vocab_size=512, hidden_size=64, intermediate_size=192, num_hidden_layers=3, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=256, bos_token_id=None, eos_token_id=None,
    )  # fmt: skip
    model = transformers.LlamaForCausalLM(config)
    tokens = torch.tensor(words.encode(text).ids)
    optimizer = torch.optim.AdamW(model.parameters(), 5e-3)
    for _ in range(steps):
        places = torch.randint(len(tokens) - LENGTH, (16, 1)) + torch.arange(LENGTH)
        optimizer.zero_grad()
        loss = model(input_ids=tokens[places], labels=tokens[places]).loss
        loss.backward()
        optimizer.step()
    model.save_pretrained("llama")
    print(f"loss {loss.item():.2f}; the model is in llama/, the text in text.txt")


if __name__ == "__main__":
    main()
