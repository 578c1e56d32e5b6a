"""Data sets: what is refused, what a split promises, and the layouts on disk (small ones, made here)."""

from __future__ import annotations

import gzip
import hashlib
import pickle
import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.datasets import CIFAR10, CIFAR100

from secateur.pruners.errors import DataError, UsageError
from secateur.training.data import (
    Data,
    Split,
    calibration_images,
    damaged_in,
    folders,
    limited,
    load_data,
    number_of_steps,
    on_device,
    read_now,
    with_workers,
)
from secateur.training.data.sets import hold_out
from secateur.training.data.splits import FileSplit, Normalization, random_flip, random_shift


def write_image(path: Path, value: int = 0, size: tuple[int, int] = (8, 8)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (value, value, value)).save(path)


def write_folder(root: Path, size: tuple[int, int] = (8, 8), classes: tuple[str, ...] = ("cat", "ant")) -> Path:
    for part, count in (("train", 10), ("test", 3)):
        for c, name in enumerate(classes):
            for i in range(count):
                write_image(root / part / name / f"{i}.png", 100 * c + i, size)
    return root


def everything(split: Split) -> tuple[torch.Tensor, torch.Tensor]:
    images, labels = zip(*split.batches(64), strict=True)
    return torch.cat(images), torch.cat(labels)


KNOWN = "known are cifar10, cifar100, digits, folder, imagenet, minicifar, mnist, synthetic, tiny_imagenet, webdataset"


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        pytest.param("cifra10:/x", f"unknown data set 'cifra10', did you mean 'cifar10'? {KNOWN}", id="a near miss"),
        pytest.param(
            "zzz",
            f"unknown data set 'zzz'; {KNOWN}",
            id="nothing near lists all",
        ),
        pytest.param("digits:/x", "digits takes no folder: write --data digits", id="a folder for digits"),
        pytest.param(
            "cifar10",
            "cifar10 needs a folder: write --data cifar10:DIR, where DIR holds cifar-10-batches-py/",
            id="no folder",
        ),
        pytest.param("folder:/no/such", "folder: there is no folder /no/such", id="a missing folder"),
    ],
)
def test_a_wrong_name_is_refused(spec: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        load_data(spec)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("name", "class_name"),
    [("mnist", "MNIST"), ("cifar10", "CIFAR10"), ("cifar100", "CIFAR100"), ("minicifar", "CIFAR10")],
)
def test_an_empty_folder_is_refused_with_the_way_to_fill_it(name: str, class_name: str, tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        load_data(f"{name}:{tmp_path}")
    assert str(caught.value) == (
        f"{name}: the files are missing or damaged in {tmp_path}: "
        f"torchvision.datasets.{class_name}({str(tmp_path)!r}, download=True) fetches them"
    )


@pytest.mark.parametrize("name", ["imagenet", "tiny_imagenet"])
def test_a_folder_without_train_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        load_data(f"{name}:{tmp_path}")
    assert str(caught.value) == (
        f"{name}: there is no folder {tmp_path}/train: give the folder that holds train/<class>/"
    )


def test_a_train_folder_without_class_folders_is_refused(tmp_path: Path) -> None:
    write_image(tmp_path / "train" / "loose.png")
    with pytest.raises(DataError, match=r"train can't be used: it has no class folders"):
        load_data(f"folder:{tmp_path}")


def test_an_empty_class_folder_is_refused_by_name(tmp_path: Path) -> None:
    (write_folder(tmp_path) / "train" / "bee").mkdir()
    with pytest.raises(DataError, match=r"train can't be used: there are no images of bee: add some, or remove"):
        load_data(f"folder:{tmp_path}")


def test_classes_that_are_only_in_one_part_are_refused_by_name(tmp_path: Path) -> None:
    write_image(write_folder(tmp_path) / "test" / "bee" / "0.png")
    with pytest.raises(DataError, match=r"but these are in one only: \['bee'\]"):
        load_data(f"folder:{tmp_path}")


def test_images_of_different_sizes_are_refused_by_name(tmp_path: Path) -> None:
    write_image(write_folder(tmp_path) / "train" / "cat" / "0.png", size=(8, 9))
    data = load_data(f"folder:{tmp_path}")
    with pytest.raises(DataError, match=r"images must have one size, but .*ant/0.png and .*cat/0.png have 8x8 and 8x9"):
        everything(data.train)


def test_images_nobody_looks_at_are_not_read_until_there_is_training(tmp_path: Path) -> None:
    names = sorted(path for path in (write_folder(tmp_path) / "train").rglob("*.png"))
    names[1].write_bytes(b"not an image")
    write_image(names[2], size=(8, 9))
    data = load_data(f"folder:{tmp_path}")
    later = replace(data.train, indices=torch.tensor([12, 3, 12]), augment=None)  # type: ignore[type-var]
    images, labels = next(later.batches(3))  # type: ignore[attr-defined]
    assert torch.equal(images[0], images[2]) and not torch.equal(images[0], images[1])
    pixels = torch.stack([torch.tensor(np.asarray(Image.open(names[i]).convert("RGB"))) for i in (12, 3, 12)])
    assert torch.allclose(images, folders.IMAGENET(pixels.permute(0, 3, 1, 2)))
    assert labels.tolist() == [int(names[i].parent.name == "cat") for i in (12, 3, 12)]
    with pytest.raises(DataError, match=r"1.png can't be read as an image"):
        read_now(data)


def test_a_damaged_image_is_refused_by_name(tmp_path: Path) -> None:
    (write_folder(tmp_path) / "train" / "ant" / "0.png").write_bytes(b"not an image")
    with pytest.raises(DataError, match=r"ant/0.png can't be read as an image"):
        load_data(f"folder:{tmp_path}")


def packed(root: Path) -> Path:
    """MNIST as it is given out; the folder of its files."""
    write_mnist(root)
    raw = root / "MNIST" / "raw"
    for path in list(raw.iterdir()):
        path.with_name(f"{path.name}.gz").write_bytes(gzip.compress(path.read_bytes()))
        path.unlink()
    return raw


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda content: content[: len(content) // 2], "Compressed file ended"),
        (lambda content: gzip.compress(b""), "requires a buffer"),
        (lambda content: gzip.compress(gzip.decompress(content)[:-1]), "its header doesn't fit its size"),
        (lambda content: b"not gzip", "Not a gzipped file"),
        (lambda content: gzip.compress(struct.pack(">II", 0x801, 3) + bytes(3)), "labels for"),
    ],
)
def test_damaged_packed_mnist_files_are_refused_by_name(tmp_path: Path, damage: Any, reason: str) -> None:
    path = packed(tmp_path) / "t10k-labels-idx1-ubyte.gz"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(DataError, match=f"mnist: {path} is damaged.*{reason}"):
        load_data(f"mnist:{tmp_path}")


