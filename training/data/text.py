"""Text for models of language: sequences of tokens, all of one length, in place of images."""

from __future__ import annotations

import glob
import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import torch
from torch import Tensor

from ...pruners.errors import DataError
from ...pruners.places import Site
from .sets import Data, coded
from .splits import TOKENS, Batch, Images, Split, TensorSplit

LENGTH = 128
_HELD_OUT = 10  # of so many sequences one, at most 1,000
_MOST_HELD_OUT = 1000
_TOGETHER = 16
_STRANGE = 0.01  # of the characters may be none


def load_text(spec: str, tokenizer: Callable[[str], list[int]], length: int = LENGTH) -> Data:
    """``text:FILES`` (names and patterns, with commas between them; plain text, or ``.jsonl`` with a ``text`` in each
    line) as sequences of ``length`` tokens. The last tenth is held out. Raises DataError in one line.

    ``tokenizer``: text -> a list of token numbers.
    """
    files = files_of(spec)
    tokens = [number for file in files for text in _texts(file) for number in tokenizer(text)]
    count = len(tokens) // length
    if count < 2 * _HELD_OUT:
        raise DataError(
            f"--data {spec}: {len(tokens):,} tokens are {count} sequences of {length}; {2 * _HELD_OUT} are the least"
        )
    sequences = torch.tensor(tokens[: count * length]).view(count, length)
    images = Images(torch.full((count,), -1), lambda: sequences)
    held = min(count // _HELD_OUT, _MOST_HELD_OUT)
    train, val = (
        TensorSplit(images, indices, TOKENS) for indices in torch.arange(count).split([count - held, held])
    )
    return Data("text", train, val, val, (length,), ())


def files_of(spec: str) -> list[Path]:
    """The files that ``text:FILES`` names. Raises DataError where there are none."""
    names = [name for name in spec.partition(":")[2].split(",") if name]
    found = [Path(p) for name in names for p in sorted(glob.glob(str(Path(name).expanduser()), recursive=True))]
    files = [p for p in dict.fromkeys(found) if p.is_file()]
    if not files:
        raise DataError(f"--data {spec}: there is no such file; write text:FILE.txt or text:'FOLDER/*.txt'")
    return files


def _texts(file: Path) -> Iterator[str]:
    try:
        text = file.read_text("utf-8", errors="replace")
    except OSError as error:
        raise DataError(f"{file} can't be read: {error.strerror}") from None
    if "\0" in text or text.count("\ufffd") > _STRANGE * len(text):
        raise DataError(f"{file} is no text in UTF-8: it holds bytes that are no characters")
    if file.suffix != ".jsonl":
        yield text
        return
    for number, line in enumerate(text.splitlines(), 1):
        try:
            value = json.loads(line) if line.strip() else {"text": ""}
            yield str(value["text"])
        except (ValueError, KeyError, TypeError):
            raise DataError('no JSON object with a "text"', site=Site(str(file), number)) from None


def foretelling(data: Data) -> Data:
    """Text as something to learn, (N, tokens) and (N * (tokens - 1),): the class of each token but the first is what it
    is. What is measured is read in small batches, as there is a row of scores for each token."""
    return coded(data, _foretold, data.normalization, _TOGETHER)


def _foretold(tokens: Tensor, _: Tensor) -> Batch:
    return tokens, tokens[:, 1:].flatten()


def batch_of(split: Split, images: int) -> int:
    """How many to look at together: so many images, or fewer sequences, whose scores are one row for each token."""
    return min(images, _TOGETHER) if split.normalization is TOKENS else images


def perplexity(answers: Iterable[tuple[Tensor | None, Tensor]]) -> float:
    """exp of the mean cross entropy of every token but the first, in nats. ``answers``: rows of scores, each for the
    token after the one it is of, and the tokens (sequences, length)."""
    total, count = 0.0, 0
    for rows, tokens in answers:
        assert rows is not None
        scores = rows.view(*tokens.shape, -1)
        losses = torch.nn.functional.cross_entropy(
            scores[:, :-1].flatten(0, 1).float(), tokens[:, 1:].flatten().to(scores.device), reduction="sum"
        )
        total, count = total + float(losses), count + tokens[:, 1:].numel()
    return float(torch.tensor(total / count).exp())
