"""``--score``: a measure of the user's own drives the searches and is what is told."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from app_helpers import MODEL, app, refusal
from torch import nn

from secateur import prune
from secateur.models.cifar.lenet5 import lenet5
from secateur.pruners.bundle import Bundle
from secateur.pruners.errors import MeasureError
from secateur.pruners.measure import Measure

SCORES = '''
import torch
from own_small import Small

CALLS = []


def whole():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Small().eval()


def near(model):
    """How near the outputs are to those of the whole network, in points: 100 is the same."""
    assert not model.training and not torch.is_grad_enabled()
    CALLS.append(1)
    x = torch.randn(16, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    wanted = whole()(x)
    print("a measure may print")
    return 100 * (1 - (model(x) - wanted).square().mean() / wanted.var())


def traced(model):
    return near(torch.jit.trace(model, torch.zeros(1, 1, 8, 8)))


def exported(model):
    program = torch.export.export(model, (torch.zeros(16, 1, 8, 8),))
    return near_of(program.module())


def compiled(model):
    return near_of(torch.compile(model, backend="eager"))


def near_of(call):
    x = torch.randn(16, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    wanted = whole()(x)
    return 100 * (1 - (call(x) - wanted).square().mean() / wanted.var())


def hurried(model, seconds):
    return seconds


def by_word(model, *, batch=3, seconds=2.5):
    return seconds


def optional(model, scale=2.0):
    return scale


def nothing(model):
    model(torch.zeros(1, 1, 8, 8))


def word(model):
    return "0.5"


def right(model):
    return True


def several(model):
    return torch.ones(3)


def endless(model):
    return float("inf")


def no_number(model):
    return torch.tensor(float("nan"))


def broken(model):
    raise ValueError("no boxes")


def ends(model):
    raise SystemExit(3)


def narrow_fails(model):
    if model.conv1.out_channels < 6:
        raise ValueError("only six channels will do")
    return 1.0


def narrow_is_nan(model):
    return 1.0 if model.conv2.out_channels == 8 else float("nan")


def spoils(model):
    model.train()
    for p in model.parameters():
        p.zero_()
    model.conv1.seen = True
    return 0.5


def alone():
    return 1.0


def three(model, one, two):
    return 1.0


def worded(model, *, images):
    return 1.0


made_of = near
'''


def at(text: str) -> str:
    """The place in the file where this stands."""
    return f" --> own_scores.py:{next(n for n, line in enumerate(SCORES.splitlines(), 1) if text in line)}"


@pytest.fixture
def there(here: Path) -> Path:
    (here / "own_scores.py").write_text(SCORES)
    (here / "own_slip.py").write_text("def near(model)\n    return 1\n")
    (here / "own_raises.py").write_text("1 / 0\ndef near(model):\n    return 1\n")
    (here / "own_star.py").write_text("from own_scores import *\n")
    return here


def score(name: str, file: str = "own_scores.py") -> tuple[str, ...]:
    return ("--score", f"{file}:{name}")


# -- refused before the work


@pytest.mark.parametrize(
    ("words", "message"),
    [
        pytest.param(("--score", "own_scores.py"), "--score own_scores.py: say which function, --score "
                     "own_scores.py:FUNCTION", id="no function"),
        pytest.param(score("near", "own_score.py"), "there is no model file own_score.py; did you mean own_scores.py?",
                     id="no file"),
        pytest.param(score("neer"), "--score own_scores.py:neer: own_scores.py has no neer; did you mean near?",
                     id="no such function"),
        pytest.param(("--score-seconds", "3"), "--score-seconds is for --score: add it, or leave --score-seconds out",
                     id="seconds for nothing"),
        pytest.param((*score("near"), "--score-seconds", "3"), "--score-seconds 3: near in own_scores.py takes the "
                     "network alone; write near(model, seconds), or leave the option out", id="seconds not taken"),
        pytest.param(score("CALLS"), "CALLS in own_scores.py is a value of type list, not a function or class: write "
                     "a function that returns it", id="a value"),
        pytest.param(score("alone"), "--score alone in own_scores.py takes (): write alone(model) or alone(model, "
                     "seconds)", id="a function of nothing"),
        pytest.param(score("three"), "--score three in own_scores.py takes (model, one, two): write three(model) or "
                     "three(model, seconds)", id="a function of three"),
        pytest.param(score("worded"), "--score worded in own_scores.py takes (model, images): write worded(model) or "
                     "worded(model, seconds)", id="a function that needs a word"),
        pytest.param(score("near", "own_slip.py"), "syntax error: expected ':' --> own_slip.py:1", id="a slip"),
        pytest.param(score("near", "own_raises.py"), "importing own_raises.py failed: ZeroDivisionError: division by "
                     "zero --> own_raises.py:1", id="a file that fails"),
        pytest.param(score("nothing"), "--score own_scores.py:nothing returned nothing: return one number, larger for "
                     "a better network", id="nothing"),
        pytest.param(score("word"), "--score own_scores.py:word returned a str: return one number, larger for a better "
                     "network", id="a word"),
        pytest.param(score("right"), "--score own_scores.py:right returned a bool: return one number, larger for a "
                     "better network", id="a truth"),
        pytest.param(score("several"), "--score own_scores.py:several returned a Tensor of shape (3,): return one "
                     "number, larger for a better network", id="several numbers"),
        pytest.param(score("endless"), "--score own_scores.py:endless returned inf: return a finite number",
                     id="infinity"),
        pytest.param(score("no_number"), "--score own_scores.py:no_number returned nan: return a finite number",
                     id="not a number"),
        pytest.param(score("broken"), "--score own_scores.py:broken failed: ValueError: no boxes" + at("no boxes"),
                     id="an error"),
        pytest.param(score("ends"), "--score own_scores.py:ends failed: SystemExit: 3" + at("SystemExit"),
                     id="the end"),
        pytest.param((*score("near"), "--stop-early", "--search", "bayesian"), "--stop-early looks at the losses of "
                     "single images, of which --score tells nothing", id="losses of images"),
        pytest.param((*score("near"), "--final-epochs", "2"), "--final-epochs 2 needs images with labels: give --data, "
                     "or leave it out", id="retraining without labels"),
        pytest.param((*score("near"), "--retrain-epochs", "2", "--search", "bayesian"), "--retrain-epochs 2 needs "
                     "images with labels: give --data, or leave it out", id="retraining in the search"),
    ],
)  # fmt: skip
def test_refused_before_the_search(there: Path, words: tuple[str, ...], message: str) -> None:
    code, said = refusal("prune", "-q", *MODEL, "--macs", "0.6", *words, "-o", "out")
    assert (code, said) == (2, f"error: {message.format(here=there)}")
    assert not (there / ".out.work").exists()


@pytest.mark.parametrize("words", [("--confusion",), ("--batch-size", "3"), ("-d", "a.png")])
def test_measuring_twice_is_refused(there: Path, words: tuple[str, ...]) -> None:
    code, said = refusal("evaluate", *MODEL, *score("near"), *words)
    assert code == 2
    assert said.endswith("is of accuracy on --data, and --score is another measure: give one of them")


@pytest.mark.parametrize(
    ("name", "search", "message"),
    [
        ("narrow_fails", "bayesian", "failed: ValueError: only six channels will do, at evaluation 2 of conv1 in the "
         "search"),
        ("narrow_is_nan", "bayesian", "returned nan: return a finite number, at evaluation 2 of conv2 in the search"),
        ("narrow_fails", "sensitivity", "failed: ValueError: only six channels will do, at evaluation 1 of conv1 in "
         "the search"),
    ],
)  # fmt: skip
def test_a_measure_that_fails_on_a_candidate_names_it_and_what_was_found_is_kept(
    there: Path, name: str, search: str, message: str
) -> None:
    code, said = refusal("prune", "-q", *MODEL, "--macs", "0.6", *score(name), "--search", search, "-o", "out")
    kept = "; --resume goes on from here if its file stays the same"
    place = at("only six") if "ValueError" in message else ""
    assert (code, said) == (2, f"error: --score own_scores.py:{name} {message}{kept}{place}")
    assert (there / ".out.work" / "search.jsonl").is_file() and not (there / "out").exists()


def test_another_measure_does_not_go_on_with_a_search(there: Path) -> None:
    words = ("prune", "-q", *MODEL, "--macs", "0.6", "--search", "bayesian", "-o", "out")
    assert app(*words, *score("narrow_fails")).exit_code == 2
    code, said = refusal(*words, *score("near"), "--resume")
    assert code == 2 and "score was" in said
    (there / "own_scores.py").write_text(SCORES.replace("only six", "just six"))
    code, said = refusal(*words, *score("narrow_fails"), "--resume")
    assert code == 2 and "own_scores.py" in said


# -- what it does


@pytest.mark.parametrize(
    ("words", "search"),
    [
        pytest.param(("--macs", "0.6"), "sensitivity", id="probes by the score alone"),
        pytest.param((), "bayesian", id="bayesian without a budget"),
        pytest.param(("--macs", "0.6", "--search", "bayesian", "--per", "stage"), "bayesian", id="stages at once"),
        pytest.param(("--ratio", "0.3"), "uniform", id="uniform tells it only"),
    ],
)
def test_searches_go_by_the_score(there: Path, words: tuple[str, ...], search: str) -> None:
    result = app("prune", *MODEL, *score("near"), *words, "--seed", "0", "-o", "out")
    assert result.exit_code == 0, result.stderr
    assert "own_scores.py:near: 100 before pruning" in result.stderr
    bundle = Bundle.open("out")
    told = bundle.summary["score"]
    assert told["name"] == "own_scores.py:near" and told["before"] == 100.0 and told["pruned"] < 100.0
    assert bundle.plan.provenance["search"] == search
    assert bundle.plan.provenance["score"] == "own_scores.py:near"
    assert "score own_scores.py:near, pruned" in result.stdout
    assert "score own_scores.py:near, pruned" in (there / "out" / "report.html").read_text()
    lines = [json.loads(line) for line in (there / "out" / "search.jsonl").read_text().splitlines()]
    judged = [e for e in lines if e["event"] == "evaluation"]
    assert bool(judged) == (search != "uniform")
    for e in judged:  # the loss is the share of the score that is gone
        assert e["loss"] == pytest.approx(1 - e["score"] / 100, abs=1e-9) and e["accuracy"] is None
    measured = app("evaluate", "out", *score("near"), "--json")
    assert json.loads(measured.stdout)["score"]["own_scores.py:near"] == pytest.approx(told["pruned"])


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ["traced", "exported", "compiled", "near_of"])
def test_measures_that_write_down_what_the_network_does(there: Path, name: str) -> None:
    words = ("prune", "-q", *MODEL, "--macs", "0.6")
    for measure, output in ((name, "out"), ("near", "plain")):
        result = app(*words, *score(measure), "-o", output)
        assert result.exit_code == 0, result.stderr
    found, plain = (Bundle.open(output) for output in ("out", "plain"))
    assert found.plan.widths == plain.plan.widths
    assert found.summary["score"]["pruned"] == pytest.approx(plain.summary["score"]["pruned"])


def test_the_best_of_what_is_tried_is_what_the_measure_says(there: Path) -> None:
    """By a measure that likes few channels in conv2 and all of them in conv1, nothing else counts."""
    (there / "own_likes.py").write_text(
        "def likes(model):\n    return 10.0 * model.conv1.out_channels - model.conv2.out_channels\n"
    )
    result = app("prune", *MODEL, *score("likes", "own_likes.py"), "--alpha", "0", "-o", "out")
    assert result.exit_code == 0, result.stderr
    network = Bundle.open("out").model
    assert network.conv1.out_channels == 6 and network.conv2.out_channels == 5  # at most 40 % may go


def test_the_score_before_is_told_whatever_the_unit(there: Path) -> None:
    """A score of another unit or sign leads to the same network."""
    kept = []
    for name, body in (("less", "near(model) / 1000"), ("shifted", "(near(model) - 100) / 7 - 1e-3")):
        (there / f"own_{name}.py").write_text(f"from own_scores import near\ndef f(model):\n    return {body}\n")
        result = app("prune", "-q", *MODEL, "--macs", "0.6", *score("f", f"own_{name}.py"), "-o", name)
        assert result.exit_code == 0, result.stderr
        kept.append({n: w.kept for n, w in Bundle.open(name).plan.widths.items()})
    assert kept[0] == kept[1]


def test_an_interrupted_search_ends_as_if_it_had_never_stopped(there: Path) -> None:
    """The measure fails once, for want of something outside its file."""
    (there / "own_once.py").write_text(
        "from pathlib import Path\nfrom own_scores import near\n\n\ndef f(model):\n"
        "    if model.conv2.out_channels < 7 and not Path('ready').exists():\n        raise OSError('not yet')\n"
        "    return near(model)\n"
    )
    words = ("prune", "-q", *MODEL, *score("f", "own_once.py"))
    assert app(*words, "-o", "out").exit_code == 2
    found = (there / ".out.work" / "search.jsonl").read_text().splitlines()
    assert len(found) > 2
    (there / "ready").touch()
    assert app(*words, "-o", "out", "--resume").exit_code == 0
    assert app(*words, "-o", "whole").exit_code == 0
    assert Bundle.open("out").plan.widths == Bundle.open("whole").plan.widths
    assert (there / "out" / "search.jsonl").read_text().splitlines()[: len(found)] == found


@pytest.mark.parametrize(
    ("name", "words", "number"),
    [
        ("hurried", (), 60.0),
        ("hurried", ("--score-seconds", "2"), 2.0),
        ("by_word", (), 2.5),
        ("optional", (), 2.0),
        ("made_of", (), 100.0),
        ("near", (), 100.0),
    ],
)
def test_what_a_function_is_called_with(there: Path, name: str, words: tuple[str, ...], number: float) -> None:
    result = app("evaluate", *MODEL, *score(name), *words, "--json")
    assert result.exit_code == 0, result.stderr
    assert json.loads(result.stdout) == {"name": "small", "score": {f"own_scores.py:{name}": number}}


def test_names_that_a_file_takes_from_elsewhere(there: Path) -> None:
    assert app("evaluate", *MODEL, *score("near", "own_star.py")).exit_code == 0


def test_a_measure_leaves_the_network_as_it_was(there: Path) -> None:
    network = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 2, 3)).train()
    before = {n: t.clone() for n, t in network.state_dict().items()}
    network[3].eval()

    def spoils(model: nn.Module) -> float:
        model.train()
        with torch.enable_grad():
            model(torch.randn(4, 1, 8, 8)).sum().backward()
        for p in model.parameters():
            p.zero_()
        return float(torch.rand(()))

    drawn = torch.get_rng_state()
    assert Measure.of(spoils)(network) == Measure.of(spoils)(network)  # it draws the same numbers
    assert torch.equal(torch.get_rng_state(), drawn)
    assert all(torch.equal(t, before[n]) for n, t in network.state_dict().items())
    assert (network.training, network[3].training) == (True, False)
    assert all(p.grad is None for p in network.parameters())


# -- the page

NET = """
from torch import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3, padding=1)
        self.second = nn.Conv2d(8, 8, 3, padding=1)
        self.head = nn.Conv2d(8, 2, 1)

    def forward(self, x):
        return self.head(self.second(self.first(x).relu()).relu())
