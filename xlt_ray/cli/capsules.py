"""``xlt pack``, ``xlt verify``, ``xlt results``: results that others can check and merge."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from xlt_ray import api
from xlt_ray.cli.arguments import NameArgument, OverridesArgument
from xlt_ray.home import Home

if TYPE_CHECKING:
    from xlt_ray.report.capsule import Capsule
    from xlt_ray.store.record import StageRecord

CapsuleArgument = Annotated[
    Path, typer.Argument(metavar="CAPSULE", help="An archive that xlt pack has written.")
]


def pack(
    name: NameArgument,
    out: Annotated[
        Path | None,
        typer.Argument(metavar="OUT", help="The archive to write; by default NAME.capsule.tar."),
    ] = None,
    weights: Annotated[
        Literal["none", "best"],
        typer.Option(help="With the weights of the best trial; by default without any."),
    ] = "none",
) -> None:
    """Write the results of a sweep as one archive that others can check and merge.

    It has the sweep with all settings, the trials, the records and scores of all stages, digests
    of data and models, versions, and the report; no data and no passwords. The same results give
    the same bytes.

    [dim]xlt pack quickstart[/]
    [dim]xlt pack quickstart results/quickstart.tar --weights best[/]
    """
    from xlt_ray.ledger import load_ledger
    from xlt_ray.report.capsule import pack as write_capsule
    from xlt_ray.store.storage import file_digest
    from xlt_ray.store.store import StageStore

    home, sweep = Home.from_environment(), api.sweep_name(name)
    ledger = load_ledger(home, sweep)
    file = out or Path(f"{sweep}.capsule.tar")
    store = StageStore(home.store_of(ledger.sweep))
    num_stages = write_capsule(ledger, store, file, weights=weights == "best")
    num_bytes, sha256 = file_digest(file)
    typer.echo(
        f"packed: {file} ({len(ledger.trials())} trials, {num_stages} stages, {num_bytes} bytes)"
    )
    typer.echo(f"SHA-256: {sha256}")


def verify(
    capsule: CapsuleArgument,
    overrides: OverridesArgument = None,
    stages: Annotated[
        int, typer.Option(min=0, metavar="N", help="Train this many stages anew; 0: digests only.")
    ] = 2,
    seed: Annotated[int, typer.Option(min=0, metavar="N", help="Draws the stages.")] = 0,
    trust_remote_code: Annotated[
        bool,
        typer.Option(
            "--trust-remote-code", help="Run code that comes with models, if the sweep does."
        ),
    ] = False,
) -> None:
    """Check a capsule: every digest and key, then some of its stages by training them anew.

    The stages are drawn at random and trained from the models and data of this machine, in a
    temporary home. What they need is taken from this home if it is there, and trained otherwise.
    KEY=VALUE says where the data are. Exit code 1 if anything differs.

    [dim]xlt verify quickstart.capsule.tar --stages 0[/]
    [dim]xlt verify quickstart.capsule.tar data.root=data --stages 4 --seed 1[/]
    """
    from xlt_ray.report.capsule import drawn, faults_of, open_capsule

    opened = open_capsule(capsule)
    if faults := faults_of(opened):
        for fault in faults:
            typer.echo(f"differs: {fault}")
        raise typer.Exit(1)
    records = opened.records()
    typer.echo(
        f"{opened.name}: {len(opened.members)} members and the keys of {len(records)} stages are "
        "right"
    )
    if not stages:
        return
    keys = drawn(records, stages, seed)
    if not _retrained(opened, records, keys, overrides or (), trust_remote_code=trust_remote_code):
        raise typer.Exit(1)


def _retrained(
    capsule: Capsule,
    records: Mapping[str, StageRecord],
    keys: Sequence[str],
    overrides: Sequence[str],
    *,
    trust_remote_code: bool,
) -> bool:
    """Train stages anew and print how they compare; returns whether all are the same."""
    from xlt_ray.cli.progress import echo_event
    from xlt_ray.ledger import fact_sets_of, sweep_of_ledger
    from xlt_ray.store.stage import short
    from xlt_ray.store.store import StageStore
    from xlt_ray.sweep.retrain import Retrained, retrain

    ledger, store = capsule.ledger(), StageStore(Home.from_environment().stages)
    sweep = sweep_of_ledger(ledger, overrides)
    found = []
    with tempfile.TemporaryDirectory(prefix="xlt-verify-") as scratch:
        for event in retrain(
            keys,
            sweep,
            ledger.trials(),
            fact_sets_of(ledger),
            records,
            Home(Path(scratch)),
            store,
            trust_remote_code=trust_remote_code,
        ):
            if isinstance(event, Retrained):
                found.append(event)
            else:
                echo_event(event, with_scores=False)
    for stage in found:
        typer.echo(f"{stage.label} {short(stage.key)}: {stage.outcome}")
        for side, made_with in (("there", stage.there), ("here", stage.here)):
            if made_with:
                typer.echo(f"  {side}: {made_with}")
    return all(stage.is_same for stage in found)


def results(
    _action: Annotated[
        Literal["add"], typer.Argument(metavar="add", help="Read a capsule into the home.")
    ],
    capsule: CapsuleArgument,
    name: Annotated[
        str, typer.Option("--as", metavar="NAME", help="Give the sweep this name here.")
    ] = "",
) -> None:
    """Read the results of others into the home, to report and compare them beside own ones.

    The sweep is marked as imported. Nothing is trained from its stages, and nothing of it is sent
    to MLflow. `xlt rm` removes it.

    [dim]xlt results add quickstart.capsule.tar --as theirs[/]
    """
    from xlt_ray.report.capsule import add, open_capsule

    added = add(open_capsule(capsule), Home.from_environment(), name)
    typer.echo(f"added: {added.name} ({added.num_trials} trials, {added.num_stages} stages)")
    if added.same or added.differing:
        typer.echo(
            f"this home has {added.same + len(added.differing)} of its stages, too: {added.same} "
            f"with the same bits, {len(added.differing)} with others"
        )
    for label in added.differing:
        typer.echo(f"  other bits: {label}")
