"""What the source writer must refuse, by name, instead of writing something that is wrong."""

from __future__ import annotations

import types
from collections.abc import Callable

import pytest
import torch
from source_networks import Base, Flat
from torch import nn
from torch.nn.utils import parametrizations

from secateur.pruners.errors import NotPrunableError, SourceError
from secateur.pruners.source import Entry, LiteralSite, write_source


def _hooked() -> nn.Module:
    model = Flat()
    model.conv.register_forward_hook(lambda *_: None)
    return model


def _replaced() -> nn.Module:
    model = Flat()
    model.forward = types.MethodType(lambda self, x: self.conv(x), model)  # type: ignore[method-assign]
    return model


def _parametrized() -> nn.Module:
    model = Flat()
    parametrizations.weight_norm(model.fc)
    return model


def _half_in_training() -> nn.Module:
    model = Flat().eval()
    model.conv.train()
    return model


class WithLazy(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.LazyLinear(3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(x)


class WithRandomBuffer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("noise", torch.randn(99), persistent=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.noise


class WithExtraState(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(4, 3)

    def get_extra_state(self) -> dict[str, int]:
        return {"steps": 3}

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(x)


def _typed_in() -> nn.Module:
    namespace: dict[str, object] = {"nn": nn}
    exec(
        "class Typed(nn.Module):\n    def __init__(self):\n        super().__init__()\n        self.a = nn.ReLU()",
        namespace,
    )
    return namespace["Typed"]()  # type: ignore[operator]


def _extended() -> nn.Module:
    model = Base(4)
    model.extra = nn.Conv2d(4, 4, 1)
    model.forward_extra = True
    return model


REFUSALS: list[tuple[str, Callable[[], nn.Module], str]] = [
    ("a forward hook", _hooked, "conv .* has a forward hook"),
    ("a replaced forward", _replaced, "has a replaced forward"),
    ("a parametrization", _parametrized, "parametrization"),
    ("a state of more than tensors", WithExtraState, "get_extra_state"),
    ("one module in training mode", _half_in_training, "conv .* trains although the model is in eval mode"),
    ("a lazy layer", WithLazy, "lazy"),
    ("a script module", lambda: torch.jit.script(nn.ReLU()), "script"),
    ("a traced graph", lambda: torch.fx.symbolic_trace(nn.Sequential(nn.ReLU())), "traced graph"),
    ("torch's own container", lambda: nn.Sequential(nn.Linear(2, 2)), "torch's own"),
    ("a class without a file", _typed_in, "source of class Typed is not available"),
    ("a random buffer that is not saved", WithRandomBuffer, "noise"),
]


@pytest.mark.parametrize(("make", "message"), [r[1:] for r in REFUSALS], ids=[r[0] for r in REFUSALS])
@pytest.mark.filterwarnings("ignore:.*is deprecated")
def test_it_refuses(make: Callable[[], nn.Module], message: str) -> None:
    model = make()
    with pytest.raises(SourceError, match=message):
        write_source(model, Entry(make, {}, "model"))


def test_refusals_name_the_file_and_the_line_and_exit_with_three() -> None:
    with pytest.raises(SourceError, match=r"source_networks\.py:\d+") as caught:
        write_source(_hooked_flat(), Entry(Flat, {}, "Flat"))
    assert isinstance(caught.value, NotPrunableError)
    assert caught.value.exit_code == 3


def _hooked_flat() -> nn.Module:
    model = Flat()
    model.register_forward_pre_hook(lambda *_: None)
    return model


@pytest.mark.parametrize(
    ("library", "base", "instead"),
    [("transformers", "PreTrainedModel", "--model hf:DIR"), ("diffusers", "ModelMixin", "copy its classes")],
)
def test_a_model_that_a_configuration_of_its_library_makes_is_refused_where_the_user_makes_it(
    library: str, base: str, instead: str
) -> None:
    cls = type(base, (Flat,), {"__module__": f"{library}.modeling_utils"})

    def make() -> nn.Module:
        return cls()

    line = make.__code__.co_firstlineno + 1
    said = rf"test_source_refusals\.py:{line}: the model is .* of {library}.*{instead}"
    with pytest.raises(SourceError, match=said):
        write_source(make(), Entry(make, {}, "make"))


def test_a_number_that_differs_outside_a_method_is_refused() -> None:
    model = Flat()
    site = LiteralSite(torch.nn.functional.__file__, 1, 0, 1, 1, {"": 1, "conv": 2})
    with pytest.raises(SourceError, match="differs between modules"):
        write_source(model, Entry(Flat, {}, "Flat"), rewrites=[site])


class Shifted(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, width, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.first(self.conv(x))

    @staticmethod
    def first(x: torch.Tensor) -> torch.Tensor:
        return x[:, :4]


class TwoShifted(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = Shifted(8), Shifted(6)


def test_a_number_that_differs_in_a_static_method_is_refused_by_line() -> None:
    line = Shifted.first.__code__.co_firstlineno + 2
    site = LiteralSite(__file__, line, 21, line, 22, {"one": 2, "two": 3})
    with pytest.raises(SourceError, match=rf"test_source_refusals\.py:{line}: this number differs .* that has self"):
        write_source(TwoShifted(), Entry(TwoShifted, {}, "TwoShifted"), rewrites=[site])


def test_the_live_model_and_the_random_state_are_left_alone() -> None:
    model = Flat()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    write_source(model, Entry(Flat, {}, "Flat"))
    assert torch.equal(torch.rand(3), expected)
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
