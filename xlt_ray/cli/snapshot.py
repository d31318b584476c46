"""A running sweep as one value: what has ended, what runs, how fast, and what sharing has saved."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from xlt_ray.config.labels import run_name

if TYPE_CHECKING:
    from xlt_ray.config.sweep import SweepSpec
    from xlt_ray.ledger import Ledger, TrialView, Winner
    from xlt_ray.sweep.tasks import Report


@dataclass(frozen=True)
class RunningTrial:
    """A trial that has begun and not ended, as its reports say."""

    view: TrialView
    stage: str = ""
    """Kind of the stage that it makes."""
    examples: int = 0
    total_examples: int = 0
    """Of the stage; 0 if it is being prepared, or trains nothing."""
    examples_per_s: float | None = None
    loss: float | None = None
    score: float | None = None
    """The last one on the dev set of the source language."""
    note: str = ""
    """Why it does not train now: what it waits for, or which failure it is tried again after."""

    @property
    def left_s(self) -> float | None:
        """Seconds until its stage is trained; None if that is unknown."""
        if not (self.examples_per_s and self.total_examples):
            return None
        return (self.total_examples - self.examples) / self.examples_per_s


@dataclass(frozen=True)
class FailureGroup:
    """Failed trials with one cause."""

    cause: str
    trials: tuple[int, ...]
    message: str


@dataclass(frozen=True)
class SweepSnapshot:
    """All that a view of a running sweep shows."""

    name: str
    metric: str
    most_trials: int
    """Trials that the sweep makes at most."""
    elapsed_s: float | None
    """Since this run began; None for a process that does not run the sweep."""
    step: str = ""
    """What the driver does before the first trial begins."""
    time_left: str = ""
    """As of :meth:`xlt_ray.sweep.tasks.ProgressReporter.timed`."""
    ended: Mapping[str, int] = field(default_factory=dict)
    """How many trials have ended in which state, in earlier runs, too."""
    running: tuple[RunningTrial, ...] = ()
    failures: tuple[FailureGroup, ...] = ()
    """The most frequent cause first."""
    best: Winner | None = None
    best_name: str = ""
    made_s: float = 0.0
    """Seconds of the stages that trials of this run made."""
    saved_s: float = 0.0
    """Seconds of the stages that trials of this run reused."""
    names: Mapping[int, str] = field(default_factory=dict)
    """What tells a running trial from others, by its number."""

    @property
    def num_ended(self) -> int:
        return sum(self.ended.values())

    @property
    def num_trials(self) -> int:
        """Trials that the sweep makes; retries come on top of the most that it was asked for."""
        return max(self.most_trials, self.num_ended + len(self.running))


class SweepProgress:
    """Follows a running sweep: a :class:`~xlt_ray.sweep.tasks.ProgressReporter` that shows nothing.

    Args:
        clock: seconds; only differences count.
    """

    def __init__(self, sweep: SweepSpec, clock: Callable[[], float] = time.monotonic) -> None:
        self.sweep = sweep
        self.metric = sweep.settings.objective.metric
        self._space = sweep.resolved()["space"]
        self.clock = clock
        self._started_s = clock()
        self._step = ""
        self._time_left = ""
        self._running: dict[int, RunningTrial] = {}
        self._stage_began: dict[int, tuple[str, int, float]] = {}
        """Of running trials: the stage, its examples at the first report, and when that came."""
        self._ended: dict[int, TrialView] = {}
        self._made_s = self._saved_s = 0.0
        self._summarized: tuple[int, SweepSnapshot] | None = None

    def preparing(self, step: str) -> None:
        self._step = step

    def continues(self, trials: Sequence[TrialView]) -> None:
        self._ended = {view.number: view for view in trials if view.is_finished}

    def begun(self, view: TrialView) -> None:
        self._step = ""
        self._running[view.number] = RunningTrial(view)

    def reported(self, view: TrialView, report: Report) -> None:
        trial = self._running.get(view.number, RunningTrial(view))
        self._running[view.number] = self._after(trial, report)

    def finished(self, view: TrialView) -> None:
        self._running.pop(view.number, None)
        self._stage_began.pop(view.number, None)
        self._ended[view.number] = view

    def timed(self, line: str) -> None:
        self._time_left = line

    def warned(self, message: str) -> None: ...

    def _after(self, trial: RunningTrial, report: Report) -> RunningTrial:
        """A running trial after one of its reports."""
        if report.kind == "waiting":
            holder = report.holder.removesuffix(f" of {self.sweep.name}")
            return replace(_in_stage(trial, report.stage), note=f"waits for {holder}")
        if report.kind in ("retrying", "lost"):
            return replace(trial, note=f"{report.cause}, tried again", examples=0, total_examples=0)
        if report.finished_stage is not None:
            stage = report.finished_stage
            if not stage.reused:
                self._made_s += stage.seconds
            elif stage.made_by != f"{self.sweep.name}/{trial.view.number}":
                self._saved_s += stage.seconds
            return _in_stage(trial, "")
        if report.kind not in ("ticked", "evaluated") or not report.stage:
            return trial
        trial = replace(_in_stage(trial, report.stage), note="")
        if report.total_examples:
            trial = replace(
                trial,
                examples=report.examples,
                total_examples=report.total_examples,
                examples_per_s=self._examples_per_s(trial.view.number, report),
            )
        metrics = report.metrics or {}
        return replace(
            trial,
            loss=metrics.get("loss", trial.loss),
            score=metrics.get(self.metric, trial.score),
        )

    def _examples_per_s(self, number: int, report: Report) -> float | None:
        """The mean since the first report of the stage."""
        now = self.clock()
        stage, first, since_s = self._stage_began.get(number, ("", 0, now))
        if stage != report.stage or report.examples < first:
            self._stage_began[number] = report.stage, report.examples, now
            return None
        if report.examples == first or now <= since_s:
            return None
        return (report.examples - first) / (now - since_s)

    def name_of(self, view: TrialView) -> str:
        """What a trial is called beside the others."""
        return run_name(view.assignment, self._space, view.seed)

    def snapshot(self) -> SweepSnapshot:
        """The sweep as it stands; another thread may ask for it while trials begin and end."""
        from xlt_ray.config.sweep import modes_of
        from xlt_ray.ledger import by_cause, still_failed
        from xlt_ray.ledger.views import winner

        ended, running = self._ended.copy(), self._running.copy()
        # What follows from ended trials is worked out again when another one has ended.
        if self._summarized is None or self._summarized[0] != len(ended):
            views = [ended[number] for number in sorted(ended)]
            objective = self.sweep.settings.objective.model_dump()
            search = self.sweep.settings.search
            best = winner(views, search.seeds, *modes_of(objective))
            of_ended = SweepSnapshot(
                self.sweep.name,
                self.metric,
                self.sweep.most_trials,
                0.0,
                ended=Counter(view.state for view in views),
                best=best,
                best_name="" if best is None else run_name(best.trial.assignment, self._space),
                failures=tuple(
                    FailureGroup(cause, tuple(view.number for view in alike), alike[0].message)
                    for cause, alike in by_cause(still_failed(views)).items()
                ),
            )
            self._summarized = len(ended), of_ended
        views = [trial.view for trial in running.values()]
        return replace(
            self._summarized[1],
            elapsed_s=self.clock() - self._started_s,
            step=self._step,
            time_left=self._time_left,
            running=tuple(running[number] for number in sorted(running)),
            names={view.number: self.name_of(view) for view in views},
            made_s=self._made_s,
            saved_s=self._saved_s,
        )


def snapshot_of(ledger: Ledger) -> SweepSnapshot:
    """The sweep as its ledger tells it to a process that does not run it: of a running trial the
    examples and the score of its last evaluation in the target stage."""
    from xlt_ray.cli.listings import seconds_left
    from xlt_ray.ledger import sweep_of_ledger
    from xlt_ray.sweep.budget import shown_duration

    progress = SweepProgress(sweep_of_ledger(ledger))
    standings, views = ledger.standings(), ledger.trials()
    progress.continues(views)
    for view in views:
        if standings[view.number] == "running":
            progress.begun(view)
    left_s = seconds_left(ledger)
    snapshot = progress.snapshot()
    return replace(
        snapshot,
        elapsed_s=None,
        time_left="" if left_s is None else f"about {shown_duration(left_s)} left",
        running=tuple(map(_as_evaluated, snapshot.running)),
    )


def _as_evaluated(trial: RunningTrial) -> RunningTrial:
    if not trial.view.curve:
        return replace(trial, stage="running")
    examples, score = trial.view.curve[-1]
    return replace(trial, stage="target", examples=examples, score=score)


def _in_stage(trial: RunningTrial, stage: str) -> RunningTrial:
    """A running trial in a stage; in another one than before, that begins. Its score is of the last
    training: an intermediate task and the target task have nothing in common."""
    if trial.stage == stage:
        return trial
    score = trial.score if stage in ("", "evaluate") else None
    return RunningTrial(trial.view, stage, score=score)
