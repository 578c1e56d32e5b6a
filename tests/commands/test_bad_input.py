"""Images and options that can't give what is asked for: refused in one line, or said, before anything takes long."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from app_helpers import MODEL, NETWORK, app, refusal
from PIL import Image
from torch import Tensor, nn

from secateur import prune, trace
from secateur.commands.pruning import data_checks as judging
from secateur.commands.pruning import job
from secateur.commands.pruning.data_checks import answers, doubt, doubt_without_labels
from secateur.pruners import pipeline
from secateur.pruners.bundle import Bundle
from secateur.pruners.errors import DataError, UsageError
from secateur.pruners.least_squares import reconstruct
from secateur.pruners.metrics import rank
from secateur.pruners.search.damage import Reference
from secateur.training.data import Data, load_data, require_labels
from secateur.training.data.splits import FileSplit
from secateur.training.fit import Score, evaluate, save_weights

OWN = ("--model", "own_rgb.py:small")
FLAT = (*OWN, "--weights", "own.pt", "--data", "folder:flat")
NONE_HAVE = "needs labels, and the images of folder:flat have none"
INSTEAD = "take --search sensitivity, and a budget such as --macs 0.5, or judge by --score"
ARE_THESE = "are these its weights (--weights), its data, its normalisation?"


def noise(path: Path, seed: int, size: tuple[int, int] = (8, 8)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = torch.randint(256, (size[1], size[0], 3), generator=torch.Generator().manual_seed(seed))
    Image.fromarray(pixels.to(torch.uint8).numpy()).save(path)


def flat_folder(root: Path, images: int = 60, size: tuple[int, int] = (8, 8)) -> Path:
    for i in range(images):
        noise(root / f"{i:02}.png", i, size)
    return root


def class_folders(root: Path, classes: tuple[str, ...] = ("ant", "bee"), images: int = 20) -> Path:
    for part in ("train", "test"):
        for c, name in enumerate(classes):
            for i in range(images):
                noise(root / part / name / f"{i}.png", 100 * c + i)
    return root


@pytest.fixture
def own(here: Path) -> Path:
    """A network for colour images with weights, and images without labels."""
    (here / "own_rgb.py").write_text(NETWORK.replace("Conv2d(1, width", "Conv2d(3, width"))
    torch.manual_seed(3)
    scope: dict[str, Any] = {"__name__": "own_rgb"}
    exec((here / "own_rgb.py").read_text().replace("from __future__ import annotations", ""), scope)
    save_weights(scope["small"](), here / "own.pt")
    flat_folder(here / "flat")
    return here


# -- images without labels


@pytest.mark.parametrize(
    ("words", "message"),
    [
        pytest.param(
            (*FLAT, "--macs", "0.5", "--metric", "taylor"),
            f"error: --metric taylor {NONE_HAVE}: take --metric reconstruction or l1",
            id="a metric",
        ),
        pytest.param(
            (*FLAT, "--macs", "0.5", "--search", "bayesian"),
            f"error: --search bayesian {NONE_HAVE}: {INSTEAD}",
            id="a search",
        ),
        pytest.param(
            FLAT,
            f"error: --search bayesian {NONE_HAVE}: {INSTEAD}",
            id="the search without a budget",
        ),
        pytest.param(
            (*FLAT, "--macs", "0.5", "--final-epochs", "2"),
            f"error: --final-epochs 2 {NONE_HAVE}: leave it out, and nothing is retrained (--transfer lstsq)",
            id="retraining",
        ),
        pytest.param(
            (*FLAT, "--macs", "0.5", "--distill"),
            f"error: --distill (retraining) {NONE_HAVE}: leave it out, and nothing is retrained (--transfer lstsq)",
            id="a teacher",
        ),
        pytest.param(
            ("--arch", "lenet5", "--data", "folder:flat", "--macs", "0.5"),
            f"error: training lenet5 first {NONE_HAVE}: give its weights with --weights",
            id="a bundled network that would be trained first",
        ),
        pytest.param(
            (*FLAT, "--macs", "0.5", "--transfer", "lstsq", "--calibration", "55"),
            "error: --calibration 55: folder has 54 training images; take no more than that, or leave the option out",
            id="more calibration images than there are",
        ),
    ],
)
def test_what_needs_labels_or_more_images_is_refused_at_once(
    own: Path, words: tuple[str, ...], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job.PruneJob, "decide", lambda self: pytest.fail("the search began"))
    assert refusal("prune", "-q", *words) == (2, message)
    assert {p.name for p in own.iterdir()} == {"own_small.py", "own_rgb.py", "own.pt", "flat"}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--metric", "taylor"), "error: metric taylor needs labelled data; give --data or take l1"),
        (
            ("--search", "bayesian"),
            "error: --search bayesian evaluates candidates; give --data or --score, or take --search uniform or global",
        ),
    ],
)
def test_what_needs_labels_is_refused_without_data_before_latency_is_measured(
    here: Path, words: tuple[str, ...], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job.PruneJob, "decide", lambda self: pytest.fail("measuring began"))
    assert refusal("prune", "-q", *MODEL, "--latency", "0.9", *words) == (2, message)


@pytest.mark.parametrize(
    ("command", "what"),
    [("train", "training"), ("evaluate", "measuring"), ("curves", "measuring curves"), ("quantize", "quantizing")],
)
def test_commands_that_need_labels_are_refused(own: Path, command: str, what: str) -> None:
    expected = (
        f"error: {what} needs labels, and the images of folder have none: sort them into train/<class>/ and "
        "test/<class>/"
    )
    assert refusal(command, "-q", *OWN, "--data", "folder:flat") == (2, expected)


def test_retraining_a_bundle_without_labels_is_refused(own: Path) -> None:
    assert app("prune", "-q", *FLAT, "--ratio", "0.5", "-o", "out").exit_code == 0
    code, message = refusal("retrain", "-q", "out")
    assert (code, message.startswith("error: retraining needs labels, and the images of folder have none")) == (2, True)


def test_images_without_labels_are_enough_for_the_fast_search_and_least_squares(own: Path) -> None:
    result = app("prune", *FLAT, "--macs", "0.5", "--transfer", "lstsq", "-o", "out")
    assert result.exit_code == 0, result.stderr
    bundle = Bundle.open("out")
    assert result.stderr.count(judging.NO_LABELS) == 1
    assert "accuracy" not in result.stdout
    assert "taken for the same class as before" in result.stdout
    assert bundle.plan.provenance["search"] == "sensitivity"
    assert bundle.plan.provenance["final_epochs"] == 0
    assert bundle.summary["accuracy"] == {"before": None, "pruned": None, "retrained": None}
    assert bundle.summary["agreement"]["images"] == 6
    assert bundle.summary["transfer"]["images"] == 54
    assert judging.NO_LABELS in bundle.summary["notes"]


@pytest.mark.parametrize("words", [("--search", "global", "--transfer", "bn"), ("--metric", "reconstruction")])
def test_what_needs_no_labels_does_without(own: Path, words: tuple[str, ...]) -> None:
    result = app("prune", "-q", *FLAT, "--macs", "0.6", *words, "-o", "out")
    assert result.exit_code == 0, result.stderr


def test_outputs_that_are_no_classes_are_not_compared_class_by_class(own: Path) -> None:
    text = (own / "own_rgb.py").read_text().replace("return self.fc(x)", "return self.fc(x)[:, :, None]")
    (own / "own_rgb.py").write_text(text)
    result = app("prune", "-q", *FLAT, "--macs", "0.6", "-o", "out")
    assert result.exit_code == 0, result.stderr
    assert "agreement" not in Bundle.open("out").summary


def test_a_flat_folder_has_no_classes_and_holds_a_tenth_out(tmp_path: Path) -> None:
    data = load_data(f"folder:{flat_folder(tmp_path, 40)}")
    assert not data.labelled
    assert (len(data.train), len(data.val), data.test is data.val) == (36, 4, True)
    assert data.input_shape == (3, 8, 8)
    assert set(data.train.classes.tolist()) == {-1}
    seen = torch.cat([images for split in (data.train, data.val) for images, _ in split.batches(64)])
    assert len({tuple(image.flatten().tolist()) for image in seen}) == 40


def test_large_images_without_labels_are_read_when_needed_and_damaged_ones_left_out(tmp_path: Path) -> None:
    (flat_folder(tmp_path, 12, (120, 100)) / "05.png").write_bytes(b"no image")
    data = load_data(f"folder:{tmp_path}")
    assert isinstance(data.train, FileSplit)
    assert data.input_shape == (3, 224, 224)
    images = [len(images) for split in (data.train, data.val) for images, _ in split.batches(64)]
    assert sum(images) == 11


def test_labels_that_are_not_known_reach_no_loss(tmp_path: Path) -> None:
    data = load_data(f"folder:{flat_folder(tmp_path, 20)}")
    with pytest.raises(DataError) as caught:
        evaluate(nn.Sequential(nn.Flatten(), nn.Linear(192, 3)), data.test)
    assert str(caught.value) == "images without labels can't be measured on: their classes aren't known"
    with pytest.raises(DataError, match="training needs labels, and the images of folder have none"):
        require_labels(data, "training")


# -- folders


def unreadable(folder: Path) -> str:
    """What is said of a folder that can't be used."""
    with pytest.raises(DataError) as caught:
        load_data(f"folder:{folder}")
    return str(caught.value)


