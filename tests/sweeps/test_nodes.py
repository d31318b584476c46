"""Sweeps on a cluster of several nodes, which come and go: Ray's own test cluster on this machine.

Every worker notes each step with the node that it is on, and can be held before a step, so that
what happens to nodes happens at a known step and no clock is asked.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.sweeps.conftest import XLT, Place
from tests.sweeps.spoiling import write_spoilt
from tests.sweeps.test_faults import wait_for

WITNESS = """
_steps = 0


def meet(engine, micro_batches):
    import time
    from pathlib import Path

    import ray
    import torch

    global _steps
    _steps += 1
    here = Path(__file__).parent
    node, rank = ray.get_runtime_context().get_node_id(), torch.distributed.get_rank()
    rows = sum(len(batch["labels"]) for passes in micro_batches for batch in passes)
    width = next(engine.network.parameters()).shape[-1]
    with (here / "steps").open("a") as file:
        file.write(f"{node} {rank} {rows} {width}\\n")
    broken = here / "broken"
    if broken.exists() and node in broken.read_text():
        raise RuntimeError("CUDA error: uncorrectable ECC error encountered")
    while (here / "hold").exists() and _steps >= int((here / "hold").read_text()):
        time.sleep(0.05)
"""
CPUS = 2
_SIZE = {"object_store_memory": 80 * 2**20}

SWEEP = (
    "intermediate=null", "target.hybrid.ratio=0", "target.fusion={method: none}",
    "evaluate.examples=10",
)  # fmt: skip
APART = ("resources.workers=2", "resources.zero_stage=2", "resources.strategy=strict_spread")


@dataclass(frozen=True)
class Step:
    """One worker's part of one optimizer step."""

    node: str
    rank: int
    rows: int
    width: int
    """Of the model: which trial it was."""


@dataclass
class RayNodes:
    """A Ray cluster: a head without CPUs, and nodes with :data:`CPUS` CPUs each."""

    cluster: Any
    spoilt: Path
    nodes: list[Any] = field(default_factory=list)

    def add(self) -> str:
        """Start a node; return its id."""
        node = self.cluster.add_node(num_cpus=CPUS, **_SIZE)
        self.nodes.append(node)
        return str(node.node_id)

    def lose(self, node_id: str) -> None:
        """Kill a node with all of its processes."""
        node = next(node for node in self.nodes if node.node_id == node_id)
        self.nodes.remove(node)
        (raylet,) = node.all_processes["raylet"]
        descendants = psutil.Process(raylet.process.pid).children(recursive=True)
        self.cluster.remove_node(node, allow_graceful=False)
        # Its workers would run until they notice that it is gone.
        for process in descendants:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(descendants, 30)

    def drain(self, node_id: str) -> None:
        """Announce that a node will be taken away, as a cloud does for a spot machine."""
        subprocess.run(
            [
                *(str(XLT.with_name("ray")), "drain-node", "--address", str(self.cluster.address)),
                *("--node-id", node_id, "--reason", "DRAIN_NODE_REASON_PREEMPTION"),
                *("--reason-message", "spot", "--deadline-remaining-seconds", "600"),
            ],
            check=True,
        )

    def reset(self, num_nodes: int) -> list[str]:
        """Run ``num_nodes`` nodes without steps, holds or broken devices; the ids of the nodes."""
        for file in ("steps", "hold", "broken"):
            (self.spoilt / file).unlink(missing_ok=True)
        while len(self.nodes) > num_nodes:
            self.lose(self.nodes[-1].node_id)
        while len(self.nodes) < num_nodes:
            self.add()
        return [str(node.node_id) for node in self.nodes]

    def hold(self, step: int) -> None:
        """Every process stops before its step of this number, until :meth:`release`."""
        file = self.spoilt / "hold.new"
        file.write_text(str(step))
        file.rename(self.spoilt / "hold")

    def break_devices(self, *nodes: str) -> None:
        """Every step on these nodes fails from now on; without arguments, no step fails."""
        (self.spoilt / "broken").write_text(" ".join(nodes))

    def release(self) -> None:
        (self.spoilt / "hold").unlink()

    def steps(self) -> list[Step]:
        file = self.spoilt / "steps"
        lines = file.read_text().splitlines() if file.exists() else []
        split = [line.split() for line in lines]
        return [
            Step(node, int(rank), int(rows), int(width))
            for node, rank, rows, width in (fields for fields in split if len(fields) == 4)
        ]


