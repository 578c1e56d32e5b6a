"""Images in WebDataset's shards."""

from __future__ import annotations

import io
import pickle
import sys
import tarfile
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from PIL import Image

from secateur.pruners.errors import DataError
from secateur.training.data import load_data
from secateur.training.data import shards as module


def png(grey: int, size: tuple[int, int] = (8, 8)) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", size, (grey, grey, grey)).save(file, "PNG")
    return file.getvalue()


def shard(path: Path, files: Mapping[str, bytes]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return path


def samples(count: int, first: int = 0, size: tuple[int, int] = (8, 8), classes: int = 2) -> dict[str, bytes]:
    files = {}
    for i in range(first, first + count):
        files[f"{i:05}.png"] = png(i, size)
        if classes:
            files[f"{i:05}.cls"] = str(i % classes).encode()
    return files


def test_without_the_library_its_installation_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shard(tmp_path / "train-0.tar", samples(4))
    monkeypatch.setitem(sys.modules, "webdataset.tariterators", None)
    with pytest.raises(DataError, match=r"needs the package webdataset: pip install 'secateur\[webdataset\]'$"):
        load_data(f"webdataset:{tmp_path}")


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ((), "holds no shards: give the folder that holds train-*.tar"),
        (("val-0.tar",), "holds val-0.tar, but no train-*.tar to learn from"),
        (("train-0.tar", "more.tar"), "more.tar says neither train nor test: rename it, or move it away"),
    ],
)
def test_folders_without_what_is_needed_are_refused(files: tuple[str, ...], said: str, tmp_path: Path) -> None:
    for name in files:
        shard(tmp_path / name, samples(2))
    with pytest.raises(DataError) as caught:
        load_data(f"webdataset:{tmp_path}")
    assert said in str(caught.value)


@pytest.fixture
def library() -> None:
    pytest.importorskip("webdataset")


@pytest.mark.usefixtures("library")
@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({}, "train-0.tar holds no samples"),
        ({"a.cls": b"0"}, "a in {}/train-0.tar has no image (.jpg, .png and the like)"),
        ({"a.png": b"none", "a.cls": b"0"}, "train-0.tar.png can't be read as an image"),
        ({"a.png": png(0), "a.cls": b"cat"}, "the class of a in {}/train-0.tar is b'cat': write its number, from 0"),
        ({"a.png": png(0), "a.cls": b"-1"}, "is b'-1': write its number, from 0"),
        ({"a.png": png(0), "a.cls": b"0", "b.png": png(1)}, "some samples have a class (.cls) and others none"),
        ({**samples(4), "x.png": png(0, (8, 9)), "x.cls": b"0"}, "must have one size, but x in {}/train-0.tar is"),
    ],
)
def test_shards_that_can_not_be_used_are_refused(files: Mapping[str, bytes], said: str, tmp_path: Path) -> None:
    shard(tmp_path / "train-0.tar", files)
    with pytest.raises(DataError) as caught:
        load_data(f"webdataset:{tmp_path}")
    assert said.format(tmp_path) in str(caught.value)


@pytest.mark.usefixtures("library")
def test_a_damaged_shard_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "train-0.tar").write_bytes(b"no archive at all" * 100)
    with pytest.raises(DataError, match=r"train-0.tar can't be read as a shard: "):
        load_data(f"webdataset:{tmp_path}")


@pytest.mark.usefixtures("library")
def test_too_many_images_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shard(tmp_path / "train-0.tar", samples(20))
    monkeypatch.setattr(module, "HELD", 1000)
    with pytest.raises(DataError, match=r"take more than 2 GiB: give fewer shards, or unpack them"):
        load_data(f"webdataset:{tmp_path}")


class Evil:
    def __reduce__(self) -> object:
        return Path.mkdir, (Path("made"),)


@pytest.mark.usefixtures("library")
def test_shards_in_parts_are_read_and_nothing_else_in_them_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    shard(tmp_path / "s" / "data-train-0.tar", {"00000.pyd": pickle.dumps(Evil()), **samples(20)})
    shard(tmp_path / "s" / "data-train-1.tar", samples(20, 20))
    shard(tmp_path / "s" / "data-val-0.tar", samples(6, 40))
    data = load_data("webdataset:s")
    assert (len(data.train), len(data.val), len(data.test)) == (36, 4, 6)
    assert (data.classes, data.input_shape, data.told) == (("0", "1"), (3, 8, 8), ())
    images, labels = next(data.test.batches(6))
    assert labels.tolist() == [0, 1] * 3
    assert images[0, 0, 0, 0].item() == pytest.approx((40 / 255 - 0.485) / 0.229, rel=1e-4)
    assert not (tmp_path / "made").exists()


@pytest.mark.usefixtures("library")
def test_of_shards_alone_a_fifth_is_held_out(tmp_path: Path) -> None:
    shard(tmp_path / "a" / "0.tar", samples(20))
    data, again = (load_data(f"webdataset:{tmp_path}") for _ in range(2))
    assert (len(data.train), len(data.val), len(data.test)) == (14, 2, 4)
    assert data.told == (f"{tmp_path} has no test shards: 4 of 20 images, of every class, are held out as such",)
    assert torch.equal(next(data.test.batches(4))[0], next(again.test.batches(4))[0])


@pytest.mark.usefixtures("library")
def test_large_images_are_cropped_and_those_without_classes_have_no_labels(tmp_path: Path) -> None:
    shard(tmp_path / "0.tar", {**samples(10, size=(120, 100), classes=0), "z.jpg": png(9, (300, 90))})
    data = load_data(f"webdataset:{tmp_path}")
    assert data.input_shape == (3, 224, 224)
    assert not data.labelled and data.test is data.val
