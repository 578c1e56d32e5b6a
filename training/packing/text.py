"""The text of a packed network's file: the network's own, with packed layers in the place of binary ones."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib import resources

from ...pruners.errors import NameClashError, SourceError
from .found import Form

_STEP = " " * 4
_BASES = {"Conv2d": "PackedConv2d", "Linear": "PackedLinear"}
_FILES = ("kernels.py", "layers.py")
_IMPORTED = {
    "np": {"numpy"}, "torch": {"torch"}, "F": {"torch.nn.functional", "functional"}, "Tensor": {"Tensor"},
    "nn": {"torch.nn", "nn"},
}  # fmt: skip
"""Names that packed layers import, and what they may stand for."""


def packed_text(text: str, root: str, forms: Mapping[str, Form], norms: Sequence[str], told: str) -> str:
    """The file with the classes ``forms`` packed. ``root``: the network's class, whose constructor gives up ``norms``,
    the batch norms that packed layers hold. ``told``: a line for the header."""
    before = _used(ast.parse(text))
    _check_names(text)
    for name, form in forms.items():
        node = _class(ast.parse(text), name)
        text = _replaced(text, node, _packed_class(text, node, form))
    if norms:
        text = _without_norms(text, root, norms)
    text = _with_layers(text)
    return _told(_trimmed(text, before), told)


def _check_names(text: str) -> None:
    """SourceError where the file gives another meaning to a name that packed layers need."""
    tree = ast.parse(text)
    ours = {name for file in _FILES for node in ast.parse(_ours(file)).body for name in _bound_within(node)}
    bound = {name for node in tree.body for name in _bound(node)}
    imports = [n for n in tree.body if isinstance(n, ast.Import | ast.ImportFrom)]
    imported = {a.asname or a.name: a.name for n in imports for a in n.names}
    taken = bound & (ours | set(_IMPORTED)) | (ours - {"np"}) & set(imported)
    taken |= {n for n, what in imported.items() if n in _IMPORTED and what not in _IMPORTED[n]}
    if taken:
        raise NameClashError(f"the file calls something {min(taken)}, a name that packed layers need: rename it")


def _our_names() -> set[str]:
    return {name for file in _FILES for node in ast.parse(_ours(file)).body for name in _bound(node)}


def _ours(file: str) -> str:
    return resources.files(__package__).joinpath(file).read_text("utf-8")


def can_drop_norms(text: str, root: str) -> bool:
    """Whether the network's class has a constructor that statements can be added to."""
    found = [n for n in ast.parse(text).body if isinstance(n, ast.ClassDef) and n.name == root]
    inits = [n for c in found for n in _inits(c)]
    return len(inits) == 1 and not any(isinstance(n, ast.Return) for n in ast.walk(inits[0]))


def refusal(text: str, name: str) -> str:
    """Why the class can't be packed for what its text is; empty where it can."""
    tree = ast.parse(text)
    found = [n for n in tree.body if isinstance(n, ast.ClassDef) and n.name == name]
    if len(found) != 1:
        return "its class is not in the file"
    if _base(found[0]) not in _BASES:
        return "its class derives from something else than a layer of torch"
    others = [n for n in ast.walk(tree) if isinstance(n, ast.ClassDef) for b in n.bases if ast.unparse(b) == name]
    return "other classes derive from its class" if others else ""


# -- one class


def _class(tree: ast.Module, name: str) -> ast.ClassDef:
    found = [n for n in tree.body if isinstance(n, ast.ClassDef) and n.name == name]
    if len(found) != 1:
        raise SourceError(f"the file has no class {name} that can be packed")
    return found[0]


def _inits(node: ast.ClassDef) -> list[ast.FunctionDef]:
    return [n for n in node.body if isinstance(n, ast.FunctionDef) and n.name == "__init__"]


def _base(node: ast.ClassDef) -> str:
    return ast.unparse(node.bases[0]).rpartition(".")[2] if len(node.bases) == 1 else ""


