"""One fault-injection round; ``make chaos`` runs many."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tests.chaos.faults import FAULTS
from tests.chaos.harness import MOST_REPEATED, MUST_BE_ZERO, Verdict, rounds

PASSED = Verdict(injected=1, repeated=MOST_REPEATED)
SHORT = ("one of two nodes killed",)


@pytest.mark.parametrize(
    "change",
    [{"injected": 0}, {"repeated": MOST_REPEATED + 1}, *[
        {name: 1} for name in MUST_BE_ZERO
    ]],
)  # fmt: skip
def test_a_round_is_not_right_if_its_fault_hit_nothing_or_cost_too_much(
    change: dict[str, int],
) -> None:
    assert PASSED.has_passed
    assert not replace(PASSED, **change).has_passed


@pytest.mark.slow
def test_a_sweep_ends_as_if_no_fault_had_been_injected(tmp_path: Path) -> None:
    faults = [fault for fault in FAULTS if fault.name in SHORT]
    for fault, moment, verdict in rounds(tmp_path, faults, len(faults), seed=3):
        assert verdict.has_passed, (fault.name, moment, verdict)
