"""Arguments that several commands share, and how a sweep is found from them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from xlt_ray.home import Home

if TYPE_CHECKING:
    from xlt_ray.config.sweep import SweepSpec

SweepArgument = Annotated[
    str, typer.Argument(metavar="SWEEP", help="A sweep file, or the name of a sweep in the home.")
]
NameArgument = Annotated[
    str, typer.Argument(metavar="NAME", help="The name of a sweep in the home.")
]
OverridesArgument = Annotated[
    list[str] | None,
    typer.Argument(metavar="[KEY=VALUE]...", help="Overrides, for example search.trials=3."),
]
AddressOption = Annotated[
    str | None,
    typer.Option(
        metavar="URL",
        help="Ask the cluster of this Ray dashboard, http://HOST:8265, not this machine.",
    ),
]
AcceptOption = Annotated[
    bool,
    typer.Option(
        "--accept-changes",
        help="Go on although data, weights or code have changed since trials were made; trials "
        "before and after are marked.",
    ),
]
VerifyOption = Annotated[
    bool,
    typer.Option(
        "--verify",
        help="Compare evaluations and the best weights with their digests first, and make again "
        "what is damaged: that reads all of them, about a second for 1 GB on a local disk. "
        "Without it, sizes and headers are looked at.",
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]


def find_sweep(sweep: str, overrides: list[str] | None, home: Home) -> SweepSpec:
    """The sweep of a file, or of a ledger in the home where the name of one is given.

    Raises:
        SpecErrors: no such file or sweep, or a fault in it.
    """
    from xlt_ray.config.sweep import load_sweep
    from xlt_ray.ledger import load_ledger, sweep_of_ledger

    if not Path(sweep).is_file() and sweep in home.sweeps():
        return sweep_of_ledger(load_ledger(home, sweep), overrides or ())
    return load_sweep(sweep, overrides or ())


def named_sweep(sweep: str) -> str:
    """The name of a sweep that was given as a name or as a file."""
    if Path(sweep).is_file():
        from xlt_ray.config.sweep import load_sweep

        return load_sweep(sweep).name
    return sweep


def warn(line: str) -> None:
    """Print a warning beside what the command prints."""
    typer.echo(f"warning: {line}", err=True)
