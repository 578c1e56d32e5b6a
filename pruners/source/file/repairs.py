"""What constructors alone can't say, said at its end: shared tensors, frozen parameters, type, mode."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import nn

from ..live import ancestors, joined, literal
from ..text import is_usable_name


def repairs(model: nn.Module, twin: nn.Module) -> list[str]:
    """Statements for the end of the root's constructor (with ``self``) that make ``twin`` like ``model``."""
    return [*_type(model), *_frozen(model, twin), *_modes(model, twin)]


def shared(model: nn.Module, twin: nn.Module) -> list[tuple[str, str]]:
    """Modules with state, then single parameters, that the model has in several places and the twin has not.

    Pairs of paths: what stands at the first is to be what stands at the second.
    """
    pairs: list[tuple[str, str]] = []
    done: set[str] = set()
    theirs = {p: id(m) for p, m in twin.named_modules(remove_duplicate=False)}
    stateful = ((p, m) for p, m in model.named_modules(remove_duplicate=False) if any(True for _ in m.state_dict()))
    for paths in same_objects(stateful):
        apart = [p for p in paths[1:] if theirs.get(p) != theirs.get(paths[0])]
        if any(p.startswith(f"{d}.") for p in apart for d in done):
            continue
        done |= set(apart)
        pairs += [(p, paths[0]) for p in apart]
    keys = {k: id(t) for k, t in twin.named_parameters(remove_duplicate=False)}
    for names in same_objects(model.named_parameters(remove_duplicate=False)):
        apart = [n for n in names[1:] if keys.get(n) != keys.get(names[0])]
        pairs += [(n, names[0]) for n in apart if not any(n.startswith(f"{d}.") for d in done)]
    return pairs


def tie(model: nn.Module, pair: tuple[str, str], instances: Mapping[type, Sequence[str]]) -> tuple[type, str]:
    """The statement that shares what stands at two paths, and the lowest class all of whose instances share it."""
    for path in [p for p in ancestors(pair[0]) if not p or pair[1].startswith(f"{p}.")]:
        cls = type(model.get_submodule(path))
        first, second = (p[len(path) + 1 :] if path else p for p in pair)
        owners = [model.get_submodule(p) for p in instances.get(cls, ())]
        if path in instances.get(cls, ()) and all(_at(o, first) is _at(o, second) is not None for o in owners):
            return cls, f"{expression(first)} = {expression(second)}"
    return type(model), f"{expression(pair[0])} = {expression(pair[1])}"


def _at(module: nn.Module, path: str) -> object:
    found: object = module
    for name in path.split("."):
        found = getattr(found, name, None)
    return found


def same_objects(named: Iterable[tuple[str, object]]) -> list[list[str]]:
    """The names of what has several."""
    names: dict[int, list[str]] = {}
    for name, value in named:
        names.setdefault(id(value), []).append(name)
    return [n for n in names.values() if len(n) > 1]


def _type(model: nn.Module) -> list[str]:
    found = {t.dtype for t in model.parameters() if t.is_floating_point()}
    only = found.pop() if len(found) == 1 else None
    return [f"self.to({only})"] if only not in (None, torch.get_default_dtype()) else []


def _frozen(model: nn.Module, twin: nn.Module) -> list[str]:
    """``requires_grad_`` on the largest modules whose parameters all differ from what the constructor gives."""
    wanted = {k: p.requires_grad for k, p in model.named_parameters()}
    given = {k: p.requires_grad for k, p in twin.named_parameters(remove_duplicate=False)}
    wrong = {k for k in wanted if wanted[k] != given.get(k)}
    lines = []
    for path, module in model.named_modules():
        keys = [joined(path, k) for k, _ in module.named_parameters()]
        keys = [k for k in keys if k in wanted]
        if keys and all(k in wrong for k in keys) and len({wanted[k] for k in keys}) == 1:
            lines.append(f"{expression(path)}.requires_grad_({wanted[keys[0]]})")
            wrong -= set(keys)
    return lines + [f"{expression(k)}.requires_grad_({wanted[k]})" for k in wanted if k in wrong]


def _modes(model: nn.Module, twin: nn.Module) -> list[str]:
    """``eval()`` on the largest modules that evaluate while the model trains; the whole model's mode is no matter."""
    made = {p: m.training for p, m in twin.named_modules()}
    lines: list[str] = []
    done: list[str] = []
    for path, module in model.named_modules() if model.training else ():
        inside = {f"{path}.{p}" if p else path: m.training for p, m in module.named_modules()}
        covered = any(path.startswith(f"{d}.") for d in done)
        if covered or len(set(inside.values())) > 1 or all(made.get(p, t) is t for p, t in inside.items()):
            continue
        lines.append(f"{expression(path)}.{'train' if module.training else 'eval'}()")
        done.append(path)
    return lines


def expression(path: str) -> str:
    """How a method of the outermost module reaches the module at a path."""
    text = "self"
    for part in path.split(".") if path else ():
        if is_usable_name(part):
            text += f".{part}"
        else:
            text = f"{text}[{part}]" if part.isdecimal() else f"getattr({text}, {literal(part)})"
    return text
