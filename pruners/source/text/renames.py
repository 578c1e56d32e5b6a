"""Other names for what two files call the same."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterator, Mapping
from itertools import pairwise
from pathlib import Path

from .files import SourceFile
from .names_in import arguments_of, stored_names
from .splicing import replaced

Place = tuple[int, int]
_FUNCTIONS = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda


def renamed(text: str, names: Mapping[str, str]) -> str:
    """The code with global names replaced. ``names`` may hold dotted ones: what a module's attribute is called here."""
    file = SourceFile.of(text)
    places = [*_uses(file.tree, frozenset(names)), *((p, n) for p, n in _definitions(text, file.tree) if n in names)]
    parts = {((line, col, line, col + len(old.encode())), names[old]) for (line, col), old in places}
    return _annotated(replaced(file, file.whole, sorted(parts)), file.tree, names)


def _uses(node: ast.AST, names: frozenset[str]) -> Iterator[tuple[Place, str]]:
    """Where names stand that no function around them binds itself."""
    if isinstance(node, _FUNCTIONS):
        for part in _outside(node):
            yield from _uses(part, names)
        local = {a.arg for a in arguments_of(node)} | stored_names(node)
        local -= {n for g in ast.walk(node) if isinstance(g, ast.Global) for n in g.names}
        rest = frozenset(n for n in names if n.partition(".")[0] not in local)
        for part in [node.body] if isinstance(node, ast.Lambda) else node.body:
            yield from _uses(part, rest)
        return
    if isinstance(node, ast.Name) and node.id in names:
        yield (node.lineno, node.col_offset), node.id
    if isinstance(node, ast.Attribute) and (dotted := _dotted(node)) in names:
        yield (node.lineno, node.col_offset), dotted
        return
    for child in ast.iter_child_nodes(node):
        yield from _uses(child, names)


def _outside(node: ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda) -> Iterator[ast.AST]:
    """What of a function is evaluated around it: decorators, defaults, annotations."""
    yield node.args
    if not isinstance(node, ast.Lambda):
        yield from node.decorator_list
        if node.returns is not None:
            yield node.returns


def _dotted(node: ast.expr) -> str:
    if isinstance(node, ast.Attribute):
        return f"{_dotted(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""


def _definitions(text: str, tree: ast.Module) -> Iterator[tuple[Place, str]]:
    """Names behind ``class`` and ``def`` at the top, and those that ``global`` lists."""
    tokens = list(tokenize.generate_tokens(io.StringIO(text).readline))
    lines = text.splitlines()
    top = {s.lineno for s in tree.body}
    for before, token in pairwise(tokens):
        if token.type == tokenize.NAME and before.string in ("class", "def") and token.start[0] in top:
            yield (token.start[0], len(lines[token.start[0] - 1][: token.start[1]].encode())), token.string


def quoted_notes(tree: ast.AST) -> Iterator[ast.Constant]:
    """Strings in annotations that stand for code; those that ``Literal`` lists are strings."""
    notes = [n.annotation for n in ast.walk(tree) if isinstance(n, ast.arg | ast.AnnAssign) and n.annotation]
    notes += [n.returns for n in ast.walk(tree) if isinstance(n, ast.FunctionDef) and n.returns]
    while notes:
        note = notes.pop()
        if isinstance(note, ast.Constant) and isinstance(note.value, str):
            yield note
        elif not (isinstance(note, ast.Subscript) and ast.unparse(note.value).endswith("Literal")):
            notes += [n for n in ast.iter_child_nodes(note) if isinstance(n, ast.expr)]


def _annotated(text: str, tree: ast.Module, names: Mapping[str, str]) -> str:
    """Names in quoted annotations."""
    for note in quoted_notes(tree):
        old = str(note.value)
        new = re.sub(r"(?<![\w.])\w+", lambda m: names.get(m[0], m[0]), old)
        if new != old:
            for quote in ('"', "'"):
                text = text.replace(f"{quote}{old}{quote}", f"{quote}{new}{quote}")
    return text


def prefixed(name: str, file: str) -> str:
    """A name that says which file it is from: ``MlpMixer`` of mixer.py's ``Mlp``, ``resnet_cfg``, ``VIT_SIZES``."""
    stem = Path(file).stem if Path(file).stem != "__init__" else Path(file).parent.name
    words = [w for w in re.split(r"\W+|_+", stem) if w] or ["other"]
    lead = len(name) - len(name.lstrip("_"))
    plain = name[lead:]
    if plain.isupper() and len(plain) > 1:
        return name[:lead] + "_".join(words).upper() + "_" + plain
    if plain[:1].isupper():
        return name[:lead] + "".join(w[:1].upper() + w[1:] for w in words) + plain
    return name[:lead] + "_".join(words).lower() + "_" + plain


def free(name: str, file: str, taken: set[str]) -> str:
    """The name, or with its file's before it, or with a number behind that."""
    if name not in taken:
        return name
    candidate, n = prefixed(name, file), 2
    while candidate in taken:
        candidate, n = f"{prefixed(name, file)}_{n}", n + 1
    return candidate
