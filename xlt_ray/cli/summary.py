"""What a run of a sweep did, when it has ended: counts, best, failures, and what comes next."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import typer

from xlt_ray.config.labels import run_name
from xlt_ray.config.supervision import ZERO_SHOT

if TYPE_CHECKING:
    from xlt_ray.api import RunResults
    from xlt_ray.config.sweep import SweepSpec
    from xlt_ray.ledger import TrialView
    from xlt_ray.sweep.runner import SweepSummary

LOG_SHOWN = 12
"""Lines of a failed trial's log in the summary."""
CONFIGURATIONS_SHOWN = 8
"""Rows of the table of scores at the end of a run."""
NUMBERS_SHOWN = 20
"""Most trials that the summary names for one cause of failure."""


def echo_scores(results: RunResults) -> None:
    """Print the scores of the best configurations; nothing before one has been scored."""
    from xlt_ray.cli.scores import print_configurations
    from xlt_ray.report.tables import known_groupings, tables_of

    if results.summary.best is None:
        return
    for table in tables_of(results.snapshot, known_groupings):
        typer.echo()
        print_configurations(table, CONFIGURATIONS_SHOWN)


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
        name = run_name(best.trial.assignment, sweep.resolved()["space"])
        over = f", mean of {best.num_seeds} seeds" if best.num_seeds > 1 else ""
        typer.echo(
            f"best: configuration {best.configuration}, {sweep.settings.objective.metric} "
            f"{best.objective:.4f}{over}"
            + (f" ({name})" if name else "")
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
        commands = (f"xlt {verb} {sweep.name}" for verb in ("scores", "report", "ui"))
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
