"""How long a search is said to go on."""

from __future__ import annotations

import pytest

from secateur.commands.pruning.watcher import TimeLeft
from secateur.training.fit.progress import LineProgress


def test_kinds_that_take_different_times_are_not_mixed() -> None:
    left = TimeLeft(((100, 1.0), (20, 30.0)))
    for done in range(1, 101):
        left.note(done, 0.5)
    for done in range(101, 106):
        left.note(done, 20.0)
    assert left.seconds == pytest.approx(15 * 20)


def test_within_a_third_from_the_first_of_the_last_kind_on_though_times_vary() -> None:
    took = [30.0, *(0.5 + 0.4 * (n % 3) for n in range(99)), *(20 + 6.0 * (n % 2) for n in range(20))]
    left = TimeLeft(((100, 1.0), (20, 30.0)))
    for done, seconds in enumerate(took, 1):
        left.note(done, seconds)
        if 100 < done < 120:
            assert left.seconds == pytest.approx(sum(took[done:]), rel=1 / 3)


def test_a_kind_that_is_still_to_come_counts_as_expected() -> None:
    left = TimeLeft(((100, 1.0), (20, 30.0)))
    for done in range(1, 51):
        left.note(done, 0.5)
    assert left.seconds == pytest.approx(50 * 0.5 + 20 * 15.0)


def test_what_is_done_once_is_not_expected_again() -> None:
    left = TimeLeft(((100, 1.0),))
    left.note(1, 60.0)
    for done in range(2, 20):
        left.note(done, 1.0)
    assert left.seconds == pytest.approx(81)


def test_evaluations_that_turn_out_to_be_needless_count_as_done() -> None:
    left = TimeLeft(((12, 1.0),))
    for done in (2, 4, 6):
        left.note(done, 10.0)
    assert left.seconds == pytest.approx(30)
    left.note(6, 10.0)  # known, though it was looked at
    assert left.seconds == pytest.approx(30)


def test_nothing_is_left_in_the_end() -> None:
    left = TimeLeft(((2, 1.0),))
    left.note(2, 3.0)
    assert left.seconds == 0


def test_lines_tell_what_was_expected(capsys: pytest.CaptureFixture[str]) -> None:
    with LineProgress(seconds=0.0) as progress:
        progress.start(10, "searching")
        progress.expect(125.4)
        progress.advance(1)
    assert "searching: 1/10, ETA 2:05" in capsys.readouterr().err
