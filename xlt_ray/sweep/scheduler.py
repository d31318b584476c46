"""Starts the trials of a sweep, handles their reports, and writes ledger and tracking.

This is the only place where the state of a sweep changes. Tune's searcher and scheduler are thin
adapters around it (:mod:`xlt_ray.sweep.tune`), so it can be tested without Ray.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import cast

from xlt_ray.config.facts import Facts
from xlt_ray.config.sweep import SAMPLERS, Objective, SweepSpec
from xlt_ray.errors import TrialFailure
from xlt_ray.home import Home
from xlt_ray.ledger import Ledger, Request, StageUse, Standing, TrialView
from xlt_ray.ledger.access import note_sweep
from xlt_ray.ledger.requests import accept, left_requests, with_replaced
from xlt_ray.store.record import Role, Score, values_by_language
from xlt_ray.store.stage import Stage
from xlt_ray.store.stage_path import stages_to_run
from xlt_ray.store.storage import patient
from xlt_ray.store.store import StageStore
from xlt_ray.sweep.budget import BudgetTracker, shown_duration
from xlt_ray.sweep.failures import PERMANENT, RepeatedFailures, bug_signature, reason_to_stop
from xlt_ray.sweep.measured import measured
from xlt_ray.sweep.notify import Notice, failure_notice
from xlt_ray.sweep.quota import QuotaManager
from xlt_ray.sweep.tasks import (
    Planner,
    ProgressReporter,
    Report,
    TrialTask,
    halving_of,
    languages_of,
)
from xlt_ray.tracking import (
    FLUSH_TIMEOUT_S,
    NO_REPLY_TIMEOUT_S,
    LedgerSnapshot,
    MlflowSync,
    TrialSnapshot,
    point_names,
)


class StageQueue:
    """Waiting and running trials, by number.

    A trial may start when no running trial makes the stage that it would make next. A blocked
    trial is examined again only when that stage has no maker any more.

    Args:
        next_key: key of the stage that a trial makes next; None if it has none left.
    """

    def __init__(self, next_key: Callable[[int], str | None]) -> None:
        self._next_key = next_key
        self._waiting: dict[int, str | None] = {}
        """Number of a trial -> key of the stage that blocked it; in the order in which
        they were added."""
        self._making: dict[int, str | None] = {}
        """Number of a running trial -> key of the stage that it makes."""

    def __len__(self) -> int:
        return len(self._waiting)

    def __iter__(self) -> Iterator[int]:
        return iter(self._waiting)

    def add(self, number: int) -> None:
        self._waiting[number] = None

    def remove(self, number: int) -> None:
        """Take out a waiting trial that will not start."""
        del self._waiting[number]

    def peek(self) -> int | None:
        """The first trial that may start, or None; it stays in the queue."""
        being_made = {key for key in self._making.values() if key is not None}
        for number, blocker in self._waiting.items():
            if blocker not in being_made:
                key = self._next_key(number)
                if key not in being_made:
                    return number
                self._waiting[number] = key
        return None

    def start(self, number: int) -> None:
        """Move a waiting trial to the running ones."""
        del self._waiting[number]
        self._making[number] = self._next_key(number)

    def advance(self, number: int) -> None:
        """A running trial has finished a stage; does nothing for a trial that does not run."""
        if number in self._making:
            self._making[number] = self._next_key(number)

    def finish(self, number: int) -> None:
        """A running trial has ended."""
        del self._making[number]


def objective_value(scores: Sequence[Score], objective: Objective, source: str) -> float:
    """Mean of the objective metric over its languages, on the dev sets.

    Args:
        source: the language in which the trial was trained.

    Raises:
        TrialFailure: a language of the objective has no such score, because its gold labels leave
            the metric undefined or another version of xlt-ray made the evaluation.
    """
    # After few-shot training, the dev scores have their own role.
    role: Role = "few_shot" if any(score.role == "few_shot" for score in scores) else "target"
    values = values_by_language(scores, objective.split, objective.metric, role)
    chosen = languages_of(objective, source, values)
    missing = [language for language in chosen if language not in values]
    measured = sorted({score.metric for score in scores})
    if measured and objective.metric not in measured:
        raise TrialFailure(
            f"its evaluation has no score of {objective.metric}, only of {', '.join(measured)}",
            cause="data",
            advice="its gold labels leave the metric undefined everywhere: another"
            " objective.metric; or another version of xlt-ray made the evaluation: remove its"
            " folder from the stage store, and `xlt resume NAME --failed` makes it again without"
            " training anything",
        )
    if missing or not chosen:
        raise TrialFailure(
            f"{objective.metric} has no dev score in {', '.join(missing) or 'any language'}",
            cause="data",
            advice="its gold labels leave it undefined (no entity, or all scores equal): another"
            " objective.metric or other objective.languages",
        )
    return statistics.fmean(values[language] for language in chosen)


def intermediate_value(
    metrics: Mapping[str, float],
    by_language: Mapping[str, Mapping[str, float]],
    watched: Sequence[str],
    metric: str,
) -> float | None:
    """The objective at an evaluation during training; None if it was not measured.

    Args:
        metrics: metrics of the dev set of the source language.
        by_language: metrics of the dev sets of other languages.
        watched: the languages of an oracle objective; empty for any other.
    """
    if not watched:
        return metrics.get(metric)
    values = [by_language.get(language, {}).get(metric) for language in watched]
    measured = [value for value in values if value is not None]
    return statistics.fmean(measured) if len(measured) == len(values) else None


LOOK_AHEAD = 4096
"""How many trials to ask beyond the running ones, to find one that is not blocked."""
LEARNING_LOOK_AHEAD = 8
"""The same for a sampler that learns, which draws these without the scores of the running ones; or
one for every :data:`RUNNING_AHEAD` running trials, if that is more."""
RUNNING_AHEAD = 8
REQUESTS_S = 2.0
"""Seconds between two looks for requests of people."""
ASKED_AT_ONCE = 64
"""Most trials to ask before the next report is handled: each writes to the ledger."""


def next_to_start(
    queue: StageQueue, ask: Callable[[], bool], *, learns: bool, num_running: int
) -> int | None:
    """Number of the waiting trial that starts next, or None if none can: the rule of dispatch.

    Args:
        ask: adds one more trial to the queue; False if there is none.
        learns: whether the sampler uses the scores of other trials.
    """
    most = max(LEARNING_LOOK_AHEAD if learns else LOOK_AHEAD, num_running // RUNNING_AHEAD)
    for _ in range(ASKED_AT_ONCE):
        number = queue.peek()
        if number is not None or len(queue) >= most or not ask():
            return number
    return None


class TrialScheduler:
    """The state of the sweep that this process drives."""

    def __init__(
        self,
        sweep: SweepSpec,
        facts: Facts,
        home: Home,
        ledger: Ledger,
        store: StageStore,
        sync: MlflowSync,
        reporter: ProgressReporter,
        confirm_ownership: Callable[[], object] = lambda: None,
        notify: Callable[[Notice], object] = lambda _: None,
    ) -> None:
        """``confirm_ownership`` is called before every write; it raises if another driver has taken
        over the sweep. ``notify`` tells people of failures."""
        self.sweep = sweep
        self.facts = facts
        self.home = home
        self.ledger = ledger
        self.store = store
        self.sync = sync
        self.reporter = reporter
        self._is_stored = patient(store.__contains__, reporter.warned)
        self._confirm_ownership = confirm_ownership
        self._notify = notify
        self._planner = Planner(sweep, facts)
        ledger.examples_of = self._planner.examples
        self.stopped_early: set[int] = set()
        self.new_stages: dict[str, StageUse] = {}
        self.reused_from: dict[str, Mapping[str, str]] = {}
        """Key of a reused stage -> versions of the libraries that made it."""
        self._running: dict[int, TrialTask] = {}
        self._waiting: dict[int, TrialTask] = {}
        self._queue = StageQueue(self._next_key)
        self._repeated_failures = RepeatedFailures(sweep.settings.failures.repeated_bug)
        self._has_new_broken_stage = False
        for number in ledger.running():
            self._enqueue(
                self._planner.task(ledger.resume_trial(number, sweep, facts.model_bounds), home)
            )
        self._quota = QuotaManager(sweep, facts, home, ledger, store, reporter.warned)
        self._waits_for_space = False
        self.stopped_by = ""
        self.num_deferred = 0
        """Trials that were asked ahead, or ended with their progress, and wait for a later run."""
        self._leaving: set[int] = set()
        """Running trials that end with their progress, for a later run."""
        self._is_cut = False
        """Whether running trials end because the budget is used up."""
        self._lacks_budget = False
        """Whether the next trial does not fit into the budget, and none is running."""
        self._is_exhausted = False
        self._halving = halving_of(sweep, facts)
        self._budget = BudgetTracker(ledger, self._planner)
        self._read_requests_s = -math.inf
        self.is_paused = False
        """Whether a person has ended this run."""
        self._to_stop = {request.trial for request in ledger.by_hand if request.kind == "stop"}
        """Numbers of trials that people have stopped."""
        self._end_stopped()
        self._read_requests()

    # -- starting trials --------------------------------------------------------------

    def next_task(self) -> TrialTask | None:
        """A trial that can start now, or None.

        A trial whose next stage a running trial makes waits for that stage, and others are asked
        meanwhile. A trial that needs a stage which failed in two other trials fails without an
        attempt.
        """
        self._confirm_ownership()
        self._read_replies()
        self._read_requests()
        if self.stopped_by:
            return None
        if self._has_new_broken_stage:
            self._has_new_broken_stage = False
            self._fail_broken([*self._waiting])
        self._defer()
        learns = SAMPLERS[self.sweep.settings.search.sampler].learns
        number = next_to_start(
            self._queue, self._ask_trial, learns=learns, num_running=self.num_running
        )
        if number is None:
            return None
        task = self._waiting[number]
        if not (self._has_space(task) and self._fits_budget(task)):
            return None
        self._running[number] = self._waiting.pop(number)
        self._queue.start(number)
        return task

    def _enqueue(self, task: TrialTask) -> None:
        # Data or code may have changed since the trial was asked.
        self.ledger.set_path(task.number, [stage.key for stage in stages_to_run(task.path)])
        self._waiting[task.number] = task
        self._queue.add(task.number)

    def _defer(self) -> None:
        """If no further trial may start, drop those that wait. They stay RUNNING in the ledger and
        start in a later run, with more budget or without the bug; a bug does not keep those that
        have begun."""
        if not self._running and (number := self._queue.peek()) is not None:
            self._lacks_budget |= not self._fits_budget(self._waiting[number])
        if self._is_closed_to_new_trials:
            lacks_budget = self._lacks_budget or self._budget.is_used_up
            for number in [
                n for n in self._waiting if lacks_budget or not self.ledger.has_begun(n)
            ]:
                self._queue.remove(number)
                del self._waiting[number]
                self.num_deferred += 1

    def _fits_budget(self, task: TrialTask) -> bool:
        """Whether a waiting trial can finish inside the budget, beside those that run."""
        return self._budget.has_room(task.number, self._missing_stages(task))

    def _fail_broken(self, numbers: Iterable[int]) -> None:
        """Fail those of these waiting trials that need a stage which failed in two trials."""
        broken = self._repeated_failures.broken
        for number in numbers:
            task = self._waiting[number]
            suspects = [stage for stage in task.path if stage.key in broken]
            missing = self._missing_keys(task) if suspects else []
            stage = next((stage for stage in suspects if stage.key in missing), None)
            if stage is None:
                continue
            self._queue.remove(number)
            self._running[number] = self._waiting.pop(number)
            self._begin(number)
            del self._running[number]
            failure = broken[stage.key]
            message = f"{stage.label} {failure.message}"
            self.ledger.tell_failed(number, failure.cause, message, failure.log)
            self._close(task)

    def _has_space(self, task: TrialTask) -> bool:
        """Whether the disk has space for one more trial; frees space if necessary."""
        if self._quota.quota_bytes is None:
            return True
        if self._waits_for_space:
            return False
        problem = self._quota.free_space(
            [running.path for running in (*self._running.values(), task)]
        )
        if problem and self._running:
            self._waits_for_space = True
        elif problem:
            self.stopped_by = problem
        return not problem

    def _enforce_quota(self) -> None:
        """After a write or the end of a trial: free what exceeds the quota."""
        self._waits_for_space = False
        if self._quota.quota_bytes is not None:
            self._quota.free_space([task.path for task in self._running.values()])

    @property
    def is_done(self) -> bool:
        """Whether no trial is left to start, now or later."""
        if self.stopped_by:
            return True
        self._defer()
        if not self._waiting and not self._is_exhausted and self._ask_trial():
            self._defer()
        return not self._waiting and self._is_exhausted

    @property
    def is_finished(self) -> bool:
        """Whether every trial has ended; asks for no trial while some are running."""
        if self.num_running or self.num_deferred or self.stopped_by:
            return False
        return self.is_done

    @property
    def is_out_of_budget(self) -> bool:
        """Whether all started trials have ended and only the budget keeps others from starting."""
        ended_otherwise = bool(self.num_running or self.stopped_by or self.repeated_bug)
        return self.num_deferred > 0 and not ended_otherwise

    @property
    def reason_to_end(self) -> str:
        """Why trials that are left do not start; empty if there is no reason."""
        if self.stopped_by:
            return self.stopped_by
        if self.repeated_bug:
            return f"several trials failed alike: {self.repeated_bug}"
        if self.is_out_of_budget:
            return (
                f"the budget has no room for another trial ({self._budget.describe()} used); "
                f"trials that wait for more of it: {self.num_deferred}"
            )
        return ""

    @property
    def _is_closed_to_new_trials(self) -> bool:
        """Whether no further trial may start; started trials run to their end."""
        return self._lacks_budget or self._budget.is_used_up or bool(self.repeated_bug)

    @property
    def num_running(self) -> int:
        return len(self._running)

    def _ask_trial(self) -> bool:
        if self._is_exhausted or self._is_closed_to_new_trials:
            self._is_exhausted = True
            return False
        asked_trial = self.ledger.ask(self.sweep, self.facts.model_bounds)
        if asked_trial is None:
            self._is_exhausted = not self.ledger.awaits_results(self.sweep)
            return False
        self._enqueue(self._planner.task(asked_trial, self.home))
        self._end_stopped()
        if self._repeated_failures.broken:
            self._fail_broken([asked_trial.number])
        return True

    @property
    def repeated_bug(self) -> str:
        """Place and message of the bug that ended several trials; empty if there is none."""
        return self._repeated_failures.bug

    def _next_key(self, number: int) -> str | None:
        """Key of the stage that a trial makes next."""
        task = self._running[number] if number in self._running else self._waiting[number]
        return next(iter(self._missing_keys(task)), None)

    def _missing_keys(self, task: TrialTask) -> list[str]:
        return [stage.key for stage in self._missing_stages(task)]

    def _missing_stages(self, task: TrialTask) -> list[Stage]:
        """The stages after the last one of the path that is in the store."""
        missing: list[Stage] = []
        for stage in reversed(stages_to_run(task.path)):
            if self._is_stored(stage):
                break
            missing.append(stage)
        return missing[::-1]

    # -- handling reports -------------------------------------------------------------

    def on_report(self, number: int, report: Report) -> bool:
        """Record what happened in a trial; True if the trial is to end now, early or
        (:meth:`keeps_progress`) with its progress."""
        self._confirm_ownership()
        self._read_replies()
        self._read_requests()
        self._budget.note_progress(number, report)
        if self._budget.is_heartbeat_due:
            self._show_time_left()
        if report.kind == "lost":
            self._budget.release(number)
        is_leaving = self._is_to_leave(number)
        if report.kind == "begun":
            if is_leaving:
                return True
            missing = self._missing_stages(self._running[number])
            self._budget.begin(number, missing, since_s=report.occupied_s)
            self._begin(number)
            return False
        if self._record_report(number, report):
            return True
        return is_leaving

    def _is_to_leave(self, number: int) -> bool:
        """Whether a running trial ends now with its progress."""
        is_cut = self._budget.is_used_up
        if is_cut and not self._is_cut:
            self.reporter.warned(
                "the budget is used up: running trials save their progress and end"
            )
        self._is_cut = is_cut
        if is_cut or self.is_paused:
            self._leaving.add(number)
        return self.keeps_progress(number)

    def keeps_progress(self, number: int) -> bool:
        """Whether a trial that ends now saves its progress first."""
        return number in self._leaving or number in self._to_stop

    def _record_report(self, number: int, report: Report) -> bool:
        """Record a report of a running trial; True if the trial is to be stopped early."""
        if report.kind == "retrying":
            self.ledger.begin_attempt(number)
        view = self.ledger.trial(number)
        self.reporter.reported(view, report)
        if report.finished_stage is not None:
            self._record_stage(view, report.finished_stage)
            if report.versions:
                self.reused_from[report.finished_stage.key] = report.versions
            self._queue.advance(number)
            self._quota.on_report(report.finished_stage.key)
            self._enforce_quota()
        if report.kind != "evaluated" or report.metrics is None:
            return False
        metrics = point_names(report.stage, report.metrics, report.system)
        if report.stage != "target":
            if not report.is_replay:
                self.sync.log(number, report.examples, metrics, report.time_ms)
            return False
        value = intermediate_value(
            report.metrics,
            report.by_language,
            self._running[number].watched,
            self.sweep.settings.objective.metric,
        )
        if self.sweep.is_judged_by_oracle and value is not None:
            metrics |= point_names(report.stage, {"objective": value})
        # Gold labels may leave the objective undefined; the trial then fails at its end.
        if value is None or self.ledger.report(number, report.examples, value):
            self.sync.log(number, report.examples, metrics, report.time_ms)
        if value is None or self._halving is None or report.examples >= report.total_examples:
            return False
        # A replayed evaluation counts, too: the last driver may have died before it could stop it.
        if self.ledger.should_stop_early(
            number, report.examples, report.total_examples, self._halving
        ):
            self.stopped_early.add(number)
            return True
        return False

    def finish(self, number: int, report: Report | None) -> None:
        """Record the end of a trial; without a report, its process is lost for good."""
        self._confirm_ownership()
        self._queue.finish(number)
        task = self._running.pop(number)
        bug = ""
        self._budget.release(number)
        if report is None or report.kind != "complete":
            self._quota.list_again()
        is_left = number in self._leaving
        self._leaving.discard(number)
        if number in self.stopped_early:
            self.ledger.tell_pruned(number)
        elif report is not None and report.kind == "complete":
            source = task.trial.target.source_language
            try:
                objective = objective_value(report.scores, self.sweep.settings.objective, source)
                further, constraints = self._measured(task, report.scores)
                self.ledger.tell_complete(number, objective, further, constraints)
            except TrialFailure as failure:
                bug = failure.message
                self.ledger.tell_failed(number, failure.fields["cause"], failure.message)
            else:
                self._budget.note_complete(number)
        elif number in self._to_stop:
            self.ledger.tell_pruned(number, by_hand=True)
        elif is_left:
            # It stays RUNNING in the ledger, and the next run continues it.
            if self.ledger.has_begun(number):
                self._show(task, "interrupted")
            self.num_deferred += 1
            return
        elif report is not None and report.kind == "failed":
            if report.cause == "bug":
                bug = bug_signature(report.message, report.log)
            self.stopped_by = self.stopped_by or reason_to_stop(number, report, self.sweep.name)
            if report.cause in PERMANENT:
                for key in self._missing_keys(task)[:1]:
                    self._has_new_broken_stage |= self._repeated_failures.fail(key, number, report)
            self.ledger.tell_failed(number, report.cause, report.message, report.log)
        else:
            attempts = self.ledger.trial(number).attempts
            self.ledger.tell_failed(
                number, "lost", f"its process was lost, {attempts} attempts were made"
            )
        self._repeated_failures.end(bug)
        self._close(task)
        self._enforce_quota()

    def _measured(
        self, task: TrialTask, scores: Sequence[Score]
    ) -> tuple[list[float], dict[str, float]]:
        """Values of the further objectives, and how far constraints are violated."""
        settings = self.sweep.settings
        if not self.sweep.measures:
            return [], {}
        gpus = self._planner.num_gpus(self.ledger.trial(task.number))
        values = measured(self.sweep, task, scores, gpus, self.store, self.ledger.trials())
        return [values[name] for name in settings.objective.also], {
            str(bound): bound.excess(values[bound.measure]) for bound in settings.constraints
        }

    def _close(self, task: TrialTask) -> None:
        view = self.ledger.trial(task.number)
        if view.attempts:
            self._show(task, cast(Standing, view.state))
        self._read_replies()
        self.reporter.finished(view)
        if view.state == "failed":
            self._notify(failure_notice(self.sweep.name, view))

    def close(self, *, is_finished: bool) -> None:
        """End this run of the sweep; its next run continues the running trials.

        Waits for what MLflow has not answered yet, but not for long.
        """
        self._confirm_ownership()
        for number in self.ledger.running():
            self._budget.release(number)
            if number in self._running and self.ledger.has_begun(number):
                self._show(self._running[number], "interrupted")
        self.sync.end(LedgerSnapshot.of(self.ledger), "FINISHED" if is_finished else "KILLED")
        self._read_replies()
        self.sync.flush(
            self.reporter.warned, FLUSH_TIMEOUT_S if is_finished else NO_REPLY_TIMEOUT_S
        )
        self._read_replies()

    # -- what people ask ----------------------------------------------------------------

    def _read_requests(self) -> None:
        """Carry out what people have asked since the last look."""
        now = time.monotonic()
        if now - self._read_requests_s < REQUESTS_S:
            return
        self._read_requests_s = now
        for request in left_requests(self.home, self.sweep.name, self.reporter.warned):
            # A driver that was killed may have carried it out.
            if request.id not in {known.id for known in self.ledger.by_hand}:
                problem = self._carry_out(request)
                done = f"{request}: not done, {problem}" if problem else self.ledger.by_hand[-1]
                self.reporter.warned(f"by hand: {done}")

    def _carry_out(self, request: Request) -> str:
        """Note a request in the ledger, and begin what follows; why not, if it cannot be done."""
        if request.kind == "pause":
            if request.driver != self.ledger.driver:
                return "another driver ran the sweep"
            accept(self.ledger, request)
            self.is_paused = True
            self.stopped_by = "paused by hand; the same command goes on"
        elif request.kind == "stop":
            if request.trial not in self.ledger.unfinished():
                return "it has ended"
            accept(self.ledger, request)
            self._to_stop.add(request.trial)
            self._end_stopped()
        elif request.kind == "clone":
            accept(self.ledger, request)
            self._is_exhausted = False
        else:
            accept(self.ledger, with_replaced(request, self.sweep, self.ledger.by_hand))
            for key, value in request.values.items():
                self.sweep = self.sweep.with_setting(key, value)
            note_sweep(self.ledger, self.sweep)
            self._budget.budget = self.sweep.settings.budget
            self._is_exhausted = self._lacks_budget = False
        return ""

    def _end_stopped(self) -> None:
        """End the waiting trials that people have stopped; running ones end at their report."""
        for number in [number for number in self._waiting if number in self._to_stop]:
            self._queue.remove(number)
            task = self._waiting.pop(number)
            self.ledger.tell_pruned(number, by_hand=True)
            self._close(task)

    def _show_time_left(self) -> None:
        left_s = self._budget.record_heartbeat(self._num_to_start())
        left = "" if left_s is None else f"about {shown_duration(left_s)} left"
        self.reporter.timed(", ".join(filter(None, (left, self._budget.describe()))))
        self.sync.show_time_left(left)

    def _num_to_start(self) -> int:
        """How many trials have not started, at most."""
        if self._is_exhausted:
            return len(self._waiting)
        num_started = sum(
            view.is_finished or view.number in self._running for view in self.ledger.trials()
        )
        return max(self.sweep.most_trials - num_started, 0)

    def _begin(self, number: int) -> None:
        self.ledger.begin_attempt(number)
        self._show(self._running[number], "running")
        self.reporter.begun(self.ledger.trial(number))

    def _show(self, task: TrialTask, standing: Standing) -> None:
        """Have MLflow show a trial as it is now."""
        view, config = self.ledger.trial(task.number), task.trial.model_dump(mode="json")
        self.sync.mark(TrialSnapshot(view, standing, config, task.path, is_begun_here=True))

    def _record_stage(self, view: TrialView, use: StageUse) -> None:
        before = {stage.key: stage for stage in view.stages}
        known = before.get(use.key)
        if use.reused:
            # An earlier attempt of this trial, which died, may have trained it.
            maker = f"{self.sweep.name}/{view.number}"
            is_own = view.attempts > 1 and use.made_by == maker
            reused = replace(use, examples=0, seconds=0.0)
            use = known or (replace(use, reused=False) if is_own else reused)
        before[use.key] = use
        self.ledger.set_stages(view.number, list(before.values()))
        if not use.reused and use is not known:
            self.new_stages[use.key] = use

    def _read_replies(self) -> None:
        """What MLflow answered: the ledger is written on this thread alone."""
        replies = self.sync.replies()
        for number, run_id in replies.runs.items():
            if self.ledger.trial(number).mlflow_run_id != run_id:
                self.ledger.set_run_id(number, run_id)
        for message in replies.warnings:
            self.reporter.warned(message)
