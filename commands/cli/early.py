"""What can be refused before torch is imported: files and folders by what the options say. Imports nothing heavy."""

from __future__ import annotations

import os
import re
import zipfile
from pathlib import Path

import click

from ...models import registry
from ...pruners.budgets import MEANING, Budget, Limits, check_layers
from ...pruners.clusters import check_cluster
from ...pruners.errors import (
    BundleError,
    BundleExistsError,
    CheckpointError,
    ConflictError,
    NotGivenError,
    OptionError,
    OutputError,
    PlanError,
    ResumeError,
)
from ...pruners.named_files import (
    bundle_summary,
    check_checkpoint,
    check_function,
    hub_folder,
    is_function,
    is_hub,
    model_file,
    parse_arguments,
    split_spec,
)
from ...pruners.outputs import check_free, discard, held, settle
from ...pruners.registry import check_name
from .export_files import check_export
from .names import DATA_SETS, ENDS, KINDS, METRICS, WITH_KERNELS
from .options import (
    ApplyOptions,
    BundleOptions,
    CheckOptions,
    CommonOptions,
    CompareOptions,
    CurvesOptions,
    EvaluateOptions,
    ExportOptions,
    NetworkOptions,
    PackOptions,
    PruneOptions,
    QuantizeOptions,
    ReportOptions,
    SubjectOptions,
    TrainOptions,
)

_WORK = re.compile(r"search(_[\d.]+)?(\.jsonl|-weights-\d+\.(pth|tmp))|retraining\.pt|\..*\.draft|\.retraining\.pt\..*")
_CURVES = b'{"event": "sweep"'
_OLD_FORMAT = bytes.fromhex("80028a0a6cfc9c46f9206aa85019")  # how files of torch before 1.6 begin
GENERATED, PRETRAINED = Path("generated"), Path("pretrained")
COMPARISON = "comparison.json"
"""What ``compare`` keeps in its folder, and knows it by."""
KIND = "Real"
_LONGEST = 200


def check(options: CommonOptions) -> None:
    """Refuse at once what is known to be refused later. What only the network can tell is left to the commands."""
    if isinstance(options, NetworkOptions):
        _check_inputs(options)
    if isinstance(options, BundleOptions):
        bundle_summary(options.bundle)
        check_retrained(retrained_folder(options), options)
    if isinstance(options, ReportOptions):
        _check_report(options)
    if isinstance(options, CheckOptions) and options.file.suffix == ".py":
        model_file(str(options.file))
    try:
        _check_output(options)
    except OSError as error:
        raise OutputError(f"{error.filename} can't be written: {error.strerror}; choose another with -o") from None


def _check_report(options: ReportOptions) -> None:
    if len(options.bundles) > 2:
        raise OptionError(f"report takes one bundle or two, not {len(options.bundles)}")
    for path in options.bundles:
        bundle_summary(path)
    file = options.output
    if file is None:
        return
    if file.is_dir() or file.suffix != ".html":
        raise OptionError(f"report writes one page: name it with -o FILE.html, not {file}")
    if os.path.lexists(file) and not options.force:
        raise OutputError(f"{file} exists: choose another file with -o, or overwrite it with --force")
    if file.parent.is_file():
        raise OutputError(f"{file.parent} is a file, not a folder; choose another folder with -o")


def program() -> str:
    """The words that the user began the command with."""
    context = click.get_current_context(silent=True)
    return (context and context.find_root().info_name) or "secateur"


def parse_time(text: str, option: str) -> float:
    """``"1h30m"`` -> ``5400.0`` seconds; without a unit these are meant."""
    found = re.fullmatch(r"(?:(\d+)h)?(?:(\d+(?:\.\d+)?)m)?(?:(\d+(?:\.\d+)?)s?)?", text.strip())
    hours, minutes, seconds = (float(n or 0) for n in found.groups()) if found else (0.0, 0.0, 0.0)
    total = 3600 * hours + 60 * minutes + seconds
    if not 0 < total < float("inf"):
        raise OptionError(f"{option} {text}: write a time such as 90s, 3m or 1h30m")
    return total


# -- what goes in


