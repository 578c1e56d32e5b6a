"""Loading the user's network: what is refused, with the exact line, and what is built."""

from __future__ import annotations

import sys

import pytest
from torch import nn

from secateur.pruners.errors import ModelFileError
from secateur.pruners.loading import build, entry_for, load_factory
from secateur.pruners.named_files import parse_arguments

SOURCE = """
from torch import nn

LIMIT = 3


class Net(nn.Module):
    def __init__(self, width=4):
        super().__init__()
        if width < 1:
            raise ValueError("width must be positive")
        self.conv = nn.Conv2d(1, width, 3)


def make(width):
    return Net(width)


def make_nothing():
    pass


def make_table():
    return {}


def ready(width=2, *layers, depth=1):
    return Net(width)


network = Net()
"""


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder to work in, with a model file of a name no other test uses."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    before = set(sys.modules)
    (tmp_path / "own_net.py").write_text(SOURCE)
    yield tmp_path
    for name in set(sys.modules) - before:
        if name.startswith(("own_net", "secateur_input", "neighbour", "broken")):
            del sys.modules[name]


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        pytest.param("sub/gone.py:make", "there is no model file sub/gone.py", id="a file that is not there"),
        pytest.param(
            "own_ent.py:make", "there is no model file own_ent.py; did you mean own_net.py?", id="a misspelt file"
        ),
        pytest.param(
            "own_net.py",
            "--model own_net.py: say which function or class, such as --model own_net.py:make; "
            "it has make, make_nothing, make_table, ready, Net",
            id="no factory",
        ),
        pytest.param("own_net.py:mak", "own_net.py has no mak; did you mean make?", id="a misspelt factory"),
        pytest.param(
            "torchvision.models:resnet18x", "torchvision.models has no resnet18x; did you mean resnet18?",
            id="misspelt in a package that offers it",
        ),
        pytest.param(
            "own_net.py:network",
            "network in own_net.py is a network, and what makes it is asked for: write a function, "
            "def make(): return Net(), and give --model own_net.py:make",
            id="a network",
        ),
        pytest.param(
            "own_net.py:xyz",
            "own_net.py has no xyz; it has make, make_nothing, make_table, ready, Net",
            id="a factory that is not there",
        ),
        pytest.param(
            "own_net.py:LIMIT",
            "LIMIT in own_net.py is a value of type int, not a function or class: "
            "write a function that returns the network",
            id="a factory that is a number",
        ),
        pytest.param(
            "no.such.module:make",
            "there is no module no.such.module: install it, or give the file, --model FILE.py:FACTORY",
            id="a module that is not there",
        ),
        pytest.param(
            "work.ipynb:make",
            "work.ipynb is a notebook: write it as a file first, jupyter nbconvert --to script work.ipynb",
            id="a notebook",
        ),
        pytest.param(
            "own-net:make",
            "own-net: 'own-net' is not a Python identifier and can't be imported; rename it own_net",
            id="a module name that is no identifier",
        ),
        pytest.param(
            "folder/own_net:make",
            "--model folder/own_net: a model file ends in .py; a module is written package.module",
            id="a path without .py",
        ),
    ],
)
def test_refuses(here, spec, message):
    with pytest.raises(ModelFileError) as refusal:
        load_factory(spec)
    assert str(refusal.value) == message


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        pytest.param(
            "own-net.py",
            SOURCE,
            "own-net.py: 'own-net' is not a Python identifier and can't be imported; rename it own_net.py",
            id="a file name that is no identifier",
        ),
        pytest.param(
            "broken.py",
            "x = 1\ndef make(:\n",
            "{folder}/broken.py:2: syntax error: invalid syntax",
            id="a syntax error",
        ),
        pytest.param(
            "broken.py",
            "import os\nimport no_such_package\n",
            "importing broken.py failed: ModuleNotFoundError: No module named 'no_such_package' (broken.py:2)",
            id="an import that fails",
        ),
        pytest.param(
            "broken.py",
            "from .blocks import Block\n",
            "importing broken.py failed: ModuleNotFoundError: No module named '{folder.name}.blocks' (broken.py:1)",
            id="relative imports",
        ),
        pytest.param(
            "broken.py",
            "import sys\nsys.exit(3)\n",
            "broken.py ends the program when it is imported: put that under if __name__ == '__main__'",
            id="a script",
        ),
    ],
)
def test_refuses_a_file(here, name, text, message):
    (here / name).write_text(text)
    with pytest.raises(ModelFileError) as refusal:
        load_factory(f"{name}:make")
    assert str(refusal.value) == message.format(folder=here)


@pytest.mark.parametrize(
    ("factory", "arguments", "message"),
    [
        pytest.param(
            "make", {},
            "make in own_net.py needs width: add --model-arg width=...; where that is no number or text but a class, "
            "write a function, def make(): return make(width=...)",
            id="a missing argument",
        ),
        pytest.param(
            "make", {"widht": 3}, "make in own_net.py has no argument widht; did you mean width?", id="a misspelt one"
        ),
        pytest.param(
            "make_table", {"n": 1}, "make_table in own_net.py has no argument n; it takes no arguments", id="too many"
        ),
        pytest.param(
            "make",
            {"width": 0},
            "make(width=0) in own_net.py failed: ValueError: width must be positive (own_net.py:11)",
            id="a factory that raises",
        ),
        pytest.param(
            "make_nothing",
            {},
            "make_nothing in own_net.py returned nothing, not a torch.nn.Module: return the network",
            id="no network",
        ),
        pytest.param(
            "make_table",
            {},
            "make_table in own_net.py returned a dict, not a torch.nn.Module: return the network",
            id="something else than a network",
        ),
    ],
)
def test_refuses_to_build(here, factory, arguments, message):
    found = load_factory(f"own_net.py:{factory}")
    with pytest.raises(ModelFileError) as refusal:
        build(found, arguments)
    assert str(refusal.value) == message


