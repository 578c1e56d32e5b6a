"""What ``evaluate`` says and draws beside the accuracy."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
import torch
from app_helpers import app, refusal
from PIL import Image
from torch import Tensor, nn

from secateur.training.data import Data, load_data
from secateur.training.fit import confusion, confusion_csv, mistakes, prediction_grid

SMALL = ("evaluate", "--model", "own_small.py:small", "--data", "digits", "-q")


class Sum(nn.Module):
    """Takes an image for class 0, 1 or 2 by how bright it is."""

    def forward(self, x: Tensor) -> Tensor:
        brightness = x.flatten(1).mean(1, keepdim=True)
        return torch.cat([-brightness, brightness * 0, brightness, torch.full((len(x), 7), -9.0)], dim=1)


@pytest.fixture(scope="module")
def digits() -> Data:
    return load_data("digits")


def test_a_drawing_that_is_no_png_is_refused(here: Path) -> None:
    code, said = refusal("evaluate", "-d", "generated/x")
    assert code == 2
    assert said == "error: --draw writes a PNG, and generated/x is none: write -d FILE.png, or -d as the last word"


def test_a_table_that_can_not_be_written_is_refused(here: Path) -> None:
    (here / "file").write_text("")
    code, said = refusal(*SMALL, "--confusion-csv", "file/c.csv")
    assert code == 2
    assert said.startswith("error: file/c.csv can't be written: ")


def test_too_little_memory_is_told_with_what_to_lower(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def greedy(*_: object, **__: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr("secateur.commands.evaluate.evaluate", greedy)
    said = refusal(*SMALL, "--batch-size", "999")[1]
    assert said == "error: out of memory with 999 images at a time: take a smaller --batch-size"


def test_confusion_counts_every_image_once(digits: Data) -> None:
    counts = confusion(Sum(), digits.test, 10, batch_size=100)
    labels = torch.cat([labels for _, labels in digits.test.batches(100)])
    images = torch.cat([images for images, _ in digits.test.batches(100)])
    assert torch.equal(counts.sum(1), torch.bincount(labels))
    assert torch.equal(counts.sum(0), torch.bincount(Sum()(images).argmax(1), minlength=10))


def test_the_most_frequent_mistakes_come_first() -> None:
    counts = torch.tensor([[9, 1, 0], [3, 9, 1], [0, 0, 9]])
    assert mistakes(counts, "abc") == [("b", "a", 3), ("a", "b", 1), ("b", "c", 1)]
    assert mistakes(counts, "abc", most=1) == [("b", "a", 3)]


def test_a_table_has_a_row_for_every_true_class() -> None:
    text = confusion_csv(torch.tensor([[9, 1], [3, 8]]), ["cat", "dog, wet"])
    assert list(csv.reader(text.splitlines())) == [
        ["is / taken for", "cat", "dog, wet"], ["cat", "9", "1"], ["dog, wet", "3", "8"]
    ]  # fmt: skip


def test_a_drawing_shows_sixteen_images_right_in_green_and_wrong_in_red(digits: Data) -> None:
    one = prediction_grid(Sum(), digits.test, digits.classes, "a title " * 50)
    assert one.size == (488, 640)
    colours = [colour for _, colour in one.getcolors(1 << 20) or [] if isinstance(colour, tuple)]
    assert any(green > red + 50 for red, green, _ in colours)
    assert any(red > green + 50 for red, green, _ in colours)
    assert one.tobytes() == prediction_grid(Sum(), digits.test, digits.classes, "a title " * 50).tobytes()
    assert one.tobytes() != prediction_grid(Sum(), digits.test, digits.classes, "a title " * 50, seed=1).tobytes()


def test_evaluate_shows_writes_and_draws(here: Path) -> None:
    result = app(*SMALL, "--confusion", "--confusion-csv", "out/c.csv", "-d", "out/p.png")
    assert result.exit_code == 0, result.stderr
    assert "among the first five" in result.stdout
    assert "is / taken for" in result.stdout
    assert len((here / "out" / "c.csv").read_text().splitlines()) == 11
    with Image.open(here / "out" / "p.png") as picture:
        assert picture.format == "PNG"
    assert app(*SMALL, "-d").exit_code == 0
    assert (here / "predictions.png").exists()


def test_evaluate_gives_the_table_as_values(here: Path) -> None:
    values = json.loads(app(*SMALL, "--json", "--confusion").stdout)
    assert sum(map(sum, values["confusion"])) == values["images"] == 360
    assert sum(row[i] for i, row in enumerate(values["confusion"])) == round(values["top1"] * 360)
