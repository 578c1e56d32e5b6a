"""Terms for plain attributes: what lies in a module besides modules and tensors."""

from __future__ import annotations

import argparse
import ast
import dataclasses
import enum
import functools
import inspect
import math
import re
import sys
import types
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from ...run import dense
from ..text import SourceFile, Sources, quoted
from .closures import NOTHING_NEW, Made, Renewal, closure, holds, made_by_call, rebinds
from .terms import Alias, Arg, Call, Display, Lit, Ref, Term, Text, is_plain, small_tensor


def term_of_value(value: Any, sources: Sources, new: Renewal = NOTHING_NEW) -> Term:
    """A term whose source gives the value again. Raises LookupError (with a reason) if there is none."""
    if isinstance(value, torch.Size):
        return Lit(tuple(value))
    if isinstance(value, torch.Tensor) and new.tensors and (small := small_tensor(value)) is not None:
        return small
    if isinstance(value, enum.Enum | torch.dtype | torch.memory_format):
        return Ref(value)
    if isinstance(value, torch.device):
        return Call(torch.device, (Arg("type", Lit(str(value)), positional=True),))
    if is_plain(value):
        return Lit(value)
    if type(value) in (tuple, list):
        return Display(type(value).__name__, tuple(term_of_value(v, sources, new) for v in value))
    if type(value) is dict:
        keys = tuple(term_of_value(k, sources, new) for k in value)
        return Display("dict", tuple(term_of_value(v, sources, new) for v in value.values()), keys)
    new = replace(new, tensors=False)  # what holds them otherwise is better made by its author's expression
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return _call(type(value), zip(value._fields, value, strict=True), sources, new)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = [(f.name, getattr(value, f.name)) for f in dataclasses.fields(value) if f.init]
        return _call(type(value), fields, sources, new)
    if type(value) in (types.SimpleNamespace, argparse.Namespace) and all(map(str.isidentifier, vars(value))):
        return Call(type(value), tuple(Arg(n, term_of_value(v, sources, new)) for n, v in vars(value).items()))
    if isinstance(value, functools.partial):
        return _partial(value, sources, new)
    if isinstance(value, dict | list | tuple) and global_name(type(value)) is not None:
        return _container(value, sources, new)
    return _callable(value, sources, new)


def _call(cls: Any, fields: Any, sources: Sources, new: Renewal = NOTHING_NEW) -> Call:
    defaults = inspect.signature(cls).parameters
    args = []
    for name, value in fields:
        default = defaults[name].default if name in defaults else inspect.Parameter.empty
        known = default is not inspect.Parameter.empty and is_plain(default)
        args.append(Arg(name, term_of_value(value, sources, new), Lit(default) if known else None))
    return Call(cls, tuple(args))


def _container(value: Any, sources: Sources, new: Renewal) -> Call:
    """A dict or list with more to it, such as one whose keys are read as attributes: its class with the plain one."""
    plain = next(t for t in (dict, list, tuple) if isinstance(value, t))(value)
    try:
        again = type(value)(plain)
        alike = again == value and vars(again).keys() == vars(value).keys()
    except (TypeError, ValueError) as error:
        raise LookupError(f"a {type(value).__name__} is not made of a {type(plain).__name__} alone") from error
    if not alike:
        raise LookupError(f"a {type(value).__name__} holds more than its {type(plain).__name__}")
    return Call(type(value), (Arg("", term_of_value(plain, sources, new), positional=True),))


def _partial(value: functools.partial[Any], sources: Sources, new: Renewal = NOTHING_NEW) -> Call:
    args = [Arg("", term_of_value(v, sources, new), positional=True) for v in (value.func, *value.args)]
    args += [Arg(k, term_of_value(v, sources, new)) for k, v in value.keywords.items()]
    return Call(functools.partial, tuple(args))


def _callable(value: Any, sources: Sources, new: Renewal = NOTHING_NEW) -> Term:
    if isinstance(value, types.FunctionType) and value.__name__ == "<lambda>":
        return _lambda(value, sources, new)
    if isinstance(value, types.MethodType) and own_method(value):
        return Alias(f"self.{value.__name__}")
    if isinstance(value, types.MethodType | nn.Module):
        raise LookupError(f"a {type(value).__name__} kept as a plain attribute has no constructor expression")
    if isinstance(value, type | types.FunctionType | types.BuiltinFunctionType | types.ModuleType) or callable(value):
        if global_name(value) is not None:
            return Ref(value)
        place = sources.of_function(value) if isinstance(value, types.FunctionType) else None
        if place is not None and isinstance(place[1], ast.FunctionDef) and not place[1].decorator_list:
            return _made(value, place[1], place[0], sources, new)
        raise LookupError(f"{value!r} has no global name")
    raise LookupError(f"a {type(value).__name__} can't be written as an expression")


