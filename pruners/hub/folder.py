"""Folders as Hugging Face's library keeps a model in: a configuration, weights as safetensors, a tokenizer."""

from __future__ import annotations

import copy
import json
import shutil
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Set
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import CheckpointError, ModelFileError, PackageError, WeightsMismatchError, some
from ..run import from_files, rounded, stream, streams, values_in
from ..scratch import import_file
from .entries import Shapes

_WEIGHTS = (".safetensors", ".bin", ".pt", ".pth", ".h5", ".msgpack", ".onnx", ".gguf", ".ot")
_CARD = "README.md"
_OWN = {"config.json", _CARD, "plan.json", "summary.json", "details.json", "report.html", "search.jsonl"}
_QUANTIZED = ("quantization_config", "compression_config")
_PLAIN = "eager"
_INDEX = "model.safetensors.index.json"
_LARGEST = "1000GB"
_SHARDS = 10  # of a large model, whatever it was read from
PER_LAYER = "per_layer"
"""What a configuration holds: list of layers -> number -> its value in each layer."""
LARGE = 500_000_000  # bytes
_TYPES = {"F32": torch.float32, "BF16": torch.bfloat16, "F16": torch.float16}
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def library() -> Any:
    """The package ``transformers``. Raises UsageError where it isn't installed."""
    try:
        import transformers
    except ImportError:
        raise PackageError("--model hf:DIR needs the package transformers: pip install 'secateur[hf]'") from None
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    return transformers


def is_configured(model: nn.Module) -> bool:
    """Whether a network is one of the library's that its configuration describes."""
    parents = ((c.__name__, c.__module__.partition(".")[0]) for c in type(model).__mro__)
    return ("PreTrainedModel", "transformers") in parents


def open_folder(
    path: Path, dtype: str | None = None, attention: str | None = None, whole: bool = True, code: bool = False
) -> tuple[nn.Module, torch.dtype]:  # fmt: skip
    """The model in a folder, in float32 and in eval mode, and the type of its weights, or ``dtype`` instead.

    ``whole``: False lets the weights of a large one stay in their files; they come and go while it runs. ``code``: run
    the folder's own file, where its configuration names one.
    Raises ModelFileError for a configuration that describes no model, CheckpointError for weights that don't fit it.
    """
    transformers = library()
    config = _configuration(transformers, path, code)
    cls = _class(transformers, config, path)
    stored = DTYPES[dtype] if dtype else _stored(path)
    options = {} if attention is None else {"attn_implementation": attention}
    mapped = not whole and _is_large(path, stored)
    try:
        model, told = cls.from_pretrained(
            path, config=config, dtype=stored if mapped else torch.float32, local_files_only=True, use_safetensors=True,
            output_loading_info=True, ignore_mismatched_sizes=True, **options,
        )  # fmt: skip
    except (OSError, RuntimeError, ValueError, KeyError, ImportError) as error:
        raise CheckpointError(f"{path}: {cls.__name__} can't be loaded: {_line(error)}") from error
    strange = {"missing_keys": "has no weights for", "unexpected_keys": "holds weights that the model has not:"}
    for what, words in strange.items():
        if names := sorted(told.get(what) or ()):
            raise WeightsMismatchError(f"{path} {words} {some(names)}: config.json and weights don't fit")
    for name, there, here in sorted(told.get("mismatched_keys") or ()):
        sizes = (" x ".join(map(str, shape)) for shape in (there, here))
        raise WeightsMismatchError(f"{path}: {name} is {next(sizes)}, and {next(sizes)} by config.json")
    one_by_one(model)
    if mapped:
        if not _as_it_lies(model, path):
            return open_folder(path, dtype, attention)
        from_files(model)
    return model.eval(), stored


def _is_large(path: Path, stored: torch.dtype) -> bool:
    """Whether a model is better not held in float32, and all its files' tensors are of this type."""
    if sum(f.stat().st_size for f in _files(path)) < LARGE:
        return False
    return {_TYPES.get(kind) for kind in _kinds(path).values()} == {stored}


def _as_it_lies(model: nn.Module, path: Path) -> bool:
    """Whether a model's tensors are those in its files, none of them put together while it was read."""
    keys = _kinds(path).keys()
    named = dict(model.named_parameters(remove_duplicate=False))
    found = {id(p) for n, p in named.items() if n in keys}
    return model.state_dict().keys() == named.keys() >= keys and found == {id(p) for p in model.parameters()}


