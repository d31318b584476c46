"""Live progress of a sweep: a table in a terminal, plain lines anywhere else."""

from __future__ import annotations

import heapq
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import typer
from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from xlt_ray.config.supervision import ZERO_SHOT
from xlt_ray.redact import redacted
from xlt_ray.report.labels import parameter_names, value_label

if TYPE_CHECKING:
    from xlt_ray.config.sweep import SweepSpec
    from xlt_ray.ledger import TrialView
    from xlt_ray.sweep.runner import SweepSummary
    from xlt_ray.sweep.tasks import ProgressReporter, Report
    from xlt_ray.training.events import Event

SHOWN = 12
"""Rows of the live table: running trials, then the latest finished ones."""
LOG_SHOWN = 12
"""Lines of a failed trial's log in the summary."""
NUMBERS_SHOWN = 20
"""Most trials that the summary names for one cause of failure."""
AGAIN_S = 120.0
"""A log has a line about each trial at least this often."""
TIMED_S = 600.0
"""A log says this often how long the sweep still takes."""


@contextmanager
def reporter_for(sweep: SweepSpec) -> Iterator[ProgressReporter]:
    """A table in a terminal, plain lines elsewhere; a ``reporter`` for :func:`xlt_ray.run`."""
    console = Console()
    metric = sweep.settings.objective.metric
    if not console.is_terminal:
        yield LineReporter(metric)
        return
    table = TableReporter(sweep, metric, console)
    with Live(get_renderable=table.render, console=console, refresh_per_second=2):
        yield table


