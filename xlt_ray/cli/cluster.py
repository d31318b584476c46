"""``xlt submit``, ``xlt logs``, ``xlt doctor``: remote clusters, failed trials, and whether sweeps
can run here."""

from __future__ import annotations

import json
import shlex
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from xlt_ray import api
from xlt_ray.cli.arguments import (
    AcceptOption,
    AddressOption,
    JsonOption,
    NameArgument,
    OverridesArgument,
    VerifyOption,
)
from xlt_ray.cli.output import print_json
from xlt_ray.errors import LedgerError, SpecError
from xlt_ray.home import Home

if TYPE_CHECKING:
    from xlt_ray.config.sweep import SweepSpec
    from xlt_ray.ledger import Standing, TrialView
    from xlt_ray.sweep.jobs import Cluster


STATES = {"ok": "ok", "note": "warning", "wrong": "error"}
"""The states of a finding as ``xlt doctor`` prints them; ``--json`` keeps its own words."""


def doctor(
    sweep: Annotated[
        str | None,
        typer.Argument(metavar="SWEEP", help="A sweep file or name: check its own places, too."),
    ] = None,
    overrides: OverridesArgument = None,
    address: AddressOption = None,
    as_json: JsonOption = False,
) -> None:
    """Check versions, accelerator, cluster, home, ledger, MLflow and hub; starts nothing.

    With --address the checks run on the head of that cluster. The exit code is 1 if one finds an
    error.

    [dim]xlt doctor[/]
    [dim]xlt doctor quickstart --json[/]
    [dim]xlt doctor --address http://127.0.0.1:8265[/]
    """
    if address is not None:
        name = api.sweep_name(sweep) if sweep else None
        arguments = [*([name] if name else []), *(overrides or ()), *(["--json"] * as_json)]
        answer_from(address, name, ["doctor", *arguments])
    from xlt_ray.sweep.doctor import findings

    home = Home.from_environment(may_be_bad=True)
    spec = api.find_sweep(sweep, overrides or (), home) if sweep else None
    rows = []
    for finding in findings(home, spec):
        rows.append(asdict(finding))
        if not as_json:
            remedy = f"; {finding.remedy}" if finding.remedy else ""
            state = STATES[finding.state]
            typer.echo(f"{state:<8} {finding.name:<12} {finding.found}{remedy}")
    is_ok = all(row["state"] != "wrong" for row in rows)
    if as_json:
        print_json({"ok": is_ok, "findings": rows})
    if not is_ok:
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
            help="XLT_HOME on the cluster; by default, that of the head's environment.",
        ),
    ] = None,
    accept_changes: AcceptOption = False,
    verify: VerifyOption = False,
) -> None:
    """Run a sweep on a remote Ray cluster, as a job that does not need this machine any more.

    The sweep (one file with its bases and overrides) and the xlt_ray package of this machine are
    sent. Data and models are not: give their paths on the cluster. The same command continues a
    sweep that was stopped.

    [dim]xlt submit sweeps/quickstart.yaml --address http://127.0.0.1:8265[/]
    [dim]xlt submit sweeps/quickstart.yaml search.trials=64 --home /shared/xlt-home[/]
    """
    from xlt_ray.config.sweep import sweep_of
    from xlt_ray.config.yaml import as_yaml, read_document
    from xlt_ray.sweep.jobs import Cluster

    # Paths stay as they are written: they are paths on the cluster.
    spec = sweep_of(read_document(sweep, overrides or ()))
    refuse_local_places(spec, home)
    cluster = Cluster(address)
    _warn_open(cluster)
    arguments = [*(["--accept-changes"] * accept_changes), *(["--verify"] * verify)]
    job = cluster.submit(as_yaml(spec.document.tree), spec.name, arguments, home)
    typer.echo(f"{spec.name}: sent to {cluster.address} as {job.id}")
    for purpose, command in next_commands(spec.name, job.id, cluster.address, home):
        typer.echo(f"  {purpose:<8}{command}")


