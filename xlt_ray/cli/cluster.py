"""``xlt submit`` and ``xlt logs``: sweeps on a cluster elsewhere, and what failed trials said.

``xlt doctor``: whether sweeps can run here.
"""

from __future__ import annotations

import json
import shlex
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from xlt_ray.cli.arguments import (
    AcceptOption,
    AddressOption,
    JsonOption,
    NameArgument,
    OverridesArgument,
    find_sweep,
    named_sweep,
)
from xlt_ray.errors import LedgerError, SpecError
from xlt_ray.home import Home

if TYPE_CHECKING:
    from xlt_ray.config.sweep import SweepSpec
    from xlt_ray.ledger import Standing, TrialView
    from xlt_ray.sweep.jobs import Cluster, Job


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
        name = named_sweep(sweep) if sweep else None
        asked = [*([name] if name else []), *(overrides or ()), *(["--json"] if as_json else [])]
        answer_from(address, name, ["doctor", *asked])
    from xlt_ray.sweep.doctor import findings

    home = Home.from_environment(may_be_bad=True)
    found = []
    for finding in findings(home, find_sweep(sweep, overrides, home) if sweep else None):
        found.append(finding)
        if not as_json:
            remedy = f"; {finding.remedy}" if finding.remedy else ""
            typer.echo(f"{finding.state:<6} {finding.name:<12} {finding.found}{remedy}")
    is_sound = all(one.state != "wrong" for one in found)
    if as_json:
        rows = [asdict(one) for one in found]
        typer.echo(json.dumps({"ok": is_sound, "findings": rows}, indent=1, ensure_ascii=False))
    if not is_sound:
        raise typer.Exit(1)


def submit(
    sweep: Annotated[str, typer.Argument(metavar="FILE", help="A sweep file of this machine.")],
    overrides: OverridesArgument = None,
    address: Annotated[
        str, typer.Option(metavar="URL", help="The Ray dashboard of the cluster's head.")
    ] = "http://127.0.0.1:8265",
    home: Annotated[
        str | None,
        typer.Option(
            metavar="DIR",
            help="XLT_HOME on the cluster; that of the head's environment if left out.",
        ),
    ] = None,
    accept_changes: AcceptOption = False,
) -> None:
    """Run a sweep on a Ray cluster elsewhere, as a job; this machine may go away.

    The sweep file and the xlt_ray package of this machine are sent. Data and models are not:
    name them as the cluster sees them. The same command continues a sweep that was stopped.

    [dim]xlt submit sweeps/quickstart.yaml --address http://127.0.0.1:8265[/]
    [dim]xlt submit sweeps/quickstart.yaml search.trials=64 --home /shared/xlt-home[/]
    """
    from xlt_ray.config.sweep import sweep_of
    from xlt_ray.config.yaml import read_document
    from xlt_ray.sweep.jobs import Cluster

    # As it is written: a path of this machine is none of the cluster.
    found = sweep_of(read_document(sweep, overrides or ()))
    refuse_local_places(found, home)
    cluster = Cluster(address)
    _warn_open(cluster)
    arguments = [*(overrides or ()), *(["--accept-changes"] * accept_changes)]
    job = cluster.submit(Path(sweep), found.name, arguments, home)
    typer.echo(f"{found.name}: sent to {cluster.address} as {job.id}")
    for what, command in what_next(found.name, job.id, cluster.address, home):
        typer.echo(f"  {what:<8}{command}")


def logs(
    name: NameArgument,
    trial: Annotated[
        int | None,
        typer.Argument(metavar="[TRIAL]", help="One trial; all that failed if left out."),
    ] = None,
    address: AddressOption = None,
    follow: Annotated[
        bool,
        typer.Option("--follow", help="With --address: go on printing until the driver ends."),
    ] = False,
) -> None:
    """Why trials failed: cause, message and the end of the traceback, kept in the ledger.

    With --address and without a trial: what the driver on that cluster has printed.

    [dim]xlt logs quickstart 3[/]
    [dim]xlt logs quickstart --address http://127.0.0.1:8265 --follow[/]
    """
    if follow and (address is None or trial is not None):
        raise SpecError("follows the driver of a cluster", key="--follow",
                        remedy="give --address, and no trial")  # fmt: skip
    if address is not None:
        sweep = named_sweep(name)
        if trial is not None:
            answer_from(address, sweep, ["logs", sweep, str(trial)])
        _print_driver(address, sweep, follow=follow)
        return
    from xlt_ray.ledger import load_ledger, still_failed

    ledger = load_ledger(Home.from_environment(), named_sweep(name))
    chosen = still_failed(ledger.trials()) if trial is None else [ledger.trial(trial)]
    if not chosen:
        typer.echo("no failed trials")
    for view in chosen:
        typer.echo(_told(view, ledger.standings()[view.number]))


