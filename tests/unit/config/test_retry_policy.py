"""The ``failures`` section of a sweep file: policies, their defaults, what is refused."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from xlt_ray.config.retry_policy import CAUSES, Failures, Policy
from xlt_ray.config.sweep import SweepSpec
from xlt_ray.errors import SpecErrors

TEXT = """
name: t
data: {source: toy}
model: toy:2x64
target: {task: nli, source_language: qaa}
search: {trials: 1}
"""
ReadSweep = Callable[..., SweepSpec]


def test_every_cause_has_a_policy_and_an_explanation() -> None:
    for cause in CAUSES:
        assert Failures().policy(cause).action in ("fail", "retry", "wait", "shrink")
        assert Failures.model_fields[cause].description


@pytest.mark.parametrize(
    ("override", "cause", "policy"),
    [
        ("failures.lost.times=0", "lost", Policy(action="retry", times=0)),
        ("failures={oom: {times: 1}}", "oom", Policy(action="shrink", times=1)),
        ("failures={oom: {action: fail}}", "oom", Policy(action="fail")),
        ("failures={nan: {action: retry}}", "nan", Policy(action="retry", times=2)),
        (
            "failures={storage: {seconds: 1.5}}",
            "storage",
            Policy(action="wait", times=6, seconds=1.5),
        ),
        (
            "failures={disk: {action: wait, times: 9, seconds: 30}}",
            "disk",
            Policy(action="wait", times=9, seconds=30),
        ),
    ],
)
def test_what_is_left_out_of_a_policy_is_as_it_would_be(
    sweep_from: ReadSweep, override: str, cause: str, policy: Policy
) -> None:
    failures = sweep_from(TEXT, override).settings.failures
    assert failures.policy(cause) == policy  # type: ignore[arg-type]
    others = Failures()
    for other in CAUSES:
        assert other == cause or failures.policy(other) == others.policy(other)


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("failures.oms.times=1", "did you mean oom?"),
        ("failures={nan: {action: shrink}}", "shrink only helps against oom"),
        ("failures={lost: {action: wait}}", "the process that would wait is gone"),
        ("failures={timeout: {action: wait}}", "use retry or fail"),
        ("failures={oom: {action: pray}}", "failures.oom.action"),
        ("failures.lost.times=-1", "failures.lost.times"),
        ("failures.hang_after=0", "failures.hang_after"),
        ("failures.lost=3", "failures.lost"),
        ("search.retries=2", "search.retries: unknown key"),
    ],
)
def test_a_policy_that_cannot_be_is_refused_by_name(
    sweep_from: ReadSweep, override: str, says: str
) -> None:
    with pytest.raises(SpecErrors) as caught:
        sweep_from(TEXT, override)
    assert says in str(caught.value)


def test_a_policy_ends_after_its_times() -> None:
    twice = Policy(action="retry", times=2)
    assert [twice.allows(tries) for tries in range(4)] == [True, True, False, False]
    assert not Policy(action="fail", times=9).allows(0)


def test_pauses_double_up_to_ten_minutes_and_only_those_who_wait_pause() -> None:
    waiting = Policy(action="wait", seconds=30)
    assert [waiting.pause(tries) for tries in range(6)] == [30, 60, 120, 240, 480, 600]
    assert waiting.pause(10**6) == 600
    assert Policy(action="retry", seconds=30).pause(3) == 0
