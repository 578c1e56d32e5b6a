"""What parameters and buffers start with: the author's expression, with the sizes that its tensor has now."""

from __future__ import annotations

import ast
import builtins
import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from ...places import Span
from ..author import Scope, Unproved
from ..live import attempted, undisturbed
from ..text import SourceFile, last_word, loaded_names, only_call, replaced, same_code, span_of, stored_names
from .tensors import like

_NO_STARTS = {"requires_grad_", "apply_"}
Wanted = Sequence[tuple[int, torch.Tensor, bool]]  # instance, tensor, whether its values have to be equal
Now = Callable[[ast.expr, int], Any]
Names = Mapping[int, Mapping[str, Any]]  # by instance: the constructor's arguments and local names


@dataclass(frozen=True)
class Start:
    """``expr``: the author's expression; a local name that is gone is said as he computes it. ``numbers``: whole
    numbers in it, and for each tensor what they are now."""

    expr: ast.expr
    numbers: tuple[tuple[ast.expr, tuple[int, ...]], ...]
    places: Mapping[int, Span]  # by identity of what is said in place of a name: where that stands

    def with_texts(self, texts: Sequence[str], file: SourceFile | None) -> str:
        """The expression with these texts in place of its numbers, as it stands in a file where there is one."""
        numbers = [n for n, _ in self.numbers]
        said = {id(n): t for n, t in zip(numbers, texts, strict=True)}
        if file is not None and "\n" not in (text := self._said(self.expr, said, file, "({})")):
            plain = self._said(self.expr, said, file, "{}")
            return plain if same_code(plain, text) else text
        return ast.unparse(_replaced(self.expr, numbers, [ast.parse(t, mode="eval").body for t in texts]))

    def _said(self, expr: ast.expr, texts: Mapping[int, str], file: SourceFile, around: str) -> str:
        if id(expr) in texts:
            return texts[id(expr)]
        parts: list[tuple[Span, str]] = []
        todo = list(ast.iter_child_nodes(expr))
        for node in todo:
            if id(node) in texts and isinstance(node, ast.expr):
                parts.append((self.places.get(id(node), span_of(node)), texts[id(node)]))
            elif id(node) in self.places and isinstance(node, ast.expr):
                text = self._said(node, texts, file, around)
                parts.append((self.places[id(node)], around.replace("{}", text)))
            else:
                todo += ast.iter_child_nodes(node)
        return replaced(file, span_of(expr), parts)


def start_of(scope: Scope, expr: ast.expr, names: Names, wanted: Wanted, now: Now) -> Start | None:
    """The author's expression for these tensors; None where no numbers in it give them, or a name in it is gone.
    ``now``: what numbers that size nothing are."""
    return attempted(expr, lambda: _start(scope, expr, names, wanted, now))


def _start(scope: Scope, expr: ast.expr, names: Names, wanted: Wanted, now: Now) -> Start | None:
    expr, places = _inlined(scope, expr)
    scopes = {i: {**scope.author.globals, **names[i]} for i, _, _ in wanted}
    numbers = _numbers(expr, scopes[wanted[0][0]])
    opened = _replaced(expr, numbers, [ast.Name(_name(n), ast.Load()) for n in range(len(numbers))])
    if not _is_known(scope, opened, {_name(n) for n in range(len(numbers))}):
        return None
    columns = []
    for i, tensor, exact in wanted:
        values = _values(opened, numbers, scopes[i], tensor, now, i)
        if values is None or not like(_made(opened, {**scopes[i], **_named(values)}), tensor, exact):
            return None
        columns.append(values)
    return Start(expr, tuple(zip(numbers, zip(*columns, strict=True), strict=True)), places)


def _inlined(scope: Scope, expr: ast.expr) -> tuple[ast.expr, Mapping[int, Span]]:
    """The expression with what local names that are gone stand for, and by its identity where each stood."""
    definitions, places = scope.author.local_definitions(), dict[int, Span]()

    class Said(ast.NodeTransformer):
        def visit_Name(self, node: ast.Name) -> ast.expr:
            if node.id not in definitions or node.id in scope.words or not isinstance(node.ctx, ast.Load):
                return node
            value: ast.expr = self.visit(copy.deepcopy(definitions[node.id].value))
            places[id(value)] = span_of(node)
            return value

    return Said().visit(copy.deepcopy(expr)), places


def _replaced(expr: ast.expr, old: Sequence[ast.expr], new: Sequence[ast.expr]) -> ast.expr:
    return copy.deepcopy(expr, {id(a): b for a, b in zip(old, new, strict=True)})


def _name(number: int) -> str:
    return f"_number_{number}_"


def _named(values: Sequence[int]) -> Mapping[str, int]:
    return {_name(n): v for n, v in enumerate(values)}


def _numbers(expr: ast.expr, names: Mapping[str, Any]) -> list[ast.expr]:
    """The largest parts of an expression that are whole numbers."""
    found: list[ast.expr] = []
    todo: list[ast.AST] = [expr]
    while todo:
        node = todo.pop()
        if isinstance(node, ast.expr) and not isinstance(node, ast.Starred) and type(_tried(node, names)) is int:
            found.append(node)
        else:
            todo += list(ast.iter_child_nodes(node))[::-1]
    return found


def _tried(expr: ast.expr, names: Mapping[str, Any]) -> Any:
    try:
        return _made(expr, names)
    except Exception:  # it needs what stands around it
        return None


