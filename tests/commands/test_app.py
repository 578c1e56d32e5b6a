"""The command line: refusals with their exact line and exit code, then what every command does."""

from __future__ import annotations

import errno
import json
import os
import pickle
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from app_helpers import MODEL, NETWORK, app, refusal

import secateur.app as command_line
from secateur.commands.doctor import pair_problem
from secateur.commands.pruning.watcher import SearchWatcher
from secateur.models import registry
from secateur.pruners.bundle import Bundle
from secateur.pruners.errors import VerificationError
from secateur.training.fit import regimes, save_weights

ROOT = Path(__file__).parents[2]
DATA = ("--model", "own_small.py:small", "--data", "digits")
QUICK = ("--retrain-epochs", "1", "--final-epochs", "1")


def tree(folder: Path) -> set[str]:
    return {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file() and "__pycache__" not in p.parts}


# -- refusals


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        pytest.param(
            ["--ratio", "0.5"],
            "error: give one network: --arch NAME (app.py archs lists them) or --model FILE.py:FACTORY",
            id="no network",
        ),
        pytest.param(
            ["--arch", "resnet", *MODEL, "--ratio", "0.5"],
            "error: give one network: --arch NAME (app.py archs lists them) or --model FILE.py:FACTORY",
            id="two networks",
        ),
        pytest.param(
            ["--arch", "resnt20", "--ratio", "0.5"],
            "error: there is no bundled network 'resnt20': did you mean 'resnet20'?",
            id="a misspelt network",
        ),
        pytest.param(
            ["--model", "gone.py:make", "--ratio", "0.5"],
            "error: there is no model file gone.py",
            id="a model file that is not there",
        ),
        pytest.param(
            ["--model", "own_small.py:smal", "--ratio", "0.5"],
            "error: own_small.py has no smal; did you mean small?",
            id="a factory that is not there",
        ),
        pytest.param(
            ["--model", "own_small.py:needy", "--ratio", "0.5"],
            "error: needy in own_small.py needs width: add --model-arg width=...; where that is no "
            "number or text but a class, write a function, def make(): return needy(width=...)",
            id="a factory that needs arguments",
        ),
        pytest.param(
            ["--model", "own-small.py:small", "--ratio", "0.5"],
            "error: own-small.py: 'own-small' is not a Python identifier and can't be imported; rename it own_small.py",
            id="a module name that is no identifier",
        ),
        pytest.param(
            ["--model", "own_small.py:small", "--ratio", "0.5"],
            "error: --model own_small.py:small: say what the network takes, --input-shape 3,224,224 (one image), "
            "or give --data or --example FILE.py:FUNCTION",
            id="no input shape",
        ),
        pytest.param(
            ["--model", "own_small.py:small", "--input-shape", "1x8x8", "--ratio", "0.5"],
            "error: --input-shape 1x8x8: write the sizes of one input without the batch, such as 3,32,32",
            id="an input shape that is none",
        ),
        pytest.param(
            [*MODEL, "--ratio", "0"],
            "error: --ratio 0: must lie between 0 and 1, both excluded; 0.5 removes half of the channels",
            id="a budget of 0",
        ),
        pytest.param(
            [*MODEL, "--macs", "1"],
            "error: --macs 1: must lie between 0 and 1, both excluded; 0.5 keeps half of the MACs",
            id="a budget of 1",
        ),
        pytest.param(
            [*MODEL, "--params", "1.5"],
            "error: --params 1.5: must lie between 0 and 1, both excluded; 0.5 keeps half of the parameters",
            id="a budget of 1.5",
        ),
        pytest.param(
            [*MODEL, "--macs", "-1"],
            "error: --macs -1: must lie between 0 and 1, both excluded; 0.5 keeps half of the MACs",
            id="a budget of -1",
        ),
        pytest.param(
            [*MODEL, "--macs", "0.5", "--ratio", "0.5"],
            "error: give one budget, not --macs and --ratio",
            id="two budgets",
        ),
        pytest.param(
            [*MODEL, "--ratio", "0.5", "--metric", "l3"],
            "error: unknown metric 'l3', did you mean 'l2'? known are angle, angle_next_layer, "
                "bn_scale, distance, distance_next_layer, fpgm, l1, l2, random, reconstruction, taylor",
            id="an unknown metric",
        ),
        pytest.param(
            [*MODEL, "--ratio", "0.5", "--search", "unifrom"],
            "error: unknown search 'unifrom', did you mean 'uniform'? known are bayesian, global, "
            "sensitivity, uniform",
            id="an unknown search",
        ),
        pytest.param(
            [*MODEL, "--ratio", "0.5", "--transfer", "lstsq"],
            "error: --transfer lstsq looks at images: add --data, or use --transfer slice",
            id="least squares without the images it needs",
        ),
        pytest.param(
            [*DATA, "--ratio", "0.5", "--transfer", "lstsq", "--calibration", "0"],
            "error: --calibration 0: must be 1 or more",
            id="no calibration images",
        ),
        pytest.param(
            [*DATA, "--ratio", "0.5", "--transfer", "bn", "--heal", "3m"],
            "error: --heal is for --transfer heal, and --transfer bn doesn't train: leave one of them out",
            id="a time for what doesn't train",
        ),
        pytest.param(
            [*DATA, "--ratio", "0.5", "--transfer", "slice", "--calibration", "64"],
            "error: --calibration 64: --transfer slice looks at no images; leave the option out",
            id="calibration images for slices",
        ),
        pytest.param(
            [*MODEL, "--ratio", "0.5", "--transfer", "bn"],
            "error: --transfer bn looks at images: add --data, or use --transfer slice",
            id="a transfer without the images it needs",
        ),
        pytest.param(
            [*MODEL, "--search", "bayesian"],
            "error: --search bayesian evaluates candidates; give --data or --score, or take --search uniform or global",
            id="a search without the images it needs",
        ),
        pytest.param(
            [*MODEL, "--ratio", "0.5", "--skip", "conv9"],
            "error: there is no layer conv9 whose channels could be skipped; did you mean conv2?",
            id="a layer to skip that is not there",
        ),
        pytest.param(
            [*MODEL, "--ratio", "0.5", "--data", "digts"],
            "error: unknown data set 'digts', did you mean 'digits'? known are cifar10, cifar100, digits, folder, "
            "imagenet, minicifar, mnist, synthetic, tiny_imagenet, webdataset",
            id="an unknown data set",
        ),
        pytest.param(
            [*DATA, "--ratio", "0.5", "--regime", "normalized"],
            "error: unknown regime 'normalized', did you mean 'normalised'? known are "
            + ", ".join(sorted(regimes.REGIMES)),
            id="an unknown regime",
        ),
        pytest.param(
            [*DATA, "--ratio", "0.5", "--model-arg", "num_classes=5"],
            "error: small has 5 outputs, but digits has 10 classes: add --model-arg num_classes=10 "
            "(or what your factory calls it), or take other data",
            id="another number of classes",
        ),
        pytest.param(
            [*DATA, "--ratio", "0.5", "--input-shape", "3,32,32"],
            "error: --input-shape 3,32,32: the images of digits are 1,8,8; leave the option out",
            id="another input shape than the data's",
        ),
    ],
)
def test_prune_refuses(here, arguments, message):
    assert refusal("prune", "-q", *arguments) == (2, message)
    assert tree(here) == {"own_small.py"}


