"""What a look at the command line and the disk can refuse is refused before torch is imported."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from app_helpers import NETWORK, uncoded

from secateur import __version__, app
from secateur.commands.cli import names
from secateur.commands.cli.early import bundle_name, trained_name, unfinished
from secateur.commands.cli.options import PruneOptions
from secateur.pruners import metrics, search
from secateur.pruners.metrics import KERNEL_METRICS
from secateur.pruners.transfer import TRANSFERS
from secateur.training.binarization.kinds import KINDS as KINDS_THERE
from secateur.training.data import folders, layouts, sets, shards
from secateur.training.fit import beside

ROOT = Path(__file__).parents[2]
ARCH = ("--arch", "lenet5")
OWN = ("--model", "own_small.py:small", "--input-shape", "1,8,8")
OLD = "choose another folder with -o, or overwrite it with --force"
FOREIGN = (
    "old exists and is no bundle, it holds curves.jsonl: only a bundle is ever written over; "
    "choose another folder with -o"
)
UNFINISHED = "holds an unfinished run: go on with --resume, or start anew with --force"
METRICS, DATA_SETS, KINDS = (", ".join(known) for known in (names.METRICS, names.DATA_SETS, names.KINDS))

PLACES = (
    ("the current folder", ".", ". is the current folder, which is never written over; name a new folder with -o"),
    ("no name", "", ". is the current folder, which is never written over; name a new folder with -o"),
    ("the folder above", "..", ".. holds the current folder, which is never written over; name a new folder with -o"),
    ("the root", "/", "/ holds the current folder, which is never written over; name a new folder with -o"),
    ("a link", "link", "link is a link to bundle; name a folder itself with -o"),
)

REFUSED = {
    "a metric": (("prune", *ARCH, "--metric", "l3"), f"unknown metric 'l3', did you mean 'l2'? known are {METRICS}"),
    "a metric like no other": (("prune", *ARCH, "--metric", "xyz"), f"unknown metric 'xyz'; known are {METRICS}"),
    "a metric of curves": (
        ("curves", *ARCH, "--metric", "angles_kernal"),
        f"unknown metric 'angles_kernal', did you mean 'angles_kernel'? known are {METRICS}, angles_kernel, "
        "distances_kernel",
    ),
    "a ranking": (
        ("curves", *ARCH, "--ranking", "smalest"),
        "unknown ranking 'smalest', did you mean 'smallest'? known are smallest, largest, random",
    ),
    "a search": (
        ("prune", *ARCH, "--search", "unifrom"),
        "unknown search 'unifrom', did you mean 'uniform'? known are bayesian, global, sensitivity, uniform",
    ),
    "a transfer": (
        ("prune", *ARCH, "--transfer", "lsqt"),
        "unknown transfer 'lsqt', did you mean 'lstsq'? known are bn, heal, lstsq, slice",
    ),
    "a time": (
        ("prune", *ARCH, "--heal", "3 minutes"), "--heal 3 minutes: write a time such as 90s, 3m or 1h30m",
    ),
    "no time": (("prune", *ARCH, "--heal", "0s"), "--heal 0s: write a time such as 90s, 3m or 1h30m"),
    "a mode": (
        ("prune", *ARCH, "--mode", "zeroout"),
        "unknown mode 'zeroout', did you mean 'zeroOut'? known are prune, zeroOut",
    ),
    "a direction": (
        ("prune", *ARCH, "--direction", "topdown"),
        "unknown direction 'topdown', did you mean 'top-down'? known are bottom-up, top-down",
    ),
    "a unit": (
        ("prune", *ARCH, "--per", "stages"), "unknown per 'stages', did you mean 'stage'? known are layer, stage",
    ),
    "a data set": (
        ("train", *ARCH, "--data", "digit"), f"unknown data set 'digit', did you mean 'digits'? known are {DATA_SETS}",
    ),
    "a kind of network": (
        ("train", *ARCH, "--network", "XnorNett"),
        f"unknown network kind 'XnorNett', did you mean 'XnorNet'? known are {KINDS}",
    ),
    "too large a share": (
        ("prune", *OWN, "--ratio", "1.5"),
        "--ratio 1.5: must lie between 0 and 1, both excluded; 0.5 removes half of the channels",
    ),
    "two budgets": (
        ("prune", *OWN, "--ratio", "0.5", "--macs", "0.5"), "give one budget, not --macs and --ratio",
    ),
    "widths that are multiples of nothing": (
        ("prune", *OWN, "--round-to", "0"), "--round-to and the minimum of channels must be 1 or more",
    ),
    "an argument without a value": (
        ("inspect", *OWN, "--model-arg", "width"), "--model-arg width: write NAME=VALUE, such as --model-arg width=16",
    ),
    "a network": (
        ("inspect", "--arch", "resnt20"), "there is no bundled network 'resnt20': did you mean 'resnet20'?",
    ),
    "no network": (
        ("inspect",), "give one network: --arch NAME (app.py archs lists them) or --model FILE.py:FACTORY",
    ),
    "a network like no other": (
        ("inspect", "--arch", "xyzzy"), "there is no bundled network 'xyzzy': app.py archs lists them",
    ),
    "a shape": (
        ("prune", "--model", "own_small.py:small", "--input-shape", "3x32x32"),
        "--input-shape 3x32x32: write the sizes of one input without the batch, such as 3,32,32",
    ),
    "a model file": (
        ("prune", "--model", "own_smal.py:small", "--input-shape", "1,8,8"),
        "there is no model file own_smal.py; did you mean own_small.py?",
    ),
    "a file with an example": (
        ("inspect", "--model", "own_small.py:small", "--example", "gone.py:inputs"), "there is no model file gone.py",
    ),
    "a file to check": (("check", "gone.py"), "there is no model file gone.py"),
    "weights": (("evaluate", *OWN, "--weights", "gone.pt"), "there is no checkpoint gone.pt"),
    "weights of another kind": (
        ("train", *ARCH, "--network", "BWN", "--init-from", "gone.pt"), "there is no checkpoint gone.pt",
    ),
    "a folder of weights": (
        ("evaluate", *OWN, "--weights", "bundle"),
        "bundle is a folder: name the checkpoint file in it, such as bundle/weights.pth",
    ),
    "a file of a bundle": (
        ("evaluate", "bundle/model.py"), "bundle/model.py is a file: give the bundle's folder, bundle",
    ),
    "a folder for a plan": (("apply", "bundle"), "bundle is a folder: give the plan in it, bundle/plan.json"),
    "an option without a value": (("prune", "--arch"), "Option '--arch' requires an argument"),
    "a file without its option": (
        ("prune", "own_small.py:small"),
        "Got unexpected extra argument (own_small.py:small); write --model own_small.py:small",
    ),
    "a plan": (("apply", "gone/plan.json"), "gone/plan.json: there is no such plan file"),
    "no bundle": (("profile", "gone"), "gone is not a bundle: it has no model.py"),
    "a bundle to retrain": (("retrain", "gone"), "gone is not a bundle: it has no model.py"),
    "a bundle and a network": (
        ("evaluate", "bundle", *ARCH), "say what to look at: a bundle's folder, --arch NAME or --model FILE.py:FACTORY",
    ),
    "a folder that prune would write": (("prune", *OWN, "-o", "old"), FOREIGN),
    "a folder that prune would write by itself": (
        ("prune", *OWN, "--ratio", "0.50"), f"generated/small_ratio0.5 exists; {OLD}",
    ),
    "a folder of a bundled network": (("prune", "--arch", "resnet"), f"generated/resnet20_digits exists; {OLD}"),
    "a file for a folder": (
        ("prune", *OWN, "-o", "own_small.py", "--force"),
        "own_small.py is a file, not a folder; choose another folder with -o",
    ),
    **{
        f"{what} for {words[0]}{' by force' if force else ''}": ((*words, "-o", out, *force), said)
        for what, out, said in PLACES
        for words in (("prune", *OWN), ("apply", "bundle/plan.json"), ("quantize", *ARCH, "--save", "half"))
        for force in ((), ("--force",))
    },
    "a folder for trained weights": (
        ("train", *ARCH, "-o", ""), ". is a folder: name a file in it, such as weights.pt"
    ),
    "a file that is no weights": (
        ("train", *ARCH, "-o", "own_small.py", "--force"),
        "own_small.py is no file of weights: only weights are ever written over; choose another file with -o",
    ),
    "a file for a folder of curves": (
        ("curves", *ARCH, "-o", "own_small.py"),
        "own_small.py is a file, not a folder; choose another folder with -o",
    ),
    "an unfinished search": (("prune", *OWN, "-o", "new"), f".new.work {UNFINISHED}"),
    "a retrained bundle": (("retrain", "bundle"), f"bundle_retrained exists; {OLD}"),
    "an unfinished retraining": (("retrain", "bundle", "-o", "half"), f".half.training.pt {UNFINISHED}"),
    "trained weights": (
        ("train", *ARCH), "pretrained/model_digits_lenet5_Real.pt exists; choose another file with -o, or overwrite it "
        "with --force",
    ),
    "an unfinished training": (("train", *ARCH, "-o", "half.pt"), f".half.training.pt {UNFINISHED}"),
    "an applied plan": (("apply", "bundle/plan.json", "-o", "old", "--force"), FOREIGN),
    "curves": (
        ("curves", *ARCH, "-o", "old"), "old/curves.jsonl exists: go on with --resume, or start anew with --force",
    ),
    "curves in their usual place": (
        ("curves", *ARCH),
        "generated/lenet5_digits_curves/curves.jsonl exists: go on with --resume, or start anew with --force",
    ),
    "quantized weights": (("quantize", *ARCH, "--save", "half", "-o", "old", "--force"), FOREIGN),
}  # fmt: skip
RUN = """
import io, json, sys
from contextlib import redirect_stderr, redirect_stdout
from secateur.app import cli
told = []
for words in json.load(sys.stdin):
    out, err, code = io.StringIO(), io.StringIO(), None
    with redirect_stdout(out), redirect_stderr(err):
        try:
            cli(words, prog_name="app.py")
        except SystemExit as end:
            code = end.code
    told.append([code, err.getvalue(), out.getvalue(), "torch" in sys.modules])
