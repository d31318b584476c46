"""Intermediate sizes as a ladder: a larger size continues the trunk of a smaller one."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from xlt_ray.config.trial import num_steps, trunk_steps
from xlt_ray.store.stage import Stage
from xlt_ray.store.stage_path import StagePath, stages_to_run

PathWith = Callable[..., StagePath]

WSD = {"intermediate.schedule": "wsd", "intermediate.batch_size": 4}
SIZES = (16, 32, 64, 128, 256, 500)


def kinds(path: StagePath) -> list[str]:
    return [stage.kind for stage in path]


def climb(path_with: PathWith, size: int, **more: object) -> StagePath:
    return path_with({**WSD, "intermediate.size": size, **more}, sizes=SIZES)


def test_linear_decay_has_no_trunk_and_its_key_is_that_of_a_sweep_without_schedules(
    path_with: PathWith,
) -> None:
    plain = path_with()
    linear = path_with({"intermediate.schedule": "linear"}, sizes=SIZES)
    assert kinds(linear) == ["model", "align", "intermediate", "target", "evaluate"]
    assert [stage.key for stage in linear] == [stage.key for stage in plain]


def test_no_key_depends_on_the_other_sizes_of_the_sweep(path_with: PathWith) -> None:
    alone = path_with({**WSD, "intermediate.size": 128})
    climbed = climb(path_with, 128)
    assert kinds(alone).count("trunk") == 1
    assert kinds(climbed).count("trunk") == 4, "16, 32, 64 and its own"
    assert {stage.key for stage in alone} < {stage.key for stage in climbed}
    assert alone[-1].key == climbed[-1].key


def test_a_larger_size_goes_on_from_the_trunks_of_the_smaller_ones(path_with: PathWith) -> None:
    small, large = climb(path_with, 64), climb(path_with, 128)
    trunks = [stage for stage in large if stage.kind == "trunk"]
    assert [trunk.key for trunk in trunks[:-1]] == [
        stage.key for stage in small if stage.kind == "trunk"
    ]
    assert len({trunk.ladder for trunk in trunks}) == 1
    assert [trunk.starts_at for trunk in trunks[1:]] == [trunk.ends_at for trunk in trunks[:-1]]
    last = next(stage for stage in large if stage.kind == "intermediate")
    assert last.parent is trunks[-1]
    assert (last.starts_at, last.ends_at) == (trunks[-1].ends_at, 128)


# The fixture is a pure function: nothing of one example reaches the next.
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    size=st.integers(1, 500),
    sizes=st.sets(st.integers(1, 500), max_size=6),
    batch_size=st.integers(1, 64),
)
def test_the_examples_of_a_path_are_those_of_one_pass_whatever_the_sizes(
    path_with: PathWith, size: int, sizes: set[int], batch_size: int
) -> None:
    values = {**WSD, "intermediate.size": size, "intermediate.batch_size": batch_size}
    path = path_with(values, sizes=tuple(sizes))
    climbed = [stage for stage in path if stage.kind in ("trunk", "intermediate")]
    total = sum(stage.num_examples for stage in climbed)
    assert total == num_steps(size, 1, batch_size) * batch_size
    assert all(stage.num_examples > 0 for stage in climbed)


def test_six_doubling_sizes_cost_at_most_a_quarter_more_than_the_largest_alone(
    path_with: PathWith,
) -> None:
    sizes = (15, 31, 62, 125, 250, 500)
    paths = [
        path_with({**WSD, "intermediate.batch_size": 1, "intermediate.size": size}, sizes=sizes)
        for size in sizes
    ]
    stages: dict[str, Stage] = {
        stage.key: stage
        for path in paths
        for stage in stages_to_run(path)
        if stage.kind in ("trunk", "intermediate")
    }
    assert sum(stage.num_examples for stage in stages.values()) <= 1.25 * 500


def test_the_length_of_the_decay_changes_no_step_of_the_trunk(path_with: PathWith) -> None:
    schedule = {"method": "wsd", "decay": 0.5}
    long, short = (
        next(stage for stage in path_with(values) if stage.kind == "trunk")
        for values in (
            {**WSD, "intermediate.size": 128, "intermediate.schedule": schedule},
            {**WSD, "intermediate.size": 128},
        )
    )
    assert long.ladder == short.ladder
    assert long.settings["steps"] < short.settings["steps"]


def test_several_passes_share_nothing_between_sizes(path_with: PathWith) -> None:
    schedule = {"method": "wsd", "several_epochs": "separate"}
    path = climb(path_with, 64, **{"intermediate.schedule": schedule, "intermediate.epochs": 2})
    assert "trunk" not in kinds(path)


@pytest.mark.parametrize("steps", range(1, 12))
def test_a_decay_has_one_step_at_least(steps: int) -> None:
    assert 0 <= trunk_steps(steps, 0.01) < steps
