"""The driver's desk: hands out trials, hears their reports, writes ledger and tracking.

The only place where the state of a sweep changes. Tune's searcher and scheduler are thin
adapters over it (:mod:`xlt_ray.sweep.tune`), so what happens can be read here from top to
bottom and tested without Ray.

Whose turn it is: trials that were asked stand in line, behind the stages that others make.

A trial may begin when nobody is making the stage that it would make next. One that may not is
put behind that stage, and is looked at again when the stage is released and at no other time:
a decision takes as long with 100,000 trials as with ten, and no trial is looked at more often
than its path has stages, unless a maker fails.
"""

from __future__ import annotations

import heapq
import itertools
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

from xlt_ray.config.facts import Facts
from xlt_ray.config.sweep import SweepSpec
from xlt_ray.errors import TrialFailure
from xlt_ray.home import Home
from xlt_ray.ledger import Ledger, StageUse, TrialView
from xlt_ray.store.record import Score
from xlt_ray.store.stage_path import stages_to_run
from xlt_ray.store.storage import patient
from xlt_ray.store.store import StageStore
from xlt_ray.sweep.budget import BudgetTracker
from xlt_ray.sweep.failures import LASTING, Repeated, alike, reason_to_stop
from xlt_ray.sweep.objective import objective_of, value_on_the_way
from xlt_ray.sweep.progress_reporter import ProgressReporter
from xlt_ray.sweep.quota import QuotaManager
from xlt_ray.sweep.tasks import Planned, Planner, Report, TrialTask, halving_of
from xlt_ray.tracking import (
    FLUSH_TIMEOUT_S,
    NO_REPLY_TIMEOUT_S,
    LedgerSnapshot,
    MlflowWriter,
    point_names,
)


class StageQueue:
    """Trials by number, those that wait and those that are at work.

    Args:
        next_key: key of the stage that a trial would make next, or is making; None where nothing
            is left to be made.
    """

    def __init__(self, next_key: Callable[[int], str | None]) -> None:
        self._next_key = next_key
        self._places = itertools.count()
        self._waiting: dict[int, int] = {}
        """Trials in the order in which they came -> place in line."""
        self._ready: list[tuple[int, int]] = []
        """A heap of place and number: those that may begin, as far as is known."""
        self._behind: dict[str, list[int]] = {}
        self._making: dict[int, str | None] = {}
        self._makers: Counter[str] = Counter()

    def __len__(self) -> int:
        """How many wait."""
        return len(self._waiting)

    def __iter__(self) -> Iterator[int]:
        """Those that wait, in the order in which they came."""
        return iter(self._waiting)

    def join(self, number: int) -> None:
        """A trial comes, to the end of the line."""
        self._waiting[number] = next(self._places)
        heapq.heappush(self._ready, (self._waiting[number], number))

    def leave(self, number: int) -> None:
        """A trial that waits will not begin."""
        del self._waiting[number]

    def first(self) -> int | None:
        """The first in line that may begin, or None; it stays where it is."""
        while self._ready:
            place, number = self._ready[0]
            if self._waiting.get(number) == place:
                key = self._next_key(number)
                if key is None or not self._makers[key]:
                    return number
                self._behind.setdefault(key, []).append(number)
            heapq.heappop(self._ready)
        return None

    def begin(self, number: int) -> None:
        """A trial that waits is at work now."""
        del self._waiting[number]
        self._take(number)

    def moved(self, number: int) -> None:
        """A trial at work has made a stage, or found it; nothing happens for any other trial."""
        if number in self._making:
            self._release(number)
            self._take(number)

    def end(self, number: int) -> None:
        """A trial is at work no more."""
        self._release(number)

    def _take(self, number: int) -> None:
        key = self._next_key(number)
        self._making[number] = key
        if key is not None:
            self._makers[key] += 1

    def _release(self, number: int) -> None:
        key = self._making.pop(number)
        if key is None:
            return
        self._makers[key] -= 1
        if not self._makers[key]:
            del self._makers[key]
            for waiting in self._behind.pop(key, ()):
                if waiting in self._waiting:
                    heapq.heappush(self._ready, (self._waiting[waiting], waiting))


LOOK_AHEAD: Mapping[str, int] = {"tpe": 8, "random": 4096, "grid": 4096}
"""Trials asked beyond those that run, to find one whose stages nobody else is making.

What tpe is asked ahead it answers without the scores of what runs, so it is asked less: so many,
or one for every :data:`RUNNING_AHEAD` that run, whose scores it lacks anyhow.
"""
RUNNING_AHEAD = 8
ASKED_AT_ONCE = 64
"""Trials asked before reports are heard again: each is some writes to the ledger."""


