"""How labels pass through operations: one small rule per kind of operation, in a registry.

A rule is called after the operation ran, as ``rule(tracer, call)``, and labels the call's outputs. It may state
facts (ties, freezes). An operation without a rule freezes every label it touches: never wrong silently.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from ...errors import OptionError
from ...places import Site
from ...run import OpOverload
from ..labelling import Call, Labels, Tracer, axes_of, touching

aten = torch.ops.aten


Rule = Callable[["Tracer", Call], None]
RULES: dict[Any, Rule] = {}
ELSEWHERE: dict[str, Rule] = {}  # of other libraries' operations, which may not be there yet


def rule(*names: str) -> Callable[[Rule], Rule]:
    """Register a rule for every overload of the named operations: aten's, or others as ``library::name``."""

    def register(function: Rule) -> Rule:
        for name in names:
            if "::" in name:
                ELSEWHERE[name] = function
                continue
            packet = getattr(aten, name, None)  # an operation that this torch doesn't have needs no rule
            if packet is not None:
                RULES[packet] = function
        return function

    return register


def label_rule(operation: str) -> Callable[[Rule], Rule]:
    """Decorates a function of yours, ``rule(tracer, call)``, that says how channels pass an operation of your own
    (``"mylib::swish"``, from ``torch.library.custom_op`` or an extension). It runs after each call of the operation,
    labels ``call.outputs`` and states what is tied or must stay. ``elementwise`` is the rule of element-wise ones.
    """
    library, _, name = operation.partition("::")
    if not (library.isidentifier() and name.isidentifier()) or library in ("aten", "prims"):
        raise OptionError(f"label_rule({operation!r}): name an operation of your own, as in mylib::swish")
    return rule(operation)


def rule_for(op: OpOverload) -> Rule:
    """The label rule of an operation of torch: its own, the one of its kind, or the one that holds its channels."""
    found = RULES.get(op.overloadpacket)
    if found is None and torch.Tag.pointwise in op.tags:
        found = RULES["pointwise"]
    if found is None:
        found = ELSEWHERE.get(op._schema.name)
    name = op.overloadpacket.__name__
    if found is None and name.endswith("_") and not name.startswith("_"):  # in place: as the operation that copies
        packet = getattr(aten, name[:-1], None)
        found = RULES.get(packet)
        if found is None and packet is not None and any(
            torch.Tag.pointwise in getattr(packet, overload).tags for overload in packet.overloads()
        ):
            found = RULES["pointwise"]
    return found or unknown


def unknown(tracer: Tracer, call: Call) -> None:
    """No rule: everything the operation reads must stay."""
    for tensor in call.tensors:
        tracer.freeze(tracer.labels(tensor).planes, f"no rule for the operation {call.name}", call.site)


def freeze_axes(tracer: Tracer, labels: Labels, axes: set[int], reason: str, site: Site) -> Labels:
    """Freeze the planes that vary along these axes; what is left of the labels."""
    stuck = touching(labels, axes)
    tracer.freeze(tuple(stuck), reason, site)
    return Labels(tuple(p for p in labels.planes if not axes & set(axes_of(p))), labels.weight)
