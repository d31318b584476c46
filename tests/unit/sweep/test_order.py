"""What a trial's process tells of the stages that it finds."""

from __future__ import annotations

import pytest

from xlt_ray.stages.record import StageRecord
from xlt_ray.sweep.order import maker_of


@pytest.mark.parametrize(
    ("made_by", "named"),
    [
        ({"sweep": "small", "trial": 3, "host": "here"}, "small/3"),
        ({"sweep": "small", "trial": 0}, "small/0"),
        ({"sweep": "small", "trial": -1}, "small"),
        ({"host": "here"}, ""),
        ({}, ""),
    ],
)
def test_a_maker_is_named_by_sweep_and_trial(made_by: dict[str, object], named: str) -> None:
    assert maker_of(StageRecord("k" * 64, {}, "target", {}, made_by=made_by)) == named