@pytest.fixture(scope="module")
def ray_nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RayNodes]:
    """One cluster for all tests of this file: starting it takes longer than any of them."""
    from ray.cluster_utils import Cluster

    spoilt = tmp_path_factory.mktemp("witness") / "spoilt"
    path = write_spoilt(spoilt, WITNESS)
    with pytest.MonkeyPatch.context() as patch:
        # Ray gives its workers the lowest priority; on a busy machine they would never finish.
        patch.setenv("RAY_worker_niceness", "0")
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("PYTHONPATH", path)
        head = {"num_cpus": 0, "include_dashboard": False, **_SIZE}
        cluster = Cluster(initialize_head=True, head_node_args=head)
        try:
            yield RayNodes(cluster, spoilt)
        finally:
            cluster.shutdown()


@pytest.fixture
def cluster_place(place: Place, ray_nodes: RayNodes) -> Place:
    """A place whose sweeps run on the cluster."""
    return replace(place, variables={"RAY_ADDRESS": str(ray_nodes.cluster.address)})


def until(place: Place, driver: subprocess.Popen[str], happened: Callable[[], bool]) -> None:
    wait_for(happened, driver, place)


def examples(steps: list[Step]) -> int:
    return sum(step.rows for step in steps)


@pytest.mark.long
def test_each_trial_has_what_its_model_has_in_the_table(
    cluster_place: Place, ray_nodes: RayNodes
) -> None:
    nodes = ray_nodes.reset(2)
    run = cluster_place.xlt(
        "run", "small.yaml", *SWEEP, "model={choice: ['toy:2x32', 'toy:2x64']}", "search.trials=2",
        "resources={workers: 2, zero_stage: 2, by_model: {'toy:2x64': {strategy: strict_spread},"
        " 'toy:2x32': {workers: 1, cpus_per_worker: 2, zero_stage: 0}}}",
    )  # fmt: skip
    assert run.returncode == 0, run.stdout + run.stderr
    assert [trial["state"] for trial in cluster_place.trials()] == ["complete"] * 2
    small, large = (
        [step for step in ray_nodes.steps() if step.width == width] for width in (32, 64)
    )
    assert {worker.rank for worker in small} == {0}
    assert {worker.rank: worker.node for worker in large}.keys() == {0, 1}
    assert {worker.node for worker in large} == set(nodes), "a node for each worker"
    assert len({(worker.rank, worker.node) for worker in large}) == 2
    assert examples(small) == examples(large) == 256


@pytest.mark.long
def test_a_trial_that_lost_a_node_goes_on_when_another_one_comes(
    cluster_place: Place, ray_nodes: RayNodes
) -> None:
    kept, lost = ray_nodes.reset(2)
    ray_nodes.hold(9)
    # Progress at every step, so that nothing but the step at hand is lost.
    driver = cluster_place.start(
        "run", "small.yaml", *SWEEP, *APART, "search.trials=1", "progress.every=0.001"
    )
    until(cluster_place, driver, lambda: len(ray_nodes.steps()) == 2 * 9)
    assert {step.node for step in ray_nodes.steps()} == {kept, lost}
    ray_nodes.lose(lost)
    ray_nodes.release()
    came = ray_nodes.add()
    assert driver.wait(400) == 0, cluster_place.log()
    (trial,) = cluster_place.trials()
    assert (trial["state"], trial["attempts"]) == ("complete", 2)
    after = ray_nodes.steps()[2 * 9 :]
    assert {worker.node for worker in after} == {kept, came}
    # 8 of 16 steps were kept; the ninth was begun twice.
    assert examples(after) == 8 * 16, after
    assert examples(ray_nodes.steps()) == 17 * 16


@pytest.mark.long
def test_a_node_that_comes_while_a_sweep_runs_takes_a_trial(
    cluster_place: Place, ray_nodes: RayNodes
) -> None:
    (first,) = ray_nodes.reset(1)
    ray_nodes.hold(5)
    driver = cluster_place.start(
        "run", "small.yaml", *SWEEP, "target.learning_rate={choice: [1e-3, 2e-3]}",
        "search.trials=2", f"resources.cpus_per_worker={CPUS}",
    )  # fmt: skip
    until(cluster_place, driver, lambda: len(ray_nodes.steps()) == 5)
    second = ray_nodes.add()
    # The first trial is at its fifth step still.
    until(cluster_place, driver, lambda: len(ray_nodes.steps()) == 10)
    assert {step.node for step in ray_nodes.steps()} == {first, second}
    ray_nodes.release()
    assert driver.wait(400) == 0, cluster_place.log()
    assert [trial["attempts"] for trial in cluster_place.trials()] == [1, 1]


