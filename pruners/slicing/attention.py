"""What becomes of torch's attention layers in a sliced network: they stay where their sizes can be said to torch's
constructors, else a class of ``stand_ins`` takes their place."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from torch import nn

from ..graph import BoolArray, ChannelGraph, Slot
from . import stand_ins

_LAYERS: dict[type[nn.Module], type[nn.Module]] = {
    nn.TransformerEncoderLayer: stand_ins.TransformerEncoderLayer,
    nn.TransformerDecoderLayer: stand_ins.TransformerDecoderLayer,
}
_STACKS: dict[type[nn.Module], type[nn.Module]] = {
    nn.TransformerEncoder: stand_ins.TransformerEncoder,
    nn.TransformerDecoder: stand_ins.TransformerDecoder,
}


def fit_attention(model: nn.Module, graph: ChannelGraph, masks: Mapping[Slot, BoolArray]) -> None:
    """Give the attention layers of a model whose tensors are sliced the sizes that these say, in place."""
    modules = dict(model.named_modules())
    for path, module in modules.items():
        if isinstance(module, nn.MultiheadAttention):
            name = "in_proj_weight" if module.in_proj_weight is not None else "q_proj_weight"
            _fit(module, masks.get(Slot(graph.key(path, name), 0)))
    for module in reversed(modules.values()):  # what is inside comes first
        if type(module) in _LAYERS and not _fits(module):
            _stand_in(module, _LAYERS[type(module)], ("norm_first", "activation"))
        elif type(module) in _STACKS and not _alike(module.layers):
            _stand_in(module, _STACKS[type(module)], ("norm",))
        elif type(module) is nn.Transformer:
            layers = [*module.encoder.layers, *module.decoder.layers]
            if _alike(layers):
                module.d_model, module.nhead = layers[0].self_attn.embed_dim, layers[0].self_attn.num_heads
            else:
                _stand_in(module, stand_ins.Transformer, ())


def _fit(layer: Any, rows: BoolArray | None) -> None:
    """``rows``: which rows of the projections stay, or of that of the queries; they lie head after head."""
    scale, width = layer.head_dim**-0.5, layer.out_proj.weight.shape[0]
    if rows is not None:
        heads = rows.reshape(-1, layer.num_heads, layer.head_dim)[0]
        layer.num_heads, layer.head_dim = int(heads.any(1).sum()), int(heads.sum(1).max())
    packed = layer.in_proj_weight is not None
    layer.embed_dim = layer.kdim = layer.vdim = width
    values = layer.num_heads * layer.head_dim
    if not packed:
        layer.kdim, (values, layer.vdim) = layer.k_proj_weight.shape[1], layer.v_proj_weight.shape
    usual = packed == (width == layer.kdim == layer.vdim)  # torch's own packs what it can
    if not usual or values != width or (layer.num_heads * layer.head_dim, layer.head_dim**-0.5) != (width, scale):
        cls = stand_ins.MultiheadAttention if packed else stand_ins.CrossAttention
        _stand_in(layer, cls, ("num_heads", "dropout", "batch_first"))
        for name in [n for n, p in layer._parameters.items() if p is None and n != "in_proj_bias"]:
            del layer._parameters[name]
        layer.out_proj.__class__ = nn.Linear
        layer.scale = scale


def _stand_in(module: Any, cls: type[nn.Module], attributes: tuple[str, ...]) -> None:
    """Only these attributes mean something to the class, besides what every module has."""
    for name in [n for n in vars(module) if not n.startswith("_") and n not in ("training", *attributes)]:
        delattr(module, name)
    module.__class__ = cls


def _attentions(module: nn.Module) -> list[Any]:
    kinds = (nn.MultiheadAttention, stand_ins.MultiheadAttention)
    return [m for m in module.modules() if isinstance(m, kinds)]


def _alike(layers: Collection[Any]) -> bool:
    """Whether these layers are torch's own and of one size, so that one constructor call makes them all."""
    sizes = {(m.num_heads, x.linear1.weight.shape) for x in layers for m in _attentions(x)}
    return all(type(x) in _LAYERS for x in layers) and len(sizes) == 1


def _fits(layer: nn.Module) -> bool:
    """Whether the layer's attentions are torch's own, with one number of heads."""
    found = _attentions(layer)
    return all(isinstance(m, nn.MultiheadAttention) for m in found) and len({m.num_heads for m in found}) == 1
