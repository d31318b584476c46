"""Arguments that several commands share."""

from __future__ import annotations

from typing import Annotated

import typer

from xlt_ray.home import Home


def names_of_sweeps() -> list[str]:
    """The sweeps of the home, for the completion of a shell."""
    return Home.from_environment(may_be_bad=True).sweeps()


SweepArgument = Annotated[
    str, typer.Argument(metavar="SWEEP", help="A sweep file, or the name of a sweep in the home.")
]
NameArgument = Annotated[
    str,
    typer.Argument(
        metavar="NAME", help="The name of a sweep in the home.", autocompletion=names_of_sweeps
    ),
]
OverridesArgument = Annotated[
    list[str] | None,
    typer.Argument(metavar="KEY=VALUE", help="Overrides, for example search.trials=3."),
]
AddressOption = Annotated[
    str | None,
    typer.Option(
        metavar="URL",
        help="Run on the cluster of this Ray dashboard, http://HOST:8265, instead of here.",
    ),
]
AcceptOption = Annotated[
    bool,
    typer.Option(
        "--accept-changes",
        help="Continue although data, weights or code have changed since earlier trials; trials "
        "before and after the change are marked.",
    ),
]
VerifyOption = Annotated[
    bool,
    typer.Option(
        "--verify",
        help="First compare evaluations and the best weights with their digests, and make again "
        "what is damaged. This reads all of them, about a second for 1 GB on a local disk; "
        "without it, only sizes and headers are checked.",
    ),
]
JsonLinesOption = Annotated[
    bool, typer.Option("--json", help="Print a line of JSON for every event, and one at the end.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
