"""What no source file can say: refused by name before anything is written."""

from __future__ import annotations

import dataclasses
import types

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from ...errors import NoSourceError, SourceError, UnwritableLayerError
from ...places import Site
from ...run import NO_COLUMNS, is_library_file
from ..text import code_of
from .tree import Tree, is_authored
from .values import own_method

_HOOKS = {
    "_forward_hooks": "a forward hook",
    "_forward_pre_hooks": "a forward pre-hook",
    "_backward_hooks": "a backward hook",
    "_backward_pre_hooks": "a backward pre-hook",
}
_REMOVERS = {"WeightNorm": "remove_weight_norm", "SpectralNorm": "remove_spectral_norm"}
_CONFIGURED = {"transformers": "PreTrainedModel", "diffusers": "ModelMixin"}  # library -> what its models derive from
_OTHER_WAY = {
    "transformers": "prune it by itself, from its folder with --model hf:DIR or from a function that returns it",
    "diffusers": "copy its classes into a file of yours, derived from nn.Module, without these, and prune that",
}
_QUANTIZED = ("torch.ao.nn.", "torch.nn.quantized", "torch.nn.intrinsic", "torch.nn.qat", "torch.ao.quantization")
_READY = ("QuantStub", "DeQuantStub", "FloatFunctional")


def refuse(tree: Tree) -> None:
    """Raises SourceError, with the module and the class's file and line, for the first thing that can't be written."""
    for path, module in tree.live.items():
        if library := _configured(tree, type(module)):
            raise UnwritableLayerError(
                f"{path or 'the model'} is {type(module).__qualname__} of {library}, whose code can't be written as a "
                f"file of its own: a configuration and decorators of {library} make it what it is",
                site=_made_at(tree, path), help=_OTHER_WAY[library],
            )  # fmt: skip
        reason = _reason(module)
        if reason is None and module.training and not tree.model.training:
            reason = "trains although the model is in eval mode; call model.eval() or model.train() first"
        if reason is not None:
            what, _, way_out = reason.partition("; ")
            shown = f"{path or 'the model'} ({type(module).__qualname__}) {what}"
            site = _place(tree, path) if is_authored(type(module)) else _made_at(tree, path)
            raise UnwritableLayerError(shown, site=site, help=way_out)
    if not is_authored(type(tree.model)):
        name = type(tree.model).__name__
        raise NoSourceError(f"{name} is torch's own class, without an author's source; put it into a class of yours")
    for cls in tree.instances:
        tree.sources.of_class(cls)


def _reason(module: nn.Module) -> str | None:
    cls = type(module)
    if isinstance(module, torch.jit.ScriptModule) and is_authored(cls):
        return "is a script module; derive it from torch.nn.Module, without torch.jit.script_method, to prune it"
    if isinstance(module, torch.jit.ScriptModule):
        return "is a script module, which has no Python source; give the module it was scripted from"
    if isinstance(module, torch.fx.GraphModule):
        return "is a traced graph, which has no source file; give the module it was traced from"
    if cls.__module__.startswith(_QUANTIZED) and not _is_ready(module):
        return "is quantized; write the source before quantizing"
    if hasattr(module, "parametrizations"):
        return "has a parametrization; bake it in with torch.nn.utils.parametrize.remove_parametrizations first"
    tensors = [*module._parameters.values(), *module._buffers.values()]
    if any(t is not None and is_lazy(t) for t in tensors):
        return "is lazy and has no weights yet; run the model once first"
    if any(t is not None and t.is_quantized for t in tensors):
        return "holds quantized tensors; write the source before quantizing"
    for name, text in _HOOKS.items():
        for hook in getattr(module, name, None) or ():
            remedy = _REMOVERS.get(type(getattr(module, name)[hook]).__name__)
            if remedy is not None:
                return f"is normalised by a forward pre-hook; call torch.nn.utils.{remedy} on it first"
        if getattr(module, name, None):
            return f"has {text}, which the generated source would lose; remove it or put its work into forward"
    own = vars(module)
    bound = {n: v for n, v in own.items() if isinstance(v, types.MethodType) and v.__self__ is module}
    sound = {n for n, v in bound.items() if own_method(v)}
    replaced: list[str] = [n for n in ("forward", "__call__") if n in own and n not in sound]
    replaced += sorted(bound.keys() - sound - set(replaced))
    if replaced:
        return f"has a replaced {replaced[0]}; write a subclass with that method instead"
    if cls.get_extra_state is not nn.Module.get_extra_state:
        return "keeps more than tensors in its state_dict (get_extra_state); make it a buffer, or leave the method out"
    if is_authored(cls) and dataclasses.is_dataclass(cls):
        return "is a dataclass, whose constructor is not written; give it an __init__"
    code = code_of(vars(cls).get("forward"))
    if code is not None and all(column is None for *_, column in code.co_positions()):
        return NO_COLUMNS
    return None


def _configured(tree: Tree, cls: type) -> str:
    """The library whose configurations and decorators make a class what it is, if it has to be written."""
    bases = {(c.__module__.partition(".")[0], c.__name__) for c in cls.__mro__}
    return next((name for name, base in _CONFIGURED.items() if (name, base) in bases and cls not in tree.imported), "")


def _made_at(tree: Tree, path: str) -> Site | None:
    """The line outside installed packages that makes the module, or else where its class is written."""
    birth = tree.birth(path)
    frames = [f for f in birth.frames if not is_library_file(f.file)] if birth else []
    return Site(frames[0].file, frames[0].end[0]) if frames else _place(tree, path)


def _is_ready(module: nn.Module) -> bool:
    """One that does nothing, or a sum, until the network is quantized."""
    ready = type(module).__module__.startswith(_QUANTIZED) and type(module).__name__ in _READY
    return ready and not any(getattr(module, name) for name in _HOOKS) and getattr(module, "qconfig", None) is None


def _place(tree: Tree, path: str) -> Site | None:
    """Where the module's class is written, or else the class of the first around it that has a source."""
    around = [".".join(path.split(".")[:n]) for n in range(path.count(".") + 1, 0, -1)] if path else []
    for module in (tree.live[p] for p in (*around, "")):
        try:
            file, node = tree.sources.of_class(type(module)) if is_authored(type(module)) else (None, None)
        except SourceError:
            continue
        if file and node:
            return file.at(node)
    return None
