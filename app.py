"""Secateur's command line: prune a PyTorch network and write its source anew.

    secateur prune --arch resnet
    secateur prune --model my_net.py:make --ratio 0.5 --input-shape 3,224,224

This file parses, calls and prints; what the commands do is in ``commands/``, one file each, imported when needed, and
options that several of them share are in ``commands/cli/flags.py``. The same starts with ``python app.py`` in a
checkout, and where it is installed with ``secateur`` or ``python -m secateur``.
"""

from __future__ import annotations

import errno
import importlib
import os
import shlex
import shutil
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from secateur import __version__
from secateur.commands.cli import SETUP_PRUNER, flags, headings, refusals, streams

if TYPE_CHECKING:
    from torch import nn

    from secateur.pruners.base import BasicPruning
    from secateur.pruners.errors import SecateurError

DEBUG, AS_JSON = "secateur.debug", "secateur.json"
FAULT = 70  # what a program returns for a fault of its own (sysexits.h)
PROVING = ("prune", "retrain", "apply", "check", "pack")
PUBLISHING = ("prune", "train", "retrain", "apply", "quantize", "curves", "pack", "compare", "export")
OUT_OF_MEMORY = ("not enough memory", "can't allocate memory", "bad allocation", "std::bad_alloc")
REFUSED = {
    errno.ENAMETOOLONG, errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.ENOTDIR, errno.EISDIR,
    errno.ELOOP, errno.EIO, errno.EMFILE, errno.ENFILE,
}  # fmt: skip


def setup_pruner(arch: str, model: nn.Module, example_input: Any, **arguments: Any) -> BasicPruning:
    """The pruner that a command gets for a network: the one registered for the bundled network ``arch`` or for the
    module of the user's own, else ``BasicPruning``. What is changed here holds for all commands."""
    from secateur.commands.network import setup_pruner as setup

    return setup(arch, model, example_input, **arguments)


class Commands(click.Group):
    """Turns errors into what the user can use and an exit code; shows a traceback only when asked for with -vv."""

    command_class = headings.Command

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        ctx.meta[AS_JSON], anything = "--json" in args, bool(args)
        try:
            return super().parse_args(ctx, args)
        except click.UsageError as error:
            if anything:  # else the help is shown
                self._refuse(ctx, refusals.of_click(error))
            raise

    def invoke(self, ctx: click.Context) -> Any:
        from secateur.pruners.errors import FAULT_CODE, Interrupted, SecateurError

        try:
            result = super().invoke(ctx)
            self._check_printed(ctx)
            return result
        except (Interrupted, KeyboardInterrupt) as stop:
            if os.environ.get("RANK", "0") == "0":  # of several processes one speaks
                again = resume_command(ctx.find_root().info_name or "secateur", sys.argv[1:])
                self._say(ctx, f"{str(stop) or 'interrupted'}\nresume with: {again}")
            ctx.exit(Interrupted.exit_code)
        except SecateurError as error:
            self._refuse(ctx, error)
        except click.UsageError as error:
            self._refuse(ctx, refusals.of_click(error))
        except (click.ClickException, click.exceptions.Exit, click.Abort):
            raise
        except Exception as error:
            if refused := refused_by_the_machine(error):
                self._refuse(ctx, refused)
            what = f"{type(error).__name__}: {error}".splitlines()[0]
            what += " (a fault of this tool: run again with -vv for the place, and report it)"
            self._say(ctx, refusals.first_line(FAULT_CODE, what))
            ctx.exit(FAULT)

    def _refuse(self, ctx: click.Context, error: SecateurError) -> None:
        if ctx.meta[AS_JSON]:
            click.echo(refusals.as_json(error))
        self._say(ctx, refusals.told(error))
        ctx.exit(error.exit_code)

    def _check_printed(self, ctx: click.Context) -> None:
        """What was published is there, whether its description could be printed or not."""
        if reason := streams.unprinted():
            kept = ctx.invoked_subcommand in PUBLISHING
            self._say(ctx, f"{'warning' if kept else 'error'}: the result can't be printed: {reason}")
            if not kept:
                ctx.exit(2)

    @staticmethod
    def _say(ctx: click.Context, message: str) -> None:
        if ctx.meta.get(DEBUG) or os.environ.get("SECATEUR_DEBUG"):
            import traceback

            traceback.print_exc()
        click.echo(message, err=True, color=False if os.environ.get("NO_COLOR") else None)