def _check_inputs(options: NetworkOptions) -> None:
    if isinstance(options, ApplyOptions):
        if not options.plan.exists():
            raise PlanError(f"{options.plan}: there is no such plan file")
        if options.plan.is_dir():
            raise PlanError(f"{options.plan} is a folder: give the plan in it, {options.plan / 'plan.json'}")
    elif isinstance(options, SubjectOptions):
        if isinstance(options, EvaluateOptions) and options.draw and options.draw.suffix.lower() != ".png":
            path = options.draw  # perhaps the bundle
            raise OptionError(f"--draw writes a PNG, and {path} is none: write -d FILE.png, or -d as the last word")
        require_one(options)
        if options.bundle is not None:
            bundle_summary(options.bundle)
        if isinstance(options, EvaluateOptions) and options.score and (beside := _beside_score(options)):
            raise ConflictError(f"{beside} is of accuracy on --data, and --score is another measure: give one of them")
    elif isinstance(options, CompareOptions):
        _check_compared(options)
    else:
        require_network(options)
    _check_files(options)
    _check_weights(options)
    parse_arguments(options.model_arg)
    if isinstance(options, TrainOptions) and options.sparsity is not None:
        if options.sparsify is None:
            raise ConflictError("--sparsity says how hard --sparsify pushes: add --sparsify bn or --sparsify group")
        if not 0 < options.sparsity < float("inf"):
            raise OptionError(f"--sparsity {options.sparsity:g}: must be a number above 0")
    if isinstance(options, PruneOptions):
        budget_of(options)
        check_cluster(options.jobs, options.backend, options.address)
        Limits(options.min_channels, round_to=options.round_to)
    if options.model is None:  # a model file may register names of its own
        _check_names(options)


def _beside_score(options: EvaluateOptions) -> str:
    given = {
        "--confusion": options.confusion, "--confusion-csv": options.confusion_csv, "--draw": options.draw,
        "--batch-size": options.batch_size,
    }  # fmt: skip
    return next((name for name, value in given.items() if value), "")


def _check_names(options: NetworkOptions) -> None:
    if options.data and not (options.data.startswith("text:") or is_function(options.data)):
        check_name("data set", options.data.partition(":")[0].partition("+")[0], DATA_SETS)
    kind = (options.network or "").partition("_")[0]  # what follows says of which kind the ends are
    if kind and kind.lower() not in ENDS:
        check_name("network kind", kind, KINDS)
    for name in options.metric if isinstance(options, CurvesOptions) else ():
        check_name("metric", name, (*METRICS, *WITH_KERNELS))


def _check_compared(options: CompareOptions) -> None:
    """The two networks are named, and what is given of them is there."""
    given = [path for path in (options.real, options.binary) if path is not None]
    for path in given:
        if not path.exists():
            raise BundleError(f"there is no bundle and there are no weights {path}")
        if path.is_dir():
            bundle_summary(path)
    if options.arch is None and not (len(given) == 2 and all(path.is_dir() for path in given)):
        lists = f"{program()} archs lists them"
        raise NotGivenError(f"say what to compare: --arch NAME ({lists}), or two bundles with --real and --binary")
    if options.network == KIND:
        raise ConflictError(f"--network {KIND} is what others are compared with: name another kind")


def _check_files(options: NetworkOptions) -> None:
    if hub := bool(options.model and is_hub(options.model)):
        _check_hub(options)
    _check_functions(options)
    for spec in filter(None, (None if hub else options.model, options.example)):
        if (where := split_spec(spec)[0]).endswith(".py"):
            model_file(where)
    start = options.init_from if options.network else None
    if not (start and options.weights):
        for path in filter(None, (start, options.weights)):
            check_checkpoint(path)


def _check_weights(options: NetworkOptions) -> None:
    """What is said of --weights is of some, and names are those of classes."""
    given = "--ema" if options.ema else "--allow-class" if options.allow_class else ""
    if given and options.weights is None and not isinstance(options, ApplyOptions):  # a plan may name them
        raise ConflictError(f"{given} says how --weights FILE is read: add it")
    for name in options.allow_class:
        parts = name.split(".")
        if len(parts) < 2 or not all(part.isidentifier() for part in parts):
            raise OptionError(f"--allow-class {name}: write the class with its module, as in omegaconf.DictConfig")


