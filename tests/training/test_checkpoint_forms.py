"""Checkpoints as other people's scripts leave them: what can't be used in one line, and what is found in them."""

from __future__ import annotations

import argparse
import json
import posix
import tarfile
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from secateur.pruners.errors import CheckpointError
from secateur.training.fit import load_checkpoint, load_weights

State = dict[str, Tensor]


def net(seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Sequential(nn.Conv2d(4, 5, 1)))


def put(front: str, state: State) -> State:
    return {front + k: v for k, v in state.items()}


def loaded(content: object, folder: Path, **how: Any) -> tuple[nn.Module, str]:
    """A network with the weights in the file, and what was said of them."""
    torch.save(content, folder / "w.pth")
    target = net(7)
    checkpoint = load_checkpoint(folder / "w.pth", target, **how)
    load_weights(target, checkpoint.model, "w.pth")
    return target, checkpoint.told


class Config:
    """What scripts note beside weights."""

    built: list[object] = []

    def __init__(self) -> None:
        self.width = 3

    def __setstate__(self, state: object) -> None:
        self.built.append(state)


class Names(dict[str, object]):
    """A dictionary of a script's own, with attributes."""


class Slots:
    __slots__ = ("a",)

    def __init__(self) -> None:
        self.a = 1


class Evil:
    def __reduce__(self) -> object:
        return posix.mkdir, ("made",)


# -- refusals


ALONE = "save the weights alone, torch.save(model.state_dict(), 'weights.pth')"


@pytest.mark.parametrize("new", [True, False], ids=["zip", "as torch saved before 1.6"])
def test_objects_beside_the_weights_are_refused_with_the_words_that_allow_them(tmp_path: Path, new: bool) -> None:
    path, name = tmp_path / "w.pth", f"{__name__}.Config"
    torch.save({"model": net().state_dict(), "config": Config()}, path, _use_new_zipfile_serialization=new)
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(path, net(), allowed=["another.Config"])
    assert str(caught.value) == (
        f"refused: {path} holds objects of {name} beside tensors: add --allow-class {name} to have them left out "
        f"(nothing of theirs is run), or {ALONE}"
    )


@pytest.mark.parametrize("allowed", [(), ("posix.mkdir",)], ids=["as it is", "allowed by its name"])
def test_a_file_that_would_run_something_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, allowed: tuple[str, ...]
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CheckpointError, match=r"^refused: .*w.pth would run posix.mkdir when it is opened"):
        loaded({"model": net().state_dict(), "more": Evil()}, tmp_path, allowed=allowed)
    assert not (tmp_path / "made").exists()


def test_a_whole_network_is_refused_wherever_it_lies(tmp_path: Path) -> None:
    for content in (net(), {"model": net(), "epoch": 3}, {"ema": net().half(), "model": None}):
        with pytest.raises(
            CheckpointError, match=r"holds a whole pickled network \(torch.nn.*\), which only"
        ):
            loaded(content, tmp_path)


def test_objects_that_can_not_be_left_out_are_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError) as caught:
        loaded({"model": net().state_dict(), "more": Slots()}, tmp_path, allowed=[f"{__name__}.Slots"])
    assert str(caught.value).endswith(f"w.pth can't be read without its objects of {__name__}.Slots: {ALONE}")


def test_where_there_is_no_average_it_is_not_made_up(tmp_path: Path) -> None:
    other = nn.Linear(2, 2).state_dict()
    for content in (net().state_dict(), {"model": net().state_dict(), "model_ema": other}):
        with pytest.raises(
            CheckpointError, match=r"holds no averaged weights \(EMA\) that fit this network: leave --ema"
        ):
            loaded(content, tmp_path, averaged=True)


