"""``xlt worker``: makes the missing stages of a sweep in this process, without Ray.

Any number of workers whose machines share a home take part in a sweep, beside each other and beside
``xlt run``: each makes the next stage whose parent exists and whose lease is free. A killed worker
loses its lease, and another one continues from its progress. The first worker writes the trials
into the ledger, so that garbage collection and other sweeps know what is needed; ``xlt run`` later
finds every stage in the store and writes the results.
"""

from __future__ import annotations

import contextlib
import gc
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, field, replace

from xlt_ray.config.facts import Facts
from xlt_ray.config.seed_race import SeedRace
from xlt_ray.config.sweep import SAMPLERS, SweepSpec
from xlt_ray.errors import SweepHasDriver
from xlt_ray.home import Home
from xlt_ray.ledger import MadeWith, continued, find_ledger, open_ledger
from xlt_ray.ledger.access import sole_driver
from xlt_ray.store.stage import Stage
from xlt_ray.store.stage_path import stages_to_run
from xlt_ray.store.store import StageStore
from xlt_ray.sweep.batch_limits import smaller_pass, with_batch_limits
from xlt_ray.sweep.failures import ProcessFailures, classify
from xlt_ray.sweep.plan import plan_of
from xlt_ray.sweep.read_facts import refuse_faulty, used_facts
from xlt_ray.sweep.runner import checked_facts, open_store
from xlt_ray.sweep.tasks import Planner, Report, TrialTask, task_for
from xlt_ray.sweep.workers import open_walk
from xlt_ray.training.events import Committed, Event, Stop, Waiting
from xlt_ray.versions import commit_of, library_versions

POLL_S = 1.0
"""Seconds between two looks at stages that other processes make."""


@dataclass
class WorkerSummary:
    """What a worker has done."""

    num_made: int = 0
    failed: dict[str, str] = field(default_factory=dict)
    """Key of a stage that this worker could not make -> its label, the cause and the message."""
    num_left: int = 0
    """Trials without an evaluation in the store."""


def work(
    sweep: SweepSpec, home: Home, summary: WorkerSummary, is_stopped: Callable[[], bool]
) -> Iterator[Event]:
    """Make stages until every trial has its evaluation, or until none is left that this worker can
    make; yields the events.

    Args:
        summary: filled in.
        is_stopped: asked at every event; if true, progress is saved and the work ends.

    Raises:
        SpecErrors: the sweep does not fit its models or data.
        SpecError: its trials depend on scores, or need several workers or a budget.
        LedgerError: its ledger belongs to another sweep, or data, weights or code have changed.
        Exception: this process cannot go on, because its device failed for example.
    """
    facts = checked_facts(sweep)
    refuse_faulty(sweep, facts, home.cache)
    refuse_unknown_trials(sweep, facts.model_names)
    home.refuse_unwritable()
    store = open_store(sweep, home)
    tasks = tasks_of(sweep, facts, store, home)
    failures = ProcessFailures(sweep.settings.failures, home.hangs(sweep.name))
    done: set[str] = set()
    while not is_stopped():
        chosen, is_busy = _next_stage(tasks, store, done, summary.failed)
        if chosen is not None:
            yield from _make(*chosen, failures, summary, is_stopped)
        elif is_busy:
            time.sleep(POLL_S)
        else:
            break
    summary.num_left = sum(task.path[-1] not in store for task in tasks)


def refuse_unknown_trials(sweep: SweepSpec, models: Iterable[str]) -> None:
    """Raise SpecError if a worker cannot know which trials there are, or may not start them."""
    settings, document = sweep.settings, sweep.document
    search, run_it = settings.search, "use `xlt run`"
    if SAMPLERS[search.sampler].learns:
        known = ", ".join(name for name, sampler in SAMPLERS.items() if not sampler.learns)
        raise document.error(
            f"the trials of {search.sampler} depend on scores, which workers do not exchange",
            key="search.sampler",
            remedy=f"use {known} for workers, or `xlt run`",
        )
    if isinstance(search.seeds, SeedRace):
        raise document.error("scores decide about the seeds", key="search.seeds", remedy=run_it)
    if settings.early_stop is not None:
        raise document.error("scores decide which trials end", key="early_stop", remedy=run_it)
    if settings.budget.gpu_hours is not None or settings.budget.hours is not None:
        raise document.error("workers do not keep a budget", key="budget", remedy=run_it)
    if any(settings.resources.of(model).workers > 1 for model in models):
        raise document.error(
            "a worker is one process, and a trial needs several",
            key="resources.workers",
            remedy=run_it,
        )


