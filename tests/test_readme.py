"""What the README says is true: its commands parse, its code runs, its diff is real, its links lead somewhere."""

from __future__ import annotations

import re
import shutil
import sys
from pathlib import Path

import pytest
import torch

from secateur.app import cli
from secateur.pruners.bundle import Bundle

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text("utf-8")
DOCS = [path.relative_to(ROOT).as_posix() for path in sorted((ROOT / "docs").rglob("*.md"))]
PAGES = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md", *DOCS)


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def block_with(text: str) -> str:
    return next(b for b in blocks("python") if text in b)


TABLE = re.findall(r"\| (`secateur.*?`) \|", README)
COMMANDS = re.findall(r"secateur ([a-z]+)([^`\n]*)", "".join([*blocks("sh"), *TABLE]))


@pytest.mark.parametrize(("name", "arguments"), COMMANDS, ids=[f"{n}{a}" for n, a in COMMANDS])
def test_every_command_parses(name, arguments):
    command = cli.commands[name]
    command.make_context(name, arguments.split() + ["x.py"] * (name == "check" and not arguments))


def test_the_table_has_every_command():
    assert set(re.findall(r"^\| `secateur ([a-z]+)", README, re.MULTILINE)) == set(cli.commands)


def test_every_option_named_is_one():
    known = {o for c in cli.commands.values() for p in c.params for o in p.opts} | {"--help"}
    pages = README + "".join(p.read_text("utf-8") for p in (ROOT / "docs").rglob("*.md"))
    assert set(re.findall(r"`(--[a-z0-9-]+)", pages)) <= known


def test_the_diff_is_real():
    """The first command prints this block; the example keeps other channels, and the same lines of the block."""
    before = (ROOT / "models" / "cifar" / "resnet.py").read_text("utf-8").splitlines()
    after = (ROOT / "generated" / "example" / "model.py").read_text("utf-8").splitlines()
    [diff] = blocks("diff")
    head, *lines = diff.splitlines()
    assert any(line.startswith(head[1:-1]) for line in after)
    for line in lines:
        assert line[0] in "-+"
        if line[0] == "-":
            assert line[1:] in before, line
        else:
            assert line[1:] in after, line


def test_figures_are_those_of_the_benchmarks():
    sys.path.insert(0, str(ROOT / "benchmarks"))
    try:
        import figures
    finally:
        sys.path.pop(0)
    assert figures.PICTURE.read_text("utf-8") == figures.picture()
    assert figures.with_table(README) == README
    assert len(figures.one_shot()) == 3


def test_readme_is_short():
    assert len(README.splitlines()) <= 200


def test_retraining_in_plain_pytorch_runs(tmp_path, monkeypatch):
    shutil.copy(ROOT / "generated" / "example" / "model.py", tmp_path / "model.py")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "model", raising=False)
    import model  # the generated file

    torch.manual_seed(0)
    network = model.resnet20()
    before = {k: v.clone() for k, v in network.state_dict().items()}
    torch.save(before, "weights.pth")
    code = block_with("F.cross_entropy")
    assert len([line for line in code.split("\n\n")[1].splitlines() if line]) <= 10
    images, labels = torch.randn(8, 3, 8, 8), torch.arange(8)
    exec(compile(code, "README.md", "exec"), {"loader": [(images, labels)]})
    after = torch.load("weights.pth", weights_only=True)
    assert not torch.equal(after["conv1.weight"], before["conv1.weight"])
    del sys.modules["model"]


def test_the_python_example_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    exec(compile(block_with("from secateur import prune"), "README.md", "exec"), {})
    assert "conv2: " in capsys.readouterr().out
    assert Bundle.open("generated/lenet5_half").summary["verified"] is True


def test_the_decorators_are_there():
    page = (ROOT / "docs" / "add_a_block.md").read_text("utf-8")
    [code] = re.findall(r"```py\n(.*?)```", page, re.DOTALL)
    code = code.replace("nn.Module): ...", "nn.Module):\n    stem = None")
    with pytest.MonkeyPatch.context() as patched:
        patched.syspath_prepend(str(ROOT))
        exec(compile(code, "README.md", "exec"), {"nn": torch.nn, "__name__": "readme"})


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\((?!https:)([^)#]+)\)", (ROOT / page).read_text("utf-8")):
        assert (ROOT / page).parent.joinpath(target).exists(), target


def test_the_test_command_is_the_one_that_ci_runs():
    ci = (ROOT / ".ci" / "run").read_text("utf-8")
    assert '.venv/bin/pip install -e ".[test]" && .venv/bin/python -m pytest' in README
    assert "-m pytest" in ci
    assert '-e ".[test]"' in ci
