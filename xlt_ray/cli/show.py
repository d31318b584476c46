"""``xlt status``, ``xlt trials``, ``xlt scores``, ``xlt ui``: state and scores of sweeps."""

from __future__ import annotations

import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer
from rich.table import Column

from xlt_ray import api
from xlt_ray.cli.arguments import AddressOption, JsonOption, NameArgument
from xlt_ray.cli.cluster import answer_from
from xlt_ray.cli.output import print_json, print_table, shown_number, warn, width_of_output
from xlt_ray.home import Home

if TYPE_CHECKING:
    from xlt_ray.cli.watch import Found

WIDE = 120
"""Columns from which on ``xlt trials`` has a column for each parameter, and the stages."""
NARROW = f"a terminal of {WIDE} columns, or a pipe, has the stages and all notes, too"
LEGEND = "✓ made by this trial, ↺3 reused from trial 3, ↺other/3 from trial 3 of the sweep other"


def status(
    name: Annotated[
        str | None, typer.Argument(metavar="NAME", help="One sweep; by default, all of the home.")
    ] = None,
    as_json: JsonOption = False,
    is_watched: Annotated[
        bool,
        typer.Option("--watch", help="Follow them until Ctrl-C; in a log, print each change."),
    ] = False,
    address: AddressOption = None,
) -> None:
    """The state of sweeps: trials by state, best objective, and whether a driver runs.

    [dim]xlt status[/]
    [dim]xlt status --watch[/]
    [dim]xlt status quickstart --address http://127.0.0.1:8265[/]
    """
    from xlt_ray.cli.watch import watch
    from xlt_ray.errors import SpecError

    if address is not None:
        if is_watched:
            raise SpecError(
                "follows the sweeps of a home that this machine reaches", file="command line",
                key="--watch", remedy="leave out --address, or leave out --watch",
            )  # fmt: skip
        _ask(address, "status", name, as_json=as_json)
    home, sweep = Home.from_environment(), None if name is None else api.sweep_name(name)

    def find(known: Found) -> Found:
        return _ledgers(home, sweep, known)

    def show(rows: list[dict[str, Any]]) -> None:
        print_json(rows) if as_json else _print_status(rows, home)

    if is_watched:
        watch(find, _status_rows, show)
    else:
        show(_status_rows(find({})))


def _print_status(rows: list[dict[str, Any]], home: Home) -> None:
    from xlt_ray.ledger import STANDINGS

    # A terminal may be too narrow for states that no trial is in.
    states = [
        state
        for state in STANDINGS
        if not sys.stdout.isatty() or any(row["trials"].get(state) for row in rows)
    ]
    gpu_hours = ["GPU-hours"] * any(row["gpu_hours"] for row in rows)
    print_table(
        ["sweep", *states, *gpu_hours, "best", "driver"],
        [
            [
                row["name"],
                *(row["trials"].get(state, "") for state in states),
                *(shown_number(row["gpu_hours"]) for _ in gpu_hours),
                shown_number(row["best"]["objective"]) if row["best"] else "",
                row["problem"] or _driver(row),
            ]
            for row in rows
        ],
        empty=f"no sweeps in {home.root}",
    )
    for row in rows:
        for point in row["front"]:
            values = (f"{name} {shown_number(v)}" for name, v in point["objectives"].items())
            typer.echo(
                f"{row['name']}: Pareto front: configuration {point['configuration']}: "
                + ", ".join(values)
            )
        by_hand = (f"by hand: {done}" for done in row["by_hand"])
        for line in filter(None, (row["origin"], *row["failures"], *by_hand)):
            typer.echo(f"{row['name']}: {line}")


def _driver(row: dict[str, Any]) -> str:
    if not row["is_running"]:
        return ""
    from xlt_ray.sweep.budget import shown_duration

    excluded = ", ".join(row["left_nodes"])
    left_s = row["seconds_left"]
    return "running" + (
        f" without node {excluded}" * bool(excluded)
        + (f", about {shown_duration(left_s)} left" if left_s is not None else "")
    )


def _ledgers(home: Home, name: str | None, known: Found) -> Found:
    """The ledger of each sweep, or of the one named, which must be readable."""
    from xlt_ray.cli.watch import ledgers_of
    from xlt_ray.errors import LedgerError

    if name is None:
        names = [*dict.fromkeys([*home.sweeps(), *home.imported_sweeps()])]
        return ledgers_of(home, names, known)
    found = ledgers_of(home, [name], known)
    if isinstance(problem := found[name], LedgerError):
        raise problem
    return found


def _status_rows(found: Found) -> list[dict[str, Any]]:
    from xlt_ray.cli.listings import status_row, unreadable_row
    from xlt_ray.errors import LedgerError

    return [
        unreadable_row(name, str(ledger)) if isinstance(ledger, LedgerError) else status_row(ledger)
        for name, ledger in found.items()
    ]


