"""A bundle is published only if its file computes the same network in a fresh process."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import forms
import pytest
import torch
from torch import nn
from zeroing import zeroed_copy

from secateur.pruners.base import BasicPruning
from secateur.pruners.bundle import Bundle, import_text, write_state
from secateur.pruners.costs import Costs
from secateur.pruners.errors import UsageError, VerificationError
from secateur.pruners.scratch import import_file
from secateur.pruners.source import Entry
from secateur.pruners.trace.trace import trace
from secateur.pruners.verify import Case, fits_double, measured, oracle, verify_bundle
from secateur.pruners.verify import outputs as verify_outputs
from secateur.pruners.verify import process as verify
from secateur.pruners.verify.cases import random_model
from secateur.pruners.verify.outputs import outputs_of, varied
from secateur.pruners.verify.sizes import other_sizes, training_inputs

TEXT = '''"""A small network."""

import torch
from torch import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Linear(3, 4)
        self.b = nn.Linear(4, 2)

    def forward(self, x):
        return self.b(self.a(x).relu())


def net():
    return Net()
'''
X = torch.randn(2, 3, generator=torch.Generator().manual_seed(0))
COSTS = Costs(params=26, macs=20, bits=26 * 32, size_bytes=104)


def check(folder: Path, text: str, costs: Costs = COSTS, state: dict[str, torch.Tensor] | None = None) -> float:
    torch.manual_seed(0)  # weights under which every part counts
    reference = import_text(TEXT, "net")
    folder.mkdir()
    (folder / "model.py").write_text(text)
    write_state(folder / "weights.pth", state or reference.state_dict())
    case = Case("own", X, outputs_of(reference, X, True), None, True, X)
    return verify_bundle(folder / "model.py", "net", [case], costs, batch=2).max_abs_diff


def test_a_right_file_passes(tmp_path: Path) -> None:
    assert check(tmp_path / "x", TEXT) == 0.0


@pytest.fixture
def unforked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Python starts the fresh process."""
    monkeypatch.setattr(verify, "_many", None)


def test_a_right_file_passes_in_a_process_that_python_starts(tmp_path: Path, unforked: None) -> None:
    assert check(tmp_path / "x", TEXT) == 0.0


WRONG = {
    "it imports the toolkit": ("import secateur\n" + TEXT, "needs the package secateur"),
    "it does not import": (TEXT.replace("class Net", "klass Net"), "SyntaxError"),
    "it has no factory": (TEXT.replace("def net", "def other"), "AttributeError"),
    "it has other keys": (TEXT.replace("self.a", "self.c"), "Missing key"),
    "it has other shapes": (TEXT.replace("4, 2", "4, 3"), "size mismatch"),
    "it computes something else": (TEXT.replace(".relu()", ""), "computes something else .own.: largest difference"),
    "it has another output": (TEXT.replace(".relu())", ".relu())[:1]"), "outputs of shapes"),
    "it fails in training mode": (
        TEXT.replace("return self.b", "assert not self.training\n        return self.b"),
        "fails in training mode: AssertionError",
    ),
    "it kills its process": (TEXT + "\nimport os\nos._exit(3)\n", "the process died"),
}


@pytest.mark.parametrize("name, message", [("it has other keys", "Missing key"), ("it kills its process", "code 3")])
def test_refused_by_a_process_that_python_starts(name: str, message: str, tmp_path: Path, unforked: None) -> None:
    with pytest.raises(VerificationError, match=message):
        check(tmp_path / "x", WRONG[name][0])


@pytest.mark.parametrize("name", WRONG)
def test_refused_because(name: str, tmp_path: Path) -> None:
    text, reason = WRONG[name]
    with pytest.raises(VerificationError, match=reason):
        check(tmp_path / "x", text)


def test_other_parameters_than_planned_are_refused(tmp_path: Path) -> None:
    with pytest.raises(VerificationError, match="has 26 parameters, planned were 25"):
        check(tmp_path / "x", TEXT, Costs(25, 20, 0, 0))


