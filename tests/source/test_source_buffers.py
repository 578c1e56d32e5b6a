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
