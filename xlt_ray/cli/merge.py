"""``xlt merge``: one network from the weights of several trials."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from xlt_ray import api
from xlt_ray.cli.arguments import JsonOption, NameArgument
from xlt_ray.cli.output import print_json, print_table
from xlt_ray.errors import SpecError
from xlt_ray.home import Home

if TYPE_CHECKING:
    from xlt_ray.report.merging import MergeRow


def merge(
    name: NameArgument,
    is_of_seeds: Annotated[
        bool, typer.Option("--seeds", help="Merge the seeds of each configuration.")
    ] = False,
    top: Annotated[
        int | None,
        typer.Option(
            min=1,
            metavar="K",
            help="Merge a trial of each of the K best configurations; with --seeds, the seeds of "
            "each of them.",
        ),
    ] = None,
    is_greedy: Annotated[
        bool,
        typer.Option("--greedy", help="Add a trial only if the objective does not fall with it."),
    ] = False,
    method: Annotated[
        Literal["mean", "arithmetic", "ties", "layer-swap"],
        typer.Option(help="How weights are merged."),
    ] = "mean",
    scale: Annotated[
        float | None,
        typer.Option(metavar="X", help="Factor of the change, for arithmetic and ties."),
    ] = None,
    density: Annotated[
        float | None, typer.Option(metavar="X", help="Share of the changes that ties keeps.")
    ] = None,
    bottom: Annotated[
        int | None, typer.Option(metavar="N", help="Lowest layers that layer-swap swaps.")
    ] = None,
    highest: Annotated[
        int | None,
        typer.Option("--highest", metavar="N", help="Highest layers that layer-swap swaps."),
    ] = None,
    trial: Annotated[
        int | None, typer.Option(metavar="N", help="The task's model, for layer-swap.")
    ] = None,
    language_trial: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="The trial whose encoder before its target stage is the language model.",
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Merge the networks of finished trials into one, and score it in every language.

    The table compares it with the mean of its members; without --seeds, --top or --trial it shows
    what was merged before. Nothing is trained. The trials of a sweep with `target.head_seed` begin
    with the same head on every seed; heads that began with different weights cannot be merged.

    [dim]xlt merge quickstart --top 3[/]
    [dim]xlt merge quickstart --top 5 --greedy[/]
    [dim]xlt merge quickstart --seeds --method ties --density 0.3[/]
    """
    from xlt_ray.cli.progress import echo_event
    from xlt_ray.config.methods import MERGES, Merge, method_named
    from xlt_ray.config.validation import read_options
    from xlt_ray.ledger import load_ledger
    from xlt_ray.ledger.merges import merges_of
    from xlt_ray.report.frames import read_snapshot
    from xlt_ray.report.merging import merge_rows
    from xlt_ray.store.store import StageStore

    home = Home.from_environment()
    ledger = load_ledger(home, api.sweep_name(name))
    given = {"method": method, "scale": scale, "density": density, "bottom": bottom, "top": highest}
    settings = read_options(
        method_named(MERGES, method).settings,
        {name: value for name, value in given.items() if value is not None},
        {"top": "highest"},
    )
    assert isinstance(settings, Merge)
    if method == "layer-swap" and (trial is None or language_trial is None):
        raise _misused("--method layer-swap", "give --trial and --language-trial")
    if method != "layer-swap" and not (trial is None and language_trial is None):
        raise _misused("--trial", "is for --method layer-swap; --seeds or --top choose the others")
    if is_greedy and not (is_of_seeds or top):
        raise _misused("--greedy", "give --seeds or --top K, the trials to choose from")
    if method == "layer-swap" and (is_of_seeds or top):
        raise _misused("--method layer-swap", "leave --seeds and --top out")
    if is_of_seeds or top is not None or trial is not None:
        from xlt_ray.sweep.merge_trials import Group, seed_groups, top_group
        from xlt_ray.sweep.runner import open_merger

        if trial is not None:
            groups = [Group(f"trial {trial} with {language_trial}", (ledger.trial(trial),))]
        elif is_of_seeds:
            groups = seed_groups(ledger, top)
        else:
            assert top is not None
            groups = [top_group(ledger, top)]
        language = None if language_trial is None else ledger.trial(language_trial)
        merger = open_merger(ledger, home)
        for group in groups:
            if is_greedy:
                events = merger.greedy(group, settings)
            else:
                events = merger.merge(group, settings, language)
            for event in events:
                if not as_json:
                    echo_event(event, with_scores=False)
    snapshot = read_snapshot(ledger, StageStore(home.store_of(ledger.sweep)))
    rows = merge_rows(snapshot, merges_of(home, ledger.name))
    if as_json:
        print_json([_row(row) for row in rows])
    else:
        print_merges(rows, ledger.name)


def _misused(option: str, problem: str) -> SpecError:
    return SpecError(problem, file="command line", key=option)


def _row(row: MergeRow) -> dict[str, Any]:
    gain = row.gain
    interval = gain and gain.interval
    return {
        **asdict(row.merged),
        "best_objective": row.best_objective,
        "scores": dict(row.scores),
        "members": dict(row.members),
        "gain": gain and gain.difference,
        "low": interval and interval.low,
        "high": interval and interval.high,
    }


def print_merges(rows: list[MergeRow], name: str, *, empty: str = "no merges yet") -> None:
    """A line for each merge: what the objective says, and test scores against its members."""
    print_table(
        ("merge", "of trials", "objective", "best trial's", "source", "trials'", "others",
         "trials'", "gain", "95 % interval"),
        map(_cells, rows),
        empty=empty,
        title=f"{name}: merged networks, in %" if rows else None,
        legend="source and others: test score in the source language, and mean over the others, of "
        "the merge and as the mean of its trials; gain: their difference in the others, with "
        "Student's interval over languages" if rows else None,
        has_numbers=True,
    )  # fmt: skip


def _percent(value: float | None) -> str:
    return "" if value is None else f"{100 * value:.1f}"


def _cells(row: MergeRow) -> list[str]:
    merged, gain = row.merged, row.gain
    interval = gain and gain.interval
    return [
        f"{merged.title}, {merged.what}",
        " ".join(map(str, merged.trials)),
        _percent(merged.objective),
        _percent(row.best_objective),
        _percent(row.scores.get(row.source_language)),
        _percent(row.members.get(row.source_language)),
        _percent(row.mean(row.scores)),
        _percent(row.mean(row.members)),
        f"{100 * gain.difference:+.1f}" if gain else "",
        f"{100 * interval.low:+.1f} to {100 * interval.high:+.1f}" if interval else "",
    ]