def test_other_macs_than_planned_are_told_and_those_of_the_file_published() -> None:
    found = verify.Verification(0.0, 0.0, 1.0, 26, 20, ("own",), double=True, trained=True)
    assert found.about_macs({"before": 40, "after": 20}) == {"macs": {"before": 40, "after": 20}}
    by_data = found.about_macs({"before": 40, "after": 21}, by_data=True)
    assert by_data["macs"]["after"] == 21 and "follow from what is found" in by_data["warnings"][0]
    told = found.about_macs({"before": 40, "after": 21})
    assert told["macs"] == {"before": 40, "after": 20}
    assert told["warnings"] == ["warning: the file has 20 MACs, 21 were planned: the prediction is 5 % off"]


def test_wrong_weights_are_refused(tmp_path: Path) -> None:
    state = import_text(TEXT, "net").state_dict()
    state["b.bias"] += 1e-6
    with pytest.raises(VerificationError, match="computes something else"):
        check(tmp_path / "x", TEXT, state=state)


def test_zeroing_touches_consumers_only() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Conv2d(4, 2, 1))
    graph = trace(model, torch.randn(1, 3, 4, 4))
    masked = zeroed_copy(model, graph, {"0": [1, 3]})
    assert torch.equal(masked[0].weight, model[0].weight)
    assert masked[2].weight[:, [0, 2]].abs().sum() == 0
    assert torch.equal(masked[2].weight[:, [1, 3]], model[2].weight[:, [1, 3]])


def test_random_weights_make_every_channel_matter() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Conv2d(4, 2, 1))
    nn.init.zeros_(model[2].weight)
    oracle.randomise(model, 0)
    first = model.state_dict()
    assert all(t.std() > 0 for k, t in first.items() if t.is_floating_point())
    again = {k: v.clone() for k, v in first.items()}
    oracle.randomise(model, 0)
    assert all(torch.equal(again[k], v) for k, v in model.state_dict().items())


# -- publishing


def test_a_folder_that_is_no_bundle_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"is not a bundle: it has no model\.py"):
        Bundle.open(tmp_path)


def test_the_same_state_gives_the_same_bytes(tmp_path: Path) -> None:
    model, again = nn.Linear(3, 2), nn.Linear(3, 2)
    again.load_state_dict(model.state_dict())
    for name, state in {"first": model.state_dict(), "second": again.state_dict()}.items():
        write_state(tmp_path / name, state)
    assert (tmp_path / "first").read_bytes() == (tmp_path / "second").read_bytes()


def test_a_file_holds_no_more_than_its_tensors(tmp_path: Path) -> None:
    write_state(tmp_path / "part", {"w": torch.zeros(100_000)[:10]})
    assert (tmp_path / "part").stat().st_size < 5_000


# -- precision


def test_a_large_network_is_compared_in_float32_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    model = import_text(TEXT, "net")
    outputs, double = measured(model, X, fits_double(model))
    assert double and outputs[0].dtype == torch.float64 and model.a.weight.dtype == torch.float32
    monkeypatch.setattr(verify_outputs, "_DOUBLE_UP_TO", 10)
    outputs, double = measured(model, X, fits_double(model))
    assert not double and outputs[0].dtype == torch.float32
    told = verify.Verification(0.5, 1e-6, 5e5, 26, 20, ("own",), double, True).as_dict()
    assert told == {
        "max_abs_diff": 0.5, "max_rel_diff": 1e-6, "output_scale": 5e5, "precision": "float32", "trained": True,
        "compared": ["own"],
    }  # fmt: skip


def test_a_step_that_the_original_can_not_take_either_is_no_failure(tmp_path: Path) -> None:
    text = TEXT.replace("return self.b", "assert not self.training\n        return self.b")
    (tmp_path / "model.py").write_text(text)
    reference = import_text(TEXT, "net")
    write_state(tmp_path / "weights.pth", reference.state_dict())
    case = Case("own", X, outputs_of(reference, X, True), None, True, X, lambda: False)
    assert not verify_bundle(tmp_path / "model.py", "net", [case], COSTS, batch=2).trained