def test_a_syntax_error_is_named_with_file_and_line(here):
    (here / "broken_net.py").write_text("from torch import nn\n\ndef make(:\n")
    code, message = refusal("prune", "-q", "--model", "broken_net.py:make", "--ratio", "0.5")
    assert (code, message) == (2, "error: syntax error: invalid syntax --> broken_net.py:3")


def test_a_network_with_nothing_to_prune_is_refused_with_file_and_line(here):
    code, message = refusal(
        "prune", "-q", "--model", "own_small.py:Nothing", "--input-shape", "1,8,8", "--ratio", "0.5"
    )
    assert code == 3
    assert message.startswith("error: Nothing: nothing can be pruned: ")
    assert "own_small.py:3" in message


def small_state(here: Path) -> dict[str, torch.Tensor]:
    sys.path.append(str(here))
    from own_small import small

    return small().state_dict()


def broken_weights(kind: str, here: Path) -> object:
    state = small_state(here)
    if kind == "keys":
        return {("convolution1.weight" if k == "conv1.weight" else k): v for k, v in state.items()}
    if kind == "shape":
        return {**state, "fc.weight": torch.zeros(10, 9)}
    if kind == "nan":
        return {**state, "conv1.weight": torch.full_like(state["conv1.weight"], float("nan"))}
    return pickle.loads  # anything that is not plain tensors


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        pytest.param(
            "keys",
            "error: w.pth doesn't fit this network: it lacks conv1.weight; the network has no convolution1.weight",
            id="other keys",
        ),
        pytest.param(
            "shape",
            "error: w.pth doesn't fit this network: fc.weight is 10x9 there and 10x8 in the network",
            id="another shape",
        ),
        pytest.param(
            "nan",
            "error: w.pth can't be used: conv1.weight holds NaN or infinite values; train it again",
            id="NaN weights",
        ),
        pytest.param(
            "pickled",
            "error: refused: w.pth would run pickle.loads when it is opened, which no weights need: don't trust it",
            id="a pickled object",
        ),
    ],
)
def test_a_checkpoint_that_can_not_be_used_is_refused(here, kind, message):
    torch.save(broken_weights(kind, here), "w.pth")
    assert refusal("prune", "-q", *MODEL, "--weights", "w.pth", "--ratio", "0.5") == (2, message)