class LineReporter:
    """Prints a line for every event of a trial, and its progress every two minutes."""

    def __init__(self, metric: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._metric = metric
        self._clock = clock
        self._printed: dict[int, tuple[str, float]] = {}
        """The last line about a running trial, and when it was printed."""
        self._timed_s = -TIMED_S

    def begun(self, view: TrialView) -> None:
        again = f" (attempt {view.attempts})" if view.attempts > 1 else ""
        self._print(view.number, f"begins{again}: {described(view)}")

    def reported(self, view: TrialView, report: Report) -> None:
        line = sentence(report, self._metric)
        last, printed_s = self._printed.get(view.number, ("", -AGAIN_S))
        is_repeated = report.kind == "ticked" or line == last
        if line and not (is_repeated and self._clock() - printed_s < AGAIN_S):
            self._print(view.number, line)

    def finished(self, view: TrialView) -> None:
        self._print(view.number, outcome(view))
        del self._printed[view.number]

    def timed(self, line: str) -> None:
        if line and self._clock() - self._timed_s >= TIMED_S:
            self._timed_s = self._clock()
            _echo(line)

    def _print(self, number: int, line: str) -> None:
        _echo(f"trial {number} {line}")
        self._printed[number] = line, self._clock()

    def warned(self, message: str) -> None:
        _echo(f"warning: {redacted(message)}")


class TableReporter:
    """A table of the running and the latest trials, rewritten in place."""

    def __init__(self, sweep: SweepSpec, metric: str, console: Console) -> None:
        self._console = console
        self._name = sweep.name
        self._most = sweep.settings.search.most_trials
        self._metric = metric
        self._running: dict[int, tuple[TrialView, str]] = {}
        """Trials by number, and what each does."""
        self._latest: deque[TrialView] = deque(maxlen=SHOWN)
        self._num_ended = 0
        self._time_left = ""

    def begun(self, view: TrialView) -> None:
        self._running[view.number] = view, "begins"

    def reported(self, view: TrialView, report: Report) -> None:
        _, last = self._running.get(view.number, (view, ""))
        self._running[view.number] = view, sentence(report, self._metric) or last

    def finished(self, view: TrialView) -> None:
        self._running.pop(view.number, None)
        self._latest.append(view)
        self._num_ended += 1

    def timed(self, line: str) -> None:
        self._time_left = line

    def warned(self, message: str) -> None:
        # Above the table, and it stays there.
        self._console.print(Text(f"warning: {redacted(message)}", "yellow"))

    def render(self) -> Table:
        """The table as it stands."""
        # Another thread draws the table while trials begin and end.
        running = heapq.nlargest(SHOWN, self._running.copy().items())
        ended = sorted(self._latest, key=lambda view: -view.number)[: SHOWN - len(running)]
        table = Table(
            title=f"{self._name}: {self._num_ended} trials ended in this run, "
            f"at most {self._most} in all" + f"; {self._time_left}" * bool(self._time_left),
            title_justify="left",
            expand=True,
        )
        table.add_column("trial", justify="right", no_wrap=True)
        table.add_column("parameters", ratio=3, overflow="ellipsis", no_wrap=True)
        table.add_column("state", ratio=2, overflow="ellipsis", no_wrap=True)
        for number, (view, doing) in running:
            # Text, because brackets in a path or a message are not markup.
            table.add_row(str(number), Text(described(view)), Text(doing))
        for view in ended:
            style = {"failed": "red", "pruned": "dim", "complete": "green"}.get(view.state, "")
            cells = map(Text, (str(view.number), described(view), outcome(view)))
            table.add_row(*cells, style=style)
        return table


def described(view: TrialView) -> str:
    """A trial's parameters in one line."""
    return " ".join(filter(None, (settings_of(view), f"seed={view.seed}")))


def settings_of(view: TrialView) -> str:
    """The parameters of a configuration in one line."""
    names = parameter_names(view.assignment)
    return " ".join(
        f"{names[path]}={value_label(value)}" for path, value in view.assignment.items()
    )


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


def echo_summary(sweep: SweepSpec, summary: SweepSummary) -> None:
    """Print what a run did, its best result, and which commands come next."""
    from xlt_ray.ledger import STANDINGS, front_of, mixed_facts, standings

    states = [*standings(summary.trials).values()]
    has_trained = summary.num_new_stages or summary.num_stopped_early
    had_all = summary.is_finished and not (has_trained or summary.failed)
    early = summary.num_stopped_early
    counts = ", ".join(f"{states.count(state)} {state}" for state in STANDINGS if state in states)
    typer.echo(f"\n{sweep.name}: {counts or 'no trials'}")
    typer.echo(
        f"this run made {summary.num_new_stages} new stages, trained on "
        f"{summary.num_examples} examples"
        + (f", and stopped {early} trial{'s' * (early > 1)} early" if early else "")
        + (": everything was in the store" if had_all else "")
    )
    if summary.made_by_others:
        typer.echo(f"note: {summary.made_by_others}")
    if summary.best is not None:
        best = summary.best
        over = f", mean of {best.num_seeds} seeds" if best.num_seeds > 1 else ""
        typer.echo(
            f"best: configuration {best.configuration}, {sweep.settings.objective.metric} "
            f"{best.objective:.4f}{over} ({settings_of(best.trial)})"
            + (f" [{summary.supervision}]" if summary.supervision not in ("", ZERO_SHOT) else "")
        )
        for point in front_of(summary.trials, sweep.resolved()):
            typer.echo(f"Pareto front: {point}")
        if mixed := mixed_facts(summary.trials):
            typer.echo(f"warning: {mixed}")
    elif any(trial.violated for trial in summary.trials):
        typer.echo(
            "no configuration keeps all constraints, so none is selected; relax them in a sweep of "
            "another name, which reuses the trainings, or name a trial: "
            f"xlt export {sweep.name} DIR --trial N"
        )
    if summary.is_whole_space and summary.is_finished:
        num_tried = len({trial.configuration for trial in summary.trials})
        typer.echo(
            f"all {num_tried} configurations of the space were tried; search.trials is "
            f"{sweep.settings.search.trials}"
        )
    if summary.stopped_by:
        typer.echo(f"ended early: {summary.stopped_by}")
    for line in describe_failures(sweep.name, summary.failed):
        typer.echo(line)
    if not (summary.is_finished or summary.is_out_of_budget):
        typer.echo(f"not finished; continue: xlt resume {sweep.name}")
    else:
        commands = (f"xlt {verb} {sweep.name}" for verb in ("report", "trials", "ui"))
        typer.echo(f"next: {', '.join(commands)}")


def describe_failures(name: str, failed: Sequence[TrialView]) -> Iterator[str]:
    """Lines about failed trials, the most frequent cause first, with the message and log of the
    most frequent failure and the command that runs them again."""
    from xlt_ray.ledger import by_cause, retry_command

    if not failed:
        return
    yield f"{len(failed)} failed:"
    causes = by_cause(failed)
    for cause, alike in causes.items():
        view, num = _typical(alike), len(alike)
        numbers = ", ".join(str(trial.number) for trial in alike[:NUMBERS_SHOWN])
        more = f" and {num - NUMBERS_SHOWN} more" if num > NUMBERS_SHOWN else ""
        yield f"  {cause}: trial{'s' * (num > 1)} {numbers}{more}: {view.message}"
        yield from (f"      {line}" for line in view.log.splitlines()[-LOG_SHOWN:])
        if len(causes) > 1:
            yield f"    run these again: {retry_command(name, cause)}"
    yield f"run them again: xlt resume {name} --failed"


def _typical(views: Sequence[TrialView]) -> TrialView:
    """The first trial with the most frequent failure."""
    from xlt_ray.sweep.failures import bug_signature

    signatures = [bug_signature(view.message, view.log) for view in views]
    return views[signatures.index(max(signatures, key=signatures.count))]


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
