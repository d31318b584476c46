"""``xlt status``, ``xlt trials``, ``xlt ui``: everything that looks."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from xlt_ray.cli.arguments import AddressOption, JsonOption, NameArgument, named_sweep, warn
from xlt_ray.cli.cluster import answer_from
from xlt_ray.home import Home

if TYPE_CHECKING:
    from xlt_ray.store.store import StageStore

LEGEND = "✓ made by this trial, ↺3 reused from trial 3, ↺other/3 from trial 3 of the sweep other"


def status(
    name: Annotated[
        str | None, typer.Argument(metavar="[NAME]", help="One sweep; all of the home if left out.")
    ] = None,
    as_json: JsonOption = False,
    address: AddressOption = None,
) -> None:
    """Where sweeps stand: trials by state, best objective, whether a driver is at work.

    [dim]xlt status[/]
    [dim]xlt status quickstart --address http://127.0.0.1:8265[/]
    """
    from xlt_ray.ledger import STANDINGS

    if address is not None:
        _ask(address, "status", name, as_json=as_json)
    home = Home.from_environment()
    rows = _status_rows(home, None if name is None else named_sweep(name))
    if as_json:
        typer.echo(json.dumps(rows, indent=1))
        return
    # A sweep without GPUs spends none.
    gpu_hours = ["GPU-hours"] * any(row["gpu_hours"] for row in rows)
    _print_table(
        ["sweep", *STANDINGS, *gpu_hours, "best", "driver"],
        [
            [
                row["name"],
                *(row["trials"].get(state, "") for state in STANDINGS),
                *(_number(row["gpu_hours"]) for _ in gpu_hours),
                _number(row["best"]["objective"]) if row["best"] else "",
                row["problem"] or _driver(row),
            ]
            for row in rows
        ],
        empty=f"no sweeps in {home.root}",
    )
    for row in rows:
        for line in row["failures"]:
            typer.echo(f"{row['name']}: {line}")


def _driver(row: dict[str, Any]) -> str:
    if not row["is_running"]:
        return ""
    without = ", ".join(row["left_nodes"])
    return f"at work without node {without}" if without else "at work"


def _status_rows(home: Home, name: str | None) -> list[dict[str, Any]]:
    """A row for each sweep, or for the one of that name, whose ledger must be readable."""
    from xlt_ray.cli.listings import status_row, unreadable_row
    from xlt_ray.errors import LedgerError
    from xlt_ray.ledger import load_ledger

    if name is not None:
        return [status_row(load_ledger(home, name))]
    rows = []
    for known in home.sweeps():
        try:
            rows.append(status_row(load_ledger(home, known)))
        except LedgerError as error:
            rows.append(unreadable_row(known, str(error)))
    return rows


def trials(name: NameArgument, as_json: JsonOption = False, address: AddressOption = None) -> None:
    """One row a trial: state, parameters, objective, stages.

    [dim]xlt trials quickstart --json[/]
    """
    from xlt_ray.cli.listings import trial_row
    from xlt_ray.config.supervision import ZERO_SHOT
    from xlt_ray.ledger import load_ledger, mixed_facts
    from xlt_ray.report.labels import parameter_names, shown_value

    if address is not None:
        _ask(address, "trials", name, as_json=as_json)
    home = Home.from_environment()
    ledger = load_ledger(home, named_sweep(name))
    store = _store(home, ledger.sweep)
    views = ledger.trials()
    states = ledger.standings()
    rows = [trial_row(view, store, ledger.name, states[view.number]) for view in views]
    if as_json:
        typer.echo(json.dumps(rows, indent=1, ensure_ascii=False))
        return
    parameters = list(dict.fromkeys(path for row in rows for path in row["params"]))
    mixed = mixed_facts(views)
    # Where all were made alike, or all are zero-shot, nothing has to be told apart.
    facts = ["facts"] * bool(mixed)
    is_told = any(row["supervision"] not in (None, ZERO_SHOT) for row in rows)
    told = ["supervision"] * is_told
    names = parameter_names(parameters).values()
    _print_table(
        ["trial", "state", *names, "seed", *facts, "objective", *told, "stages", "notes"],
        [
            [
                row["number"],
                row["state"],
                *(
                    shown_value(row["params"][path]) if path in row["params"] else ""
                    for path in parameters
                ),
                row["seed"],
                *(row[name] for name in facts),
                _number(row["objective"]),
                *(row[name] or "" for name in told),
                " · ".join(_made(one, row["number"], ledger.name) for one in row["stages"]),
                row["cause"] or _notes(row["evidence"]),
            ]
            for row in rows
        ],
        empty="no trials yet",
        legend="\n".join(filter(None, (LEGEND, mixed))),
    )


def _notes(evidence: dict[str, dict[str, Any]]) -> str:
    """Where a network says next to one thing to everything, and where ``max_length`` takes one
    example in a hundred or more; empty where neither is so."""
    each = [pair for by_language in evidence.values() for pair in by_language.items()]
    constant = [
        f"{language} {100 * one['top_share']:.0f} %"
        for language, one in each
        if one["is_near_constant"]
    ]
    cut = [
        f"{language} {100 * one['cut']:.0f} %" for language, one in each if (one["cut"] or 0) > 0.01
    ]
    notes = {"≡ one prediction for all": constant, "cut by max_length": cut}
    return "; ".join(f"{name}: {', '.join(told)}" for name, told in notes.items() if told)


def ui(
    name: Annotated[
        str | None,
        typer.Argument(metavar="[NAME]", help="The sweep to open; all of the home if left out."),
    ] = None,
    host: Annotated[
        str, typer.Option(help="Address to listen on; loopback unless told otherwise.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535)] = 5000,
) -> None:
    """Serve the MLflow UI of this home and say where to look (Ctrl-C ends it).

    [dim]xlt ui quickstart --port 5001[/]
    """
    import os

    from xlt_ray.ledger import load_ledger
    from xlt_ray.tracking import mend_database, ui_command, ui_page

    home = Home.from_environment()
    uri, identity = None, ""
    if name is not None:
        ledger = load_ledger(home, named_sweep(name))
        uri, identity = ledger.sweep["places"]["tracking"], ledger.identity
    mend_database(home, uri, warn)
    command = ui_command(home, uri, host, port)
    typer.echo(
        f"MLflow UI: http://{host}:{port}{ui_page(home, uri, name, identity)}  (Ctrl-C ends it)"
    )
    os.execvp(command[0], command)


def _ask(address: str, verb: str, name: str | None, *, as_json: bool) -> NoReturn:
    """The same command on a cluster."""
    sweep = named_sweep(name) if name else None
    answer_from(address, sweep, [verb, *([sweep] if sweep else []), *(["--json"] * as_json)])


def _store(home: Home, sweep: dict[str, Any]) -> StageStore:
    from xlt_ray.store.store import StageStore

    return StageStore(sweep["places"]["store"] or home.stages)


def _made(stage: dict[str, Any], trial: int, sweep: str) -> str:
    """A stage of a trial's row in few characters: its kind, and who made it."""
    kind, maker = stage["kind"], stage["made_by"]
    if not stage["reused"] or maker == {"sweep": sweep, "trial": trial}:
        return f"{kind} ✓"
    if maker is None:
        return f"{kind} ↺"
    if maker["trial"] is None:
        return f"{kind} ↺{maker['sweep']}"
    elsewhere = "" if maker["sweep"] == sweep else f"{maker['sweep']}/"
    return f"{kind} ↺{elsewhere}{maker['trial']}"


def _print_table(
    header: list[str], rows: list[list[Any]], *, empty: str, legend: str | None = None
) -> None:
    from rich.console import Console
    from rich.table import Table

    if not rows:
        typer.echo(empty)
        return
    table = Table(*header, caption=legend, caption_justify="left")
    for row in rows:
        table.add_row(*map(str, row))
    # A bracket in a value is no markup.
    console = Console(markup=False)
    # A log has no width of its own: cut nothing there.
    if not console.is_terminal:
        console = Console(width=240, markup=False)
    console.print(table)


def _number(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else "" if value is None else str(value)
