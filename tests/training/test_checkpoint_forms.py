"""Checkpoints as other people's scripts leave them: what can't be used in one line, and what is found in them."""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from secateur.pruners.errors import CheckpointError
from secateur.training.fit import load_checkpoint, load_weights

State = dict[str, Tensor]


def net(seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Sequential(nn.Conv2d(4, 5, 1)))


def put(front: str, state: State) -> State:
    return {front + k: v for k, v in state.items()}


def loaded(content: object, folder: Path) -> tuple[nn.Module, str]:
    """A network with the weights in the file, and what was said of them."""
    torch.save(content, folder / "w.pth")
    target = net(7)
    checkpoint = load_checkpoint(folder / "w.pth", target)
    load_weights(target, checkpoint.model, "w.pth")
    return target, checkpoint.told


# -- refusals


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
            "the names are taken without 'model.', 1 other tensors are left out",
        ),
        (
            lambda s: {**put("ema.", net(3).state_dict()), **put("model.", s)},
            "the names are taken without 'model.', 9 other tensors are left out",
        ),
        (lambda s: {"model_ema": net(3).state_dict(), "model": s}, ""),
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
