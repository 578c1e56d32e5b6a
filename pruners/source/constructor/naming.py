"""Names for the positions where instances differ: the author's word first, then words made from the layer's name."""

from __future__ import annotations

import ast
import keyword
import re
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field
from itertools import chain, count

from ..author import Vector
from ..live import WIDTH_ARGUMENTS, Box, Call, Lit, same_vector
from .printer import Open


@dataclass
class Group:
    """Positions that always agree, and the author's word for them, if any."""

    vector: Vector
    word: str | None
    text: str | None
    places: list[tuple[str, ...]] = field(default_factory=list)
    opens: list[Open] = field(default_factory=list)
    name: str = ""

    @property
    def produces(self) -> bool:
        return any(p[-1].startswith("out") for p in self.places)

    @property
    def given_on(self) -> bool:
        """Whether no later layer of the class takes in what the last that makes it gives."""
        ways = [p[-1][:3] for p in self.places if p[-1].startswith(("in_", "out_"))]
        return bool(ways) and ways[-1] == "out"

    @property
    def only_reads(self) -> bool:
        """Whether it is a width without a name that no layer makes."""
        return self.is_width and not self.produces and not self.name

    @property
    def is_width(self) -> bool:
        return any(o.hole.is_width for o in self.opens)


def name_holes(
    opens: Sequence[Open], words: Iterable[str], known: Mapping[str, Vector], widths: Set[str], taken: set[str]
) -> list[Group]:
    """Groups with names. ``words``: the author's parameter names; ``known``: names that have values already;
    ``widths``: those of them that count channels; ``taken``: names that mean something else."""
    groups = _grouped(opens)
    words = list(words)
    by_word: dict[str, list[Group]] = {}
    for group in groups:
        if group.word is not None:
            by_word.setdefault(group.word, []).append(group)
    for word, rivals in by_word.items():
        if _are_siblings(rivals):
            continue
        heir = _heir(rivals)
        echoed = len(rivals) > 1 and _tail(word, _layer(_place(heir))) != _tail(word)  # expand3x3 of expand_channels
        if word not in taken and not echoed:
            heir.name = word
            taken.add(word)
    groups = _with_producers(groups)
    filled = dict(known)
    made_up = {id(g): _made_up(g, words).lstrip("_") for g in groups if not g.name}
    for group in groups:
        if group.only_reads:
            group.name = next((n for n in known if n in widths and _agree(known[n], group.vector)), "")
    unnamed = [g for g in groups if not g.name]
    for group in groups:
        if not group.name:
            name = made_up[id(group)]
            layer = _layer(_place(group))
            rivals = [g for g in unnamed if made_up[id(g)] == name]
            other = not same_vector(filled[name], group.vector) if name in filled else name in taken
            other = other or _are_siblings(rivals)
            if other and layer and not name.startswith(layer):
                name = f"{layer}_{name.strip('_')}".lstrip("_")
            agrees = name in filled and same_vector(filled[name], group.vector)
            group.name = name if agrees else _free([name, *_told_apart(group)], taken)
            filled[group.name] = merged(filled.get(group.name, group.vector), group.vector)
            taken.add(group.name)
    return groups


def _grouped(opens: Sequence[Open]) -> list[Group]:
    groups: list[Group] = []
    later: list[Open] = []
    for hole in opens:
        word = hole.hint.id if isinstance(hole.hint, ast.Name) else None
        if word is None:
            later.append(hole)
            continue
        _join(groups, hole, word, None)
    for hole in later:
        text = ast.unparse(hole.hint) if hole.hint is not None else None
        _join(groups, hole, None, text)
    return groups


def _join(groups: list[Group], hole: Open, word: str | None, text: str | None) -> None:
    width = hole.hole.is_width
    for group in groups:
        alike = group.word == word and group.text == text if word or text else False
        loose = word is None and ((group.is_width and width) or group.places[0][-1] == hole.hole.where[-1])
        if (alike or loose) and not hole.alone and same_vector(group.vector, hole.hole.values):
            group.vector = merged(group.vector, hole.hole.values)
            break
    else:
        group = Group(hole.hole.values, word, text)
        groups.append(group)
    group.places.append(hole.hole.where)
    group.opens.append(hole)