@pytest.mark.parametrize(
    "content",
    [
        torch.optim.SGD(net().parameters(), 0.1).state_dict(),
        {"optimizer": torch.optim.SGD(net().parameters(), 0.1).state_dict(), "epoch": 3},
    ],
    ids=["alone", "under its name"],
)
def test_an_optimizer_holds_no_weights(tmp_path: Path, content: object) -> None:
    with pytest.raises(CheckpointError, match=r"holds the state of an optimizer and no weights: name the file that"):
        loaded(content, tmp_path)


def test_other_archives_are_told_as_such(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("a")
    with tarfile.open(tmp_path / "w.tar", "w") as tar:
        tar.add(tmp_path / "a.txt")
    with zipfile.ZipFile(tmp_path / "w.zip", "w") as file:
        file.write(tmp_path / "a.txt", "a.txt")
    for name in ("w.tar", "w.zip"):
        with pytest.raises(CheckpointError, match=r"is an archive that torch.save didn't write: unpack it, and name"):
            load_checkpoint(tmp_path / name)


def test_another_protocol_is_told_as_such(tmp_path: Path) -> None:
    torch.save(net().state_dict(), tmp_path / "w.pth", pickle_protocol=4)
    with pytest.raises(CheckpointError, match=r"was saved with another pickle_protocol than torch.save's own"):
        load_checkpoint(tmp_path / "w.pth")


def test_a_folder_is_refused_with_a_file_in_it(tmp_path: Path) -> None:
    torch.save(net().state_dict(), tmp_path / "w.pth")
    with pytest.raises(CheckpointError, match=r"is a folder: name the checkpoint file in it, such as .*w\.pth$"):
        load_checkpoint(tmp_path)


def in_two(folder: Path) -> Path:
    """The weights of ``net(1)`` in two files, and their index."""
    state = list(net(1).state_dict().items())
    save_file(dict(state[:3]), folder / "m-1.safetensors")
    save_file(dict(state[3:]), folder / "m-2.safetensors")
    places = {key: f"m-{1 + (i >= 3)}.safetensors" for i, (key, _) in enumerate(state)}
    index = folder / "m.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {}, "weight_map": places}))
    return index


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        pytest.param(lambda i: i.with_name("m-2.safetensors").unlink(),
                     r"names 2 files, and there is no m-2.safetensors beside it: get all of them", id="a file lacks"),
        pytest.param(lambda i: save_file({"a": torch.ones(1)}, i.with_name("m-2.safetensors")),
                     r"says that 1.bias is in m-2.safetensors, where it isn't", id="a tensor lacks"),
        pytest.param(lambda i: i.with_name("m-1.safetensors").write_bytes(b"x"),
                     r"m-1.safetensors is no safetensors file: ", id="a file is damaged"),
        pytest.param(lambda i: i.write_text("{}"), r"is no index of weights: it must hold", id="an empty one"),
        pytest.param(lambda i: i.write_text("no"), r"is no index of weights: it must hold", id="a text"),
        pytest.param(lambda i: i.write_text(json.dumps({"weight_map": {"a": "../m.safetensors"}})),
                     r"names '../m.safetensors', which is no file beside it", id="a file elsewhere"),
    ],
)  # fmt: skip
def test_an_index_that_does_not_hold_is_refused(damage: Callable[[Path], object], reason: str, tmp_path: Path) -> None:
    index = in_two(tmp_path)
    damage(index)
    with pytest.raises(CheckpointError, match=reason):
        load_checkpoint(index)


def test_what_nearly_fits_is_held_against_the_network_under_its_own_names(tmp_path: Path) -> None:
    state = net(1).state_dict()
    wider = {**state, "2.0.weight": torch.ones(9, 4, 1, 1)}
    with pytest.raises(
        CheckpointError, match=r"w.pth doesn't fit this network: 2.0.weight is 9x4x1x1 there and 5x4x1x1"
    ):
        loaded({"state_dict": put("model.", wider), "epoch": 3}, tmp_path)
    state.pop("2.0.weight")
    with pytest.raises(CheckpointError, match=r"w.pth doesn't fit this network: it lacks 2.0.weight$"):
        loaded({"state_dict": put("net.", state)}, tmp_path)


