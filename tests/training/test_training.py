"""Checkpoints, regimes and training: what is refused, what is kept, and that a resumed run is the same run."""

from __future__ import annotations

import math
import os
import random
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from training_runs import SHORT, InterruptAt, Net, comparable, new_net, same_state

from secateur.pruners.errors import CheckpointError, Interrupted, OutputError, UsageError
from secateur.training.binarization.kinds import KINDS
from secateur.training.data import Data, load_data, number_of_steps
from secateur.training.fit import (
    RichProgress,
    evaluate,
    find_regime,
    fit,
    load_checkpoint,
    load_weights,
    regime_for,
    resolve_device,
    save_weights,
)
from secateur.training.fit.checkpoints import save_atomically
from secateur.training.fit.progress import LineProgress
from secateur.training.fit.regimes import REGIMES, Regime


@pytest.fixture(scope="module")
def digits() -> Data:
    return load_data("digits")


# ---- checkpoints


def test_a_missing_checkpoint_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"there is no checkpoint .*none.pt"):
        load_checkpoint(tmp_path / "none.pt")


def test_a_pickled_model_is_refused_with_what_to_do(tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    torch.save(Net(), path)
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(path)
    assert str(caught.value).startswith(f"refused: {path} holds a whole pickled network (")
    assert str(caught.value).endswith(
        "load it and save the weights alone, torch.save(model.state_dict(), 'weights.pth')"
    )


@pytest.mark.parametrize(
    ("content", "message"),
    [
        pytest.param(torch.zeros(2), r"holds a Tensor, not a state_dict", id="a lone tensor"),
        pytest.param({}, r"holds no weights", id="nothing"),
        pytest.param({"a": 1}, r"is not a state_dict: 'a' is a int; save the state_dict with torch.save", id="numbers"),
        pytest.param({"model": {"a": [1]}}, r"is not a state_dict: 'a' is a list", id="a model of lists"),
    ],
)
def test_what_is_not_a_state_dict_is_refused(content: object, message: str, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "x.pt")
    with pytest.raises(CheckpointError, match=message):
        load_checkpoint(tmp_path / "x.pt")


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"", id="an empty file"),
        pytest.param(b"not a checkpoint at all", id="text"),
        pytest.param(b"PK\x03\x04 cut off", id="a torn zip file"),
    ],
)
def test_a_damaged_file_is_refused_in_one_line(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "x.pt").write_bytes(content)
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(tmp_path / "x.pt")
    assert "x.pt" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"is a folder: name the checkpoint file in it"):
        load_checkpoint(tmp_path)


def change(name: str, value: Tensor | None) -> dict[str, Tensor]:
    state = dict(Net().state_dict())
    if value is None:
        del state[name]
    else:
        state[name] = value
    return state


@pytest.mark.parametrize(
    ("state", "message"),
    [
        pytest.param(
            change("fc.bias", None), "w.pt doesn't fit this network: it lacks fc.bias", id="a missing key is named"
        ),
        pytest.param(
            change("fc2.bias", torch.zeros(1)),
            "w.pt doesn't fit this network: the network has no fc2.bias",
            id="an unexpected key is named",
        ),
        pytest.param(
            {"x": torch.zeros(1)},
            "w.pt doesn't fit this network: it lacks conv.weight, bn.weight, bn.bias and 5 more; the network has no x",
            id="of many keys the first are named",
        ),
        pytest.param(
            change("fc.weight", torch.zeros(100, 128)),
            "w.pt doesn't fit this network: fc.weight is 100x128 there and 10x128 in the network",
            id="both shapes are named",
        ),
        pytest.param(
            change("fc.bias", torch.tensor([math.nan] * 10)),
            "w.pt can't be used: fc.bias holds NaN or infinite values; train it again",
            id="the first tensor with NaN is named",
        ),
    ],
)
def test_weights_that_do_not_fit_are_refused(state: dict[str, Tensor], message: str) -> None:
    model = new_net()
    before = new_net()
    with pytest.raises(CheckpointError) as caught:
        load_weights(model, state, "w.pt")
    assert str(caught.value) == message
    assert same_state(model, before)


