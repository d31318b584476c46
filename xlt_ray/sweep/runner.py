"""Runs a sweep: check it, connect to Ray, let Tune run the trials, bring MLflow up to date.

Running a sweep again *is* resuming it: it first continues the trials of a dead driver, repeats no
finished trial, and starts no cluster if nothing is left to do. :func:`make_alone` is ``xlt stage``:
one trial in this process, for debugging.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from xlt_ray.config.checks.check_sweep import check
from xlt_ray.config.facts import Facts
from xlt_ray.config.places import tracking_fault
from xlt_ray.config.resources import Resources
from xlt_ray.config.search_space import draw, extremes
from xlt_ray.config.supervision import supervision_label
from xlt_ray.config.sweep import SweepSpec
from xlt_ray.errors import SpecError, SpecErrors, XltError
from xlt_ray.home import Home
from xlt_ray.ledger import (
    LEFT_NODES,
    Ledger,
    MadeWith,
    Retry,
    TrialView,
    Winner,
    continued,
    find_ledger,
    load_ledger,
    open_ledger,
    still_failed,
    sweep_of_ledger,
)
from xlt_ray.ledger.access import sole_driver
from xlt_ray.ledger.requests import MAY_SET
from xlt_ray.redact import redacted
from xlt_ray.store.store import StageStore
from xlt_ray.sweep.capacity import Capacity, Concurrency, cluster_capacity, demands_of, node_names
from xlt_ray.sweep.failures import ProcessFailures, cause_of, find_ledger_error, is_disk_full
from xlt_ray.sweep.merge_trials import Merger
from xlt_ray.sweep.missing_evaluations import MissingEvaluations
from xlt_ray.sweep.notify import Notifier, end_notice
from xlt_ray.sweep.ray_connection import connect, stoppable
from xlt_ray.sweep.read_facts import facts_of, refuse_faulty, used_facts
from xlt_ray.sweep.removal import begins_anew, find_removal, remove_sweep
from xlt_ray.sweep.scheduler import TrialScheduler
from xlt_ray.sweep.tasks import Planner, ProgressReporter, TrialTask, task_for
from xlt_ray.sweep.warm_start import imported_line, observations_for
from xlt_ray.tracking import LedgerSnapshot, MlflowSync, Tracker, mend_database
from xlt_ray.tracking.client import default_uri
from xlt_ray.versions import commit_of, library_versions, made_by_others

if TYPE_CHECKING:
    from xlt_ray.training.events import Event


@dataclass(frozen=True)
class SweepSummary:
    """What one call of :func:`run` did."""

    trials: tuple[TrialView, ...]
    best: Winner | None
    num_new_stages: int
    num_examples: int
    """Examples that this call trained."""
    is_finished: bool
    """Whether every trial of the sweep has ended."""
    is_out_of_budget: bool
    """Whether only the used-up budget kept the other trials from starting."""
    supervision: str = ""
    """Which labels the best trial learned from (:mod:`xlt_ray.config.supervision`)."""
    stopped_by: str = ""
    """Why trials that were left did not start: a bug, the budget, or no disk space."""
    num_stopped_early: int = 0
    """Trials that this call stopped early."""
    made_by_others: str = ""
    """Which of the stages that this call reused were made by other versions of the libraries."""
    is_paused: bool = False
    """Whether ``xlt pause`` ended this call."""
    is_whole_space: bool = False
    """Whether all configurations of the space were tried, though ``search.trials`` is larger."""

    @property
    def failed(self) -> list[TrialView]:
        """Failed trials that were not run again."""
        return still_failed(self.trials)


def run(
    sweep: SweepSpec,
    home: Home,
    reporter: ProgressReporter,
    *,
    retry: Retry | None = None,
    accept_changes: bool = False,
    is_verified: bool = False,
) -> SweepSummary:
    """Start a sweep, or continue it where it stopped.

    Args:
        retry: run these failed trials again first, with their parameters.
        accept_changes: continue although data, weights or code have changed since earlier trials;
            trials before and after the change are marked.
        is_verified: compare evaluations and the best weights with their digests, not only their
            sizes and headers.

    Raises:
        SpecErrors: the sweep does not fit its models or data; nothing was started.
        SpecError: nothing can be written in the home.
        ClusterError: a trial needs more than the cluster has; nothing was started.
        LedgerError: another driver runs the sweep or has taken it over; its ledger belongs to
            another sweep; data, weights or code have changed; or a trial to retry has not failed.
        TrackingError: ``places.tracking`` is not a valid MLflow location.
    """
    facts = checked_facts(sweep)
    findings = refuse_faulty(sweep, facts, home.cache)
    refuse_too_large(sweep.settings.resources, facts.model_names)
    home.refuse_unwritable()
    store = open_store(sweep, home)
    for warning in findings.warnings:
        reporter.warned(str(warning))
    with (
        sole_driver(home, sweep.name, sweep.settings.places.ledger) as confirm,
        ExitStack() as stack,
    ):
        mend_database(home, sweep.settings.places.tracking, reporter.warned)
        if retry is None and (reason := begins_anew(home, sweep)):
            remove_sweep(home, replace(find_removal(home, sweep.name, reporter.warned), entries=()))
            reporter.warned(reason)
        known = find_ledger(home, sweep)
        # All are read before the ledger is made, so that a refusal leaves nothing behind.
        observations = {} if known and known.imported else observations_for(sweep, facts, home)
        made_with = MadeWith(used_facts(sweep, facts), library_versions(), commit_of())
        ledger = open_ledger(home, sweep, made_with, accept_changes=accept_changes)
        given, sweep = sweep, continued(sweep, ledger)
        for key in MAY_SET:
            if sweep.setting(key) != given.setting(key):
                reporter.warned(
                    f"{key} is {sweep.setting(key)}, as set by hand, and not {given.setting(key)}"
                )
        for line in ledger.news:
            reporter.warned(line)
        for name, of_sweep in observations.items():
            ledger.keep_observations(name, of_sweep)
            reporter.warned(imported_line(name, of_sweep))
        if ledger.set_aside is not None:
            reporter.warned(
                f"{ledger.set_aside}: the ledger as it was; a line of it was not as it had been "
                "written, and what stood from there on is asked again (stages are reused)"
            )
        if retry is not None:
            ledger.enqueue_failed(retry)
        planner = Planner(sweep, facts)
        missing_evaluations = MissingEvaluations(
            planner, home, ledger, store, reporter, is_verified=is_verified
        )
        reporter.continues(ledger.trials())
        tracker = Tracker(home, sweep.name, sweep.settings.places.tracking, ledger.identity)
        reporter.preparing(f"MLflow at {redacted(tracker.uri)}")
        snapshot, config = LedgerSnapshot.of(ledger), sweep.resolved()
        sync = stack.enter_context(
            MlflowSync(tracker, store, snapshot, config, planner.config_and_path)
        )
        notifier = Notifier(sweep, ledger, reporter.warned)
        scheduler = TrialScheduler(
            sweep, facts, home, ledger, store, sync, reporter, confirm, notifier
        )
        process_failures = ProcessFailures(sweep.settings.failures, home.hangs(sweep.name))
        if ledger.study.user_attrs.get(LEFT_NODES):
            ledger.note(LEFT_NODES, [])
        try:
            with suppress(KeyboardInterrupt):
                if not (missing_evaluations.is_done and scheduler.is_done):
                    place = os.environ.get("RAY_ADDRESS")
                    reporter.preparing(
                        f"joining Ray at {place}" if place else "starting Ray on this machine"
                    )
                    connect(reporter.warned)
                    reporter.preparing("starting the first trials")
                # The thread of ``sync`` has opened it meanwhile.
                sync.wait_until_open()
                if not missing_evaluations.is_done:
                    _tune(missing_evaluations, home, process_failures, ledger)
                if not missing_evaluations.is_interrupted and not scheduler.is_done:
                    _tune(scheduler, home, process_failures, ledger)
            is_finished = scheduler.is_finished and not missing_evaluations.complaint
            scheduler.close(is_finished=is_finished)
        except Exception as error:
            # Tune wraps what its searcher and scheduler raise.
            if (ledger_error := find_ledger_error(error)) is not None:
                raise ledger_error from ledger_error.__cause__
            if not is_disk_full(error):
                raise
            raise XltError(
                f"{home.root}: the disk is full, and the ledger could not be written; free some "
                f"space and run the same command: {sweep.name} goes on where it stopped"
            ) from error
        new_stages = {**missing_evaluations.new_stages, **scheduler.new_stages}
        best = ledger.best()
        path = () if best is None else planner.config_and_path(best.trial)[1]
        summary = SweepSummary(
            trials=tuple(ledger.trials()),
            best=best,
            supervision=supervision_label(path[-1].settings) if path else "",
            num_new_stages=len(new_stages),
            num_examples=sum(stage.examples for stage in new_stages.values()),
            is_finished=is_finished,
            is_out_of_budget=scheduler.is_out_of_budget,
            stopped_by=missing_evaluations.complaint or scheduler.reason_to_end,
            num_stopped_early=len(scheduler.stopped_early),
            made_by_others=made_by_others(scheduler.reused_from.values()),
            is_paused=scheduler.is_paused,
            is_whole_space=ledger.is_exhausted,
        )
        if (notice := end_notice(scheduler.sweep, summary)) is not None:
            notifier(notice)
        notifier.close()
        return summary


def make_alone(
    sweep: SweepSpec, home: Home, *, trial: int | None = None, until: str = "evaluate"
) -> Iterator[Event]:
    """Run the path of one trial up to the stage of kind ``until``, and yield its events.

    Args:
        trial: number of a trial in the sweep's ledger. Without it, every distribution takes its
            first value, and the seed is that of the sweep.

    Raises:
        SpecErrors: the sweep does not fit its models or data.
        SpecError: nothing can be written in the home.
        LedgerError: the ledger has no such trial.
    """
    task = task_alone(sweep, home, trial)
    from xlt_ray.sweep.workers import open_walk

    # For a debugger: in this thread, and without a watchdog.
    task = replace(task, until=until, resources={**task.resources, "workers": 1})
    events, _ = open_walk(task)
    yield from events


def open_merger(ledger: Ledger, home: Home) -> Merger:
    """What merges trials of a sweep, in this process.

    Raises:
        SpecErrors: the sweep does not fit its models or data.
        SpecError: nothing can be written in the home.
    """
    sweep = continued(sweep_of_ledger(ledger), ledger)
    facts = checked_facts(sweep)
    refuse_faulty(sweep, facts, home.cache)
    home.refuse_unwritable()
    from xlt_ray.sweep.workers import open_walk

    def walk(task: TrialTask) -> Iterator[Event]:
        events, _ = open_walk(replace(task, resources={**task.resources, "workers": 1}))
        return events

    return Merger(Planner(sweep, facts), home, ledger, open_store(sweep, home), walk)


def task_alone(sweep: SweepSpec, home: Home, trial: int | None) -> TrialTask:
    """The task of one trial, as :func:`make_alone` takes and refuses it."""
    facts = checked_facts(sweep)
    refuse_faulty(sweep, facts, home.cache)
    home.refuse_unwritable()
    ledger = None if trial is None else load_ledger(home, sweep.name)
    if ledger is not None:
        sweep = continued(sweep, ledger)
    planner, seed = Planner(sweep, facts), sweep.settings.search.training_seed

    if ledger is None or trial is None:
        tree, _ = draw(sweep.space, lambda knob: extremes(knob.distribution)[0], facts.model_bounds)
        concrete = sweep.trial(tree)
    else:
        view = ledger.trial(trial)
        concrete, seed = planner.trial(view.assignment), view.seed
    path = planner.path(concrete, seed)
    return task_for(-1 if trial is None else trial, concrete, path, sweep, home)


def open_store(sweep: SweepSpec, home: Home) -> StageStore:
    """The stage store of a sweep; one outside the home is tested.

    Raises:
        SpecError: it cannot be written, or two processes can take the same lease.
    """
    place = sweep.settings.places.store
    if place is None:
        return StageStore(home.stages)
    try:
        store = StageStore(place)
        is_exclusive = store.storage.is_exclusive()
    except Exception as error:
        # Every kind of storage has its own exceptions.
        if not isinstance(error, SpecError) and cause_of(error) not in ("storage", "disk"):
            raise
        reason = " ".join(str(error).split())
        raise sweep.document.error(
            f"{place} cannot be used as stage store ({reason})",
            key="places.store",
            remedy="check the name of the bucket and the credentials of this process",
        ) from error
    if not is_exclusive:
        raise sweep.document.error(
            f"{place} ignores If-None-Match, which writes a file only where none exists",
            key="places.store",
            remedy="two processes could make the same stage; use Amazon S3, a server that has "
            "conditional writes, or a shared folder",
        )
    return store


def checked_facts(sweep: SweepSpec, *, may_assume: bool = False) -> Facts:
    """The facts of a sweep that fits them; raises SpecErrors with all problems otherwise."""
    facts = facts_of(sweep, may_assume=may_assume)
    problems = check(sweep, facts)
    uri = default_uri() if sweep.settings.places.tracking is None else None
    if uri is not None and (fault := tracking_fault(uri)) is not None:
        problems.append(SpecError(fault[0], key="MLFLOW_TRACKING_URI", remedy=fault[1]))
    if problems:
        raise SpecErrors(problems)
    return facts


def refuse_too_large(resources: Resources, models: Iterable[str]) -> None:
    """Raise ClusterError if a trial of one of these models could never be placed."""
    if os.environ.get("RAY_ADDRESS"):
        connect()
        cluster_capacity().refuse_impossible(resources, models)
        return
    machine = {"CPU": float(len(os.sched_getaffinity(0)))}
    if any("GPU" in demand.bundle for demand in demands_of(resources, models).values()):
        import torch

        machine["GPU"] = float(torch.cuda.device_count())
    Capacity([machine], place="this machine").refuse_impossible(resources, models)


def _tune(
    scheduler: TrialScheduler | MissingEvaluations,
    home: Home,
    process_failures: ProcessFailures,
    ledger: Ledger,
) -> None:
    """Let Ray Tune run all tasks of the scheduler."""
    from ray import tune

    from xlt_ray.sweep.trainable import TrialWalk
    from xlt_ray.sweep.tune import (
        HeartbeatMonitor,
        LiveTrialScheduler,
        SchedulerSearcher,
        end_process,
        let_trials_outlive_memory_kills,
    )

    let_trials_outlive_memory_kills()
    demands = demands_of(scheduler.sweep.settings.resources, scheduler.facts.model_names)
    concurrency = Concurrency(
        demands.values(),
        lambda: scheduler.sweep.settings.search.concurrent,
        lambda: cluster_capacity(process_failures.left_nodes),
    )
    os.environ.update(_TUNE, TUNE_MAX_PENDING_TRIALS_PG=str(concurrency.max_pending))
    failures = scheduler.sweep.settings.failures

    def bundles_of(config: dict[str, Any]) -> Any:
        return demands[config["task"].model].bundles(config["task"].left_nodes)

    def node_left() -> None:
        names = node_names(process_failures.left_nodes)
        ledger.note(LEFT_NODES, names)
        scheduler.reporter.warned(
            f"node {names[-1]} gets no further trial: its devices failed "
            f"{failures.leave_node_after} times, and no stage was made there in between"
        )
        if not all(map(cluster_capacity(process_failures.left_nodes).can_hold, demands.values())):
            scheduler.stopped_by = (
                f"no node is left that can hold a trial, because devices failed on "
                f"{', '.join(names)}; mend them, and the same command goes on"
            )
            # As after SIGTERM, Tune ends when the running trials have saved their progress.
            signal.raise_signal(signal.SIGUSR1)

    tuner = tune.Tuner(
        # Per trial: Tune reuses a process only for a trial with the same resources.
        tune.with_resources(TrialWalk, bundles_of),
        tune_config=tune.TuneConfig(
            search_alg=SchedulerSearcher(scheduler, process_failures, concurrency),
            scheduler=LiveTrialScheduler(scheduler, process_failures, node_left),
            num_samples=-1,
            reuse_actors=not scheduler.sweep.settings.resources.grow_with_shapes,
            trial_name_creator=lambda trial: f"trial-{trial.config['task'].number}",
            trial_dirname_creator=lambda trial: f"trial-{trial.config['task'].number}",
        ),
        run_config=tune.RunConfig(
            name=scheduler.sweep.name,
            storage_path=str(home.tune),
            # LiveTrialScheduler enforces the limits.
            failure_config=tune.FailureConfig(max_failures=-1),
            verbose=0,
            callbacks=[HeartbeatMonitor(failures.hang_after, process_failures, end_process)],
        ),
    )
    with stoppable(scheduler):
        tuner.fit()


_TUNE = {
    # Reports have no metric: our scheduler reads them, not Tune.
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    # The reporter prints why an attempt failed.
    "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",
    # Snapshots of Tune are not used.
    "TUNE_GLOBAL_CHECKPOINT_S": "3600",
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
    "RAY_AIR_NEW_OUTPUT": "0",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
}