def _check_functions(options: NetworkOptions) -> None:
    """The functions of the user's own are in their files."""
    if isinstance(options, (PruneOptions, EvaluateOptions)):
        if options.score is not None:
            check_function("--score", options.score)
        elif options.score_seconds is not None:
            raise ConflictError("--score-seconds is for --score: add it, or leave --score-seconds out")
    if options.data and is_function(options.data):
        check_function("--data", options.data)


def _check_hub(options: NetworkOptions) -> None:
    """What a folder as Hugging Face's library keeps a model doesn't go together with."""
    hub_folder(options.model or "")
    given = {
        "--weights": options.weights, "--model-arg": options.model_arg, "--input-shape": options.input_shape,
        "--network": options.network, "--init-from": options.init_from,
    }  # fmt: skip
    if strange := [name for name, value in given.items() if value]:
        raise ConflictError(f"{strange[0]} doesn't go with --model {options.model}: the folder says what the model is")
    if options.data and not options.data.startswith("text:"):
        raise ConflictError(f"--data {options.data}: with --model hf:DIR it is text, --data text:FILES")


def require_network(options: NetworkOptions) -> None:
    """UsageError unless one network is named."""
    if (options.arch is None) == (options.model is None):
        lists = f"{program()} archs lists them"
        raise NotGivenError(f"give one network: --arch NAME ({lists}) or --model FILE.py:FACTORY")
    if (options.data or "").startswith("text:") and not is_hub(options.model or ""):
        raise ConflictError("--data text:FILES is for --model hf:DIR, whose folder holds the tokenizer")
    if (options.dtype or options.attn) and not is_hub(options.model or ""):
        raise ConflictError(f"{'--dtype' if options.dtype else '--attn'} is for --model hf:DIR")
    if (options.residual or options.per_layer) and options.arch:
        raise ConflictError(f"{'--residual' if options.residual else '--per-layer'} is for --model hf:DIR")


def require_one(options: SubjectOptions) -> None:
    """UsageError unless one bundle or network is named."""
    given = [bool(options.bundle), bool(options.arch), bool(options.model)]
    if sum(given) != 1:
        raise NotGivenError("say what to look at: a bundle's folder, --arch NAME or --model FILE.py:FACTORY")


def parse_shape(text: str) -> tuple[int, ...]:
    """``"3,32,32"`` -> ``(3, 32, 32)``, without the batch."""
    parts = text.split(",")
    if not all(p.strip().isdecimal() and int(p) > 0 for p in parts):
        raise OptionError(f"--input-shape {text}: write the sizes of one input without the batch, such as 3,32,32")
    return tuple(map(int, parts))


def budget_of(options: PruneOptions) -> Budget | None:
    """What ``prune`` was asked to keep at most."""
    given = {k: v for k in MEANING if (v := getattr(options, k)) is not None}
    if options.ratios:
        given.setdefault("ratio", 0.0)
    if len(given) > 1:
        raise ConflictError(f"give one budget, not {' and '.join(f'--{k}' for k in given)}")
    if "latency" not in given and (options.latency_table or options.latency_batch != 1):
        raise ConflictError("--latency-batch and --latency-table say how --latency measures: give --latency")
    if options.layers == "auto":
        if not {"params", "macs"} & given.keys() or data_of(options) is None:
            raise NotGivenError("--layers auto needs a budget of --params or --macs, and --data to judge by")
    elif options.layers is not None:
        check_layers(options.layers, "latency" in given)
    if options.experts is not None:
        check_layers(options.experts, "latency" in given, "--experts")
    return next((Budget(k, v, options.ratios if k == "ratio" else ()) for k, v in given.items()), None)


# -- where it goes