def _made(expr: ast.expr, names: Mapping[str, Any]) -> Any:
    with undisturbed():
        return eval(compile(ast.fix_missing_locations(ast.Expression(expr)), "<author>", "eval"), dict(names))


def _is_known(scope: Scope, opened: ast.expr, numbers: set[str]) -> bool:
    """Whether all but the numbers can be said in the written constructor."""
    author = scope.author
    local = set(author.parameters) | author.stored
    rest = loaded_names(opened) - stored_names(opened) - numbers - set(scope.words)
    if author.self_name in rest:
        scope.admit_attributes(opened, author.self_name)
    rest -= {author.self_name}
    return all(n not in local and (n in author.globals or hasattr(builtins, n)) for n in rest)


def _values(
    opened: ast.expr, numbers: Sequence[ast.expr], names: Mapping[str, Any], tensor: torch.Tensor, now: Now, index: int
) -> list[int] | None:  # fmt: skip
    """What the numbers have to be for a tensor of this shape: each is tried with one more to see what it sizes."""
    old = [int(_made(n, names)) for n in numbers]
    base = _made(opened, {**names, **_named(old)}).shape
    slopes = [_slopes(opened, {**names, **_named(old), _name(n): old[n] + 1}, base) for n in range(len(numbers))]
    new: dict[int, int] = {}
    for axis, (was, wanted) in enumerate(zip(base, tensor.shape, strict=True)):
        sizing = [n for n, s in enumerate(slopes) if s[axis]] if was != wanted else []
        sizing = [n for n in sizing if not isinstance(numbers[n], ast.Constant)] or sizing
        if was == wanted:
            continue
        if len(sizing) != 1 or (wanted - was) % slopes[sizing[0]][axis]:
            return None
        number = old[sizing[0]] + (wanted - was) // slopes[sizing[0]][axis]
        if new.setdefault(sizing[0], number) != number:
            return None
    texts = [ast.dump(n) for n in numbers]
    for n, expr in enumerate(numbers):
        if n in new or any(slopes[n]) or isinstance(expr, ast.Constant):
            continue
        alike = {new.get(m, old[m]) for m in range(len(numbers)) if texts[m] == texts[n] and any(slopes[m])}
        value = alike.pop() if len(alike) == 1 else now(expr, index) if not alike else None
        if type(value) is not int:
            raise Unproved(f"{ast.unparse(expr)} is several numbers now")
        new[n] = value
    return [new.get(n, v) for n, v in enumerate(old)]


def _slopes(opened: ast.expr, names: Mapping[str, Any], base: Sequence[int]) -> list[int]:
    made = _tried(opened, names)
    shape = getattr(made, "shape", base)
    return [a - b for a, b in zip(shape, base, strict=True)] if len(shape) == len(base) else [0] * len(base)


def initialises(stmt: ast.stmt, owner: str) -> bool:
    """Whether a statement gives weights their first values: ``nn.init.zeros_(self.x)``, ``self.x.data[0] = 1``."""
    for node in ast.walk(stmt):
        if isinstance(node, ast.Call):
            name = ast.unparse(node.func).rpartition(".")[2]
            if name.endswith("_") != name.endswith("__") or "init" in name.strip("_") or name.startswith("reset"):
                return not ast.unparse(node.func).endswith("__init__")
        elif isinstance(node, ast.Assign) and not isinstance(node.targets[0], ast.Name):
            return f"{owner}." in ast.unparse(node.targets[0])
    return False


def starts_weights(stmt: ast.stmt, owner: str) -> bool:
    """Whether a simple statement gives weights their first values, and no more: not what follows from the state."""
    call = only_call(stmt)
    return initialises(stmt, owner) and last_word(call and call.func) not in _NO_STARTS


def elements_of(init: ast.AST, target: str, value: ast.expr | None) -> list[ast.expr]:
    """The author's expressions for what a list or dict of parameters holds: where it is made, or where it is filled."""
    given = value.args[0] if isinstance(value, ast.Call) and value.args else None
    if isinstance(given, ast.ListComp | ast.GeneratorExp):
        return [given.elt]
    if isinstance(given, ast.DictComp):
        return [given.value]
    if isinstance(given, ast.List | ast.Tuple):
        return list(given.elts)
    if isinstance(given, ast.Dict):
        return list(given.values)
    targets = {target, *([given.id] if isinstance(given, ast.Name) else [])}
    found: list[ast.expr] = []
    for node in ast.walk(init):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "append":
            found += node.args if ast.unparse(node.func.value) in targets else []
        elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Subscript):
            found += [node.value] if ast.unparse(node.targets[0].value) in targets else []
    return found


def with_passes(scope: Scope, value: ast.expr | None, names: Mapping[str, Any]) -> Mapping[str, Any]:
    """The names with those of the last pass of each comprehension in an expression."""
    found = {**scope.author.globals, **names}
    for node in ast.walk(value) if value is not None else ():
        if isinstance(node, ast.comprehension):
            made = list(_tried(node.iter, found) or ())
            targets = node.target.elts if isinstance(node.target, ast.Tuple) else [node.target]
            values = made[-1] if made and len(targets) > 1 else made[-1:]
            found |= {t.id: v for t, v in zip(targets, values, strict=False) if isinstance(t, ast.Name)}
    return found