def test_a_folder_that_can_not_be_made_is_an_output_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match=r"x.pt can't be written: "):
        save_atomically({}, tmp_path / "file" / "x.pt")


def test_a_full_disk_leaves_the_old_file_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x.pt"
    save_atomically({"a": torch.ones(1)}, path)

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OutputError) as caught:
        save_atomically({"a": torch.zeros(1)}, path)
    assert str(caught.value) == f"{path} can't be written: No space left on device"
    assert os.listdir(tmp_path) == ["x.pt"]
    assert load_checkpoint(path).model["a"].item() == 1


@pytest.mark.parametrize(
    "wrap",
    [
        pytest.param(lambda state: state, id="a bare state_dict"),
        pytest.param(lambda state: {"state_dict": state, "epoch": 3}, id="under state_dict"),
        pytest.param(
            lambda state: {"state_dict": {f"module.{k}": v for k, v in state.items()}}, id="saved from DataParallel"
        ),
        pytest.param(
            lambda state: {"model": state, "optimizer": {"state": {}}, "epoch": 3}, id="a training checkpoint"
        ),
    ],
)
def test_every_form_of_checkpoint_loads(wrap: Callable[[dict[str, Tensor]], dict[str, Any]], tmp_path: Path) -> None:
    source, target = new_net(1), new_net(2)
    torch.save(wrap(dict(source.state_dict())), tmp_path / "x.pt")
    load_weights(target, load_checkpoint(tmp_path / "x.pt").model, "x.pt")
    assert same_state(source, target)


def test_saved_weights_are_a_plain_state_dict(tmp_path: Path) -> None:
    source, target = new_net(1), new_net(2)
    save_weights(source, tmp_path / "deep" / "w.pth")
    target.load_state_dict(torch.load(tmp_path / "deep" / "w.pth", weights_only=True))
    assert same_state(source, target)


# ---- regimes


def test_an_unknown_regime_is_refused_with_the_closest_name() -> None:
    with pytest.raises(UsageError, match=r"unknown regime 'resnet_cifer', did you mean 'resnet_cifar'\?"):
        find_regime("resnet_cifer", "train")


@pytest.mark.parametrize(
    ("epoch", "rate"), [(0, 5e-3), (100, 5e-3), (101, 1e-3), (142, 5e-4), (183, 5e-4), (184, 1e-4), (999, 1e-5)]
)
def test_a_setting_stays_until_the_next_change(epoch: int, rate: float) -> None:
    assert find_regime("resnet_cifar", "train").settings(epoch)["lr"] == rate


def test_settings_not_mentioned_in_a_change_stay() -> None:
    regime = Regime("r", "sgd", {0: {"lr": 1.0, "momentum": 0.5}, 2: {"lr": 0.1}})
    optimizer = regime.build(Net())
    regime.apply(optimizer, at=3, epochs=6)
    assert (optimizer.param_groups[0]["lr"], optimizer.param_groups[0]["momentum"]) == (0.1, 0.5)


@pytest.mark.parametrize(
    ("shape", "expected"),
    [("constant", [1, 1, 1, 1]), ("cosine", [1, 0.75, 0.5, 0]), ("one_cycle", [0, 1, 0.853, 0])],
)
def test_the_shapes_of_the_learning_rate(shape: Any, expected: list[float]) -> None:
    regime = Regime("r", "sgd", {0: {"lr": 1.0}}, shape=shape, warm_up=1 / 3)
    assert [regime.factor(done) for done in (0.0, 1 / 3, 0.5, 1.0)] == pytest.approx(expected, abs=1e-3)


