"""Constructor calls of torch's own layers, read from live modules.

Most layers keep their constructor's arguments as attributes of the same name; those need no entry here. A layer with
an odd constructor gets one small function in this file: ``@constructor(nn.Layer)`` takes the module and gives
the values of the arguments that are not attributes. Widths come from tensors, never from attributes that may be stale.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import torch
from torch import nn

from ...errors import ValueTextError
from .construction import undisturbed
from .terms import Arg, Call, Display, Lit, Ref, Term, is_plain, made_of, parameter_call, small_tensor

Values = dict[str, Any]
_REGISTRY: dict[type[nn.Module], Callable[[Any], Values]] = {}
_SKIPPED = ("device", "dtype", "args", "kwargs", "_stacklevel", "size_average", "reduce")
_DROPOUTS = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout, nn.FeatureAlphaDropout)
_WIDTHS = 2  # leading required arguments that are written without their names


def constructor(*classes: type[nn.Module]) -> Callable[[Callable[[Any], Values]], Callable[[Any], Values]]:
    """Registers the arguments of layers whose attributes do not say them."""

    def register(function: Callable[[Any], Values]) -> Callable[[Any], Values]:
        _REGISTRY.update(dict.fromkeys(classes, function))
        return function

    return register


AXES = frozenset({"kernel_size", "stride", "padding", "output_padding", "dilation"})


def one_for_all(value: Any) -> Any:
    """(3, 3) -> 3: torch's layers store what they were given as a tuple per axis."""
    if isinstance(value, tuple) and value and all(type(v) is int for v in value) and len(set(value)) == 1:
        return value[0]
    return value


@constructor(nn.Conv1d, nn.Conv2d, nn.Conv3d)
def convolution(m: nn.Conv2d) -> Values:
    shape = m.weight.shape
    axes = {k: one_for_all(getattr(m, k)) for k in ("kernel_size", "stride", "padding", "dilation")}
    return {"in_channels": shape[1] * m.groups, "out_channels": shape[0], **axes}