def test_mnist_lacking_one_file_is_refused(tmp_path: Path) -> None:
    (packed(tmp_path) / "train-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(DataError, match="mnist: the files are missing"):
        load_data(f"mnist:{tmp_path}")


def test_packed_mnist_files_are_read_as_they_are_and_nothing_is_written(tmp_path: Path) -> None:
    write_mnist(tmp_path / "plain")
    raw = packed(tmp_path / "packed")
    (raw / "train-images-idx3-ubyte").write_bytes(gzip.decompress((raw / "train-images-idx3-ubyte.gz").read_bytes()))
    (raw / "train-images-idx3-ubyte.gz").unlink()  # one is unpacked
    before = sorted(p.name for p in raw.iterdir())
    for folder in (tmp_path / "packed", raw):
        read, plain = load_data(f"mnist:{folder}"), load_data(f"mnist:{tmp_path / 'plain'}")
        for mine, its in ((read.train, plain.train), (read.test, plain.test)):
            torch.testing.assert_close(everything(mine), everything(its))
    assert sorted(p.name for p in raw.iterdir()) == before


def test_too_few_images_to_hold_some_out_are_refused() -> None:
    with pytest.raises(DataError, match="3 training images in 2 classes are too few to hold some out: add images"):
        hold_out(torch.tensor([0, 0, 1]), 1)


def test_digits_are_split_without_overlap_and_with_equal_class_shares() -> None:
    data = load_data("digits")
    assert (len(data.train), len(data.val), len(data.test)) == (1077, 360, 360)
    parts = [set(split.indices.tolist()) for split in (data.train, data.val, data.test)]
    assert len(set.union(*parts)) == 1797
    for split in (data.train, data.val, data.test):
        shares = torch.bincount(everything(split)[1], minlength=10) / len(split)
        assert shares.min() > 0.09
        assert shares.max() < 0.11


def test_digits_are_normalised_and_the_same_every_time() -> None:
    first, second = load_data("digits"), load_data("digits")
    images, labels = everything(first.train)
    assert images.shape == (1077, *first.input_shape)
    assert abs(images.mean()) < 0.02
    assert abs(images.std() - 1) < 0.02
    again, labels_again = everything(second.train)
    assert torch.equal(images, again)
    assert torch.equal(labels, labels_again)


def test_shuffled_batches_are_full_and_a_function_of_the_seed() -> None:
    train = load_data("digits").train
    one, same, other = (list(train.batches(64, seed=seed)) for seed in (1, 1, 2))
    assert len(one) == number_of_steps(len(train), 64) == 16
    assert {len(labels) for _, labels in one} == {64}
    assert all(torch.equal(a, b) for (a, _), (b, _) in zip(one, same, strict=True))
    assert not torch.equal(one[0][0], other[0][0])


def test_a_later_start_gives_the_same_later_batches() -> None:
    train = load_data("digits").train
    whole = list(train.batches(64, seed=5))
    rest = list(train.batches(64, seed=5, start=13))
    assert len(rest) == 3
    assert all(torch.equal(a, b) for (a, _), (b, _) in zip(whole[13:], rest, strict=True))


def test_calibration_images_are_training_images_as_they_are() -> None:
    data = load_data("digits")
    images = calibration_images(data, 20)
    train = everything(data.train)[0].flatten(1)
    assert images.shape == (20, 1, 8, 8)
    assert torch.equal(images, calibration_images(data, 20))
    assert all((train == image).all(dim=1).any() for image in images.flatten(1))


def test_a_shift_moves_every_pixel_alike_and_brings_zeros_in() -> None:
    pixels = torch.arange(1, 17, dtype=torch.uint8).view(1, 1, 4, 4).repeat(50, 2, 1, 1)
    shifted = random_shift(pixels, torch.Generator().manual_seed(0), reach=1)
    padded = torch.nn.functional.pad(pixels[0], (1, 1, 1, 1))
    views = [padded[:, top : top + 4, left : left + 4] for top in range(3) for left in range(3)]
    assert all(any(torch.equal(image, view) for view in views) for image in shifted)
    assert len(torch.unique(shifted.flatten(1), dim=0)) == 9


def test_a_flip_mirrors_about_half_of_the_images() -> None:
    pixels = torch.arange(4, dtype=torch.uint8).view(1, 1, 1, 4).repeat(200, 1, 1, 1)
    flipped = random_flip(pixels, torch.Generator().manual_seed(0))[:, 0, 0, 0] == 3
    assert 70 < int(flipped.sum()) < 130


def test_a_folder_of_small_images_numbers_classes_alphabetically(tmp_path: Path) -> None:
    data = load_data(f"folder:{write_folder(tmp_path)}")
    assert data.classes == ("ant", "cat")
    assert data.input_shape == (3, 8, 8)
    assert (len(data.train), len(data.val), len(data.test)) == (18, 2, 6)
    images, labels = everything(data.test)
    assert labels.tolist() == [0, 0, 0, 1, 1, 1]
    # "ant" was written second, so its grey is 100, normalised with ImageNet's mean and deviation
    assert images[0, :, 0, 0].tolist() == pytest.approx(
        [(100 / 255 - m) / s for m, s in ((0.485, 0.229), (0.456, 0.224), (0.406, 0.225))], rel=1e-4
    )


@pytest.mark.parametrize("kind", ["folder", "imagenet"])
def test_large_images_are_read_when_needed_and_repeat_with_the_seed(kind: str, tmp_path: Path) -> None:
    root = write_folder(tmp_path, size=(120, 100))
    if kind == "imagenet":
        (root / "test").rename(root / "val")
    data = load_data(f"{kind}:{root}")
    assert isinstance(data.train, FileSplit)
    state = torch.random.get_rng_state()
    one, same = (list(data.train.batches(9, seed=3)) for _ in range(2))
    rest = list(data.train.batches(9, seed=3, start=1))
    assert one[0][0].shape == (9, *data.input_shape) == (9, 3, 224, 224)
    assert torch.equal(one[0][0], same[0][0])
    assert torch.equal(one[1][0], rest[0][0])
    assert torch.equal(torch.random.get_rng_state(), state)
    assert len(data.train.sample(4)) == 4


def write_mnist(root: Path) -> None:
    raw = root / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for part, count in (("train", 40), ("t10k", 10)):
        images = np.arange(count, dtype=np.uint8).repeat(28 * 28).tobytes()
        (raw / f"{part}-images-idx3-ubyte").write_bytes(struct.pack(">IIII", 2051, count, 28, 28) + images)
        labels = (np.arange(count, dtype=np.uint8) % 10).tobytes()
        (raw / f"{part}-labels-idx1-ubyte").write_bytes(struct.pack(">II", 2049, count) + labels)


def write_cifar(root: Path, kind: type[CIFAR10], label_key: str, patch: pytest.MonkeyPatch) -> None:
    """A data set in the original pickled layout; torchvision is told the checksums of these small files."""
    folder = root / kind.base_folder
    folder.mkdir(parents=True)

    def write(name: str, content: object) -> str:
        (folder / name).write_bytes(pickle.dumps(content))
        return hashlib.md5((folder / name).read_bytes()).hexdigest()

    names = [f"class{i}" for i in range(10)]
    meta_key = kind.meta["key"]
    lists = {}
    for attribute, files in (("train_list", kind.train_list), ("test_list", kind.test_list)):
        lists[attribute] = []
        for name, _ in files:
            pixels = np.random.RandomState(0).randint(0, 256, (100, 3072), dtype=np.uint8)
            content = {"data": pixels, label_key: [i % 10 for i in range(100)]}
            lists[attribute].append([name, write(name, content)])
    meta = {**kind.meta, "md5": write(kind.meta["filename"], {meta_key: names})}
    for attribute, value in (*lists.items(), ("meta", meta)):
        patch.setattr(kind, attribute, value)


def write_tiny_imagenet(root: Path) -> None:
    for wnid in ("n01", "n02"):
        for i in range(20):
            write_image(root / "train" / wnid / "images" / f"{wnid}_{i}.JPEG", i, (64, 64))
    rows = []
    for i, wnid in enumerate(("n02", "n01", "n02")):
        write_image(root / "val" / "images" / f"val_{i}.JPEG", i, (64, 64))
        rows.append(f"val_{i}.JPEG\t{wnid}\t0\t0\t62\t62")
    (root / "val" / "val_annotations.txt").write_text("\n".join(rows) + "\n")


def check(data: Data, sizes: tuple[int, int, int], shape: tuple[int, int, int], classes: int) -> None:
    assert (len(data.train), len(data.val), len(data.test)) == sizes
    assert data.input_shape == shape
    assert data.num_classes == classes
    for split in (data.train, data.val, data.test):
        images, labels = everything(split)
        assert images.shape == (len(split), *shape)
        assert int(labels.max()) < classes
    images, _ = next(iter(data.train.batches(4, seed=0)))
    assert images.shape == (4, *shape)


def test_mnist_is_read_from_its_original_files(tmp_path: Path) -> None:
    write_mnist(tmp_path)
    check(load_data(f"mnist:{tmp_path}"), (30, 10, 10), (1, 28, 28), 10)


@pytest.mark.parametrize(
    ("name", "kind", "label_key", "sizes", "classes"),
    [
        ("cifar10", CIFAR10, "labels", (450, 50, 100), 10),
        ("cifar100", CIFAR100, "fine_labels", (90, 10, 100), 10),
        ("minicifar", CIFAR10, "labels", (40, 8, 40), 4),
    ],
)
def test_cifar_is_read_from_its_original_files(
    name: str,
    kind: type[CIFAR10],
    label_key: str,
    sizes: tuple[int, int, int],
    classes: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    write_cifar(tmp_path, kind, label_key, monkeypatch)
    data = load_data(f"{name}:{tmp_path}")
    check(data, sizes, (3, 32, 32), classes)
    assert not set(data.train.indices.tolist()) & set(data.val.indices.tolist())


def test_tiny_imagenet_takes_its_labelled_validation_images_as_test(tmp_path: Path) -> None:
    write_tiny_imagenet(tmp_path)
    data = load_data(f"tiny_imagenet:{tmp_path}")
    check(data, (36, 4, 3), (3, 64, 64), 2)
    assert everything(data.test)[1].tolist() == [1, 0, 1]


@pytest.mark.parametrize(
    ("break_it", "message"),
    [
        pytest.param(lambda notes: notes.unlink(), r"there is no .*val_annotations.txt", id="no annotations"),
        pytest.param(lambda notes: notes.write_text(""), r"names no class of train/: it is empty", id="an empty file"),
        pytest.param(
            lambda notes: notes.write_text("a.JPEG\tn99\n"), r"names no class of train/: n99", id="an unknown class"
        ),
    ],
)
def test_tiny_imagenet_without_usable_annotations_is_refused(
    break_it: Callable[[Path], object], message: str, tmp_path: Path
) -> None:
    write_tiny_imagenet(tmp_path)
    break_it(tmp_path / "val" / "val_annotations.txt")
    with pytest.raises(DataError, match=message):
        load_data(f"tiny_imagenet:{tmp_path}")


EXAMPLE = "digits+normalize=0.5,0.5,0.5/0.25,0.25,0.25"
WRITE = "write the mean of each channel, a slash, and the deviation of each, for values from 0 to 1"


@pytest.mark.parametrize(
    "spec, message",
    [
        ("digits+termometer", f"unknown coding 'termometer' of digits: there are digits+thermometer and {EXAMPLE}"),
        ("digits+normalize", f"unknown coding 'normalize' of digits: there are digits+thermometer and {EXAMPLE}"),
        *(
            (f"digits+normalize={text}", f"digits+normalize={text}: {WRITE}: {EXAMPLE}")
            for text in ("", "0.5", "0.5/0", "0.5/x", "nan/1", "0.5,0.5/0.1", "0.1/0.2/0.3")
        ),
        ("digits+normalize=0,0,0/1,1,1", "digits+normalize: its images have 1 channels, not 3"),
        (
            "digits+thermometer+normalize=0,0,0/1,1,1",
            "digits+thermometer+normalize: signs can't be normalised; write +normalize before +thermometer",
        ),
    ],
)
def test_codings_that_are_not_known_or_do_not_fit_are_refused(spec: str, message: str) -> None:
    with pytest.raises(DataError) as caught:
        load_data(spec)
    assert str(caught.value) == message


def test_images_are_normalised_as_it_is_asked() -> None:
    raw, labels = everything(load_data("digits+normalize=0/1").test)
    usual = load_data("digits")
    assert usual.normalization is not None
    assert (float(raw.min()), float(raw.max())) == (pytest.approx(0, abs=1e-6), pytest.approx(1))
    assert torch.allclose((raw - 0.305) / 0.376, everything(usual.test)[0], atol=1e-6)
    other = load_data("digits+normalize=0.5/0.25")
    assert torch.allclose(everything(other.test)[0], (raw - 0.5) / 0.25, atol=1e-5)
    assert torch.equal(everything(other.test)[1], labels)
    assert (other.name, other.normalization) == ("digits", Normalization((0.5,), (0.25,)))
    twice = load_data("digits+normalize=0.5/0.25+thermometer")
    assert (twice.name, twice.normalization) == ("digits+thermometer", None)


def test_images_coded_by_a_thermometer_are_signs_in_three_channels_each() -> None:
    data = load_data("digits+thermometer")
    assert (data.name, data.input_shape) == ("digits+thermometer", (3, 8, 8))
    images, labels = everything(data.val)
    assert images.shape == (360, 3, 8, 8)
    assert set(images.unique().tolist()) == {-1.0, 1.0}
    assert (images[:, 0] >= images[:, 2]).all()
    assert torch.equal(images, everything(load_data("digits+thermometer").val)[0])
    assert torch.equal(labels, everything(load_data("digits").val)[1])
    assert len(data.train.sample(7)) == 7


@pytest.mark.parametrize("seed", [None, 3], ids=["in order", "shuffled and augmented"])
def test_the_parts_of_a_batch_are_the_batch(seed: int | None) -> None:
    train = load_data("digits").train
    whole = list(train.batches(100, seed=seed))
    parts = [list(train.batches(100, seed=seed, part=(i, 3))) for i in range(3)]
    for i, (images, labels) in enumerate(whole):
        assert torch.equal(images, torch.cat([part[i][0] for part in parts]))
        assert torch.equal(labels, torch.cat([part[i][1] for part in parts]))


@pytest.mark.parametrize(
    "content",
    [pytest.param(b"not an image", id="of text"), pytest.param(None, id="that is cut off")],
)
def test_a_damaged_large_image_is_left_out_and_noted(content: bytes | None, tmp_path: Path) -> None:
    bad = write_folder(tmp_path, size=(120, 100)) / "test" / "ant" / "1.png"
    bad.write_bytes(bad.read_bytes()[:60] if content is None else content)
    data = with_workers(load_data(f"folder:{tmp_path}"), 0)
    images, labels = everything(data.test)
    assert len(images) == 5
    assert labels.tolist() == [0, 0, 1, 1, 1]
    assert damaged_in(data) == [str(bad)]
    assert damaged_in(with_workers(data, 1)) == [str(bad)]


def test_a_damaged_image_that_is_a_batch_of_its_own_is_left_out(tmp_path: Path) -> None:
    bad = write_folder(tmp_path, size=(120, 100)) / "test" / "cat" / "2.png"
    bad.write_bytes(b"not an image")
    data = with_workers(load_data(f"folder:{tmp_path}"), 0)
    assert [len(labels) for _, labels in data.test.batches(5)] == [5]
    assert damaged_in(data) == [str(bad)]


@pytest.mark.parametrize("error", [SyntaxError("broken PNG"), ValueError("no"), struct.error("short")])
def test_whatever_an_image_is_damaged_by_is_told_by_name(
    error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = load_data(f"folder:{write_folder(tmp_path)}")

    def broken(_: str) -> None:
        raise error

    monkeypatch.setattr(Image, "open", broken)
    with pytest.raises(DataError, match=r"can't be read as an image: (broken PNG|no|short)"):
        everything(data.test)


def test_images_that_are_too_many_to_hold_are_read_when_needed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    held = load_data(f"folder:{write_folder(tmp_path)}")
    monkeypatch.setattr(folders, "HELD", 1000)
    data = with_workers(load_data(f"folder:{tmp_path}"), 0)
    assert isinstance(data.train, FileSplit)
    assert (data.input_shape, data.classes) == (held.input_shape, held.classes)
    for one, other in ((data.val, held.val), (data.test, held.test)):
        for a, b in zip(everything(one), everything(other), strict=True):
            torch.testing.assert_close(a, b)
    images, _ = next(data.train.batches(4, seed=1))
    assert images.shape == (4, *held.input_shape)
    assert not torch.equal(images, next(data.train.batches(4, seed=2))[0])


@pytest.mark.parametrize("spec", ["digits", "digits+thermometer", "digits+normalize=0.5/0.25"])
def test_images_held_on_a_device_come_in_the_same_batches(spec: str) -> None:
    data = load_data(spec)
    there = on_device(data, torch.device("cpu"))
    assert there.name == data.name and len(there.train) == len(data.train)
    for before, after in ((data.train, there.train), (data.val, there.val)):
        for seed in (None, 3):
            pairs = zip(before.batches(64, seed=seed, start=1), after.batches(64, seed=seed, start=1), strict=True)
            assert all(torch.equal(a, b) for one, other in pairs for a, b in zip(one, other, strict=True))


def test_images_that_are_read_when_needed_are_not_held_on_a_device(tmp_path: Path) -> None:
    data = load_data(f"folder:{write_folder(tmp_path, size=(120, 100))}")
    with pytest.raises(UsageError, match="--data-on-device: the images of folder are read from files"):
        on_device(data, torch.device("cpu"))


@pytest.mark.parametrize("spec", ["digits", "digits+thermometer"])
def test_a_limit_draws_images_from_each_part_and_leaves_them_augmented(spec: str) -> None:
    data = load_data(spec)
    assert limited(data, None) is data
    few = limited(data, 100, seed=1)
    assert [len(s) for s in (few.train, few.val, few.test)] == [100, 100, 100]
    assert [len(s) for s in (limited(data, 500).train, limited(data, 500).val)] == [500, len(data.val)]
    assert torch.equal(few.train.classes, limited(data, 100, seed=1).train.classes)
    assert not torch.equal(few.train.classes, limited(data, 100, seed=2).train.classes)
    plain, shuffled = (torch.cat([x for x, _ in few.train.batches(100, seed=seed)]) for seed in (None, 0))
    assert not torch.equal(plain.sort(0).values, shuffled.sort(0).values)  # shifted, too


def test_images_none_of_which_can_be_read_are_refused(tmp_path: Path) -> None:
    data = with_workers(load_data(f"folder:{write_folder(tmp_path, size=(120, 100))}"), 0)
    for path in (tmp_path / "test").rglob("*.png"):
        path.write_bytes(b"not an image")
    with pytest.raises(DataError, match=r"none of 6 images can be read, .*ant/0.png among them: are they images\?"):
        everything(data.test)


@pytest.mark.parametrize("name", ["val", "valid", "validation"])
def test_what_is_called_otherwise_serves_as_test_images(tmp_path: Path, name: str) -> None:
    (write_folder(tmp_path) / "test").rename(tmp_path / name)
    before = load_data(f"folder:{tmp_path}")
    (tmp_path / name).rename(tmp_path / "test")
    after = load_data(f"folder:{tmp_path}")
    assert len(before.test) == len(after.test) > 0
    assert len(before.val) == len(after.val)
    assert torch.equal(before.test.classes, after.test.classes)


# -- folders as people have them


def class_folders(root: Path, images: int = 10, size: tuple[int, int] = (8, 8)) -> Path:
    for c, name in enumerate(("cat", "ant")):
        for i in range(images):
            write_image(root / name / f"{i}.png", 100 * c + i, size)
    return root


@pytest.mark.parametrize("names", [("val", "test"), ("training", "validation"), ("Test", "cat")])
def test_parts_are_not_taken_for_classes(names: tuple[str, ...], tmp_path: Path) -> None:
    for name in names:
        class_folders(tmp_path / name)
    with pytest.raises(DataError, match=r"holds neither train/<class>/ and test/<class>/ nor images"):
        load_data(f"folder:{tmp_path}")


def test_one_class_alone_is_refused(tmp_path: Path) -> None:
    class_folders(tmp_path / "animals")
    with pytest.raises(DataError, match=r"holds one class only, animals: add another, or write --data folder:"):
        load_data(f"folder:{tmp_path}")


def test_an_empty_class_is_refused_where_there_are_classes_alone(tmp_path: Path) -> None:
    (class_folders(tmp_path) / "bee").mkdir()
    with pytest.raises(DataError, match=r"there are no images of bee: add some, or remove the folder"):
        load_data(f"folder:{tmp_path}")


def test_classes_with_too_few_images_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"are too few to hold some out: add images"):
        load_data(f"folder:{class_folders(tmp_path, 1)}")


@pytest.mark.parametrize("below", ["", "train"])
def test_of_classes_alone_a_fifth_is_held_out_alike_every_time(below: str, tmp_path: Path) -> None:
    class_folders(tmp_path / below)
    data, again = load_data(f"folder:{tmp_path}"), load_data(f"folder:{tmp_path}")
    assert data.classes == ("ant", "cat")
    assert (len(data.train), len(data.val), len(data.test)) == (14, 2, 4)
    assert everything(data.test)[1].tolist() == [0, 0, 1, 1]
    assert torch.equal(everything(data.test)[0], everything(again.test)[0])
    seen = torch.cat([everything(split)[0][:, 0, 0, 0] for split in (data.train, data.val, data.test)])
    assert len(seen.unique()) == 20  # every image is in one part
    assert data.told == (
        f"{tmp_path / below} has no test images beside it: 4 of its 20, of every class, are held out as such",
    )


def test_hidden_files_and_folders_are_left_out(tmp_path: Path) -> None:
    before = load_data(f"folder:{write_folder(tmp_path)}")
    for part in ("train", "test"):
        (tmp_path / part / "cat" / "._0.png").write_bytes(b"of another program")
        write_image(tmp_path / part / ".ipynb_checkpoints" / "0.png")
        write_image(tmp_path / part / "cat" / ".cache" / "0.png")
        (tmp_path / part / ".DS_Store").write_bytes(b"")
    after = load_data(f"folder:{tmp_path}")
    assert after.classes == before.classes
    for one, other in ((before.train, after.train), (before.test, after.test)):
        assert torch.equal(everything(one)[0], everything(other)[0])


def test_folders_beside_images_without_labels_are_told_of(tmp_path: Path) -> None:
    for i in range(12):
        write_image(class_folders(tmp_path) / f"{i}.png", i)
    data = load_data(f"folder:{tmp_path}")
    assert not data.labelled
    assert data.told == (f"{tmp_path} has images and folders: the folders (ant, cat) are left out, as are labels",)


def test_a_small_image_among_large_ones_does_not_decide(tmp_path: Path) -> None:
    write_image(write_folder(tmp_path, size=(120, 100)) / "train" / "ant" / "0.png", size=(20, 30))
    write_image(tmp_path / "train" / "ant" / "1.png", size=(300, 90))
    data = load_data(f"folder:{tmp_path}")
    assert data.input_shape == (3, 224, 224)
    assert everything(with_workers(data, 0).train)[0].shape == (18, 3, 224, 224)
