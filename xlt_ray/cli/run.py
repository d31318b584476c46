"""``xlt run``, ``xlt resume``, ``xlt worker``, ``xlt stage``: everything that trains."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from xlt_ray import api
from xlt_ray.cli.arguments import (
    AcceptOption,
    JsonLinesOption,
    NameArgument,
    OverridesArgument,
    SweepArgument,
    VerifyOption,
)
from xlt_ray.cli.output import warn
from xlt_ray.home import Home


def run(
    sweep: SweepArgument,
    overrides: OverridesArgument = None,
    accept_changes: AcceptOption = False,
    verify: VerifyOption = False,
    as_json: JsonLinesOption = False,
) -> None:
    """Start a sweep, or continue it where it stopped.

    Running a sweep twice never repeats finished work. Ctrl-C stops it; the same command continues
    it. If the data or weights of earlier trials have changed, nothing starts.

    [dim]xlt run sweeps/quickstart.yaml[/]
    [dim]xlt run sweeps/generalized.yaml data.root=data model.name=xlm-roberta-base[/]
    """
    from xlt_ray.cli.progress import json_lines, reporter_for

    end_with(
        api.run(
            sweep,
            overrides or (),
            accept_changes=accept_changes,
            verify=verify,
            reporter=json_lines if as_json else reporter_for,
        ),
        as_json=as_json,
    )


def resume(
    name: NameArgument,
    failed: Annotated[
        bool, typer.Option("--failed", help="Run failed trials again, with the same parameters.")
    ] = False,
    where: Annotated[
        str | None,
        typer.Option(
            metavar="CAUSE", help="Run failed trials of one cause again, for example oom or lost."
        ),
    ] = None,
    trial: Annotated[
        list[int] | None,
        typer.Option(metavar="N", help="Run this failed trial again; may be given repeatedly."),
    ] = None,
    more: Annotated[
        int, typer.Option("--more", min=0, metavar="N", help="Try N further configurations.")
    ] = 0,
    accept_changes: AcceptOption = False,
    verify: VerifyOption = False,
    as_json: JsonLinesOption = False,
) -> None:
    """Continue a sweep of this home by its name.

    [dim]xlt resume quickstart[/]
    [dim]xlt resume quickstart --failed[/]
    [dim]xlt resume quickstart --where oom[/]
    [dim]xlt resume quickstart --trial 17[/]
    [dim]xlt resume quickstart --more 16[/]
    """
    from xlt_ray.cli.progress import json_lines, reporter_for

    end_with(
        api.resume(
            name,
            failed=failed,
            cause=(where or "").removeprefix("cause="),
            trials=trial or (),
            more=more,
            accept_changes=accept_changes,
            verify=verify,
            reporter=json_lines if as_json else reporter_for,
        ),
        as_json=as_json,
    )


def stage(
    sweep: SweepArgument,
    overrides: OverridesArgument = None,
    trial: Annotated[
        int | None,
        typer.Option(metavar="N", help="Use the parameters of this trial of the sweep."),
    ] = None,
    until: Annotated[
        Literal["align", "intermediate", "target", "few_shot", "evaluate"],
        typer.Option(help="The last stage to make."),
    ] = "evaluate",
) -> None:
    """Make the stages of one trial in this process, without Ray, for debugging.

    Without --trial every distribution takes its first value. Stages of the store are reused, and
    new ones are committed to it.

    [dim]xlt stage sweeps/quickstart.yaml --until align[/]
    [dim]xlt stage quickstart --trial 3[/]
    """
    from xlt_ray.cli.progress import echo_event
    from xlt_ray.sweep.runner import make_alone

    home = Home.from_environment()
    spec = api.find_sweep(sweep, overrides or (), home)
    for event in make_alone(spec, home, trial=trial, until=until):
        echo_event(event)


def worker(sweep: SweepArgument, overrides: OverridesArgument = None) -> None:
    """Make missing stages of a sweep in this process, without Ray, beside other workers.

    For job arrays and clusters without a common Ray: any number of workers on machines that share
    the home. `xlt run` afterwards trains nothing and writes the results. SIGTERM and Ctrl-C save
    progress; the same command continues.

    [dim]xlt worker sweeps/fusion-method.yaml data.root=data[/]
    """
    import signal

    from xlt_ray.cli.progress import echo_event
    from xlt_ray.sweep.stage_worker import WorkerSummary, work

    received: list[int] = []

    def stop(number: int, _: object) -> None:
        if received:
            raise KeyboardInterrupt
        received.append(number)
        warn("stopping after saving progress; repeat to stop at once")

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)
    home, summary = Home.from_environment(), WorkerSummary()
    spec = api.find_sweep(sweep, overrides or (), home)
    for event in work(spec, home, summary, lambda: bool(received)):
        echo_event(event, with_scores=False)
    for failure in summary.failed.values():
        typer.echo(f"failed: {failure}")
    made = f"{spec.name}: {summary.num_made} stage{'s' * (summary.num_made != 1)} made"
    left = f"{summary.num_left} trials have no scores yet"
    done = "every trial has its scores; `xlt run` writes them to the ledger and MLflow"
    typer.echo(f"{made}; {left if summary.num_left else done}")
    if received or summary.failed:
        raise typer.Exit(128 + received[0] if received else 1)


def end_with(results: api.RunResults, *, as_json: bool = False) -> None:
    """Print what a run did; exit code 1 where trials failed or the sweep is not finished."""
    from xlt_ray.cli.progress import JsonReporter
    from xlt_ray.cli.summary import echo_scores, echo_summary

    summary = results.summary
    if as_json:
        JsonReporter().summarized(summary)
    else:
        echo_scores(results)
        echo_summary(results.spec, summary)
    if summary.failed or not (summary.is_finished or summary.is_out_of_budget):
        raise typer.Exit(1)
