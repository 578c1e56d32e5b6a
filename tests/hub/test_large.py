"""Models whose weights stay in their files: pruned tensor by tensor, with the same outcome as in memory."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from app_helpers import app
from hub_models import llama, transformers

from secateur.pruners.errors import VerificationError
from secateur.pruners.hub import folder as folders
from secateur.pruners.hub import open_folder
from secateur.pruners.metrics import rank
from secateur.pruners.run import copied, isolated, state_of, stream, streams, twin, values_in
from secateur.pruners.verify.outputs import outputs_of
from secateur.pruners.weight_transfer import slice_state


@pytest.fixture
def none_is_small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folders, "LARGE", 1)


def saved(folder: Path, kind: torch.dtype = torch.bfloat16, **more: Any) -> Path:
    llama(num_hidden_layers=3, **more).to(kind).save_pretrained(folder)
    return folder


def test_weights_read_where_their_module_does_not_run_are_noticed() -> None:
    class Reads(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = torch.nn.Linear(3, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x @ self.layer.weight

    model = Reads()
    held = {n: p.detach().clone() for n, p in model.named_parameters()}
    stream(model, lambda name, _: lambda: held[name])
    with pytest.raises(VerificationError, match="NaN"):
        outputs_of(model, torch.ones(1, 3), False)


def test_values_of_another_shape_are_refused() -> None:
    model = torch.nn.Linear(3, 3)
    stream(model, lambda name, _: lambda: torch.zeros(2))
    with pytest.raises(ValueError, match="shape"):
        model(torch.ones(1, 3))


@pytest.mark.parametrize("keeps", [True, False])
def test_memory_of_weights_that_went_is_taken_again_unless_somebody_reads_it(keeps: bool) -> None:
    class Seen(torch.nn.Linear):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            places.append(self.weight.data_ptr())
            seen.append(self.weight.detach() if keeps else None)
            return super().forward(x)

    seen: list[torch.Tensor | None] = []
    places: list[int] = []
    model = torch.nn.Sequential(Seen(512, 512), Seen(512, 512))
    held = {n: p.detach().clone() for n, p in model.named_parameters()}
    x = torch.randn(2, 512)
    with torch.no_grad():
        expected = model(x)
        stream(model, lambda name, _: lambda: isolated.room(held[name].shape).copy_(held[name]))
        seen.clear(), places.clear()
        assert torch.equal(model(x), expected)
    assert (places[0] == places[1]) != keeps
    if keeps:
        assert all(torch.equal(own, held[f"{i}.weight"]) for i, own in enumerate(seen) if own is not None)


def test_copies_share_weights_that_come_and_go_and_a_twin_can_have_others() -> None:
    model = torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.ReLU())
    held = {n: p.detach().clone() for n, p in model.named_parameters()}
    expected = model(torch.ones(1, 3))
    stream(model, lambda name, _: lambda: held[name])
    assert streams(model) and bool(torch.isnan(model[0].weight).all())
    other = twin(model)
    other[0].weight.values = lambda: torch.zeros(3, 3)  # type: ignore[union-attr, assignment]
    other[0].bias.values = lambda: torch.zeros(3)  # type: ignore[union-attr, assignment]
    assert torch.equal(copied(model)(torch.ones(1, 3)), expected) and torch.equal(model(torch.ones(1, 3)), expected)
    assert not other(torch.ones(1, 3)).any() and bool(torch.isnan(model[0].weight).all())


def test_a_layer_that_makes_itself_anew_keeps_its_mode_in_a_copy() -> None:
    class Anew(torch.nn.Module):
        def __reduce__(self) -> tuple[type, tuple[()]]:
            return Anew, ()

    assert not any(m.training for m in copied(torch.nn.Sequential(Anew()).eval()).modules())


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16])
def test_a_mapped_model_computes_what_it_does_in_memory(
    tmp_path: Path, none_is_small: None, kind: torch.dtype, tied: bool
) -> None:
    folder = saved(tmp_path, kind, tie_word_embeddings=tied)
    mapped, stored = open_folder(folder, whole=False)
    whole, _ = open_folder(folder)
    assert streams(mapped) and stored == kind and not streams(whole)
    tokens = torch.arange(8)[None]
    assert torch.equal(mapped(tokens).logits, whole(tokens).logits)
    pairs = zip(mapped.named_parameters(), whole.named_parameters(), strict=True)
    assert all(n == m and torch.equal(values_in(p), q) for (n, p), (m, q) in pairs)


@pytest.mark.parametrize("more", [(), ("--residual",)], ids=["inner widths", "and the residual stream"])
def test_what_is_published_is_what_comes_of_the_model_in_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, more: tuple[str, ...]
) -> None:
    folder = saved(tmp_path / "model", tie_word_embeddings=True)
    found = {}
    for name, large in (("whole", 10**9), ("mapped", 1)):
        monkeypatch.setattr(folders, "LARGE", large)
        output = tmp_path / name
        result = app("prune", "--model", f"hf:{folder}", "--ratio", "0.5", "-o", str(output), "-q", "--json", *more)
        assert result.exit_code == 0, result.output
        found[name] = output, json.loads(result.stdout)
    (whole, told), (mapped, told_mapped) = found.values()
    assert len(list(mapped.glob("*.safetensors"))) > 1 and len(list(whole.glob("*.safetensors"))) == 1
    assert told["plan_sha256"] == told_mapped["plan_sha256"] and told["configuration"] == told_mapped["configuration"]
    assert any("zeroed" in case for case in told_mapped["compared"]) and told_mapped["verified"]
    one, other = (transformers.LlamaForCausalLM.from_pretrained(f, dtype="auto") for f in (whole, mapped))
    assert one.dtype == other.dtype == torch.bfloat16
    assert all(torch.equal(p, q) for p, q in zip(one.parameters(), other.parameters(), strict=True))


def test_metrics_and_slices_look_at_the_values(tmp_path: Path, none_is_small: None) -> None:
    from secateur.pruners.configured import ConfiguredPruning

    folder = saved(tmp_path)
    mapped, whole = (ConfiguredPruning(open_folder(folder, whole=w)[0]) for w in (False, True))
    scores = [rank(p.model, p.graph, "l1").scores for p in (mapped, whole)]
    assert all((scores[0][name] == scores[1][name]).all() for name in scores[1])
    kept = {"intermediate_size": range(0, mapped.graph.width("intermediate_size").size, 2)}
    cut = slice_state(state_of(mapped.model), mapped.graph, kept)
    wanted = slice_state(whole.model.state_dict(), whole.graph, kept)
    assert all(torch.equal(made(), wanted[name]) for name, made in cut.items())  # type: ignore[operator]
