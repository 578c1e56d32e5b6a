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
PAGES = (
    "README.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md", "docs/options.md", "docs/limits.md",
    "docs/export.md",
)  # fmt: skip


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
    pages = README + "".join(p.read_text("utf-8") for p in (ROOT / "docs").glob("*.md"))
    assert set(re.findall(r"`(--[a-z0-9-]+)", pages)) <= known


def test_the_diff_is_real():
    before = (ROOT / "models" / "cifar" / "resnet.py").read_text("utf-8").splitlines()
    after = (ROOT / "generated" / "example" / "model.py").read_text("utf-8").splitlines()
    [diff] = blocks("diff")
    for line in filter(None, diff.splitlines()):
        if line[0] in "- ":
            assert line[1:] in before, line
        if line[0] in "+ ":
            assert line[1:] in after, line


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
    code = block_with("@basic_block").replace("nn.Module): ...", "nn.Module):\n    stem = None")
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
