"""The forecast of a plan: what is left, learnt from the home, on a cluster."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import psutil
import pytest

from xlt_ray.config.facts import Facts
from xlt_ray.config.resources import Resources
from xlt_ray.config.sweep import SweepSpec
from xlt_ray.errors import ClusterError
from xlt_ray.home import Home
from xlt_ray.store.record import StageRecord
from xlt_ray.store.stage import Stage
from xlt_ray.store.store import StageStore
from xlt_ray.sweep.forecast import Cluster, Forecast, forecast_of, memory_warnings
from xlt_ray.sweep.plan import Plan, plan_of
from xlt_ray.training.usage import UsageMeter

TEXT = """
name: t
data: {source: toy}
model: toy:2x64
intermediate: {task: pairs, size: {choice: [100, 200]}, epochs: 1, batch_size: 10}
target:
  task: nli
  source_language: qaa
  size: 50
  epochs: 1
  batch_size: 10
  learning_rate: {choice: [1e-4, 1e-3]}
evaluate: {examples: 10}
search: {trials: 99, sampler: grid, seeds: 3}
"""
ReadSweep = Callable[..., SweepSpec]
ONE = Cluster(1, {"CPU": 1.0}, "this machine")


@pytest.fixture
def forecast(sweep_from: ReadSweep, facts: Facts, home: Home) -> Callable[..., Any]:
    """``forecast("search.seeds=1", cluster=...)``: plan and forecast of the sweep, changed."""

    def made(*overrides: str, cluster: Cluster = ONE) -> tuple[Plan, Forecast]:
        sweep, store = sweep_from(TEXT, *overrides), StageStore(home.stages)
        plan = plan_of(sweep, facts, store, None)
        return plan, forecast_of(sweep, facts, plan, store, home, cluster)

    return made


def record(stage: Stage, home: Home, wall_s: float) -> None:
    store = StageStore(home.stages)
    folder = store.scratch / stage.key
    folder.mkdir(parents=True)
    lease: Any = store.lease(stage.key)
    made = StageRecord(
        stage.key, stage.payload, stage.label, {}, num_examples=stage.num_examples,
        usage={"wall_s": wall_s}, runtime={"device": "cpu", "workers": 1, "threads": 1},
        made_by={"sweep": "earlier"},
    )  # fmt: skip
    with lease:
        store.commit(stage, folder, made, lease)


def test_one_place_takes_all_trials_and_more_places_no_longer(
    forecast: Callable[..., Any],
) -> None:
    plan, alone = forecast()
    stages = sum(estimate.median for estimate in alone.stage_s.values())
    trials = len(plan.trials) * 4.0
    # The median of a sum of skewed times is above the sum of their medians.
    assert stages + trials < alone.finish_h.median * 3600 < 1.6 * (stages + trials)
    assert alone.finish_h.low < alone.finish_h.median < alone.finish_h.high
    assert alone.unshared_device_h.median > alone.device_h.median
    _, many = forecast(cluster=Cluster(4, {"CPU": 2.0}, "the cluster", price=3.0))
    assert many.concurrency == 8
    assert many.critical_h.median <= many.finish_h.median < alone.finish_h.median
    assert many.money == many.finish_h * 12.0
    assert list(many.finish_by_concurrency) == [1, 2, 4, 8]


def test_records_of_the_store_are_learnt_from(forecast: Callable[..., Any], home: Home) -> None:
    plan, before = forecast()
    targets = [planned.stage for planned in plan.stages if planned.stage.kind == "target"]
    for stage in targets[:4]:
        record(stage, home, wall_s=70.0)
    _, after = forecast()
    assert (before.num_observations, after.num_observations) == (0, 4)
    last = targets[-1].key
    assert before.stage_s[last].median < 20
    assert after.stage_s[last].median == pytest.approx(70, rel=0.2)
    width = [each.stage_s[last].high / each.stage_s[last].low for each in (before, after)]
    assert width[1] < width[0] / 2
    assert any("cpu" in line for line in before.unknown)
    assert not any("cpu" in line for line in after.unknown)


def test_a_finished_sweep_has_nothing_left(forecast: Callable[..., Any], home: Home) -> None:
    plan, _ = forecast("search.seeds=1")
    for planned in plan.stages:
        record(planned.stage, home, wall_s=1.0)
    _, after = forecast("search.seeds=1")
    assert after.stage_s == {}
    assert after.critical_path == ()
    assert after.unknown == ()


def test_early_stopping_is_said_not_to_be_foreseen(forecast: Callable[..., Any]) -> None:
    _, made = forecast("early_stop={method: asha, grace: 0.25}", "target.size=400")
    assert any("upper bound" in line for line in made.unknown)


def test_a_cluster_that_can_hold_no_trial_is_refused(forecast: Callable[..., Any]) -> None:
    with pytest.raises(ClusterError, match="GPU"):
        forecast("resources.gpus_per_worker=1", cluster=Cluster(2, {"CPU": 8.0}, "the cluster"))


def test_nodes_with_gpus_have_enough_cpus() -> None:
    gpu = Cluster.of(Resources(gpus_per_worker=1, cpus_per_worker=4), ["m"], 2, 8)
    assert gpu.capacity.num_trials(next(iter(_demands(gpu)))) == 16
    assert Cluster.of(Resources(cpus_per_worker=10**6), ["m"]).place != "this machine"


def _demands(_: Cluster) -> Any:
    from xlt_ray.sweep.capacity import Demand

    return [Demand.of(Resources(gpus_per_worker=1, cpus_per_worker=4))]


def test_too_little_memory_is_a_warning(
    sweep_from: ReadSweep, facts: Facts, monkeypatch: pytest.MonkeyPatch
) -> None:
    sweep = sweep_from(TEXT)
    assert not memory_warnings(sweep, facts, ())
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(total=2**28))
    (warning,) = memory_warnings(sweep, facts, ())
    assert "toy:2x64" in str(warning)
    assert warning.fields["key"] == "resources"


def test_the_peak_of_a_stage_is_its_own() -> None:
    first = UsageMeter()
    block = bytearray(200 * 2**20)
    peak = first.read()["peak_memory_gib"]
    del block
    second = UsageMeter().read()["peak_memory_gib"]
    assert peak - second > 0.15


def test_kept_layers_are_those_that_are_counted(forecast: Callable[..., Any], facts: Facts) -> None:
    _, whole = forecast("model={name: 'toy:4x64'}")
    _, cut = forecast("model={name: 'toy:4x64', layers: 2}")
    assert cut.flops == pytest.approx(whole.flops / 2)
    assert replace(facts.models["toy:4x64"], num_layers=2).num_layers == 2
