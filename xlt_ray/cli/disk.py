"""``xlt gc``, ``xlt rm``: free stages that no trial needs, and remove a sweep."""

from __future__ import annotations

import shutil
import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from xlt_ray import api
from xlt_ray.cli.arguments import JsonOption, NameArgument
from xlt_ray.cli.output import print_json, print_table, warn
from xlt_ray.home import Home

if TYPE_CHECKING:
    from xlt_ray.store.gc import Decision, RemovalPlan
    from xlt_ray.sweep.removal import SweepRemoval

Row = dict[str, Any]


def gc(
    quota: Annotated[
        str | None,
        typer.Option(metavar="SIZE", help="Free until the store has this size, e.g. 200GB."),
    ] = None,
    all_but_best: Annotated[
        bool,
        typer.Option(
            "--all-but-best",
            help="Free also stages that trials share, or that a stopped sweep may continue from.",
        ),
    ] = False,
    yes: Annotated[
        bool, typer.Option("--yes", help="Free them; without it, they are only listed.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Free stages that no trial needs; lists them, and frees them only with --yes.

    Without a quota these are all stages that no ledger of this home names. With one, stages of
    ended trials are freed too, the oldest first, until the rest fits. Scores, the target stages of
    best trials, and what unfinished trials continue from always stay.

    [dim]xlt gc[/]
    [dim]xlt gc --quota 200GB --yes[/]
    """
    from xlt_ray.store.gc import plan, remove
    from xlt_ray.sweep.quota import stores_of

    quota_bytes = None if quota is None else _quota_bytes(quota)
    rows = []
    for store, entries, roots in stores_of(Home.from_environment()):
        planned = plan(entries, roots, quota_bytes=quota_bytes, all_but_best=all_but_best)
        freed = [removal for removal in planned.removals if yes and remove(store, removal.entry)]
        rows.append(_row(str(store.storage.root), planned, freed, is_done=yes))
        if not as_json:
            _print_row(rows[-1])
    if as_json:
        print_json(rows)
    left = [row["used_bytes"] - row["freed_bytes"] for row in rows]
    if quota_bytes is not None and any(num_bytes > quota_bytes for num_bytes in left):
        raise typer.Exit(1)


def rm(
    name: NameArgument,
    yes: Annotated[bool, typer.Option("--yes", help="Remove it without confirmation.")] = False,
) -> None:
    """Remove a sweep: its ledger, MLflow runs, report, and the stages that only it needs.

    Stages that other sweeps of this home use stay, and so do exported models. The command lists
    what it will remove, and asks. The same command continues a removal that was interrupted.

    [dim]xlt rm quickstart[/]
    [dim]xlt rm quickstart --yes[/]
    """
    from xlt_ray.ledger import ledger_url
    from xlt_ray.ledger.access import sole_driver
    from xlt_ray.sweep.removal import find_removal, remove_sweep

    home, sweep = Home.from_environment(), api.sweep_name(name)
    if (imported := home.holding(sweep)) != home:
        if not yes:
            typer.confirm(f"remove {sweep}, which was imported?", abort=True)
        shutil.rmtree(imported.root)
        typer.echo(f"removed {sweep}")
        return
    with sole_driver(home, sweep, ledger_url(home, sweep)):
        removal = find_removal(home, sweep, warn)
        _print_removal(removal)
        if not yes:
            typer.confirm(f"remove {sweep}?", abort=True)
        kept = remove_sweep(home, removal)
    typer.echo(f"removed {sweep}")
    for entry in kept:
        typer.echo(f"  {entry.place}: now in use, kept")


def _print_removal(removal: SweepRemoval) -> None:
    from xlt_ray.config.sweep import shown_bytes

    trials = "" if removal.ledger is None else f", {len(removal.ledger.trials())} trials"
    lines = [f"ledger and other files: {shown_bytes(removal.num_file_bytes)}{trials}"]
    if removal.problem:
        lines.append(f"stages: unknown, they stay until `xlt gc` ({removal.problem})")
    else:
        size = shown_bytes(sum(entry.num_bytes for entry in removal.entries))
        lines.append(f"store {removal.store.storage.root}: {len(removal.entries)} stages, {size}")
    lines += [
        f"  {shown_bytes(size)} stay for other sweeps: {why}"
        for why, size in removal.kept_by_reason
    ]
    if removal.tracked.runs:
        later = "" if removal.tracked.is_permanent else ", in its trash until `mlflow gc`"
        lines.append(f"MLflow {removal.tracked.uri}: {len(removal.tracked.runs)} runs{later}")
    typer.echo("\n".join([f"{removal.name}:", *(f"  {line}" for line in lines)]))


def _quota_bytes(quota: str) -> int:
    from xlt_ray.config.sweep import Store
    from xlt_ray.errors import SpecError

    try:
        num_bytes = Store(quota=quota).quota
    except ValueError:
        problem = f"{quota!r}: expected a size such as 200GB or 1.5TiB"
        raise SpecError(problem, key="--quota") from None
    assert num_bytes is not None
    return num_bytes


def _row(store: str, planned: RemovalPlan, freed: list[Decision], *, is_done: bool) -> Row:
    """One store as JSON: the keys here are stable."""
    now = time.time()
    chosen = freed if is_done else planned.removals
    return {
        "store": store,
        "quota_bytes": planned.quota_bytes,
        "used_bytes": planned.used_bytes,
        "is_done": is_done,
        "freed_bytes": sum(removal.entry.num_bytes for removal in chosen),
        "missing_bytes": planned.missing_bytes,
        "frees": [
            {
                "what": removal.entry.sort,
                "place": removal.entry.place,
                "key": removal.entry.key,
                "kind": removal.entry.kind,
                "label": removal.entry.label,
                "bytes": removal.entry.num_bytes,
                "age_s": round(now - removal.entry.used),
                "why": removal.reason,
                "is_freed": removal in freed,
            }
            for removal in planned.removals
        ],
        "stays": [
            {"why": why, "bytes": num_bytes} for why, num_bytes in planned.kept_by_reason.items()
        ],
    }


def _print_row(row: Row) -> None:
    from xlt_ray.config.sweep import shown_bytes

    is_done, frees = row["is_done"], row["frees"]
    chosen = [entry for entry in frees if entry["is_freed"] or not is_done]
    if chosen:
        print_table(
            ("what", "kind", "size", "age", "why"),
            (
                (
                    f"{entry['label']} {entry['key'][:10]}" if entry["label"] else entry["place"],
                    entry["kind"] or entry["what"],
                    shown_bytes(entry["bytes"]),
                    _age(entry["age_s"]),
                    entry["why"],
                )
                for entry in chosen
            ),
        )
    freed, used = row["freed_bytes"], row["used_bytes"]
    typer.echo(
        f"{row['store']}: {'freed' if is_done else 'would free'} {shown_bytes(freed)} of "
        f"{shown_bytes(used)}, {shown_bytes(used - freed)} stay"
    )
    for kept in row["stays"]:
        typer.echo(f"  {shown_bytes(kept['bytes'])}: {kept['why']}")
    for entry in frees if is_done else ():
        if not entry["is_freed"]:
            typer.echo(f"  {shown_bytes(entry['bytes'])}: now in use, {entry['place']}")
    if row["missing_bytes"] and row["quota_bytes"] is not None:
        typer.echo(
            f"{shown_bytes(row['missing_bytes'])} more than {shown_bytes(row['quota_bytes'])}: "
            "nothing else can be freed"
        )
    elif frees and not is_done:
        typer.echo("run the same command with --yes to free them")


def _age(seconds: float) -> str:
    """An age in its largest unit."""
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= length:
            return f"{seconds / length:.0f} {unit}"
    return f"{max(seconds, 0):.0f} s"