def refused_by_the_machine(error: Exception) -> SecateurError | None:
    """What the machine refused rather than this tool, in one line: memory, a place on the disk; else nothing."""
    from secateur.pruners.errors import OutOfMemory, OutputError

    text = str(error).splitlines()[0] if str(error) else ""
    memory = isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"
    if memory or (isinstance(error, RuntimeError) and any(said in text for said in OUT_OF_MEMORY)):
        return OutOfMemory(
            f"there is too little memory{text and f' ({text[:200]})'}: take smaller inputs, or another machine"
        )
    if isinstance(error, OSError) and error.errno in REFUSED:
        where = str(error.filename or "a file")
        return OutputError(f"{where if len(where) <= 80 else where[:77] + '...'} can't be used: {error.strerror}")
    return None


def resume_command(program: str, words: list[str]) -> str:
    """What the user typed (program, command, options) with --resume. --force stays: what it allowed to be written over
    is still there."""
    again = [w for w in words if w != "--resume"]
    again += ["--resume"] if words[0] in ("prune", "train", "retrain", "curves", "compare") else []
    if (processes := os.environ.get("LOCAL_WORLD_SIZE", "1")) != "1":
        script = shlex.split(program)[1:] or [sys.argv[0]]
        return shlex.join(["torchrun", "--nproc-per-node", processes, *script, *again])
    return f"{program} {shlex.join(again)}"


def run(command: str, options: str, given: dict[str, Any]) -> None:
    """Call ``commands.<command>.run`` with its options."""
    if command != "train" and os.environ.get("WORLD_SIZE", "1") != "1":
        raise click.UsageError(f"torchrun shares the work of train only: start {command} with python")
    quiet, verbose = given.pop("quiet", False), given.pop("verbose", 0)
    if verbose > 1:
        click.get_current_context().meta[DEBUG] = True
    click.get_current_context().meta[AS_JSON] = given["json"]
    given["verbose"] = -1 if quiet else verbose
    # waiting threads sleep: where others use the cores as well, spinning makes small networks many times slower
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    from secateur.commands.cli import early
    from secateur.pruners import ahead
    from secateur.pruners.imports import staying

    asked = getattr(importlib.import_module("secateur.commands.cli"), options)(**given)
    early.check(asked)
    SETUP_PRUNER.set(lambda *words, **named: setup_pruner(*words, **named))  # as it is when a command needs a pruner
    with staying():
        if command in PROVING and not getattr(asked, "dry_run", False):
            ahead.start()
        work = importlib.import_module(f"secateur.commands.{command}").run
    work(asked)


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="secateur", message="%(prog)s %(version)s")
def cli() -> None:
    """Prune a PyTorch network and get its own source file back, with the new widths and weights that fit."""


@cli.command()
@flags.network
@flags.budgets
@click.option("--metric", type=flags.Name("metric", "METRICS"), metavar="NAME", help="Which channels go first: l1, l2, "
              "bn_scale, fpgm, taylor, random, reconstruction (default on text); of few bits: angle, distance, "
              "angle_next_layer, distance_next_layer.")  # fmt: skip
@click.option("--search", type=flags.Name("search", "SEARCHES"), metavar="NAME", help="bayesian (default without a "
              "budget), sensitivity (default for --macs, --params and --latency with images), uniform or global.")
@click.option("--alpha", type=float, metavar="X", help="bayesian: how much size weighs against loss; default: 1, "
              "or 2 where first and last layer are binary; 7 for DoReFa, 5 for XnorNet.")  # fmt: skip
@click.option("--mode", type=flags.Name("mode", ("prune", "zeroOut")), default="prune", show_default=True,
              help="bayesian: retrain sliced networks, or with zeroOut the whole one with zeros. Same outcome, slower.")
@click.option("--direction", type=flags.Name("direction", ("bottom-up", "top-down")), default="bottom-up",
              show_default=True, help="bayesian: or top-down, from the output.")  # fmt: skip