def _files(path: Path) -> list[Path]:
    """Those that the library reads the weights from, where others may lie beside them."""
    one, index = path / "model.safetensors", path / _INDEX
    if one.is_file() or not index.is_file():
        return [one] if one.is_file() else sorted(path.glob("*.safetensors"))
    try:
        names = set(json.loads(index.read_text("utf-8"))["weight_map"].values())
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{index} doesn't say which files hold which weights: {_line(error)}") from None
    return [path / name for name in sorted(names)]


def _kinds(path: Path) -> dict[str, str]:
    """The tensors in a folder's files, and of which type each is."""
    from safetensors import safe_open

    found: dict[str, str] = {}
    for file in _files(path):
        try:
            with safe_open(file, "pt") as weights:
                found |= {k: weights.get_slice(k).get_dtype() for k in weights.keys()}  # noqa: SIM118 (no dict)
        except Exception as error:  # the library has errors of its own for what is no safetensors file
            raise CheckpointError(f"{file} is no safetensors file: {_line(error)}") from None
    return found


def one_by_one(model: nn.Module) -> None:
    """Let a mixture's experts run one after the other, in plain operations instead of one kernel for all."""
    config: Any = model.config
    if not runs_one_by_one(model):
        config._experts_implementation = _PLAIN


def runs_one_by_one(model: nn.Module) -> bool:
    """Whether experts do, or there are none."""
    config: Any = model.config
    return getattr(config, "_experts_implementation", None) in (None, _PLAIN)


def tokenizer_of(path: Path) -> Callable[[str], list[int]]:
    """Text -> the numbers of its tokens, without any that begin or end a text. Raises ModelFileError without one."""
    transformers = library()
    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(path, local_files_only=True)
    except Exception as error:  # the library raises many kinds where files are missing
        raise ModelFileError(f"{path} has no tokenizer that can be loaded: {_line(error)}") from None

    def tokens(text: str) -> list[int]:
        found: list[int] = tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
        return found

    return tokens


def longest(model: nn.Module, usual: int) -> int:
    """The usual length of a sequence, or the most that the model takes."""
    config: Any = model.config
    most = getattr(config, "max_position_embeddings", None)
    return min(usual, most) if isinstance(most, int) else usual


def foretells(model: nn.Module) -> bool:
    """Whether a model gives scores for the token after each."""
    told: Any = model
    return is_configured(model) and bool(told.can_generate()) and not told.config.is_encoder_decoder


def _configuration(transformers: Any, path: Path, code: bool) -> Any:
    try:
        values = json.loads((path / "config.json").read_text("utf-8"))
    except ValueError as error:
        raise ModelFileError(f"{path / 'config.json'} is no JSON: {error}") from None
    values = values if isinstance(values, dict) else {}
    for told in filter(None, map(values.get, _QUANTIZED)):
        how = f" ({told['quant_method']})" if isinstance(told, dict) and told.get("quant_method") else ""
        raise CheckpointError(
            f"{path}: its weights are quantized{how}, which can't be cut: take the model that it was made of, and "
            "quantize what comes out"
        )
    own = bool(values.get("auto_map")) and not code
    if own and PER_LAYER in values:
        raise ModelFileError(
            f"{path}: its layers have numbers of their own (--per-layer), which code beside it makes, and that is not "
            "run: take the model that it was pruned from"
        )
    if own and not _is_known(transformers, values):
        raise ModelFileError(
            f"{path}: its model is code of its own (auto_map), which is not run: give its file to --model"
        )
    try:
        config = transformers.AutoConfig.from_pretrained(path, local_files_only=True)
        if own:
            del config.auto_map  # what is written is the library's class, too
        return config
    except Exception as error:  # the library and what validates its fields raise many kinds
        raise ModelFileError(
            f"{path / 'config.json'} describes no model that transformers knows: {_line(error)}"
        ) from None


def _is_known(transformers: Any, values: Mapping[str, Any]) -> bool:
    """Whether the library has the model, too, whose code a folder brings along."""
    names = values.get("architectures") or ()
    return values.get("model_type") in transformers.CONFIG_MAPPING and bool(names) and all(
        getattr(transformers, name, None) is not None for name in names
    )  # fmt: skip