def _with_producers(groups: list[Group]) -> list[Group]:
    """Positions that lost their word and only read join what a layer always makes just as wide."""
    kept: list[Group] = []
    for group in groups:
        lost = group.only_reads and group.word is not None
        makers = [g for g in groups if g is not group and g.produces and g.is_width] if lost else []
        maker = next((g for g in makers if _agree(g.vector, group.vector)), None)
        if maker is None:
            kept.append(group)
        else:
            maker.places += group.places
            maker.opens += group.opens
    return kept


def merged(first: Vector, second: Vector) -> Vector:
    """The first with the second's values where it has none."""
    return tuple(b if a is None else a for a, b in zip(first, second, strict=True))


def _agree(first: Vector, second: Vector) -> bool:
    return None not in first and same_vector(first, second)


def _heir(rivals: list[Group]) -> Group:
    """Of the groups that share a word, the one that keeps it: the last that a layer produces."""
    producers = [g for g in rivals if g.produces]
    return max(producers or rivals[:1], key=lambda g: rivals.index(g))


def _are_siblings(rivals: Sequence[Group]) -> bool:
    """Whether numbered blocks have a width each, of which none is more the word's than the others."""
    places = [_place(g) for g in rivals]
    layers = {_layer(p) for p in places}
    alike = len(layers) > 1 and len({name.rstrip("0123456789") for name in layers}) == 1 and "" not in layers
    return alike and not any(p[-1] in WIDTH_ARGUMENTS for p in places)


def _made_up(group: Group, words: Sequence[str]) -> str:
    place = _place(group)
    argument, layer = place[-1], _layer(place)
    label = next((o.label for o in group.opens if o.label), None)
    if label is not None:
        return label
    if len(place) == 1:
        return place[0]
    if any(isinstance(t, Call | Box) for t in group.vector):
        if not argument.isdecimal():
            return f"{layer}_{argument}" if layer else argument
        return f"{layer}_layer{argument}" if layer else f"layer{argument}"
    if group.word is not None:
        return f"{layer}_{_tail(group.word, layer).strip('_')}"
    if argument.isdecimal():
        return f"{place[0]}_channels"
    if argument in WIDTH_ARGUMENTS:
        mirrored = [m for w in words if (m := _mirrored(w))]
        if group.given_on and mirrored:
            return mirrored[0]
        return f"{layer}_{WIDTH_ARGUMENTS[argument]}"
    return argument if argument.isidentifier() else f"{layer}_{argument}"


def _mirrored(word: str) -> str | None:
    return "out" + word[2:] if word.startswith("in") and word[2:3] in ("_", "p", "c", "f", "d") else None


def _place(group: Group) -> tuple[str, ...]:
    return next((p for p in group.places if p[-1].startswith("out")), group.places[0])


def _layer(place: tuple[str, ...]) -> str:
    return "_".join(p for p in place[:-1] if p != "super")


def _tail(word: str, layer: str = "") -> str:
    """What of a word follows the layer's name: ``conv1`` + ``in_planes`` -> planes, ``fc`` + ``fc_width`` -> width."""
    for prefix in ("in_", "out_", "num_"):
        word = word.removeprefix(prefix)
    first, _, rest = word.partition("_")
    return rest if rest and layer.startswith(first) else word


def _told_apart(group: Group) -> list[str]:
    """A longer name for a width of a layer of which another width has the short one: ``conv_in_channels``."""
    place = _place(group)
    longer = f"{_layer(place)}_{place[-1].strip('_')}".lstrip("_")
    return [longer] if len(place) > 1 and place[-1].isidentifier() else []


def _free(names: Sequence[str], taken: set[str]) -> str:
    names = [re.sub(r"\W", "_", name) for name in names]  # what stands in the names of layers may be anything
    names = [name if name.isidentifier() else f"layer_{name}" for name in names]
    numbered = (f"{names[0]}_{n}" for n in count(2))
    return next(n for n in chain(names, numbered) if n not in taken and not keyword.iskeyword(n))


def type_name(vector: Vector) -> str | None:
    """An annotation for a vector of literals."""
    values = [t.value for t in vector if isinstance(t, Lit)]
    if len(values) < sum(t is not None for t in vector):
        return None
    kinds = sorted({type(v).__name__ for v in values if v is not None})
    optional = " | None" if any(v is None for v in values) else ""
    return " | ".join(kinds) + optional if kinds else None
