"""Progress of a running sweep: a live view in a terminal, plain lines in a log, or JSON lines."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.live import Live
from rich.text import Text

from xlt_ray.api import CHECKING
from xlt_ray.cli.live_view import live_view, overall
from xlt_ray.cli.snapshot import SweepProgress
from xlt_ray.redact import redacted

if TYPE_CHECKING:
    from xlt_ray.config.sweep import SweepSpec
    from xlt_ray.ledger import TrialView
    from xlt_ray.sweep.runner import SweepSummary
    from xlt_ray.sweep.tasks import ProgressReporter, Report
    from xlt_ray.training.events import Event

AGAIN_S = 120.0
"""A log has a line about each trial at least this often."""
OVERALL_S = 600.0
"""A log has a line about the sweep this often."""
TICK_S = 10.0
"""JSON lines say this often how far a trial is in a stage."""


@contextmanager
def json_lines(_: SweepSpec) -> Iterator[ProgressReporter]:
    """A line of JSON for every event; a ``reporter`` for :func:`xlt_ray.run`."""
    yield JsonReporter()


@contextmanager
def reporter_for(sweep: SweepSpec) -> Iterator[ProgressReporter]:
    """A live view in a terminal, plain lines elsewhere; a ``reporter`` for :func:`xlt_ray.run`."""
    console = Console()
    if not console.is_terminal:
        yield LineReporter(sweep)
        return
    reporter = LiveReporter(sweep, console)

    def view() -> Any:
        return live_view(reporter.snapshot(), *console.size)

    with Live(get_renderable=view, console=console, refresh_per_second=2):
        yield reporter


class LiveReporter(SweepProgress):
    """Keeps what the live view shows; warnings stay above it."""

    def __init__(self, sweep: SweepSpec, console: Console) -> None:
        super().__init__(sweep)
        self._console = console

    def warned(self, message: str) -> None:
        self._console.print(Text(f"warning: {redacted(message)}", "yellow"))


class LineReporter(SweepProgress):
    """Prints a line for every event of a trial, its progress every two minutes, and that of the
    sweep every ten."""

    def __init__(self, sweep: SweepSpec, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(sweep, clock)
        self._printed: dict[int, tuple[str, float]] = {}
        """The last line about a running trial, and when it was printed."""
        self._overall_s = -OVERALL_S

    def preparing(self, step: str) -> None:
        super().preparing(step)
        # In a log, a sweep that is refused has its refusal and nothing else.
        if step != CHECKING:
            _echo(step)

    def begun(self, view: TrialView) -> None:
        super().begun(view)
        again = f" (attempt {view.attempts})" if view.attempts > 1 else ""
        self._print(view.number, f"begins{again}: {self.name_of(view)}")

    def reported(self, view: TrialView, report: Report) -> None:
        super().reported(view, report)
        line = sentence(report, self.metric)
        last, printed_s = self._printed.get(view.number, ("", -AGAIN_S))
        is_repeated = report.kind == "ticked" or line == last
        if line and not (is_repeated and self.clock() - printed_s < AGAIN_S):
            self._print(view.number, line)

    def finished(self, view: TrialView) -> None:
        super().finished(view)
        self._print(view.number, outcome(view))
        del self._printed[view.number]

    def timed(self, line: str) -> None:
        super().timed(line)
        if self.clock() - self._overall_s >= OVERALL_S:
            self._overall_s = self.clock()
            snapshot = self.snapshot()
            ended = f"{snapshot.num_ended} of {snapshot.num_trials} trials ended"
            _echo(f"{ended}, {overall(snapshot)}")

    def warned(self, message: str) -> None:
        _echo(f"warning: {redacted(message)}")

    def _print(self, number: int, line: str) -> None:
        _echo(f"trial {number} {line}")
        self._printed[number] = line, self.clock()


class JsonReporter:
    """Prints a JSON object for every event, on a line; docs/running.md lists their keys."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._ticked_s: dict[int, float] = {}

    def preparing(self, step: str) -> None:
        if step != CHECKING:
            self._print("preparing", step=step)

    def continues(self, trials: Sequence[TrialView]) -> None: ...

    def begun(self, view: TrialView) -> None:
        self._print(
            "begun",
            trial=view.number,
            params=dict(view.assignment),
            seed=view.seed,
            attempt=view.attempts,
        )

    def reported(self, view: TrialView, report: Report) -> None:
        number = view.number
        if report.kind == "ticked":
            if self._clock() - self._ticked_s.get(number, 0.0) < TICK_S:
                return
            self._ticked_s[number] = self._clock()
        fields: dict[str, Any] = {"trial": number, "stage": report.stage}
        if report.total_examples:
            fields |= {"examples": report.examples, "total_examples": report.total_examples}
        if report.metrics is not None:
            fields |= {"metrics": dict(report.metrics)}
        if report.finished_stage is not None:
            stage = report.finished_stage
            fields |= {"key": stage.key, "reused": stage.reused, "seconds": stage.seconds}
        for name in ("holder", "cause", "message", "remedy"):
            if value := getattr(report, name):
                fields[name] = value
        self._print(report.kind, **fields)

    def finished(self, view: TrialView) -> None:
        failed = {"cause": view.cause, "message": view.message} if view.cause else {}
        self._print(
            "ended", trial=view.number, state=view.state, objective=view.objective, **failed
        )

    def timed(self, line: str) -> None:
        self._print("time", text=line)

    def warned(self, message: str) -> None:
        self._print("warning", text=message)

    def summarized(self, summary: SweepSummary) -> None:
        """The last line: what this run did."""
        best = summary.best
        self._print(
            "summary",
            is_finished=summary.is_finished,
            stopped_by=summary.stopped_by,
            new_stages=summary.num_new_stages,
            examples=summary.num_examples,
            failed=[view.number for view in summary.failed],
            best=best
            and {
                "configuration": best.configuration,
                "objective": best.objective,
                "seeds": best.num_seeds,
                "params": dict(best.trial.assignment),
            },
        )

    def _print(self, event: str, **fields: Any) -> None:
        line = redacted({"time": round(self._clock(), 3), "event": event, **fields})
        print(json.dumps(line, ensure_ascii=False), flush=True)


