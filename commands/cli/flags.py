"""The options of app.py that several commands share, as decorators. Loading this imports click only."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar

import click
from click.shell_completion import CompletionItem

F = TypeVar("F", bound=Callable[..., Any])
PATH = click.Path(path_type=Path)


class Name(click.ParamType):
    """One of the names in ``names.py``, which are looked up when needed; a near miss is told the right one."""

    def __init__(self, what: str, known: str | tuple[str, ...]) -> None:
        self.name, self._known = what, known

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        from ...pruners.registry import check_name

        check_name(self.name, value, self._names())
        return value

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        return _beginning(incomplete, self._names())

    def _names(self) -> tuple[str, ...]:
        from . import names

        return getattr(names, self._known) if isinstance(self._known, str) else self._known


class Share(click.ParamType):
    """A number, or ``auto``."""

    name = "share"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        return value if value == "auto" else click.FLOAT.convert(value, param, ctx)


class Ratio(click.ParamType):
    """``0.5``, or ``layer3.*=0.7`` for the layers that a word names: the word, empty without one, and the number."""

    name = "ratio"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, float]:
        if isinstance(value, tuple):
            return value
        word, sign, number = str(value).rpartition("=")
        if sign and not word:
            self.fail(f"{value}: write the layers before the sign, as in layer3.*=0.7", param, ctx)
        try:
            return word, float(number)
        except ValueError:
            self.fail(f"{value}: write a number, as in 0.5, or one for some layers, as in layer3.*=0.7", param, ctx)


def ratios(given: tuple[tuple[str, float], ...]) -> dict[str, Any]:
    """The ratio of all layers, and those of some."""
    of_all = [share for word, share in given if word in ("", "*")]
    if len(of_all) > 1:
        from ...pruners.errors import ConflictError

        raise ConflictError(f"--ratio {of_all[0]:g} and --ratio {of_all[1]:g} are both of all layers: give one of them")
    parts = tuple((word, share) for word, share in given if word not in ("", "*"))
    return {"ratio": of_all[0] if of_all else None, "ratios": parts}


class Arch(click.ParamType):
    """A bundled network or an alias of one."""

    name = "arch"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        from ...models.registry import find
        from .early import program

        find(value, f"{program()} archs")
        return value

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        from ...models.registry import ARCHS

        return _beginning(incomplete, ARCHS)


def _beginning(incomplete: str, names: Iterable[str]) -> list[CompletionItem]:
    return [CompletionItem(name) for name in names if name.startswith(incomplete)]


class Shape(click.ParamType):
    """``3,32,32`` as a tuple."""

    name = "shape"

    def convert(
        self, value: str | tuple[int, ...], param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, ...]:
        from .early import parse_shape

        return parse_shape(value) if isinstance(value, str) else value


class Time(click.ParamType):
    """``90s``, ``3m`` or ``1h30m`` in seconds."""

    name = "time"

    def convert(self, value: str | float, param: click.Parameter | None, ctx: click.Context | None) -> float:
        from .early import parse_time

        return parse_time(value, param.opts[0] if param else self.name) if isinstance(value, str) else value


def options(*decorators: Callable[[F], F]) -> Callable[[F], F]:
    def decorate(function: F) -> F:
        for decorator in reversed(decorators):
            function = decorator(function)
        return function

    return decorate


common = options(
    click.option("--seed", default=0, show_default=True, help="Decides everything that is drawn."),
    click.option("--device", default="auto", show_default=True, help="cpu, cuda, or auto."),
    click.option("--config", type=PATH, expose_value=False, metavar="FILE", help="Options from this TOML file "
                 "[secateur.toml, or [tool.secateur] in pyproject.toml, in the current folder]."),
    click.option("--json", is_flag=True, help="Print values instead of tables."),
    click.option("-q", "--quiet", is_flag=True, help="Show no progress."),
    click.option("-v", "--verbose", count=True, help="Say more; -vv shows tracebacks."),
)
arch = click.option("--arch", type=Arch(), metavar="NAME", help="A bundled network; see archs.")
kind = options(
    click.option("--network", metavar="KIND", help="Kind of layers of a bundled network: Real, SemiReal, "
                 "BinaryConnect, BinaryNet, XnorNet, BWN, DoReFa, IRNet or IENet."),
    click.option("--kind-arg", multiple=True, metavar="K=V", help="An option of the kind: weight_bits=1. Repeatable."),
    click.option("--first-layer", metavar="real|binary", help="With --network; default: the kind's own."),
    click.option("--last-layer", metavar="real|binary", help="With --network; default: the kind's own."),
)  # fmt: skip
data = click.option(
    "--data", metavar="NAME[:DIR]", help="digits, mnist:DIR, cifar10:DIR, cifar100:DIR, minicifar:DIR, "
    "tiny_imagenet:DIR, imagenet:DIR, folder:DIR or webdataset:DIR; FILE.py:FUNCTION that returns loaders; synthetic, "
    "made from the network itself; text:FILES with hf:DIR; NAME+thermometer codes images as signs, "
    "three channels for one; NAME+normalize=M,M,M/S,S,S takes these means and deviations.",
)  # fmt: skip
network = options(
    arch,
    click.option("--model", metavar="FILE.py:FACTORY", help="Your own network; or package.module:FACTORY, or hf:DIR, a "
                 "folder with config.json and safetensors as Hugging Face's library keeps a model."),
    click.option("--model-arg", multiple=True, metavar="K=V", help="An argument for the factory. Repeatable."),
    click.option("--weights", "--pretrained", type=PATH, metavar="FILE",
                 help="A state_dict or training checkpoint; safetensors, or their index, too."),
    click.option("--ema", is_flag=True, help="Take the averaged weights (EMA) in --weights."),
    click.option("--allow-class", multiple=True, metavar="MODULE.CLASS", help="Objects of this class may lie beside "
                 "the weights in --weights: they are left out, nothing of theirs is run. Repeatable."),
    kind,
    click.option("--init-from", type=PATH, metavar="FILE", help="Start from weights of another kind."),
    click.option("--input-shape", type=Shape(), multiple=True, metavar="C,H,W",
                 help="One input, without the batch. Repeatable."),
    click.option("--example", metavar="FILE.py:FUNCTION", help="Returns what the network is called with: a tensor, a "
                 "tuple, a dict, or a list of several such examples. For tokens, several inputs, masks."),
    data,
    click.option("--dtype", type=click.Choice(["float32", "bfloat16", "float16"]),
                 help="With hf:DIR: the type of the weights that are written; default: as they are."),
    click.option("--attn", type=click.Choice(["eager", "sdpa"]),
                 help="With hf:DIR: how its attention is computed; default: the library's choice."),
    click.option("--residual", is_flag=True,
                 help="With hf:DIR: let the width go, too, that all blocks add to (hidden_size)."),
    click.option("--per-layer", is_flag=True, help="With hf:DIR: every layer keeps a width of its own, which a file of "
                 "code beside config.json makes (trust_remote_code)."),
)  # fmt: skip
score = options(
    click.option("--score", metavar="FILE.py:FUNCTION", help="Judge by your own measure: (model) or (model, seconds) "
                 "in, a number out, the larger the better."),
    click.option("--score-seconds", type=click.FloatRange(0, min_open=True), metavar="S",
                 help="The seconds that --score is called with, if it takes them [60]."),
)  # fmt: skip
output = options(
    click.option("-o", "--output", type=PATH, metavar="DIR", help="Where to write; a file, for train."),
    click.option("--force", is_flag=True, help="Overwrite what is there."),
)
regime = click.option("--regime", metavar="NAME", help="Optimizer and learning rates; default: by network, kind, data.")
training = options(
    click.option("--epochs", type=click.IntRange(1), help="How long; default: the regime's own number."), regime
)
workers = click.option("-j", "--workers", type=click.IntRange(0), metavar="N",
                       help="Processes that read image files; default: one a core, up to 8.")  # fmt: skip
warm_up = click.option("--warm-up", "--warm_up", type=click.IntRange(0), metavar="N",
                       help="Epochs in which the rate rises.")  # fmt: skip
rates = options(
    click.option("--lr", type=click.FloatRange(0, min_open=True), metavar="X",
                 help="The learning rate to begin with; later ones stay in proportion."),
    click.option("--optimizer", type=click.Choice(["sgd", "adam"]), help="Default: the regime's."),
    click.option("-b", "--batch-size", type=click.IntRange(1), metavar="N",
                 help="Images a step, of all processes and passes together; default: the regime's."),
    click.option("--loss", type=click.Choice(["cross_entropy", "square_hinge"]), help="Default: the regime's."),
    click.option("--label-smoothing", type=click.FloatRange(0, 1, max_open=True), metavar="X",
                 help="Share of the target that goes to all classes alike."),
    click.option("--beta", type=click.FloatRange(0), default=0.0, show_default=True, metavar="X",
                 help="Weight of filters that are not orthogonal in the losses of training and search; 1e-5 is "
                      "usual for binary networks."),
)  # fmt: skip
execution = options(
    click.option("--amp", type=click.Choice(["bf16", "fp16"]),
                 help="Mixed precision: products in 16 bits, weights in 32; fp16 on a GPU only."),
    click.option("--half", is_flag=True, help="Everything in 16 bits (fp16), weights as well; with --optimizer sgd."),
    click.option("--accumulate", type=click.IntRange(1), default=1, metavar="N",
                 help="Take every step in N passes, in as much less memory."),
    workers,
)  # fmt: skip
data_on_device = click.option("--data-on-device", is_flag=True, help="Keep all images in the device's memory and "
                              "augment them there: the same batches, without a transfer for each.")  # fmt: skip
sparse = options(
    click.option("--sparsify", type=click.Choice(["bn", "group"]), help="Push the channels that may go down while "
                 "training, so that prune finds them: the scales of batch norms, or all weights of a group."),
    click.option("--sparsity", type=float, metavar="X", help="How hard --sparsify pushes in the end; default: as the "
                 "number of steps needs."),
)  # fmt: skip
keeping = options(
    click.option("--save-dir", type=PATH, metavar="DIR", help="Keep all files in this folder, under their usual names; "
                 "or name the file itself with -o."),
    click.option("-p", "--print-freq", "--log-interval", type=click.IntRange(1), metavar="N",
                 help="Print a line after every N steps instead of a bar."),
    click.option("--save-every", type=click.IntRange(1), default=1, metavar="N",
                 help="Epochs between checkpoints; one more is written on Ctrl-C."),
    click.option("--tensorboard", is_flag=True, help="Write the curve for TensorBoard too; needs '.[tensorboard]'."),
)  # fmt: skip
resume = click.option("--resume", is_flag=True, help="Go on with an interrupted run.")
resume_from = click.option("--resume", is_flag=False, flag_value="", metavar="[FILE]",
                           help="Go on with an interrupted run: the one that wrote this checkpoint.")  # fmt: skip
cache = click.option("--cache-gb", type=click.FloatRange(0), default=2.0, show_default=True, metavar="X",
                     help="Memory for what candidates have in common, so that it is computed once; 0 for none.")
skip = click.option("--skip", multiple=True, metavar="LAYERS",
                    help="Leave this layer, or all in this part, whole; a pattern, *.conv2, or a type, nn.Linear or "
                    "type:Block, are more. Repeatable.")
tied = click.option("--tie-declared", is_flag=True, help="Cut layers alike that a decorated block's calculator says go "
                    "together, though its forward doesn't need it.")
budgets = options(
    click.option("--macs", type=float, metavar="X", help="Keep at most this fraction of the MACs."),
    click.option("--params", type=float, metavar="X", help="Keep at most this fraction of the parameters."),
    click.option("--ratio", type=Ratio(), multiple=True, metavar="[LAYERS=]X", help="Remove this fraction of the "
                 "channels; layer3.*=0.7 of these layers (a name, a part, a pattern, nn.Linear), the last that fits. "
                 "Repeatable."),
    click.option("--latency", type=float, metavar="X", help="Keep at most this fraction of the time that one input "
                 "takes, measured on this machine and --device."),
    click.option("--layers", type=Share(), metavar="X", help="Keep at most this fraction of the residual layers: whole "
                 "blocks go where their absence moves the outputs least; alone, or before another budget. auto tries "
                 "some beside --params or --macs, and keeps what moves the outputs least on --data."),
    click.option("--experts", type=float, metavar="X", help="With hf:DIR: keep at most this fraction of the experts of "
                 "each mixture: those go that fewest tokens of --data go to; alone, or before another budget."),
    click.option("--latency-batch", type=click.IntRange(1), default=1, metavar="N",
                 help="Measure N inputs at a time [1]."),
    click.option("--latency-table", type=PATH, metavar="FILE", help="Where measured times are kept "
                 "[~/.cache/secateur/latency.json]."),
)  # fmt: skip