@pytest.mark.parametrize("name", REGIMES)
@pytest.mark.parametrize("purpose", ["train", "retrain"])
def test_every_regime_builds_its_optimizer(name: str, purpose: Any) -> None:
    regime = find_regime(name, purpose)
    optimizer = regime.build(Net())
    regime.apply(optimizer, at=regime.epochs, epochs=regime.epochs)
    assert optimizer.param_groups[0]["lr"] >= 0


def test_networks_without_batch_norm_get_a_lower_rate() -> None:
    rates = {arch: regime_for(arch, "digits", "train").settings(0)["lr"] for arch in ("resnet20", "lenet5", "a_file")}
    assert rates == {"resnet20": 0.1, "lenet5": 0.02, "a_file": 0.1}


# ---- measuring


def test_an_unknown_device_is_refused() -> None:
    with pytest.raises(UsageError, match="device 'warp' can't be used here: take auto or cpu"):
        resolve_device("warp")


def test_scores_are_the_means_over_all_images(digits: Data) -> None:
    model = new_net().eval()
    images, labels = next(digits.test.batches(360))
    with torch.no_grad():
        logits = model(images)
    score = evaluate(model, digits.test, batch_size=100)
    assert score.loss == pytest.approx(nn.functional.cross_entropy(logits, labels).item(), rel=1e-4)
    assert score.top1 == pytest.approx((logits.argmax(1) == labels).float().mean().item())
    ranks = logits.argsort(dim=1, descending=True)
    assert score.top5 == pytest.approx((ranks[:, :5] == labels[:, None]).any(1).float().mean().item())


@pytest.mark.parametrize("training", [True, False])
def test_measuring_leaves_the_model_as_it_was(training: bool, digits: Data) -> None:
    model = new_net().train(training)
    evaluate(model, digits.val)
    assert model.training is training
    assert same_state(model, new_net())


# ---- training


def test_training_learns_and_keeps_the_best_epoch(digits: Data) -> None:
    model = new_net()
    result = fit(model, digits, SHORT, 12)
    assert result.best.val.top1 > 0.85
    assert result.best.val == max((e.val for e in result.history), key=lambda score: (score.top1, -score.loss))
    assert evaluate(model, digits.val) == result.best.val
    assert [epoch.number for epoch in result.history] == list(range(1, 13))
    assert result.stopped == ""


def test_training_never_makes_a_network_worse(digits: Data) -> None:
    model = new_net()
    before = fit(model, digits, SHORT, 3).best.val
    ruinous = Regime("ruinous", "sgd", {0: {"lr": 50.0}}, batch_size=256)
    result = fit(model, digits, ruinous, 1)
    assert result.best.number == 0
    assert evaluate(model, digits.val) == before


def test_training_leaves_the_random_state_and_the_mode_of_the_caller_alone(digits: Data) -> None:
    model = new_net().eval()
    state = torch.random.get_rng_state()
    fit(model, digits, SHORT, 1)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert not model.training


def test_the_same_seed_gives_the_same_weights_and_another_seed_others(digits: Data) -> None:
    models = []
    for noise, seed in ((1, 7), (2, 7), (3, 8)):
        model = new_net()
        torch.manual_seed(noise)
        fit(model, digits, SHORT, 2, seed=seed)
        models.append(model)
    assert same_state(models[0], models[1])
    assert not same_state(models[0], models[2])


@pytest.mark.parametrize(
    "step",
    [
        pytest.param(2, id="in the middle of the first epoch"),
        pytest.param(4, id="at the end of an epoch"),
        pytest.param(7, id="in the middle of the second epoch"),
        pytest.param(12, id="at the very last step"),
    ],
)
def test_an_interrupted_and_resumed_run_equals_an_uninterrupted_one(step: int, digits: Data, tmp_path: Path) -> None:
    whole = new_net()
    expected = fit(whole, digits, SHORT, 3)

    path = tmp_path / "run.pt"
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(Interrupted, match=r"interrupted in epoch \d of 3: everything so far is in .*run.pt"):
        fit(new_net(), digits, SHORT, 3, checkpoint_path=path, progress=InterruptAt(step))
    assert signal.getsignal(signal.SIGINT) is before

    random.seed(step)
    torch.manual_seed(step)
    resumed = new_net(seed=99)
    result = fit(resumed, digits, SHORT, 3, checkpoint_path=path, resume=True)
    assert same_state(whole, resumed)
    assert comparable(result) == comparable(expected)