def trials(name: NameArgument, as_json: JsonOption = False, address: AddressOption = None) -> None:
    """One row a trial: state, parameters, objective, stages.

    [dim]xlt trials quickstart --json[/]
    """
    from xlt_ray.cli.listings import trial_row
    from xlt_ray.cli.merge import print_merges
    from xlt_ray.config.labels import parameter_names, value_label
    from xlt_ray.config.supervision import ZERO_SHOT
    from xlt_ray.ledger import load_ledger, mixed_facts
    from xlt_ray.ledger.merges import merges_of
    from xlt_ray.report.frames import read_snapshot
    from xlt_ray.report.merging import merge_rows
    from xlt_ray.store.store import StageStore

    if address is not None:
        _ask(address, "trials", name, as_json=as_json)
    sweep = api.sweep_name(name)
    home = Home.from_environment().holding(sweep)
    ledger = load_ledger(home, sweep)
    store = StageStore(home.store_of(ledger.sweep))
    views = ledger.trials()
    states = ledger.standings()
    rows = [trial_row(view, store, ledger.name, states[view.number]) for view in views]
    if as_json:
        print_json(rows)
        return
    names = parameter_names(dict.fromkeys(path for row in rows for path in row["params"]))
    values = [{path: value_label(value) for path, value in row["params"].items()} for row in rows]
    mixed = mixed_facts(views)
    # A column whose rows are all alike is left out.
    facts = ["facts"] * bool(mixed)
    is_mixed = any(row["supervision"] not in (None, ZERO_SHOT) for row in rows)
    if width_of_output() < WIDE:
        print_table(
            ["trial", "state", Column("parameters", overflow="fold"), "seed", "objective", "notes"],
            [
                [
                    row["number"],
                    row["state"],
                    " ".join(f"{names[path]}={label}" for path, label in labels.items()),
                    row["seed"],
                    shown_number(row["objective"]),
                    "; ".join(filter(None, (row["by_hand"], row["cause"]))),
                ]
                for row, labels in zip(rows, values, strict=True)
            ],
            empty="no trials yet",
            legend="\n".join(filter(None, (NARROW, mixed, ledger.origin))),
        )
        return
    supervision = ["supervision"] * is_mixed
    print_table(
        [
            "trial",
            "state",
            *names.values(),
            "seed",
            *facts,
            "objective",
            *supervision,
            "stages",
            "notes",
        ],
        [
            [
                row["number"],
                row["state"],
                *(labels.get(path, "") for path in names),
                row["seed"],
                *(row[name] for name in facts),
                shown_number(row["objective"]),
                *(row[name] or "" for name in supervision),
                " · ".join(_made(stage, row["number"], ledger.name) for stage in row["stages"]),
                _notes(row),
            ]
            for row, labels in zip(rows, values, strict=True)
        ],
        empty="no trials yet",
        legend="\n".join(filter(None, (LEGEND, mixed, ledger.origin))),
    )
    merges = merges_of(home, ledger.name)
    if merges:
        typer.echo()
        print_merges(merge_rows(read_snapshot(ledger, store), merges), ledger.name)


