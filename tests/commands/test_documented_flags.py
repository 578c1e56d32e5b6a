"""Options and names as the programs had them that this one follows."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from app_helpers import app, refusal

from secateur.models import registry

TRAIN = ("train", "--arch", "lenet5", "--epochs", "1", "--device", "cpu")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((*TRAIN, "--resume", "none.pt"), "there is no checkpoint none.pt"),
        ((*TRAIN, "--resume", "weights.pt"), "weights.pt holds weights only, no training to resume: take it with"),
        ((*TRAIN, "-o", "w.pt", "--save-dir", "kept"), "-o names the file, --save-dir its folder: give one of them"),
        ((*TRAIN, "-p", "0"), "0 is not in the range"),
        ((*TRAIN, "-e", "--pretrained", "none.pt"), "there is no checkpoint none.pt"),
        (("evaluate", "--arch", "lenet5", "--model", "none.pt"), "there is no checkpoint none.pt"),
        (("evaluate", "--arch", "lenet5", "--model", "net.py:make"), "say what to look at"),
        (("train", "--arch", "lenet5", "--network", "FLReal"), "not of which kind the others are"),
        (("train", "--arch", "lenet5", "--network", "BinaryNett_NoFLReal"), "did you mean 'BinaryNet'?"),
        (("inspect", "--arch", "ResNet-19"), "there is no bundled network 'ResNet-19'"),
    ],
    ids=["a checkpoint that isn't there", "weights alone", "two places", "no steps", "weights not there",
         "a model file that isn't there", "two networks", "ends without a kind", "a kind that isn't known",
         "a network that isn't known"],
)  # fmt: skip
def test_refusals(arguments: tuple[str, ...], said: str, here: Path) -> None:
    torch.save(registry.create("lenet5", image_size=8).state_dict(), here / "weights.pt")
    result = app(*arguments)
    assert result.exit_code == 2 and "Traceback" not in result.stderr
    assert said in result.stderr.replace("\n", " ")


@pytest.mark.parametrize(
    ("spelled", "name"),
    [("Resnet18", "resnet18_binary"), ("ResNet-20", "resnet20"), ("LeNet_5", "lenet5"), ("VGG-Small", "vgg_small"),
     ("resnet_binary", "resnet14_binary"), ("MobileNetV2", "mobilenetv2")],
)  # fmt: skip
def test_networks_are_found_as_papers_spell_them(spelled: str, name: str) -> None:
    assert registry.find(spelled).name == name


def test_all_aliases_no_two_spellings_of_one() -> None:
    plain = [name.replace("_", "") for name in registry.ARCHS]
    assert len(set(plain)) == len(plain)


def test_weights_go_to_the_folder_and_are_measured(here: Path) -> None:
    trained = app(*TRAIN, "--save-dir", "kept", "-b", "64", "--warm_up", "0", "-j", "0", "-p", "8")
    assert trained.exit_code == 0, trained.stderr
    [line, *_] = [line for line in trained.stderr.splitlines() if line.startswith("training lenet5")]
    assert line.startswith("training lenet5: 8/16, ")
    weights = "kept/model_digits_lenet5_Real.pt"
    assert (here / weights).is_file()
    ways = [("train", "-e", "--pretrained", weights), ("train", "--evaluate", "--weights", weights),
            ("evaluate", "-b", "100", "--model", weights)]  # fmt: skip
    said = [app(*way, "--arch", "lenet5", "--data", "digits", "--json", "-q") for way in ways]
    assert [r.exit_code for r in said] == [0, 0, 0], said[0].stderr
    scores = [json.loads(r.stdout)["top1"] for r in said]
    assert scores[0] == scores[1] == scores[2] > 0.2


def test_a_training_goes_on_from_the_checkpoint_that_is_named(here: Path) -> None:
    whole = ("train", "--arch", "lenet5", "--epochs", "2", "-q")
    assert app(*whole, "-o", "whole.pt").exit_code == 0
    (here / "elsewhere").mkdir()
    (here / "whole.last.pt").rename(here / "elsewhere" / "run.pt")
    other = app(*whole[:-2], "3", "-q", "-o", "again.pt", "--resume", "elsewhere/run.pt")
    assert other.exit_code == 2 and "is of another run" in other.stderr
    (here / ".again.training.pt").unlink()
    result = app(*whole, "-o", "again.pt", "--resume", "elsewhere/run.pt")
    assert result.exit_code == 0, result.stderr
    first, second = (torch.load(here / name, weights_only=True) for name in ("whole.pt", "again.pt"))
    assert all(torch.equal(first[key], second[key]) for key in first)


def test_ends_are_chosen_by_the_name_that_files_have(here: Path) -> None:
    words = ("train", "--arch", "lenet5", "--epochs", "1", "-q")
    assert app(*words, "--network", "BinaryNet_NoFLReal", "-o", "none.pt").exit_code == 0
    assert app(*words, "--network", "BinaryNet_FLReal", "-o", "both.pt").exit_code == 0
    ends = [torch.load(here / name, weights_only=True)["network"] for name in ("none.pt", "both.pt")]
    assert [(e["first_layer"], e["last_layer"]) for e in ends] == [("binary", "binary"), ("real", "real")]


def test_pruning_shows_the_layers_in_the_end_where_asked_to(here: Path) -> None:
    words = ("prune", "--arch", "lenet5", "--input-shape", "1,28,28", "--ratio", "0.5", "--profile", "--json", "-q")
    result = app(*words, "-o", "out")
    assert result.exit_code == 0, result.stderr
    told = json.loads(result.stdout)
    assert sum(row["params"] for row in told["profile"]["layers"]) == told["params"]["after"]
    assert "profile" not in json.loads((here / "out" / "summary.json").read_text("utf-8"))


def test_refusal_of_a_model_file_in_other_commands_stays(here: Path) -> None:
    code, line = refusal("inspect", "--arch", "lenet5", "--model", "weights.pt")
    assert code == 2 and "give one network" in line