@click.option("--per", type=flags.Name("per", ("layer", "stage")), default="layer", show_default=True,
              metavar="layer|stage", help="bayesian: a ratio for every width, one after the other, or for 4 to 8 "
              "stages of widths at once: for deep networks, far fewer evaluations, no retraining in between.")
@click.option("--transfer", type=flags.Name("transfer", "TRANSFERS"), metavar="NAME", help="How weights are carried "
              "over: lstsq (default with images), which fits them to what the network gave, without labels; heal, "
              "which trains on from there to say what it said, without labels too; bn; or slice (default for "
              "bayesian).")  # fmt: skip
@click.option("--calibration", type=int, metavar="N", help="bn, lstsq, heal: training images to look at [1024].")
@click.option("--heal", type=flags.Time(), metavar="TIME", help="How long --transfer heal may train, such as 90s or 3m "
              "[600 steps, at most 5m].")  # fmt: skip
@click.option("--distill", type=float, is_flag=False, flag_value=0.5, metavar="[SHARE]", help="Retrain with the "
              "unpruned network as the teacher, whose word counts this share, labels the rest [0.5].")  # fmt: skip
@click.option("--temperature", type=float, metavar="T", help="--distill: how soft what the teacher says is made [4].")
@click.option("--retrain-epochs", type=int, metavar="N", help="bayesian: after a width was pruned considerably [5].")
@click.option("--final-epochs", type=int, metavar="N", help="Of the final retraining; default: the regime's [10].")
@flags.score
@flags.regime
@flags.rates
@flags.execution
@click.option("--round-to", default=1, metavar="N", help="Keep multiples of N channels.")
@click.option("--min-channels", default=2, metavar="N", help="Keep at least N channels of every width [2].")
@flags.skip
@flags.tied
@click.option("--stop-early", is_flag=True, help="bayesian: give hopeless candidates up after a part of the images.")
@click.option("--jobs", type=click.IntRange(1), default=1, metavar="N", help="Judge candidates in N processes at once, "
              "with the same outcome [1].")
@click.option("--backend", type=click.Choice(["loky", "ray", "dask"]), default="loky", metavar="NAME",
              help="--jobs: processes of this machine, or of a ray or dask cluster [loky].")  # fmt: skip
@click.option("--address", metavar="HOST:PORT", help="Of the cluster; without one it is started here, for the search.")
@flags.cache
@flags.output
@flags.resume
@click.option("--profile", is_flag=True, help="Show the layers of the pruned network in the end, as profile does.")
@click.option("--dry-run", is_flag=True, help="Print the source diff and the predicted costs, write nothing.")
@flags.common
def prune(**given: Any) -> None:
    """Search widths, write the source, retrain, verify and publish a bundle in generated/."""
    run("prune", "PruneOptions", {**given, **flags.ratios(given["ratio"])})


@cli.command()
@flags.network
@flags.training
@flags.rates
@flags.warm_up
@flags.sparse
@flags.execution
@flags.data_on_device
@flags.keeping
@click.option("-e", "--evaluate", is_flag=True, help="Don't train: measure --weights on test images, as evaluate does.")
@flags.output
@flags.resume_from
@flags.common
def train(resume: str | None, evaluate: bool, **given: Any) -> None:
    """Train a network and keep its best weights in pretrained/, and its curve beside them.

    torchrun --nproc-per-node N -m secateur train ... shares the work among N processes.
    """
    if evaluate:
        from secateur.commands.cli import evaluation_of

        return run("evaluate", "EvaluateOptions", evaluation_of(given))
    given |= {"resume": resume is not None, "resume_from": Path(resume) if resume else None}
    run("train", "TrainOptions", given)


@cli.command()
@click.argument("bundle", type=flags.PATH)
@click.option("--data", metavar="NAME[:DIR]", help="Default: what the bundle was made with.")
@flags.training
@flags.rates
@flags.warm_up
@flags.execution
@flags.data_on_device
@flags.output
@flags.resume
@flags.common
def retrain(**given: Any) -> None:
    """Retrain a bundle's generated network and publish it anew."""
    run("retrain", "BundleOptions", given)