print(json.dumps(told))
"""


def fill(folder: Path) -> None:
    """Everything that is in the way."""
    bundle = [f"bundle/{name}" for name in ("model.py", "weights.pth", "plan.json")]
    curves = ["old/curves.jsonl", "generated/lenet5_digits_curves/curves.jsonl"]
    kept = [".new.work/search.jsonl", ".half.training.pt", "pretrained/model_digits_lenet5_Real.pt"]
    for name in (*bundle, *curves, *kept):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("")
    (folder / "bundle" / "summary.json").write_text("{}")
    for name in ("bundle_retrained", "generated/small_ratio0.5", "generated/resnet20_digits"):
        (folder / name).mkdir()
    (folder / "own_small.py").write_text(NETWORK)
    (folder / "link").symlink_to("bundle")


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[object]]:
    """What one process says to all of them, which imports torch at the first that comes late."""
    folder = tmp_path_factory.mktemp("early")
    fill(folder)
    words = json.dumps([words for words, _ in REFUSED.values()])
    run = [sys.executable, "-c", f"import sys; sys.path[0] = {str(ROOT)!r}{RUN}"]
    done = subprocess.run(run, input=words, capture_output=True, text=True, check=True, cwd=folder)
    return dict(zip(REFUSED, json.loads(done.stdout), strict=True))


@pytest.mark.parametrize("case", REFUSED)
def test_it_is_refused_in_one_line_before_torch_is_imported(case: str, told: dict[str, list[object]]) -> None:
    code, stderr, *others = told[case]
    assert (code, uncoded(str(stderr)), *others) == (2, f"error: {REFUSED[case][1]}", "", False)


def test_the_names_are_those_of_the_registries() -> None:
    assert metrics.METRICS.names() == names.METRICS
    assert set(KERNEL_METRICS) == set(names.WITH_KERNELS)
    assert metrics.FIRST == names.RANKINGS
    assert search.SEARCHES.names() == names.SEARCHES
    assert set(TRANSFERS.names()) == set(names.TRANSFERS)
    assert layouts and folders and shards and sets.DATA_SETS.names() == names.DATA_SETS
    assert tuple(sorted(KINDS_THERE)) == names.KINDS


def test_files_are_called_as_what_writes_them_calls_them() -> None:
    assert bundle_name("small_digits", PruneOptions(macs=0.50)) == "small_digits_macs0.5"
    assert bundle_name("small", PruneOptions()) == "small"
    assert trained_name("digits", "lenet5") == "model_digits_lenet5_Real.pt"
    for path in (Path("a/b.pt"), Path("a/b.pth"), Path("a/b.c")):
        assert unfinished(path).name == f".{beside(path, '.training.pt').name}"


@pytest.mark.parametrize(
    ("words", "name"),
    [(("-m", "secateur"), "-m secateur"), ((str(ROOT / "app.py"),), str(ROOT / "app.py"))],
    ids=["the package", "the file"],
)
def test_the_command_is_named_as_it_was_typed(words: tuple[str, ...], name: str) -> None:
    def said(*more: str) -> str:
        done = subprocess.run([sys.executable, *words, *more], capture_output=True, text=True, cwd=ROOT)
        return done.stdout + done.stderr

    assert said("--version") == f"secateur {__version__}\n"
    shown = " ".join(said("inspect", "-h").split())
    assert shown.startswith(f"Usage: {sys.executable} {name} inspect [OPTIONS] ")
    expected = f"error: there is no bundled network 'xyzzy': {sys.executable} {name} archs lists them"
    assert uncoded(said("inspect", "--arch", "xyzzy")) == expected


@pytest.mark.parametrize(("path", "name"), [("bin", "secateur"), ("", "bin/secateur")], ids=["found", "not found"])
def test_the_script_is_named_as_it_is_found(
    path: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = tmp_path / "bin" / "secateur"
    script.parent.mkdir()
    script.touch(0o755)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", path)
    monkeypatch.setattr(sys, "argv", ["bin/secateur"])
    seen: list[str] = []
    monkeypatch.setattr(app, "cli", lambda prog_name: seen.append(prog_name))
    app.main()
    assert seen == [name]