def logs(
    name: NameArgument,
    trial: Annotated[
        int | None,
        typer.Argument(metavar="TRIAL", help="One trial; by default, all that failed."),
    ] = None,
    address: AddressOption = None,
    follow: Annotated[
        bool,
        typer.Option("--follow", help="With --address: keep printing until the driver ends."),
    ] = False,
) -> None:
    """Why trials failed: cause, message and the end of the traceback, from the ledger.

    With --address and without a trial, it prints the output of the driver on that cluster.

    [dim]xlt logs quickstart 3[/]
    [dim]xlt logs quickstart --address http://127.0.0.1:8265 --follow[/]
    """
    if follow and (address is None or trial is not None):
        raise SpecError("only follows the driver of a cluster", key="--follow",
                        remedy="give --address, and no trial")  # fmt: skip
    if address is not None:
        sweep = api.sweep_name(name)
        if trial is not None:
            answer_from(address, sweep, ["logs", sweep, str(trial)])
        _print_driver(address, sweep, follow=follow)
        return
    from xlt_ray.ledger import load_ledger, still_failed

    ledger = load_ledger(Home.from_environment(), api.sweep_name(name))
    chosen = still_failed(ledger.trials()) if trial is None else [ledger.trial(trial)]
    if not chosen:
        typer.echo("no failed trials")
    for view in chosen:
        typer.echo(_failure(view, ledger.standings()[view.number]))


def answer_from(address: str, name: str | None, arguments: list[str]) -> NoReturn:
    """Run ``xlt`` on the cluster, print its output, and end with its exit code."""
    from xlt_ray.sweep.jobs import Cluster

    cluster = Cluster(address)
    _warn_open(cluster)
    homes = [job.home for job in cluster.jobs(name)]
    answer = cluster.ask(arguments, homes[0] if homes else None)
    # Exit code 1 is an answer: `xlt doctor` has found an error.
    typer.echo(answer.text, nl=False, err=answer.exit_code > 1)
    raise typer.Exit(answer.exit_code)


def next_commands(name: str, job: str, address: str, home: str | None) -> list[tuple[str, str]]:
    """Commands for a sweep that was sent: follow it, fetch its results, stop and continue it."""
    option = f"--address {address}"
    # Without this, a job that `ray` sends uses the home of the head's environment.
    place = json.dumps({"env_vars": {"XLT_HOME": home}}) if home else ""
    environment = f" --runtime-env-json {shlex.quote(place)}" if place else ""
    return [
        ("follow", f"xlt logs {name} {option} --follow"),
        ("look", f"xlt status {name} {option}"),
        ("scores", f"xlt trials {name} --json {option}"),
        ("report", f"ray job submit {option}{environment} -- xlt report {name} --log"),
        ("stop", f"ray job stop {job} {option}"),
        ("go on", "run the same xlt submit again when this job has ended"),
    ]


def refuse_local_places(sweep: SweepSpec, home: str | None) -> None:
    """Raise SpecError for folders of this machine, and for relative paths."""
    from xlt_ray.config.search_space import Choice

    tree = sweep.space.tree
    model = tree.get("model")
    data = tree.get("data")
    models = model.options if isinstance(model, Choice) else (model,)
    names = (model.get("name") if isinstance(model, dict) else model for model in models)
    folders: list[tuple[str, object]] = [
        ("model", name) for name in names if isinstance(name, str) and Path(name).is_dir()
    ]
    if isinstance(data, dict):
        folders += [(f"data.{name}", data.get(name)) for name in ("root", "texts", "cache")]
    store = sweep.settings.places.store
    folders.append(("places.store", None if "://" in str(store) else store))
    for key, value in folders:
        if isinstance(value, str) and not Path(value).is_absolute():
            raise sweep.document.error(
                f"{value} is a folder of this machine, which is not sent",
                key=key,
                remedy="give its absolute path on the nodes of the cluster",
            )
    if home is not None and not Path(home).is_absolute():
        raise SpecError("is not an absolute path", key=f"--home {home}",
                        remedy="give a folder that all nodes of the cluster share")  # fmt: skip


def _print_driver(address: str, name: str, *, follow: bool) -> None:
    from xlt_ray.sweep.jobs import Cluster

    cluster = Cluster(address)
    _warn_open(cluster)
    jobs = cluster.jobs(name)
    if not jobs:
        known = ", ".join(dict.fromkeys(job.sweep for job in cluster.jobs())) or "none"
        raise LedgerError(f"{cluster.address}: has no job of a sweep {name!r}; its sweeps: {known}")
    for text in cluster.follow(jobs[0]) if follow else [cluster.output(jobs[0])]:
        typer.echo(text, nl=False)


def _warn_open(cluster: Cluster) -> None:
    from xlt_ray.sweep.jobs import is_open

    if is_open(cluster.address):
        print(
            f"xlt: {cluster.address} is plain http to another machine, so others can read the "
            "token; use `ssh -L 8265:127.0.0.1:8265 HEAD`",
            file=sys.stderr,
        )


def _failure(view: TrialView, standing: Standing) -> str:
    head = f"trial {view.number}: {standing}"
    if standing != "failed":
        return f"{head}; the ledger keeps logs of failed trials only"
    return f"{head}, {view.cause}, attempt {view.attempts}: {view.message}\n{view.log}".rstrip()