@cli.command()
@click.argument("bundle", type=flags.PATH, required=False)
@flags.network
@click.option("-b", "--batch-size", type=click.IntRange(1), metavar="N", help="Images at a time [256].")
@flags.workers
@click.option("--confusion", is_flag=True, help="Show how often each class was taken for each other one.")
@click.option("--confusion-csv", type=flags.PATH, metavar="FILE", help="Write that table.")
@flags.score
@click.option("-d", "--draw", type=flags.PATH, is_flag=False, flag_value=Path("predictions.png"), metavar="[FILE.png]",
              help="Draw 16 test images with what they are taken for [predictions.png].")
@flags.common
def evaluate(**given: Any) -> None:
    """Measure a bundle, or any network, on test images or text. --model takes a file of weights, too, beside --arch."""
    run("evaluate", "EvaluateOptions", given)


@cli.command()
@click.argument("bundle", type=flags.PATH, required=False)
@flags.network
@click.option("--bits", default="8,6,4", show_default=True, metavar="N,N", help="Of fixed-point numbers, 2 to 16.")
@click.option("--scope", multiple=True, type=click.Choice(["net", "layer", "kernel"]),
              help="What shares an exponent, the one with the highest SQNR. Repeatable; default: all.")
@click.option("--max-loss", type=click.FloatRange(0), metavar="POINTS", help="Find the fewest bits that lose no more "
              "points of accuracy on the validation images, and say what else does.")  # fmt: skip
@click.option("--save", type=click.Choice(["half", "fixed", "int8"]), help="Write these weights to -o DIR, as a "
              "state_dict for the same model file. Not int8, which fits no model file.")
@click.option("--batch-size", type=click.IntRange(1), metavar="N", help="Images at a time [256].")
@flags.workers
@flags.output
@flags.common
def quantize(**given: Any) -> None:
    """Measure 16 bits, fixed point and 8-bit integers on test images, without training, and write the weights."""
    run("quantize", "QuantizeOptions", given)


@cli.command()
@click.argument("bundle", type=flags.PATH, required=False)
@flags.network
@click.option("--text", "--save-txt-dir", type=flags.PATH, metavar="DIR", help="Write the parameters as lines of text, "
              "too, and the signs that layers give for three images.")  # fmt: skip
@flags.output
@flags.common
def pack(**given: Any) -> None:
    """Write a bundle for inference whose binary layers hold their weights as bits, with fast kernels (.[fast])."""
    run("pack", "PackOptions", given)


@cli.command()
@click.argument("bundle", type=flags.PATH, required=False)
@flags.network
@click.option("--to", required=True, type=flags.Name("target", "EXPORTS"), metavar="NAME",
              help="onnx, torch_export, safetensors or executorch.")  # fmt: skip
@click.option("--int8", is_flag=True, help="8-bit integers, with ranges from --data; default: what the bundle was made "
              "with, or synthetic.")  # fmt: skip
@click.option("--half", is_flag=True, help="16-bit numbers (float16).")
@click.option("-o", "--output", type=flags.PATH, metavar="FILE", help="Default: beside the bundle.")
@click.option("--force", is_flag=True, help="Overwrite such a file.")
@flags.common
def export(**given: Any) -> None:
    """Write a file that another runtime opens (.[export]), run there and held against the network first."""
    run("export", "ExportOptions", given)


@cli.command()
@flags.arch
@flags.kind
@flags.data
@click.option("--real", type=flags.PATH, metavar="PATH", help="Take this real network, a bundle or weights, instead of "
              "training one.")  # fmt: skip
@click.option("--binary", type=flags.PATH, metavar="PATH", help="Take this network of --network, too.")
@flags.training
@flags.rates
@flags.warm_up
@flags.execution
@flags.data_on_device
@click.option("--limit", type=click.IntRange(10), metavar="N", help="Take N images at most to train, to validate and "
              "to test.")  # fmt: skip
@click.option("--repeats", type=click.IntRange(1), default=20, show_default=True, metavar="N",
              help="How often each time is measured.")  # fmt: skip
