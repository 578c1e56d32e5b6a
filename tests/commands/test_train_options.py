"""The options of ``train``: what is refused, what each one changes, and what is written beside the weights."""

from __future__ import annotations

import csv
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from app_helpers import MODEL, app, refusal
from torch import Tensor, nn
from training_runs import SHORT, InterruptAt, comparable, new_net, same_state

from secateur.pruners.errors import Interrupted, OutOfMemory
from secateur.training.binarization import soft_orthogonality
from secateur.training.binarization.kinds import KINDS
from secateur.training.data import Data, load_data
from secateur.training.fit import Execution, Regime, evaluate, find_regime, fit, regime_for, trainer
from secateur.training.fit.objective import square_hinge
from secateur.training.fit.regimes import REGIMES

ROOT = Path(__file__).parents[2]
TRAIN = ("train", "--model", "own_small.py:small", "--data", "digits", "-o", "w.pt")


@pytest.fixture(scope="module")
def digits() -> Data:
    return load_data("digits")


# -- refusals


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        pytest.param(
            ["--amp", "bf16", "--half"],
            "error: --amp keeps weights in 32 bits, --half does not: give one of them",
            id="two precisions",
        ),
        pytest.param(
            ["--amp", "fp16", "--device", "cpu"],
            "error: --amp fp16 needs a GPU: take --amp bf16",
            id="fp16 without a GPU",
        ),
        pytest.param(
            ["--half", "--optimizer", "adam"],
            "error: --half leaves Adam's moments no room: add --optimizer sgd, or take --amp bf16",
            id="Adam in 16 bits",
        ),
        pytest.param(
            ["--warm-up", "3"],
            "error: --warm-up 3: must be less than the 3 epochs of the training",
            id="a warm-up as long as the training",
        ),
        pytest.param(
            ["--loss", "square_hinge", "--label-smoothing", "0.1"],
            "error: --label-smoothing is for the cross entropy: add --loss cross_entropy",
            id="smoothing of margins",
        ),
        pytest.param(
            ["--batch-size", "2", "--accumulate", "4"],
            "error: a step of 2 images can't be shared by 4 passes: raise --batch-size",
            id="more passes than images",
        ),
    ],
)
def test_options_that_do_not_fit_together_are_refused(here: Path, arguments: list[str], message: str) -> None:
    assert refusal(*TRAIN, "--epochs", "3", "-q", *arguments) == (2, message)
    assert not (here / "w.pt").exists()


@pytest.mark.parametrize(
    "arguments",
    [("--lr", "0"), ("--batch-size", "0"), ("--label-smoothing", "1"), ("--amp", "fp8"), ("--workers", "-1")],
)
def test_values_out_of_range_are_refused(here: Path, arguments: tuple[str, str]) -> None:
    code, said = refusal(*TRAIN, *arguments)
    assert code == 2
    assert re.search(rf"Invalid value for .*'{arguments[0]}'", said)