@pytest.mark.parametrize("text", ["width", "=3", "my-width=3"])
def test_refuses_an_argument_without_name_or_value(text):
    with pytest.raises(ModelFileError) as refusal:
        parse_arguments([text])
    assert str(refusal.value) == f"--model-arg {text}: write NAME=VALUE, such as --model-arg width=16"


def test_arguments_are_literals_or_text():
    texts = ["width=16", "rates=(1, 2)", "act=relu", "name='3'", "flag=True", "empty=", "path=a=b"]
    assert parse_arguments(texts) == {
        "width": 16, "rates": (1, 2), "act": "relu", "name": "3", "flag": True, "empty": "", "path": "a=b",
    }  # fmt: skip


def test_arguments_are_never_run(here):
    assert parse_arguments(["x=__import__('os').mkdir('made')"]) == {"x": "__import__('os').mkdir('made')"}
    assert not (here / "made").exists()


@pytest.mark.parametrize("factory", ["make", "Net", "ready"])
def test_builds_from_functions_and_classes(here, factory):
    found = load_factory(f"own_net.py:{factory}")
    assert build(found, {"width": 5}).conv.out_channels == 5


def test_the_same_file_is_one_module(here):
    assert load_factory("own_net.py:make").call is load_factory(str(here / "own_net.py:make")).call


def test_two_files_of_one_name_do_not_meet(here):
    (here / "sub").mkdir()
    (here / "sub" / "own_net.py").write_text(SOURCE.replace("width=4", "width=9"))
    first, second = load_factory("own_net.py:Net"), load_factory("sub/own_net.py:Net")
    assert (build(first, {}).conv.out_channels, build(second, {}).conv.out_channels) == (4, 9)


def test_a_file_may_import_its_neighbours(here):
    (here / "neighbour_layers.py").write_text("from torch import nn\n\ndef layer(n):\n    return nn.Conv2d(1, n, 1)\n")
    (here / "own_net_two.py").write_text("from neighbour_layers import layer\n\ndef make():\n    return layer(3)\n")
    assert isinstance(build(load_factory("own_net_two.py:make"), {}), nn.Conv2d)


def test_loads_from_a_module():
    found = load_factory("models.cifar.lenet5:lenet5")
    assert type(build(found, {})).__name__ == "LeNet5"


def test_the_entry_names_file_and_call(here):
    found = load_factory("own_net.py:make")
    entry = entry_for(found, {"width": 3})
    assert (entry.name, entry.origin, entry.kwargs) == ("make", "own_net.py, make(width=3)", {"width": 3})


# -- files of packages

PART = "from torch import nn\n\n\ndef layer(width):\n    return nn.Conv2d(1, width, 3)\n"
WHOLE = "from torch import nn\n\nfrom {dots}parts import layer\n\n\ndef make():\n    return nn.Sequential(layer(4))\n"


@pytest.mark.parametrize(
    ("file", "parts", "dots", "packages"),
    [
        ("src/own_net_a/model.py", "src/own_net_a/parts.py", ".", ["src/own_net_a"]),
        ("own_net_b/deep/model.py", "own_net_b/parts.py", "..", ["own_net_b", "own_net_b/deep"]),
        ("own_net_c/model.py", "own_net_c/parts.py", ".", []),
        ("own_net_d/deep/model.py", "own_net_d/parts.py", "..", ["own_net_d/deep"]),
        ("own_net_e/model.py", "own_net_e/parts/__init__.py", ".", ["own_net_e"]),
    ],
)
def test_a_file_with_relative_imports_is_a_module_of_its_package(here, file, parts, dots, packages):
    for path in (file, parts, *(f"{p}/__init__.py" for p in packages)):
        (here / path).parent.mkdir(parents=True, exist_ok=True)
        (here / path).touch()
    (here / parts).write_text(PART)
    (here / file).write_text(WHOLE.format(dots=dots))
    factory = load_factory(f"{file}:make")
    assert isinstance(build(factory, {})[0], nn.Conv2d)
    assert load_factory(f"{file}:make").call is factory.call


def test_a_package_of_another_place_is_not_taken_for_it(here):
    for folder in ("one", "two"):
        (here / folder / "own_net_twice").mkdir(parents=True)
        (here / folder / "own_net_twice" / "__init__.py").touch()
        (here / folder / "own_net_twice" / "parts.py").write_text(PART)
        (here / folder / "own_net_twice" / "model.py").write_text(WHOLE.format(dots="."))
    load_factory("one/own_net_twice/model.py:make")
    with pytest.raises(ModelFileError, match=r"is the module own_net_twice.model, but another one of that name"):
        load_factory("two/own_net_twice/model.py:make")


def test_a_package_whose_name_can_not_be_imported_is_refused(here):
    (here / "my-net").mkdir()
    (here / "my-net" / "parts.py").write_text(PART)
    (here / "my-net" / "model.py").write_text(WHOLE.format(dots="."))
    with pytest.raises(ModelFileError, match=r"'my-net' is not a Python identifier and can.t be imported"):
        load_factory("my-net/model.py:make")