@pytest.mark.long
def test_trials_on_a_lost_node_go_on_elsewhere(cluster_place: Place, ray_nodes: RayNodes) -> None:
    kept, lost = ray_nodes.reset(2)
    ray_nodes.hold(9)
    driver = cluster_place.start(
        "run", "small.yaml", *SWEEP, "target.learning_rate={choice: [1e-3, 2e-3]}",
        "search.trials=2", f"resources.cpus_per_worker={CPUS}", "progress.every=0.001",
    )  # fmt: skip
    until(cluster_place, driver, lambda: len(ray_nodes.steps()) == 2 * 9)
    ray_nodes.lose(lost)
    ray_nodes.release()
    assert driver.wait(400) == 0, cluster_place.log()
    assert sorted(trial["attempts"] for trial in cluster_place.trials()) == [1, 2]
    assert {step.node for step in ray_nodes.steps()[2 * 9 :]} == {kept}
    assert examples(ray_nodes.steps()) == 2 * 256 + 16, "one step twice"


@pytest.mark.long
@pytest.mark.parametrize("workers", [1, 2])
def test_trials_save_progress_and_leave_a_node_that_is_announced_to_go(
    cluster_place: Place, ray_nodes: RayNodes, workers: int
) -> None:
    first, second = ray_nodes.reset(2)
    ray_nodes.hold(9)
    driver = cluster_place.start(
        "run", "small.yaml", *SWEEP, "search.trials=1", "target.epochs=6", "progress.every=3600",
        f"resources={{workers: {workers}, cpus_per_worker: {CPUS // workers}, zero_stage: 0}}",
    )  # fmt: skip
    until(cluster_place, driver, lambda: len(ray_nodes.steps()) == 9 * workers)
    (node,) = {step.node for step in ray_nodes.steps()}
    ray_nodes.drain(node)
    for step in range(10, 48):
        # The trial learns it at its next report, and ends at its next event: both within seconds.
        ray_nodes.hold(step)
        time.sleep(1)
        if "preempted" in cluster_place.log():
            break
    ray_nodes.release()
    assert driver.wait(400) == 0, cluster_place.log()
    (trial,) = cluster_place.trials()
    assert (trial["state"], trial["attempts"]) == ("complete", 2), cluster_place.log()
    assert "preempted" in cluster_place.log()
    assert {step.node for step in ray_nodes.steps()} == {first, second}
    assert examples(ray_nodes.steps()) == 6 * 128, "no step is made twice"


THREE = ("target.learning_rate={choice: [1e-3, 2e-3, 3e-3]}", "search.trials=3")


@pytest.mark.long
@pytest.mark.parametrize("workers", [1, 2])
def test_a_node_whose_devices_fail_is_left_and_its_trials_go_on_elsewhere(
    cluster_place: Place, ray_nodes: RayNodes, workers: int
) -> None:
    good, bad = ray_nodes.reset(2)
    ray_nodes.break_devices(bad)
    run = cluster_place.xlt(
        "run", "small.yaml", *SWEEP, *THREE, "failures.leave_node_after=2",
        f"resources={{workers: {workers}, cpus_per_worker: {CPUS // workers}, zero_stage: 0}}",
    )  # fmt: skip
    assert run.returncode == 0, run.stdout + run.stderr
    assert f"({bad[:8]}) gets no further trial: its devices failed 2 times" in run.stdout
    trials = cluster_place.trials()
    assert [trial["state"] for trial in trials] == ["complete"] * 3
    assert sum(trial["attempts"] for trial in trials) == 5
    assert sum(step.node == bad and step.rank == 0 for step in ray_nodes.steps()) <= 2
    assert examples([step for step in ray_nodes.steps() if step.node == good]) == 3 * 256
    (row,) = json.loads(cluster_place.xlt("status", "--json").stdout)
    assert [name.split()[-1] for name in row["left_nodes"]] == [f"({bad[:8]})"]


@pytest.mark.long
def test_a_sweep_whose_nodes_were_all_left_ends_and_goes_on_when_they_are_mended(
    cluster_place: Place, ray_nodes: RayNodes
) -> None:
    ray_nodes.break_devices(*ray_nodes.reset(2))
    command = ("run", "small.yaml", *SWEEP, *THREE, "failures.leave_node_after=1",
               f"resources.cpus_per_worker={CPUS}")  # fmt: skip
    run = cluster_place.xlt(*command)
    assert run.returncode == 1, run.stdout + run.stderr
    assert "no node is left that can hold a trial" in run.stdout
    assert "Traceback" not in run.stdout + run.stderr
    assert "failed" not in [trial["state"] for trial in cluster_place.trials()]
    ray_nodes.break_devices()
    again = cluster_place.xlt(*command)
    assert again.returncode == 0, again.stdout + again.stderr
    assert [trial["state"] for trial in cluster_place.trials()] == ["complete"] * 3