class TrialScheduler:
    """One sweep being run by this process."""

    def __init__(
        self,
        sweep: SweepSpec,
        facts: Facts,
        home: Home,
        ledger: Ledger,
        store: StageStore,
        courier: MlflowWriter,
        watcher: ProgressReporter,
        confirm: Callable[[], object] = lambda: None,
    ) -> None:
        """``confirm`` raises where another driver has this sweep by now; it is asked before
        anything is written."""
        self.sweep = sweep
        self.facts = facts
        self.home = home
        self.ledger = ledger
        self.store = store
        self.courier = courier
        self.watcher = watcher
        self._is_stored = patient(store.__contains__, watcher.warned)
        self._confirm = confirm
        self._planner = Planner(sweep, facts, home)
        ledger.keys_of = self._planner.keys
        self.stopped_early: set[int] = set()
        self.new_stages: dict[str, StageUse] = {}
        self.reused_from: dict[str, Mapping[str, str]] = {}
        """Versions of the libraries that made what this run reused, by key."""
        self._running: dict[int, Planned] = {}
        self._held: dict[int, Planned] = {}
        self._turns = StageQueue(self._next_key)
        self._repeated = Repeated(sweep.settings.failures.repeated_bug)
        self._is_newly_broken = False
        for number in ledger.running():
            self._hold(
                self._planner.planned(ledger.resume_trial(number, sweep, self._planner.bounds))
            )
        self._keeper = QuotaManager(sweep, facts, home, ledger, store, watcher.warned)
        self._waits_for_room = False
        self.stopped_by = ""
        self.num_put_off = 0
        """Trials that were asked ahead, and are not to begin any more."""
        self._is_exhausted = False
        self._halving = halving_of(sweep, facts)
        self._spending = BudgetTracker(sweep.settings, ledger, self._planner.num_gpus)

    # -- handing out ------------------------------------------------------------------

    def next_task(self) -> TrialTask | None:
        """A trial that can work at once, or None: nothing now, or nothing any more.

        A trial whose next stage is being made by a running one is held back, and others are
        asked meanwhile; it is handed out as soon as that stage is there. One that needs a stage
        which two other trials failed to make fails with it, untried.
        """
        self._confirm()
        self._read_mail()
        if self.stopped_by:
            return None
        if self._is_newly_broken:
            self._is_newly_broken = False
            self._fail_with_broken([*self._held])
        self._put_off()
        search = self.sweep.settings.search
        look_ahead = max(LOOK_AHEAD[search.sampler], self.num_running // RUNNING_AHEAD)
        for _ in range(ASKED_AT_ONCE):
            number = self._turns.first()
            if number is not None:
                planned = self._held[number]
                if not self._has_room(planned):
                    return None
                self._running[number] = self._held.pop(number)
                self._turns.begin(number)
                return planned.order
            if len(self._held) >= look_ahead or not self._ask():
                return None
        return None

    def _hold(self, planned: Planned) -> None:
        number = planned.ticket.number
        # Data or code may have changed since it was asked.
        self.ledger.set_path(number, [stage.key for stage in stages_to_run(planned.order.path)])
        self._held[number] = planned
        self._turns.join(number)

    def _put_off(self) -> None:
        """Let go of what was asked ahead and is not to begin any more: it stays RUNNING in the
        ledger, for a start with more budget, or without the bug."""
        if self._is_over:
            for number in [one for one in self._held if not self.ledger.has_begun(one)]:
                self._turns.leave(number)
                del self._held[number]
                self.num_put_off += 1

    def _fail_with_broken(self, numbers: Iterable[int]) -> None:
        """Fail those of the held trials that need what two other trials failed to make."""
        broken = self._repeated.broken
        for number in numbers:
            planned = self._held[number]
            if broken.keys().isdisjoint(stage.key for stage in planned.order.path):
                continue
            key = next((one for one in self._missing(planned) if one in broken), None)
            if key is None:
                continue
            stage = next(stage for stage in planned.order.path if stage.key == key)
            self._turns.leave(number)
            self._running[number] = self._held.pop(number)
            self._begin(number)
            del self._running[number]
            failure, message = broken[key].failure, broken[key].message(stage.label)
            self.ledger.tell_failed(number, failure.cause, message, failure.log)
            self._close(number)

    def _has_room(self, planned: Planned) -> bool:
        """Whether the disk has room for one more trial; frees what it may."""
        if self._keeper.quota_bytes is None:
            return True
        if self._waits_for_room:
            return False
        room = self._keeper.free_space(
            [one.order.path for one in (*self._running.values(), planned)]
        )
        if not room.is_enough and self._running:
            self._waits_for_room = True
        elif not room.is_enough:
            self.stopped_by = room.message
        return room.is_enough

    def _tidy(self) -> None:
        """Something was written or has ended: what is too much goes, and there may be room."""
        self._waits_for_room = False
        if self._keeper.quota_bytes is not None:
            self._keeper.free_space([one.order.path for one in self._running.values()])

    @property
    def is_done(self) -> bool:
        """Whether no trial is left to be handed out, now or later."""
        if self.stopped_by:
            return True
        self._put_off()
        if not self._held and not self._is_exhausted:
            self._ask()
        return not self._held and self._is_exhausted

    @property
    def is_finished(self) -> bool:
        """Whether every trial has its fate; nothing is asked while some are at work."""
        if self.num_running or self.num_put_off or self.stopped_by:
            return False
        return self.is_done

    @property
    def is_out_of_budget(self) -> bool:
        """Whether trials wait, all that began have ended, and nothing but the budget ended it."""
        ended_otherwise = bool(self.num_running or self.stopped_by or self.repeated_bug)
        return self.num_put_off > 0 and not ended_otherwise

    @property
    def _is_over(self) -> bool:
        """Whether no further trial is to begin; those that had begun go on to their end."""
        return self._spending.is_over or bool(self.repeated_bug)

    @property
    def num_running(self) -> int:
        return len(self._running)

    def _ask(self) -> bool:
        if self._is_exhausted or self._is_over:
            self._is_exhausted = True
            return False
        ticket = self.ledger.ask(self.sweep, self._planner.bounds)
        if ticket is None:
            self._is_exhausted = not self.ledger.awaits_first_repeats
            return False
        self._hold(self._planner.planned(ticket))
        if self._repeated.broken:
            self._fail_with_broken([ticket.number])
        return True

    @property
    def repeated_bug(self) -> str:
        """The bug that ended several trials alike, by place and message, or nothing."""
        return self._repeated.bug

    def _next_key(self, number: int) -> str | None:
        """Key of the stage that a trial makes next."""
        planned = self._running[number] if number in self._running else self._held[number]
        return next(iter(self._missing(planned)), None)

    def _missing(self, planned: Planned) -> list[str]:
        """Keys of the stages that are still to be made, up to the last one."""
        missing: list[str] = []
        for stage in reversed(stages_to_run(planned.order.path)):
            if self._is_stored(stage):
                break
            missing.append(stage.key)
        return missing[::-1]

    # -- hearing ----------------------------------------------------------------------

    def on_report(self, number: int, report: Report) -> bool:
        """Note what happened in a trial; True where it is to be stopped early."""
        self._confirm()
        self._read_mail()
        self._spending.sign()
        if report.kind == "lost":
            self._spending.release(number)
        if report.kind == "begun":
            self._spending.begin(number, since_s=report.occupied_s)
            self._begin(number)
            return False
        if report.kind == "retrying":
            self.ledger.begin_attempt(number)
        view = self.ledger.trial(number)
        self.watcher.heard(view, report)
        if report.finished_stage is not None:
            self._note_stage(view, StageUse(**asdict(report.finished_stage)))
            if report.versions:
                self.reused_from[report.finished_stage.key] = report.versions
            self._turns.moved(number)
            self._keeper.on_report(report.finished_stage.key)
            self._tidy()
        if report.kind != "evaluated" or report.metrics is None:
            return False
        metrics = point_names(report.stage, report.metrics, report.system)
        if report.stage != "target":
            if not report.is_replay:
                self.courier.evaluated(number, report.examples, metrics)
            return False
        value = value_on_the_way(
            report.metrics,
            report.by_language,
            self._running[number].order.watched,
            self.sweep.settings.objective.metric,
        )
        if self.sweep.is_judged_by_oracle and value is not None:
            metrics |= point_names(report.stage, {"objective": value})
        # Gold may leave it undefined; the trial fails for that in the end, and says so.
        if value is None or self.ledger.report(number, report.examples, value):
            self.courier.evaluated(number, report.examples, metrics)
        if value is None or self._halving is None or report.examples >= report.total_examples:
            return False
        # Of an evaluation that was known already, too: the last driver may have died over it.
        if self.ledger.should_stop_early(
            number, report.examples, report.total_examples, self._halving
        ):
            self.stopped_early.add(number)
            return True
        return False

    def finish(self, number: int, report: Report | None) -> None:
        """A trial has ended: complete, failed, stopped early, or (None) lost for good."""
        self._confirm()
        self._turns.end(number)
        planned = self._running.pop(number)
        bug = ""
        scores: Sequence[Score] = ()
        self._spending.release(number)
        if report is None or report.kind != "complete":
            self._keeper.look_again()
        if number in self.stopped_early:
            self.ledger.tell_pruned(number)
        elif report is not None and report.kind == "complete":
            scores = report.scores
            source = planned.order.trial.target.source_language
            try:
                objective = objective_of(scores, self.sweep.settings.objective, source)
                self.ledger.tell_complete(number, objective)
            except TrialFailure as failure:
                bug = failure.message
                self.ledger.tell_failed(number, failure.fields["cause"], failure.message)
        elif report is not None and report.kind == "failed":
            if report.cause == "bug":
                bug = alike(report.message, report.log)
            self.stopped_by = self.stopped_by or reason_to_stop(number, report, self.sweep.name)
            if report.cause in LASTING:
                for key in self._missing(planned)[:1]:
                    self._is_newly_broken |= self._repeated.fail(key, number, report)
            self.ledger.tell_failed(number, report.cause, report.message, report.log)
        else:
            attempts = self.ledger.trial(number).attempts
            self.ledger.tell_failed(
                number, "lost", f"its process was lost, {attempts} attempts were made"
            )
        self._repeated.end(bug)
        self._close(number, scores)
        self._tidy()

    def _close(self, number: int, scores: Sequence[Score] = ()) -> None:
        view = self.ledger.trial(number)
        if view.attempts:
            self.courier.finished(view, scores)
        self._read_mail()
        self.watcher.finished(view)

    def leave(self, *, is_finished: bool) -> None:
        """The sweep has ended, or is stopped: trials that run go on at its next start.

        Waits for what MLflow has not answered yet, but not for long.
        """
        self._confirm()
        for number in self.ledger.running():
            self._spending.release(number)
            if self.ledger.has_begun(number):
                self.courier.stopped(number)
        self.courier.end(LedgerSnapshot.of(self.ledger), "FINISHED" if is_finished else "KILLED")
        self._read_mail()
        self.courier.settle(
            self.watcher.warned, FLUSH_TIMEOUT_S if is_finished else NO_REPLY_TIMEOUT_S
        )
        self._read_mail()

    def _begin(self, number: int) -> None:
        self.ledger.begin_attempt(number)
        planned = self._running[number]
        view = self.ledger.trial(number)
        view = replace(
            view, stages=tuple(_planned_use(stage) for stage in stages_to_run(planned.order.path))
        )
        config = planned.order.trial.model_dump(mode="json")
        assignment = dict(planned.ticket.assignment)
        self.courier.started(view, config, assignment, planned.order.path)
        self.watcher.begun(self.ledger.trial(number))

    def _note_stage(self, view: TrialView, use: StageUse) -> None:
        before = {stage.key: stage for stage in view.stages}
        known = before.get(use.key)
        if use.reused:
            # An attempt of this trial that died may have trained it, before it said so or after.
            maker = f"{self.sweep.name}/{view.number}"
            is_own = view.attempts > 1 and use.made_by == maker
            found = replace(use, examples=0, seconds=0.0)
            use = known or (replace(use, reused=False) if is_own else found)
        before[use.key] = use
        self.ledger.set_stages(view.number, list(before.values()))
        if not use.reused and use is not known:
            self.new_stages[use.key] = use

    def _read_mail(self) -> None:
        """What MLflow answered: the ledger is written on this thread alone."""
        mail = self.courier.mail()
        for number, run_id in mail.runs.items():
            if self.ledger.trial(number).mlflow_run_id != run_id:
                self.ledger.set_run_id(number, run_id)
        for message in mail.news:
            self.watcher.warned(message)


def _planned_use(stage: Any) -> StageUse:
    return StageUse(kind=stage.kind, key=stage.key, label=stage.label, reused=False)