def sentence(report: Report, metric: str) -> str:
    """A report in words; empty if it needs no line."""
    if report.kind == "waiting":
        return f"waits for its {report.stage} stage, which {report.holder} is making"
    if report.finished_stage is not None:
        stage = report.finished_stage
        cost = f"made ({stage.examples} examples, {stage.seconds:.0f} s)"
        return f"{stage.label} {stage.key[:10]} {'reused' if stage.reused else cost}"
    if report.kind in ("retrying", "lost"):
        return f"{report.cause}: {report.message}; retried {report.remedy}"
    if report.kind == "ticked":
        so_far = f" {report.examples}/{report.total_examples}" if report.total_examples else ""
        return f"{report.stage}{so_far}"
    if report.kind != "evaluated" or report.is_replay or report.metrics is None:
        return ""
    values = {name: report.metrics[name] for name in (metric, "loss") if name in report.metrics}
    shown = " ".join(f"{name} {value:.4f}" for name, value in values.items())
    return f"{report.stage} {report.examples}/{report.total_examples} {shown}"


def outcome(view: TrialView) -> str:
    """How a trial ended, in words."""
    if view.state == "complete":
        return f"complete: objective {view.objective:.4f}"
    if view.state == "pruned":
        how = "stopped by hand" if "stopped" in view.by_hand else "stopped early"
        if not view.curve:
            return how
        step, value = view.curve[-1]
        return f"{how} at {step} examples: {value:.4f}"
    return f"failed: {view.cause}: {view.message}"


def echo_event(event: Event, *, with_scores: bool = True) -> None:
    """Print an event of a walk in this process."""
    from xlt_ray.training.events import Committed, Evaluated, Waiting

    if isinstance(event, Evaluated):
        values = " ".join(f"{name} {value:.4f}" for name, value in event.metrics.items())
        _echo(f"{event.stage.kind} {event.examples}/{event.stage.ends_at} {values}")
    elif isinstance(event, Committed):
        how = "reused" if event.reused else f"made in {event.record.seconds:.1f} s"
        _echo(f"{event.stage.label}: {event.stage.key} {how}")
        for score in event.record.scores if with_scores else ():
            # Averaged weights, pairs and few shots have tasks of their own.
            where = f"{score.task} {score.split} {score.language}"
            _echo(f"  {where} {score.metric} {score.value:.4f}")
    elif isinstance(event, Waiting):
        _echo(f"{event.stage.label}: waits for {event.holder}, which is making it")


def _echo(line: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {line}", flush=True)
