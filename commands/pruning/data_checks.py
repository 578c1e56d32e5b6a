"""Whether the images of ``--data`` can give what is asked for, and what networks make of them."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from ...pruners.errors import ConflictError, NeedsDataError, OptionError
from ...pruners.hub import foretells
from ...pruners.metrics import METRICS, check_labels
from ...pruners.run import as_it_was, scores_of
from ...pruners.search import SEARCHES, UNJUDGED, SearchSettings
from ...pruners.transfer import TRANSFERS, require_images
from ...training.data import Split, batch_of, require_trainable
from ...training.fit import EVALUATION_BATCH, Score, fitting
from ..cli import PruneOptions
from ..network import Network

ON_TEXT = "on text nothing is retrained; retrain does so"
NO_LABELS = "no classes of the images are known: nothing is retrained, and no accuracy is measured"
ONLY_CALIBRATION = "the images are to calibrate with: nothing is retrained"
_SURE = 0.01
_ARE_THESE = "are these its weights (--weights), its data, its normalisation?"


def usual_transfer(search: str, per: str, with_data: bool) -> str:
    """Slices are what ``bayesian`` judges and retrains width by width; other searches leave what images can mend."""
    return "lstsq" if with_data and (search != "bayesian" or per == "stage") else "slice"


def check_transfer(name: str, with_data: bool, images: int | None = None) -> None:
    """Refuse an unknown strategy, one that needs images where there are none, and a number of images that can't be."""
    require_images(name, with_data)
    if images is not None and not TRANSFERS.find(name).images:
        raise ConflictError(f"--calibration {images}: --transfer {name} looks at no images; leave the option out")
    least = TRANSFERS.find(name).least
    if images is not None and images < least:
        needed = "must be 1 or more" if least == 1 else f"--transfer {name} needs {least} or more"
        raise OptionError(f"--calibration {images}: {needed}")


def check_data(options: PruneOptions, settings: SearchSettings, network: Network) -> None:
    """Refuse what there are too few images for, or what needs labels where there are none."""
    data = network.data
    if data is None:
        check_labels(settings.metric, None)
        if SEARCHES.fact(settings.strategy, "labels") and options.score is None:
            raise NeedsDataError(UNJUDGED.format(settings.strategy))
        if option := _retraining(options):
            raise NeedsDataError(f"{option} needs images with labels: give --data, or leave it out")
        return
    if options.calibration is not None and options.calibration > len(data.train):
        raise OptionError(
            f"--calibration {options.calibration}: {data.name} has {len(data.train)} training images; "
            "take no more than that, or leave the option out"
        )
    if data.labelled and (option := _retraining(options)):
        require_trainable(data, option)
    refused = None if data.labelled else _needing_labels(options, settings, network)
    if refused is not None:
        option, instead = refused
        what = "the texts" if data.is_text else "the images"
        raise NeedsDataError(f"{option} needs labels, and {what} of {network.facts['data']} have none: {instead}")


def _needing_labels(options: PruneOptions, settings: SearchSettings, network: Network) -> tuple[str, str] | None:
    """The first thing asked for that needs labels, and what to do instead."""
    next_tokens = network.data is not None and network.data.is_text and foretells(network.model)
    if METRICS.fact(settings.metric, "labels") and not next_tokens:
        return f"--metric {settings.metric}", "take --metric reconstruction or l1"
    if SEARCHES.fact(settings.strategy, "labels") and options.score is None:
        instead = "take --search sensitivity, and a budget such as --macs 0.5, or judge by --score"
        return f"--search {settings.strategy}", instead
    if option := _retraining(options):
        return option, "leave it out, and nothing is retrained (--transfer lstsq)"
    if network.arch and network.weights is None and not network.pretrained.exists():
        return f"training {network.name} first", "give its weights with --weights"
    return None


def _retraining(options: PruneOptions) -> str:
    """The first option that asks for retraining."""
    if options.final_epochs:
        return f"--final-epochs {options.final_epochs}"
    if options.score is not None and options.retrain_epochs:  # else for a search that needs labels itself
        return f"--retrain-epochs {options.retrain_epochs}"
    return "" if options.distill is None else "--distill (retraining)"


def doubt(score: Score, classes: Tensor) -> str:
    """What to say of a network that knows no more of images of these classes than which class is most frequent."""
    share = float(torch.bincount(classes).max()) / len(classes)
    if _chance(score.images, score.images, share) > _SURE:  # so few images that nothing could be told
        return ""
    right = round(score.top1 * score.images)
    if _chance(right, score.images, share) <= _SURE:
        return ""
    return (
        f"the network gets {score.top1:.1%} of {score.images} held-out images right, no better than always saying one "
        f"class: {_ARE_THESE}"
    )


def _chance(right: int, images: int, share: float) -> float:
    """How likely so many, or more, of the images are right where each is with the probability ``share``."""
    p, n = torch.tensor([min(share, 1 - 1e-12), images], dtype=torch.float64)
    k = torch.arange(right, images + 1, dtype=torch.float64)
    ways = torch.lgamma(n + 1) - torch.lgamma(k + 1) - torch.lgamma(n - k + 1)
    return float((ways + k * p.log() + (n - k) * torch.log1p(-p)).exp().sum())


def doubt_without_labels(answers: Tensor | None) -> str:
    """What to say of a network that takes all images for one class."""
    if answers is None or len(answers) < 2 or len(answers.unique()) > 1:
        return ""
    return f"the network takes all {len(answers)} images for one class: {_ARE_THESE}"


@torch.no_grad()
def answers(model: nn.Module, split: Split) -> Tensor | None:
    """Which class each image is taken for, or which token is to follow each; None where the outputs aren't scores."""
    found: list[Tensor] = []
    for scores, _ in scored(model, split):
        if scores is None or scores.shape[1] < 2:
            return None
        found.append(scores.argmax(1).cpu())
    return torch.cat(found)


@torch.no_grad()
def scored(model: nn.Module, split: Split) -> Iterator[tuple[Tensor | None, Tensor]]:
    """Rows of scores and inputs, batch by batch; of tokens one row for each."""
    with as_it_was(model):
        for inputs, _ in split.batches(batch_of(split, EVALUATION_BATCH)):
            yield scores_of(model.eval()(fitting(inputs, model)), inputs), inputs