# -- other batches, sizes and modes

CONVOLUTIONS = '''"""Two convolutions."""

import torch
import torch.nn.functional as F
from torch import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.c1 = nn.Conv2d(3, 8, 3, padding=1)
        self.c2 = nn.Conv2d(8, 8, 3, padding=1)
        self.bn = nn.BatchNorm2d(8)
        self.fc = nn.Linear(8, 5)

    def forward(self, x):
        x = F.relu(self.c1(x))
        x = self.bn(self.c2(x))
        return self.fc(x.mean((2, 3)))
'''


def pruned(folder: Path, line: str = "", wrong: str | None = None, head: str = "") -> dict[str, object]:
    """The summary of a bundle of these convolutions with a line between them; ``wrong``: what stands in the file."""
    body = CONVOLUTIONS.replace("        x = self.bn", f"        {line}\n        x = self.bn")
    if "self.wide" in line:
        body = body.replace("self.bn = ", "self.wide = nn.Conv2d(8, 8, 1)\n        self.bn = ")
    file = folder / "author.py"
    file.write_text(body.replace("self.fc(x.mean((2, 3)))", head) if head else body)
    module = import_file(file)
    pruner = BasicPruning(module.Net(), IMAGES, entry=Entry(module.Net, {}, "Net", "author.py, Net()"))
    plan = pruner.plan({"c1": [0, 2, 3, 5, 7]})
    made = pruner.carry_out(plan)
    if wrong is not None:
        assert line in made.text
        made = replace(made, file=replace(made.file, text=made.text.replace(line, wrong)))
    return dict(pruner.publish(made, folder / "out").summary)


IMAGES = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
DIFFERENT = {  # the author's line, what the file says, what the verification names
    "in training only": ("x = x * 1 if self.training else x", "x = x * 2 if self.training else x", "in training"),
    "for another batch only": ("x = x if len(x) < 3 else x * 1", "x = x if len(x) < 3 else x * 2", "another batch"),
    "for another size only": ("x = x if x.shape[2] == 8 else x * 1", "x = x if x.shape[2] == 8 else x * 2",
                              "inputs of 3x12x16"),
    "in what it makes of noise": ("x = x + torch.randn(len(x), 1, 1, 1, dtype=x.dtype) * 1",
                                  "x = x + torch.randn(len(x), 1, 1, 1, dtype=x.dtype) * 2", "the bundle's weights"),
    "in what it makes of noise in training": (
        "x = x + torch.rand_like(x.sum(1, True)) * self.training",
        "x = x + torch.rand_like(x.sum(1, True)) * self.training * 2",
        "in training"),
    "in its rate of dropout": ("x = F.dropout(x, 0.5, self.training)", "x = F.dropout(x, 0.4, self.training)",
                               "in training"),
}  # fmt: skip


@pytest.mark.parametrize("name", DIFFERENT)
def test_a_file_is_refused_that_differs(name: str, tmp_path: Path) -> None:
    line, wrong, case = DIFFERENT[name]
    with pytest.raises(VerificationError, match=f"computes something else .*({case})"):
        pruned(tmp_path, line, wrong)


def test_a_file_is_refused_that_fails_where_the_original_runs(tmp_path: Path) -> None:
    with pytest.raises(VerificationError, match=r"AssertionError.*inputs of 3x12x16"):
        pruned(tmp_path, "assert x.ndim == 4", "assert x.shape[2] == 8")