def sparse(weight: Tensor) -> Tensor:
    return weight.to_sparse()


def rows(weight: Tensor) -> Tensor:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch says that its rows are not done
        return weight.flatten(1).to_sparse_csr()


@pytest.mark.parametrize(
    ("form", "reason"),
    [
        pytest.param(sparse, "is sparse; save value.to_dense() in its place", id="sparse"),
        pytest.param(
            lambda w: w.to("meta"), "lies on the meta device and holds no values; save the network once it has some",
            id="without values",
        ),
        pytest.param(
            lambda w: w.to(torch.complex64), "is complex64 there and float32 in the network, which isn't the same "
            "numbers", id="complex",
        ),
        pytest.param(
            lambda w: (w * 100).to(torch.int8), "is int8 there and float32 in the network, which isn't the same "
            "numbers", id="whole numbers",
        ),
        pytest.param(
            lambda w: (w * float("nan")).to(torch.float8_e5m2), "holds NaN or infinite values; train it again",
            id="8 bits that are no numbers",
        ),
    ],
)  # fmt: skip
def test_tensors_that_are_not_plain_numbers_are_refused(form: Callable[[Tensor], Tensor], reason: str) -> None:
    state = net(1).state_dict()
    with pytest.raises(CheckpointError) as caught:
        load_weights(net(), {**state, "0.weight": form(state["0.weight"].float())}, "w.pth")
    assert str(caught.value) == f"w.pth can't be used: 0.weight {reason}"


def test_quantized_tensors_are_refused() -> None:
    state = net(1).state_dict()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch is about to drop them
        few = torch.quantize_per_tensor(state["0.weight"], 0.1, 0, torch.qint8)
    with pytest.raises(CheckpointError, match=r"0.weight is quantized \(qint8\); save the weights that were there"):
        load_weights(net(), {**state, "0.weight": few}, "w.pth")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        pytest.param(b"", "it is empty", id="an empty file"),
        pytest.param(b"root:x:0:0\nwritten by hand\n", "it is no file that torch.save writes", id="a text"),
        pytest.param(b"hello world\n", "it is no file that torch.save writes", id="another text"),
        pytest.param(b"\x93NUMPY\x01\x00v\x00", "it is no file that torch.save writes", id="an array"),
        pytest.param(bytes(range(256)) * 9, "it is no file that torch.save writes", id="bytes"),
        pytest.param(b"\x80\x02}q\x00", "holds pickled objects|it is cut off or damaged", id="a pickle that is cut"),
    ],
)
def test_what_is_no_checkpoint_is_refused(tmp_path: Path, content: bytes, reason: str) -> None:
    (tmp_path / "w.pth").write_bytes(content)
    with pytest.raises(CheckpointError, match=reason):
        load_checkpoint(tmp_path / "w.pth")


@pytest.mark.parametrize("new", [True, False], ids=["zip", "as torch saved before 1.6"])
@pytest.mark.parametrize("share", [0.02, 0.3, 0.6, 0.95])
def test_a_file_that_is_cut_is_refused(tmp_path: Path, share: float, new: bool) -> None:
    path = tmp_path / "w.pth"
    torch.save(net().state_dict(), path, _use_new_zipfile_serialization=new)
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(path)
    assert "\n" not in str(caught.value)


def test_two_strange_names_that_both_fit_are_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"holds several weights that fit, left and right: save those you mean"):
        loaded({"left": net(1).state_dict(), "right": net(2).state_dict()}, tmp_path)


def test_what_fits_nowhere_is_told_as_before(tmp_path: Path) -> None:
    state = net(1).state_dict()
    state.pop("0.weight")
    with pytest.raises(CheckpointError, match=r"doesn't fit this network: it lacks 0.weight"):
        loaded({"model_state_dict": state, "epoch": 3}, tmp_path)


# -- what is found


