"""A cluster counts as large as its autoscaler may make it."""

from __future__ import annotations

import sys

from hypothesis import given
from hypothesis import strategies as st

from xlt_ray.sweep.capacity import at_most, room_for

NAMES = st.sampled_from(["CPU", "GPU", "memory"])
RESOURCES = st.dictionaries(NAMES, st.floats(0, 1e6))


@given(RESOURCES, st.none() | RESOURCES)
def test_nothing_that_is_there_or_may_come_is_left_out(
    there: dict[str, float], bounds: dict[str, float] | None
) -> None:
    most = at_most(there, bounds)
    assert most.keys() == there.keys() | (bounds or {}).keys()
    assert all(most[name] >= amount for name, amount in there.items())
    assert all(most[name] >= amount for name, amount in (bounds or {}).items())


def test_gpus_that_the_autoscaler_may_bring_make_room() -> None:
    there = {"CPU": 0.0, "memory": 1e9}
    most = at_most(there, {"CPU": 64, "GPU": 8, "memory": 1e12})
    assert room_for({"CPU": 8, "GPU": 1}, there, most) == 8


def test_an_autoscaler_without_bound_makes_no_more_trials_than_fit_now() -> None:
    there = {"CPU": 16.0}
    most = at_most(there, {"CPU": sys.maxsize, "GPU": sys.maxsize})
    assert room_for({"CPU": 4}, there, most) == 4
    assert room_for({"CPU": 4, "GPU": 1}, there, most) == 1


@given(RESOURCES)
def test_a_trial_that_fits_nowhere_yet_is_waited_for(there: dict[str, float]) -> None:
    assert room_for({"GPU": 10**9}, there, at_most(there, None)) == 1
