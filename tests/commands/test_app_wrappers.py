"""Networks as people hold them: wrapped, compiled, of half precision, with masks and norms on their weights."""

from __future__ import annotations

import importlib.util
import json
import sys

import pytest
import torch
from app_helpers import app, refusal
from torch import nn

from secateur import prune

pytestmark = pytest.mark.filterwarnings("ignore:.*weight_norm:FutureWarning")  # the older norms are in use, too
NETS = '''"""One network, held in many ways."""

import torch
from torch import nn
from torch.ao.quantization import DeQuantStub, QuantStub, QuantWrapper
from torch.nn.utils import parametrizations, parametrize, spectral_norm, weight_norm
from torch.nn.utils import prune as masks


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.n = nn.Conv2d(3, 16, 3, padding=1), nn.BatchNorm2d(16)
        self.b = nn.Conv2d(16, 24, 3, padding=1)
        self.fc = nn.Linear(24, 5)

    def forward(self, x):
        return self.fc(torch.relu(self.b(torch.relu(self.n(self.a(x))))).mean((2, 3)))


class Parts(nn.Module):
    """Its parts are wrapped in its constructor."""

    def __init__(self):
        super().__init__()
        self.features = nn.DataParallel(nn.Sequential(nn.Conv2d(3, 16, 3), nn.ReLU(), nn.Conv2d(16, 8, 1), nn.ReLU()))
        self.fc = torch.compile(nn.Linear(8, 5))

    def forward(self, x):
        return self.fc(self.features(x).mean((2, 3)))


class Compiled(Net):
    def __init__(self):
        super().__init__()
        self.compile()


class Normed(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = weight_norm(nn.Conv2d(3, 16, 3, padding=1))
        self.b = spectral_norm(nn.Conv2d(16, 24, 3, padding=1))
        self.c = parametrizations.weight_norm(nn.Conv2d(24, 16, 1))
        self.d = parametrizations.spectral_norm(nn.Conv2d(16, 12, 1))
        self.fc = nn.Linear(12, 5)

    def forward(self, x):
        x = self.b(self.a(x).relu()).relu()
        return self.fc(self.d(self.c(x).relu()).relu().mean((2, 3)))


class Stubbed(nn.Module):
    def __init__(self):
        super().__init__()
        self.quant, self.dequant = QuantStub(), DeQuantStub()
        self.a, self.b = nn.Conv2d(3, 16, 3, padding=1), nn.Conv2d(16, 16, 3, padding=1)
        self.add = nn.quantized.FloatFunctional()
        self.fc = nn.Linear(16, 5)

    def forward(self, x):
        x = torch.relu(self.a(self.quant(x)))
        return self.dequant(self.fc(torch.relu(self.add.add(x, self.b(x))).mean((2, 3))))


class Doubling(nn.Module):
    def forward(self, weight):
        return 2 * weight


def doubled():
    net = Net()
    parametrize.register_parametrization(net.b, "weight", Doubling())
    return net


def compiled():
    return torch.compile(Net())


def parallel():
    return nn.DataParallel(torch.compile(Net()))


def averaged():
    return torch.optim.swa_utils.AveragedModel(Net())


def quantizable():
    return QuantWrapper(Net())


def unnormed():
    network = Normed()
    nn.utils.remove_spectral_norm(network.b)
    return network


def masked():
    net = Net()
    masks.l1_unstructured(net.a, "weight", amount=0.25)
    masks.ln_structured(net.b, "weight", amount=0.25, n=2, dim=0)
    masks.random_unstructured(net.b, "bias", amount=0.5)
    return net


def half():
    return Net().half()


def bfloat():
    return Net().to(torch.bfloat16)


def double():
    return Net().double()
'''


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own_held.py").write_text(NETS)
    return tmp_path


def _words(name: str) -> tuple[str, ...]:
    network = ("--model", f"own_held.py:{name}", "--input-shape", "3,12,12")
    return ("prune", *network, "--ratio", "0.5", "--search", "uniform", "-o", "out")


def _prune(name: str, *more: str):
    return app(*_words(name), *more)


def _file(path, name: str):
    spec = importlib.util.spec_from_file_location(f"{path.parent.name}_{path.stem}", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return getattr(module, name)


def test_an_authors_own_parametrization_is_refused(here):
    code, said = refusal(*_words("doubled"))
    assert code == 3
    assert "remove_parametrizations" in said


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("compiled", "taken out of torch.compile"),
        ("parallel", "taken out of DataParallel"),
        ("averaged", "taken out of AveragedModel"),
        ("quantizable", "taken out of QuantWrapper"),
        ("Compiled", "taken as it was before compile()"),
        ("Parts", "taken out of torch.compile: fc"),
        ("masked", "pruning masks (torch.nn.utils.prune.remove) made part of the weights: a, b"),
        ("Normed", "spectral norm made part of the weights: b, d"),
        ("unnormed", "spectral norm made part of the weights: d"),
        ("Stubbed", ""),
    ],
)
def test_what_is_inside_is_pruned_and_it_is_said(here, name, said):
    done = _prune(name)
    assert done.exit_code == 0, done.stderr
    assert said in done.stderr
    network = _file(here / "out" / "model.py", name)()
    weights = torch.load(here / "out" / "weights.pth", weights_only=True)
    network.load_state_dict(weights)
    first = next(m for m in network.modules() if isinstance(m, nn.Conv2d))
    assert first.weight.shape[0] == 8
    assert network.eval()(torch.zeros(2, 3, 12, 12)).shape == (2, 5)
    assert not any("_orig" in key or "module." in key or "mask" in key for key in weights)


@pytest.mark.parametrize(
    ("name", "dtype"), [("half", torch.float16), ("bfloat", torch.bfloat16), ("double", torch.float64)]
)
def test_the_result_has_the_networks_own_precision(here, name, dtype):
    done = _prune(name)
    assert done.exit_code == 0, done.stderr
    weights = torch.load(here / "out" / "weights.pth", weights_only=True)
    network = _file(here / "out" / "model.py", name)()
    assert network.a.weight.dtype == weights["a.weight"].dtype == dtype
    network.load_state_dict(weights)
    assert network.eval()(torch.zeros(2, 3, 12, 12, dtype=dtype)).dtype == dtype
    told = json.loads((here / "out" / "summary.json").read_text("utf-8"))
    assert told["size_bytes"]["after"] == sum(t.nbytes for t in weights.values())
    assert told["bits"]["after"] == 8 * sum(p.nbytes for p in network.parameters())
    assert told["bits"]["before"] / told["params"]["before"] == 8 * dtype.itemsize


def test_weights_saved_with_and_without_the_norms_are_taken(here):
    normed = _file(here / "own_held.py", "Normed")().eval()
    torch.save(normed.state_dict(), here / "with.pth")
    assert _prune("Normed", "--weights", "with.pth").exit_code == 0
    kept = torch.load(here / "out" / "weights.pth", weights_only=True)["a.bias"]
    assert set(kept.tolist()) <= set(normed.a.bias.tolist())


def test_prune_in_python_leaves_the_wrapped_network_alone(here):
    normed = _file(here / "own_held.py", "Normed")()
    wrapped = nn.DataParallel(normed)
    before = list(wrapped.state_dict())
    bundle = prune(wrapped, torch.zeros(1, 3, 12, 12), ratio=0.5)
    assert list(wrapped.state_dict()) == before
    assert bundle.model.a.weight.shape[0] == 8