@flags.output
@flags.resume
@flags.common
def compare(**given: Any) -> None:
    """Compare a network with real weights and one of few bits: tables of accuracy, memory and times, and the speed-up.

    Both are trained (or taken), and the second one (XnorNet unless --network says otherwise) is packed, too. Tables of
    accuracy, memory of the trained model, training time and inference time, and the figures of the speed-up against
    channels and against filter size go to the folder -o, as Markdown, CSV, SVG and PNG (.[plots]). Further runs
    with the same folder add a row to each table.
    """
    run("compare", "CompareOptions", given)


@cli.command()
@flags.network
@flags.skip
@flags.tied
@click.option("--why", metavar="LAYER", help="Which layers go together with this one, and why.")
@flags.common
def inspect(**given: Any) -> None:
    """Show widths, groups, and what must stay, with file and line."""
    run("inspect", "InspectOptions", given)


@cli.command()
@click.argument("plan", type=flags.PATH)
@flags.network
@flags.output
@flags.common
def apply(**given: Any) -> None:
    """Write the bundle that a plan.json describes: the same bytes, or those of a plan edited by hand."""
    run("apply", "ApplyOptions", given)


@cli.command()
@click.argument("file", type=flags.PATH)
@flags.common
def check(**given: Any) -> None:
    """Try a block kind's own EXAMPLE: trace, declare, compare, prune, write, transfer, verify."""
    run("check", "CheckOptions", given)


@cli.command()
@click.argument("bundle", type=flags.PATH, required=False)
@flags.network
@click.option("--repeats", default=10, show_default=True, help="Forward passes to time.")
@flags.common
def profile(**given: Any) -> None:
    """Show parameters, MACs, bits, bit operations, bytes and milliseconds of every layer."""
    run("profile", "ProfileOptions", given)


@cli.command()
@click.argument("bundles", type=flags.PATH, nargs=-1, required=True)
@click.option("-o", "--output", type=flags.PATH, metavar="FILE.html", help="Where to write; default: one bundle's own "
              "report.html, of two nowhere.")  # fmt: skip
@click.option("--force", is_flag=True, help="Overwrite what is there.")
@flags.common
def report(**given: Any) -> None:
    """Write a bundle's report anew, or compare two bundles of one network: generated/A generated/B."""
    run("report", "ReportOptions", given)


@cli.command()
@flags.network
@click.option("--metric", multiple=True, metavar="NAME", help="As for prune, and angles_kernel, distances_kernel: "
              "kernels go instead of channels. Repeatable.")  # fmt: skip
@click.option("--ranking", type=flags.Name("ranking", "RANKINGS"), multiple=True, metavar="NAME", help="Which go "
              "first: smallest, largest, random. Repeatable; default: all.")  # fmt: skip
@flags.skip
@flags.tied
@flags.cache
@flags.output
@flags.resume
@flags.common
def curves(**given: Any) -> None:
    """Measure accuracy and loss against the pruned share of each layer; JSONL, and pictures (.[plots])."""
    run("curves", "CurvesOptions", given)


@cli.command()
@flags.common
def archs(**given: Any) -> None:
    """List the bundled networks."""
    run("archs", "CommonOptions", given)


@cli.command()
@click.argument("error_code", metavar="[CODE]", required=False)
@flags.common
def explain(**given: Any) -> None:
    """Say what the code of an error means, with an example; without one, list all."""
    run("explain", "ExplainOptions", given)


@cli.command()
@flags.common
def doctor(**given: Any) -> None:
    """Show versions and devices, and whether everything fits together."""
    run("doctor", "CommonOptions", given)


def main(program: str = "") -> None:
    """The console script, or under the name by which the user started it otherwise."""
    streams.make_lasting()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # who ends it politely is told the same as with Ctrl-C
    if not program:
        name = os.path.basename(sys.argv[0])
        found = shutil.which(name)
        program = name if found and os.path.samefile(found, sys.argv[0]) else shlex.quote(sys.argv[0])
    try:
        cli(prog_name=program)
    except SystemExit as end:
        streams.leave(end.code)
        raise


if __name__ == "__main__":
    if sys.path[:1] == [os.path.dirname(os.path.abspath(__file__))]:
        del sys.path[0]  # what lies beside this file is not what the user's files import
    main(shlex.join([sys.orig_argv[0], sys.argv[0]]))