def _check_output(options: CommonOptions) -> None:
    _check_length(getattr(options, "output", None))
    if isinstance(options, (ApplyOptions, QuantizeOptions)):
        if options.output is not None and not (isinstance(options, QuantizeOptions) and options.save is None):
            check_free(options.output, options.force)
        return
    if isinstance(options, PackOptions):
        folder = options.output or (packed_folder(options.bundle) if options.bundle else None)
        if folder is not None:
            check_free(folder, options.force)
        if options.text is not None and options.text.exists() and not _is_empty(options.text):
            raise BundleExistsError(f"{options.text} exists; choose another folder with --text")
        return
    if isinstance(options, ExportOptions):
        label = "" if options.bundle else _label(options)
        check_export(options, options.bundle or (GENERATED / label if label else None))
        return
    if isinstance(options, CompareOptions) and options.output is not None:
        check_comparison(options.output)
    if not isinstance(options, (CurvesOptions, PruneOptions, TrainOptions)):
        return
    label = _label(options)
    if isinstance(options, PruneOptions) and not options.dry_run:
        if path := options.output or (label and GENERATED / bundle_name(label, options)):
            settle(path)
            forget_finished(path)
            check_free(path, options.force)
            check_work(work_folder(path), options)
    elif isinstance(options, CurvesOptions):
        if path := options.output or (label and GENERATED / f"{label}_curves"):
            check_curves(path / "curves.jsonl", options)
    elif isinstance(options, TrainOptions):
        arch, data = options.arch and registry.find(options.arch).name, data_name(data_of(options) or "")
        if options.output and options.save_dir:
            raise ConflictError("-o names the file, --save-dir its folder: give one of them")
        usual = (options.save_dir or PRETRAINED) / (trained_name(data, arch) if arch else f"{label}.pt")
        if options.resume_from is not None and not options.resume_from.is_file():
            raise CheckpointError(f"there is no checkpoint {options.resume_from}")
        if (path := options.output or (label and usual)) and options.resume_from is None:
            check_trained(path, options)


def _is_empty(folder: Path) -> bool:
    return folder.is_dir() and not any(folder.iterdir())


def _check_length(path: Path | None) -> None:
    """OutputError where names that are made from the path's, for what is unfinished, would be too long for a disk."""
    if path is not None and (length := len(os.fsencode(path.name))) > _LONGEST:
        raise OutputError(f"-o {path.name[:40]}...: the name has {length} bytes; take one of at most {_LONGEST}")


def _label(options: NetworkOptions) -> str:
    """What files of the network are called, as ``Network.label``; empty where its kind decides."""
    if options.network:
        return ""
    if options.model and is_hub(options.model):
        return hub_folder(options.model).resolve().name
    name = registry.find(options.arch).name if options.arch else split_spec(options.model or "")[1]
    return "_".join(filter(None, (name, data_name(data_of(options) or "")))) if name else ""


def data_of(options: NetworkOptions) -> str | None:
    """The data asked for, else the digits for a bundled network unless weights or inputs say otherwise."""
    if options.arch and not (options.data or options.weights or options.input_shape or options.example):
        return "digits"
    return options.data


def data_name(spec: str) -> str:
    """``digits``, ``cifar10``; the user's own folders and functions by their names: ``folder-flowers``."""
    name, _, folder = spec.partition(":")
    if is_function(spec):
        return f"{Path(name).stem}-{folder}"
    name = name.replace("/", "_")  # of +normalize
    return f"{name}-{Path(folder).resolve().name}" if name.partition("+")[0] in ("folder", "webdataset") else name


def bundle_name(label: str, options: PruneOptions) -> str:
    """The folder of a pruned network, by its label and the budget."""
    budgets = [f"{k}{v:g}" for k in MEANING if (v := getattr(options, k)) is not None]
    parts = [f"{re.sub(r'[^A-Za-z0-9]+', '-', word).strip('-')}{share:g}" for word, share in options.ratios]
    return "_".join([label, *budgets, *parts])


def trained_name(data: str, name: str, kind: str = "") -> str:
    """The file of a bundled network's trained weights."""
    return f"model_{data}_{name}_{kind or KIND}.pt"


def retrained_folder(options: BundleOptions) -> Path:
    """Where ``retrain`` writes: as asked, or beside the bundle with ``_retrained`` behind its name."""
    return options.output or options.bundle.with_name(f"{options.bundle.name}_retrained")


