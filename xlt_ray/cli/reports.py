"""``xlt report``, ``xlt compare``, ``xlt confirm``: results of sweeps, for papers."""

from __future__ import annotations

from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from xlt_ray import api
from xlt_ray.cli.arguments import AcceptOption, JsonOption, NameArgument, OverridesArgument
from xlt_ray.cli.output import print_json, print_table, warn
from xlt_ray.errors import LedgerError, SpecError
from xlt_ray.home import Home

if TYPE_CHECKING:
    from xlt_ray.report.comparison import Candidate, Comparison, ComparisonRow
    from xlt_ray.report.confirmation import Confirmation, Confirmed
    from xlt_ray.report.item_uncertainty import OverItems
    from xlt_ray.report.stats import Interval


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
    is the selection bias. The same command continues a confirmation that was stopped, and shows
    the table of a finished one at once. An override may change how it runs, nothing else.

    [dim]xlt confirm quickstart --seeds 6[/]
    [dim]xlt confirm quickstart --seeds 6 --top 3 resources.workers=2[/]
    """
    from xlt_ray.cli.progress import reporter_for
    from xlt_ray.cli.summary import echo_summary
    from xlt_ray.ledger import load_ledger, sweep_of_ledger
    from xlt_ray.report.confirmation import confirmation_of, winners
    from xlt_ray.report.results import Results
    from xlt_ray.sweep.confirm_winners import confirming

    home = Home.from_environment()
    ledger = load_ledger(home, api.sweep_name(name))
    snapshot = Results(home, ledger.name).snapshot
    chosen = winners(snapshot, top)
    sweep = confirming(
        sweep_of_ledger(ledger),
        [winner.assignment for winner in chosen],
        [trial.seed for trial in snapshot.trials],
        seeds=seeds,
        overrides=overrides or (),
    )
    num_unfinished = sum(not trial.is_finished for trial in snapshot.trials)
    if num_unfinished:
        warn(
            f"{num_unfinished} trials of {ledger.name} have not ended; the best of the others is "
            "confirmed"
        )
    fresh = api.run(sweep, home=home, accept_changes=accept_changes, reporter=reporter_for)
    summary = fresh.summary
    echo_summary(sweep, summary)
    configurations = [winner.configuration for winner in chosen]
    _print_confirmation(confirmation_of(snapshot, fresh.snapshot, configurations))
    if summary.failed or not summary.is_finished:
        raise typer.Exit(1)


def _print_confirmation(confirmation: Confirmation) -> None:
    rows: list[list[str] | None] = []
    for _, group in groupby(confirmation.rows, key=lambda row: row.configuration):
        rows += [*map(_confirmation_cells, group), None]
    print_table(
        ("configuration", "", "selected", "seeds", "fresh", "seeds", "95 % interval", "bias"),
        rows,
        title=f"{confirmation.sweep}: chosen among {confirmation.num_candidates} configurations, "
        f"confirmed by {confirmation.confirmed_by}, in %",
        legend="\n".join(
            [
                confirmation.rule,
                "selected: mean over the seeds that took part in the selection; fresh: mean over "
                "fresh seeds, with Student's 95 % interval; bias: selected - fresh",
                *(f"note: {note}" for note in confirmation.notes),
            ]
        ),
        has_numbers=True,
    )


def _confirmation_cells(row: Confirmed) -> list[str]:
    fresh, num_languages = row.fresh, len(row.languages)
    interval = None if fresh is None else fresh.interval
    measures = {
        "mean": f"test, mean of {num_languages}",
        "mean_without_source": f"test, mean of {num_languages} without the source",
        "objective": "objective",
    }
    return [
        str(row.configuration),
        measures.get(row.measure) or f"test, {row.languages[0]}",
        f"{100 * row.selected:.1f}",
        str(row.num_selecting_seeds),
        "–" if fresh is None else f"{100 * fresh.mean:.1f}",
        "0" if fresh is None else str(fresh.num_seeds),
        f"{100 * interval.low:.1f} to {100 * interval.high:.1f}" if interval else "–",
        "–" if row.bias is None else f"{100 * row.bias:+.2f}",
    ]


def report(
    name: NameArgument,
    groups: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help=r"YAML file of language groups to average over: GROUP: \[de, nl]."
        ),
    ] = None,
    seen: Annotated[
        str | None,
        typer.Option(
            metavar="CODES",
            help="Languages that count as seen, separated by commas; by default, those of the "
            "training data.",
        ),
    ] = None,
    is_logged: Annotated[
        bool, typer.Option("--log", help="Keep it also as an artifact of the sweep's MLflow run.")
    ] = False,
    as_text: Annotated[
        bool, typer.Option("--text", help="Print it, 80 columns wide, and write nothing.")
    ] = False,
    paper: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="Write a paper pack instead: LaTeX, PDF figures and BibTeX."
        ),
    ] = None,
) -> None:
    """Write the report of a sweep: one HTML page, tables and figures beside it.

    [dim]xlt report quickstart[/]
    [dim]xlt report quickstart --text[/]
    [dim]xlt report quickstart --paper paper[/]
    [dim]xlt report quickstart --log[/]
    """
    from xlt_ray.ledger import load_ledger
    from xlt_ray.report.page import write_report
    from xlt_ray.report.tables import read_groupings
    from xlt_ray.store.store import StageStore
    from xlt_ray.tracking import ModelRegistry, mend_database

    sweep = api.sweep_name(name)
    home = Home.from_environment().holding(sweep)
    ledger = load_ledger(home, sweep)
    store = StageStore(home.store_of(ledger.sweep))
    groupings = read_groupings(groups) if groups else None
    seen_languages = [code.strip() for code in (seen or "").split(",") if code.strip()]
    if (as_text and (groups or seen or is_logged or paper)) or (paper and is_logged):
        option, others = ("--text", "--groups, --seen, --log and --paper")
        if not as_text:
            option, others = ("--paper", "--log")
        raise SpecError(
            "does not write the report", file="command line", key=option,
            remedy=f"leave out {others}",
        )  # fmt: skip
    if as_text:
        from xlt_ray.report.frames import read_snapshot
        from xlt_ray.report.text_report import report_text

        typer.echo(report_text(read_snapshot(ledger, store)))
        return
    if paper:
        from xlt_ray.data.task import task_named
        from xlt_ray.report.frames import read_snapshot
        from xlt_ray.report.paper import write_paper
        from xlt_ray.report.tables import all_groupings

        snapshot = read_snapshot(ledger, store)
        document = write_paper(
            snapshot,
            paper,
            all_groupings(snapshot, groupings, seen_languages),
            citation=lambda task: task_named(task).citation,
        )
        typer.echo(f"paper: {document}")
        return
    tracking = ledger.sweep["places"]["tracking"]
    registry = None
    if is_logged and ledger.origin:
        raise LedgerError(f"{sweep}: is {ledger.origin}, and is not sent to MLflow")
    if is_logged:
        mend_database(home, tracking, warn)
        registry = ModelRegistry(home, ledger.name, tracking, ledger.identity)
    page = write_report(
        home,
        ledger,
        store,
        groupings=groupings,
        seen=seen_languages,
        warn=lambda line: typer.echo(f"warning: {line}"),
    )
    typer.echo(f"report: {page}")
    if registry is not None:
        typer.echo(f"kept: {registry.keep(page.parent, 'report').place} of {registry.uri}")


def compare(
    sweeps: Annotated[
        list[str],
        typer.Argument(
            metavar="NAME[/CONFIGURATION]...",
            help="Sweeps of the home: the selected configuration of each, or the one named.",
        ),
    ],
    as_json: JsonOption = False,
) -> None:
    """Compare sweeps with the first one: paired by seed, language by language.

    [dim]xlt compare baseline hybrid[/]
    [dim]xlt compare quickstart/0 quickstart/3 --json[/]
    """
    from xlt_ray.report.comparison import compare as compare_all
    from xlt_ray.report.comparison import comparison_json

    comparisons = compare_all([_candidate(sweep) for sweep in sweeps])
    if as_json:
        print_json(comparison_json(comparisons))
        return
    for comparison in comparisons:
        _print_comparison(comparison)


def _candidate(text: str) -> Candidate:
    from xlt_ray.report.comparison import candidate_of
    from xlt_ray.report.results import Results

    name, slash, configuration = text.partition("/")
    if Path(text).is_file():
        name, slash = api.sweep_name(text), ""
    if slash and not configuration.isdecimal():
        raise LedgerError(
            f"{text}: {configuration!r} is not the number of a configuration; write NAME/3 or NAME"
        )
    results = Results(None, name)
    return candidate_of(
        results.snapshot, int(configuration) if slash else None, results.confirmations()
    )


def _print_comparison(comparison: Comparison) -> None:
    first, second = comparison.baseline, comparison.other
    seeds = len(comparison.seeds)
    rows: list[list[str] | None] = []
    for line in comparison.lines:
        rows.append(_cells(line, comparison))
        if line.kind == "mean":
            rows.append(None)
    print_table(
        (
            *("", "chance", first.label, second.label, "difference", "95 % interval", "p", "Holm"),
            *("", "items", "over seeds and items", "over items", "p", "Holm"),
        ),
        rows,
        title=f"{second.label} against {first.label}: {first.table.task}, test "
        f"{first.table.metric} in %, {seeds} paired seed{'' if seeds == 1 else 's'}",
        legend="\n".join(
            [
                *(f"{candidate.label}: {_chosen(candidate)}" for candidate in (first, second)),
                "difference: mean over seeds of the paired differences; interval: Student's"
                f"{', † given the stages of the note' if comparison.given else ''}; "
                "p: sign-flip test; Holm: over the languages (means: over the sweeps); "
                "* below 0.05 with 6 seeds or more",
                *([_ITEMS_LEGEND] if any(line.items for line in comparison.lines) else []),
                *(f"note: {note}" for note in comparison.notes),
            ]
        ),
        has_numbers=True,
    )


_ITEMS_LEGEND = (
    "items: of the test set; over seeds and items: the interval for other trainings and other test "
    "sets of this kind; over items: the paired bootstrap of these very networks, with its p and "
    "that corrected over the languages"
)


def _chosen(candidate: Candidate) -> str:
    among = f" The best of {candidate.num_candidates} configurations."
    return candidate.rule + (among if candidate.is_best and candidate.num_candidates > 1 else "")


def _cells(line: ComparisonRow, comparison: Comparison) -> list[str]:
    table = comparison.baseline.table
    source, chance = table.source_language, table.evidence.mean_chance(line.languages)
    names = {
        "mean": f"mean of {len(line.languages)}",
        "mean_without_source": f"mean of {len(line.languages)} without {source}",
    }
    name = names.get(line.kind, line.languages[0])
    marks = [
        "≡ " * (line.kind == "language" and name in candidate.row.near_constant)
        for candidate in (comparison.baseline, comparison.other)
    ]
    result = line.paired
    if result is None or line.baseline is None or line.other is None:
        return [name, *["–"] * 7, "", *_item_cells(None)]
    return [
        name,
        "–" if chance is None else f"{100 * chance:.1f}",
        f"{marks[0]}{100 * line.baseline:.1f}",
        f"{marks[1]}{100 * line.other:.1f}",
        f"{100 * result.difference:+.2f}",
        _span(result.interval),
        "–" if result.p is None else f"{result.p:.3f}",
        "–" if line.p_holm is None else f"{line.p_holm:.3f}",
        "*" if line.is_significant else "",
        *_item_cells(line.items),
    ]


def _item_cells(items: OverItems | None) -> list[str]:
    from xlt_ray.config.task_types import TOO_FEW_ITEMS

    if items is None:
        return ["–", "–", "–", "–", "–"]
    drawn, few = items.drawn, any(size < TOO_FEW_ITEMS for size in items.sizes.values())
    return [
        f"{items.num_items:,}" + (" ⚠" if few else ""),
        _span(items.interval),
        _span(drawn.interval if drawn else None),
        f"{drawn.p:.3f}" if drawn else "–",
        "–" if items.p_holm is None else f"{items.p_holm:.3f}",
    ]


def _span(interval: Interval | None) -> str:
    if interval is None:
        return "–"
    mark = " †" if interval.method.endswith("_given_stages") else ""
    return f"{100 * interval.low:+.2f} to {100 * interval.high:+.2f}{mark}"