"""


def test_what_the_page_says_runs(there: Path) -> None:
    page = (Path(__file__).parents[2] / "docs" / "own_measures.md").read_text("utf-8")
    code = page.partition("```python\n")[2].partition("```")[0]
    (there / "own_page.py").write_text(code + NET)
    scope: dict[str, Any] = {"__name__": "own_page_weights"}
    exec(NET, scope)
    torch.manual_seed(0)
    torch.save(scope["Net"]().state_dict(), "net.pth")
    first, second = page.partition("```sh\n")[2].partition("```")[0].replace("net.py", "own_page.py").splitlines()
    result = app(*first.split()[1:])
    assert result.exit_code == 0, result.stderr
    [name] = (folder.name for folder in (there / "generated").iterdir() if not folder.name.startswith("."))
    assert second.split()[2].replace("net-", "own_page-") == f"generated/{name}"
    measured = app("evaluate", f"generated/{name}", *second.split()[3:], "--json")
    score = Bundle.open(f"generated/{name}").summary["score"]
    assert json.loads(measured.stdout)["score"] == {"own_page.py:miou": pytest.approx(score["pruned"])}


def test_the_score_says_which_layers_go(there: Path) -> None:
    (there / "own_deep.py").write_text(
        "from torch import nn\n\n\nclass Block(nn.Module):\n    def __init__(self):\n        super().__init__()\n"
        "        self.conv = nn.Conv2d(4, 4, 3, padding=1)\n\n    def forward(self, x):\n"
        "        return x + self.conv(x).relu()\n\n\nclass Deep(nn.Module):\n    def __init__(self):\n"
        "        super().__init__()\n        self.stem = nn.Conv2d(1, 4, 3)\n"
        "        self.blocks = nn.Sequential(*[Block() for _ in range(4)])\n        self.fc = nn.Linear(4, 3)\n\n"
        "    def forward(self, x):\n        return self.fc(self.blocks(self.stem(x)).mean((2, 3)))\n\n\n"
        "def likes_the_third(model):\n    import torch\n    if len(model.blocks) < 4:\n        return 1.0\n"
        "    x = torch.ones(1, 4, 6, 6)\n    return float((model.blocks[2](x) - x).abs().sum() == 0)\n"
    )
    words = ("--model", "own_deep.py:Deep", "--input-shape", "1,8,8", "--layers", "0.75")
    result = app("prune", *words, *score("likes_the_third", "own_deep.py"), "-o", "out")
    assert result.exit_code == 0, result.stderr
    assert "taken out: blocks.2" in result.stderr


# -- from Python


def test_a_score_from_python() -> None:
    torch.manual_seed(0)
    network = lenet5(image_size=12).eval()
    x = torch.randn(8, 1, 12, 12)
    wanted = network(x).detach()

    def near(model: nn.Module) -> torch.Tensor:
        return -(model(x) - wanted).square().mean()

    bundle = prune(network, x[:1], macs=0.6, search="sensitivity", score=near)
    told = bundle.summary["score"]
    assert told["name"].startswith("test_app_score.py:") and told["before"] == 0.0 and told["pruned"] < 0
    with pytest.raises(MeasureError, match=r"score= test_app_score.py:.* returned a dict"):
        prune(network, x[:1], macs=0.6, score=lambda model: {})