def test_tensorboard_is_asked_for_by_name_where_it_is_missing(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    code, said = refusal(*TRAIN, "-q", "--tensorboard")
    assert (code, said) == (2, "error: --tensorboard needs a package: pip install -e '.[tensorboard]'")


def test_several_processes_can_only_train(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    code, said = refusal("prune", *MODEL, "--ratio", "0.5")
    assert code == 2
    assert "torchrun shares the work of train only: start prune with python" in said


def test_a_loss_that_is_no_number_ends_the_training_with_what_to_lower(here: Path) -> None:
    result = app(*TRAIN, "-q", "--epochs", "2", "--lr", "1e30")
    assert result.exit_code == 1
    assert result.stderr.startswith("error[SEC406]: training stopped: the loss became ")
    assert " in epoch 1, step " in result.stderr
    assert result.stderr.strip().endswith(
        "the weights it began with are kept; try a lower learning rate (--lr), or warm up longer (--warm-up)"
    )
    assert not (here / "w.pt").exists()


OUT_OF_MEMORY = [
    pytest.param(torch.OutOfMemoryError("CUDA out of memory"), id="of a GPU"),
    pytest.param(RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 9 bytes."), id="of torch"),
    pytest.param(MemoryError(), id="of Python"),
]


@pytest.mark.parametrize("error", OUT_OF_MEMORY)
def test_too_little_memory_is_told_with_what_to_lower(error: Exception, digits: Data, tmp_path: Path) -> None:
    class Greedy(nn.Flatten):
        passes = 0

        def forward(self, x: Tensor) -> Tensor:
            self.passes += self.training
            if self.passes == 6:
                raise error
            return super().forward(x)

    model = nn.Sequential(Greedy(), nn.Linear(64, 10))
    path = tmp_path / "run.pt"
    with pytest.raises(OutOfMemory) as caught:
        fit(model, digits, SHORT, 3, checkpoint_path=path)
    assert str(caught.value) == (
        "out of memory in epoch 2, step 2 of 4, with 256 images a step: "
        "train with a larger --accumulate (--resume goes on) or a smaller --batch-size"
    )
    result = fit(model, digits, SHORT, 3, checkpoint_path=path, resume=True, execution=Execution(accumulate=2))
    assert len(result.history) == 3


def test_other_errors_are_not_taken_for_a_lack_of_memory(digits: Data) -> None:
    with pytest.raises(RuntimeError, match="mat1 and mat2"):
        fit(nn.Sequential(nn.Flatten(), nn.Linear(63, 10)), digits, SHORT, 1)


# -- regimes


def test_a_regime_says_where_it_comes_from() -> None:
    assert all(regime.source for purposes in REGIMES.values() for regime in purposes.values())


@pytest.mark.parametrize(
    ("name", "rates"),
    [
        pytest.param("irnet_vgg_small", {0: 0.007, 150: 0.0035, 299: 0}, id="a cosine to nothing"),
        pytest.param("ienet", {0: 0.02, 3: 0.08, 4: 0.1, 202: 0.05}, id="five epochs up, then a cosine"),
        pytest.param("irnet_imagenet", {0: 0.2, 1: 0.4, 3: 0.8, 29: 0.8, 30: 0.08, 90: 0.0008}, id="up, then steps"),
        pytest.param("xnor_lenet5", {0: 0.01, 14: 0.01, 15: 0.001, 30: 1e-4, 59: 1e-5}, id="tenths"),
        pytest.param("binaryconnect", {0: 3e-3, 250: (3e-3 * 2e-6) ** 0.5}, id="exponential"),
    ],
)
def test_the_rates_of_the_recipes(name: str, rates: dict[int, float]) -> None:
    regime = find_regime(name, "train")
    assert {e: regime.rate(e, regime.epochs) for e in rates} == pytest.approx(rates, rel=1e-6, abs=1e-6)


def test_a_shorter_training_takes_the_same_steps_earlier() -> None:
    regime = find_regime("xnor_lenet5", "train").lasting(8)
    assert [regime.settings(e)["lr"] for e in range(0, 8, 2)] == pytest.approx([1e-2, 1e-3, 1e-4, 1e-5])
    assert [regime.settings(e)["lr"] for e in range(1, 8, 2)] == pytest.approx([1e-2, 1e-3, 1e-4, 1e-5])
    assert regime.lasting(8) == regime


@pytest.mark.parametrize(
    ("arch", "data", "kind", "name"),
    [
        ("resnet20", "cifar10", "Real", "normalised"),
        ("resnet20", "cifar10", "", "normalised"),
        ("resnet20_binary", "cifar10", "IRNet", "irnet_resnet"),
        ("resnet20_binary", "cifar10", "IENet", "ienet"),
        ("vgg_small", "cifar10", "IRNet", "irnet_vgg_small"),
        ("vgg11_binary", "cifar100", "BinaryNet", "vgg11"),
        ("resnet14_binary", "cifar10", "DoReFa", "resnet_cifar"),
        ("lenet5_binary", "mnist", "XnorNet", "xnor_lenet5"),
        ("lenet5_binary", "digits", "XnorNet", "binary"),
        ("resnet20_binary", "digits", "XnorNet", "binary_narrow"),
        ("resnet20_binary", "digits", "IENet", "ienet_narrow"),
        ("nin_binary", "cifar10", "XnorNet", "xnor_nin"),
        ("vgg_small", "cifar10", "BinaryConnect", "binaryconnect"),
        ("vgg11_binary", "cifar10", "BinaryConnect", "vgg11"),
        ("resnet18_binary", "imagenet", "IRNet", "irnet_imagenet"),
        ("resnet18_binary", "imagenet", "DoReFa", "resnet_imagenet"),
    ],
)
def test_which_regime_a_network_gets(arch: str, data: str, kind: str, name: str) -> None:
    assert regime_for(arch, data, "train", kind).name == name


@pytest.mark.parametrize(
    ("arch", "data", "epochs"),
    [("resnet20_binary", "digits", 40), ("resnet18_binary", "digits", 6), ("resnet18_binary", "minicifar", 60)],
)
def test_wide_networks_train_shortly_on_tiny_images(arch: str, data: str, epochs: int) -> None:
    assert regime_for(arch, data, "train", "XnorNet").epochs == epochs


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        pytest.param({"lr": 0.001}, {0: 0.001, 20: 0.0001}, id="a rate keeps the others in proportion"),
        pytest.param({"optimizer": "adam"}, {0: 0.001, 20: 0.0001}, id="the other optimizer has a rate of its own"),
        pytest.param({"optimizer": "adam", "lr": 0.01}, {0: 0.01, 20: 0.001}, id="unless one is given"),
        pytest.param({"optimizer": "sgd"}, {0: 0.1, 20: 0.01}, id="the same optimizer changes nothing"),
        pytest.param({"warm_up": 4}, {0: 0.025, 2: 0.075, 3: 0.1, 20: 0.01}, id="a warm-up"),
    ],
)
def test_a_regime_is_adjusted(options: dict[str, Any], expected: dict[int, float]) -> None:
    changes = {0: {"lr": 0.1, "momentum": 0.9}, 20: {"lr": 0.01}}
    regime = Regime("r", "sgd", changes, options={"nesterov": True}).adjusted(**options)
    assert {e: regime.rate(e, 30) for e in expected} == pytest.approx(expected)
    optimizer = regime.build(new_net())
    regime.apply(optimizer, 1.5, 30)
    assert type(optimizer).__name__.lower() == options.get("optimizer", "sgd")


def test_the_shortest_training_begins_with_the_first_rate_and_warms_up_in_proportion() -> None:
    assert find_regime("xnor_lenet5", "train").lasting(1).settings(0)["lr"] == 0.01
    assert find_regime("ienet", "train").lasting(80).warm_up_epochs == 1
    assert find_regime("ienet", "train").lasting(20).rate(0, 20) == pytest.approx(0.1)


def test_the_square_hinge_by_hand() -> None:
    scores, labels = torch.tensor([[2.0, 0.5], [0.0, 0.0]]), torch.tensor([0, 1])
    # margins 1 - t s: of the first image -1 and 1.5, of the second 1 and 1
    assert square_hinge(scores, labels).item() == pytest.approx((0 + 1.5**2 + 1 + 1) / 4)


@pytest.mark.parametrize(("optimizer", "power"), [("adam", 1), ("sgd", 2)])
def test_latent_weights_take_longer_steps_by_glorots_range(optimizer: Any, power: int) -> None:
    conv = KINDS["BinaryConnect"].conv(2, 4, 3)
    model = nn.Sequential(conv, nn.Flatten(), nn.Linear(4, 10))
    regime = Regime("r", optimizer, {0: {"lr": 0.1}}, glorot=True)
    made = regime.build(model)
    regime.apply(made, 0, 1)
    scale = ((2 * 9 + 4 * 9) / 1.5) ** 0.5  # sqrt((fan in + fan out) / 1.5)
    assert [group["lr"] for group in made.param_groups] == pytest.approx([0.1 * scale**power, 0.1])
    assert [p for group in made.param_groups for p in group["params"]] == list(model.parameters())


def test_binaryconnect_trains_as_its_authors_did(digits: Data, tmp_path: Path) -> None:
    kind = KINDS["BinaryConnect"]

    def net(seed: int) -> nn.Module:
        torch.manual_seed(seed)
        return nn.Sequential(nn.Flatten(), kind.linear(64, 100), nn.BatchNorm1d(100), nn.ReLU(), kind.linear(100, 10),
                             nn.BatchNorm1d(10))  # fmt: skip

    whole, resumed, path = net(0), net(9), tmp_path / "run.pt"
    regime = find_regime("binaryconnect", "train").lasting(3)
    expected = fit(whole, digits, regime, 3, upkeep=kind)
    assert expected.best.val.top1 > 0.7
    assert expected.history[0].lr == pytest.approx(3e-3 * (2e-6 / 3e-3) ** (20 / 63))
    with pytest.raises(Interrupted):
        fit(net(0), digits, regime, 3, upkeep=kind, checkpoint_path=path, progress=InterruptAt(30))
    result = fit(resumed, digits, regime, 3, upkeep=kind, checkpoint_path=path, resume=True)
    assert comparable(result) == comparable(expected)
    assert same_state(whole, resumed)


def test_a_warm_up_of_one_cycle_is_its_rise() -> None:
    regime = find_regime("normalised", "train").adjusted(warm_up=10)
    assert [regime.rate(e, 40) for e in (0, 5, 10)] == pytest.approx([0, 0.05, 0.1])
    assert regime.adjusted(warm_up=0).rate(0, 40) == pytest.approx(0.1)


# -- how steps are taken


def test_a_step_in_passes_is_the_same_step(digits: Data) -> None:
    def net() -> nn.Module:
        torch.manual_seed(0)
        return nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.Tanh(), nn.Linear(32, 10))  # no batch norm

    one, four = net(), net()
    first, second = fit(one, digits, SHORT, 2), fit(four, digits, SHORT, 2, execution=Execution(accumulate=4))
    for a, b in zip(one.state_dict().values(), four.state_dict().values(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)
    assert [e.train_loss for e in first.history] == pytest.approx([e.train_loss for e in second.history], rel=1e-4)


@pytest.mark.parametrize("execution", [Execution(amp="bf16"), Execution(half=True)], ids=["amp", "half"])
def test_less_precision_still_learns_and_leaves_32_bits(execution: Execution, digits: Data) -> None:
    model = new_net()
    result = fit(model, digits, SHORT, 3, execution=execution)
    assert result.best.val.top1 > 0.3
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    assert evaluate(model, digits.val).top1 == pytest.approx(result.best.val.top1, abs=0.02)


@pytest.mark.parametrize(
    "execution",
    [Execution(accumulate=2), Execution(amp="bf16")],
    ids=["in passes", "in mixed precision"],
)
def test_a_resumed_run_equals_an_uninterrupted_one(execution: Execution, digits: Data, tmp_path: Path) -> None:
    whole, resumed, path = new_net(), new_net(9), tmp_path / "run.pt"
    expected = fit(whole, digits, SHORT, 3, execution=execution)
    with pytest.raises(Interrupted):
        fit(new_net(), digits, SHORT, 3, checkpoint_path=path, progress=InterruptAt(6), execution=execution)
    result = fit(resumed, digits, SHORT, 3, checkpoint_path=path, resume=True, execution=execution)
    assert comparable(result) == comparable(expected)
    assert same_state(whole, resumed)


def test_checkpoints_are_as_rare_as_asked_for(digits: Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    saved: list[int] = []
    monkeypatch.setattr(trainer, "save_atomically", lambda content, path: saved.append(content["epoch"]))
    fit(new_net(), digits, SHORT, 5, checkpoint_path=tmp_path / "run.pt", save_every=2)
    assert saved == [2, 4, 5]


def test_soft_orthogonality_takes_part_in_the_loss(digits: Data) -> None:
    plain, weighed = new_net(), new_net()
    fit(plain, digits, SHORT, 2)
    result = fit(weighed, digits, SHORT.adjusted(beta=0.5), 2)
    assert soft_orthogonality(weighed) < soft_orthogonality(plain)
    assert result.history[0].train_loss > fit(new_net(), digits, SHORT, 1).history[0].train_loss


# -- what is written


def test_the_curve_lies_beside_the_weights(here: Path) -> None:
    result = app(*TRAIN, "--epochs", "3", "--json", "-q", "--optimizer", "adam", "--label-smoothing", "0.1")
    values = json.loads(result.stdout)
    rows = [json.loads(line) for line in (here / "w.curve.jsonl").read_text().splitlines()]
    assert list(rows[0]) == ["epoch", "lr", "train_loss", "val_loss", "val_top1", "seconds"]
    assert [row["epoch"] for row in rows] == [1, 2, 3]
    assert max(row["val_top1"] for row in rows) == pytest.approx(values["accuracy"]["validation"])
    table = list(csv.DictReader((here / "w.curve.csv").read_text().splitlines()))
    assert [{k: float(v) for k, v in row.items()} for row in table] == rows


def test_the_last_checkpoint_stays_with_the_optimizers_state(here: Path) -> None:
    app(*TRAIN, "--epochs", "2", "-q")
    last = torch.load(here / "w.last.pt", weights_only=True)
    assert last["epoch"] == 2
    assert last["optimizer"]["state"]
    assert sorted(p.name for p in here.glob("*w.*")) == ["w.curve.csv", "w.curve.jsonl", "w.last.pt", "w.pt"]


def test_tensorboard_gets_every_epoch(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[tuple[str, int]] = []

    class Writer:
        def __init__(self, folder: str) -> None:
            assert folder == "w.tensorboard"

        def add_scalar(self, name: str, value: float, step: int) -> None:
            told.append((name, step))

        def flush(self) -> None:
            pass

    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", type(sys)("tensorboard"))
    monkeypatch.setattr(sys.modules["torch.utils.tensorboard"], "SummaryWriter", Writer, raising=False)
    assert app(*TRAIN, "--epochs", "2", "-q", "--tensorboard").exit_code == 0
    assert told == [(name, epoch) for epoch in (1, 2) for name in ("lr", "train_loss", "val_loss", "val_top1")]


# -- several processes

SHARED = """
import json, os, signal, sys
from pathlib import Path
import torch
from torch import nn
from secateur.pruners.errors import Interrupted
from secateur.training.data import load_data
from secateur.training.fit import Progress
from secateur.training.fit import Regime
from secateur.training.fit import fit

rank = int(os.environ["RANK"])
data, regime = load_data("digits"), Regime("r", "sgd", {0: {"lr": 0.1}}, batch_size=255)

class CtrlC(Progress):
    left = 6

    def advance(self, steps=1, status=""):
        self.left -= steps
        if rank == 1 and self.left == 0:
            os.kill(os.getpid(), signal.SIGINT)

torch.manual_seed(rank)
net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 10))
resume = sys.argv[1] == "resume"
try:
    progress = None if resume else CtrlC()
    result = fit(net, data, regime, 2, checkpoint_path=Path("run.pt"), resume=resume, progress=progress)
    told = [[e.train_loss, e.val.loss, e.val.top1, e.val.images] for e in result.history]
    told += [sum(p.double().sum().item() for p in net.state_dict().values())]
except Interrupted as stop:
    told = str(stop)
open(f"{sys.argv[1]}{rank}.json", "w").write(json.dumps(told))
"""
# started as torchrun starts it, but forked from a process that has everything imported
PAIRS = """
import os, runpy, socket, sys, traceback
import accelerate, sklearn.datasets, torch._dynamo, secateur.training.fit

for how in ("begin", "resume"):
    with socket.socket() as place:
        place.bind(("127.0.0.1", 0))
        port = str(place.getsockname()[1])
    pair = []
    for rank in "01":
        pair.append(os.fork())
        if pair[-1] == 0:
            known = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
            os.environ.update(known, RANK=rank, LOCAL_RANK=rank)
            sys.argv = ["shared.py", how]
            try:
                runpy.run_path("shared.py")
                os._exit(0)
            finally:
                traceback.print_exc()
                os._exit(1)
    assert [os.waitpid(child, 0)[1] for child in pair] == [0, 0]
"""


def python(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, *words], cwd=folder, env=env, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done


def test_two_processes_have_the_same_losses_and_weights(tmp_path: Path) -> None:
    (tmp_path / "shared.py").write_text(SHARED)
    python(tmp_path, "-c", PAIRS)

    def told(how: str) -> Any:
        first, second = (json.loads((tmp_path / f"{how}{rank}.json").read_text()) for rank in (0, 1))
        assert first == second
        return first

    assert told("begin").startswith("interrupted in epoch 2 of 2")  # Ctrl-C reached one of them
    whole = told("resume")
    assert whole[1][0] < whole[0][0]
    assert whole[0][3] == 360


def test_two_processes_train_and_one_writes(tmp_path: Path) -> None:
    torchrun = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
    done = python(tmp_path, *torchrun, str(ROOT / "app.py"), "train", "--arch", "lenet5", "--epochs", "1", "--json")
    assert json.loads(done.stdout)["epochs"] == 1
    assert done.stderr.count("trained weights are in") == 1
    assert len((tmp_path / "pretrained" / "model_digits_lenet5_Real.curve.jsonl").read_text().splitlines()) == 1