def answer_from(address: str, name: str | None, arguments: list[str]) -> NoReturn:
    """Print what ``xlt`` with these arguments prints on the cluster, and end as it does there."""
    from xlt_ray.sweep.jobs import Cluster

    cluster = Cluster(address)
    _warn_open(cluster)
    homes = [job.home for job in cluster.jobs(name)]
    answer = cluster.ask(arguments, homes[0] if homes else None)
    # With 1 a command has answered: `xlt doctor` has found something.
    typer.echo(answer.text, nl=False, err=answer.exit_code > 1)
    raise typer.Exit(answer.exit_code)


def what_next(name: str, job: str, address: str, home: str | None) -> list[tuple[str, str]]:
    """Commands for a sweep that was sent: how to follow it, fetch results, stop it and go on."""
    there = f"--address {address}"
    # A job that `ray` sends has the home of the head's environment, unless it is told another.
    place = json.dumps({"env_vars": {"XLT_HOME": home}}) if home else ""
    own = f" --runtime-env-json {shlex.quote(place)}" if place else ""
    return [
        ("follow", f"xlt logs {name} {there} --follow"),
        ("look", f"xlt status {name} {there}"),
        ("scores", f"xlt trials {name} --json {there}"),
        ("report", f"ray job submit {there}{own} -- xlt report {name} --log"),
        ("stop", f"ray job stop {job} {there}"),
        ("go on", "the same xlt submit, when this job has ended"),
    ]


def refuse_local_places(sweep: SweepSpec, home: str | None) -> None:
    """Raise SpecError for folders that only this machine has, or that nobody can know."""
    from xlt_ray.config.search_space import Choice

    tree = sweep.space.tree
    model = tree.get("model")
    data = tree.get("data")
    models = model.options if isinstance(model, Choice) else (model,)
    names = (model.get("name") if isinstance(model, dict) else model for model in models)
    relative: list[tuple[str, object]] = [
        ("model", name) for name in names if isinstance(name, str) and Path(name).is_dir()
    ]
    if isinstance(data, dict):
        relative += [(f"data.{name}", data.get(name)) for name in ("root", "texts", "cache")]
    places = sweep.settings.places
    relative.append(("places.store", None if "://" in str(places.store) else places.store))
    for key, value in relative:
        if isinstance(value, str) and not Path(value).is_absolute():
            raise sweep.document.error(
                f"{value} is a folder of this machine, and is not sent",
                key=key,
                remedy="give the absolute path that the cluster's nodes see",
            )
    if home is not None and not Path(home).is_absolute():
        raise SpecError("is no absolute path", key=f"--home {home}",
                        remedy="give the folder that the cluster's nodes share")  # fmt: skip


def _print_driver(address: str, name: str, *, follow: bool) -> None:
    from xlt_ray.sweep.jobs import Cluster

    cluster = Cluster(address)
    _warn_open(cluster)
    job = _latest(cluster, name)
    if not follow:
        typer.echo(cluster.output(job), nl=False)
        return
    for piece in cluster.follow(job):
        typer.echo(piece, nl=False)


def _latest(cluster: Cluster, name: str) -> Job:
    found = cluster.jobs(name)
    if found:
        return found[0]
    there = ", ".join(dict.fromkeys(job.sweep for job in cluster.jobs())) or "none"
    raise LedgerError(f"{cluster.address}: no job of a sweep {name!r} was sent there; of: {there}")


def _warn_open(cluster: Cluster) -> None:
    from xlt_ray.sweep.jobs import is_open

    if is_open(cluster.address):
        print(
            f"xlt: {cluster.address} is plain http to another machine: the token can be read on "
            "the way; better `ssh -L 8265:127.0.0.1:8265 HEAD`",
            file=sys.stderr,
        )


def _told(view: TrialView, standing: Standing) -> str:
    head = f"trial {view.number}: {standing}"
    if standing != "failed":
        return f"{head}; the ledger keeps logs of failed trials only"
    return f"{head}, {view.cause}, attempt {view.attempts}: {view.message}\n{view.log}".rstrip()