def _class(transformers: Any, config: Any, path: Path) -> Any:
    for reference in getattr(config, "auto_map", {}).values():
        return class_in(path, reference)
    for name in config.architectures or ():
        if (found := getattr(transformers, name, None)) is not None:
            return found
    try:
        return transformers.AutoModel._model_mapping[type(config)]
    except KeyError:
        raise ModelFileError(f"{path / 'config.json'} names no class of transformers in architectures") from None


def class_in(folder: Path, reference: str) -> type[nn.Module]:
    """The class that ``auto_map`` names, from the folder's own file. Raises ModelFileError where there is none."""
    file, _, name = reference.rpartition(".")
    path = folder / f"{file}.py"
    if not path.is_file():
        raise ModelFileError(f"{folder / 'config.json'} names {reference}, and {path} isn't there")
    found: type[nn.Module] = getattr(import_file(path), name)
    return found


def _stored(path: Path) -> torch.dtype:
    """The type of most weights in the files."""
    found = Counter(_kinds(path).values())
    most = max(found, key=lambda k: found[k], default="F32")
    if most not in _TYPES:
        raise CheckpointError(
            f"{path}: its weights are {most}; take ones of 16 or 32 bits, a quantized model can't be cut"
        )
    return _TYPES[most]


def as_written(state: Mapping[str, Tensor], folder: Path | None, dtype: torch.dtype) -> dict[str, Tensor]:
    """What files of this type will say of the weights, in float32."""
    finer = _finer(folder, dtype)
    return {**rounded(rounded(state, dtype), torch.float32), **{k: v for k, v in state.items() if k in finer}}


def _finer(folder: Path | None, dtype: torch.dtype) -> Set[str]:
    """Tensors that are of float32 in a folder whose others are of this type."""
    if folder is None or dtype == torch.float32 or _stored(folder) != dtype:
        return frozenset()
    return {name for name, kind in _kinds(folder).items() if kind == "F32"}


def save_folder(model: nn.Module, folder: Path | None, output: Path, dtype: torch.dtype) -> list[str]:
    """Write configuration and weights as ``from_pretrained`` reads them, in shards as they are in ``folder``, or in
    small ones where weights come and go, and copy what else is there: tokenizer, templates, licence. Returns the names
    of what doesn't go along: weights in other forms, a card that describes the whole model, folders."""
    written: Any = model
    files = _files(folder) if folder else []
    if streams(model):
        _save_streamed(model, _kinds(folder).keys() if folder else (), output, dtype)
    else:
        largest = max(f.stat().st_size for f in files) if len(files) > 1 else _LARGEST
        finer = _finer(folder, dtype)
        kept = {n: t.clone() for n, t in model.state_dict().items() if n in finer}
        written.to(dtype)
        for name, values in kept.items():
            model.state_dict(keep_vars=True)[name].data = values
        written.save_pretrained(output, max_shard_size=largest)
    left = []
    for file in sorted(folder.iterdir()) if folder else []:
        if file in files or file.name.startswith(".") or file.name in _OWN - {_CARD} | {_INDEX, "__pycache__"}:
            continue
        if file.is_dir() or file.name == _CARD or file.suffix in _WEIGHTS or file.name.endswith(".index.json"):
            left.append(f"{file.name}/" if file.is_dir() else file.name)
        elif not (output / file.name).exists():
            shutil.copyfile(file, output / file.name)
    return left


