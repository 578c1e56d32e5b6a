"""What users meet in Python: names to find, short texts in notebooks, examples that run."""

from __future__ import annotations

import doctest
import importlib

import pytest
import torch
from torch import nn

import secateur
from secateur import prune, trace
from secateur.models.cifar.lenet5 import lenet5
from secateur.models.cifar.resnet import resnet20
from secateur.pruners.bundle import Bundle
from secateur.pruners.errors import UsageError

IMAGE = torch.zeros(1, 1, 28, 28)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bundle") / "<out>"
    return prune(lenet5(), torch.zeros(1, 1, 28, 28), ratio=0.5, output=folder)


@pytest.mark.parametrize(
    ("example", "given", "why"),
    [
        ((1, 1, 28, 28), {"ratio": 0.5}, r"a shape: give a tensor of it, such as torch.randn\(\(1, 1"),
        (torch.Size([1, 1, 28, 28]), {"ratio": 0.5}, "is a shape"),
        (None, {"ratio": 0.5}, "no example input"),
        (IMAGE, {"ratio": "0.5"}, "ratio= takes a number, not str: '0.5'"),
        (IMAGE, {"ratio": {"conv1": torch.tensor(0.5)}}, "ratio= takes a number, not Tensor"),
        (IMAGE, {"macs": [0.5]}, "macs= takes a number, not list"),
        (IMAGE, {"ratio": 0.5, "heal": "3m"}, "heal= takes a number, not str"),
        (IMAGE, {"ratio": 0.5, "round_to": 8.0}, "round_to= takes a whole number, not float: 8.0"),
        (IMAGE, {"ratio": 0.5, "output": 5}, "output= takes the path of a folder, not int: 5"),
        (IMAGE, {"ratio": 0.5, "evaluate": lambda network: 0.9}, "evaluate= returned 0.9, not a loss .* score="),
        (IMAGE, {"ratio": 0.5, "skip": [nn.Linear(1, 1)]}, "skip= takes names of layers, .* not Linear"),
        (IMAGE, {"ratio": 0.5, "skip": "conv7"}, "there is no layer conv7 .*did you mean conv"),
    ],
)
def test_what_is_no_input_number_or_name_is_refused_in_words(example, given, why):
    with pytest.raises(UsageError, match=why):
        prune(lenet5(), example, **given)


def test_the_package_says_what_it_has():
    assert {"prune", "trace", "Bundle", "__version__"} <= set(dir(secateur))
    assert all(getattr(secateur, name) is not None for name in dir(secateur))


def test_a_graph_is_shown_in_a_line():
    graph = trace(resnet20(), torch.zeros(1, 3, 32, 32))
    assert len(repr(graph)) < 600
    assert repr(graph).startswith("ChannelGraph(12 widths, 400 prunable channels of 413: conv1 16, ")
    assert repr(graph).endswith("and 4 more; frozen: 2)")
    assert len(repr(graph.widths[0])) < 400
    html = graph._repr_html_()
    assert html.count("<tr>") == 2 + 12 + 2  # two headers
    assert "&#x27;" in html  # the network's input


def test_what_is_shown_of_a_bundle(bundle):
    assert repr(bundle.plan) == "PruningPlan(3 widths, 285 of 570 channels stay: conv1 10/20, conv2 25/50, ip1 250/500)"
    assert "le_net5" in repr(bundle) and len(repr(bundle)) < 600
    html = bundle._repr_html_()
    assert "&lt;out&gt;" in html and "<out>" not in html
    assert "parameters" in html


def test_a_network_of_hostile_names_is_shown_as_text():
    net = nn.Sequential()
    net.add_module("x<b>", nn.Linear(4, 6))
    net.add_module("out", nn.Linear(6, 2))
    assert "x<b>" not in trace(net, torch.zeros(1, 4))._repr_html_()
    assert "<td>x&lt;b&gt;</td>" in trace(net, torch.zeros(1, 4))._repr_html_()


