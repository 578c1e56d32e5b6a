"""Inputs that are made from a network."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from secateur.pruners.synthetic import synthetic_inputs


def trained(norm: type[nn.Module], conv: type[nn.Module], *shape: int) -> tuple[nn.Module, Tensor]:
    """A network whose norms have seen these inputs."""
    torch.manual_seed(0)
    inputs = 2 + 0.5 * torch.randn(256, 3, *shape)
    model = nn.Sequential(conv(3, 6, 3), norm(6), nn.ReLU(), conv(6, 4, 3), norm(4), nn.Flatten(), nn.LazyLinear(5))
    model(inputs[:2])
    for module in model.modules():
        if isinstance(module, norm):
            module.momentum = None
    model.train()(inputs)
    return model, inputs


def statistics(model: nn.Module, inputs: Tensor) -> Tensor:
    with torch.no_grad():
        out = model.eval()[0](inputs)  # type: ignore[index,operator]
    return out.transpose(0, 1).flatten(1).mean(1)


def test_a_network_that_remembers_nothing_gets_noise() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4, track_running_stats=False), nn.GroupNorm(2, 4))
    found = synthetic_inputs(model, (3, 8, 8), 200)
    assert (found.remembered, found.off, tuple(found.inputs.shape)) == (0, 0.0, (200, 3, 8, 8))
    assert abs(float(found.inputs.mean())) < 0.05
    assert abs(float(found.inputs.std()) - 1) < 0.05


def test_inputs_come_near_to_what_norms_have_seen() -> None:
    model, real = trained(nn.BatchNorm2d, nn.Conv2d, 8, 8)
    found = synthetic_inputs(model, (3, 8, 8), 96)
    wanted, noise = statistics(model, real), statistics(model, torch.randn(96, 3, 8, 8))
    got = statistics(model, found.inputs)
    assert float((got - wanted).norm()) < 0.6 * float((noise - wanted).norm())
    assert found.remembered == 2
    assert found.off < 0.4 * found.noise


def test_sequences_are_made_as_images_are() -> None:
    model, _ = trained(nn.BatchNorm1d, nn.Conv1d, 12)
    found = synthetic_inputs(model, (3, 12), 64)
    assert found.inputs.shape == (64, 3, 12)
    assert found.off < 0.4 * found.noise


def test_the_network_is_left_as_it_was() -> None:
    model, _ = trained(nn.BatchNorm2d, nn.Conv2d, 8, 8)
    model.train()
    state, random = {k: v.clone() for k, v in model.state_dict().items()}, torch.get_rng_state()
    synthetic_inputs(model, (3, 8, 8), 16)
    assert torch.equal(random, torch.get_rng_state())
    assert all(torch.equal(v, state[k]) for k, v in model.state_dict().items())
    assert all(m.training for m in model.modules())
    assert all(p.requires_grad and p.grad is None for p in model.parameters())


def test_the_seed_decides() -> None:
    model, _ = trained(nn.BatchNorm2d, nn.Conv2d, 8, 8)
    one, again, other = (synthetic_inputs(model, (3, 8, 8), 16, seed).inputs for seed in (0, 0, 1))
    assert torch.equal(one, again)
    assert not torch.equal(one, other)
