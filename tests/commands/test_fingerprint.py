"""What tells one run from another: a run goes on only with what decides the same."""

from __future__ import annotations

import os
import signal
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from app_helpers import NETWORK, app, refusal

from secateur.commands.cli import WITHOUT_EFFECT, PruneOptions
from secateur.commands.network import network_from
from secateur.commands.prune import settings_from
from secateur.commands.pruning import PruneJob
from secateur.commands.pruning.watcher import SearchWatcher
from secateur.commands.show import Voice
from secateur.training.data import contents, load_data

OWN = PruneOptions(model="own_small.py:small", data="digits", macs=0.5, device="cpu")
RESNET = PruneOptions(arch="lenet5", data="digits", macs=0.5, device="cpu")
BINARY = PruneOptions(arch="resnet20", data="digits", macs=0.5, device="cpu", network="XnorNet")
HUB = PruneOptions(model="hf:tiny", macs=0.5, device="cpu")
MIXTURE = PruneOptions(model="hf:mixture", macs=0.5, device="cpu")

OTHERWISE: dict[str, tuple[PruneOptions, dict[str, Any]]] = {
    "seed": (OWN, {"seed": 1}),
    "device": (OWN, {"device": "meta"}),
    "arch": (RESNET, {"arch": "resnet20"}),
    "model": (OWN, {"model": "own_small.py:small_too"}),
    "model_arg": (OWN, {"model_arg": ("width=8",)}),
    "weights": (OWN, {"weights": Path("w.pth")}),
    "ema": (replace(OWN, weights=Path("averaged.pth")), {"ema": True}),
    "input_shape": (replace(OWN, data=None, input_shape=((1, 8, 8),)), {"input_shape": ((1, 9, 9),)}),
    "example": (replace(OWN, data=None, example="own_small.py:two"), {"example": "own_small.py:three"}),
    "data": (OWN, {"data": "digits+normalize=0.5/0.5"}),
    "network": (BINARY, {"network": "BinaryNet"}),
    "kind_arg": (replace(BINARY, network="DoReFa"), {"kind_arg": ("weight_bits=2",)}),
    "tie_declared": (OWN, {"tie_declared": True}),
    "first_layer": (BINARY, {"first_layer": "binary"}),
    "last_layer": (BINARY, {"last_layer": "binary"}),
    "init_from": (BINARY, {"init_from": Path("resnet.pth")}),
    "regime": (OWN, {"regime": "binary"}),
    "lr": (OWN, {"lr": 0.5}),
    "optimizer": (OWN, {"optimizer": "adam"}),
    "batch_size": (OWN, {"batch_size": 7}),
    "warm_up": (OWN, {"warm_up": 2}),
    "loss": (OWN, {"loss": "square_hinge"}),
    "label_smoothing": (OWN, {"label_smoothing": 0.1}),
    "beta": (OWN, {"beta": 1e-5}),
    "amp": (OWN, {"amp": "bf16"}),
    "half": (OWN, {"half": True}),
    "accumulate": (OWN, {"accumulate": 2}),
    "macs": (OWN, {"macs": 0.6}),
    "params": (OWN, {"macs": None, "params": 0.5}),
    "ratio": (OWN, {"macs": None, "ratio": 0.5}),
    "ratios": (replace(OWN, macs=None, ratio=0.5), {"ratios": (("conv1", 0.2),)}),
    "latency": (OWN, {"macs": None, "latency": 0.5}),
    "layers": (replace(OWN, model=None, arch="resnet20"), {"layers": 0.5}),
    "latency_batch": (replace(OWN, macs=None, latency=0.5), {"latency_batch": 2}),
    "alpha": (OWN, {"alpha": 3.0}),
    "mode": (OWN, {"mode": "zeroOut"}),
    "metric": (OWN, {"metric": "l2"}),
    "search": (OWN, {"search": "global"}),
    "direction": (OWN, {"direction": "top-down"}),
    "per": (replace(OWN, search="bayesian"), {"per": "stage"}),
    "transfer": (OWN, {"transfer": "bn"}),
    "calibration": (OWN, {"calibration": 100}),
    "heal": (replace(OWN, transfer="heal"), {"heal": 9.0}),
    "distill": (OWN, {"distill": 0.5}),
    "temperature": (replace(OWN, distill=0.5), {"temperature": 2.0}),
    "retrain_epochs": (OWN, {"retrain_epochs": 1}),
    "final_epochs": (OWN, {"final_epochs": 1}),
    "round_to": (OWN, {"round_to": 2}),
    "min_channels": (OWN, {"min_channels": 3}),
    "skip": (OWN, {"skip": ("conv2",)}),
    "stop_early": (OWN, {"stop_early": True}),
    "dtype": (HUB, {"dtype": "bfloat16"}),
    "attn": (HUB, {"attn": "eager"}),
    "residual": (HUB, {"residual": True}),
    "per_layer": (HUB, {"per_layer": True}),
    "experts": (MIXTURE, {"experts": 0.5}),
    "score": (OWN, {"score": "own_small.py:two"}),
    "score_seconds": (replace(OWN, score="own_small.py:two"), {"score_seconds": 3.0}),
}


def identity(options: PruneOptions) -> dict[str, Any]:
    """All that a ledger holds of the options."""
    settings = settings_from(options)
    with Voice(-1) as voice:
        job = PruneJob(options, settings, network_from(options, voice), None, voice)
    return {**settings.as_dict(), **job._fingerprint()}