def scores(
    name: NameArgument,
    trial: Annotated[
        int | None, typer.Option(metavar="N", help="Show this trial, with every metric.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Scores by language: of all configurations, and of the best one language by language.

    [dim]xlt scores quickstart[/]
    [dim]xlt scores quickstart --trial 3[/]
    """
    from xlt_ray.cli.listings import score_rows, trial_row
    from xlt_ray.cli.scores import print_configurations, print_languages, print_trial
    from xlt_ray.ledger import load_ledger
    from xlt_ray.report.results import Results
    from xlt_ray.report.tables import known_groupings, tables_of
    from xlt_ray.store.store import StageStore

    sweep = api.sweep_name(name)
    home = Home.from_environment().holding(sweep)
    ledger = load_ledger(home, sweep)
    if trial is not None:
        view = ledger.trial(trial)
        store = StageStore(home.store_of(ledger.sweep))
        row = trial_row(view, store, ledger.name, ledger.standings()[trial])
        if as_json:
            print_json(row)
        elif row["scores"]:
            print_trial(row)
        else:
            typer.echo(f"trial {trial} has no scores: {row['state']}")
        return
    tables = tables_of(Results(home, ledger.name).snapshot, known_groupings)
    if as_json:
        print_json(score_rows(tables))
        return
    if not any(table.rows for table in tables):
        typer.echo("no trial has been scored yet")
    for table in tables:
        print_configurations(table)
        if table.rows and table.rows[0].trials:
            typer.echo()
            print_languages(table, table.rows[0])
            typer.echo()


def _notes(row: dict[str, Any]) -> str:
    """The rung of a trial, what people did to it, why it failed, violated constraints, languages
    with nearly one prediction for all items, and those where ``max_length`` cuts more than one
    example in a hundred."""
    constant, cut = [], []
    for by_language in row["evidence"].values():
        for language, items in by_language.items():
            if items["is_near_constant"]:
                constant.append(f"{language} {100 * items['top_share']:.0f} %")
            if (items["cut"] or 0) > 0.01:
                cut.append(f"{language} {100 * items['cut']:.0f} %")
    named = {
        "violates": row["violated"], "≡ one prediction for all": constant, "cut by max_length": cut,
    }  # fmt: skip
    notes = (f"{name}: {', '.join(values)}" for name, values in named.items() if values)
    rung = "" if row["rung"] is None else f"rung {row['rung']}"
    return "; ".join(filter(None, (rung, row["by_hand"], row["cause"], *notes)))


def ui(
    name: Annotated[
        str | None,
        typer.Argument(metavar="NAME", help="The sweep to open; by default, all of the home."),
    ] = None,
    host: Annotated[
        str, typer.Option(help="Address to listen on; by default, this machine only.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535)] = 5000,
    is_live: Annotated[
        bool,
        typer.Option(
            "--live", help="Serve instead a page of NAME that follows it, with stop and clone."
        ),
    ] = False,
) -> None:
    """Serve the MLflow UI of this home and print its address when it listens (Ctrl-C ends it).

    [dim]xlt ui quickstart --port 5001[/]
    [dim]xlt ui quickstart --live[/]
    """
    if is_live:
        _serve_live(name, host, port)
        return
    from xlt_ray.ledger import load_ledger
    from xlt_ray.tracking import mend_database, ui_command, ui_page

    home = Home.from_environment()
    uri, identity = None, ""
    if name is not None:
        ledger = load_ledger(home, api.sweep_name(name))
        uri, identity = ledger.sweep["places"]["tracking"], ledger.identity
    mend_database(home, uri, warn)
    command = ui_command(home, uri, host, port)
    page = f"http://{host}:{port}{ui_page(home, uri, name, identity)}"
    raise typer.Exit(_serve(command, host, port, page))


def _serve(command: list[str], host: str, port: int, page: str) -> int:
    """Run a server until it ends, and print the address of a page when it listens; its exit
    code."""
    import signal
    import subprocess
    import time

    from xlt_ray.errors import SpecError

    if _listens(host, port):
        raise SpecError(
            f"port {port} is in use", file="command line", key="--port", remedy="name another one"
        )
    with subprocess.Popen(command) as server:
        # Whoever ends this process means the server.
        signal.signal(signal.SIGTERM, lambda *_: server.terminate())
        try:
            while server.poll() is None and not _listens(host, port):
                time.sleep(0.1)
            if server.poll() is None:
                typer.echo(f"MLflow UI: {page}  (Ctrl-C ends it)")
            code = server.wait()
        except KeyboardInterrupt:
            server.terminate()
            return 0
    return code if code >= 0 else 128 - code


def _listens(host: str, port: int) -> bool:
    import socket

    try:
        socket.create_connection((host, port), timeout=1).close()
    except OSError:
        return False
    return True


def _serve_live(name: str | None, host: str, port: int) -> None:
    from xlt_ray.cli.change import ask
    from xlt_ray.errors import SpecError
    from xlt_ray.report.live import LOOPBACK, LiveSweep, live_server

    home = Home.from_environment()
    if name is None:
        raise SpecError(
            "follows one sweep", file="command line", key="--live", remedy="xlt ui NAME --live"
        )
    if host != LOOPBACK:
        raise SpecError(
            "listens on this machine only", file="command line", key="--live",
            remedy=f"leave out --host; from elsewhere, use ssh -L {port}:{LOOPBACK}:{port}",
        )  # fmt: skip
    sweep = LiveSweep(home, api.sweep_name(name))
    server, address = live_server(
        sweep, port, lambda kind, trial, changes: ask(home, sweep.name, kind, trial, changes)
    )
    typer.echo(f"{sweep.name}: {address}  (Ctrl-C ends it)")
    with server, suppress(KeyboardInterrupt):
        server.serve_forever()


def _ask(address: str, verb: str, name: str | None, *, as_json: bool) -> NoReturn:
    """Run the same command on a cluster."""
    sweep = api.sweep_name(name) if name else None
    answer_from(address, sweep, [verb, *([sweep] if sweep else []), *(["--json"] * as_json)])


def _made(stage: dict[str, Any], trial: int, sweep: str) -> str:
    """The kind of a stage and the trial that made it, as :data:`LEGEND` says."""
    kind, maker = stage["kind"], stage["made_by"]
    if not stage["reused"] or maker == {"sweep": sweep, "trial": trial}:
        return f"{kind} ✓"
    if maker is None:
        return f"{kind} ↺"
    if maker["trial"] is None:
        return f"{kind} ↺{maker['sweep']}"
    elsewhere = "" if maker["sweep"] == sweep else f"{maker['sweep']}/"
    return f"{kind} ↺{elsewhere}{maker['trial']}"
