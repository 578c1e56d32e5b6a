"""Ranking, costs and search on traced networks; their own tests work on graphs written by hand."""

from __future__ import annotations

import pytest
import torch
from hand_graphs import realize_by_slicing
from judged_search import judged_search
from torch import nn

from secateur.models import registry
from secateur.pruners.costs import Budget, CostModel, measure
from secateur.pruners.metrics import rank
from secateur.pruners.metrics.registry import METRICS
from secateur.pruners.search import SearchSettings, search
from secateur.pruners.search.scatter import scatter, zero_removed
from secateur.pruners.slicing import slice_model
from secateur.pruners.trace.trace import trace

ARCHS = ["alexnet", "lenet5", "mobilenetv2", "nin", "resnet20", "squeezenet", "vgg11", "vgg_small"]


class Written(nn.Module):
    """A network with a channel count in its code."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3)
        self.fc = nn.Linear(8, 2)

    def forward(self, x):
        return self.fc(self.conv(x).mean((2, 3)).view(-1, 8))


@pytest.fixture(scope="module", params=ARCHS)
def traced(request):
    torch.manual_seed(0)
    example = torch.randn(1, *registry.find(request.param).input_shape)
    model = registry.create(request.param).eval()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_var, 0.5, 1.5)
            nn.init.uniform_(module.running_mean, -0.5, 0.5)
            if module.affine:
                nn.init.uniform_(module.weight, 0.5, 1.5)
                nn.init.uniform_(module.bias, -0.5, 0.5)
    return model, example, trace(model, example)


@pytest.mark.parametrize("strategy", ["uniform", "global"])
def test_predicted_costs_are_the_costs_of_the_sliced_model(traced, strategy):
    model, example, graph = traced
    result = search(model, graph, SearchSettings(strategy, budget=Budget("macs", 0.5)))
    small = slice_model(model, graph, result.kept, example).model
    assert result.before == measure(model, example)
    assert result.after == measure(small, example)
    assert 0.47 < result.after.relative_to(result.before)["macs"] <= 0.5


def test_every_metric_ranks_every_network(traced):
    model, example, graph = traced
    batches = [(example, torch.zeros(1, dtype=torch.int64))]
    has_norms = any(isinstance(m, nn.BatchNorm2d) and m.affine for m in model.modules())
    left_out = {n for n in METRICS.names() if n.startswith(("angle", "distance"))}
    left_out |= set() if has_norms else {"bn_scale"}
    if any(p[0].numel() > 1000 for p in model.parameters() if p.ndim > 1):
        left_out.add("reconstruction")  # inverts matrices of that size: too long for a test
    for name in set(METRICS.names()) - left_out:
        ranking = rank(model, graph, name, batches)
        assert {n: len(o) for n, o in ranking.order.items()} == {w.name: w.size for w in graph.widths}, name


def test_zeroing_and_scattering_agree_with_slicing(traced):
    model, example, graph = traced
    kept = search(model, graph, SearchSettings("uniform", metric="random", budget=Budget("ratio", 0.4))).kept
    small = slice_model(model, graph, kept, example).model
    whole = model.state_dict()
    back = scatter(whole, small.state_dict(), graph, kept)
    assert all(torch.equal(back[name], tensor) for name, tensor in whole.items())
    with torch.no_grad():
        expected = small(example)
        found = torch.func.functional_call(model, zero_removed(whole, graph, kept), (example,))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_a_layerwise_search_with_retraining_on_a_residual_network(tmp_path):
    torch.manual_seed(0)
    model = registry.create("resnet20", in_channels=1).eval()
    images, labels = torch.randn(16, 1, 8, 8), torch.arange(16) % 10
    graph = trace(model, images)
    retrained = []

    def evaluate(candidate: nn.Module) -> tuple[float, float]:
        with torch.no_grad():
            out = candidate.eval()(images)
        return 0.01 * nn.functional.cross_entropy(out, labels).item(), (out.argmax(1) == labels).float().mean().item()

    def retrain(candidate: nn.Module, epochs: int) -> None:
        retrained.append(candidate)
        optimizer = torch.optim.SGD(candidate.parameters(), 0.01)
        nn.functional.cross_entropy(candidate.train()(images), labels).backward()
        optimizer.step()

    result = judged_search(
        model, graph, SearchSettings(init_points=0, n_iter=1, budget=Budget("params", 0.6)), evaluate=evaluate,
        retrain=retrain, realize=realize_by_slicing(graph, images), ledger=tmp_path / "search.jsonl",
    )  # fmt: skip
    result.plan(graph)
    assert retrained
    costs = CostModel.of(model, graph)
    assert 0.57 < costs.predict(result.kept).relative_to(result.before)["params"] <= 0.6
    model.load_state_dict(result.state)
    assert evaluate(realize_by_slicing(graph, images)(model, result.kept))[0] > 0
