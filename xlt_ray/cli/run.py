"""``xlt run``, ``xlt resume``, ``xlt stage``: everything that trains."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

import typer

from xlt_ray.cli.arguments import (
    AcceptOption,
    NameArgument,
    OverridesArgument,
    SweepArgument,
    VerifyOption,
    find_sweep,
    named_sweep,
)
from xlt_ray.errors import SpecError, nearest
from xlt_ray.home import Home

if TYPE_CHECKING:
    from xlt_ray.config.sweep import SweepSpec
    from xlt_ray.ledger import Retry


def run(
    sweep: SweepArgument,
    overrides: OverridesArgument = None,
    accept_changes: AcceptOption = False,
    verify: VerifyOption = False,
) -> None:
    """Start a sweep, or continue it where it stopped.

    Running a sweep twice never repeats finished work. Ctrl-C stops it; the same command goes on.
    Where the data or the weights that earlier trials were made with have changed, nothing starts.

    [dim]xlt run sweeps/quickstart.yaml[/]
    [dim]xlt run sweeps/pos-fusion-layer.yaml data.root=data model=xlm-roberta-base[/]
    """
    home = Home.from_environment()
    _run(find_sweep(sweep, overrides, home), home, accept_changes=accept_changes, verify=verify)


def resume(
    name: NameArgument,
    failed: Annotated[
        bool, typer.Option("--failed", help="Run failed trials again, with the same parameters.")
    ] = False,
    where: Annotated[
        str | None,
        typer.Option(metavar="CAUSE", help="Run failed trials of one cause again, as oom or lost."),
    ] = None,
    trial: Annotated[
        list[int] | None,
        typer.Option(metavar="N", help="Run this failed trial again; may be given repeatedly."),
    ] = None,
    more: Annotated[
        int, typer.Option("--more", min=0, metavar="N", help="Ask N further configurations.")
    ] = 0,
    accept_changes: AcceptOption = False,
    verify: VerifyOption = False,
) -> None:
    """Continue a sweep of this home by its name.

    [dim]xlt resume quickstart[/]
    [dim]xlt resume quickstart --failed[/]
    [dim]xlt resume quickstart --where oom[/]
    [dim]xlt resume quickstart --trial 17[/]
    [dim]xlt resume quickstart --more 16[/]
    """
    from xlt_ray.ledger import Retry, load_ledger, sweep_of_ledger

    home = Home.from_environment()
    retry = None
    if failed or where or trial:
        retry = Retry(cause=_cause(where), trials=tuple(trial or ()))
    ledger = load_ledger(home, named_sweep(name))
    overrides = [f"search.trials={ledger.sweep['search']['trials'] + more}"] if more else []
    sweep = sweep_of_ledger(ledger, overrides)
    _run(sweep, home, retry=retry, accept_changes=accept_changes, verify=verify)


def stage(
    sweep: SweepArgument,
    overrides: OverridesArgument = None,
    trial: Annotated[
        int | None,
        typer.Option(metavar="N", help="The assignment of this trial of the sweep's ledger."),
    ] = None,
    until: Annotated[
        Literal["align", "intermediate", "target", "few_shot", "evaluate"],
        typer.Option(help="The last stage to make."),
    ] = "evaluate",
) -> None:
    """Make the stages of one trial in this very process, without Ray: for debugging.

    Without --trial every distribution takes its first value. Stages that are in the home's
    store are reused, new ones are committed there.

    [dim]xlt stage sweeps/quickstart.yaml --until align[/]
    [dim]xlt stage quickstart --trial 3[/]
    """
    from xlt_ray.cli.progress import echo_event
    from xlt_ray.sweep.local_run import make_alone

    home = Home.from_environment()
    for event in make_alone(find_sweep(sweep, overrides, home), home, trial=trial, until=until):
        echo_event(event)


def _cause(where: str | None) -> str:
    """``oom`` or ``cause=oom`` as a cause, nothing where nothing was given."""
    from xlt_ray.config.retry_policy import CAUSES

    if where is None:
        return ""
    cause = where.removeprefix("cause=")
    if cause not in CAUSES:
        raise SpecError("unknown cause", key=f"--where {where}", remedy=nearest(cause, CAUSES))
    return cause


def _run(
    sweep: SweepSpec,
    home: Home,
    *,
    retry: Retry | None = None,
    accept_changes: bool,
    verify: bool,
) -> None:
    from xlt_ray.cli.progress import echo_summary, reporter_for
    from xlt_ray.sweep.runner import run as run_sweep

    with reporter_for(sweep) as board:
        summary = run_sweep(
            sweep, home, board, retry=retry, accept_changes=accept_changes, is_verified=verify
        )
    echo_summary(sweep, summary)
    if summary.failed or not (summary.is_finished or summary.is_out_of_budget):
        raise typer.Exit(1)