@pytest.mark.parametrize(
    "line",
    [
        "x = x + torch.randn_like(x.sum(1, True))",
        "x = F.dropout(x, 0.5)",
        "x = F.dropout2d(x, 0.5, self.training)",
        "x = x + torch.normal(0.0, 0.1, (len(x), 1, 1, 1), dtype=x.dtype)",
        "x = x * torch.empty(len(x), 1, 1, 1, dtype=x.dtype).bernoulli_(0.5)",
        "x = F.rrelu(x, training=self.training)",
        "x = x[torch.randperm(len(x))]",
    ],
)
def test_a_network_that_draws_random_numbers_passes(line: str, tmp_path: Path) -> None:
    compared = pruned(tmp_path, line)["compared"]
    assert any("as in memory" in c for c in compared)  # with draws of every element


def test_what_was_compared_is_told(tmp_path: Path) -> None:
    random = "random weights{}, removed channels zeroed"
    assert pruned(tmp_path)["compared"] == [
        "the bundle's weights",
        *map(
            random.format,
            ("", ", another batch", ", inputs of 3x12x16", ", in training", ", another batch of 3x12x16, in training"),
        ),
    ]


def test_a_size_that_the_original_does_not_take_is_left_out(tmp_path: Path) -> None:
    head = "self.fc(x.mean((2, 3))) + x[:, 0].flatten(1) @ torch.ones(64, 1, dtype=x.dtype)"
    compared = pruned(tmp_path, head=head)["compared"]
    assert not any("inputs of" in c for c in compared) and any("another batch, in training" in c for c in compared)


def test_a_size_that_mixes_images_is_left_out(tmp_path: Path) -> None:
    compared = pruned(tmp_path, head="self.fc(x.mean((2, 3)).repeat(x.shape[3] // 8, 1))")["compared"]
    assert not any("3x12x16" in c for c in compared)


def test_a_layer_that_only_another_size_reaches_is_no_failure(tmp_path: Path) -> None:
    compared = pruned(tmp_path, "x = self.wide(x) if x.shape[2] > 8 else x")["compared"]
    assert "random weights, inputs of 3x4x4, removed channels zeroed" in compared


@pytest.mark.parametrize(
    ("example", "others"),
    [
        (torch.zeros(2, 3, 8, 8), ["3x12x16", "3x16x16", "3x12x12", "3x4x4"]),
        (torch.zeros(1, 3, 224, 224), ["3x64x96", "3x160x192", "3x192x192", "3x112x112", "3x336x336"]),
        (torch.zeros(1, 1, 8, 112, 112), ["1x4x48x80", "1x4x80x80", "1x4x56x56", "1x12x168x168"]),
        (torch.zeros(1, 3, 16, 112), ["3x8x80", "3x8x80", "3x8x56", "3x24x168"]),
        ({"ids": torch.ones(2, 8, dtype=torch.int64), "mask": torch.ones(2, 8)}, ["6", "12"]),
        (torch.zeros(2, 3, 16), ["3x12", "3x24", "2x16", "4x16"]),
        (torch.zeros(2, 7), ["6", "10"]),
    ],
)
def test_sizes_to_try(example: object, others: list[str]) -> None:
    assert [name for name, _ in other_sizes(example)] == others


def test_two_inputs_that_a_network_is_trained_on_differ() -> None:
    image, tokens = torch.rand(1, 3, 8, 8), torch.arange(12).reshape(1, 12)
    (images, sequences) = training_inputs((image, tokens))
    assert images.shape == (2, 3, 8, 8) and not torch.equal(images[0], images[1])
    assert sequences.shape == (2, 12) and not torch.equal(sequences[0], sequences[1])
    assert set(sequences.flatten().tolist()) == set(range(12))


def test_inputs_of_several_stay_as_they_are() -> None:
    images = torch.rand(2, 3, 8, 8)
    assert training_inputs(images) is images