def test_an_empty_folder_says_what_it_should_hold(tmp_path: Path) -> None:
    assert unreadable(tmp_path) == (
        f"folder: {tmp_path} holds neither train/<class>/ and test/<class>/ nor images (without labels): add images, "
        "or give another folder"
    )


def test_a_single_image_is_refused(tmp_path: Path) -> None:
    expected = f"folder: {tmp_path} holds one image alone: add images, or give another folder"
    assert unreadable(flat_folder(tmp_path, 1)) == expected


def test_a_single_class_is_refused(tmp_path: Path) -> None:
    assert unreadable(class_folders(tmp_path, ("ant",))) == (
        f"folder: {tmp_path}/train holds one class only, ant: add another, or write --data folder:{tmp_path}/train/ant "
        "to use its images without labels"
    )


def test_loose_images_in_train_may_go_without_labels(tmp_path: Path) -> None:
    flat_folder(tmp_path / "train", 3)
    assert unreadable(tmp_path) == (
        f"folder: {tmp_path}/train can't be used: it has no class folders; it must hold a folder of images per class, "
        f"or write --data folder:{tmp_path}/train to use its images without labels"
    )


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        pytest.param(
            lambda flat: (flat / "07.png").write_bytes(b"none"),
            "error: folder: flat/07.png can't be read as an image: cannot identify image file",
            id="a file that is no image",
        ),
        pytest.param(
            lambda flat: noise(flat / "07.png", 0, (9, 8)),
            "error: folder: images must have one size, but flat/00.png and flat/07.png have 8x8 and 9x8: resize them",
            id="an image of another size",
        ),
    ],
)
def test_damaged_images_are_named_before_the_search(
    own: Path, damage: Callable[[Path], Any], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    damage(own / "flat")
    monkeypatch.setattr(pipeline, "search", lambda *_, **__: pytest.fail("the search began"))
    code, said = refusal("prune", "-q", *FLAT, "--macs", "0.5")
    assert (code, said[: len(message)], said.count("\n")) == (2, message, 0)


def test_left_out_images_are_told_and_noted(own: Path) -> None:
    (flat_folder(own / "large", 12, (120, 100)) / "05.png").write_bytes(b"no image")
    words = (*FLAT[:-1], "folder:large", "--ratio", "0.5", "--transfer", "bn", "--workers", "0")
    result = app("prune", *words, "-o", "out")
    assert result.exit_code == 0, result.stderr
    told = "skipped, as they can't be read as images: large/05.png (1 in all)"
    assert told in result.stderr
    assert told in Bundle.open("out").summary["notes"]


def test_a_network_for_other_images_is_refused(own: Path) -> None:
    (own / "own_grey.py").write_text(NETWORK)
    words = ("--model", "own_grey.py:small", "--data", "folder:flat", "--macs", "0.5")
    code, message = refusal("prune", "-q", *words)
    assert code == 2
    assert message.startswith("error: small can't be run on images of folder (3,8,8): Given groups=1, weight of size")


def test_weights_for_other_images_say_what_the_network_was_made_for(own: Path) -> None:
    from secateur.models.registry import create

    save_weights(create("lenet5", in_channels=1, image_size=8), own / "grey.pt")
    words = ("--arch", "lenet5", "--weights", "grey.pt", "--data", "folder:flat", "--macs", "0.5")
    assert refusal("prune", "-q", *words) == (
        2,
        "error: grey.pt doesn't fit this network: conv1.weight is 20x1x5x5 there and 20x3x5x5 in the network, which "
        "was made for images of folder (3,8,8); add --model-arg num_classes=N for other classes",
    )


# -- a network that doesn't know the images


def counts(*numbers: int) -> Tensor:
    return torch.repeat_interleave(torch.arange(len(numbers)), torch.tensor(numbers))


@pytest.mark.parametrize(
    ("right", "classes", "doubted"),
    [
        pytest.param(37, counts(*[36] * 10), True, id="a tenth of ten classes"),
        pytest.param(60, counts(*[36] * 10), False, id="a sixth of ten classes"),
        pytest.param(90, counts(90, 10), True, id="always the most frequent class"),
        pytest.param(98, counts(90, 10), False, id="better than the most frequent class"),
        pytest.param(4, counts(2, 2), False, id="too few images to tell"),
    ],
)
def test_a_network_at_chance_is_doubted(right: int, classes: Tensor, doubted: bool) -> None:
    score = Score(1.0, right / len(classes), 1.0, len(classes))
    expected = (
        f"the network gets {right / len(classes):.1%} of {len(classes)} held-out images right, no better than always "
        f"saying one class: {ARE_THESE}"
    )
    assert doubt(score, classes) == (expected if doubted else "")


@pytest.mark.parametrize(("right", "images", "share"), [(0, 50, 0.1), (9, 50, 0.1), (50, 50, 0.5), (700, 10_000, 0.07)])
def test_the_chance_is_that_of_the_binomial_distribution(right: int, images: int, share: float) -> None:
    from scipy.stats import binom

    assert judging._chance(right, images, share) == pytest.approx(binom.sf(right - 1, images, share), rel=1e-6)


def test_a_network_that_says_one_class_only_is_doubted() -> None:
    assert doubt_without_labels(torch.tensor([2, 2, 2])) == f"the network takes all 3 images for one class: {ARE_THESE}"
    assert not doubt_without_labels(torch.tensor([2, 1, 2]))
    assert not doubt_without_labels(None)


def test_a_network_at_chance_is_told_once_before_the_search(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class_folders(own / "sorted")
    measured: list[int] = []
    monkeypatch.setattr(job, "evaluate", lambda *a, **k: measured.append(1) or evaluate(*a, **k))
    words = ("--data", "folder:sorted", "--model-arg", "num_classes=2", "--final-epochs", "0", "--macs", "0.6")
    untrained = app("prune", *OWN, *words, "-o", "one")
    assert untrained.exit_code == 0, untrained.stderr
    assert len(measured) == 2  # before and after: no more than without the doubt
    [note] = Bundle.open("one").summary["notes"]
    assert note.endswith(f"of 40 held-out images right, no better than always saying one class: {ARE_THESE}")
    assert note not in untrained.stderr  # that nobody trained it was said
    assert "no --weights: small is taken as its factory returns it" in untrained.stderr
    state = torch.load(own / "own.pt")
    torch.save({k: v[:2] if k.startswith("fc") else v for k, v in state.items()}, own / "two.pt")
    given = app("prune", *OWN, *words, "--weights", "two.pt", "--metric", "l1", "-o", "two")
    [note] = Bundle.open("two").summary["notes"]
    assert given.stderr.count(note) == 1
    assert given.stderr.index(note) < given.stderr.index("conv1: 6 ->")
    assert json.loads((own / "two" / "summary.json").read_text())["accuracy"]["before"] is not None


def test_one_class_for_all_images_without_labels_is_told(own: Path) -> None:
    state = torch.load(own / "own.pt")
    state["fc.bias"][4] += 1000.0
    torch.save(state, "stuck.pt")
    result = app("prune", *OWN, "--weights", "stuck.pt", "--data", "folder:flat", "--macs", "0.5", "-o", "out")
    told = f"the network takes all 54 images for one class: {ARE_THESE}"
    assert result.stderr.count(told) == 1
    assert told in Bundle.open("out").summary["notes"]


def test_answers_leave_the_mode_of_a_network_as_it_was(tmp_path: Path) -> None:
    split = load_data(f"folder:{flat_folder(tmp_path, 20)}").train
    network = nn.Sequential(nn.Flatten(), nn.Linear(192, 3)).train()
    found = answers(network, split)
    assert found is not None
    assert found.shape == (18,)
    assert network.training
    assert answers(nn.Flatten(0), split) is None


# -- from Python


class Small(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 6, 3)
        self.conv2 = nn.Conv2d(6, 4, 3)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        x = self.conv1(x).relu()
        return self.conv2(x if mask is None else x * mask).mean((2, 3))


X = torch.zeros(1, 1, 8, 8)
MASK = torch.ones(1, 1, 6, 6)
LABELS = torch.tensor([0, 1, 2, 3])
IMAGES = torch.rand(4, 1, 8, 8, generator=torch.Generator().manual_seed(0))
ALONE = (
    "the model would be called with a batch's images alone, but example_input calls it with ({}): leave batches out, "
    "with transfer slice, search uniform or global, and a metric of weights such as l1"
)


@pytest.mark.parametrize(
    ("example", "arguments", "message"),
    [
        pytest.param(
            X, {"metric": "taylor", "batches": [IMAGES]},
            "metric taylor needs labels, and these batches are images alone: give (images, labels) pairs, or take a "
            "metric that needs none, such as reconstruction or l1",
            id="taylor on images alone",
        ),
        pytest.param(
            X, {"metric": "taylor", "batches": [(IMAGES, LABELS - 1)]},
            "metric taylor needs labels, and -1 is none: number the classes from 0 on",
            id="taylor on unknown labels",
        ),
        pytest.param(
            X, {"metric": "taylor"}, "metric taylor needs labelled data; give batches= or take l1",
            id="taylor on nothing"
        ),
        pytest.param(
            (X, MASK), {"transfer": "lstsq", "batches": [(IMAGES, MASK)]}, ALONE.format("Tensor, Tensor"),
            id="two inputs",
        ),
        pytest.param((X, MASK), {"transfer": "bn", "batches": [IMAGES]}, ALONE.format("Tensor, Tensor"), id="bn"),
        pytest.param(
            {"x": X, "mask": MASK}, {"search": "sensitivity", "batches": [IMAGES]}, ALONE.format("x=..., mask=..."),
            id="two keywords",
        ),
        pytest.param(
            {"mask": MASK}, {"search": "sensitivity", "batches": [IMAGES]}, ALONE.format("mask=..."),
            id="a keyword that isn't first",
        ),
        pytest.param(
            X, {"transfer": "lstsq"}, 'transfer="lstsq" looks at images: add batches=, or use transfer="slice"',
            id="lstsq on nothing",
        ),
        pytest.param(
            X, {"transfer": "lstsq", "batches": []}, "batches are empty: give some, or leave them out", id="no batches"
        ),
        pytest.param(
            X, {"transfer": "lstsq", "batches": [{"x": IMAGES}]},
            "a batch must be a tensor of images, or a tuple that begins with one, not dict",
            id="a dictionary for a batch",
        ),
        pytest.param(
            X, {"transfer": "lstsq", "batches": [((IMAGES, MASK), LABELS)]},
            "a batch must be a tensor of images, or a tuple that begins with one, not tuple of tuple",
            id="a pair for images",
        ),
    ],
)  # fmt: skip
def test_batches_that_do_not_suit_are_refused_before_the_network_is_traced(
    example: Any, arguments: dict[str, Any], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("secateur.pruners.api.BasicPruning", lambda *_, **__: pytest.fail("tracing began"))
    with pytest.raises(UsageError) as caught:
        prune(Small(), example, ratio=0.5, output=tmp_path / "out", **arguments)
    assert str(caught.value) == message


def test_batches_of_another_shape_are_refused_with_the_reason(tmp_path: Path) -> None:
    model = Small().train()
    with pytest.raises(UsageError, match=r"the batches' images \(3,8,8\): RuntimeError: Given groups=1"):
        prune(model, X, ratio=0.5, output=tmp_path, force=True, transfer="bn", batches=[IMAGES.expand(4, 3, 8, 8)])
    assert model.training


def test_taylor_by_itself_and_what_runs_images_refuse_other_batches() -> None:
    model = Small()
    graph = trace(model, X)
    with pytest.raises(UsageError, match="metric taylor needs labels, and these batches are images alone"):
        rank(model, graph, "taylor", [IMAGES])
    for run in (
        lambda: Reference(model, [((IMAGES, MASK), LABELS)]),
        lambda: reconstruct(model, model, graph, {}, [[[IMAGES], LABELS]]),
    ):
        with pytest.raises(UsageError, match="a batch must be a tensor of images, or a tuple that begins with one"):
            run()


def test_labelled_pairs_are_still_taken() -> None:
    model = Small()
    graph = trace(model, X)
    found = rank(model, graph, "taylor", [(IMAGES, LABELS), [IMAGES, LABELS]])
    assert all(len(scores) for scores in found.scores.values())


def test_a_labelled_data_set_says_so() -> None:
    data: Data = load_data("digits")
    assert data.labelled
    assert torch.bincount(data.test.classes).sum() == 360