def _packed_class(text: str, node: ast.ClassDef, form: Form) -> list[str]:
    said = ast.get_docstring(node) or ""
    lines = [f"class {node.name}({_BASES[_base(node)]}):"]
    lines += [f'{_STEP}"""{said.splitlines()[0] if said else node.name} Its weights are bits."""']
    usual = Form()
    values = [n for n in ("inputs", "views", "scaled_by_inputs") if getattr(form, n) != getattr(usual, n)]
    padding = ["padding_value = -1"] if form.inputs == "bits" and _base(node) == "Conv2d" else []
    if values or padding:
        quoted = (f"{n} = {getattr(form, n)!r}".replace("'", '"') for n in values)
        lines += ["", *(f"{_STEP}{line}" for line in (*quoted, *padding))]
    for init in _inits(node):
        lines += ["", *_init(text, init)]
    if form.before:
        lines += ["", f"{_STEP}def forward(self, x: Tensor) -> Tensor:"]
        lines += [f"{2 * _STEP}return super().forward({form.before})"]
    return lines


def _init(text: str, init: ast.FunctionDef) -> list[str]:
    """The constructor's first line, the call of the base's, and what only keeps numbers."""
    rows = text.splitlines()
    kept = rows[init.lineno - 1 : init.body[0].lineno - 1]
    for stmt in init.body:
        value = stmt.value if isinstance(stmt, ast.Expr | ast.Assign) else None
        called = isinstance(value, ast.Call) and ast.unparse(value.func) == "super().__init__"
        plain = isinstance(stmt, ast.Assign) and isinstance(value, ast.Name | ast.Constant)
        if called or plain:
            kept += rows[stmt.lineno - 1 : stmt.end_lineno]
    return kept


def _replaced(text: str, node: ast.ClassDef, lines: Sequence[str]) -> str:
    rows = text.splitlines()
    first = min([node.lineno, *(d.lineno for d in node.decorator_list)])
    return "\n".join([*rows[: first - 1], *lines, *rows[node.end_lineno or 0 :]]) + "\n"


# -- the network's class


def _without_norms(text: str, root: str, norms: Sequence[str]) -> str:
    init = _inits(_class(ast.parse(text), root))[0]
    rows = text.splitlines()
    indent = " " * init.body[0].col_offset
    quoted = [f'"{n}"' for n in norms]
    listed = ", ".join(quoted) + ("," if len(quoted) == 1 else "")
    if len(listed) > 70:
        wrapped = [f"{indent}{_STEP}{line}" for line in _wrapped(quoted, 110 - len(indent))]
        names = [f"{indent}for name in (", *wrapped, f"{indent}):"]
    else:
        names = [f"{indent}for name in ({listed}):"]
    added = [f"{indent}# the scales and offsets of packed layers hold these batch norms", *names,
             f"{indent}{_STEP}self.set_submodule(name, nn.Identity())"]  # fmt: skip
    end = init.body[-1].end_lineno or 0
    return "\n".join([*rows[:end], *added, *rows[end:]]) + "\n"


def _wrapped(words: Iterable[str], width: int) -> Iterator[str]:
    line = ""
    for word in words:
        if line and len(line) + len(word) + 2 > width:
            yield line
            line = ""
        line = f"{line} {word}," if line else f"{word},"
    yield line


# -- the layers


def _with_layers(text: str) -> str:
    """The text of the packed layers between the file's imports and what follows them."""
    tree = ast.parse(text)
    there = {ast.unparse(n) for n in tree.body if isinstance(n, ast.Import | ast.ImportFrom)}
    imports: list[str] = []
    bodies: list[str] = []
    for name in _FILES:
        wanted, body = _parts(_ours(name))
        imports += [i for i in wanted if i not in there and i not in imports]
        bodies.append(body)
    last = max((n.end_lineno or 0 for n in tree.body if isinstance(n, ast.Import | ast.ImportFrom)), default=0)
    rows = text.splitlines()
    rest = "\n".join(rows[last:]).strip("\n")
    return "\n".join([*rows[:last], *imports, "", "", "\n\n\n".join(bodies), "", "", rest]) + "\n"


def _parts(text: str) -> tuple[list[str], str]:
    """The imports of a file of ours, one name to a line, but those of the package; and what follows them."""
    tree = ast.parse(text)
    imports = [n for n in tree.body if isinstance(n, ast.Import | ast.ImportFrom)]
    near = [n for n in imports if isinstance(n, ast.ImportFrom) and (n.level or n.module == "__future__")]
    wanted = [ast.unparse(n) for n in imports if n not in near]
    last = max(n.end_lineno or 0 for n in imports)
    return wanted, "\n".join(text.splitlines()[last:]).strip("\n")