def test_a_polite_request_to_end_is_as_good_as_ctrl_c(digits: Data, tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(Interrupted, match="everything so far is in"):
        fit(new_net(), digits, SHORT, 3, checkpoint_path=tmp_path / "run.pt", progress=InterruptAt(2, signal.SIGTERM))
    assert signal.getsignal(signal.SIGTERM) is before
    assert load_checkpoint(tmp_path / "run.pt").training["step"] == 2


def test_a_second_ctrl_c_ends_at_once_and_the_last_epoch_is_kept(digits: Data, tmp_path: Path) -> None:
    class Impatient(InterruptAt):
        def advance(self, steps: int = 1, status: str = "") -> None:
            super().advance(steps, status)
            if steps and self.left == 0:
                os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        fit(new_net(), digits, SHORT, 3, checkpoint_path=tmp_path / "run.pt", progress=Impatient(6))
    whole, resumed = new_net(), new_net(9)
    fit(whole, digits, SHORT, 3)
    fit(resumed, digits, SHORT, 3, checkpoint_path=tmp_path / "run.pt", resume=True)
    assert same_state(whole, resumed)


def test_resuming_a_finished_run_gives_its_result_again(digits: Data, tmp_path: Path) -> None:
    model, again = new_net(), new_net(99)
    first = fit(model, digits, SHORT, 2, checkpoint_path=tmp_path / "run.pt")
    second = fit(again, digits, SHORT, 2, checkpoint_path=tmp_path / "run.pt", resume=True)
    assert comparable(first) == comparable(second)
    assert same_state(model, again)


def test_an_interrupt_without_a_checkpoint_says_that_nothing_is_kept(digits: Data) -> None:
    with pytest.raises(Interrupted, match="interrupted in epoch 1 of 3: this training is not kept"):
        fit(new_net(), digits, SHORT, 3, progress=InterruptAt(1))


def test_a_checkpoint_of_another_run_is_refused(digits: Data, tmp_path: Path) -> None:
    path = tmp_path / "run.pt"
    fit(new_net(), digits, SHORT, 1, checkpoint_path=path)
    with pytest.raises(CheckpointError) as caught:
        fit(new_net(), digits, SHORT, 2, checkpoint_path=path, resume=True)
    assert str(caught.value) == (
        f"{path} is of another run: its epochs is 1, now it is 2; give the options of that run to go on with it, "
        "or remove the file to begin anew"
    )


def test_weights_alone_can_not_be_resumed(digits: Data, tmp_path: Path) -> None:
    save_weights(new_net(), tmp_path / "w.pth")
    with pytest.raises(CheckpointError, match="holds weights only, no training to resume"):
        fit(new_net(), digits, SHORT, 1, checkpoint_path=tmp_path / "w.pth", resume=True)


def test_a_loss_that_is_not_finite_stops_and_keeps_the_last_good_weights(digits: Data) -> None:
    class Poisoned(Net):
        """Its outputs are NaN from the 7th training step on."""

        steps = 0

        def forward(self, x: Tensor) -> Tensor:
            self.steps += self.training
            return super().forward(x) * (math.nan if self.training and self.steps >= 7 else 1.0)

    torch.manual_seed(0)
    model = Poisoned()
    result = fit(model, digits, SHORT, 3)
    assert result.stopped.startswith("training stopped: the loss became nan in epoch 2, step 3 of 4 (learning rate 0.")
    assert result.stopped.endswith("the weights of epoch 1 are kept; try a lower learning rate")
    assert evaluate(model, digits.val) == result.best.val == result.history[0].val


def test_a_last_step_that_goes_too_far_is_no_good_epoch(digits: Data) -> None:
    class Poisoned(Net):
        """Its outputs are NaN when it is measured after the first epoch."""

        steps = 0

        def forward(self, x: Tensor) -> Tensor:
            self.steps += self.training
            return super().forward(x) * (math.nan if not self.training and self.steps == 4 else 1.0)

    torch.manual_seed(0)
    model = Poisoned()
    result = fit(model, digits, SHORT, 3)
    assert result.stopped.startswith("training stopped: the validation loss became nan after epoch 1, step 4 of 4 (")
    assert result.stopped.endswith("the weights it began with are kept; try a lower learning rate")
    assert (result.best.number, result.history) == (0, ())


def test_the_retraining_a_search_asks_for_repeats_itself(digits: Data) -> None:
    one, two = new_net(), new_net()
    fit(one, digits, SHORT, 1)
    fit(two, digits, SHORT, 1)
    assert same_state(one, two)
    assert not same_state(one, new_net())


# ---- progress


def test_bars_nest_and_print_to_stderr_only(capfd: pytest.CaptureFixture[str]) -> None:
    with RichProgress() as progress:
        progress.start(2, "search")
        progress.start(3, "retraining")
        progress.advance(3, "loss 0.1")
        progress.finish()
        progress.advance(1)
        progress.log("a new best")
        progress.finish()
    out, err = capfd.readouterr()
    assert out == ""
    assert "a new best" in err
    assert "search" in err


def test_lines_say_how_far_and_how_long(capfd: pytest.CaptureFixture[str]) -> None:
    with LineProgress(seconds=0.0) as progress:
        progress.start(4, "training")
        progress.advance(4, "loss 0.1")
        progress.finish()
    assert capfd.readouterr() == ("", "training: 4/4, ETA 0:00, loss 0.1\n")


# ---- kinds of networks


class Diary:
    """Notes when it is called."""

    def __init__(self) -> None:
        self.steps = 0
        self.epochs: list[float] = []

    def after_step(self, model: nn.Module) -> None:
        self.steps += 1

    def at_epoch(self, model: nn.Module, done: float) -> None:
        self.epochs.append(done)


def test_what_a_kind_wants_is_done_after_every_step_and_before_every_epoch(digits: Data) -> None:
    diary = Diary()
    fit(new_net(), digits, SHORT, 4, upkeep=diary)
    assert diary.epochs == [0.0, 0.25, 0.5, 0.75]
    assert diary.steps == 4 * number_of_steps(len(digits.train), SHORT.batch_size)


@pytest.mark.parametrize("kind", ["IRNet", "BinaryConnect"])
def test_a_resumed_run_of_a_kind_equals_an_uninterrupted_one(kind: str, digits: Data, tmp_path: Path) -> None:
    """Schedules are functions of the epoch, drawn signs of the step."""
    chosen = KINDS[kind].with_options(**({"stochastic": True} if kind == "BinaryConnect" else {}))

    def net(seed: int) -> nn.Module:
        torch.manual_seed(seed)
        return nn.Sequential(
            nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), chosen.conv(8, 8, 3), nn.BatchNorm2d(8), nn.Flatten(),
            nn.Linear(8 * 16, 10),
        )  # fmt: skip

    whole, resumed = net(0), net(9)
    expected = fit(whole, digits, SHORT, 3, upkeep=chosen)
    path = tmp_path / "run.pt"
    with pytest.raises(Interrupted):
        fit(net(0), digits, SHORT, 3, checkpoint_path=path, progress=InterruptAt(7), upkeep=chosen)
    result = fit(resumed, digits, SHORT, 3, checkpoint_path=path, resume=True, upkeep=chosen)
    assert comparable(result) == comparable(expected)
    assert same_state(whole, resumed)
    if kind == "BinaryConnect":
        assert resumed[2].weight.abs().max() <= 1
