"""``xlt stop``, ``xlt pause``, ``xlt clone``, ``xlt set``: change a sweep, also while it runs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from xlt_ray import api
from xlt_ray.cli.arguments import NameArgument
from xlt_ray.home import Home

if TYPE_CHECKING:
    from xlt_ray.ledger import Ledger, Request

TrialOption = Annotated[int, typer.Option("--trial", metavar="N", help="The number of a trial.")]
ChangesArgument = Annotated[list[str], typer.Argument(metavar="KEY=VALUE")]


def stop(name: NameArgument, trial: TrialOption) -> None:
    """End one trial, which keeps its progress; the sweep continues.

    [dim]xlt stop quickstart --trial 3[/]
    """
    typer.echo(ask(Home.from_environment(), api.sweep_name(name), "stop", trial, ()))


def pause(name: NameArgument) -> None:
    """End a running sweep, whose trials keep their progress; xlt resume continues it.

    [dim]xlt pause quickstart[/]
    """
    from xlt_ray.sweep.make_requests import pause_request

    home, ledger = _opened(name)
    _leave(home, ledger, pause_request(ledger))


def clone(name: NameArgument, trial: TrialOption, changes: ChangesArgument) -> None:
    """Try the parameters of a trial next, with some of them changed.

    The point is tried in addition to those of search.trials, with as many seeds.

    [dim]xlt clone quickstart --trial 3 target.learning_rate=1e-4[/]
    """
    typer.echo(ask(Home.from_environment(), api.sweep_name(name), "clone", trial, changes))


def set_(name: NameArgument, changes: ChangesArgument) -> None:
    """Change the budget, search.trials or search.concurrent of a sweep.

    [dim]xlt set quickstart budget.hours=2 search.trials=40[/]
    """
    from xlt_ray.sweep.make_requests import set_request

    home, ledger = _opened(name)
    _leave(home, ledger, set_request(ledger, changes))


def _opened(name: str) -> tuple[Home, Ledger]:
    from xlt_ray.ledger import load_ledger

    home = Home.from_environment()
    return home, load_ledger(home, api.sweep_name(name))


def ask(home: Home, name: str, kind: str, trial: int, changes: Sequence[str]) -> str:
    """Leave a request to "stop" or "clone" a trial, and say when it is carried out."""
    from xlt_ray.ledger import load_ledger
    from xlt_ray.sweep.make_requests import clone_request, stop_request

    ledger = load_ledger(home, name)
    stopped = kind == "stop"
    request = stop_request(ledger, trial) if stopped else clone_request(ledger, trial, changes)
    return _left(home, ledger, request)


def _leave(home: Home, ledger: Ledger, request: Request) -> None:
    typer.echo(_left(home, ledger, request))


def _left(home: Home, ledger: Ledger, request: Request) -> str:
    from xlt_ray.ledger.requests import leave_request

    leave_request(home, ledger.name, request)
    when = "the running sweep does it within seconds"
    if not ledger.driver:
        when = f"no driver runs: it is done at the next xlt resume {ledger.name}"
    return f"{ledger.name}: {request}; {when}"