@pytest.mark.parametrize(
    ("wrap", "told"),
    [
        (lambda s: s, ""),
        (lambda s: {"model": s, "epoch": 3}, ""),
        (lambda s: {"state_dict": put("module.", s)}, ""),
        (lambda s: {"model_state_dict": s, "loss": 0.1}, "the weights are those under 'model_state_dict'"),
        (lambda s: {"net": s, "acc": 90.1}, "the weights are those under 'net'"),
        (lambda s: {"weights": s}, "the weights are those under 'weights'"),
        (lambda s: {"my_own_name": s}, "the weights are those under 'my_own_name'"),
        (lambda s: {"state": {"network": s}}, "the weights are those under 'state'.'network'"),
        (lambda s: put("_orig_mod.", s), "the names are taken without '_orig_mod.'"),
        (lambda s: put("_orig_mod.module.", s), "the names are taken without '_orig_mod.'"),
        (
            lambda s: {"state_dict": put("model.", s), "hyper_parameters": {"lr": 0.1}},
            "the weights are those under 'state_dict', the names are taken without 'model.'",
        ),
        (lambda s: put("model.backbone.", s), "the names are taken without 'model.backbone.'"),
        (
            lambda s: {**put("model.", s), "loss.weight": torch.ones(3)},
            "the names are taken without 'model.', 1 other tensor is left out",
        ),
        (
            lambda s: {**put("ema.", net(3).state_dict()), **put("model.", s)},
            "the names are taken without 'model.', 9 other tensors are left out, --ema takes the averaged ones under "
            "'ema'",
        ),
        (
            lambda s: {"model_ema": net(3).state_dict(), "model": s},
            "the weights are those under 'model', --ema takes the averaged ones under 'model_ema'",
        ),
        (lambda s: {"0.module.weight": s.pop("0.weight"), **s}, ""),
        (lambda s: {**s, "epoch": 3}, ""),
        (lambda s: {"model": s, "args": argparse.Namespace(lr=0.1, out=Path("x"))}, ""),
    ],
    ids=range(18),
)  # fmt: skip
def test_weights_are_found(wrap: Callable[[State], dict[str, Any]], told: str, tmp_path: Path) -> None:
    source = net(1)
    target, said = loaded(wrap(dict(source.state_dict())), tmp_path)
    assert all(torch.equal(v, target.state_dict()[k]) for k, v in source.state_dict().items())
    assert said == told


def averaged(model: nn.Module) -> State:
    """As torch's own average of weights is saved, with the number of those that it is of."""
    return torch.optim.swa_utils.AveragedModel(model).state_dict()


@pytest.mark.parametrize(
    ("wrap", "told"),
    [
        (
            lambda s, e: {"state_dict": s, "state_dict_ema": e, "args": argparse.Namespace()},
            "the weights are those under 'state_dict_ema', they are averaged ones (EMA), not those under 'state_dict'",
        ),
        (
            lambda s, e: {"params": s, "params_ema": e},
            "the weights are those under 'params_ema', they are averaged ones (EMA), not those under 'params'",
        ),
        (
            lambda s, e: {"model": s, "ema": {"shadow": e, "decay": 0.9}},
            "the weights are those under 'ema'.'shadow', they are averaged ones (EMA), not those under 'model'",
        ),
        (
            lambda s, e: {**put("model.", s), **put("model_ema.", e)},
            "the names are taken without 'model_ema.', 9 other tensors are left out, they are averaged ones (EMA), not "
            "those under 'model'",
        ),
        (
            lambda s, e: {"n_averaged": torch.tensor(3), **put("module.", e)},
            "the names are taken without 'module.', they are averaged ones (EMA)",
        ),
        (lambda s, e: {"params_ema": e}, "the weights are those under 'params_ema', they are averaged ones (EMA)"),
    ],
    ids=range(6),
)  # fmt: skip
def test_averaged_weights_are_taken_where_they_are_asked_for(
    wrap: Callable[[State, State], dict[str, Any]], told: str, tmp_path: Path
) -> None:
    trained, average = net(1).state_dict(), net(2).state_dict()
    target, said = loaded(wrap(trained, average), tmp_path, averaged=True)
    assert all(torch.equal(v, target.state_dict()[k]) for k, v in average.items())
    assert said == told


