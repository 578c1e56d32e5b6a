"""What README shows of the benchmarks: the picture of the one-shot tables and the table of what is supported.

    python benchmarks/figures.py

Figures are read where the benchmarks keep them (README.md, zoo.md, hugging_face.md, random_networks.jsonl), and written
to docs/one_shot.svg and between two marks of README. Needs Python alone.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path

BENCHMARKS = Path(__file__).resolve().parent
README = BENCHMARKS.parent / "README.md"
PICTURE = BENCHMARKS.parent / "docs" / "one_shot.svg"
MARKS = ("<!-- benchmarks/figures.py -->\n\n", "\n<!-- end -->\n")
OURS, THEIRS = "Secateur", "Torch-Pruning, the best of its settings"


def main() -> None:
    PICTURE.write_text(picture(), "utf-8")
    README.write_text(with_table(README.read_text("utf-8")), "utf-8")


def rows_of(text: str) -> list[list[str]]:
    """Cells of the first Markdown table in a text, without its head."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


Network = tuple[float, dict[str, dict[str, float]]]


def one_shot() -> dict[str, Network]:
    """Of each network of the section: accuracy of the whole one, and by tool and target the best without training."""
    text = (BENCHMARKS / "README.md").read_text("utf-8")
    section = text.split("## One shot against Torch-Pruning")[1].split("\n### ")[0]
    heads = re.finditer(r"^(\S+) on (.+?), (?:trained for \d+ epochs, )?([\d.]+) %", section, re.MULTILINE)
    networks = {}
    for head in heads:
        best: dict[str, dict[str, float]] = {OURS: {}, THEIRS: {}}
        for target, setting, accuracy, *_ in rows_of(section[head.end() :].split("|\n\n")[0]):
            if "retraining" not in setting:
                tool = best[OURS if setting.startswith("`--search") else THEIRS]
                tool[target] = max(tool.get(target, 0.0), float(accuracy))
        networks[f"{head[1]}, {head[2]}"] = float(head[3]), best
    return networks


STYLE = """<style>
text { font: 13px system-ui, sans-serif; fill: #24292f }
.small { font-size: 11px; fill: #57606a }
.on { font-size: 10px; fill: #ffffff }
.ours { fill: #1a7f37 } .theirs { fill: #6e7681 }
.whole { stroke: #57606a; stroke-dasharray: 4 3 } .axis { stroke: #8c959f }
@media (prefers-color-scheme: dark) {
  text { fill: #e6edf3 } .small { fill: #9ea7b3 } .ours { fill: #238636 } .theirs { fill: #6e7681 }
  .whole { stroke: #9ea7b3 } .axis { stroke: #6e7681 }
}
</style>"""
LEFT, PANEL, TOP, HEIGHT, BAR = 20, 262, 100, 160, 28
FLOOR = TOP + HEIGHT


def picture() -> str:
    """The section's tables as bars: accuracy without any training at each share of the MACs."""
    networks = one_shot()
    panels = [panel(LEFT + PANEL * i, *network) for i, network in enumerate(networks.items())]
    width, height = LEFT + PANEL * len(panels), FLOOR + 46
    said = "; ".join(f"{name}: {spoken(of)}" for name, (_, of) in networks.items())
    return "\n".join([
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
            f'width="{width}" height="{height}" role="img">',
        f"<title>Accuracy in percent after pruning, before any retraining. {said}</title>",
        STYLE,
        f'<text x="{LEFT}" y="20">Accuracy in percent after pruning, before any retraining</text>',
        f'<rect class="ours" x="{LEFT}" y="32" width="12" height="12"/>',
        f'<text class="small" x="{LEFT + 17}" y="42">{OURS}</text>',
        f'<rect class="theirs" x="{LEFT + 90}" y="32" width="12" height="12"/>',
        f'<text class="small" x="{LEFT + 107}" y="42">{THEIRS}</text>',
        *panels,
        "</svg>",
        "",
    ])  # fmt: skip


