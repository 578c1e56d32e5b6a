"""The written file is run once and its model compared with the live one, so that nothing is handed over unseen."""

from __future__ import annotations

import itertools
import linecache
import sys
import traceback
import types
from collections.abc import Mapping

import torch
from torch import nn

from ...entry import Entry
from ...errors import SourceError, UnsavedError, WrittenError
from ...run import SAVED, UNSAVED, same_values, unsaved_buffers, widened
from ..live import BOXES, Tree, is_authored, is_torch, undisturbed
from .repairs import same_objects

_NUMBER = itertools.count(1)


def check(text: str, tree: Tree) -> nn.Module:
    """The written model. Raises SourceError where it differs from the live one in what a state_dict and a tree show."""
    twin, model, names = run(text, tree.entry), tree.model, tree.names
    expected, found = _tensors(model), _tensors(twin)
    for key in [*expected, *found]:
        if expected.get(key) != found.get(key):
            raise WrittenError(f"the written source gives {key} as {found.get(key)}, the model has {expected.get(key)}")
    if list(model.state_dict()) != list(twin.state_dict()):
        raise WrittenError("the written source lists the entries of the state_dict in another order")
    kinds = {p: names.get(type(m), type(m).__name__) for p, m in model.named_modules(remove_duplicate=False)}
    kinds[""] = type(twin).__name__ if tree.bare else kinds[""]
    others = {p: type(m).__name__ for p, m in twin.named_modules(remove_duplicate=False)}
    others |= {p: "Module" for p, k in others.items() if (kinds.get(p), k) == ("Module", "ModuleDict")}
    for path in [*kinds, *others]:
        if kinds.get(path) != others.get(path):
            raise WrittenError(
                f"the written source makes {path} a {others.get(path)}, the model has a {kinds.get(path)}"
            )
    _check_order(tree, twin)
    _check_unsaved(tree, twin)
    ties, made = (sorted(same_objects(m.named_parameters(remove_duplicate=False))) for m in (model, twin))
    if ties != made:
        raise WrittenError("the written source doesn't share the same tensors")
    return twin


def _check_order(tree: Tree, twin: nn.Module) -> None:
    """Containers run their layers in the order in which they hold them."""
    for path, module in tree.live.items():
        if isinstance(module, BOXES) and list(module._modules) != list(twin.get_submodule(path)._modules):
            file, node = tree.sources.of_class(type(module if is_authored(type(module)) else tree.model))
            raise SourceError(f"{path} holds its layers in an order that can't be written", site=file.at(node))


def _check_unsaved(tree: Tree, twin: nn.Module) -> None:
    """Buffers that no state_dict brings have their values from the constructor."""
    for path, module in tree.live.items():
        made = twin.get_submodule(path)._buffers
        for name in sorted(unsaved_buffers(module) - tree.changing):
            live, own = module._buffers[name], made.get(name)
            if live is not None and (own is None or not same_values(live, own)) and not is_torch(type(module)):
                file, node = tree.sources.of_class(type(module))
                raise UnsavedError(UNSAVED.format(name), site=file.at(node), help=SAVED)


def run(text: str, entry: Entry) -> nn.Module:
    """The model that the text offers under the entry's name, made in a module of its own; in float32 where the user's
    is of 16 bits."""
    name = entry.name
    module = types.ModuleType(f"_written_{next(_NUMBER)}")
    module.__file__ = f"<{module.__name__}>"
    linecache.cache[module.__file__] = (len(text), None, text.splitlines(keepends=True), module.__file__)
    sys.modules[module.__name__] = module
    try:
        with undisturbed():
            exec(compile(text, module.__file__, "exec", dont_inherit=True), module.__dict__)
            made = getattr(module, name)()
    except Exception as error:
        raise WrittenError(f"the written source can't be run: {type(error).__name__}: {error}") from error
    finally:
        del sys.modules[module.__name__]
        del linecache.cache[module.__file__]
    if not isinstance(made, nn.Module):
        raise WrittenError(f"{name}() of the written source is no module")
    if entry.dtype is not None:
        widened(made)
    return made


def sizes(model: nn.Module) -> Mapping[str, torch.Size]:
    return {name: tensor.shape for name, tensor in model.state_dict().items() if isinstance(tensor, torch.Tensor)}


def failing_lines(error: SourceError) -> list[int]:
    """Lines of constructors in the written file that were running when it failed, the innermost first."""
    trace = traceback.extract_tb(error.__cause__.__traceback__ if error.__cause__ else None)
    return [f.lineno or 0 for f in reversed(trace) if f.filename.startswith("<_written_") and f.name == "__init__"]


def _tensors(model: nn.Module) -> Mapping[str, tuple[tuple[int, ...], torch.dtype, bool]]:
    state = model.state_dict(keep_vars=True)
    return {k: (tuple(t.shape), t.dtype, t.requires_grad) for k, t in state.items() if isinstance(t, torch.Tensor)}
