"""The simulated run: the scheduler's rule on a cluster, with stages that take a known time."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xlt_ray.sweep.simulation import Job, best_concurrency, critical_path, simulate

TREE = [Job(("align", "small", "t0")), Job(("align", "small", "t1")), Job(("align", "large", "t2"))]
SECONDS = {"align": 10.0, "small": 5.0, "large": 7.0, "t0": 1.0, "t1": 2.0, "t2": 3.0}

jobs = st.lists(
    st.tuples(st.integers(0, 2), st.integers(0, 2), st.integers(1, 5)), min_size=1, max_size=12
).map(
    lambda rows: [
        (Job((f"a{first}", f"a{first}b{second}", f"own {number}")), float(seconds))
        for number, (first, second, seconds) in enumerate(rows)
    ]
)


def test_one_place_takes_the_sum_of_all_stages() -> None:
    outcome = simulate(TREE, SECONDS, 1, learns=False)
    assert outcome.finish_s == sum(SECONDS.values()) == sum(outcome.busy_s)
    assert sorted(outcome.made) == sorted(SECONDS)


def test_a_trial_starts_when_nobody_makes_its_next_stage() -> None:
    """The second place waits for ``align``, then makes ``large`` beside ``small``."""
    outcome = simulate(TREE, SECONDS, 2, learns=False)
    assert outcome.made == ("align", "small", "t0", "large", "t1", "t2")
    assert outcome.finish_s == 10 + 7 + 3
    assert outcome.busy_s == (16, 2, 10)


def test_what_the_store_and_a_start_take() -> None:
    job = [Job(("a", "b"))]
    outcome = simulate(
        job, {"a": 1.0, "b": 1.0}, 1, learns=False, trial_s=[4.0],
        result_bytes={"a": 10.0, "b": 1.0}, progress_bytes={"a": 30.0, "b": 50.0},
    )  # fmt: skip
    assert (outcome.finish_s, outcome.peak_bytes) == (6.0, 60.0)


def test_a_job_of_two_places_leaves_no_room_for_another() -> None:
    wide = [Job(("a",), slots=2.0), Job(("b",), slots=2.0)]
    assert simulate(wide, {"a": 1.0, "b": 1.0}, 2, learns=False).finish_s == 2.0


@given(jobs, st.integers(1, 6), st.booleans())
def test_no_stage_is_made_twice_and_no_bound_is_broken(
    rows: list[tuple[Job, float]], places: int, learns: bool
) -> None:
    trials = [job for job, _ in rows]
    seconds = {key: own_s for job, own_s in rows for key in job.stages}
    outcome = simulate(trials, seconds, places, learns=learns)
    assert sorted(outcome.made) == sorted(seconds)
    longest = sum(seconds[key] for key in critical_path(trials, seconds))
    total = sum(seconds.values())
    assert max(longest, total / places) <= outcome.finish_s + 1e-9
    assert outcome.finish_s <= total + 1e-9


def test_the_fewest_places_that_are_nearly_as_fast() -> None:
    best, times = best_concurrency(lambda places: max(8 / places, 2.1), 12)
    assert best == 4
    assert list(times) == [1, 2, 4, 8, 12]


def test_nothing_left_takes_no_time() -> None:
    assert simulate([], {}, 3, learns=False).finish_s == 0.0
    assert critical_path([], {}) == ()
    assert best_concurrency(lambda _: 0.0, 1)[0] == pytest.approx(1)
