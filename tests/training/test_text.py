"""Text as sequences of tokens."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch

from secateur.pruners.errors import DataError
from secateur.training.data import calibration_images, contents, load_text, perplexity


def letters(text: str) -> list[int]:
    return [ord(letter) % 100 for letter in text]


def test_files_that_are_not_there_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file"):
        load_text(f"text:{tmp_path}/*.txt", letters)


def test_too_few_tokens_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("a" * 100, "utf-8")
    with pytest.raises(DataError, match="100 tokens are 10 sequences of 10; 20 are the least"):
        load_text(f"text:{tmp_path}/a.txt", letters, 10)


@pytest.mark.parametrize("line", ["{", '"text"', '{"other": 1}'])
def test_a_line_without_text_is_refused_by_its_number(tmp_path: Path, line: str) -> None:
    (tmp_path / "a.jsonl").write_text(f'{{"text": "a"}}\n{line}\n', "utf-8")
    with pytest.raises(DataError, match=r"a\.jsonl:2"):
        load_text(f"text:{tmp_path}/a.jsonl", letters, 10)


@pytest.mark.parametrize("data", [b"\x1f\x8b\0\0" * 999, bytes(range(128, 256)) * 99], ids=["zipped", "latin"])
def test_bytes_that_are_no_text_are_refused(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "a.txt").write_bytes(data)
    with pytest.raises(DataError, match=r"a\.txt is no text in UTF-8"):
        load_text(f"text:{tmp_path}/a.txt", letters)


def test_the_last_tenth_is_held_out_and_nothing_is_lost_between(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("".join(chr(97 + i % 26) for i in range(305)), "utf-8")
    data = load_text(f"text:{tmp_path}/a.txt", letters, 10)
    train, held = (torch.cat([tokens for tokens, _ in split.batches(7)]) for split in (data.train, data.val))
    assert (len(train), len(held), data.input_shape, data.labelled) == (27, 3, (10,), False)
    assert torch.cat([train, held]).flatten().tolist() == letters((tmp_path / "a.txt").read_text("utf-8"))[:300]
    assert calibration_images(data, 5).dtype == torch.int64


def test_several_files_and_lines_of_json_are_read_in_order(tmp_path: Path) -> None:
    (tmp_path / "b.txt").write_text("b" * 150, "utf-8")
    (tmp_path / "a.jsonl").write_text("".join(json.dumps({"text": "a" * 10}) + "\n" for _ in range(10)), "utf-8")
    data = load_text(f"text:{tmp_path}/a.jsonl,{tmp_path}/*.txt", letters, 10)
    first = next(iter(data.train.batches(30)))[0]
    assert first[0].tolist() == letters("a" * 10) and first[-1].tolist() == letters("b" * 10)


def test_other_text_is_other_contents(tmp_path: Path) -> None:
    found = set()
    for name in ("one", "other"):
        (tmp_path / name).write_text(name * 100, "utf-8")
        found.add(contents(load_text(f"text:{tmp_path}/{name}", letters, 10)))
    assert len(found) == 2


def test_perplexity_is_that_of_every_token_but_the_first() -> None:
    tokens = torch.tensor([[0, 1, 2], [3, 0, 1]])
    scores = torch.randn(2, 3, 4)
    chances = scores.softmax(2)
    logs = [math.log(float(chances[i, t, tokens[i, t + 1]])) for i in range(2) for t in range(2)]
    found = perplexity([(scores[:1].flatten(0, 1), tokens[:1]), (scores[1:].flatten(0, 1), tokens[1:])])
    assert found == pytest.approx(math.exp(-sum(logs) / 4), rel=1e-5)