@constructor(nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
def transposed_convolution(m: nn.ConvTranspose2d) -> Values:
    shape = m.weight.shape
    axes = {k: one_for_all(getattr(m, k)) for k in ("kernel_size", "stride", "padding", "output_padding", "dilation")}
    return {"in_channels": shape[0], "out_channels": shape[1] * m.groups, **axes}


@constructor(nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d, nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d)
def pooling(m: nn.MaxPool2d) -> Values:
    one = one_for_all if is_torch(type(m)) else lambda value: value  # forward of a subclass may ask for the axes
    return {k: one(getattr(m, k)) for k in ("kernel_size", "stride", "padding")}


@constructor(nn.Linear)
def linear(m: nn.Linear) -> Values:
    return {"in_features": m.weight.shape[1], "out_features": m.weight.shape[0]}


@constructor(nn.Bilinear)
def bilinear(m: nn.Bilinear) -> Values:
    out, first, second = m.weight.shape
    return {"in1_features": first, "in2_features": second, "out_features": out}


@constructor(nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)
@constructor(nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d)
def batch_norm(m: nn.BatchNorm2d) -> Values:
    tensors = [t for t in (m.weight, m.running_mean) if t is not None]
    bias = m.bias is not None or m.weight is None
    features = tensors[0].shape[0] if tensors else m.num_features
    return {"num_features": features, "bias": bias, "process_group": getattr(m, "process_group", None)}


@constructor(nn.LayerNorm, nn.RMSNorm)
def layer_norm(m: nn.LayerNorm) -> Values:
    shape = tuple(m.weight.shape) if m.weight is not None else tuple(m.normalized_shape)
    bias = getattr(m, "bias", None) is not None or m.weight is None
    return {"normalized_shape": shape[0] if len(shape) == 1 else shape, "bias": bias}


@constructor(nn.GroupNorm)
def group_norm(m: nn.GroupNorm) -> Values:
    channels = m.weight.shape[0] if m.weight is not None else m.num_channels
    bias = m.bias is not None or m.weight is None
    return {"num_channels": channels, **({"bias": bias} if "bias" in _signature(nn.GroupNorm) else {})}


@constructor(nn.Embedding, nn.EmbeddingBag)
def embedding(m: nn.Embedding) -> Values:
    return {
        "num_embeddings": m.weight.shape[0],
        "embedding_dim": m.weight.shape[1],
        "_weight": None,
        "_freeze": False,
    }


@constructor(nn.ParameterList)
def parameter_list(m: nn.ParameterList) -> Values:
    return {"values": Display("list", tuple(_element(v) for v in m))}


@constructor(nn.ParameterDict)
def parameter_dict(m: nn.ParameterDict) -> Values:
    return {"parameters": Display("dict", tuple(_element(v) for v in m.values()), tuple(Lit(k) for k in m))}


def _element(value: Any) -> Term:
    return parameter_call(value, torch.get_default_dtype()) if isinstance(value, nn.Parameter) else term_of(value)


@constructor(nn.Hardtanh)
def hardtanh(m: nn.Hardtanh) -> Values:
    return {"min_value": None, "max_value": None}  # older names of min_val and max_val


@constructor(nn.PReLU)
def prelu(m: nn.PReLU) -> Values:
    return {"num_parameters": m.weight.numel(), "init": 0.25}


@constructor(nn.MultiheadAttention)
def attention(m: nn.MultiheadAttention) -> Values:
    width = m.out_proj.weight.shape[0]
    return {
        "embed_dim": width,
        "bias": m.in_proj_bias is not None,
        "add_bias_kv": m.bias_k is not None,
        "kdim": None if m.kdim == width else m.kdim,
        "vdim": None if m.vdim == width else m.vdim,
    }


@constructor(nn.RNN, nn.LSTM, nn.GRU)
def recurrent(m: nn.RNNBase) -> Values:
    first, state = m.get_parameter("weight_ih_l0"), m.get_parameter("weight_hh_l0")
    gates = {"LSTM": 4, "GRU": 3}.get(m.mode, 1)
    return {
        "input_size": first.shape[1],
        "hidden_size": state.shape[0] // gates,
        "nonlinearity": m.mode.removeprefix("RNN_").lower(),
    }


@constructor(nn.RNNCell, nn.LSTMCell, nn.GRUCell)
def recurrent_cell(m: nn.RNNCellBase) -> Values:
    return {"input_size": m.weight_ih.shape[1], "hidden_size": m.weight_hh.shape[1]}


@constructor(nn.TransformerEncoderLayer, nn.TransformerDecoderLayer)
def transformer_layer(m: nn.TransformerEncoderLayer) -> Values:
    return {
        "d_model": m.linear1.weight.shape[1],
        "nhead": m.self_attn.num_heads,
        "dim_feedforward": m.linear1.weight.shape[0],
        "dropout": m.dropout.p,
        "activation": "gelu" if m.activation is torch.nn.functional.gelu else m.activation,
        "layer_norm_eps": m.norm1.eps,
        "batch_first": m.self_attn.batch_first,
        "norm_first": m.norm_first,
        "bias": m.linear1.bias is not None,
    }


@constructor(nn.TransformerEncoder, nn.TransformerDecoder)
def transformer_stack(m: nn.TransformerEncoder) -> Values:
    kind = nn.TransformerEncoderLayer if isinstance(m, nn.TransformerEncoder) else nn.TransformerDecoderLayer
    name = "encoder_layer" if isinstance(m, nn.TransformerEncoder) else "decoder_layer"
    layers = [call_of(layer, "") for layer in m.layers if type(layer) is kind]
    if len(layers) != len(m.layers) or any(layer != layers[0] for layer in layers):
        raise LookupError("its constructor copies one layer, but its layers differ; write them into a ModuleList")
    values: Values = {name: layers[0]}
    if m.norm is not None:
        values["norm"] = call_of(m.norm, "")
    return values


@constructor(nn.Transformer)
def transformer(m: nn.Transformer) -> Values:
    values = transformer_layer(m.encoder.layers[0])
    last = {"custom_encoder": None, "custom_decoder": None}
    return values | last | {"num_encoder_layers": len(m.encoder.layers), "num_decoder_layers": len(m.decoder.layers)}


def is_torch(cls: type) -> bool:
    """Whether a module class is torch's own, so that its name and arguments are enough."""
    return cls.__module__ == "torch" or cls.__module__.startswith("torch.")


def call_of(
    module: nn.Module, path: str, usual: torch.dtype = torch.float32, base: type[nn.Module] | None = None
) -> Call:
    """The constructor call that makes a module like this one (weights aside).

    ``usual``: the type that needs no mention. ``base``: the torch class whose constructor is meant, where the module
    is an author's subclass of it. Raises SourceError where no call makes such a module.
    """
    cls = base or type(module)
    args = []
    try:
        reader = next((_REGISTRY[c] for c in cls.__mro__ if c in _REGISTRY), None)
        values = reader(module) if reader else {}
        for position, parameter in enumerate(_signature(cls).values()):  # type: ignore[arg-type]
            value = _argument(module, values, parameter)
            args.append(_arg(cls, position, parameter, value))
    except LookupError as error:
        raise ValueTextError(
            f"{path or 'the model'}: {cls.__name__} can't be written as a constructor call: {error.args[0]}"
        ) from None
    if "dtype" in inspect.signature(cls).parameters:
        own = {t.dtype for t in module.parameters(recurse=False) if t.is_floating_point()}
        args.append(Arg("dtype", Ref(own.pop() if len(own) == 1 else usual), Ref(usual)))
    call = Call(cls, tuple(args), (path,))
    _prove(module, call, path)
    return call


@lru_cache(maxsize=256)
def _signature(cls: type) -> dict[str, inspect.Parameter]:
    named = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    if issubclass(cls, nn.RNNBase):
        parameters = inspect.signature(nn.RNNBase.__init__).parameters
        skipped = ("self", "mode", *_SKIPPED, *(() if cls is nn.LSTM else ("proj_size",)))
        own = {k: p for k, p in parameters.items() if k not in skipped}
        kind = inspect.Parameter("nonlinearity", inspect.Parameter.KEYWORD_ONLY, default="tanh")
        return {**own, "nonlinearity": kind} if cls is nn.RNN else own
    parameters = inspect.signature(cls).parameters
    return {k: p for k, p in parameters.items() if k not in _SKIPPED and p.kind not in named}


def _argument(module: nn.Module, values: Values, parameter: inspect.Parameter) -> Any:
    name = parameter.name
    if name in values:
        return values[name]
    if not hasattr(module, name):
        if name == "qconfig":  # a stub that nobody has told how to quantize
            return None
        if parameter.default is not inspect.Parameter.empty and not is_torch(type(module)):
            return parameter.default
        raise LookupError(f"the argument {name} can't be read from the module")
    value = getattr(module, name)
    return value is not None if name == "bias" and (value is None or isinstance(value, torch.Tensor)) else value


def _arg(cls: type, position: int, parameter: inspect.Parameter, value: Any) -> Arg:
    default = None if parameter.default is inspect.Parameter.empty else term_of(parameter.default)
    leading = default is None or isinstance(value, Display)
    positional = leading and position < _WIDTHS and parameter.kind is not inspect.Parameter.KEYWORD_ONLY
    return Arg(
        parameter.name, term_of(value), default, positional, parameter.name == "p" and issubclass(cls, _DROPOUTS)
    )


def term_of(value: Any) -> Term:
    """A term for an argument of one of torch's layers. Raises LookupError for what no literal or name gives."""
    if isinstance(value, Call | Display):
        return value
    if isinstance(value, torch.Size):
        return Lit(tuple(value))
    if is_plain(value):
        return Lit(value)
    if isinstance(value, nn.Module) and is_torch(type(value)):
        return call_of(value, "")
    if isinstance(value, torch.dtype) or callable(value):
        return Ref(value)
    small = small_tensor(value)
    if small is not None:  # a weight for every class
        return small
    raise LookupError(f"{value!r} is not a literal")


@dataclass(frozen=True)
class _Wanted:
    """A layer to be made. Two are the same if their ``text`` is, which says class, arguments and default type."""

    text: str
    call: Call = field(compare=False)


def _prove(module: nn.Module, call: Call, path: str) -> None:
    """Makes the layer on the meta device and compares it with the live one."""
    # what torch's own constructors make follows from their arguments, so it is made once
    plain = is_torch(call.fn) and all(isinstance(a.value, Lit) or a.name == "dtype" for a in call.args)
    made = _shapes_made(_Wanted(_said(call), call)) if plain else _shapes(call)
    shapes = {k: (v.shape, v.dtype) for k, v in module.state_dict().items()}
    if made.items() - shapes.items() or (type(module) is call.fn and made != shapes):
        raise ValueTextError(
            f"{path or 'the model'}: no constructor call of {type(module).__name__} gives these shapes: "
            f"{ {k: tuple(s) for k, (s, _) in shapes.items()} }"
        )


def _said(call: Call) -> str:
    return f"{call.fn!r} {[(a.name, a.value) for a in call.args]!r} {torch.get_default_dtype()}"


@lru_cache(maxsize=4096)
def _shapes_made(wanted: _Wanted) -> dict[str, tuple[torch.Size, torch.dtype]]:
    return _shapes(wanted.call)


def _shapes(call: Call) -> dict[str, tuple[torch.Size, torch.dtype]]:
    with undisturbed(), torch.device("meta"):
        twin = made_of(call)
    return {k: (v.shape, v.dtype) for k, v in twin.state_dict().items()}
