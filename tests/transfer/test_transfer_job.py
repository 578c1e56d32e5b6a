"""A strategy at work on candidates and on the published network: on which device, and what is copied."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from secateur import trace
from secateur.pruners.errors import UsageError
from secateur.pruners.graph import ChannelGraph
from secateur.pruners.transfer import TRANSFERS, Transfer, TransferImages, TransferJob, transfer_strategy
from secateur.pruners.weight_transfer import Transferred

META = torch.device("meta")


class Moved(nn.Module):
    """Says where it is sent."""

    def __init__(self, sent: list[str]) -> None:
        super().__init__()
        self.fc = nn.Linear(2, 2)
        self.sent = sent

    def to(self, device: Any) -> Moved:  # type: ignore[override]
        self.sent.append(str(device))
        return self

    def __deepcopy__(self, memo: Any) -> Moved:
        return Moved(self.sent)


@pytest.fixture
def requests(monkeypatch: pytest.MonkeyPatch) -> list[Transfer]:
    """What a strategy of the name "noted" is asked for."""
    monkeypatch.setattr(TRANSFERS, "_entries", dict(TRANSFERS._entries))
    found: list[Transfer] = []

    @transfer_strategy("noted", images=4)
    def note(request: Transfer) -> Transferred:
        found.append(request)
        return Transferred({k: torch.zeros_like(v, device="cpu") for k, v in request.pruned.state_dict().items()})

    return found


def on(device: torch.device, seen: list[str] | None = None) -> TransferImages:
    def many() -> tuple[Tensor, ...]:
        (seen if seen is not None else []).append("many")
        return torch.ones(4, 1, 6, 6).to(device).split(2)

    return TransferImages(many, device=device)


def network() -> tuple[nn.Module, ChannelGraph]:
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(64, 2)).eval()
    return model, trace(model, torch.zeros(1, 1, 6, 6))


def test_a_job_without_images_is_refused(requests: list[Transfer]) -> None:
    model, graph = network()
    job = TransferJob("noted", model, graph, lambda m, _: m)
    with pytest.raises(UsageError, match=r"^--transfer noted looks at images: add --data, or use --transfer slice$"):
        job.finish(model, {})
    assert not requests


def test_candidates_look_at_images_on_the_device_and_stay_there(requests: list[Transfer]) -> None:
    sent: list[str] = []
    model = Moved(sent)
    graph: Any = None
    for device in (META, torch.device("cpu")):
        job = TransferJob("noted", model, graph, lambda *_: Moved(sent), on(device))
        assert job.probe is None
        job.finish(model, {})
    assert sent == ["meta", "meta", "cpu"]  # the candidate and the whole network, which is on the CPU
    assert [request.original is model for request in requests] == [False, True]
    assert [b.device.type for request in requests for b in request.batches or ()] == ["meta", "meta", "cpu", "cpu"]


def test_weights_are_carried_over_on_the_device_and_batches_read_once(requests: list[Transfer]) -> None:
    model, graph = network()
    seen: list[str] = []
    job = TransferJob("noted", model, graph, lambda m, _: m, on(META, seen))
    pruned = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(32, 2))
    kept = {graph.widths[0].name: (1, 3)}
    for _ in range(2):
        job.carry_over(pruned, kept, model.state_dict())
    asked = requests[0]
    assert {next(n.parameters()).device.type for n in (asked.pruned, asked.original)} == {"meta"}
    assert [b.device.type for b in asked.batches or ()] == ["meta", "meta"]
    assert seen == ["many"]
    assert torch.equal(pruned[0].weight, model[0].weight[[1, 3]])  # given, so it stays where it is
    assert next(model.parameters()).device.type == "cpu"
