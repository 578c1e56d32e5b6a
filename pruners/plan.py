"""The pruning plan: for each width the kept channels, and where the plan comes from. Frozen; JSON in, JSON out.

    {
      "provenance": {"metric": "l1", "seed": 0},
      "schema": 1,
      "widths": {
        "conv1": {"kept": [0, 2, 3], "size": 4}
      }
    }

Reading a plan only ever compares and copies: nothing in it is evaluated.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import textwrap
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .errors import PlanError, PlanMismatchError, some
from .provenance import check_provenance, check_values
from .shown import listed

if TYPE_CHECKING:
    import torch

    from .graph import ChannelGraph, Width

SCHEMA = 1


@dataclass(frozen=True)
class WidthPlan:
    """``kept``: strictly increasing group indices out of ``size``."""

    size: int
    kept: tuple[int, ...]


@dataclass(frozen=True, repr=False)
class PruningPlan:
    """Width name -> kept groups. ``provenance`` is a flat JSON object: source and weights hash, seed, versions,
    metric, strategy, the model's spec and arguments, the input shape."""

    widths: Mapping[str, WidthPlan]
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def __repr__(self) -> str:
        widths = self.widths.values()
        kept, size = sum(len(w.kept) for w in widths), sum(w.size for w in widths)
        named = listed(f"{name} {len(w.kept)}/{w.size}" for name, w in self.widths.items())
        return f"PruningPlan({len(self.widths)} widths, {kept:,} of {size:,} channels stay: {named})"

    @property
    def kept(self) -> dict[str, tuple[int, ...]]:
        return {name: w.kept for name, w in self.widths.items()}

    @property
    def digest(self) -> str:
        """SHA-256 (hex) of ``to_json()``."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()

    def to_json(self) -> str:
        """Deterministic text: sorted keys, one line per width (long lists are wrapped), a newline at the end."""
        provenance = json.dumps(dict(self.provenance), sort_keys=True, indent=2, allow_nan=False)
        widths = ",\n".join(f"    {json.dumps(name)}: {_width_text(self.widths[name])}" for name in sorted(self.widths))
        return "\n".join(
            [
                "{",
                f'  "provenance": {textwrap.indent(provenance, "  ").lstrip()},',
                f'  "schema": {SCHEMA},',
                '  "widths": {' + (f"\n{widths}\n  " if widths else "") + "}",
                "}\n",
            ]
        )

    @classmethod
    def from_json(cls, text: str, origin: str = "plan") -> PruningPlan:
        """Read a plan. ``origin`` names it in messages. Raises ``PlanError`` when it is not a well-formed plan;
        whether it fits a network is the job of ``validate``."""
        try:
            data = json.loads(text, object_pairs_hook=_unique_keys, parse_constant=_refuse_constant)
        except (ValueError, RecursionError) as error:
            raise PlanError(f"{origin}: not a JSON text ({error})") from None
        check_values(data, origin)
        return _parse_plan(data, origin)


def _width_text(width: WidthPlan) -> str:
    numbers = ", ".join(map(str, width.kept))
    if len(numbers) > 80:
        numbers = "\n" + textwrap.fill(numbers, 110, initial_indent=" " * 6, subsequent_indent=" " * 6) + "\n    "
    return f'{{"kept": [{numbers}], "size": {width.size}}}'


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"key {next(n for n in names if names.count(n) > 1)!r} is there twice")
    return result


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON number")


def _parse_plan(data: Any, origin: str) -> PruningPlan:
    if not isinstance(data, dict):
        raise PlanError(f"{origin}: a plan is a JSON object, not {_kind(data)}")
    schema = data.get("schema")
    if type(schema) is not int or schema != SCHEMA:
        raise PlanError(f"{origin}: schema {json.dumps(schema)[:40]} is unknown, this version reads schema {SCHEMA}")
    _refuse_unknown(data, {"schema", "widths", "provenance"}, origin)
    widths, provenance = data.get("widths"), data.get("provenance", {})
    if not isinstance(widths, dict):
        raise PlanError(f'{origin}: "widths" must be an object, not {_kind(widths)}')
    if not isinstance(provenance, dict):
        raise PlanError(f'{origin}: "provenance" must be an object, not {_kind(provenance)}')
    check_provenance(provenance, origin)
    return PruningPlan({n: _parse_width(w, f"{origin}: width {n!r}") for n, w in widths.items()}, provenance)


def _parse_width(data: Any, where: str) -> WidthPlan:
    if not isinstance(data, dict):
        raise PlanError(f"{where}: must be an object with size and kept, not {_kind(data)}")
    _refuse_unknown(data, {"size", "kept"}, where)
    size, kept = data.get("size"), data.get("kept")
    if type(size) is not int or size < 1:
        raise PlanError(f'{where}: "size" must be a positive whole number, not {json.dumps(size)[:40]}')
    if not isinstance(kept, list):
        raise PlanError(f'{where}: "kept" must be a list of channel indices, not {_kind(kept)}')
    for index in kept:
        if type(index) is not int:
            raise PlanError(f'{where}: "kept" must hold whole numbers only, not {json.dumps(index)[:40]}')
    _check_indices(kept, size, where)
    return WidthPlan(size, tuple(kept))


def _refuse_unknown(data: dict[str, Any], known: set[str], where: str) -> None:
    unknown = sorted(set(data) - known)
    if unknown:
        raise PlanError(f"{where}: unknown key {unknown[0]!r}, known are {', '.join(sorted(known))}")


def _kind(data: Any) -> str:
    names = {dict: "an object", list: "a list", str: "a text", bool: "a truth value", type(None): "missing or null"}
    return names.get(type(data), "a number")


def _check_indices(kept: list[int] | tuple[int, ...], size: int, where: str) -> None:
    if not kept:
        raise PlanError(f"{where}: keeps no channel, at least one must stay")
    for index in kept:
        if not 0 <= index < size:
            raise PlanError(f"{where}: index {index} is out of range, the width has {size} channels (0 to {size - 1})")
    for before, after in itertools.pairwise(kept):
        if before == after:
            raise PlanError(f"{where}: index {after} is there twice")
        if before > after:
            raise PlanError(f"{where}: indices must increase, but {after} follows {before}")


def load(path: str | Path) -> PruningPlan:
    """Read ``plan.json``. Raises ``PlanError`` when the file is missing, unreadable or not a plan."""
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise PlanError(f"{path}: there is no such plan file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise PlanError(f"{path}: can't be read ({error})") from None
    return PruningPlan.from_json(text, str(path))


def validate(plan: PruningPlan, graph: ChannelGraph) -> PruningPlan:
    """Check that a plan can be applied to a network; returns the same plan.

    Raises ``PlanError`` with one line: a width that only one of them has, another size, an empty, unsorted or
    out-of-range list, unequal blocks (a convolution group cut in half).
    """
    _refuse_strangers(plan.widths, graph)
    for width in graph.widths:
        if width.name not in plan.widths:
            raise PlanMismatchError(f"the plan says nothing about width {width.name!r} ({width.size} channels)")
        _check_width(plan.widths[width.name], width)
    return plan


def _check_width(planned: WidthPlan, width: Width) -> None:
    where = f"width {width.name!r}"
    if planned.size != width.size:
        raise PlanMismatchError(f"{where}: the plan is for {planned.size} channels, the network has {width.size}")
    _check_indices(planned.kept, width.size, where)
    counts = np.bincount(width.block_of[list(planned.kept)], minlength=width.n_blocks)
    shares = width.share_of
    rule = f"equally many, {shares} of each" if len(set(shares)) > 1 else "equally many"
    for block, count in enumerate(counts.tolist()):
        if count * shares[0] != counts[0] * shares[block] or count % shares[block]:
            raise PlanError(
                f"{where}: block {block} keeps {count} channels, block 0 keeps {counts[0]}; "
                f"all {width.n_blocks} blocks must keep {rule}"
            )


def _refuse_strangers(widths: Mapping[str, Any], graph: ChannelGraph) -> None:
    names = [w.name for w in graph.widths]
    for name in sorted(set(widths) - set(names)):
        raise PlanMismatchError(f"the network has no width {name!r}; it has {some(names, 5) or 'none'}")


def from_kept(graph: ChannelGraph, kept: Mapping[str, Any], provenance: Mapping[str, Any] | None = None) -> PruningPlan:
    """A validated plan from kept indices per width; widths that ``kept`` leaves out stay whole."""
    _refuse_strangers(kept, graph)
    widths = {w.name: WidthPlan(w.size, tuple(int(i) for i in kept.get(w.name, range(w.size)))) for w in graph.widths}
    try:
        facts = json.loads(json.dumps(dict(provenance or {})))
    except (TypeError, ValueError, RecursionError) as error:
        raise PlanError(f"what the plan says of where it comes from can't be written as JSON: {error}") from None
    check_values(facts, "provenance")
    check_provenance(facts, "provenance")
    return validate(PruningPlan(widths, facts), graph)


def require_same(plan: PruningPlan, **hashes: str) -> None:
    """Refuse a plan whose provenance holds other values than these, as in ``require_same(plan, source_sha256=...)``.

    A key the plan doesn't hold is not compared: a plan written by hand needs no hashes.
    """
    for key, value in hashes.items():
        planned = plan.provenance.get(key, value)
        if planned != value:
            what = key.removesuffix("_sha256")
            raise PlanMismatchError(
                f"the plan was made for another {what} ({key} {str(planned)[:12]}, now {value[:12]}); "
                f"bring back that {what} or make a new plan"
            )


def sha256_of_file(path: str | Path) -> str:
    """SHA-256 (hex) of a file's bytes."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sha256_of_state(state: Mapping[str, torch.Tensor | Callable[[], torch.Tensor]]) -> str:
    """SHA-256 (hex) over keys, shapes, dtypes and bytes of all tensors, in the order of their names.

    It doesn't depend on the file format, the device or the order of the keys.
    """
    import torch

    digest = hashlib.sha256()
    for name in sorted(state):
        value = state[name]
        tensor = (value if isinstance(value, torch.Tensor) else value()).detach().cpu().contiguous()
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}\n".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
