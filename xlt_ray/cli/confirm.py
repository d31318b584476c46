"""``xlt confirm``: how much of a winner's score was the luck of its seeds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from xlt_ray.cli.arguments import AcceptOption, NameArgument, OverridesArgument, named_sweep
from xlt_ray.home import Home

if TYPE_CHECKING:
    from xlt_ray.report.confirmation import Confirmation, Confirmed


def confirm(
    name: NameArgument,
    seeds: Annotated[
        int, typer.Option("--seeds", min=2, metavar="N", help="Fresh seeds of each configuration.")
    ],
    overrides: OverridesArgument = None,
    top: Annotated[
        int, typer.Option("--top", min=1, metavar="K", help="The K best configurations.")
    ] = 1,
    accept_changes: AcceptOption = False,
) -> None:
    """Run a sweep's winner again on fresh seeds, as the sweep NAME-confirm of its own.

    The table shows the score that selected it beside the mean over fresh seeds: their difference
    is the selection bias. Like a run, it goes on where it stopped when it is called again, and
    shows the table of a finished one at once. An override says how it is run, nothing else.

    [dim]xlt confirm quickstart --seeds 6[/]
    [dim]xlt confirm quickstart --seeds 6 --top 3 resources.workers=2[/]
    """
    from xlt_ray.cli.board import echo_summary, reporter_for
    from xlt_ray.ledger import load_ledger, sweep_of_ledger
    from xlt_ray.report.confirmation import confirmation_of, winners
    from xlt_ray.report.results import Results
    from xlt_ray.sweep.confirm import confirming
    from xlt_ray.sweep.runner import run

    home = Home.from_environment()
    ledger = load_ledger(home, named_sweep(name))
    snapshot = Results(home, ledger.name).snapshot
    chosen = winners(snapshot, top)
    sweep = confirming(
        sweep_of_ledger(ledger),
        [one.assignment for one in chosen],
        [one.seed for one in snapshot.trials],
        seeds=seeds,
        overrides=overrides or (),
    )
    open_ones = [one for one in snapshot.trials if not one.is_finished]
    if open_ones:
        typer.echo(
            f"warning: {len(open_ones)} trials of {ledger.name} have not ended; "
            "what wins among the others is confirmed",
            err=True,
        )
    with reporter_for(sweep) as board:
        summary = run(sweep, home, board, accept_changes=accept_changes)
    echo_summary(sweep, summary)
    fresh = Results(home, sweep.name).snapshot
    _print(confirmation_of(snapshot, fresh, [one.configuration for one in chosen]))
    if summary.failed or not summary.is_finished:
        raise typer.Exit(1)


def _print(found: Confirmation) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(
        title=f"{found.sweep}: chosen among {found.num_candidates} configurations, "
        f"confirmed by {found.confirmed_by}, in %",
        title_justify="left",
        caption="\n".join(
            [
                found.rule,
                "selected: mean over the seeds that took part in the selection; fresh: mean over "
                "fresh seeds, with Student's 95 % interval; bias: selected - fresh",
                *(f"note: {one}" for one in found.notes),
            ]
        ),
        caption_justify="left",
    )
    columns = ("configuration", "", "selected", "seeds", "fresh", "seeds", "95 % interval", "bias")
    for index, column in enumerate(columns):
        table.add_column(column, justify="left" if index == 1 else "right")
    last = None
    for one in found.rows:
        if last is not None and one.configuration != last:
            table.add_section()
        table.add_row(*_cells(one))
        last = one.configuration
    console = Console(markup=False)
    # A log has no width of its own: cut nothing there.
    if not console.is_terminal:
        console = Console(width=160, markup=False)
    console.print(table)


def _named(one: Confirmed) -> str:
    means = {"mean": "mean of {}", "mean_without_source": "mean of {} without the source"}
    if one.measure in means:
        return "test, " + means[one.measure].format(len(one.languages))
    return "objective" if one.measure == "objective" else f"test, {one.languages[0]}"


def _cells(one: Confirmed) -> list[str]:
    fresh, bias = one.fresh, one.bias
    interval = None if fresh is None else fresh.interval
    return [
        str(one.configuration),
        _named(one),
        f"{100 * one.selected:.1f}",
        str(one.num_selecting_seeds),
        "–" if fresh is None else f"{100 * fresh.mean:.1f}",
        "0" if fresh is None else str(fresh.num_seeds),
        f"{100 * interval.low:.1f} to {100 * interval.high:.1f}" if interval else "–",
        "–" if bias is None else f"{100 * bias:+.2f}",
    ]
