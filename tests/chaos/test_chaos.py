"""A short set of the chaos rounds; ``make chaos`` runs as many as are asked for."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tests.chaos.faults import BLOWS
from tests.chaos.harness import FAULTS, MOST_REPEATED, Verdict, rounds

RIGHT = Verdict(struck=1, repeated=MOST_REPEATED)
SHORT = ("one of two nodes killed",)


@pytest.mark.parametrize(
    "change",
    [{"struck": 0}, {"repeated": MOST_REPEATED + 1}, *[
        {name: 1} for name in FAULTS
    ]],
)  # fmt: skip
def test_a_blow_that_hit_nothing_or_cost_too_much_makes_no_right_round(
    change: dict[str, int],
) -> None:
    assert RIGHT.is_right
    assert not replace(RIGHT, **change).is_right


@pytest.mark.slow
def test_a_sweep_that_was_hit_ends_as_if_it_had_not_been(tmp_path: Path) -> None:
    blows = [blow for blow in BLOWS if blow.name in SHORT]
    for blow, moment, verdict in rounds(tmp_path, blows, len(blows), seed=3):
        assert verdict.is_right, (blow.name, moment, verdict)
