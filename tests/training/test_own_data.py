"""``--data FILE.py:FUNCTION``: loaders of the user's own, for any targets."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from app_helpers import app, refusal

from secateur.pruners.bundle import Bundle
from secateur.pruners.errors import DataError, UsageError
from secateur.training.data import contents, load_data, own

LOADERS = '''
import itertools
import random
from collections import namedtuple
from types import SimpleNamespace

import numpy as np
import torch
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

Parts = namedtuple("Parts", "train val test")


def images(count=40, size=8, seed=0):
    return torch.randn(count, 1, size, size, generator=torch.Generator().manual_seed(seed))


def classes(count=40):
    return torch.arange(count) % 10


def loader(count=40, seed=0, shuffle=False, targets=classes):
    return DataLoader(TensorDataset(images(count, seed=seed), targets(count)), batch_size=16, shuffle=shuffle)


def three(targets=classes, shuffle=False):
    return {"train": loader(40, 0, shuffle, targets), "val": loader(20, 1, False, targets),
            "test": loader(20, 2, False, targets)}


def shuffled():
    print("reading")
    return three(shuffle=True)


def drawn():
    return [torch.randn(4, 1, 8, 8) * random.random() * np.random.rand() for _ in range(3)]


def a_tuple():
    return tuple(three().values())


def named():
    return Parts(**three())


def a_namespace():
    return SimpleNamespace(**three())


def calibration_and_more():
    return {"calibration": list(images().split(8)), "validation": loader(20, 1), "test": None}


def tensors():
    return list(images().split(8))


def one_tensor():
    return images()


def generator():
    return ({"pixel_values": x, "id": torch.arange(len(x))} for x in images().split(8))


def named_labels():
    parts = {n: [{"image": x, "label": y} for x, y in part] for n, part in three().items()}
    return parts


def masks():
    return three(lambda n: torch.zeros(n, 8, 8, dtype=torch.long))


def boxes():
    parts = three()
    return {n: [(x, [{"boxes": torch.zeros(2, 4)}] * len(x)) for x, _ in part] for n, part in parts.items()}


def endless():
    return ((images(64, seed=i), classes(64)) for i in itertools.count())


class Stream(IterableDataset):
    def __iter__(self):
        return itertools.repeat((torch.ones(1, 8, 8), 3))


def stream():
    return DataLoader(Stream(), batch_size=50)


# -- what can't be used


def nothing():
    return None


def a_number():
    return 3


def a_word():
    return "digits"


def empty():
    return []


def empty_part():
    return {**three(), "val": []}


def twice_gone_through():
    batches = iter(loader())
    return {"train": batches, "val": batches, "test": loader()}


def other_names():
    return {"training": loader()}


def no_train():
    return {"val": loader()}


def both():
    return {"train": loader(), "calibration": loader()}


def a_pair():
    return loader(), loader()


def a_dataset():
    return {"train": TensorDataset(images(), classes()), "val": loader(), "test": loader()}


def examples():
    return list(TensorDataset(images(), classes()))


def one_batch():
    return images(), classes()


def lists():
    return [([torch.zeros(1, 8, 8), torch.zeros(1, 9, 9)], None)]


def several_sizes():
    return [images(4, 8), images(4, 9)]


def other_sizes():
    return {**three(), "test": [images(4, 9)]}


def other_numbers():
    return {**three(), "test": [images(4).long()]}


def no_numbers():
    return [images() / 0.0]


def ignored():
    return three(lambda n: torch.arange(n) - 1)


def one_input():
    return [images(1)]


def needs(folder):
    return tensors()


def raises():
    raise OSError("no such disk")


def raises_later():
    yield images(4)
    raise OSError("the disk is gone")


def many_classes():
    return three(lambda n: torch.arange(n) % 12)


def large():
    return [images(4, 2)]


def tokens():
    return [torch.randint(0, 9, (4, 12)) for _ in range(4)]
'''


@pytest.fixture
def there(here: Path) -> Path:
    (here / "own_loaders.py").write_text(LOADERS)
    return here


def spec(name: str) -> str:
    return f"own_loaders.py:{name}"


# -- refused

WANTED = "return an iterable of batches to calibrate with, or a dict of them: train (or calibration), val and test"
BATCHES = "give batches, with the examples along the first axis"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nothing", f"--data {{}}: calibration is nothing: {WANTED}"),
        ("a_number", f"--data {{}}: calibration is a int: {WANTED}"),
        ("a_word", f"--data {{}}: calibration is a str: {WANTED}"),
        ("empty", "--data {}: calibration is empty; one that was gone through already, such as a generator, is, too"),
        ("empty_part", "--data {}: val is empty; one that was gone through already, such as a generator, is, too"),
        ("twice_gone_through", "--data {}: val is empty; one that was gone through already, such as a generator, is, "
         "too"),
        ("other_names", f"--data {{}} returned a dict with 'training': {WANTED}"),
        ("no_train", f"--data {{}} returned a dict of val: {WANTED}"),
        ("both", f"--data {{}} returned a dict of train, calibration: {WANTED}"),
        ("a_pair", f"--data {{}} returned 2 things in a tuple: {WANTED}"),
        ("a_dataset", "--data {}: train is a Dataset of single examples: return DataLoader(dataset, batch_size=64)"),
        ("examples", f"--data {{}}: calibration has inputs of shape (1, 8, 8) in batch 1: {BATCHES}"),
        ("one_batch", f"--data {{}}: calibration has inputs of shape (40,) in batch 2: {BATCHES}"),
        ("lists", "--data {}: calibration has no tensor first in batch 1, a tuple of list: collate inputs of one size"),
        ("several_sizes", "--data {}: calibration has inputs of several shapes, (1, 8, 8) and, in batch 2, (1, 9, 9): "
         "give one size"),
        ("other_sizes", "--data {}: inputs of train are (1, 8, 8) float32, those of test (1, 9, 9) float32: give the "
         "same"),
        ("other_numbers", "--data {}: inputs of train are (1, 8, 8) float32, those of test (1, 8, 8) int64: give the "
         "same"),
        ("no_numbers", "--data {}: calibration holds inputs that are not finite"),
        ("ignored", "--data {}: train holds the label -1: number the classes from 0 on"),
        ("one_input", "--data {} gives 1 input in all: give more"),
        ("needs", "needs in own_loaders.py needs folder: --data calls it without arguments, so give them defaults"),
        ("raises", "raises() in own_loaders.py failed: OSError: no such disk (own_loaders.py:184)"),
        ("raises_later", "--data {}: calibration can't be read: OSError: the disk is gone (own_loaders.py:189)"),
        ("gone", "own_loaders.py has no gone; it has images, classes, loader, three, shuffled, drawn and 38 more"),
    ],
)
def test_what_a_function_may_not_return(there: Path, name: str, message: str) -> None:
    with pytest.raises(UsageError) as refused:
        load_data(spec(name))
    assert str(refused.value) == message.format(spec(name))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--data", "own_loaders.py"), "--data own_loaders.py: say which function, --data own_loaders.py:FUNCTION"),
        (("--data", spec("thre")), "--data own_loaders.py:thre: own_loaders.py has no thre; did you mean three?"),
        (("--data", "gone.py:three"), "there is no model file gone.py"),
        (("--data", spec("large")), "small can't be run on images of own_loaders.py:large (1,2,2): Calculated padded "),
        (("--data", spec("tokens")), "the inputs of own_loaders.py:tokens are whole numbers: add --example "),
        (("--data", spec("many_classes")), "--data own_loaders.py:many_classes has the label 11, and the network 10 "),
        (("--data", spec("three"), "--input-shape", "1,9,9"), "--input-shape 1,9,9: the images of own_loaders"),
        (("--data", spec("masks"), "--final-epochs", "2"), "--final-epochs 2 needs labels, and the images of "),
        (("--data", spec("masks"), "--search", "bayesian"), "--search bayesian needs labels, and the images of "),
        (("--data", spec("tensors"), "--metric", "taylor"), "--metric taylor needs labels, and the images of "),
        (("--data", spec("endless"), "--final-epochs", "2"), "--final-epochs 2 needs images to train on, and "
         "own_loaders.py:endless gives none: return them as 'train'"),
    ],
)  # fmt: skip
def test_refused_before_the_work(there: Path, words: tuple[str, ...], message: str) -> None:
    code, said = refusal("prune", "-q", "--model", "own_small.py:small", "--macs", "0.6", *words, "-o", "out")
    assert code == 2 and said.startswith(f"error: {message}")
    assert not (there / ".out.work").exists()


@pytest.mark.parametrize("command", ["retrain", "evaluate", "quantize"])
def test_a_function_that_only_a_plan_names_is_not_run(there: Path, command: str) -> None:
    words = ("prune", "-q", "--model", "own_small.py:small", "--data", spec("three"), "--ratio", "0.5")
    assert app(*words, "--final-epochs", "0", "-o", "out").exit_code == 0
    (there / "own_loaders.py").write_text("raise SystemExit('was run')")
    code, said = refusal(command, "out")
    assert (code, said) == (
        2, "error: out was made with what own_loaders.py:three returns: add --data own_loaders.py:three"
    )


def test_nothing_is_trained_on_images_to_calibrate_with(there: Path) -> None:
    code, said = refusal("train", "-q", "--model", "own_small.py:small", "--data", spec("endless"), "-o", "w.pt")
    assert (code, said.splitlines()[-1]) == (
        2,
        "error: training small needs images to train on, and own_loaders.py:endless gives none: return them as 'train'",
    )


# -- what is taken


@pytest.mark.parametrize("name", ["three", "a_tuple", "named", "a_namespace", "named_labels", "shuffled"])
def test_three_parts_with_classes(there: Path, name: str) -> None:
    data = load_data(spec(name))
    assert [len(split) for split in (data.train, data.val, data.test)] == [40, 20, 20]
    assert (data.input_shape, data.labelled, data.num_classes) == ((1, 8, 8), True, 10)
    assert not data.only_calibration and not data.told and not data.is_text
    images, labels = next(data.val.batches(64))
    wanted = torch.randn(20, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    assert torch.equal(images, wanted) and torch.equal(labels, torch.arange(20) % 10)


@pytest.mark.parametrize(
    ("name", "count", "labelled"),
    [("tensors", 40, False), ("one_tensor", 40, False), ("generator", 40, False), ("drawn", 12, False),
     ("stream", own.ENDLESS, True), ("endless", own.ENDLESS, True)],
)  # fmt: skip
def test_one_iterable_is_to_calibrate_with(there: Path, name: str, count: int, labelled: bool) -> None:
    data = load_data(spec(name))
    held = count // 10
    assert [len(split) for split in (data.train, data.val)] == [count - held, held] and data.test is data.val
    assert data.only_calibration and data.labelled == labelled
    assert data.told[-1] == f"{spec(name)}: no val, so {held} of {count} inputs are held out"
    first = f"{spec(name)}: the first {count} inputs of calibration are taken, as it has no length"
    assert (count == own.ENDLESS) == (first in data.told)
    rows = torch.cat([images.flatten(1) for split in (data.train, data.val) for images, _ in split.batches(512)])
    assert len(rows) == count


@pytest.mark.parametrize("name", ["masks", "boxes"])
def test_other_targets_are_no_classes(there: Path, name: str) -> None:
    data = load_data(spec(name))
    assert not data.labelled and set(data.train.classes.tolist()) == {-1}


def test_to_calibrate_with_and_to_judge_by(there: Path) -> None:
    data = load_data(spec("calibration_and_more"))
    assert (len(data.train), len(data.val), data.test is data.val) == (40, 20, True)
    assert data.labelled and data.only_calibration


def test_more_than_fits_is_not_taken(there: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(own, "MOST_BYTES", 22 * 64 * 4)
    data = load_data(spec("three"))
    assert len(data.train) == 22 and len(data.val) == 20
    assert data.told[0].startswith(f"{spec('three')}: the first 22 inputs of train are taken, which are ")


@pytest.mark.parametrize("name", ["shuffled", "drawn", "endless"])
def test_what_is_drawn_is_the_same_every_time(there: Path, name: str) -> None:
    before = torch.get_rng_state()
    assert contents(load_data(spec(name))) == contents(load_data(spec(name)))
    assert torch.equal(torch.get_rng_state(), before)


# -- networks pruned with it


def prune(there: Path, name: str, *words: str, model: str = "own_small.py:small") -> tuple[Bundle, str]:
    result = app("prune", "--model", model, "--data", spec(name), *words, "-o", "out")
    assert result.exit_code == 0, result.stderr
    assert "reading\n" not in result.stdout
    return Bundle.open("out"), result.stderr


def test_a_classifier_is_retrained_and_judged(there: Path) -> None:
    bundle, _ = prune(there, "shuffled", "--macs", "0.6", "--final-epochs", "1")
    assert None not in bundle.summary["accuracy"].values()
    assert bundle.plan.provenance["data"] == "own_loaders.py:shuffled"
    again = app("evaluate", "out", "--data", spec("three"), "--json")
    assert json.loads(again.stdout)["top1"] == pytest.approx(bundle.summary["accuracy"]["retrained"])
    assert app("retrain", "-q", "out", "--data", spec("three"), "--epochs", "1").exit_code == 0


@pytest.mark.parametrize("search", ["bayesian", "sensitivity"])
def test_a_score_beside_classes(there: Path, search: str) -> None:
    (there / "own_score.py").write_text("def small_weights(model):\n    return -float(model.fc.weight.abs().sum())\n")
    words = ("--score", "own_score.py:small_weights", "--macs", "0.6", "--search", search)
    bundle, _ = prune(there, "three", *words, "--retrain-epochs", "0", "--final-epochs", "1")
    score, accuracy = bundle.summary["score"], bundle.summary["accuracy"]
    assert sorted(score) == ["before", "name", "pruned", "retrained"] and None not in accuracy.values()
    assert score["retrained"] == pytest.approx(-float(bundle.model.fc.weight.detach().abs().sum()), rel=1e-5)
    again = app("apply", "out/plan.json", "--model", "own_small.py:small", "-o", "again")
    assert again.exit_code == 0, again.stderr
    assert Bundle.open("again").summary["score"] == score
    changed = app("prune", "--model", "own_small.py:small", "--data", spec("three"), *words, "--retrain-epochs", "1",
                  "--final-epochs", "0", "-o", "other")  # fmt: skip
    assert changed.exit_code == 0, changed.stderr


def test_fewer_classes_than_the_network_has(there: Path) -> None:
    text = "from own_loaders import *\ndef f():\n    return three(lambda n: classes(n) % 3)\n"
    (there / "own_few.py").write_text(text)
    result = app("evaluate", "--model", "own_small.py:small", "--data", "own_few.py:f", "--confusion", "--json")
    assert result.exit_code == 0, result.stderr
    assert len(json.loads(result.stdout)["confusion"]) == 10


def test_images_to_calibrate_with_judge_and_nothing_is_retrained(there: Path) -> None:
    bundle, said = prune(there, "calibration_and_more", "--macs", "0.6")
    accuracy = bundle.summary["accuracy"]
    assert accuracy["pruned"] is not None and accuracy["retrained"] is None
    assert "the images are to calibrate with: nothing is retrained" in said
    assert bundle.summary["transfer"]["images"] == 40


def test_whole_numbers_are_no_classes_of_a_network_without_class_scores(there: Path) -> None:
    text = (there / "own_small.py").read_text().replace("return self.fc(x)", "return self.fc(x)[:, :, None]")
    (there / "own_map.py").write_text(text)
    bundle, said = prune(there, "three", "--macs", "0.6", model="own_map.py:small")
    assert "no classes of the images are known" in said
    assert bundle.summary["accuracy"] == {"before": None, "pruned": None, "retrained": None}


def test_rows_of_numbers_are_no_classes_where_the_targets_are_none(there: Path) -> None:
    more = "\n\ndef places():\n    return three(lambda n: torch.rand(n, 10))\n"
    (there / "own_places.py").write_text(LOADERS + more)
    words = ("--data", "own_places.py:places", "--macs", "0.6", "-o", "out")
    result = app("prune", "--model", "own_small.py:small", *words)
    assert result.exit_code == 0, result.stderr
    assert "taken for the same class" not in result.stdout and "for one class" not in result.stderr
    lines = [json.loads(line) for line in (there / "out" / "search.jsonl").read_text().splitlines()]
    assert {e["accuracy"] for e in lines if e["event"] == "evaluation"} == {None}  # nothing agrees class by class


def test_tokens_with_an_example(there: Path) -> None:
    (there / "own_tokens.py").write_text(
        "import torch\nfrom torch import nn\n\n\nclass Tagger(nn.Module):\n    def __init__(self):\n"
        "        super().__init__()\n        self.embed = nn.Embedding(9, 8)\n        self.fc = nn.Linear(8, 12)\n"
        "        self.out = nn.Linear(12, 5)\n\n    def forward(self, x):\n"
        "        return self.out(self.fc(self.embed(x)).relu()).mean(1)\n\n\n"
        "def example():\n    return torch.randint(0, 9, (2, 12))\n"
    )
    words = ("--macs", "0.6", "--example", "own_tokens.py:example")
    bundle, _ = prune(there, "tokens", *words, model="own_tokens.py:Tagger")
    assert bundle.summary["transfer"]["images"] == 15


def test_other_images_do_not_go_on_with_a_search(there: Path) -> None:
    (there / "own_score.py").write_text("def f(model):\n    return 1 if model.conv1.out_channels > 5 else None\n")
    words = ("prune", "-q", "--model", "own_small.py:small", "--data", spec("tensors"), "--score", "own_score.py:f")
    assert app(*words, "--search", "bayesian", "-o", "out").exit_code == 2
    (there / "own_loaders.py").write_text(LOADERS.replace("count=40, size", "count=48, size"))
    code, said = refusal(*words, "--search", "bayesian", "-o", "out", "--resume")
    assert code == 2 and "belongs to a search with other settings" in said


def test_an_error_is_a_data_error(there: Path) -> None:
    with pytest.raises(DataError):
        load_data(spec("empty"))
