"""Constructors of classes that contain themselves, or each other: what one instance is made with depends on others."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from torch import nn

from ...errors import SourceError
from ..author import AuthorClass
from ..live import Recorder, Tree, same
from .class_writer import ClassWriter
from .context import ClassContext
from .parameters import WrittenInit

Made = dict[type[nn.Module], tuple[ClassContext, WrittenInit]]
Contexts = Callable[[type[nn.Module]], ClassContext]
SPARE = 3


@dataclass(frozen=True)
class Circle:
    """Classes that are written together."""

    tree: Tree
    classes: Sequence[type[nn.Module]]
    authors: Mapping[type, AuthorClass]

    def write(self, recorder: Recorder, context_of: Contexts) -> Made:
        """The author's way if its arguments say all that instances differ in, else each is handed the inner ones."""
        found: list[Made] = []
        for handed in (False, True):
            try:
                made = self._settled(recorder, context_of, handed)
            except SourceError:
                if handed and not found:
                    raise
                continue
            if made is not None:
                found.append(made)
                authors = {cls: set(self.authors[cls].parameters) for cls in made}
                if all({p.name for p in w.parameters} <= authors[cls] for cls, (_, w) in made.items()):
                    break
        if not found:
            file, node = self.tree.sources.of_class(self.classes[-1])
            names = ", ".join(c.__qualname__ for c in self.classes)
            reason = f"these classes contain themselves in a way that isn't written: {names}"
            raise SourceError(reason, site=file.at(node))
        best = min(found, key=lambda made: sum(len(w.parameters) for _, w in made.values()))  # arguments
        for _, written in best.values():
            recorder.calls.update(written.calls)
        return best

    def _settled(self, recorder: Recorder, context_of: Contexts, handed: bool) -> Made | None:
        """Writes again, each time with the calls that the last time gave, until they stay. None if they never do."""
        paths = [p for cls in self.classes for p in self.tree.instances[cls]]
        for path in paths:
            recorder.calls.pop(path, None)
        depth = max(p.count(".") for p in paths) + SPARE
        for _ in range(depth):
            before, made = dict(recorder.calls), Made()
            for cls in self.classes:
                context = context_of(cls)
                context.handed |= set(paths) if handed else set()
                made[cls] = context, ClassWriter(context).write()
            for _, written in made.values():
                recorder.calls.update(written.calls)
            if all(p in before and same(before[p], recorder.calls[p]) for p in paths):
                return made
        return None
