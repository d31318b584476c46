"""The driver's desk: hands out trials, hears their reports, writes ledger and tracking.

The only place where the state of a sweep changes. Tune's searcher and scheduler are thin
adapters over it (:mod:`xlt_ray.sweep.searcher`), so what happens can be read here from top to
bottom and tested without Ray.
"""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Protocol

from xlt_ray.errors import TrialFailure
from xlt_ray.home import Home
from xlt_ray.ledger import Ledger, StageUse, Ticket, TrialView
from xlt_ray.spec.facts import Facts
from xlt_ray.spec.sweep import SweepSpec
from xlt_ray.spec.trial import TrialSpec
from xlt_ray.stages.path import Path, made, path_of
from xlt_ray.stages.record import Role, Score, values_by_language
from xlt_ray.stages.store import StageStore
from xlt_ray.sweep.disk import Keeper
from xlt_ray.sweep.failures import alike
from xlt_ray.sweep.order import Order, Report, order_for
from xlt_ray.sweep.spending import Spending
from xlt_ray.sweep.turns import Turns
from xlt_ray.tracking import FAREWELL_S, SILENCE_S, Account, Courier, point_names

LOOK_AHEAD: Mapping[str, int] = {"tpe": 8, "random": 4096, "grid": 4096}
"""Trials asked beyond those that run, to find one whose stages nobody else is making.

What tpe is asked ahead it answers without the scores of what runs, so it is asked less: so many,
or one for every :data:`RUNNING_AHEAD` that run, whose scores it lacks anyhow.
"""
RUNNING_AHEAD = 8
ASKED_AT_ONCE = 64
"""Trials asked before reports are heard again: each is some writes to the ledger."""
LASTING = ("nan", "data", "oom", "bug")
"""Causes of failure that a second try at the same stage would meet again."""
SAME_BUG = 3
"""So many trials that fail alike end the sweep: the next one would fail, too."""


class Watcher(Protocol):
    """Whoever shows a running sweep to its user."""

    def begun(self, view: TrialView) -> None: ...

    def heard(self, view: TrialView, report: Report) -> None: ...

    def finished(self, view: TrialView) -> None: ...

    def warned(self, message: str) -> None: ...


@dataclass
class Planned:
    """A trial that was asked, with its path."""

    ticket: Ticket
    order: Order