def test_a_missing_checkpoint_is_refused(here):
    code, message = refusal("prune", "-q", *MODEL, "--weights", "gone.pth", "--ratio", "0.5")
    assert (code, message) == (2, "error: there is no checkpoint gone.pth")


def test_a_folder_that_exists_is_not_overwritten_without_force(here):
    assert app("prune", "-q", *MODEL, "--ratio", "0.5", "-o", "out").exit_code == 0
    before = (here / "out" / "model.py").read_bytes()
    code, message = refusal("prune", "-q", *MODEL, "--ratio", "0.3", "-o", "out")
    assert code == 2
    written = r"\(small, [\d,]+ of [\d,]+ parameters, written \d{4}-\d\d-\d\d \d\d:\d\d\)"
    assert re.fullmatch(f"error: out exists {written}; choose another folder with -o, or .* with --force", message)
    assert (here / "out" / "model.py").read_bytes() == before
    assert app("prune", "-q", *MODEL, "--ratio", "0.3", "-o", "out", "--force").exit_code == 0
    assert (here / "out" / "model.py").read_bytes() != before


def test_a_read_only_folder_is_refused(here, monkeypatch):
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "mkdir", refuse)
    code, message = refusal("prune", "-q", *MODEL, "--ratio", "0.5", "-o", "out")
    assert (code, message) == (2, "error: out can't be written: permission denied; choose another folder with -o")