@pytest.mark.parametrize("module", ["api", "steps", "trace.trace"])
def test_the_examples_run(module, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = doctest.testmod(importlib.import_module(f"secateur.pruners.{module}"))
    assert found.attempted and not found.failed


X = torch.zeros(1, 1, 28, 28)
IMAGES = torch.rand(8, 1, 28, 28, generator=torch.Generator().manual_seed(0))


def evaluate(model: nn.Module, stop: object = None) -> tuple[float, float]:
    with torch.no_grad():
        return float(model.eval()(IMAGES).std()), 0.5


def retrain(model: nn.Module, epochs: int) -> None:
    with torch.no_grad():
        next(model.parameters()).mul_(1.0 + epochs)


def test_the_accuracy_before_is_that_of_the_network_with_all_its_layers():
    seen = []

    def evaluate(network: nn.Module) -> tuple[float, float]:
        seen.append(len(list(network.modules())))
        return 0.0, float(seen[-1])

    model = resnet20()
    bundle = prune(model, torch.zeros(1, 3, 32, 32), layers=0.6, evaluate=evaluate)
    assert bundle.summary["accuracy"]["before"] == len(list(model.modules())) > bundle.summary["accuracy"]["pruned"]


def test_a_bundle_in_memory_has_everything_but_a_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    bundle = prune(lenet5(), X, ratio=0.5)
    assert bundle.path is None
    assert bundle.summary["verified"] is True
    assert "def le_net5" in bundle.source
    assert bundle.model(IMAGES).shape == (8, 10)
    assert "memory" in repr(bundle)
    assert not list(tmp_path.iterdir())
    with pytest.raises(UsageError, match="in memory alone: prune with output=FOLDER"):
        _ = bundle.file


def test_what_is_trained_is_what_the_bundle_holds(tmp_path):
    bundle = prune(lenet5(), X, ratio=0.5, output=tmp_path / "half")
    retrain(bundle.model, 1)
    trained, published = next(bundle.model.parameters()), next(Bundle.open(bundle.folder).model.parameters())
    torch.testing.assert_close(trained, 2 * published)


def test_random_numbers_are_left_as_they_were():
    torch.manual_seed(0)
    model, before = lenet5(), torch.get_rng_state()
    prune(model, X, ratio=0.5)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(
    "arguments",
    [
        {"search": "global", "params": 0.5},
        {"search": "sensitivity", "macs": 0.5, "batches": [IMAGES], "transfer": "lstsq"},
        {"search": "bayesian", "init_points": 0, "n_iter": 1, "retrain_epochs": 1, "final_epochs": 2},
        {"search": "bayesian", "per": "stage", "macs": 0.6, "init_points": 1, "n_iter": 1, "final_epochs": 0},
    ],
    ids=["global", "sensitivity", "bayesian", "per stage"],
)
def test_every_search_runs_from_python(arguments):
    asked = {"evaluate": evaluate, "retrain": retrain} if arguments["search"] == "bayesian" else {}
    bundle = prune(lenet5(), X, **arguments, **asked)
    assert bundle.summary["verified"] is True
    assert bundle.plan.provenance["search"] == arguments["search"]
    if asked:
        assert bundle.summary["accuracy"]["pruned"] == 0.5
        assert (bundle.summary["accuracy"]["retrained"] is not None) == bool(arguments["final_epochs"])


@pytest.mark.parametrize("given", ["net.py:make", lenet5])
def test_what_is_no_network_is_refused(given):
    for call in (prune, trace):
        with pytest.raises(TypeError, match=r"the network has to be a torch\.nn\.Module, not (str|function)"):
            call(given, torch.zeros(1, 1, 28, 28))


def test_arguments_that_nobody_knows_are_refused():
    with pytest.raises(TypeError, match="unexpected keyword argument 'strategy'"):
        prune(lenet5(), X, ratio=0.5, strategy="global")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"ratio": 0.5, "round_to": 0}, "round_to= and the minimum of channels must be 1 or more"),
        ({"ratio": 0.5, "per": "stage"},
         'per="stage" is for search="bayesian", this is uniform: add it, or leave per= out'),
        ({"search": "bayesian"},
         'search="bayesian" evaluates candidates: give evaluate= or score=, or take another search'),
        ({"ratio": 0.5, "output": "."},
         ". is the current folder, which is never written over; name a new folder with output="),
        ({"ratio": 0.5, "metric": "taylor"}, "metric taylor needs labelled data; give batches= or take l1"),
        ({"macs": 0.5, "search": "sensitivity"},
         'search="sensitivity" looks at images; give batches=, or take search="uniform" or global'),
    ],
)  # fmt: skip
def test_errors_name_arguments_as_in_python(arguments, message):
    with pytest.raises(UsageError) as caught:
        prune(lenet5(), X, **arguments)
    assert str(caught.value) == message
