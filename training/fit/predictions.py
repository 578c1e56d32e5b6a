"""What a network takes images for: counted class by class, and drawn."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence

import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor, nn

from ...pruners.run import same_mode
from ..data import Split
from .loop import EVALUATION_BATCH, fitting

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont

_TILE, _LINE, _GAP = 112, 16, 8
_RIGHT, _WRONG = (0, 110, 40), (190, 0, 0)


def confusion(model: nn.Module, split: Split, classes: int, *, batch_size: int = EVALUATION_BATCH) -> Tensor:
    """Counts (classes, classes): in row r and column c the images of class r that are taken for class c."""
    counts = torch.zeros(classes * classes, dtype=torch.int64)
    for images, labels in split.batches(batch_size):
        counts += torch.bincount(labels * classes + predict_classes(model, images), minlength=classes * classes)
    return counts.view(classes, classes)


@torch.no_grad()
def predict_classes(model: nn.Module, images: Tensor) -> Tensor:
    """The class with the highest score, for each image; the model's mode is left as it was."""
    with same_mode(model):
        return model.eval()(fitting(images, model)).argmax(1).cpu()


def mistakes(counts: Tensor, classes: Sequence[str], most: int = 10) -> list[tuple[str, str, int]]:
    """(true class, taken for, how often), the most frequent first; among equals in the order of the classes."""
    wrong = counts.clone().fill_diagonal_(0)
    pairs = [(int(n), *divmod(i, len(classes))) for i, n in enumerate(wrong.flatten().tolist()) if n]
    pairs.sort(key=lambda pair: (-pair[0], pair[1:]))
    return [(classes[r], classes[c], n) for n, r, c in pairs[:most]]


def confusion_csv(counts: Tensor, classes: Sequence[str]) -> str:
    """A row for every true class, a column for every class it is taken for."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["is / taken for", *classes])
    writer.writerows([name, *row] for name, row in zip(classes, counts.tolist(), strict=True))
    return text.getvalue()


def prediction_grid(model: nn.Module, split: Split, classes: Sequence[str], title: str, seed: int = 0) -> Image.Image:
    """Sixteen images of the split in four rows, under each what it is taken for and, if that is wrong, what it is."""
    images, labels = next(split.sample(16, seed).batches(16))
    taken = predict_classes(model, images)
    step, height = _TILE + _GAP, _TILE + 2 * _LINE + _GAP
    sheet = Image.new("RGB", (4 * step + _GAP, 4 * height + 2 * _LINE), "white")
    draw = ImageDraw.Draw(sheet)
    font, small = ImageFont.load_default(15), ImageFont.load_default(12)
    draw.text((_GAP, _LINE // 2), _shorten(draw, title, font, sheet.width - 2 * _GAP), "black", font)
    for place, (image, label, guess) in enumerate(zip(images, labels.tolist(), taken.tolist(), strict=True)):
        left, top = _GAP + place % 4 * step, 2 * _LINE + place // 4 * height
        sheet.paste(_picture(image), (left, top))
        colour = _RIGHT if guess == label else _WRONG
        draw.text((left, top + _TILE + 1), _shorten(draw, classes[guess], small, _TILE), colour, small)
        if guess != label:
            draw.text((left, top + _TILE + _LINE), _shorten(draw, f"is {classes[label]}", small, _TILE), "black", small)
    return sheet


def _picture(image: Tensor) -> Image.Image:
    """A normalised image (C, H, W), spread over all shades: what it was normalised with needs not be known."""
    low, high = image.min(), image.max()
    pixels = ((image - low) / (high - low).clamp(min=1e-6) * 255).round().to(torch.uint8)
    if len(pixels) not in (1, 3):
        pixels = pixels[:1]  # coded inputs have more channels than colours
    picture = Image.fromarray(pixels.expand(3, -1, -1).permute(1, 2, 0).contiguous().numpy())
    nearest = max(image.shape[1:]) < _TILE
    return picture.resize((_TILE, _TILE), Image.Resampling.NEAREST if nearest else Image.Resampling.BICUBIC)


def _shorten(draw: ImageDraw.ImageDraw, text: str, font: Font, width: int) -> str:
    """The text, cut so that it is not wider than ``width`` pixels."""
    if draw.textlength(text, font) <= width:
        return text
    while text and draw.textlength(f"{text}...", font) > width:
        text = text[:-1]
    return f"{text}..."
