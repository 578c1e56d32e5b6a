"""``app.py compare``: what it refuses, and the tables and figures that it writes."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest
import torch
from app_helpers import app, refusal

from secateur.commands import compare
from secateur.models.registry import create
from secateur.training.packing import SpeedUp, speed

SMALL = ("--arch", "lenet5", "--limit", "100", "--epochs", "1", "--repeats", "1")
TABLES = ("accuracy", "memory", "training_time", "inference_time", "speed_up_channels", "speed_up_filters")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "say what to compare: --arch NAME"),
        (("--arch", "lenet5", "--network", "Real"), "--network Real is what others are compared with"),
        (("--arch", "lenet5", "--network", "XnorNot"), "did you mean 'XnorNet'?"),
        (("--arch", "squeezenet"), "squeezenet has no form for binary layers"),
        (("--arch", "lenet5", "--real", "none.pt"), "there is no bundle and there are no weights none.pt"),
        (("--arch", "lenet5", "--binary", "foreign"), "foreign is not a bundle"),
        (("--binary", "weights.pt", "--real", "weights.pt"), "or two bundles with --real and --binary"),
        (("--arch", "lenet5", "-o", "foreign"), "foreign exists and holds no comparison"),
        (("--arch", "lenet5", "-o", "weights.pt"), "weights.pt is a file, not a folder"),
        (("--arch", "lenet5", "-o", "damaged"), "damaged, or not of this program"),
        (("--arch", "lenet5", "--data", "mnist:nowhere"), "there is no folder nowhere"),
        (("--arch", "lenet5", "--regime", "bin"), "unknown regime 'bin'"),
        (("--arch", "lenet5", "--binary", "weights.pt"), "weights.pt can't be read as a checkpoint"),
        (("--arch", "lenet5", "--kind-arg", "gradient=none"), "XnorNet: gradient must be"),
    ],
    ids=["nothing", "real against real", "a kind like another", "a network without a binary form", "weights not there",
         "a folder that is no bundle", "weights without a network", "a folder with other things", "a file",
         "damaged results", "data not there", "a regime", "the second network's weights", "an option of the kind"],
)  # fmt: skip
def test_refusals_come_in_one_line_before_the_work(arguments: tuple[str, ...], said: str, here: Path) -> None:
    for folder in ("foreign", "damaged"):
        (here / folder).mkdir()
    (here / "foreign" / "notes.txt").touch()
    (here / "damaged" / "comparison.json").write_text('{"rows": [{"network": 1}]}')
    (here / "weights.pt").touch()
    code, line = refusal("compare", *arguments, "-q")
    assert (code, line.count("\n")) == (2, 0), line
    assert said in line
    assert not (here / "generated" / "comparison" / "weights").exists()


@pytest.fixture
def few_sizes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speed, "CHANNELS", (8, 16))
    monkeypatch.setattr(speed, "FILTERS", (1, 3))
    monkeypatch.setattr(speed, "CHANNELS_OF_FILTERS", 16)
    monkeypatch.setattr(compare, "BATCHES", (1, 4))


def rows_of(folder: Path, name: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO((folder / f"{name}.csv").read_text("utf-8"))))


@pytest.mark.usefixtures("few_sizes")
def test_tables_and_figures_of_a_trained_pair(here: Path) -> None:
    result = app("compare", *SMALL, "-q", "-o", "out")
    assert result.exit_code == 0, result.stderr
    out, about = here / "out", {"data": "digits", "network": "lenet5_binary", "kind": "XnorNet"}
    tables = {name: rows_of(out, name) for name in TABLES}
    assert all(row.items() >= about.items() for name in TABLES[:4] for row in tables[name])

    [memory] = tables["memory"]
    file = io.BytesIO()
    torch.save(create("lenet5_binary", image_size=8).state_dict(), file)
    assert abs(int(memory["real bytes"]) - len(file.getvalue())) < 2000  # names in the archive
    packed = out / "lenet5_binary_digits_XnorNet_packed" / "weights.pth"
    assert abs(int(memory["packed"]) - packed.stat().st_size) < 2000 < int(memory["real bytes"]) / 5

    told = json.loads((out / "comparison.json").read_text("utf-8"))
    lines = (out / "weights/lenet5_binary_XnorNet_digits.curve.jsonl").read_text("utf-8").splitlines()
    curve = [json.loads(line) for line in lines]
    assert told["rows"][0]["binary"]["training_seconds"] == sum(epoch["seconds"] for epoch in curve)
    assert told["rows"][0]["settings"]["training_images"] == 100
    assert [row["images at a time"] for row in tables["inference_time"]] == ["1", "4"]
    assert all(float(row["real ms"]) > 0 and float(row["packed ms"]) > 0 for row in tables["inference_time"])
    [accuracy] = tables["accuracy"]
    assert accuracy["few bits %"] == accuracy["packed %"]

    text = (out / "comparison.md").read_text("utf-8")
    command = "secateur compare --arch lenet5 --data digits --network XnorNet --epochs 1 --limit 100 --repeats 1"
    assert f"`{command}`" in text and "thread" in text
    assert text.count("\n## ") == len(TABLES)
    assert [row["input channels"] for row in tables["speed_up_channels"]] == ["8", "16"]

    assert "already; choose another folder" in refusal("compare", *SMALL, "-q", "-o", "out")[1]


@pytest.mark.usefixtures("few_sizes", "without_numba")
def test_further_runs_add_rows_and_take_what_is_given(here: Path) -> None:
    weights = here / "real.pt"
    assert app("train", *SMALL[:2], "--network", "Real", "--epochs", "1", "-q", "-o", str(weights)).exit_code == 0
    first = app("compare", *SMALL, "--network", "DoReFa", "--real", "real.pt", "-q", "-o", "out")
    assert first.exit_code == 0, first.stderr
    few = ("--arch", "lenet5", "--network", "IRNet", "--data", "digits")
    assert app("train", *few, "--epochs", "1", "-q", "-o", "few.pt").exit_code == 0
    bundle = (*few, "--weights", "few.pt", "--ratio", "0.5", "--search", "uniform", "--final-epochs", "0")
    made = app("prune", *bundle, "-q", "-o", "pruned")
    assert made.exit_code == 0, made.stderr
    assert app("compare", "--real", "pruned", "--binary", "pruned", "--limit", "50", "--repeats", "1", "-q", "-o",
               "out").exit_code == 0  # fmt: skip
    table = rows_of(here / "out", "training_time")
    assert [row["kind"] for row in table] == ["DoReFa", "IRNet"]
    assert float(table[0]["real s"]) > 0 and table[1]["real s"] == ""  # from the curve beside the weights; not known
    assert table[0]["training images"] == table[0]["few bits / real, an epoch"] == ""  # those of another run
    memory = rows_of(here / "out", "memory")
    assert memory[0]["packed"] == "" and float(memory[1]["real / packed"]) > 1
    assert "Not packed: " in (here / "out" / "comparison.md").read_text("utf-8")
    folder = "out/pruned_digits_IRNet_packed"
    code, line = refusal("compare", "--real", "pruned", "--binary", folder, "-q", "-o", "other")
    assert code == 2 and "is packed already" in line


@pytest.mark.usefixtures("few_sizes", "without_numba")
def test_an_interrupted_run_goes_on_with_what_was_trained(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(compare, "_row", stop)
        assert app("compare", *SMALL, "-q", "-o", "out").exit_code == 130
    curve = (here / "out/weights/lenet5_binary_Real_digits.curve.jsonl").read_text()
    code, line = refusal("compare", *SMALL, "-q", "-o", "out")
    assert code == 2 and "--resume" in line
    code, line = refusal("compare", *SMALL, "--batch-size", "50", "--resume", "-q", "-o", "out")
    assert code == 2 and "is of another run" in line
    result = app("compare", *SMALL, "--resume", "-q", "-o", "out")
    assert result.exit_code == 0, result.stderr
    told = json.loads((here / "out" / "comparison.json").read_text("utf-8"))
    assert told["rows"][0]["real"]["training_seconds"] == json.loads(curve)["seconds"]


@pytest.mark.parametrize(("channels", "size", "times"), [(1, 3, 7.89), (64, 3, 57.6), (256, 3, 62.27), (256, 1, 51.2)])
def test_theory_is_the_papers_count(channels: int, size: int, times: float) -> None:
    assert SpeedUp(channels, size, 1.0, {}).theory == pytest.approx(times, abs=0.005)


def test_figures_are_drawn_where_matplotlib_is(here: Path) -> None:
    pytest.importorskip("matplotlib")
    from secateur.commands.show import pictures

    lines = {"theory": [8.0, 60.0], "measured": [1.0, 5.0]}
    drawn = pictures.draw_speed_ups(here / "one", "a CPU", "channels", [1, 512], lines)
    assert [path.name for path in drawn] == ["one.svg", "one.png"]
    assert "channels" in drawn[0].read_text("utf-8") and drawn[1].stat().st_size > 1000