def packed_folder(bundle: Path) -> Path:
    return bundle.with_name(f"{bundle.name}_packed")


def work_folder(output: Path) -> Path:
    """What a run of ``prune`` needs to go on after an interruption."""
    return output.with_name(f".{output.name}.work")


def unfinished(path: Path) -> Path:
    """Where a training that is to give the weights ``path`` is kept while it lasts."""
    name = path.stem if path.suffix in (".pt", ".pth") else path.name
    return path.with_name(f".{name}.training.pt")


def forget_finished(output: Path) -> None:
    """Remove the work folder of a run that was killed when its bundle was there already."""
    published, own = output / "search.jsonl", sorted(work_folder(output).glob("search*.jsonl"))
    if published.is_file() and any(p.read_bytes() == published.read_bytes() for p in own):
        with held(output) as state:
            discard(work_folder(output), state)


def check_work(work: Path, options: PruneOptions) -> None:
    """Refuse to write over an unfinished run unless asked for, and into a folder that is not of a run."""
    strange = [p.name for p in sorted(work.iterdir()) if not _WORK.fullmatch(p.name)] if work.is_dir() else []
    if strange or work.is_symlink() or (work.exists() and not work.is_dir()):
        raise ResumeError(f"{work} is not of a run of this tool ({(strange or ['no folder'])[0]}): move it away")
    if any(work.glob("search*.jsonl")):
        refuse_unfinished(work, options.resume, options.force)


def check_retrained(output: Path, options: BundleOptions) -> None:
    """The errors that ``retrain`` would meet at its output only after the training."""
    check_free(output, options.force)
    refuse_unfinished(unfinished(output), options.resume, options.force)


def check_trained(path: Path, options: TrainOptions) -> None:
    """Nothing that took long is written over unless asked for."""
    if path.is_dir():
        raise OutputError(f"{path} is a folder: name a file in it, such as {path / 'weights.pt'}")
    refuse_unfinished(unfinished(path), options.resume, options.force)
    renamed = options.resume and options.network and not (options.weights or options.init_from)  # looked into later
    if path.is_file() and not (options.force or renamed or unfinished(path).exists()):
        raise BundleExistsError(f"{path} exists; choose another file with -o, or overwrite it with --force")
    if path.is_file() and not _holds_tensors(path):
        raise BundleExistsError(
            f"{path} is no file of weights: only weights are ever written over; choose another file with -o"
        )


def _holds_tensors(path: Path) -> bool:
    """Whether a file looks like what torch saves; nothing of it is read but names."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as file:
            return any(name.endswith("/data.pkl") for name in file.namelist())
    with path.open("rb") as plain:
        return plain.read(len(_OLD_FORMAT)) in (b"", _OLD_FORMAT)


def check_curves(file: Path, options: CurvesOptions) -> None:
    """OutputError or BundleExistsError where the curves can't be written; nothing is touched."""
    if file.parent.is_file():
        raise OutputError(f"{file.parent} is a file, not a folder; choose another folder with -o")
    if file.exists() and not (options.resume or options.force):
        raise BundleExistsError(f"{file} exists: go on with --resume, or start anew with --force")
    if file.exists() and not options.resume:
        with file.open("rb") as lines:
            first = lines.readline(100)
        if not first.startswith(_CURVES) and not _CURVES.startswith(first):
            raise BundleExistsError(f"{file} holds no curves: choose another folder with -o")


def check_comparison(folder: Path) -> None:
    """OutputError or BundleExistsError where the tables can't be written; nothing is touched."""
    if folder.is_file():
        raise OutputError(f"{folder} is a file, not a folder; choose another folder with -o")
    if folder.is_dir() and any(folder.iterdir()) and not (folder / COMPARISON).is_file():
        raise BundleExistsError(f"{folder} exists and holds no comparison: choose another folder with -o")


def refuse_unfinished(path: Path, resume: bool, force: bool) -> None:
    """UsageError where a run would write over what another one left to go on with."""
    if path.exists() and not (resume or force):
        raise ResumeError(f"{path} holds an unfinished run: go on with --resume, or start anew with --force")