def own_method(value: types.MethodType) -> bool:
    """Whether an attribute is a method of the module's class: ``self.forward = self.forward_fast``."""
    owner, name = value.__self__, value.__name__
    return isinstance(owner, nn.Module) and getattr(type(owner), name, None) is value.__func__


def global_name(value: Any) -> tuple[str, str] | None:
    """(module, name) under which an import finds the object."""
    if isinstance(value, types.ModuleType):
        return value.__name__, ""
    names = {n: None for a in ("__qualname__", "__name__") if isinstance(n := getattr(value, a, None), str)}
    for home in (getattr(value, "__module__", None), "torch", "torch.nn.functional", "math", "builtins", "operator"):
        for name in names:
            found: Any = sys.modules.get(home or "")
            for part in name.split("."):
                found = getattr(found, part, None)
            if found is value and home is not None:
                return home, name
    return None


def _lambda(value: types.FunctionType, sources: Sources, new: Renewal = NOTHING_NEW) -> Term:
    file = sources.file(value.__code__.co_filename)
    if file is None:
        raise LookupError("a lambda without a source file can't be written; make it a method")
    node = _lambda_node(value, file)
    if value.__closure__ or any(holds(value, s) for s in new.sites):
        return _made(value, node, file, sources, new)
    if value.__defaults__ or value.__kwdefaults__:
        raise LookupError("a lambda with defaults can't be written; make it a method")
    return Text(file.segment(node), file.name)


def _lambda_node(value: types.FunctionType, file: SourceFile) -> ast.Lambda:
    code = value.__code__
    spans = [(p[0], p[2]) for p in code.co_positions() if p[0] is not None and p[2] is not None and p[3] != p[2]]
    found = [n for n in ast.walk(file.tree) if isinstance(n, ast.Lambda) and n.lineno == code.co_firstlineno]
    found = [n for n in found if all((n.lineno, n.col_offset) <= s <= (n.end_lineno, n.end_col_offset) for s in spans)]
    found = [n for n in found if [a.arg for a in n.args.args] == list(code.co_varnames[: code.co_argcount])]
    if not found:
        raise LookupError(f"the lambda of line {code.co_firstlineno} was not found in its file; make it a function")
    return max(found, key=lambda n: (n.lineno, n.col_offset))


def _made(value: types.FunctionType, node: Made, file: SourceFile, sources: Sources, new: Renewal) -> Term:
    def read(inner: Any) -> Term:
        return term_of_value(inner, sources, new)

    call = made_by_call(value, node, new, read)
    if call is None:
        return closure(value, node, file, new, read)
    maker = sources.of_function(call.fn)
    if maker is None or rebinds(maker[1], [a.name for a in call.args]):
        raise LookupError(f"what {call.fn.__name__}() got isn't known any more")
    return call


def literal(value: Any) -> str:
    """Source of a plain value, also where ``repr`` is not (infinities, nan), or of a small tensor."""
    if type(value) is float and not math.isfinite(value):
        return f'float("{value}")'
    if type(value) in (tuple, torch.Size):
        return "(" + ", ".join(map(literal, value)) + ("," if len(value) == 1 else "") + ")"
    if type(value) is list:
        return "[" + ", ".join(map(literal, value)) + "]"
    if type(value) is dict:
        return "{" + ", ".join(f"{literal(k)}: {literal(v)}" for k, v in value.items()) + "}"
    if type(value) is set and value:
        return "{" + ", ".join(sorted(map(literal, value))) + "}"
    if type(value) is frozenset:
        return "frozenset({" + ", ".join(sorted(map(literal, value))) + "})" if value else "frozenset()"
    if type(value) is str:
        return quoted(value)
    if isinstance(value, torch.Tensor):
        return f"torch.tensor({literal(dense(value).tolist())}, dtype={value.dtype})"
    return repr(value)


def sizes_now(before: nn.Module, after: nn.Module) -> dict[int, set[int]]:
    """Sizes of weights of which some changed, and what became of all of them."""
    now, found = dict(after.named_parameters()), dict[int, set[int]]()
    for name, tensor in before.named_parameters():
        if name in now and tensor.ndim == now[name].ndim:
            for old, new in zip(tensor.shape, now[name].shape, strict=True):
                found.setdefault(old, set()).add(new)
    return {old: new for old, new in found.items() if new != {old}}


def cut_sizes(made: nn.Module | None, live: nn.Module) -> set[int]:
    """Sizes of the author's weights that are others in the live module."""
    return set(sizes_now(made, live)) if made is not None else set()


def numbers_in(value: Any) -> set[int]:
    """Whole numbers that a value, or a list, dict or text in it, holds."""
    if isinstance(value, str):
        return {int(n) for n in re.findall(r"[0-9]+", value)}
    if isinstance(value, list | tuple | set | frozenset):
        return set().union(*map(numbers_in, value))
    if isinstance(value, dict):
        return numbers_in(list(value)) | numbers_in(list(value.values()))
    return {value} if isinstance(value, int) and not isinstance(value, bool) else set()
