"""Random networks, pruned at random: a verified bundle, equal to the zeroed original, with exactly the planned counts.

``SECATEUR_EXAMPLES=10000 python -m pytest tests/test_property.py`` runs more of them.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

import torch
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from plans import compose
from random_networks import network_sources
from zeroing import zeroed_copy

from secateur.pruners.base import BasicPruning
from secateur.pruners.graph import ChannelGraph
from secateur.pruners.scratch import import_file
from secateur.pruners.source import Entry
from secateur.pruners.verify import oracle
from secateur.pruners.verify.masking import masking

EXAMPLES = int(os.environ.get("SECATEUR_EXAMPLES", "200"))
quiet = settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    derandomize=EXAMPLES <= 200,
    phases=(Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink),  # explaining takes minutes and tells little
)


def draw_kept(draw: st.DataObject, graph: ChannelGraph) -> dict[str, list[int]]:
    """A random subset of every width, with as many channels in every block."""
    kept = {}
    for width in graph.widths:
        per = width.size // width.n_blocks
        n = draw.draw(st.integers(1, per), label=width.name)
        blocks = [[i for i in range(width.size) if width.block_of[i] == b] for b in range(width.n_blocks)]
        kept[width.name] = sorted(i for b in blocks for i in draw.draw(st.permutations(b))[:n])
    return kept


def pruner_of(folder: Path, source: str) -> BasicPruning:
    (folder / "author.py").write_text(source)
    module = import_file(folder / "author.py")
    model = module.Net()
    oracle.randomise(model, 3)
    x = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    return BasicPruning(model, x, entry=Entry(module.Net, {}, "Net", "author.py, Net()"))


def forget(*pruners: BasicPruning) -> None:
    for pruner in pruners:
        sys.modules.pop(type(pruner.model).__module__, None)


@quiet
@given(source=network_sources(), data=st.data())
def test_a_pruned_network_is_verified_exact_and_of_the_planned_size(source: str, data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        pruner = pruner_of(folder, source)
        kept = draw_kept(data, pruner.graph) if pruner.graph.widths else {}
        bundle = pruner.publish(pruner.plan(kept), folder / "out")
        model = bundle.model
        assert sum(p.numel() for p in model.parameters()) == bundle.summary["params"]["after"]
        zeroed = zeroed_copy(pruner.model, pruner.graph, kept).eval().double()
        x = pruner.example_input.double()
        with torch.no_grad():
            with masking(pruner.graph, kept):
                expected = zeroed(x)
            error = (model.double()(x) - expected).abs().max()
        assert error <= 1e-9 * max(1.0, float(expected.abs().max()))
        forget(pruner)


@settings(quiet, max_examples=max(20, EXAMPLES // 10))
@given(source=network_sources(), data=st.data())
def test_pruning_twice_is_pruning_once_with_the_composed_plan(source: str, data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        first = pruner_of(folder, source)
        kept = {w: k if len(k) > 1 else [0, 1] for w, k in draw_kept(data, first.graph).items()}
        kept = {w.name: kept[w.name] for w in first.graph.widths if w.n_blocks == 1 and w.size > 1}
        once = first.publish(first.plan(kept), folder / "once")
        module = import_file(once.path / "model.py")
        model = module.Net()
        model.load_state_dict(once.model.state_dict())
        second = BasicPruning(model, first.example_input, entry=Entry(module.Net, {}, "Net", "author.py, Net()"))
        if set(second.graph.widths) != set() and {w.name for w in second.graph.widths} == set(once.plan.widths):
            again = draw_kept(data, second.graph)
            twice = second.publish(second.plan(again), folder / "twice")
            direct = first.publish(compose(once.plan, twice.plan), folder / "direct")
            assert (twice.path / "weights.pth").read_bytes() == (direct.path / "weights.pth").read_bytes()
        forget(first, second)
