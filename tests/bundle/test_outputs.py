"""Nothing is lost: what is not ours is never written over, and a run may be killed at any moment."""

from __future__ import annotations

import errno
import gc
import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch

from secateur.commands.cli import (
    CurvesOptions,
    PruneOptions,
    TrainOptions,
    check_curves,
    check_trained,
    check_work,
    forget_finished,
)
from secateur.pruners import outputs
from secateur.pruners.bundle import check_free, held, published, write_file, write_state
from secateur.pruners.errors import BundleExistsError, OutputError, UsageError
from secateur.pruners.outputs import replaced, settle

ROOT = Path(__file__).parents[2]
PLAN, SUMMARY = {"schema": 1, "widths": {}}, {"schema": 1, "factory": "net", "file": "model.py"}


def fill(folder: Path, text: str = "old", plan: object = PLAN, summary: object = SUMMARY) -> None:
    """What makes a folder a bundle, at a look."""
    folder.mkdir(exist_ok=True)
    for name in ("model.py", "weights.pth", "report.html"):
        (folder / name).write_text(text)
    (folder / "plan.json").write_text(json.dumps(plan))
    (folder / "summary.json").write_text(json.dumps(summary))


def publish(output: Path, text: str = "new", force: bool = True) -> None:
    with published(output, force) as draft:
        fill(draft, text)


def listed(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


# -- what is never written over


def thesis(out: Path) -> None:
    out.mkdir()
    (out / "thesis.tex").write_text("years of work")


def notes_in_a_bundle(out: Path) -> None:
    fill(out)
    (out / "notes.md").write_text("mine")


def folder_in_a_bundle(out: Path) -> None:
    fill(out)
    (out / "figures").mkdir()


def folder_of_a_known_name(out: Path) -> None:
    fill(out)
    (out / "optimizer.pth").mkdir()


def script_among_compiled_files(out: Path) -> None:
    fill(out)
    (out / "__pycache__").mkdir()
    (out / "__pycache__" / "mine.py").write_text("")


def plan_of_another_tool(out: Path) -> None:
    fill(out, plan={"steps": ["buy milk"]})


def summary_of_another_tool(out: Path) -> None:
    fill(out, summary=["years of work"])


def plan_that_is_no_json(out: Path) -> None:
    fill(out)
    (out / "plan.json").write_text("[" * 100_000)


def summary_that_names_a_file_elsewhere(out: Path) -> None:
    fill(out, summary={**SUMMARY, "file": "../model.py"})


STRANGE = {
    thesis: "out exists and is no bundle, it holds thesis.tex: only a bundle is ever written over",
    notes_in_a_bundle: "out holds notes.md beside the bundle's own files, which would be lost: move it away",
    folder_in_a_bundle: "out holds figures beside the bundle's own files",
    folder_of_a_known_name: "out holds optimizer.pth beside",
    script_among_compiled_files: "out holds __pycache__ beside",
    plan_of_another_tool: "out exists and is no bundle, it holds model.py, plan.json, report.html and 2 more",
    summary_of_another_tool: "out exists and is no bundle",
    plan_that_is_no_json: "out exists and is no bundle",
    summary_that_names_a_file_elsewhere: "out exists and is no bundle",
}


@pytest.mark.parametrize("force", [False, True])
@pytest.mark.parametrize("fill_it", STRANGE)
def test_a_folder_with_something_strange_is_refused_by_name(fill_it, force, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    fill_it(Path("out"))
    before = listed(Path("out"))
    for refuse in (lambda: check_free(Path("out"), force), lambda: publish(Path("out"), force=force)):
        with pytest.raises(BundleExistsError) as refused:
            refuse()
        assert str(refused.value).startswith(STRANGE[fill_it])
        assert "\n" not in str(refused.value)
    assert listed(Path("out")) == before
    assert listed(tmp_path) == ["out"]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        (".", ". is the current folder, which is never written over"),
        ("", ". is the current folder"),
        ("..", ".. holds the current folder"),
        ("/", "/ holds the current folder"),
        ("../here", "../here is the current folder"),
        ("bundle/..", "bundle/.. is the current folder"),
        ("bundle/deep/..", "bundle/deep/.. can't be written over"),
        ("~", "is your home folder, which is never written over"),
        ("file", "file is a file, not a folder"),
        ("file/out", "file/out can't be written: "),
        ("link", "link is a link to bundle; name a folder itself with -o"),
        ("nowhere", "nowhere is a link to gone; name a folder itself"),
        ("x" * 300, "can't be written: File name too long"),
    ],
)
def test_a_place_that_is_no_output_is_refused_in_one_line(name, said, tmp_path, monkeypatch):
    here = tmp_path / "here"
    here.mkdir()
    (tmp_path / "home").mkdir()
    monkeypatch.chdir(here)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    fill(here / "bundle")
    (here / "file").write_text("mine")
    (here / "link").symlink_to("bundle")
    (here / "nowhere").symlink_to("gone")
    path = Path(os.path.expanduser(name))
    for force in (False, True):
        with pytest.raises(OutputError) as refused:
            check_free(path, force)
        assert said in str(refused.value)
        assert "\n" not in str(refused.value)
    assert listed(here) == ["bundle", "file", "link", "nowhere"]


