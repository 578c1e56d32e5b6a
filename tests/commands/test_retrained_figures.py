"""What ``retrain`` says beside the figures that a bundle has already."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from secateur.commands.retrain import _compared
from secateur.training.fit.loop import Score

ACCURACY = {"before": 0.9, "pruned": 0.6, "retrained": None}


def compared(known: dict[str, Any] | None, before: float, after: float) -> tuple[dict[str, Any], str]:
    summary = {} if known is None else {"accuracy": known}
    scores = (Score(1.0, share, 1.0, 100) for share in (before, after))
    changes, told = _compared(SimpleNamespace(summary=summary), SimpleNamespace(is_text=False), *scores)  # type: ignore[arg-type]
    return changes["accuracy"], told


def test_figures_of_other_data_do_not_stand_beside_what_was_measured_now() -> None:
    found, told = compared(ACCURACY, 0.5, 0.7)
    assert found == {"before": None, "pruned": 0.5, "retrained": 0.7}
    assert "50.00% -> 70.00%, on other data than the bundle's own figures (0.6), which are left out" in told


@pytest.mark.parametrize(
    ("known", "found"),
    [
        (ACCURACY, {**ACCURACY, "retrained": 0.8}),
        ({**ACCURACY, "pruned": 0.3, "retrained": 0.6}, {"before": 0.9, "pruned": 0.3, "retrained": 0.8}),
        (None, {"before": None, "pruned": 0.6, "retrained": 0.8}),
    ],
    ids=["retrained once", "and again", "made without data"],
)
def test_figures_of_the_same_data_stay(known: dict[str, Any] | None, found: dict[str, Any]) -> None:
    assert compared(known, 0.6, 0.8) == (found, "test accuracy 60.00% -> 80.00%")
