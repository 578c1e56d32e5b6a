"""``report``: what is refused, one bundle's page anew, two bundles beside each other."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from app_helpers import MODEL, NETWORK, app, refusal


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two bundles of one network, ``half`` and ``most``, and one of another, ``other``."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("bundles")
        patch.chdir(folder)
        (folder / "own_small.py").write_text(NETWORK)
        for name, more in (
            ("half", ("--ratio", "0.5")), ("most", ("--ratio", "0.25")),
            ("other", ("--ratio", "0.5", "--model-arg", "width=12")),
        ):  # fmt: skip
            made = app("prune", *MODEL, *more, "-o", name)
            assert made.exit_code == 0, made.stderr
    return folder


@pytest.fixture(autouse=True)
def among_bundles(bundles: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(bundles)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("none",), "none is not a bundle: it has no model.py"),
        (("half", "most", "other"), "report takes one bundle or two, not 3"),
        (("half", "other"), "only bundles of one network, made on inputs of one size, are compared: half of one with"),
        (("half", "most", "-o", "half"), "report writes one page: name it with -o FILE.html, not half"),
        (("half", "most", "-o", "half/report.html"), "half/report.html exists: choose another file with -o, or"),
        (("half", "-o", "half/plan.json/x.html"), "half/plan.json is a file, not a folder; choose another folder"),
    ],
    ids=["no bundle", "three", "other network", "a folder", "a file that is there", "no such folder"],
)
def test_refusals(words: tuple[str, ...], said: str) -> None:
    code, told = refusal("report", *words)
    assert code == 2 and said in told


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("details.json", "{", "half/details.json is damaged"),
        ("details.json", '{"schema": 7}', "half/details.json is damaged, or of another version"),
        ("plan.json", None, "half/plan.json was edited: it is not the plan that its summary.json tells of"),
    ],
)
def test_damaged_bundles_are_refused(name: str, text: str | None, said: str) -> None:
    file = Path("half") / name
    before = file.read_text()
    file.write_text(before.replace('"seed": 0', '"seed": 1') if text is None else text)
    try:
        code, told = refusal("report", "half")
    finally:
        file.write_text(before)
    assert code == 2 and said in told


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("model.py", b"x = (", "half can't be loaded: SyntaxError: '(' was never closed"),
        ("weights.pth", b"PK", "half can't be loaded: "),
        ("summary.json", b'{"schema": 9}', "half/summary.json: schema 9 is unknown, this version reads schema 1"),
    ],
)
def test_a_bundle_that_can_not_be_loaded_is_no_fault_of_the_tool(name: str, content: bytes, said: str) -> None:
    file = Path("half") / name
    before = file.read_bytes()
    file.write_bytes(content)
    try:
        code, told = refusal("profile", "half")
    finally:
        file.write_bytes(before)
    assert code == 2 and said in told


def test_a_report_written_anew_is_the_same() -> None:
    page = Path("half/report.html")
    before = page.read_text()
    page.write_text("another one")
    assert app("report", "half").exit_code == 0
    assert page.read_text() == before
    assert "Channel graph" in before and 'class="strand' in before and "<ins>" in before
    assert {p.name for p in Path("half").iterdir()} == {
        "model.py", "weights.pth", "plan.json", "summary.json", "details.json", "report.html", "search.jsonl"
    }  # fmt: skip


def test_details_hold_what_the_summary_sums_up() -> None:
    details, summary = (json.loads(Path(f"half/{name}.json").read_text()) for name in ("details", "summary"))
    for cost in ("params", "macs"):
        for i, when in enumerate(("before", "after")):
            assert sum(layer[cost][i] for layer in details["layers"]) == summary[cost][when]
    assert summary["machine"]["threads"] >= 1
    assert all(source["file"] == "own_small.py" for source in details["source"])


def test_a_bundle_without_details_has_a_report_too(tmp_path: Path) -> None:
    file = Path("half/details.json")
    kept = file.read_bytes()
    file.unlink()
    try:
        assert app("report", "half", "-o", str(tmp_path / "old.html")).exit_code == 0
    finally:
        file.write_bytes(kept)
    assert "Channel graph" not in (tmp_path / "old.html").read_text()


def test_two_bundles_are_compared(tmp_path: Path) -> None:
    result = app("report", "half", "most", "-o", str(tmp_path / "new" / "both.html"))
    assert result.exit_code == 0, result.stderr
    assert "Kept channels" in result.stdout and "ratio" in result.stdout
    told = json.loads(app("report", "half", "most", "--json").stdout)
    plans = [json.loads(Path(name, "plan.json").read_text())["widths"] for name in ("half", "most")]
    for row in told["widths"]:
        kept = [str(len(plan[row["name"]]["kept"])) for plan in plans]
        assert [row["first"], row["second"]] == kept
    assert [(o["name"], o["first"], o["second"]) for o in told["options"]] == [("ratio", "0.5", "0.25")]
    [params] = [m for m in told["measures"] if m["name"] == "parameters"]
    after = json.loads(Path("most/summary.json").read_text())["params"]["after"]
    assert params["second"].startswith(f"{after:,} (-")
    page = (tmp_path / "new" / "both.html").read_text()
    assert "half and most" in page and params["second"] in page and "http" not in page