def test_a_bundle_is_written_over_with_force_alone(tmp_path):
    fill(tmp_path / "b")
    with pytest.raises(BundleExistsError, match="b exists; choose another folder with -o, or overwrite it with"):
        published(tmp_path / "b", False).__enter__()
    publish(tmp_path / "b")
    assert (tmp_path / "b" / "model.py").read_text() == "new"
    assert listed(tmp_path) == ["b"]


def test_an_empty_folder_and_what_only_looking_left_are_no_loss(tmp_path):
    (tmp_path / "b").mkdir()
    publish(tmp_path / "b")
    (tmp_path / "b" / "__pycache__").mkdir()
    (tmp_path / "b" / "__pycache__" / "model.cpython-311.pyc").write_bytes(b"")
    (tmp_path / "b" / ".DS_Store").write_bytes(b"")
    publish(tmp_path / "b", "newer")
    assert (tmp_path / "b" / "model.py").read_text() == "newer"


def test_what_was_put_there_meanwhile_is_not_lost(tmp_path):
    fill(tmp_path / "b")
    def filled_while_somebody_works() -> None:
        with published(tmp_path / "b", True) as draft:
            fill(draft, "new")
            (tmp_path / "b" / "notes.md").write_text("mine")

    with pytest.raises(BundleExistsError, match=r"holds notes\.md"):
        filled_while_somebody_works()
    assert (tmp_path / "b" / "notes.md").read_text() == "mine"
    assert listed(tmp_path) == ["b"]


def test_a_file_that_is_no_weights_is_not_trained_over(tmp_path):
    for name in ("thesis.tex", "archive.zip"):
        (tmp_path / name).write_text("years of work")
        with pytest.raises(BundleExistsError, match="is no file of weights: only weights are ever written over"):
            check_trained(tmp_path / name, TrainOptions(force=True))
    for new in (True, False):
        torch.save({"a": torch.zeros(2)}, tmp_path / "weights.pt", _use_new_zipfile_serialization=new)
        check_trained(tmp_path / "weights.pt", TrainOptions(force=True))


def test_a_file_that_holds_no_curves_is_not_measured_over(tmp_path):
    file = tmp_path / "curves.jsonl"
    file.write_text('{"years": "of work"}\n')
    with pytest.raises(BundleExistsError, match="holds no curves"):
        check_curves(file, CurvesOptions(force=True))
    file.write_text('{"event": "sweep", "schema": 1}\n')
    check_curves(file, CurvesOptions(force=True))


def test_a_work_folder_with_something_strange_is_refused(tmp_path):
    (tmp_path / "notes.md").write_text("mine")
    with pytest.raises(UsageError, match=r"is not of a run of this tool \(notes\.md\): move it away"):
        check_work(tmp_path, PruneOptions(force=True))


@pytest.mark.parametrize("name", ["search.jsonl", "search_0.875.jsonl", "search_1.jsonl"])
def test_the_ledger_of_an_unfinished_run_is_not_written_over(tmp_path, name):
    (tmp_path / name).write_text("{}\n")
    with pytest.raises(UsageError, match=r"holds an unfinished run: go on with --resume, or start anew with --force"):
        check_work(tmp_path, PruneOptions())
    check_work(tmp_path, PruneOptions(resume=True))


