"""Arguments that several commands share."""

from __future__ import annotations

from typing import Annotated

import typer

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
