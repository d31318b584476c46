"""``xlt gc``, ``xlt rm``: what the store holds that nobody needs, and a sweep that is removed."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from xlt_ray.cli.arguments import JsonOption, NameArgument, named_sweep, warn
from xlt_ray.home import Home

if TYPE_CHECKING:
    from xlt_ray.store.gc import Removal, RemovalPlan
    from xlt_ray.store.store import StageStore
    from xlt_ray.sweep.removal import SweepRemoval


def gc(
    quota: Annotated[
        str | None,
        typer.Option(metavar="SIZE", help="Free until the store is this small, e.g. 200GB."),
    ] = None,
    all_but_best: Annotated[
        bool,
        typer.Option(
            "--all-but-best",
            help="Free also what trials share, or a sweep that is not at work may come back to.",
        ),
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do it; without, it is only shown.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Free what nobody needs in the stage store; shows what that is unless told to do it.

    Without a quota, all that no ledger of this home names. With one, stages of ended trials,
    too, the oldest first, until the rest fits. Scores and the target stages of best trials stay,
    and whatever an unfinished trial goes on from.

    [dim]xlt gc[/]
    [dim]xlt gc --quota 200GB --yes[/]
    """
    from xlt_ray.store.gc import plan, remove
    from xlt_ray.sweep.quota import stores_of

    quota_bytes = None if quota is None else _asked(quota)
    rows, is_met = [], True
    for store, things, claims in stores_of(Home.from_environment()):
        found = plan(things, claims, quota_bytes=quota_bytes, all_but_best=all_but_best)
        done = tuple(removal for removal in found.removals if yes and remove(store, removal.thing))
        left = found.used_bytes - sum(
            removal.num_bytes for removal in (done if yes else found.removals)
        )
        is_met = is_met and (quota_bytes is None or left <= quota_bytes)
        rows.append(_row(store, found, done, is_done=yes))
        if not as_json:
            _print_plan(store, found, done, is_done=yes)
    if as_json:
        typer.echo(json.dumps(rows, indent=1, ensure_ascii=False))
    if not is_met:
        raise typer.Exit(1)


def rm(
    name: NameArgument,
    yes: Annotated[bool, typer.Option("--yes", help="Do it without asking.")] = False,
) -> None:
    """Remove a sweep: its ledger, MLflow runs and report, and what in the store only it needs.

    Stages that other sweeps of this home use stay, and so do exported models. It shows what would
    go, and asks. If it is broken off, the same command goes on.

    [dim]xlt rm quickstart[/]
    [dim]xlt rm quickstart --yes[/]
    """
    from xlt_ray.ledger import ledger_url
    from xlt_ray.ledger.access import sole_driver
    from xlt_ray.sweep.removal import find_removal, remove_sweep

    home, sweep = Home.from_environment(), named_sweep(name)
    with sole_driver(home, sweep, ledger_url(home, sweep)):
        found = find_removal(home, sweep, warn)
        _print_removal(found)
        if not yes:
            typer.confirm(f"remove {sweep}?", abort=True)
        left = remove_sweep(home, found)
    typer.echo(f"removed {sweep}")
    for thing in left:
        typer.echo(f"  {thing.place}: in use by now, stays")


def _print_removal(found: SweepRemoval) -> None:
    from xlt_ray.config.sweep import shown_bytes

    trials = "" if found.ledger is None else f", {len(found.ledger.trials())} trials"
    lines = [f"ledger and other files: {shown_bytes(found.num_file_bytes)}{trials}"]
    if found.problem:
        lines.append(f"stages: not known, they stay until `xlt gc` ({found.problem})")
    else:
        size = shown_bytes(sum(thing.num_bytes for thing in found.things))
        lines.append(f"store {found.store.storage.root}: {len(found.things)} stages, {size}")
    lines += [
        f"  {shown_bytes(size)} stay for other sweeps: {why}" for why, size in found.kept_by_reason
    ]
    if found.tracked.runs:
        later = "" if found.tracked.is_permanent else ", until `mlflow gc` there in its trash"
        lines.append(f"MLflow {found.tracked.uri}: {len(found.tracked.runs)} runs{later}")
    typer.echo("\n".join([f"{found.name}:", *(f"  {line}" for line in lines)]))


def _asked(quota: str) -> int:
    from xlt_ray.config.sweep import bytes_of
    from xlt_ray.errors import SpecError

    try:
        return bytes_of(quota)
    except ValueError as error:
        raise SpecError(f"{quota!r} {error}", key="--quota") from None


def _row(
    store: StageStore, found: RemovalPlan, done: tuple[Removal, ...], *, is_done: bool
) -> dict[str, Any]:
    """One store as JSON: the keys here are stable."""
    now = time.time()
    return {
        "store": str(store.storage.root),
        "quota_bytes": found.quota_bytes,
        "used_bytes": found.used_bytes,
        "is_done": is_done,
        "freed_bytes": sum(removal.num_bytes for removal in (done if is_done else found.removals)),
        "missing_bytes": found.missing_bytes,
        "frees": [
            {
                "what": removal.thing.sort,
                "place": removal.thing.place,
                "key": removal.thing.key,
                "kind": removal.thing.kind,
                "label": removal.thing.label,
                "bytes": removal.num_bytes,
                "age_s": round(now - removal.thing.used),
                "why": removal.why,
                "is_freed": removal in done,
            }
            for removal in found.removals
        ],
        "stays": [
            {"why": why, "bytes": num_bytes} for why, num_bytes in found.kept_by_reason.items()
        ],
    }


def _print_plan(
    store: StageStore, found: RemovalPlan, done: tuple[Removal, ...], *, is_done: bool
) -> None:
    from rich.console import Console
    from rich.table import Table

    from xlt_ray.config.sweep import shown_bytes

    console = Console(highlight=False, soft_wrap=True, markup=False)
    chosen = done if is_done else found.removals
    freed = sum(one.num_bytes for one in chosen)
    if chosen:
        table = Table("what", "kind", "size", "age", "why")
        for one in chosen:
            thing = one.thing
            name = thing.label or thing.place
            table.add_row(
                f"{name} {thing.key[:10]}" if thing.label else name,
                thing.kind or thing.sort,
                shown_bytes(one.num_bytes),
                _age(time.time() - thing.used),
                one.why,
            )
        wide = console if console.is_terminal else Console(width=240, markup=False)
        wide.print(table)
    console.print(
        f"{store.storage.root}: {'freed' if is_done else 'would free'} {shown_bytes(freed)} of "
        f"{shown_bytes(found.used_bytes)}, {shown_bytes(found.used_bytes - freed)} stay"
    )
    for why, num_bytes in found.kept_by_reason.items():
        console.print(f"  {shown_bytes(num_bytes)}: {why}")
    for removal in found.removals if is_done else ():
        if removal not in done:
            console.print(
                f"  {shown_bytes(removal.num_bytes)}: in use by now, {removal.thing.place}"
            )
    if found.missing_bytes and found.quota_bytes is not None:
        console.print(
            f"{shown_bytes(found.missing_bytes)} too much for {shown_bytes(found.quota_bytes)}: "
            "nothing else may be freed"
        )
    elif found.removals and not is_done:
        console.print("do it: the same command with --yes")


def _age(seconds: float) -> str:
    """How long ago, in the largest unit that says something."""
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= length:
            return f"{seconds / length:.0f} {unit}"
    return f"{max(seconds, 0):.0f} s"