@pytest.fixture
def networks(here: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    more = "\n\ndef small_too():\n    return Small()\n"
    more += "".join(
        f"\n\ndef {n}():\n    import torch\n    return torch.full((1, 1, 8, 8), {i})\n"
        for i, n in ((2.0, "two"), (3.0, "three"))
    )
    (here / "own_small.py").write_text(NETWORK + more)
    options = replace(OWN, seed=5)
    with Voice(-1) as voice:
        state = network_from(options, voice).model.state_dict()
        torch.save(state, "w.pth")
        torch.save({"model": state, "model_ema": {k: v * 2 for k, v in state.items()}}, "averaged.pth")
        torch.save(network_from(replace(BINARY, seed=6), voice).model.state_dict(), "resnet.pth")
    # any device will do to tell one from another
    monkeypatch.setattr("secateur.commands.pruning.job.resolve_device", torch.device)
    return here


def _tiny(kind: str, folder: Path) -> None:
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    config = getattr(transformers, f"{kind}Config")(
        hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8, vocab_size=20, eos_token_id=2,
        num_key_value_heads=2,
    )  # fmt: skip
    getattr(transformers, f"{kind}ForCausalLM")(config).save_pretrained(folder)


@pytest.fixture(scope="module")
def known() -> dict[PruneOptions, dict[str, Any]]:
    """The runs that others are compared with."""
    return {}


def test_no_option_is_forgotten():
    """A new option is a part of the fingerprint unless it is named as one that decides nothing."""
    names = {f.name for f in fields(PruneOptions)}
    assert names > WITHOUT_EFFECT
    assert set(OTHERWISE) == names - WITHOUT_EFFECT


@pytest.mark.parametrize("name", OTHERWISE)
def test_a_run_with_another_value_is_another_run(networks, known, name):
    options, changes = OTHERWISE[name]
    if options is HUB:
        _tiny("Llama", networks / "tiny")
    if options is MIXTURE:
        _tiny("Mixtral", networks / "mixture")
    if options not in known:
        known[options] = identity(options)
    assert known[options] != identity(replace(options, **changes))


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"verbose": 1, "json": True, "output": Path("x"), "resume": True}, id="how it is shown"),
        pytest.param({"workers": 0, "cache_gb": 0.0}, id="how fast it is"),
        pytest.param({"search": "sensitivity", "transfer": "lstsq", "metric": "l1"}, id="what is usual, in words"),
        pytest.param({"calibration": 1024}, id="the usual number of images, in words"),
    ],
)
def test_what_decides_nothing_tells_nothing(networks, changes):
    assert identity(OWN) == identity(replace(OWN, **changes))


def test_the_same_weights_in_another_file_are_the_same_run(networks):
    torch.save(torch.load("w.pth"), "copy.pth")
    first, second = (identity(replace(OWN, weights=Path(name))) for name in ("w.pth", "copy.pth"))
    assert first == second


@pytest.mark.parametrize("transfer", ["slice", "bn"])
def test_an_interrupted_search_does_not_go_on_with_another_transfer(here, monkeypatch, transfer):
    words = ("prune", "-q", "--model", "own_small.py:small", "--data", "digits", "--macs", "0.5", "-o", "out")
    _interrupt(monkeypatch, words)
    code, said = refusal(*words, "--resume", "--transfer", transfer)
    assert code == 2
    assert f'(transfer was "lstsq", now "{transfer}")' in said or '(calibration was 1024, now 0)' in said


def test_an_interrupted_search_does_not_go_on_with_another_source(here, monkeypatch):
    """The computation of a neighbour that the model file imports counts as its own."""
    (here / "own_parts.py").write_text("def act(x):\n    return x.relu()\n")
    text = NETWORK.replace("from torch", "from own_parts import act\nfrom torch").replace(
        "self.bn1(self.conv1(x)).relu()", "act(self.bn1(self.conv1(x)))"
    )
    (here / "own_net.py").write_text(text)
    words = ("prune", "-q", "--model", "own_net.py:small", "--data", "digits", "--macs", "0.5", "-o", "out")
    _interrupt(monkeypatch, words)
    (here / "own_parts.py").write_text("def act(x):\n    return x.sigmoid()\n")
    code, said = refusal(*words, "--resume")
    assert (code, "(source own_parts.py was " in said) == (2, True)


def _interrupt(monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]) -> None:
    told = SearchWatcher.on_evaluation

    def interrupt(self: SearchWatcher, record: Any) -> None:
        told(self, record)
        if record.done == 3:
            os.kill(os.getpid(), signal.SIGINT)

    with monkeypatch.context() as patched:
        patched.setattr(SearchWatcher, "on_evaluation", interrupt)
        assert app(*words).exit_code == 130


def test_images_count_whatever_their_folder_is_called(here):
    from PIL import Image

    for name, colour in (("a", 1), ("b", 1), ("c", 2)):
        (here / name).mkdir()
        for i in range(8):
            Image.new("RGB", (8, 8), (colour * 10 * i, 0, 0)).save(here / name / f"{i}.png")
    a, b, c = (contents(load_data(f"folder:{here / name}")) for name in "abc")
    assert a == b != c


def test_large_images_count_by_what_the_disk_says_of_them(here):
    from PIL import Image

    for i in range(4):
        Image.new("RGB", (128, 128), (i, 0, 0)).save(here / f"{i}.png")
    before = contents(load_data(f"folder:{here}"))
    assert contents(load_data(f"folder:{here}")) == before
    Image.new("RGB", (128, 128), (9, 9, 9)).save(here / "0.png")
    assert contents(load_data(f"folder:{here}")) != before
