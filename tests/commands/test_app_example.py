"""Networks that take more than one image: ``--example FILE.py:FUNCTION``."""

from __future__ import annotations

import pytest
import torch
from app_helpers import app, refusal

from secateur.pruners.bundle import Bundle

TOKENS = '''"""A network that reads tokens and a mask, and answers with a dictionary."""

import torch
from torch import Tensor, nn


class Tagger(nn.Module):
    def __init__(self, vocabulary: int = 20, width: int = 8) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, width)
        self.fc1 = nn.Linear(width, 4 * width)
        self.fc2 = nn.Linear(4 * width, width)
        self.head = nn.Linear(width, 5)

    def forward(self, tokens: Tensor, *, mask: Tensor | None = None) -> dict[str, Tensor]:
        x = self.embedding(tokens)
        x = x + self.fc2(self.fc1(x).relu())
        if mask is not None:
            x = x * mask.unsqueeze(-1)
        return {"tags": self.head(x), "length": tokens.new_tensor(tokens.shape[1])}


def sentence():
    """Keyword arguments, with the batch on the first axis."""
    return {"tokens": torch.randint(0, 20, (2, 7)), "mask": torch.ones(2, 7)}


def wordless():
    return {"tokens": None}


def broken():
    raise ValueError("no words")


VALUE = 3
'''
MODEL = ("--model", "own_tagger.py:Tagger")
EXAMPLE = ("--example", "own_tagger.py:sentence")


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own_tagger.py").write_text(TOKENS)
    return tmp_path


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        pytest.param(
            [*MODEL],
            "error: --model own_tagger.py:Tagger: say what the network takes, --input-shape 3,224,224 (one image), "
            "or give --data or --example FILE.py:FUNCTION",
            id="nothing says what the network takes",
        ),
        pytest.param(
            [*MODEL, "--example", "own_tagger.py"],
            "error: --example own_tagger.py: say which function or class, such as --example own_tagger.py:sentence; "
            "it has sentence, wordless, broken, Tagger",
            id="no function named",
        ),
        pytest.param(
            [*MODEL, "--example", "own_tagger.py:sentense"],
            "error: own_tagger.py has no sentense; did you mean sentence?",
            id="a function that is not there",
        ),
        pytest.param(
            [*MODEL, "--example", "own_tagger.py:VALUE"],
            "error: VALUE in own_tagger.py is a value of type int, not a function or class: "
            "write a function that returns it",
            id="a value",
        ),
        pytest.param(
            [*MODEL, "--example", "own_tagger.py:wordless"],
            "error: --example own_tagger.py:wordless returned dict without a tensor: return what the network is called "
            "with, a tensor, a tuple of arguments or a dict of keyword arguments, or a list of several such examples",
            id="no tensor",
        ),
        pytest.param(
            [*MODEL, "--example", "own_tagger.py:broken"],
            "error: broken() in own_tagger.py failed: ValueError: no words --> own_tagger.py:33",
            id="a function that fails",
        ),
        pytest.param(
            [*MODEL, *EXAMPLE, "--input-shape", "7"],
            "error: --example and --input-shape both say what the network takes: leave one out",
            id="an input shape as well",
        ),
        pytest.param(
            [*MODEL, *EXAMPLE, "--data", "digits"],
            "error: --example and --data both say what the network takes: leave one out",
            id="images as well",
        ),
        pytest.param(
            [*MODEL, "--input-shape", "7"],
            "error: Tagger can't be run on random inputs of --input-shape 7: RuntimeError: Expected tensor for "
            "argument #1 'indices' to have one of the following scalar types: Long, Int; but got torch.FloatTensor "
            "instead (while checking arguments for embedding) --> own_tagger.py:16; give another shape, or --example "
            "FILE.py:FUNCTION that returns what it takes",
            id="random images for a network that takes tokens",
        ),
        pytest.param(
            [*MODEL, "--input-shape", "7", "--input-shape", "7", "--input-shape", "7"],
            "error: Tagger can't be run on random inputs of --input-shape 7 --input-shape 7 --input-shape 7: "
            "TypeError: Tagger.forward() takes 2 positional arguments but 4 were given --> own_tagger.py:15; give "
            "another shape, or --example FILE.py:FUNCTION that returns what it takes",
            id="more inputs than forward takes",
        ),
    ],
)
def test_is_refused(here, arguments, message):
    code, said = refusal("prune", "-q", *arguments, "--ratio", "0.5")
    assert said.replace(f"{here}/", "") == message
    assert code in (2, 3)
    assert not (here / "generated").exists()


def test_code_that_asks_for_a_gpu_is_refused_with_the_place(here, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    lines = ["from torch import nn", "", "class Net(nn.Module):", "    def forward(self, x):"]
    (here / "own_gpu.py").write_text("\n".join([*lines, "        raise RuntimeError('CUDA')"]))
    code, said = refusal("prune", "-q", "--model", "own_gpu.py:Net", "--input-shape", "7", "--ratio", "0.5")
    assert code == 2
    assert said.endswith("own_gpu.py:5; the code asks for a GPU, and here is none: take the device of the inputs there")


@pytest.fixture
def bundle(here):
    result = app("prune", "-q", *MODEL, *EXAMPLE, "--ratio", "0.5", "-o", "out")
    assert result.exit_code == 0, result.stderr
    return here / "out"


def test_a_network_that_takes_tokens_and_a_mask_is_pruned(bundle):
    made = Bundle.open(bundle)
    assert made.model.embedding.embedding_dim == 4
    assert made.model(torch.tensor([[1, 2]]))["tags"].shape == (1, 2, 5)
    assert made.plan.provenance["example"] == "own_tagger.py:sentence"


def test_a_plan_runs_the_function_only_if_the_user_names_it(bundle):
    plan = str(bundle / "plan.json")
    code, said = refusal("apply", plan, *MODEL, "-o", "again")
    assert code == 2
    function = "own_tagger.py:sentence"
    assert said == f"error: {plan} was made on what {function} returns: add --example {function}"
    assert app("apply", "-q", plan, *MODEL, *EXAMPLE, "-o", "again").exit_code == 0
    for name in ("model.py", "weights.pth", "plan.json"):
        assert (bundle / name).read_bytes() == (bundle.with_name("again") / name).read_bytes()


def test_a_bundle_is_profiled_on_the_named_example(bundle):
    code, said = refusal("profile", str(bundle))
    assert code == 2
    assert "add --example own_tagger.py:sentence" in said
    result = app("profile", "-q", str(bundle), *EXAMPLE)
    assert result.exit_code == 0, result.stderr
    assert "fc1" in result.stdout