def _names(node: ast.AST) -> set[str]:
    names = {n.id for n in ast.walk(node) if isinstance(n, ast.Name)}
    # annotations and forward references may be text
    texts = {n.value for n in ast.walk(node) if isinstance(n, ast.Constant) and isinstance(n.value, str)}
    return names | {t for t in texts if t.isidentifier()}


def _bound(node: ast.stmt) -> set[str]:
    if isinstance(node, ast.FunctionDef | ast.ClassDef | ast.AsyncFunctionDef):
        return {node.name}
    if isinstance(node, ast.Assign | ast.AnnAssign):
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        return {t.id for t in targets if isinstance(t, ast.Name)}
    return set()


def _bound_within(node: ast.stmt) -> set[str]:
    """Also what a condition binds, and what is imported there."""
    if isinstance(node, ast.If | ast.Try):
        inner = [*node.body, *node.orelse, *(s for h in getattr(node, "handlers", []) for s in h.body)]
        return set().union(*map(_bound_within, inner))
    if isinstance(node, ast.Import | ast.ImportFrom):
        return {a.asname or a.name for a in node.names} - set(_IMPORTED) - {"Any", "annotations"}
    return _bound(node)


def _used(tree: ast.Module) -> set[str]:
    """Names of functions, classes and constants of the file that something else of the file reads."""
    return {name for node in tree.body for name in _names(node) - _bound(node)}


def _trimmed(text: str, before: set[str]) -> str:
    """Without what nothing reads any more: helpers of classes that are packed now, layers of ours not needed here."""
    ours = _our_names()
    while True:
        tree = ast.parse(text)
        used, known = _used(tree), before | ours
        plain = [n for n in tree.body if not getattr(n, "decorator_list", [])]
        idle = [n for n in plain if (bound := _bound(n)) and not bound & used and bound & known]
        if not idle:
            return _without_idle_imports(text, before | ours)
        text = _cut(text, idle[0])


def _cut(text: str, node: ast.stmt) -> str:
    rows = text.splitlines()
    first = min([node.lineno, *(d.lineno for d in getattr(node, "decorator_list", []))]) - 1
    while first and rows[first - 1].startswith("#"):
        first -= 1
    after = rows[node.end_lineno or 0 :]
    if after and after[0].startswith('"""'):  # what a constant is for
        end = next(i for i, row in enumerate(after) if row.endswith('"""') and (i or len(row) > 3))
        after = after[end + 1 :]
    while after and not after[0]:
        after = after[1:]
    return "\n".join([*rows[:first], *after]) + "\n"


def _without_idle_imports(text: str, before: set[str]) -> str:
    tree, rows = ast.parse(text), text.splitlines()
    used = {name for node in tree.body if not isinstance(node, ast.Import | ast.ImportFrom) for name in _names(node)}
    used |= {n.value.id for n in ast.walk(tree) if isinstance(n, ast.Attribute) and isinstance(n.value, ast.Name)}
    for node in reversed(tree.body):
        if not isinstance(node, ast.Import | ast.ImportFrom) or getattr(node, "module", "") == "__future__":
            continue
        kept = [a for a in node.names if (a.asname or a.name.partition(".")[0]) in used or a.name == "*"]
        if len(kept) == len(node.names):
            continue
        line = []
        if kept:
            node.names = kept
            line = [ast.unparse(node)]
        rows[node.lineno - 1 : node.end_lineno] = line
    return "\n".join(rows) + "\n"


def _told(text: str, told: str) -> str:
    """With one more line in the header."""
    doc = ast.parse(text).body[0]
    rows = text.splitlines()
    if not (isinstance(doc, ast.Expr) and isinstance(doc.value, ast.Constant) and isinstance(doc.value.value, str)):
        return f'"""{told}"""\n\n{text}'
    end = (doc.end_lineno or 1) - 1
    closing = rows[end]
    quotes = closing[-3:]
    body = closing[:-3].rstrip()
    more = [body] if body.strip() else []
    return "\n".join([*rows[:end], *more, told, quotes, *rows[end + 1 :]]) + "\n"
