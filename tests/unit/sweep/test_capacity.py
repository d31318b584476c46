"""How many trials the nodes of a cluster hold, and which could never be placed."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable
from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xlt_ray.config.facts import Facts
from xlt_ray.config.resources import Resources, Strategy
from xlt_ray.config.sweep import sweep_of
from xlt_ray.config.yaml import parse_document
from xlt_ray.errors import ClusterError
from xlt_ray.home import Home
from xlt_ray.ledger import Ledger
from xlt_ray.sweep import capacity, runner
from xlt_ray.sweep.capacity import (
    Capacity,
    Concurrency,
    Demand,
    Group,
    Node,
)
from xlt_ray.sweep.failures import ProcessFailures

NODES = st.lists(
    st.fixed_dictionaries({"CPU": st.integers(0, 6)}, optional={"GPU": st.integers(0, 3)}),
    max_size=4,
)
TWO_MODELS = """
name: t
data: {source: toy}
model: {choice: [toy:2x64, toy:4x64]}
target: {task: nli, source_language: qaa}
"""
STRATEGIES: tuple[Strategy, ...] = ("pack", "spread", "strict_pack", "strict_spread")


def most_trials(demand: Demand, places: list[int]) -> int:
    """Most trials, by trying every way to give one trial its places, again and again."""
    best = 0
    for chosen in itertools.combinations_with_replacement(range(len(places)), demand.workers):
        if demand.strategy == "strict_pack" and len(set(chosen)) > 1:
            continue
        if demand.strategy == "strict_spread" and len(set(chosen)) < demand.workers:
            continue
        left = [place - chosen.count(index) for index, place in enumerate(places)]
        if min(left) >= 0:
            best = max(best, 1 + most_trials(demand, left))
    return best


@given(
    places=st.lists(st.integers(0, 3), min_size=1, max_size=3),
    workers=st.integers(1, 3),
    strategy=st.sampled_from(STRATEGIES),
)
def test_as_many_trials_fit_as_any_way_of_placing_them_finds(
    places: list[int], workers: int, strategy: Strategy
) -> None:
    demand = Demand({"CPU": 2.0}, workers, strategy)
    # An odd CPU is of no use to a worker that asks for two.
    nodes = [{"CPU": 2 * place + 1} for place in places]
    assert demand.num_places(nodes) == most_trials(demand, places)


@given(NODES, st.integers(1, 100), st.integers(1, 3))
def test_a_share_of_a_gpu_never_spans_two(nodes: list[Node], hundredths: int, cpus: int) -> None:
    share = hundredths / 100
    demand = Demand({"CPU": float(cpus), "GPU": share})
    for node in nodes:
        of_one = 100 // hundredths
        assert demand.places(node) == min(node["CPU"] // cpus, int(node.get("GPU", 0)) * of_one)


def test_ten_tenths_use_a_gpu() -> None:
    # 1 // 0.1 is 9 among floats.
    assert Demand({"CPU": 1.0, "GPU": 0.1}).num_places([{"CPU": 64.0, "GPU": 1.0}]) == 10


def test_gpus_that_the_autoscaler_may_start_count() -> None:
    demand = Demand({"CPU": 8.0, "GPU": 1.0})
    groups = [Group({"CPU": 0}, 1), Group({"CPU": 8, "GPU": 1}, 8)]
    assert Capacity([{}], groups).can_hold(demand)
    assert Capacity([{}], groups).num_trials(demand) == 8


def test_an_unbounded_autoscaler_adds_no_trials() -> None:
    groups = [Group({"CPU": 4, "GPU": 1}, sys.maxsize)]
    capacity = Capacity([{"CPU": 16.0}], groups)
    assert capacity.num_trials(Demand({"CPU": 4.0})) == 4
    assert capacity.num_trials(Demand({"CPU": 4.0, "GPU": 1.0})) == 1
    assert Capacity([], groups).can_hold(Demand({"CPU": 4.0, "GPU": 1.0}, 100))


def test_an_unbounded_autoscaler_starts_nodes_up_to_the_limit_of_the_sweep() -> None:
    groups = [Group({"CPU": 4, "GPU": 1}, sys.maxsize)]
    demand = Demand({"CPU": 4.0, "GPU": 1.0})
    assert Capacity([{"CPU": 16.0}], groups).num_trials(demand, 32) == 32


@given(NODES)
def test_one_trial_may_wait_for_a_node(nodes: list[Node]) -> None:
    assert Capacity(nodes).num_trials(Demand({"GPU": 1000.0})) == 1


CLUSTER = [{"CPU": 4.0, "GPU": 1.0}, {"CPU": 4.0, "GPU": 1.0}]


@pytest.mark.parametrize(
    ("resources", "message"),
    [
        ({"workers": 3, "gpus_per_worker": 1}, "asks for 3 GPUs, the cluster has 2; lower"),
        ({"workers": 16}, "asks for 16 CPUs, the cluster has 8"),
        ({"cpus_per_worker": 6}, "6 CPUs for each worker, and no node of the cluster has that"),
        ({"workers": 8, "strategy": "strict_pack"}, "on one node"),
        ({"workers": 3, "strategy": "strict_spread"}, "on a node each"),
        ({"workers": 2, "cpus_per_worker": 3, "by_model": {"m": {"workers": 3}}},
         "a trial of m asks for 9 CPUs"),
        ({"by_model": {"m": {"workers": 2, "cpus_per_worker": 3, "strategy": "strict_pack"}}},
         "a trial of m asks for 2 workers with 3 CPUs each on one node"),
    ],
    ids=str,
)  # fmt: skip
def test_an_impossible_demand_is_refused(resources: dict[str, object], message: str) -> None:
    with pytest.raises(ClusterError) as refused:
        Capacity(CLUSTER).refuse_impossible(Resources.model_validate(resources), ["m"])
    assert message in str(refused.value)


@pytest.mark.parametrize(
    "resources",
    [
        {"workers": 8},
        {"workers": 2, "gpus_per_worker": 1, "strategy": "strict_spread"},
        {"workers": 4, "strategy": "strict_pack"},
        # No trial has what stands above the table.
        {"workers": 100, "by_model": {"m": {"workers": 1}}},
        {"gpus_per_worker": 0.25},
    ],
    ids=str,
)
def test_a_possible_demand_is_not_refused(resources: dict[str, object]) -> None:
    Capacity(CLUSTER).refuse_impossible(Resources.model_validate(resources), ["m"])


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """``clock(s)`` lets so many seconds pass."""
    now = [100.0]
    monkeypatch.setattr(capacity.time, "monotonic", lambda: now[0])

    def pass_by(seconds: float) -> None:
        now[0] += seconds

    return pass_by


def test_concurrency_follows_nodes_that_come_and_go(clock: Callable[[float], None]) -> None:
    nodes: list[Node] = [{"CPU": 2}]
    concurrency = Concurrency(
        [Demand({"CPU": 1.0}), Demand({"CPU": 1.0}, 2)], lambda: None, lambda: Capacity(nodes)
    )
    assert concurrency() == 2
    nodes.append({"CPU": 3})
    assert concurrency() == 2, "the cluster is not read all the time"
    clock(capacity.REFRESH_S)
    assert concurrency() == 5
    nodes.clear()
    clock(capacity.REFRESH_S)
    assert concurrency() == 1


def test_a_sweep_may_limit_its_concurrency() -> None:
    limits = [3]
    capacity = Capacity([{"CPU": 8}])
    assert Concurrency([Demand({"CPU": 1.0})], lambda: limits[0], lambda: capacity)() == 3


@pytest.mark.parametrize(
    ("text", "most"),
    [
        ("search: {trials: 40}", capacity.MAX_NODES),
        ("search: {trials: 40, concurrent: 32}", 32),
        # Ray would give small places to others for ever, while this one waits for a large one.
        ("search: {trials: 40}\nresources: {by_model: {toy:4x64: {workers: 2}}}", 1),
    ],
)
def test_tune_requests_places_for_all_trials_that_may_run(
    text: str, most: int, facts: Facts, home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As its controller reads it: one after another, an autoscaler would bring nodes."""
    from ray.tune.execution.tune_controller import _get_max_pending_trials
    from ray.tune.search import SearchGenerator

    monkeypatch.delenv("TUNE_MAX_PENDING_TRIALS_PG", raising=False)
    sweep = sweep_of(parse_document(f"{TWO_MODELS}{text}", "t.yaml"))
    pending: list[int] = []

    class Tuner:
        def __init__(self, _: object, tune_config: Any, **__: object) -> None:
            self._generator = SearchGenerator(tune_config.search_alg)

        def fit(self) -> None:
            pending.append(_get_max_pending_trials(self._generator))

    monkeypatch.setattr("ray.tune.Tuner", Tuner)
    monkeypatch.setattr(runner, "connect", lambda _: None)
    monkeypatch.setattr(runner, "stoppable", nullcontext)
    scheduler: Any = SimpleNamespace(
        sweep=sweep, facts=facts, reporter=SimpleNamespace(warned=None)
    )
    process_failures = ProcessFailures(sweep.settings.failures, home.hangs("t"))
    runner._tune(scheduler, home, process_failures, cast("Ledger", None))
    assert pending == [most]
