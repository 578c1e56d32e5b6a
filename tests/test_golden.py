"""What is written for the bundled networks, word for word, and that it computes the zeroed original.

``SECATEUR_UPDATE_GOLDEN=1 python -m pytest tests/test_golden.py`` writes the files anew; read the diff.
"""

from __future__ import annotations

import difflib
import os
from pathlib import Path

import pytest
import torch
from zeroing import zeroed_copy

from secateur.models import registry
from secateur.pruners.base import BasicPruning
from secateur.pruners.bundle.folder import import_network
from secateur.pruners.graph import ChannelGraph
from secateur.pruners.source import Entry, write_source
from secateur.pruners.verify import oracle

GOLDEN = Path(__file__).parent / "golden"
ROOT = Path(__file__).parents[1]
EXAMPLE = ROOT / "generated" / "example" / "model.py"
SHOWCASE = ROOT / "docs" / "showcase.md"
UPDATE = bool(os.environ.get("SECATEUR_UPDATE_GOLDEN"))
VARIANTS = {
    "alexnet": {}, "lenet5": {}, "mobilenetv2": {}, "nin": {}, "resnet20": {}, "squeezenet": {}, "vgg11": {},
    "vgg_small": {}, "resnet20_projected": {"shortcut": "B"}, "resnet44_bottleneck": {"block": "bottleneck"},
    "resnet20_digits": {"in_channels": 1},
}  # fmt: skip


def uneven(graph: ChannelGraph) -> dict[str, list[int]]:
    """Keep 40, 50, 60, 70 % of the widths in turn, every time spread over the whole width."""
    kept = {}
    for number, width in enumerate(graph.widths):
        n = max(2, width.size * (4 + number % 4) // 10)
        kept[width.name] = sorted({i * width.size // n for i in range(n)})
    return kept


def pruner_of(name: str) -> BasicPruning:
    arch = name.partition("_")[0] if name.startswith("resnet") else name
    arguments = VARIANTS[name]
    channels, *size = registry.ARCHS[arch].input_shape
    x = torch.randn(2, arguments.get("in_channels", channels), *size, generator=torch.Generator().manual_seed(0))
    model = registry.create(arch, **arguments).eval()
    oracle.randomise(model, 0)
    factory = registry.load_factory(arch)
    return BasicPruning(model, x, entry=Entry(factory, arguments, factory.__name__, f"{factory.__name__}()"))


@pytest.mark.parametrize("name", VARIANTS)
def test_the_written_file_is_the_golden_one_and_computes_the_zeroed_original(name: str) -> None:
    pruner = pruner_of(name)
    kept = uneven(pruner.graph)
    sliced = pruner.slice(kept)
    text = write_source(sliced.model, pruner.entry, rewrites=sliced.literals)
    path = GOLDEN / f"{name}.py"
    if UPDATE:
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, "utf-8")
        if name == "resnet20":
            EXAMPLE.parent.mkdir(exist_ok=True)
            EXAMPLE.write_text(text, "utf-8")
    assert text == path.read_text("utf-8")
    assert name != "resnet20" or text == EXAMPLE.read_text("utf-8")
    model = import_network(path, pruner.netName)
    model.load_state_dict(sliced.model.state_dict())
    zeroed = zeroed_copy(pruner.model, pruner.graph, kept).double()
    x = pruner.example_input.double()
    with torch.no_grad():
        expected = zeroed(x)
        assert torch.allclose(model.eval().double()(x), expected, rtol=1e-9, atol=1e-9 * float(expected.abs().max()))


def test_the_showcase_shows_what_became_of_the_bundled_resnet() -> None:
    author = (ROOT / "models" / "cifar" / "resnet.py").read_text("utf-8")
    pruned = (GOLDEN / "resnet20.py").read_text("utf-8")
    names = ("models/cifar/resnet.py", "generated/example/model.py")
    diff = "".join(difflib.unified_diff(author.splitlines(True), pruned.splitlines(True), *names))
    text = f"""# What becomes of a source file

The bundled ResNet-20 after pruning, uneven on purpose: widths keep 40, 50, 60 and 70 % of their channels in turn. The
factory that could build seven networks has become the one network that was pruned; blocks, `forward`, comments and
state_dict keys are the author's. A test writes this page anew and runs the file on the right.

[Before]({"../" + names[0]}), [after]({"../" + names[1]}), and the difference:

```diff
{diff}```
"""
    if UPDATE:
        SHOWCASE.write_text(text, "utf-8")
    assert text == SHOWCASE.read_text("utf-8")


def test_writing_twice_gives_the_same_text() -> None:
    pruner = pruner_of("mobilenetv2")
    plan = pruner.plan(uneven(pruner.graph))
    assert pruner.source(plan) == pruner.source(plan)


@pytest.mark.parametrize("name", VARIANTS)
def test_the_identity_plan_writes_the_original_network(name: str) -> None:
    pruner = pruner_of(name)
    text = pruner.source(pruner.plan({}))
    from secateur.pruners.bundle import import_text

    model = import_text(text, pruner.netName)
    assert list(model.state_dict()) == list(pruner.model.state_dict())
    model.load_state_dict(pruner.model.state_dict())
    with torch.no_grad():
        assert torch.equal(model.eval()(pruner.example_input), pruner.model.eval()(pruner.example_input))
