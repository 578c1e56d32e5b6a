"""The site holds pages and files that lie elsewhere in the repository, and links lead to them as they do there."""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parents[1]
ELSEWHERE = (
    "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md", "LICENSE", "CITATION.cff", "benchmarks/*.md",
    "benchmarks/random_networks.jsonl", "pretrained/README.md", "examples/*.py", "examples/*.ipynb",
    "models/cifar/resnet.py", "generated/example/model.py",
)  # fmt: skip
_LINK = re.compile(r"(\]\()(?![a-z]+:|#)([^)#\s]+)")


def on_files(files: Files, config: Any) -> Files:
    for pattern in ELSEWHERE:
        for path in sorted(ROOT.glob(pattern)):
            files.append(File.generated(config, path.relative_to(ROOT).as_posix(), abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    """Links from one place of the repository to another, as links from one place of the site to another."""
    uri = page.file.src_uri
    here = posixpath.dirname(f"docs/{uri}" if (ROOT / "docs" / uri).exists() else uri)

    def moved(link: re.Match[str]) -> str:
        target = posixpath.normpath(posixpath.join(here, link[2]))
        return link[1] + posixpath.relpath(target.removeprefix("docs/"), posixpath.dirname(uri))

    return _LINK.sub(moved, markdown)
