"""``xlt doctor``: whether sweeps can run here."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Annotated

import typer

from xlt_ray.cli.arguments import (
    AddressOption,
    JsonOption,
    OverridesArgument,
    find_sweep,
    named_sweep,
)
from xlt_ray.home import Home


def doctor(
    sweep: Annotated[
        str | None,
        typer.Argument(
            metavar="[SWEEP]", help="A sweep file or name: look at its own places, too."
        ),
    ] = None,
    overrides: OverridesArgument = None,
    address: AddressOption = None,
    as_json: JsonOption = False,
) -> None:
    """Look at versions, accelerator, cluster, home, ledger, MLflow and hub; starts nothing.

    With --address everything is looked at on the head of that cluster. Ends with 1 where
    something is wrong.

    [dim]xlt doctor[/]
    [dim]xlt doctor quickstart --json[/]
    [dim]xlt doctor --address http://127.0.0.1:8265[/]
    """
    if address is not None:
        from xlt_ray.cli.remote import answer_from

        name = named_sweep(sweep) if sweep else None
        asked = [*([name] if name else []), *(overrides or ()), *(["--json"] if as_json else [])]
        answer_from(address, name, ["doctor", *asked])
    from xlt_ray.sweep.environment import findings

    home = Home.from_environment(may_be_bad=True)
    found = []
    for one in findings(home, find_sweep(sweep, overrides, home) if sweep else None):
        found.append(one)
        if not as_json:
            remedy = f"; {one.remedy}" if one.remedy else ""
            typer.echo(f"{one.state:<6} {one.name:<12} {one.found}{remedy}")
    is_sound = all(one.state != "wrong" for one in found)
    if as_json:
        rows = [asdict(one) for one in found]
        typer.echo(json.dumps({"ok": is_sound, "findings": rows}, indent=1, ensure_ascii=False))
    if not is_sound:
        raise typer.Exit(1)
