"""The site builds without a warning, and looking at it needs no network; skipped where mkdocs is missing."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    pytest.importorskip("material", reason="pip install '.[docs]'")
    pytest.importorskip("mkdocstrings")
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)],
        cwd=ROOT, capture_output=True, text=True, env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return folder


def test_every_page_is_built(site):
    for page in (ROOT / "docs").rglob("*.md"):
        assert site.joinpath(page.relative_to(ROOT / "docs")).with_suffix(".html").exists(), page


def test_the_reference_has_what_docstrings_say(site):
    text = (site / "reference" / "python.html").read_text("utf-8")
    assert "final_epochs" in text
    assert "BudgetError" in text


def test_pages_hold_the_examples(site):
    assert "class UNet" in re.sub(r"<[^>]+>", "", (site / "how_to" / "unet.html").read_text("utf-8"))


def test_nothing_is_fetched_to_look_at_it(site):
    source = r"(?:script|img|iframe)[^>]*\ssrc|link[^>]*stylesheet[^>]*\shref"
    fetched = re.compile(rf"""<(?:{source})="(?:https?:)?//""")
    for page in site.rglob("*.html"):
        assert not fetched.search(page.read_text("utf-8")), page
