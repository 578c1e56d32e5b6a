"""What a bundle tells of its channel graph."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..graph import ChannelGraph
from ..places import Site


def frozen_facts(graph: ChannelGraph) -> list[dict[str, Any]]:
    """What can't be pruned, as values for ``summary.json``: layers, channels, reason, place."""
    return [
        {
            "layers": list(dict.fromkeys(s.layer or s.parameter for s in f.slots)),
            "channels": f.count,
            "reason": f.reason,
            "place": place(f.site),
        }
        for f in graph.frozen
    ]


def place(site: Site) -> str:
    """File and line, the file relative to the current folder or, elsewhere, by its name: no path of one machine."""
    if not site.file:
        return ""
    path = Path(site.file)
    return f"{path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path.name}:{site.line}"