# -- full disks


def test_nothing_is_left_when_the_block_fails(tmp_path):
    fill(tmp_path / "b")
    with pytest.raises(ZeroDivisionError), published(tmp_path / "b", True) as draft:
        write_file(draft / "model.py", bytes([1 // 0]))
    with pytest.raises(ZeroDivisionError), published(tmp_path / "c", True) as draft:
        write_file(draft / "model.py", bytes([1 // 0]))
    assert listed(tmp_path) == ["b"]
    assert (tmp_path / "b" / "model.py").read_text() == "old"


@pytest.mark.parametrize(
    ("number", "said"),
    [(errno.ENOSPC, "the disk is full; nothing half-written is left"), (errno.EFBIG, "a file would be larger"),
     (errno.EDQUOT, "the quota is used up"), (errno.EIO, "Input/output error")],
)  # fmt: skip
def test_a_full_disk_leaves_nothing(tmp_path, monkeypatch, number, said):
    def full(file: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("secateur.pruners.bundle.folder.to_disk", full)
    with pytest.raises(OutputError, match=f"b can't be written: {said}"), published(tmp_path / "b", False) as draft:
        write_state(draft / "weights.pth", {"a": torch.zeros(2)})
    assert listed(tmp_path) == []


def test_torch_says_why_it_can_not_write(tmp_path):
    """With no room for more than 64 kB; in a process of its own, where that can be said."""
    code = f"""
import resource, signal, sys
sys.path.insert(0, {str(ROOT)!r})
import torch
from pathlib import Path
from secateur.pruners.bundle import published, write_state
from secateur.training.fit.checkpoints import save_atomically
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (65536, 65536))
state = {{"a": torch.zeros(100_000)}}
for write in ("published", "saved"):
    try:
        if write == "saved":
            save_atomically(state, Path("weights.pt"))
        with published(Path("out"), False) as draft:
            write_state(draft / "weights.pth", state)
    except Exception as error:
        print(type(error).__name__, error)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert done.stderr == ""
    assert done.stdout.splitlines() == [
        "OutputError out can't be written: a file would be larger than is allowed there; nothing half-written is left",
        "OutputError weights.pt can't be written: File too large",
    ]
    assert listed(tmp_path) == []


def test_a_read_only_folder_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(outputs.os, "access", lambda *_: False)
    with pytest.raises(OutputError, match="can't be written: permission denied; choose another folder with -o"):
        check_free(tmp_path / "b", False)


def test_the_published_folder_has_ordinary_permissions(tmp_path):
    publish(tmp_path / "b")
    mask = os.umask(0)
    os.umask(mask)
    assert (tmp_path / "b").stat().st_mode & 0o777 == 0o777 & ~mask


def test_readers_see_the_old_file_or_the_new_one(tmp_path):
    (tmp_path / "a").write_text("old")
    with pytest.raises(ZeroDivisionError), replaced(tmp_path / "a") as file:
        file.write(bytes([1 // 0]))
    assert listed(tmp_path) == ["a"]
    assert (tmp_path / "a").read_text() == "old"
    with replaced(tmp_path / "a") as file:
        file.write(b"new")
        assert (tmp_path / "a").read_text() == "old"
    assert (tmp_path / "a").read_text() == "new"


# -- two at once


def test_another_run_for_the_same_output_is_refused_by_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    refused = []

    def second() -> None:
        for name in (Path("b"), Path(f"../{tmp_path.name}/b")):
            for enter in (lambda name=name: held(name).__enter__(), lambda name=name: check_free(name, True)):
                try:
                    enter()
                except UsageError as error:
                    refused.append(str(error))
        with held(Path("c")):
            refused.append("c is free")

    with published(Path("b"), False) as draft, held(Path("b")):
        fill(draft)
        thread = threading.Thread(target=second)
        thread.start()
        thread.join()
        assert listed(draft)
    assert [text[:30] for text in refused] == ["another run is writing b: wait"] * 2 + [
        f"another run is writing ../{tmp_path.name}/b: wait"[:30]] * 2 + ["c is free"]  # fmt: skip
    assert listed(tmp_path) == ["b"]


def test_another_process_is_refused_and_its_end_frees_the_output(tmp_path):
    code = f"""
import sys, time
sys.path.insert(0, {str(ROOT)!r})
from pathlib import Path
from secateur.pruners.outputs import published
with published(Path("b"), False) as draft:
    (draft / "weights.pth").write_text("half")
    print("ready", flush=True)
    time.sleep(60)
"""
    with subprocess.Popen([sys.executable, "-c", code], cwd=tmp_path, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "ready\n"
        with pytest.raises(UsageError, match="another run is writing"):
            check_free(tmp_path / "b", True)
        assert (tmp_path / ".b.secateur" / "draft" / "weights.pth").exists()
        other.send_signal(signal.SIGKILL)
    assert listed(tmp_path) == [".b.secateur"]
    check_free(tmp_path / "b", False)
    assert listed(tmp_path) == []


# -- killed


def test_what_a_killed_run_left_is_removed_and_nothing_else(tmp_path):
    for name in (".b.secateur/draft", ".b.x.tmp", ".c.secateur/draft", ".b.old"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "file").write_text("")
    settle(tmp_path / "b")
    assert listed(tmp_path) == [".b.old", ".b.x.tmp", ".c.secateur"]
    (tmp_path / ".b.secateur").mkdir()
    (tmp_path / ".b.secateur" / "mine").write_text("")
    publish(tmp_path / "b")
    assert listed(tmp_path / ".b.secateur") == ["mine"]


@pytest.mark.parametrize("both", [True, False])
def test_a_run_killed_between_two_renames_is_finished_by_the_next(tmp_path, both):
    state = tmp_path / ".b.secateur"
    state.mkdir()
    fill(state / "old", "old")
    if both:
        fill(state / "draft", "new")
    with pytest.raises(BundleExistsError, match="b exists"):
        check_free(tmp_path / "b", False)
    assert (tmp_path / "b" / "model.py").read_text() == ("new" if both else "old")
    assert listed(tmp_path) == ["b"]


@pytest.mark.parametrize("exchanging", [True, False])
def test_at_no_moment_is_there_nothing_to_come_back_to(tmp_path, monkeypatch, exchanging):
    """Every rename and removal is where a run may be killed; what happens afterwards is then undone by nobody."""
    if not exchanging:
        monkeypatch.setattr(outputs, "_exchanged", lambda *_: False)
    moments = 0
    while True:
        folder = tmp_path / str(moments)
        folder.mkdir()
        fill(folder / "b")
        if published_until(folder / "b", moments, monkeypatch):
            break
        settle(folder / "b")
        assert {p.read_text() for p in (folder / "b").glob("*.p*")} in ({"old"}, {"new"})
        assert listed(folder) == ["b"]
        moments += 1
    assert moments >= (1 if exchanging else 3)
    assert (folder / "b" / "model.py").read_text() == "new"


class Killed(BaseException):
    """In place of a signal: nothing is done after it."""


def published_until(output: Path, moments: int, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Publish, but for what comes after so many renames and removals; whether it came to its end."""
    left = [moments]

    def watched(real):
        def call(*args, **more):
            left[0] -= 1
            if left[0] < 0:
                raise Killed
            return real(*args, **more)

        return call

    with monkeypatch.context() as patch:
        patch.setattr(outputs.shutil, "rmtree", watched(outputs.shutil.rmtree))
        patch.setattr(Path, "rename", watched(Path.rename))
        try:
            publish(output)
            done = True
        except Killed:
            done = False
    gc.collect()  # whoever is killed holds no lock
    return done


@pytest.mark.parametrize("name", ["search.jsonl", "search_0.5.jsonl"])
def test_the_work_folder_of_a_run_killed_after_its_bundle_was_there_is_removed(tmp_path, name):
    work = tmp_path / ".b.work"
    for folder, ledger in ((work, name), (tmp_path / "b", "search.jsonl")):
        folder.mkdir()
        (folder / ledger).write_text("the search\n")
    (work / name).write_text("another search\n")
    forget_finished(tmp_path / "b")
    assert work.exists()
    (work / name).write_text("the search\n")
    forget_finished(tmp_path / "b")
    assert listed(tmp_path) == ["b"]