class Desk:
    """One sweep being run by this process."""

    def __init__(
        self,
        sweep: SweepSpec,
        facts: Facts,
        home: Home,
        ledger: Ledger,
        store: StageStore,
        courier: Courier,
        watcher: Watcher,
    ) -> None:
        self.sweep = sweep
        self.facts = facts
        self.home = home
        self.ledger = ledger
        self.store = store
        self.courier = courier
        self.watcher = watcher
        self.stopped_early: set[int] = set()
        self.new_stages: dict[str, StageUse] = {}
        self._running: dict[int, Planned] = {}
        self._held: dict[int, Planned] = {}
        self._turns = Turns(self._next_key)
        self._broken: dict[str, tuple[int, Report]] = {}
        self._is_newly_broken = False
        for number in ledger.running():
            self._hold(self._planned(ledger.take_up(number, sweep, self._bounds)))
        self._keeper = Keeper(sweep, facts, home, ledger, store)
        self._keeper.recall(
            self._path(sweep.trial_of(dict(one.assignment), self._bounds), one.seed)
            for one in ledger.trials()
            if one.is_finished
        )
        self._waits_for_room = False
        self.stopped_by = ""
        self._is_exhausted = False
        self._bugs: Counter[str] = Counter()
        self._spending = Spending(sweep.settings, ledger, self._num_gpus)

    # -- handing out ------------------------------------------------------------------

    def next_order(self) -> Order | None:
        """A trial that can work at once, or None: nothing now, or nothing any more.

        A trial whose next stage is being made by a running one is held back, and others are
        asked meanwhile; it is handed out as soon as that stage is there. One that needs a stage
        which another trial failed to make fails with it, untried.
        """
        self._read_mail()
        if self._is_newly_broken:
            self._is_newly_broken = False
            self._fail_with_broken([*self._held])
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
        self._held[planned.ticket.number] = planned
        self._turns.join(planned.ticket.number)

    def _fail_with_broken(self, numbers: Iterable[int]) -> None:
        """Fail those of the held trials that need what another trial failed to make."""
        for number in numbers:
            planned = self._held[number]
            key = next((one for one in self._missing(planned) if one in self._broken), None)
            if key is None:
                continue
            failed_in, failure = self._broken[key]
            stage = next(one for one in planned.order.path if one.key == key)
            self._turns.leave(number)
            self._running[number] = self._held.pop(number)
            self._begin(number)
            del self._running[number]
            message = f"{stage.label} failed in trial {failed_in}: {failure.message}"
            self.ledger.tell_failed(number, failure.cause, message, failure.log)
            self._close(number)

    def _has_room(self, planned: Planned) -> bool:
        """Whether the disk has room for one more trial; frees what it may."""
        if self._keeper.quota_bytes is None:
            return True
        if self._waits_for_room:
            return False
        room = self._keeper.make_room(
            [one.order.path for one in (*self._running.values(), planned)],
            [one.order.path for one in self._held.values() if one is not planned],
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
            self._keeper.make_room(
                [one.order.path for one in self._running.values()],
                [one.order.path for one in self._held.values()],
            )

    @property
    def is_done(self) -> bool:
        """Whether no trial is left to be handed out, now or later."""
        if self.stopped_by:
            return True
        if not self._held and not self._is_exhausted:
            self._ask()
        return not self._held and self._is_exhausted

    @property
    def num_running(self) -> int:
        return len(self._running)

    def _ask(self) -> bool:
        if self._is_exhausted or self._spending.is_over or self.repeated_bug:
            self._is_exhausted = True
            return False
        ticket = self.ledger.ask(self.sweep, self._bounds)
        if ticket is None:
            self._is_exhausted = True
            return False
        self._hold(self._planned(ticket))
        if self._broken:
            self._fail_with_broken([ticket.number])
        return True

    @property
    def repeated_bug(self) -> str:
        """The bug that ended several trials alike, by place and message, or nothing."""
        bug, times = next(iter(self._bugs.most_common(1)), ("", 0))
        return bug if times >= SAME_BUG else ""

    def _num_gpus(self, view: TrialView) -> float:
        resources = self.sweep.settings.resources
        if resources.by_model:
            trial = self.sweep.trial_of(dict(view.assignment), self._bounds)
            resources = resources.of(trial.model.name)
        return resources.workers * resources.gpus_per_worker

    def _next_key(self, number: int) -> str | None:
        """Key of the stage that a trial makes next."""
        planned = self._running[number] if number in self._running else self._held[number]
        return next(iter(self._missing(planned)), None)

    def _missing(self, planned: Planned) -> list[str]:
        """Keys of the stages that are still to be made, up to the last one."""
        missing: list[str] = []
        for stage in reversed(made(planned.order.path)):
            if stage in self.store:
                break
            missing.append(stage.key)
        return missing[::-1]

    def _planned(self, ticket: Ticket) -> Planned:
        trial = self.sweep.trial_of(ticket.assignment, self._bounds)
        path = self._path(trial, ticket.seed)
        return Planned(ticket, order_for(ticket.number, trial, path, self.sweep, self.home))

    def _path(self, trial: TrialSpec, seed: int) -> Path:
        return path_of(
            trial,
            self.facts,
            seed=seed,
            shared_seed=self.sweep.settings.search.seed,
            rungs=self.sweep.rungs,
        )

    def _bounds(self, model: str) -> Mapping[str, int]:
        return self.facts.models[model].bounds()

    # -- hearing ----------------------------------------------------------------------

    def hear(self, number: int, report: Report) -> bool:
        """Note what happened in a trial; True where it is to be stopped early."""
        self._read_mail()
        if report.kind == "begun":
            self._begin(number)
            return False
        if report.kind == "retrying":
            self.ledger.begin_attempt(number)
        view = self.ledger.trial(number)
        self.watcher.heard(view, report)
        if report.finished_stage is not None:
            self._note_stage(view, StageUse(**asdict(report.finished_stage)))
            self._turns.moved(number)
            self._tidy()
        if report.kind != "evaluated" or report.metrics is None:
            return False
        metrics = point_names(report.stage, report.metrics, report.system)
        if report.stage != "target":
            if not report.is_replay:
                self.courier.evaluated(number, report.examples, metrics)
            return False
        value = report.metrics[self.sweep.settings.objective.metric]
        if not self.ledger.report(number, report.examples, value):
            return False
        self.courier.evaluated(number, report.examples, metrics)
        if report.examples < report.total_examples and self.ledger.should_stop_early(
            number, self.sweep
        ):
            self.stopped_early.add(number)
            return True
        return False

    def finish(self, number: int, report: Report | None) -> None:
        """A trial has ended: complete, failed, stopped early, or (None) lost for good."""
        self._turns.end(number)
        planned = self._running.pop(number)
        scores: Sequence[Score] = ()
        if number in self.stopped_early:
            self.ledger.tell_pruned(number)
        elif report is not None and report.kind == "complete":
            scores = report.scores
            source = planned.order.trial.target.source_language
            try:
                self.ledger.tell_complete(number, self._objective(scores, source))
            except TrialFailure as failure:
                self._bugs[failure.message] += 1
                self.ledger.tell_failed(number, failure.fields["cause"], failure.message)
        elif report is not None and report.kind == "failed":
            if report.cause == "bug":
                self._bugs[alike(report.message, report.log)] += 1
            if report.cause in LASTING:
                self._broken.update(dict.fromkeys(self._missing(planned)[:1], (number, report)))
                self._is_newly_broken = True
            self.ledger.tell_failed(number, report.cause, report.message, report.log)
        else:
            attempts = self.ledger.trial(number).attempts
            self.ledger.tell_failed(
                number, "lost", f"its process was lost, {attempts} attempts were made"
            )
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
        for number in self.ledger.running():
            self.courier.stopped(number)
        self.courier.end(Account.of(self.ledger), "FINISHED" if is_finished else "KILLED")
        self._read_mail()
        self.courier.settle(self.watcher.warned, FAREWELL_S if is_finished else SILENCE_S)
        self._read_mail()

    def _begin(self, number: int) -> None:
        self.ledger.begin_attempt(number)
        planned = self._running[number]
        view = self.ledger.trial(number)
        view = replace(
            view, stages=tuple(_planned_use(stage) for stage in made(planned.order.path))
        )
        config = planned.order.trial.model_dump(mode="json")
        assignment = dict(planned.ticket.assignment)
        self.courier.started(view, config, assignment, planned.order.path)
        self.watcher.begun(self.ledger.trial(number))

    def _note_stage(self, view: TrialView, use: StageUse) -> None:
        before = {one.key: one for one in view.stages}
        # An earlier attempt of this trial trained it: it stays this trial's own work.
        known = before.get(use.key)
        before[use.key] = known if known is not None and use.reused else use
        self.ledger.set_stages(view.number, list(before.values()))
        new_s = before[use.key].seconds - (0.0 if known is None else known.seconds)
        self._spending.add(view, new_s)
        if not use.reused:
            self.new_stages[use.key] = use

    def _read_mail(self) -> None:
        """What MLflow answered: the ledger is written on this thread alone."""
        mail = self.courier.mail()
        for number, run_id in mail.runs.items():
            if self.ledger.trial(number).mlflow_run_id != run_id:
                self.ledger.set_run_id(number, run_id)
        for message in mail.news:
            self.watcher.warned(message)

    def _objective(self, scores: Sequence[Score], source: str) -> float:
        """Mean of the objective metric over its languages, in the dev split.

        Raises:
            TrialFailure: a language of the objective was not scored.
        """
        objective = self.sweep.settings.objective
        # After few shots: how the source language is left, its dev set as of every other trial.
        role: Role = "few_shot" if any(one.role == "few_shot" for one in scores) else "target"
        values = values_by_language(scores, objective.split, objective.metric, role)
        if objective.languages == "source":
            chosen = [source]
        elif objective.languages == "target":
            chosen = [one for one in values if one != source]
        elif objective.languages == "all":
            chosen = list(values)
        else:
            chosen = list(objective.languages)
        missing = [one for one in chosen if one not in values]
        if missing or not chosen:
            raise TrialFailure(
                f"no dev score in {', '.join(missing) or 'any language'}", cause="bug"
            )
        return statistics.fmean(values[one] for one in chosen)


def _planned_use(stage: Any) -> StageUse:
    return StageUse(kind=stage.kind, key=stage.key, label=stage.label, reused=False)