@pytest.mark.parametrize(
    ("check", "given"),
    [
        ("assert x.min() >= 0 and x.max() <= 1", {"x": torch.rand(4, 3)}),
        ("assert x.min() >= 0 and x.max() < 0.3", {"x": torch.full((4, 3), 0.25)}),
        ("assert bool((n[1:] > n[:-1]).all())", {"x": torch.rand(4, 3), "n": torch.arange(4)}),
        ("x = x / (n == torch.arange(4))[:, None]", {"x": torch.rand(4, 3), "n": torch.arange(4)}),
    ],
)
def test_inputs_that_the_network_refuses_are_drawn_less_freely(check: str, given: dict[str, torch.Tensor]) -> None:
    head = f"def forward(self, x, n=None):\n        {check}"
    module = import_text(TEXT.replace("def forward(self, x):", head), "net")
    inputs = varied(given, 1, module.train())
    assert module.training and bool(module(**inputs).isfinite().all())
    assert not torch.equal(inputs["x"], given["x"])


def test_the_difference_is_told_beside_the_size_of_the_outputs(tmp_path: Path) -> None:
    summary = pruned(tmp_path, head="self.fc(x.mean((2, 3))) * 1e9")
    assert summary["output_scale"] > 1e8
    assert summary["max_rel_diff"] <= 1e-9 and summary["max_rel_diff"] * 1e10 >= summary["max_abs_diff"]


def test_statistics_that_training_alone_takes_leave_out_what_is_gone(tmp_path: Path) -> None:
    line = "x = x / (1 + x.sum((1, 2, 3), True).abs() / x.shape[1]) if self.training else x"
    compared = pruned(tmp_path, line, head="self.fc(x.mean((2, 3))) + x.sum((1, 2, 3)).view(-1, 1)")["compared"]
    assert "random weights, in training, removed channels zeroed" in compared


@pytest.mark.parametrize("line", ["x = x * random.random()", "x = x if random.random() < 0.5 else 2 * x"])
def test_numbers_drawn_by_python_are_seeded_alike(line: str, tmp_path: Path) -> None:
    assert pruned(tmp_path, line.replace("random.r", "__import__('random').r"))["compared"]


CODEBOOK = """
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.inp, self.hidden, self.out = nn.Linear(5, 12), nn.Linear(12, 4), nn.Linear(4, 3)
        self.codes = nn.Embedding(6, 4)
        self.codes.weight.requires_grad = False

    def forward(self, x):
        x = self.hidden(self.inp(x).relu())
        nearest = (x[..., None, :] - self.codes.weight).square().sum(-1).argmin(-1)
        if self.training:
            self.codes.weight.data.mul_(0.5).add_(x.reshape(-1, 4).mean(0))
        return self.out(x + (self.codes(nearest) - x).detach()) + self.codes.weight.sum()
"""


def test_a_codebook_that_training_moves_is_where_it_was_afterwards(tmp_path: Path) -> None:
    assert forms.pruned(tmp_path, CODEBOOK)[1]["inp"] == 12
    net = import_file(tmp_path / "out" / "model.py").Net()
    before = net.codes.weight.clone()
    outputs_of(net, torch.randn(2, 7, 5), False, training=True)
    assert torch.equal(net.codes.weight, before)


class LastToken(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(8, 4)
        self.fc = nn.Linear(4, 3)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.fc(self.embedding(tokens)[:, -1])
        return logits


def test_tokens_that_fall_alike_by_chance_are_drawn_again(tmp_path: Path) -> None:
    tokens = torch.tensor([[7, 7, 7, 3]])
    inputs = varied(tokens, 1)
    assert torch.equal(inputs[:, -1], varied(tokens, 2)[:, -1])  # else this test says nothing
    assert random_model(LastToken(), inputs)[0] is not None


def test_a_file_that_does_not_import_a_library_finds_none_of_it_imported(tmp_path: Path) -> None:
    for package, folder in (("transformers", "one"), ("torch", "two")):
        asked = f"import sys\n\nassert {package!r} not in sys.modules, 'it is there'\n"
        text = TEXT.replace("import torch\n", "import torch\n" + asked, 1)
        if package == "torch":
            with pytest.raises(VerificationError, match="it is there"):
                check(tmp_path / folder, text)
        else:
            check(tmp_path / folder, text)