def spoken(of: dict[str, dict[str, float]]) -> str:
    parts = (f"{tool} {accuracy:g} with {target} of the MACs" for tool in of for target, accuracy in of[tool].items())
    return ", ".join(parts)


def panel(left: float, name: str, of: Network) -> str:
    whole, best = of
    right, level = left + PANEL - 30, y(whole)
    parts = [f'<text x="{left}" y="{TOP - 24}">{name}</text>']
    for i, target in enumerate(best[OURS]):
        middle = left + 38 + 78 * i
        for kind, at, accuracy in (
            ("ours", middle - BAR - 1, best[OURS][target]),
            ("theirs", middle + 1, best[THEIRS][target]),
        ):
            top = y(accuracy)
            parts += [
                f'<rect class="{kind}" x="{at}" y="{top:.1f}" width="{BAR}" height="{FLOOR - top:.1f}"/>',
                f'<text class="on" x="{at + BAR / 2}" y="{top + 13:.1f}" text-anchor="middle">{accuracy:.1f}</text>',
            ]
        label = f"{float(target):.0%} MACs".replace("%", " %")
        parts.append(f'<text class="small" x="{middle}" y="{FLOOR + 16}" text-anchor="middle">{label}</text>')
    return "\n".join([
        *parts,
        f'<line class="axis" x1="{left}" x2="{right}" y1="{FLOOR}" y2="{FLOOR}"/>',
        f'<line class="whole" x1="{left}" x2="{right}" y1="{level:.1f}" y2="{level:.1f}"/>',
        f'<text class="small" x="{left}" y="{FLOOR + 36}">dashed: with all channels, {whole:g}</text>',
    ])  # fmt: skip


def y(accuracy: float) -> float:
    return TOP + HEIGHT * (1 - accuracy / 100)


def supported() -> str:
    """A table in Markdown: what was tried, how much of it is written and verified, and where each row is."""
    zoo = re.search(r"^(\d+) of (\d+) verified", (BENCHMARKS / "zoo.md").read_text("utf-8"), re.MULTILINE)
    assert zoo, "zoo.md says how many of torchvision's models are verified"
    hub = rows_of((BENCHMARKS / "hugging_face.md").read_text("utf-8"))
    widths = sum(not row[1].startswith("refused") for row in hub)
    bundled = (BENCHMARKS / "README.md").read_text("utf-8").split("## Every bundled network")[1].split("\n## ")[0]
    lines = (BENCHMARKS / "random_networks.jsonl").read_text("utf-8").splitlines()
    kinds = Counter(json.loads(line)["kind"] for line in lines)
    refused = len(lines) - kinds["exact"] - kinds["whole"]
    more = sum(row[1].startswith("refused") and not row[2].startswith("refused") for row in hub)
    residual = f"small ones, random weights; {more} more with `--residual`"
    random = f"drawn by a program; {refused} refused or wrong, {kinds['whole']} in which nothing could go"
    counts = [
        (
            "[bundled networks](benchmarks/README.md#every-bundled-network-at---ratio-05)",
            *[len(rows_of(bundled))] * 2,
            "",
        ),
        ("[torchvision's models](benchmarks/zoo.md)", int(zoo[2]), int(zoo[1]), "classification and segmentation"),
        ("[Hugging Face's models](benchmarks/hugging_face.md)", len(hub), widths, residual),
        ("[random networks](benchmarks/README.md#random-networks)", len(lines), kinds["exact"], random),
    ]
    rows = [f"| {name} | {tried} | {done} | {note} |" for name, tried, done, note in counts]
    return "\n".join(["| tried | networks | written and verified | |", "|---|---|---|---|", *rows, ""])


def with_table(text: str) -> str:
    before, rest = text.split(MARKS[0])
    return before + MARKS[0] + supported() + MARKS[1] + rest.split(MARKS[1])[1]


if __name__ == "__main__":
    main()
