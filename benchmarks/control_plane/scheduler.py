"""The driver with simulated workers.

Real are the scheduler, the ledger (an Optuna study in a journal file), reads of the stage store,
the thread that writes MLflow, and with ``--mlflow sqlite`` MLflow, too; otherwise each update is
done at once. Simulated is what happens in trial processes: an event loop plays
the workers, which put records of no content into the store and report what a trial reports.
"""

from __future__ import annotations

import resource
import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.control_plane.clocks import Clocks, median_and_p95, timed
from benchmarks.control_plane.scenario import Silent, the_facts, the_sweep
from benchmarks.control_plane.workers import Workers
from xlt_ray.config.facts import Facts
from xlt_ray.config.sweep import SweepSpec
from xlt_ray.home import Home
from xlt_ray.ledger import Ledger, load_ledger, open_ledger
from xlt_ray.store.store import StageStore
from xlt_ray.sweep.scheduler import TrialScheduler
from xlt_ray.sweep.tasks import Planner
from xlt_ray.tracking import LedgerSnapshot, MlflowSync, Tracker
from xlt_ray.tracking.sync import Job

WINDOW = 200
"""Trials over which the median is taken."""


class NoMlflow(MlflowSync):
    """Takes every update at once."""

    def _is_answered(self, job: Job) -> bool:
        if isinstance(job, int):
            with self._changed:
                self._reply(self._trials[job].view, f"{job:032x}")
        return True


@dataclass(frozen=True)
class Moment:
    """How things stand when so many trials have ended."""

    num_trials: int
    seconds: float
    num_waiting: int
    memory_mib: float
    ledger_mib: float


def sync_of(
    mlflow: str, sweep: SweepSpec, facts: Facts, home: Home, ledger: Ledger, store: StageStore
) -> MlflowSync:
    """To MLflow with its SQLite database, or with ``none`` to nothing."""
    kind = MlflowSync if mlflow == "sqlite" else NoMlflow
    tracker = Tracker(home, sweep.name, None, ledger.identity)
    return kind(
        tracker,
        store,
        LedgerSnapshot.of(ledger),
        sweep.resolved(),
        Planner(sweep, facts, home).config_and_path,
    )


def run_scheduler(
    trials: int,
    workers: int,
    sampler: str,
    most_waiting: int,
    mlflow: str,
    overrides: Sequence[str],
) -> None:
    search = f"search={{trials: {trials}, sampler: {sampler}, concurrent: {workers}}}"
    sweep, facts = the_sweep([search, *overrides]), the_facts()
    with tempfile.TemporaryDirectory() as name:
        home = Home(Path(name) / "home")
        ledger = open_ledger(home, sweep)
        store = StageStore(home.stages)
        clocks, reporter = Clocks(), Silent()
        clocks.watch(ledger, "tell_complete")
        moments: list[Moment] = []
        waited_s = 0.0
        began = time.monotonic()
        with sync_of(mlflow, sweep, facts, home, ledger, store) as sync:
            scheduler = TrialScheduler(sweep, facts, home, ledger, store, sync, reporter)
            clocks.watch(scheduler, "_ask")
            world = Workers(scheduler, store, clocks)
            due, last = trials // 10, 0
            while True:
                while scheduler.num_running < workers:
                    task = clocks.next_task(scheduler, last)
                    if task is None:
                        break
                    world.take(task)
                if not world:
                    assert scheduler.is_done, "nothing happens, and the sweep is not at its end"
                    break
                last = world.step()
                if world.num_finished >= min(due, trials):
                    moments.append(_moment(world.num_finished, began, sync.num_dirty, home))
                    print(moments[-1], flush=True)
                    due += trials // 10
                clock = time.perf_counter()
                while sync.num_dirty > most_waiting:
                    time.sleep(0.01)
                waited_s += time.perf_counter() - clock
            num_waiting = sync.num_dirty
            clock = time.perf_counter()
            while sync.num_dirty:
                time.sleep(0.01)
            print(f"{num_waiting} updates were left; sent in {time.perf_counter() - clock:.0f} s")
            scheduler.close(is_finished=True)
        again, spent = timed(lambda: load_ledger(home, "scale"))
        print(f"to read the ledger again takes {spent.cpu:.1f} s of cpu")
        assert [trial.state for trial in again.trials()] == ["complete"] * trials
        assert not reporter.warnings, reporter.warnings
    _print_table(clocks, moments)
    print(f"the workers waited {waited_s:.0f} s for MLflow")


def _moment(num_trials: int, began: float, num_waiting: int, home: Home) -> Moment:
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    size = home.ledger_journal("scale").stat().st_size / 2**20
    return Moment(num_trials, time.monotonic() - began, num_waiting, memory, size)


def _print_table(clocks: Clocks, moments: Sequence[Moment]) -> None:
    table = Table("trial", "cpu, ms", "p95", "wall, ms", "p95", "ask, ms", "tell, ms", "waiting",
                  "memory, MiB", "ledger, MiB")  # fmt: skip
    medians = []
    for moment in moments:
        last = moment.num_trials
        window = range(max(last - WINDOW, 0), last)
        spent = [clocks.by_trial[number] for number in window]
        calls = {name: one[window.start : window.stop] for name, one in clocks.calls.items()}
        medians.append(statistics.median(one.cpu for one in spent))
        table.add_row(
            f"{last:,}",
            *median_and_p95([one.cpu for one in spent]),
            *median_and_p95([one.wall for one in spent]),
            median_and_p95([call.cpu for call in calls["_ask"]])[0],
            median_and_p95([call.cpu for call in calls["tell_complete"]])[0],
            f"{moment.num_waiting:,}",
            f"{moment.memory_mib:.0f}",
            f"{moment.ledger_mib:.1f}",
        )
    Console(width=110).print(table)
    print(f"cpu at trial {moments[-1].num_trials} / at {moments[0].num_trials}: "
          f"{medians[-1] / medians[0]:.2f}")  # fmt: skip