def _save_streamed(model: nn.Module, keys: Collection[str], output: Path, dtype: torch.dtype) -> None:
    """Shard by shard, so that one is in memory at a time."""
    from huggingface_hub import split_torch_state_dict_into_shards
    from safetensors.torch import save_file

    told: Any = model
    told.config.dtype, told.config.architectures = str(dtype).removeprefix("torch."), [type(model).__name__]
    told.config.save_pretrained(output)
    if told.can_generate():
        told.generation_config.save_pretrained(output)
    named = {n: p for n, p in model.named_parameters(remove_duplicate=False) if n in keys}
    empty = {n: torch.empty(p.shape, dtype=dtype, device="meta") for n, p in named.items()}
    size = sum(t.nbytes for t in empty.values())
    split = split_torch_state_dict_into_shards(empty, max_shard_size=max(1, size // _SHARDS))
    for file, names in split.filename_to_tensors.items():
        tensors = {n: values_in(named[n]).to(dtype).contiguous() for n in names}
        save_file(tensors, output / file, metadata={"format": "pt"})
    if split.is_sharded:
        index = {"metadata": split.metadata, "weight_map": split.tensor_to_filename}
        (output / _INDEX).write_text(json.dumps(index, indent=2) + "\n", "utf-8")


def values_of(model: nn.Module) -> dict[str, Any]:
    """What the configuration of a model holds."""
    config: Any = model.config
    values: dict[str, Any] = config.to_dict()
    return values


def made(model: nn.Module, values: Mapping[str, Any], cls: type[nn.Module] | None = None) -> nn.Module:
    """A model of the same class, or of ``cls``, from another configuration; its weights are arbitrary."""
    own: Any = model.config
    config = type(own).from_dict(dict(values))
    _implemented_as(config, own)
    with torch.random.fork_rng(devices=[]), _without_values() if streams(model) else nullcontext():
        network: nn.Module = (cls or type(model))(config)
    if (generation := getattr(model, "generation_config", None)) is not None:
        network.generation_config = copy.deepcopy(generation)
    if streams(model):
        stream(network, lambda name, tensor: partial(_missing, name))
    return network.train(model.training)


def _missing(name: str) -> Tensor:
    raise RuntimeError(f"{name} was given no values")


@contextmanager
def _without_values() -> Iterator[None]:
    """Parameters are made on no device; buffers get their values."""
    usual = nn.Module.register_parameter

    def register(module: nn.Module, name: str, parameter: nn.Parameter | None) -> None:
        usual(module, name, parameter)
        if parameter is not None and not parameter.is_meta:
            module._parameters[name] = nn.Parameter(parameter.detach().to("meta"), parameter.requires_grad)

    nn.Module.register_parameter = register  # type: ignore[assignment, method-assign]
    try:
        yield
    finally:
        nn.Module.register_parameter = usual  # type: ignore[method-assign]


def attention_of(config: Any) -> Any:
    """How attention is computed: a name, or where parts of a model have other ways a dict of them."""
    found = _implementations(config, "_attn_implementation")
    names = {n for n in (found[""], *(v[""] for k, v in found.items() if k)) if n is not None}
    return found[""] if len(names) < 2 else {k: v[""] if isinstance(v, dict) else v for k, v in found.items()}


def _implemented_as(config: Any, own: Any) -> None:
    """Let parts of a model be computed as those of another one are."""
    for name in ("_attn_implementation", "_experts_implementation"):
        setattr(config, name, _implementations(own, name))


def _implementations(config: Any, name: str) -> dict[str, Any]:
    parts = {key: part for key in config.sub_configs if (part := getattr(config, key, None)) is not None}
    return {"": getattr(config, name, None), **{key: _implementations(part, name) for key, part in parts.items()}}


def missing_in(model: nn.Module) -> list[str]:
    """What a model reads of its configuration while it is made, and which isn't there, so that it has a default."""
    own: Any = model.config
    names: set[str] = set()

    def asked(config: Any, name: str) -> Any:
        names.add(name)
        raise AttributeError(name)

    config = type(own).from_dict(own.to_dict())
    _implemented_as(config, own)
    config.__class__ = type(type(own).__name__, (type(own),), {"__getattr__": asked})
    with torch.device("meta"), torch.random.fork_rng(devices=[]):
        type(model)(config)
    return sorted(name for name in names if not name.startswith("_"))


def completed(model: nn.Module, values: Mapping[str, Any]) -> Mapping[str, Any]:
    """What a configuration of the model's kind holds that is made of these values; empty where none can be."""
    own: Any = model.config
    try:
        found: dict[str, Any] = type(own).from_dict(dict(values)).to_dict()
    except Exception:  # as below
        return {}
    return found


def shapes_of(
    model: nn.Module, values: Mapping[str, Any], cls: type[nn.Module] | None = None
) -> Shapes | None:  # fmt: skip
    """The shapes of all tensors of such a model, made on no device; None where it can't be made."""
    try:
        with torch.device("meta"):
            network = made(model, values, cls)
    except Exception:  # whatever the library raises says that these numbers don't fit
        return None
    return shapes_in(network)


def shapes_in(network: nn.Module) -> Shapes:
    """The shapes of all its tensors, by each of their names."""
    tensors = [*network.named_parameters(remove_duplicate=False), *network.named_buffers(remove_duplicate=False)]
    return {name: tuple(t.shape) for name, t in tensors}


def _line(error: BaseException) -> str:
    first, _, rest = str(error).strip().partition("\n")
    more = rest.strip().partition("\n")[0] if first.endswith(":") else ""
    return f"{first} {more}".strip() or type(error).__name__
