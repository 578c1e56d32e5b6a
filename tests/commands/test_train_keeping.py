"""What ``train`` never loses: what is refused before anything slow begins, and what a run leaves for the next one."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import pytest
import torch
from app_helpers import app, refusal
from click.testing import Result
from training_runs import InterruptAt

from secateur.commands.show import console
from secateur.training.fit import Progress, beside, load_checkpoint, save_weights

LENET = ("--arch", "lenet5", "--network")
TRAIN = ("train", "--model", "own_small.py:small", "--data", "digits", "--epochs", "2", "-o", "w.pt")


def interrupted(monkeypatch: pytest.MonkeyPatch, *words: str, step: int = 3) -> Result:
    """Run a command, press Ctrl-C after so many steps."""

    def progress() -> Progress:
        return InterruptAt(step)

    with monkeypatch.context() as patch:
        patch.setattr(console, "Progress", progress)
        result = app(*words, "-q")
    assert result.exit_code == 130, result.stderr
    return result


# -- refusals


@pytest.mark.parametrize("more", [(), ("--force",)], ids=["as it is", "by force"])
def test_a_folder_is_no_file_to_write(here: Path, more: tuple[str, ...]) -> None:
    (here / "w.pt").mkdir()
    assert refusal(*TRAIN, "-q", *more) == (2, "error: w.pt is a folder: name a file in it, such as w.pt/weights.pt")
    assert sorted(p.name for p in here.iterdir()) == ["own_small.py", "w.pt"]


def test_a_file_on_the_way_is_refused_before_training(here: Path) -> None:
    (here / "file").write_text("")
    code, said = refusal(*TRAIN[:-1], "file/w.pt", "-q")
    assert (code, said) == (2, "error: file/w.pt can't be written: File exists; choose another file with -o")


def test_a_folder_that_is_read_only_is_refused_before_training(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(**_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(tempfile, "TemporaryFile", refused)
    code, said = refusal(*TRAIN, "-q")
    assert (code, said) == (2, "error: w.pt can't be written: Permission denied; choose another file with -o")
    assert not list(here.glob("*curve*"))


def test_an_unfinished_run_is_not_written_over(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    interrupted(monkeypatch, *TRAIN)
    kept = (here / ".w.training.pt").read_bytes()
    assert refusal(*TRAIN, "-q") == (
        2,
        "error: .w.training.pt holds an unfinished run: go on with --resume, or start anew with --force",
    )
    assert (here / ".w.training.pt").read_bytes() == kept
    assert app(*TRAIN, "-q", "--force").exit_code == 0
    assert not (here / ".w.training.pt").exists()


@pytest.mark.parametrize(
    ("words", "difference"),
    [
        (("--batch-size", "32"), "its regime is batch_size=64, now it is batch_size=32"),
        (("--lr", "0.2"), "its regime is changes={0: {'lr': 0.1, now it is changes={0: {'lr': 0.2"),
        (("--seed", "1"), "its seed is 0, now it is 1"),
        (("--amp", "bf16"), "its precision is full, now it is bf16"),
        (("--epochs", "1"), "its epochs is 2, now it is 1"),
    ],
)
def test_a_run_is_not_resumed_with_other_options(
    here: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, str], difference: str
) -> None:
    interrupted(monkeypatch, *TRAIN)
    code, said = refusal(*TRAIN, *words, "-q", "--resume")
    assert code == 2
    assert difference in said
    assert "\n" not in said


def test_a_run_is_not_resumed_as_another_kind(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = ("train", *LENET, "XnorNet", "--epochs", "1", "-o", "w.pt")
    interrupted(monkeypatch, *run)
    other = [word if word != "XnorNet" else "BWN" for word in run]
    code, said = refusal(*other, "-q", "--resume")
    assert code == 2
    assert "its network is {'kind': 'XnorNet'" in said


@pytest.mark.parametrize("words", [(), ("--resume",)], ids=["anew", "resumed"])
def test_finished_weights_of_the_same_kind_are_not_written_over(here: Path, words: tuple[str, ...]) -> None:
    run = ("train", *LENET, "BWN", "--epochs", "1", "-q", "-o", "w.pt")
    assert app(*run).exit_code == 0
    before = (here / "w.pt").read_bytes()
    code, said = refusal(*run, *words)
    assert (code, said.partition("; ")[2]) == (2, "choose another file with -o, or overwrite it with --force")
    assert (here / "w.pt").read_bytes() == before


def test_weights_that_were_renamed_to_be_of_another_kind_are_where_it_begins(here: Path) -> None:
    assert app("train", *LENET, "Real", "--epochs", "1", "-q").exit_code == 0
    real = here / "pretrained" / "model_digits_lenet5_binary_Real.pt"
    renamed = real.with_name(real.name.replace("Real", "SemiReal"))
    real.rename(renamed)
    run = ("train", *LENET, "SemiReal", "--epochs", "1")
    assert refusal(*run, "-q")[0] == 2  # it isn't asked to go on
    result = app(*run, "--resume")
    assert result.exit_code == 0, result.stderr
    start = renamed.relative_to(here)
    assert f"starting from {start}, which holds the weights of a Real network" in result.stderr
    assert load_checkpoint(renamed).training["network"]["kind"] == "SemiReal"


def test_a_checkpoint_that_is_cut_off_is_refused(here: Path) -> None:
    save_weights(torch.nn.Linear(100, 100), here / "x.pt")
    (here / "x.pt").write_bytes((here / "x.pt").read_bytes()[:3000])
    expected = (2, "error: x.pt can't be read as a checkpoint: it is cut off or damaged")
    assert refusal("train", *LENET, "BWN", "--init-from", "x.pt", "-q") == expected
    (here / "x.pt").rename(here / ".w.training.pt")
    code, said = refusal(*TRAIN, "-q", "--resume")
    assert (code, said) == (2, expected[1].replace("x.pt", ".w.training.pt"))


@pytest.mark.parametrize(
    ("trained", "words"),
    [
        (("DoReFa", "--kind-arg", "weight_bits=1"), "--kind-arg weight_bits=1"),
        (("BWN", "--first-layer", "binary"), "--first-layer binary"),
    ],
)
def test_weights_of_a_kind_with_other_options_are_refused(here: Path, trained: tuple[str, ...], words: str) -> None:
    assert app("train", *LENET, *trained, "--epochs", "1", "-q", "-o", "w.pt").exit_code == 0
    kind = trained[0]
    code, said = refusal("evaluate", *LENET, kind, "--data", "digits", "--weights", "w.pt", "-q")
    assert (code, said) == (
        2,
        f"error: w.pt holds the weights of another {kind} network: add {words}, or start from them with "
        "--init-from w.pt",
    )
    given = app("evaluate", *LENET, kind, *words.split(), "--data", "digits", "--weights", "w.pt", "-q")
    assert given.exit_code == 0


@pytest.mark.parametrize("words", [("--amp", "fp16", "--device", "cpu"), ("--half", "--optimizer", "adam")])
def test_a_precision_that_is_not_to_be_had_is_refused_before_a_search(here: Path, words: tuple[str, ...]) -> None:
    assert app(*TRAIN, "-q").exit_code == 0
    code, said = refusal(
        "prune", "--model", "own_small.py:small", "--data", "digits", "--weights", "w.pt", "-q", "-o", "out", *words
    )
    assert code == 2
    assert said.startswith(f"error: {' '.join(words[:2]) if words[0] == '--amp' else '--half'} ")
    assert not list(here.glob(".out.work"))


# -- what is left for the next run


def test_a_retraining_is_resumed_as_if_it_had_not_been_interrupted(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = app("prune", "--model", "own_small.py:small", "--data", "digits", "--ratio", "0.5", "--final-epochs", "0",
               "-q", "-o", "out")  # fmt: skip
    assert made.exit_code == 0, made.stderr
    retrain = ("retrain", "out", "--epochs", "2", "--batch-size", "128", "--amp", "bf16", "--accumulate", "2")
    assert app(*retrain, "-o", "whole", "-q").exit_code == 0
    interrupted(monkeypatch, *retrain, step=5)
    code, said = refusal(*retrain, "-q")
    assert (code, "holds an unfinished run: go on with --resume" in said) == (2, True)
    result = app(*retrain, "--resume", "-q")
    assert result.exit_code == 0, result.stderr
    one, two = (torch.load(here / name / "weights.pth", weights_only=True) for name in ("whole", "out_retrained"))
    assert all(torch.equal(one[key], two[key]) for key in one)
    assert not list(here.glob(".out_retrained*"))


def test_a_search_retrains_as_it_is_asked_to(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from secateur.training.fit import trainer

    seen = []

    class Run(trainer._Run):
        def begin(self) -> None:
            seen.append((self.execution.amp, self.regime.batch_size, self.regime.settings(0)["lr"]))
            super().begin()

    monkeypatch.setattr(trainer, "_Run", Run)
    result = app(
        "prune", "--model", "own_small.py:small", "--data", "digits", "--ratio", "0.5", "--final-epochs", "1", "-q",
        "-o", "out", "--amp", "bf16", "--batch-size", "32", "--lr", "0.03",
    )  # fmt: skip
    assert result.exit_code == 0, result.stderr
    assert seen == [("bf16", 32, 0.03)]


def test_a_run_that_was_forced_is_resumed(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert app(*TRAIN, "-q").exit_code == 0
    first = torch.load("w.pt", weights_only=True)
    interrupted(monkeypatch, *TRAIN, "--force", "--seed", "1")
    assert torch.equal(torch.load("w.pt", weights_only=True)["fc.weight"], first["fc.weight"])
    result = app(*TRAIN, "-q", "--seed", "1", "--resume")  # what the tool said, without --force
    assert result.exit_code == 0, result.stderr
    assert app(*TRAIN, "-q", "--resume").exit_code == 2  # nothing is unfinished now


def test_a_plan_says_what_its_network_was_started_from(here: Path) -> None:
    assert app("train", *LENET, "Real", "--epochs", "1", "-q", "-o", "real.pt").exit_code == 0
    made = app(
        "prune", *LENET, "XnorNet", "--init-from", "real.pt", "--data", "digits", "--ratio", "0.5", "--final-epochs",
        "0", "-q", "-o", "out",
    )  # fmt: skip
    assert made.exit_code == 0, made.stderr
    assert json.loads(Path("out/plan.json").read_text())["provenance"]["init_from"] == "real.pt"
    applied = app("apply", "out/plan.json", "-o", "again", "-q")
    assert applied.exit_code == 0, applied.stderr
    for name in ("model.py", "weights.pth", "plan.json"):
        assert Path("again", name).read_bytes() == Path("out", name).read_bytes()


def test_measuring_a_network_without_weights_says_so(here: Path) -> None:
    measure = ("evaluate", *LENET, "BWN", "--data", "digits")
    said = app(*measure).stderr
    assert said == "no --weights: lenet5_binary is measured as its factory returns it\n"
    assert app("train", *LENET, "BWN", "--epochs", "1", "-q").exit_code == 0
    assert app(*measure).stderr.endswith("; there are trained ones in pretrained/model_digits_lenet5_binary_BWN.pt\n")


def test_names_with_dots_keep_their_files_apart() -> None:
    assert beside(Path("a/net.pt"), ".last.pt") == Path("a/net.last.pt")
    assert beside(Path("a/net.v1"), ".last.pt") == Path("a/net.v1.last.pt")


def test_a_training_that_makes_nothing_better_says_so(here: Path) -> None:
    words = ("--data", "digits", "--epochs", "2", "-o", "w.pt", "-q", "--lr", "1e-12")  # too little to change a float
    result = app("train", "--model", "own_small.py:Nothing", *words)
    assert result.exit_code == 0, result.stderr
    assert result.stdout.startswith("w.pt: none of 2 epochs was better than the weights it began with, test accuracy ")