def test_weights_that_were_averaged_by_torch_are_found(tmp_path: Path) -> None:
    source = net(2)
    assert next(iter(averaged(source))) == "n_averaged"
    for content in (averaged(source), {"model": net(1).state_dict(), "model_ema": averaged(source)}):
        target, _ = loaded(content, tmp_path, averaged=True)
        assert all(torch.equal(v, target.state_dict()[k]) for k, v in source.state_dict().items())


def test_allowed_objects_are_left_out_and_never_run(tmp_path: Path) -> None:
    source = net(1)
    names = Names(model=source.state_dict())
    names.lr = 0.1  # type: ignore[attr-defined]
    allowed = [f"{__name__}.Config", f"{__name__}.Names"]
    for content in ({"model": source.state_dict(), "config": Config()}, names, Names(source.state_dict())):
        target, _ = loaded(content, tmp_path, allowed=allowed)
        assert all(torch.equal(v, target.state_dict()[k]) for k, v in source.state_dict().items())
    assert Config.built == []


def test_numbers_of_numpy_may_lie_beside_the_weights(tmp_path: Path) -> None:
    source = net(1)
    noted = {"best": np.float32(0.3), "curve": np.arange(3), "names": np.array(["a"])}
    target, _ = loaded({"model": source.state_dict(), **noted}, tmp_path)
    assert torch.equal(target.state_dict()["0.weight"], source.state_dict()["0.weight"])


def test_weights_in_safetensors_and_in_several_files_are_read(tmp_path: Path) -> None:
    source = net(1)
    save_file(put("model.", source.state_dict()), tmp_path / "w.safetensors")
    for file in (tmp_path / "w.safetensors", in_two(tmp_path)):
        target = net(7)
        load_weights(target, load_checkpoint(file, target).model, file)
        assert all(torch.equal(v, target.state_dict()[k]) for k, v in source.state_dict().items())


def test_counts_of_batches_may_be_missing(tmp_path: Path) -> None:
    source = net(1)
    state = {k: v for k, v in source.state_dict().items() if "tracked" not in k}
    for content in (state, {"state_dict": put("module.", state)}):
        target, _ = loaded(content, tmp_path)
        assert all(torch.equal(v, target.state_dict()[k]) for k, v in state.items())
        assert target.state_dict()["1.num_batches_tracked"] == 0


@pytest.mark.parametrize("key", ["optimizer", "optimizer_state_dict", "optim"])
def test_the_optimizer_is_found(tmp_path: Path, key: str) -> None:
    state = {"state": {}, "param_groups": []}
    torch.save({"model": net().state_dict(), key: state}, tmp_path / "w.pth")
    assert load_checkpoint(tmp_path / "w.pth", net()).optimizer == state
    torch.save({"state_dict": net().state_dict(), "optimizer_states": [state]}, tmp_path / "w.pth")
    assert load_checkpoint(tmp_path / "w.pth", net()).optimizer == state


def test_weights_of_8_bits_are_taken_as_numbers() -> None:
    state = {k: v.to(torch.float8_e5m2) if v.is_floating_point() else v for k, v in net(1).state_dict().items()}
    target = net()
    load_weights(target, state, "w.pth")
    assert torch.equal(target.state_dict()["0.weight"], state["0.weight"].float())


@pytest.mark.parametrize("value", ["inf", "-inf", "nan"])
def test_what_is_no_number_in_the_network_either_is_taken(value: str) -> None:
    model = net()
    model.register_buffer("limits", torch.full((2,), float(value)))
    load_weights(model, model.state_dict(), "w.pth")