def tasks_of(sweep: SweepSpec, facts: Facts, store: StageStore, home: Home) -> list[TrialTask]:
    """The tasks of all trials that have not ended."""
    # Another worker is writing them, or a driver does so when it needs them.
    with contextlib.suppress(SweepHasDriver):
        _write_trials(sweep, facts, home)
    ledger = find_ledger(home, sweep)
    sweep = sweep if ledger is None else continued(sweep, ledger)
    planner = Planner(sweep, facts)
    return [
        task_for(trial.number, planner.trial(trial.assignment), trial.path, sweep, home)
        for trial in plan_of(sweep, facts, store, ledger).trials
        if not trial.is_finished
    ]


def _write_trials(sweep: SweepSpec, facts: Facts, home: Home) -> None:
    with sole_driver(home, sweep.name, sweep.settings.places.ledger):
        made_with = MadeWith(used_facts(sweep, facts), library_versions(), commit_of())
        ledger = open_ledger(home, sweep, made_with)
        planner = Planner(continued(sweep, ledger), facts)
        while (asked := ledger.ask(planner.sweep, facts.model_bounds)) is not None:
            path = planner.task(asked, home).path
            ledger.set_path(asked.number, [stage.key for stage in stages_to_run(path)])


def _next_stage(
    tasks: list[TrialTask], store: StageStore, done: set[str], failed: Collection[str]
) -> tuple[tuple[TrialTask, Stage] | None, bool]:
    """A missing stage that this process can make now, with a task that needs it, and whether
    another process is making a stage that a task waits for.

    Args:
        done: keys of evaluations that are in the store, which are not looked up again; filled in.
        failed: keys of stages that this process could not make.
    """
    is_busy, seen = False, set(failed)
    for task in tasks:
        stages = stages_to_run(task.path)
        if stages[-1].key in done:
            continue
        stored = (n for n in range(len(stages), 0, -1) if stages[n - 1] in store)
        num_stored = next(stored, 0)
        if num_stored == len(stages):
            done.add(stages[-1].key)
            continue
        stage = stages[num_stored]
        if stage.key in seen:
            continue
        seen.add(stage.key)
        if store.holder(stage.key) is None:
            return (task, stage), False
        is_busy = True
    return None, is_busy


def _make(
    task: TrialTask,
    stage: Stage,
    failures: ProcessFailures,
    summary: WorkerSummary,
    is_stopped: Callable[[], bool],
) -> Iterator[Event]:
    """Make one stage; tries again as the policy of a failure says."""
    task = replace(task, until=stage.key)
    smaller = None
    while not is_stopped():
        task = with_batch_limits(task, smaller)
        try:
            events, _ = open_walk(task)
            for event in events:
                if isinstance(event, Waiting):
                    # Another process was faster; there may be something else to do.
                    return
                if isinstance(event, Committed) and not event.reused:
                    summary.num_made += 1
                yield event
                if is_stopped():
                    with contextlib.suppress(Stop, StopIteration):
                        events.throw(Stop())  # type: ignore[attr-defined]
                    return
            return
        except Exception as error:
            failure = classify(error)
            if failure.is_of_process:
                raise
        shrinks = task.failures.policy(failure.cause).action == "shrink"
        smaller = smaller_pass(task, stage) if shrinks else None
        failed = Report("failed", stage=stage.kind, cause=failure.cause, message=failure.message,
                        log=failure.log, remedy=smaller.words if smaller else "")  # fmt: skip
        retry = failures.on_failed_attempt(task.number, failed)
        # By now the exception is gone, and with it the frames that hold tensors.
        gc.collect()
        if retry is None:
            summary.failed[stage.key] = f"{stage.label}: {failure.cause}: {failure.message}"
            return
        _, pause_s = retry
        resume_at_s = time.monotonic() + pause_s
        while not is_stopped() and (left_s := resume_at_s - time.monotonic()) > 0:
            time.sleep(min(left_s, POLL_S))