@pytest.mark.parametrize("name", ["model.py", "weights.pth", "summary.json"])
def test_a_full_disk_leaves_nothing_half_written(here, monkeypatch, name):
    from secateur.pruners import base

    written = base.write_file

    def write(path: Path, data: bytes) -> None:
        if path.name == name:
            path.write_bytes(data[: len(data) // 2])
            raise OSError(errno.ENOSPC, "No space left on device")
        written(path, data)

    monkeypatch.setattr(base, "write_file", write)
    if name == "weights.pth":
        monkeypatch.setattr(base, "write_state", lambda path, state: write(path, b"half of this"))
    code, message = refusal("prune", "-q", *MODEL, "--ratio", "0.5", "-o", "made/out")
    assert (code, message) == (2, "error: made/out can't be written: the disk is full; nothing half-written is left")
    assert tree(here) == {"own_small.py"}


def test_a_bundle_that_fails_its_check_is_not_published(here, monkeypatch):
    def fail(*_: object, **__: object) -> None:
        raise VerificationError("the generated file computes something else")

    monkeypatch.setattr("secateur.pruners.base.verify_bundle", fail)
    code, message = refusal("prune", "-q", *MODEL, "--ratio", "0.5", "-o", "out")
    assert (code, message) == (1, "error: the generated file computes something else")
    assert tree(here) == {"own_small.py"}


def test_a_fault_of_the_tool_is_one_line_and_has_its_own_exit_code(here, monkeypatch):
    def fail(*_: object) -> None:
        raise ZeroDivisionError("oh\nno")

    monkeypatch.setattr("secateur.commands.prune.settings_from", fail)
    code, message = refusal("prune", "-q", *MODEL, "--ratio", "0.5")
    expected = "error: ZeroDivisionError: oh (a fault of this tool: run again with -vv for the place, and report it)"
    assert (code, message) == (70, expected)


def test_a_traceback_is_shown_when_asked_for(here):
    result = app("prune", "-vv", *MODEL, "--ratio", "2")
    assert result.exit_code == 2
    assert "Traceback" in result.stderr
    assert "BudgetError" in result.stderr


@pytest.mark.parametrize("command", ["evaluate", "profile"])
def test_a_command_without_a_subject_is_refused(here, command):
    code, message = refusal(command, "-q")
    expected = "error: say what to look at: a bundle's folder, --arch NAME or --model FILE.py:FACTORY"
    assert (code, message) == (2, expected)


@pytest.mark.parametrize("command", ["evaluate", "profile", "retrain"])
def test_a_folder_that_is_no_bundle_is_refused(here, command):
    assert refusal(command, "-q", ".") == (2, "error: . is not a bundle: it has no model.py")


# -- light


HEAVY = {"torch", "torchvision", "numpy", "networkx", "libcst", "jinja2", "rich", "bayes_opt", "sklearn", "scipy"}


@pytest.mark.parametrize("command", ["", *sorted(command_line.cli.commands)])
def test_help_imports_nothing_heavy(command):
    code = (
        "import sys\nfrom secateur.app import cli\n"
        f"try: cli({[command, '--help'] if command else ['--help']!r}, prog_name='app.py')\n"
        "except SystemExit as end: code = end.code\n"
        "print('LOADED', code, *{m.partition('.')[0] for m in sys.modules})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    loaded = done.stdout.rpartition("LOADED ")[2].split()
    assert loaded[0] == "0"
    assert not HEAVY & set(loaded)
    assert "Usage: app.py" in done.stdout


def test_archs_lists_every_bundled_network():
    shown = app("archs").stdout
    assert all(name in shown for name in registry.ARCHS)
    assert {a["name"] for a in json.loads(app("archs", "--json").stdout)} == set(registry.ARCHS)


# -- prune


def test_a_network_of_ones_own_needs_no_data(here):
    result = app("prune", *MODEL, "--ratio", "0.5")
    assert result.exit_code == 0, result.stderr
    folder = here / "generated" / "small_ratio0.5"
    assert tree(folder) == {
        "model.py", "weights.pth", "plan.json", "summary.json", "details.json", "report.html", "search.jsonl"
    }  # fmt: skip
    assert "# the inner width" in (folder / "model.py").read_text()
    assert "verified in a fresh process" in result.stdout
    assert Bundle.open(folder).model.conv1.out_channels == 3
    assert not list(here.glob("generated/.*"))


def test_a_network_with_two_inputs(here):
    lines = NETWORK.replace("def forward(self, x: Tensor)", "def forward(self, x: Tensor, y: Tensor)")
    (here / "own_two.py").write_text(lines.replace("self.conv1(x)", "self.conv1(x + y)"))
    shapes = ("--input-shape", "1,8,8") * 2
    result = app("prune", "-q", "--model", "own_two.py:small", *shapes, "--ratio", "0.5", "-o", "out")
    assert result.exit_code == 0, result.stderr
    assert Bundle.open("out").plan.provenance["input_shapes"] == [[1, 8, 8], [1, 8, 8]]


def test_batch_norm_is_re_estimated_on_request(here):
    for transfer in ("slice", "bn"):
        arguments = (*DATA, "--ratio", "0.5", "--transfer", transfer, "--final-epochs", "0")
        assert app("prune", "-q", *arguments, "-o", transfer).exit_code == 0
    sliced, re_estimated = (Bundle.open(f).model.bn1.running_mean for f in ("slice", "bn"))
    assert not torch.allclose(sliced, re_estimated)


def test_json_is_what_summary_json_holds(here):
    result = app("prune", "-q", "--json", *MODEL, "--ratio", "0.5", "-o", "out")
    values = json.loads(result.stdout)
    assert values == json.loads((here / "out" / "summary.json").read_text())
    assert values["schema"] == 1
    assert values["verified"] is True
    assert values["params"]["before"] > values["params"]["after"]
    assert values["accuracy"] == {"before": None, "pruned": None, "retrained": None}
    assert result.stderr == ""


def test_dry_run_prints_the_diff_and_writes_nothing(here):
    result = app("prune", "-q", "--dry-run", *MODEL, "--ratio", "0.5")
    assert result.exit_code == 0
    assert "--- own_small.py" in result.stdout
    assert "-        self.conv2 = nn.Conv2d(width, 8, 3, stride=2)\n" in result.stdout
    assert "+        self.conv2 = nn.Conv2d(width, 4, 3, stride=2)\n" in result.stdout
    assert "Predicted, nothing written:\n  parameters: 596 -> " in result.stdout
    assert tree(here) == {"own_small.py"}


def test_the_same_command_gives_the_same_file_weights_and_plan(here):
    for name in ("one", "two"):
        assert app("prune", "-q", *MODEL, "--macs", "0.6", "--search", "global", "-o", name).exit_code == 0
    for file in ("model.py", "weights.pth", "plan.json", "search.jsonl"):
        assert (here / "one" / file).read_bytes() == (here / "two" / file).read_bytes()


def test_a_generated_file_can_be_pruned_again(here):
    assert app("prune", "-q", *MODEL, "--ratio", "0.3", "-o", "own_one").exit_code == 0
    again = ["--model", "own_one/model.py:small", "--weights", "own_one/weights.pth", "--input-shape", "1,8,8"]
    result = app("prune", "-q", *again, "--ratio", "0.5", "-o", "own_two")
    assert result.exit_code == 0, result.stderr
    assert Bundle.open("own_two").summary["params"]["before"] == Bundle.open("own_one").summary["params"]["after"]


def test_search_retraining_and_final_training_on_data(here):
    result = app("prune", *DATA, *QUICK, "-o", "out")
    assert result.exit_code == 0, result.stderr
    summary = Bundle.open("out").summary
    assert all(0 <= summary["accuracy"][k] <= 1 for k in ("before", "pruned", "retrained"))
    assert "no --weights: small is taken as its factory returns it" in result.stderr
    assert "new best" in result.stderr
    assert "test accuracy, retrained" in result.stdout
    assert "circle" in (here / "out" / "report.html").read_text()


def test_a_bundled_network_is_trained_once(here, monkeypatch):
    monkeypatch.setitem(regimes.SHORT, "digits", 1)
    arguments = ("--arch", "lenet5", "--ratio", "0.5", "--final-epochs", "0")
    first = app("prune", *arguments, "-o", "one")
    cached = here / "pretrained" / "model_digits_lenet5_Real.pt"
    assert first.exit_code == 0, first.stderr
    assert f"there is no {cached.relative_to(here)}: training lenet5 on digits first" in first.stderr
    before = cached.stat().st_mtime_ns
    second = app("prune", *arguments, "-o", "two")
    assert "starting from pretrained/model_digits_lenet5_Real.pt" in second.stderr
    assert cached.stat().st_mtime_ns == before
    assert (here / "one" / "weights.pth").read_bytes() == (here / "two" / "weights.pth").read_bytes()


def test_an_interrupted_search_resumes_to_the_same_plan(here, monkeypatch):
    assert app("prune", "-q", *DATA, *QUICK, "-o", "whole").exit_code == 0
    told = SearchWatcher.on_evaluation

    def interrupt(self: SearchWatcher, record: object) -> None:
        told(self, record)  # type: ignore[arg-type]
        if record.step == 3:  # type: ignore[attr-defined]
            os.kill(os.getpid(), signal.SIGINT)

    with monkeypatch.context() as patched:
        patched.setattr(SearchWatcher, "on_evaluation", interrupt)
        code, message = refusal("prune", "-q", *DATA, *QUICK, "-o", "parts")
    assert code == 130
    assert message.endswith(" app.py prune --arch 'a b' --resume")
    assert message.startswith("search interrupted after ")
    assert not (here / "parts").exists()
    code, message = refusal("prune", "-q", *DATA, *QUICK, "-o", "parts")
    expected = "error: .parts.work holds an unfinished run: go on with --resume, or start anew with --force"
    assert (code, message) == (2, expected)
    assert app("prune", "-q", *DATA, *QUICK, "-o", "parts", "--resume").exit_code == 0
    for file in ("model.py", "weights.pth", "plan.json"):
        assert (here / "parts" / file).read_bytes() == (here / "whole" / file).read_bytes()
    assert not (here / ".parts.work").exists()


def test_the_resume_command_repeats_what_was_typed():
    typed = ["prune", "--arch", "resnet", "--model-arg", "name=a b", "--force"]
    told = command_line.resume_command("python app.py", typed)
    assert told == "python app.py prune --arch resnet --model-arg 'name=a b' --force --resume"
    assert command_line.resume_command("secateur", ["archs"]) == "secateur archs"


@pytest.mark.parametrize(
    ("program", "script"),
    [("python app.py", "app.py"), ("python -m secateur", "-m secateur"), ("secateur", "bin/secateur")],
)
def test_the_resume_command_starts_as_many_processes(monkeypatch, program, script):
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    monkeypatch.setattr(sys, "argv", ["bin/secateur"])
    told = command_line.resume_command(program, ["train", "--arch", "lenet5"])
    assert told == f"torchrun --nproc-per-node 2 {script} train --arch lenet5 --resume"


# -- apply


@pytest.mark.parametrize(
    "arguments, transfer",
    [
        ((*DATA, "--macs", "0.6", "--final-epochs", "0"), "lstsq"),
        ((*DATA, "--macs", "0.6", "--final-epochs", "0", "--transfer", "slice"), "slice"),
        ((*DATA, "--macs", "0.6", "--search", "bayesian", *QUICK), "slice"),
        ((*MODEL, "--macs", "0.6"), "slice"),
    ],
    ids=["images", "as asked", "slices that were judged and retrained", "no images"],
)
def test_how_weights_are_carried_over_unless_it_is_said(here, arguments, transfer):
    assert app("prune", "-q", *arguments, "-o", "out").exit_code == 0
    assert json.loads((here / "out" / "plan.json").read_text())["provenance"]["transfer"] == transfer
    assert ("transfer" in json.loads((here / "out" / "summary.json").read_text())) == (transfer == "lstsq")


@pytest.fixture
def bundle(here):
    assert app("prune", "-q", *MODEL, "--ratio", "0.5", "-o", "out").exit_code == 0
    return here / "out"


APPLY = ("apply", "-q", "out/plan.json", "--model", "own_small.py:small")


def test_apply_does_not_run_a_file_that_only_the_plan_names(bundle):
    code, message = refusal("apply", "-q", "out/plan.json")
    expected = (
        "error: out/plan.json was made for own_small.py:small, which is run only if you say so: "
        "add --model own_small.py:small"
    )
    assert (code, message) == (2, expected)


def test_apply_gives_the_bundle_again_byte_for_byte(bundle):
    assert app(*APPLY, "-o", "again").exit_code == 0
    assert tree(bundle.parent / "again") == tree(bundle)
    for file in tree(bundle):
        assert (bundle.parent / "again" / file).read_bytes() == (bundle / file).read_bytes(), file


def test_apply_gives_retrained_weights_again(here):
    assert app("prune", "-q", *DATA, "--ratio", "0.5", "--final-epochs", "1", "-o", "out").exit_code == 0
    result = app(*APPLY, "--data", "digits", "-o", "again")
    assert result.exit_code == 0, result.stderr
    for file in tree(here / "out"):
        assert (here / "again" / file).read_bytes() == (here / "out" / file).read_bytes(), file


def test_apply_says_so_where_what_lies_beside_the_plan_is_lost(bundle):
    (bundle / "weights.pth").unlink()
    result = app("apply", *APPLY[2:], "-o", "again")
    assert result.exit_code == 0, result.stderr
    assert (
        "out is no whole bundle (out is not a bundle: it has no weights.pth): weights are cut from the original's"
        in result.stderr
    )


def edited(bundle: Path, change: object) -> None:
    plan = json.loads((bundle / "plan.json").read_text())
    change(plan)  # type: ignore[operator]
    (bundle / "plan.json").write_text(json.dumps(plan))


def test_a_plan_edited_by_hand_is_applied(bundle):
    edited(bundle, lambda plan: plan["widths"]["conv1"].update(kept=[1]))
    result = app(*APPLY, "-o", "again")
    assert result.exit_code == 0, result.stderr
    assert Bundle.open("again").model.conv1.out_channels == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        pytest.param(
            lambda plan: plan["widths"]["conv1"].update(kept=[1, 6]),
            "error: out/plan.json: width 'conv1': index 6 is out of range, the width has 6 channels (0 to 5)",
            id="an index out of range",
        ),
        pytest.param(
            lambda plan: plan["widths"]["conv1"].update(kept=[]),
            "error: out/plan.json: width 'conv1': keeps no channel, at least one must stay",
            id="an empty width",
        ),
        pytest.param(
            lambda plan: plan["widths"].update(conv9={"size": 4, "kept": [0]}),
            "error: the network has no width 'conv9'; it has conv1, conv2",
            id="a width that is not there",
        ),
        pytest.param(
            lambda plan: plan["provenance"].update(source_sha256="0" * 64),
            "error: the plan was made for another source (source_sha256 000000000000, now ",
            id="another source",
        ),
        pytest.param(
            lambda plan: plan["provenance"].update(weights_sha256="0" * 64),
            "error: the plan was made for another weights (weights_sha256 000000000000, now ",
            id="other weights",
        ),
        pytest.param(
            lambda plan: plan["provenance"].update(input_shapes="x"),
            "error: out/plan.json: the plan's input_shapes is damaged, it must be a list of shapes",
            id="a damaged provenance",
        ),
    ],
)
def test_an_impossible_plan_is_refused(bundle, change, message):
    edited(bundle, change)
    code, said = refusal(*APPLY, "-o", "again")
    assert code == 2
    assert said.startswith(message)
    assert not (bundle.parent / "again").exists()


# -- the other commands


def test_inspect_shows_widths_and_what_stays(here):
    shown = app("inspect", "-q", *MODEL).stdout
    assert "small: 2 widths, 14 groups" in shown
    assert "conv1 -> conv2" in shown
    assert "own_small.py" in shown
    values = json.loads(app("inspect", "-q", "--json", *MODEL).stdout)
    assert [(w["name"], w["channels"]) for w in values["widths"]] == [("conv1", 6), ("conv2", 8)]
    assert {k: values["frozen"][-1][k] for k in ("layers", "channels")} == {"layers": ["fc"], "channels": 10}


def test_inspect_says_why(here):
    shown = app("inspect", "-q", *MODEL, "--why", "conv1").stdout
    assert "conv1: 6 output channels belong to the width conv1; with them go" in shown
    [first, *_] = json.loads(app("inspect", "-q", "--json", *MODEL, "--why", "conv1").stdout)
    assert first["partners"][0]["layer"] == "conv2"
    code, message = refusal("inspect", "-q", *MODEL, "--why", "conv7")
    assert (code, message) == (2, "error: there is no layer conv7; did you mean conv2?")


def test_skipped_layers_stay(here):
    values = json.loads(app("inspect", "-q", "--json", *MODEL, "--skip", "conv1").stdout)
    assert [w["name"] for w in values["widths"]] == ["conv2"]


def test_train_evaluate_and_profile(here):
    trained = app("train", "-q", "--json", *DATA, "--epochs", "1")
    weights = json.loads(trained.stdout)["weights"]
    assert weights == "pretrained/small_digits.pt"
    code, message = refusal("train", "-q", *DATA, "--epochs", "1")
    assert (code, message) == (
        2, f"error: {weights} exists; choose another file with -o, or overwrite it with --force",
    )  # fmt: skip
    measured = json.loads(app("evaluate", "-q", "--json", *DATA, "--weights", weights).stdout)
    assert measured["images"] == 360
    assert measured["top1"] == json.loads(trained.stdout)["accuracy"]["test"]
    profiled = json.loads(app("profile", "-q", "--json", *DATA, "--repeats", "1").stdout)
    assert sum(r["params"] for r in profiled["layers"]) == profiled["total"]["params"] == 596


def test_retrain_publishes_a_bundle_of_its_own(here):
    assert app("prune", "-q", *DATA, "--ratio", "0.5", "--final-epochs", "0", "-o", "out").exit_code == 0
    result = app("retrain", "-q", "--json", "out", "--epochs", "2")
    assert result.exit_code == 0, result.stderr
    summary = json.loads(result.stdout)
    assert summary["verified"] is True
    assert summary["accuracy"]["retrained"] is not None
    before, after = (torch.load(f"{f}/weights.pth", weights_only=True) for f in ("out", "out_retrained"))
    assert not torch.equal(before["conv1.weight"], after["conv1.weight"])
    assert app("evaluate", "-q", "out_retrained").exit_code == 0
    assert app("profile", "-q", "out_retrained", "--repeats", "1").exit_code == 0


def test_retrain_without_images_is_refused(bundle):
    code, message = refusal("retrain", "-q", "out")
    assert (code, message) == (2, "error: out was made without images: say what to train on with --data")


def test_check_takes_a_block_kind_through_everything(here):
    result = app("check", "-q", str(ROOT / "tests" / "helpers" / "ghost_block.py"))
    assert result.exit_code == 0, result.stderr
    assert result.stdout == "@ghost: 3 widths; pruned, written, transferred, verified\n"


def test_check_refuses_a_file_without_a_block_kind(here):
    code, message = refusal("check", "-q", "own_small.py")
    expected = "error: own_small.py defines no block kind: make one with BlockKind(name, calculator)"
    assert (code, message) == (2, expected)


def test_doctor_names_versions_and_device():
    values = json.loads(app("doctor", "--json").stdout)
    assert values["torch"]["found"]
    assert {"python", "torchvision", "cores", "device", "writing"} <= set(values)


@pytest.mark.parametrize(
    ("installed", "needs", "problem"),
    [
        ("2.6.0+cpu", ["numpy", "torch==2.6.0"], ""),
        ("2.6.0", ["torch (==2.6.0)"], ""),
        ("2.6.0", ["numpy"], ""),
        (
            "2.7.0", ["torch==2.6.0"],
            "torchvision needs torch 2.6.0, not 2.7.0: run pip install torch torchvision together",
        ),
    ],
)  # fmt: skip
def test_doctor_compares_torch_and_torchvision(installed, needs, problem):
    assert pair_problem(installed, needs) == problem


def test_setup_pruner_looks_names_up_whole():
    from secateur.pruners.base import PRUNERS, BasicPruning

    image = torch.zeros(1, 1, 8, 8)
    model = registry.create("lenet5", in_channels=1)
    assert type(command_line.setup_pruner("lenet5", model, image)) is PRUNERS["models.cifar.lenet5"]
    assert type(command_line.setup_pruner("", model, image)) is BasicPruning
    with pytest.raises(Exception, match="there is no bundled network 'my_lenet5'"):
        command_line.setup_pruner("my_lenet5", model, image)


def test_weights_of_a_bundled_network_are_taken_from_the_cache(here):
    model = registry.create("lenet5", **registry.arguments_for("lenet5", (1, 8, 8), 10))
    save_weights(model, here / "pretrained" / "model_digits_lenet5_Real.pt")
    result = app("prune", "--arch", "lenet5", "--ratio", "0.5", "--dry-run")
    assert "starting from pretrained/model_digits_lenet5_Real.pt" in result.stderr
    assert tree(here) == {"own_small.py", "pretrained/model_digits_lenet5_Real.pt"}


def test_the_optimizer_of_a_training_checkpoint_comes_along(here):
    small_state(here)  # makes the file importable
    from own_small import small

    model = small()
    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)
    model(torch.randn(2, 1, 8, 8)).sum().backward()
    optimizer.step()
    torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict()}, "w.pth")
    result = app("prune", "-q", *MODEL, "--weights", "w.pth", "--ratio", "0.5", "-o", "out")
    assert result.exit_code == 0, result.stderr
    pruned = Bundle.open("out").model
    resumed = torch.optim.SGD(pruned.parameters(), 0.1, momentum=0.9)
    resumed.load_state_dict(torch.load("out/optimizer.pth", weights_only=True))
    for parameter in pruned.parameters():
        assert resumed.state[parameter]["momentum_buffer"].shape == parameter.shape


def test_an_optimizer_that_is_left_out_is_told_of_even_quietly(here):
    small_state(here)
    from own_small import small

    model = small()
    torch.save({"model": model.state_dict(), "optimizer": {"lr": 0.1}}, "w.pth")
    result = app("prune", "-q", *MODEL, "--weights", "w.pth", "--ratio", "0.5", "-o", "out")
    assert result.exit_code == 0
    assert result.stderr.startswith("warning: the optimizer's state is left out, there is no optimizer.pth: it is no")
    assert not (here / "out" / "optimizer.pth").exists()
