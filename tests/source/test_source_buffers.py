"""Buffers that the constructor computes: the author's expression stays, whatever kind of tensor it gives."""

from __future__ import annotations

from pathlib import Path

import pytest
from forms import pruned

from secateur.pruners.errors import SecateurError

NET = '''
class Net(nn.Module):
    def __init__(self, size=12):
        super().__init__()
        self.inp, self.out = nn.Linear(5, 8), nn.Linear(8, 3)
        {made}

    def forward(self, x):
        return self.out(self.inp(x).relu()){read}
'''
SPARSE = "heads = torch.eye({size}, dtype=torch.bool)\n        heads[1:] = True\n        "
UNSAVED = 'self.register_buffer("heads", {}, persistent=False)'
FORMS = {
    "sparse and small": (SPARSE.format(size=4) + UNSAVED.format("heads.to_sparse()"), "", "heads.to_sparse()"),
    "sparse and large": (SPARSE.format(size="size") + UNSAVED.format("heads.to_sparse()"), "", "heads.to_sparse()"),
    "sparse without anything in it": (UNSAVED.format("torch.zeros(9, 9).to_sparse()"), "", "(9, 9).to_sparse()"),
    "rows that are compressed": (
        UNSAVED.format("torch.eye(size).to_sparse_csr()"),
        " + (self.heads @ torch.ones(12, 1)).sum()",
        "torch.eye(size).to_sparse_csr()",
    ),
}


@pytest.mark.filterwarnings("ignore:Sparse CSR tensor support")
@pytest.mark.parametrize("form", FORMS)
def test_the_expression_stays(form: str, tmp_path: Path) -> None:
    made, read, wanted = FORMS[form]
    _, widths, text = pruned(tmp_path, NET.format(made=made, read=read))
    assert 8 in widths.values()
    assert wanted in text


def test_drawn_sparse_values_are_refused(tmp_path: Path) -> None:
    net = NET.format(made=UNSAVED.format("torch.rand(9, 9).to_sparse()"), read="")
    with pytest.raises(SecateurError, match=r"author\.py:\d+: the buffer self\.heads is not in the state_dict"):
        pruned(tmp_path, net)


CONFIG = '''
from types import SimpleNamespace


def table(width, length):
    place = torch.outer(torch.arange(length).float(), 100.0 ** -torch.linspace(0, 1, width))
    return place.cos(), place.sin()


class Model(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.inp, self.out = nn.Linear(5, config.dim), nn.Linear(config.dim, 3)
        {made}

    def forward(self, x):
        return self.out(self.inp(x).relu()) + ({read})[: x.shape[1]].mean(-1, keepdim=True)


def Net():
    return Model(SimpleNamespace(dim=16, heads=2, inner=SimpleNamespace(length=20), scale=torch.arange(20.0)))
'''
TENSOR = "self.cos = config.scale.outer(torch.arange(9.0))"
REGISTERED = """cos, sin = table(config.dim // config.heads, config.inner.length)
        self.register_buffer("cos", cos, persistent=False)
        self.register_buffer("sin", sin, persistent=False)"""
OBJECTS = {
    "a tensor of it": (TENSOR, "self.cos", TENSOR),
    "two buffers of one call": (REGISTERED, "self.cos * self.sin", "cos, sin = table(8, 20)"),
    "a plain attribute": (
        "self.cos = table(config.dim // config.heads, 2 * config.inner.length)[0]",
        "self.cos",
        "self.cos = table(8, 40)[0]",
    ),
    "a buffer of one expression": (
        'self.register_buffer("cos", table(config.dim, config.inner.length + 4)[0], persistent=False)',
        "self.cos",
        'self.register_buffer("cos", table(16, 24)[0], persistent=False)',
    ),
}


@pytest.mark.parametrize("form", OBJECTS)
def test_numbers_of_an_object_are_written_out_unless_it_stays(form: str, tmp_path: Path) -> None:
    made, read, wanted = OBJECTS[form]
    _, widths, text = pruned(tmp_path, CONFIG.format(made=made, read=read))
    assert 16 in widths.values()
    assert wanted in text


def test_what_no_number_gives_is_refused(tmp_path: Path) -> None:
    made = "table(9, config.inner.length)[0] + torch.rand(20, 9)"
    buffer = f'self.register_buffer("cos", {made}, persistent=False)'
    with pytest.raises(SecateurError, match=r"author\.py:\d+: the buffer self\.cos is not in the state_dict"):
        pruned(tmp_path, CONFIG.format(made=buffer, read="self.cos"))
    with pytest.raises(SecateurError, match=r"author\.py:\d+: self\.cos can't be written: a Tensor can't"):
        pruned(tmp_path, CONFIG.format(made=f"self.cos = {made}", read="self.cos"))
