"""``xlt check``, ``xlt show``, ``xlt plan``, ``xlt list``, ``xlt schema``: what a sweep says, needs
and can name."""

from __future__ import annotations

import dataclasses
import json
import textwrap
from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.table import Column
from rich.text import Text
from rich.tree import Tree

from xlt_ray import api
from xlt_ray.cli.arguments import JsonOption, OverridesArgument, SweepArgument
from xlt_ray.cli.output import print_json, print_table, print_wide, warn
from xlt_ray.config.sweep import shown_bytes
from xlt_ray.errors import ClusterError, XltError
from xlt_ray.home import Home
from xlt_ray.store.canonical import Json
from xlt_ray.store.stage import short

if TYPE_CHECKING:
    from xlt_ray.sweep.forecast import Estimate, Forecast
    from xlt_ray.sweep.plan import Divergence, Plan, PlannedStage

SHOWN = 12
"""Most stages of one kind below one parent."""
VALUE_SHOWN = 60
"""Most characters of a value that differs."""


def stage_tree(plan: Plan) -> Tree:
    """Every stage below its parent; only the first of many siblings."""
    root = Tree(Text(plan.name, style="bold"))
    below: dict[str, list[PlannedStage]] = {}
    for stage in plan.stages:
        assert stage.stage.parent is not None
        below.setdefault(stage.stage.parent.key, []).append(stage)
    models = {stage.model.key: stage.model for stage in plan.stages}
    for key, model in models.items():
        users = {number for stage in below[key] for number in stage.trials}
        branch = root.add(Text(f"{model.label}  {short(key)}  {_trials(sorted(users))}"))
        _grow(branch, key, below)
    return root


def cost_lines(plan: Plan) -> Iterator[str]:
    """The totals of a plan in plain words."""
    fewer = (
        f"{plan.examples_shared:,} examples instead of {plan.examples_naive:,} "
        f"({plan.ratio:.1f} times fewer)"
        if plan.examples_shared < plan.examples_naive
        else f"{plan.examples_shared:,} examples, no training is shared"
    )
    left = f"{plan.examples_left:,}" if plan.examples_left else "nothing"
    yield (
        f"{_count(len(plan.trials), 'trial')}, {_count(len(plan.stages), 'unique stage')} "
        f"of {plan.stages_naive}; {fewer}; {left} left to train"
    )
    if plan.is_whole_space:
        yield "the space has no further configuration, although search.trials is larger"
    if plan.is_stopped_early:
        yield (
            "upper bound: early_stop ends some first repeats, and the other repeats of their "
            "configurations are not trained"
        )
    if len(plan.unshared_sizes) > 1:
        listed = ", ".join(f"{size:,}" for size in plan.unshared_sizes)
        yield (
            f"sizes {listed} share no training, as the learning rate of each decays to its own "
            "end; under intermediate.schedule: wsd, in one epoch, a larger one continues from a "
            "smaller"
        )
    if plan.is_estimate:
        yield "estimate: later trials depend on the scores of earlier ones"


def forecast_lines(forecast: Forecast) -> Iterator[str]:
    """What the rest of a sweep will take; each line at most 80 columns."""
    cluster, device = forecast.cluster, f"{forecast.device}-hours"
    nodes = f"{cluster.nodes} nodes, " if cluster.nodes > 1 else ""
    yield (
        f"forecast for {nodes}{_count(forecast.concurrency, 'trial')} at a time "
        f"({cluster.place}), with 80 % intervals:"
    )
    yield from _filled(
        f"  finish: {_hours(forecast.finish_h)} after the first trial begins; without sharing "
        f"{_hours(forecast.unshared_finish_h)}"
    )
    yield from _filled(
        f"  {device}: {_numbers(forecast.device_h)}; without sharing "
        f"{_numbers(forecast.unshared_device_h)}"
    )
    if forecast.critical_path:
        longest = ", ".join(forecast.critical_path)
        yield from _filled(f"  longest trial: {_hours(forecast.critical_h)} for {longest}")
    times = ", ".join(
        f"{number:,}: {_time(hours)}" for number, hours in forecast.finish_by_concurrency.items()
    )
    yield from _filled(
        f"  trials at a time: {forecast.best_concurrency} are enough; finish by number: {times}"
    )
    peak = forecast.peak
    gpu = f", {peak.gpu / 2**30:.3g} GiB of its GPU" if peak.gpu else ""
    yield from _filled(
        f"  memory of a worker: {peak.process / 2**30:.3g} GiB{gpu}; disk: at most "
        f"{shown_bytes(forecast.disk_bytes)} more"
    )
    if forecast.money is not None:
        yield from _filled(f"  price: {_numbers(forecast.money)} for all nodes until the end")
    for line in forecast.unknown:
        yield from _filled(f"  not known: {line}")


def divergence_lines(first: int, second: int, divergence: Divergence | None) -> Iterator[str]:
    """Why two trials do not share, field by field."""
    if divergence is None:
        yield f"trials {first} and {second} share every stage"
        return
    yield f"trials {first} and {second} diverge at their {divergence.kind} stages:"
    for path, ours, theirs in divergence.differences:
        yield f"  {path}: {_shown(ours)} -> {_shown(theirs)}"


def _grow(branch: Tree, parent: str, below: dict[str, list[PlannedStage]]) -> None:
    children = sorted(below.get(parent, ()), key=lambda child: (child.stage.kind, child.trials))
    for kind, same in groupby(children, key=lambda child: child.stage.kind):
        siblings = list(same)
        # The line for the rest counts as a line, so it stands for two stages or more.
        shown = siblings if len(siblings) <= SHOWN else siblings[: SHOWN - 1]
        for planned in shown:
            after = below.get(planned.stage.key, [])
            if [follower.stage.kind for follower in after] == ["evaluate"]:
                # The only evaluation of a target stage needs no line of its own.
                key = short(after[0].stage.key)
                branch.add(_line(planned) + _marked(f"  + evaluate {key}", after[0]))
            else:
                _grow(branch.add(_line(planned)), planned.stage.key, below)
        if shown is not siblings:
            branch.add(Text(f"and {len(siblings) - len(shown)} more {kind} stages", style="dim"))


def _line(planned: PlannedStage) -> Text:
    stage = planned.stage
    parts = [stage.label, short(stage.key), _trials(planned.trials)]
    if stage.is_training:
        parts.append(f"{stage.num_examples:,} examples")
    return _marked("  ".join(parts), planned)


def _marked(text: str, planned: PlannedStage) -> Text:
    if planned.is_in_store:
        return Text.assemble((f"{text}  in store", "green"))
    return Text.assemble(text if planned.is_needed else f"{text}  not needed")


def _filled(line: str) -> list[str]:
    return textwrap.wrap(line, 80, subsequent_indent="    ", break_on_hyphens=False)


def _hours(estimate: Estimate) -> str:
    """Hours as people say them.

    >>> from xlt_ray.sweep.forecast import Estimate
    >>> _hours(Estimate(0.5, 0.25, 2.0))
    '30 min (15 min to 2 h)'
    """
    low, median, high = map(_time, (estimate.low, estimate.median, estimate.high))
    return f"{median} ({low} to {high})"


def _time(hours: float) -> str:
    if hours < 1 / 60:
        return f"{3600 * hours:.0f} s"
    return f"{60 * hours:.3g} min" if hours < 1 else f"{hours:,.3g} h"


def _numbers(estimate: Estimate) -> str:
    low, median, high = (
        f"{value:,.3g}" for value in (estimate.low, estimate.median, estimate.high)
    )
    return f"{median} ({low} to {high})"


def _trials(numbers: Sequence[int]) -> str:
    return f"trial {numbers[0]}" if len(numbers) == 1 else f"{len(numbers)} trials"


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}" + ("" if number == 1 else "s")


def _shown(value: Json) -> str:
    if value is None:
        return "none"
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= VALUE_SHOWN else text[: VALUE_SHOWN - 3] + "..."


def check(
    sweep: SweepArgument, overrides: OverridesArgument = None, as_json: JsonOption = False
) -> None:
    """Validate a sweep against its models, its data and this machine; starts nothing.

    Problems of the file itself are shown together, then those with its data and models, each with
    file, line, key and remedy. A warning is about what can be run and may mislead. Without a
    network, models of `xlt list models` are assumed to be as it says.

    [dim]xlt check sweeps/quickstart.yaml target.epochs=3[/]
    """
    from xlt_ray.config.seed_race import seeds_text
    from xlt_ray.config.supervision import TRANSLATE_TRAIN
    from xlt_ray.sweep.read_facts import asks_the_hub

    if as_json:
        _print_check_as_json(api.check(sweep, overrides or ()))
        return
    home = Home.from_environment()
    spec = api.find_sweep(sweep, overrides or (), home)
    if asks_the_hub(spec):
        typer.echo(
            "looking up models and data sets on the Hugging Face Hub (HF_HUB_OFFLINE=1 uses "
            "its cache only)",
            err=True,
        )
    result = api.check(spec, home=home)
    if result.error is not None:
        raise result.error
    seeds = seeds_text(spec.settings.search.seeds)
    typer.echo(
        f"{spec.name}: ok, at most {result.num_configurations} configurations x "
        f"{seeds} seed{'s' * (seeds != '1')}"
        + " [oracle selection]" * spec.is_oracle
        + " [few-shot: not zero-shot]" * spec.has_few_shot
        + "".join(
            f" [{kind}: not zero-shot]" if TRANSLATE_TRAIN in kind else f" [{kind}]"
            for kind in result.supervisions
        )
    )
    if result.assumed_models:
        names = ", ".join(result.assumed_models)
        typer.echo(f"not looked up because the hub cannot be reached: {names}")
    sizes = (f"reads {size}" for size in result.reads)
    for line in (*sizes, *map(str, (*result.trains, *result.pieces))):
        typer.echo(textwrap.fill(line, 80, subsequent_indent="  ", break_on_hyphens=False))
    for line in (*map(str, result.coverage), *(f"warning: {line}" for line in result.warnings)):
        typer.echo(line)


def _print_check_as_json(result: api.CheckResult) -> None:
    names = ("coverage", "reads", "trains", "pieces")
    print_json(
        {
            "ok": not result.problems,
            "problems": list(map(_problem_row, result.problems)),
            "warnings": list(map(_problem_row, result.warnings)),
            **{name: list(map(dataclasses.asdict, getattr(result, name))) for name in names},
        }
    )
    if result.problems:
        raise typer.Exit(2)


def _problem_row(error: XltError) -> dict[str, Any]:
    fields = error.fields
    return {
        "file": fields.get("file", ""),
        "line": fields.get("line"),
        "key": "resources" if isinstance(error, ClusterError) else fields.get("key", ""),
        "problem": fields.get("problem", str(error)),
        "remedy": fields.get("remedy", ""),
    }


def plan(
    sweep: SweepArgument,
    overrides: OverridesArgument = None,
    explain: Annotated[
        tuple[int, int] | None,
        typer.Option(metavar="A B", help="Say why trials A and B of the plan do not share."),
    ] = None,
    nodes: Annotated[
        int | None, typer.Option(min=1, help="Nodes of the cluster; by default this machine.")
    ] = None,
    gpus_per_node: Annotated[int, typer.Option(min=0, help="GPUs of a node.")] = 0,
    cpus_per_node: Annotated[
        int | None,
        typer.Option(min=1, help="CPUs of a node; by default as here, or enough for its GPUs."),
    ] = None,
    price: Annotated[
        float | None,
        typer.Option(min=0, help="Price of a GPU for an hour; of a node if trials have no GPU."),
    ] = None,
    probe: Annotated[
        bool, typer.Option("--probe", help="Train a few steps of shapes that are not measured yet.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Show what a sweep will train, what its trials share, and what the rest of it will take in
    hours, memory, disk and money; starts nothing.

    Trials of the ledger and stages of the store are taken into account. The choices of
    ``tpe`` are an estimate; early stopping is not foreseen. Hours are learnt from the stages
    in the store.

    [dim]xlt plan sweeps/quickstart.yaml[/]
    [dim]xlt plan sweeps/model-size.yaml --nodes 8 --gpus-per-node 8 --price 2.5[/]
    [dim]xlt plan sweeps/quickstart.yaml search.seeds=5 --explain 0 1[/]
    """
    from xlt_ray.cli.listings import divergence_row, plan_row
    from xlt_ray.sweep.plan import divergence

    planned = api.plan(
        sweep,
        overrides or (),
        nodes=nodes,
        gpus_per_node=gpus_per_node,
        cpus_per_node=cpus_per_node,
        price=price,
        probe=probe,
    )
    if planned.changed_facts:
        warn(
            f"what its trials are made with has changed: {planned.changed_facts}; `xlt run` "
            "requires --accept-changes"
        )
    if planned.forecast is not None:
        for line in planned.forecast.warnings:
            warn(line)
    if explain is not None:
        parting = divergence(*map(planned.trial, explain))
        if as_json:
            print_json(divergence_row(*explain, parting))
        else:
            typer.echo("\n".join(divergence_lines(*explain, parting)))
    elif as_json:
        coverage = [dataclasses.asdict(row) for row in planned.coverage]
        print_json({**plan_row(planned), "coverage": coverage})
    else:
        print_wide(stage_tree(planned))
        lines = [*cost_lines(planned), *map(str, planned.coverage)]
        if planned.forecast is not None and planned.forecast.stage_s:
            lines += forecast_lines(planned.forecast)
        typer.echo("\n".join(lines))


def list_(
    what: Annotated[Literal["tasks", "models", "methods"], typer.Argument(help="What to list.")],
    as_json: JsonOption = False,
) -> None:
    """What a sweep can name: tasks, models or methods.

    [dim]xlt list tasks[/]
    """
    from xlt_ray.cli.listings import method_rows, model_rows, task_rows

    rows = {"tasks": task_rows, "models": model_rows, "methods": method_rows}[what]()
    if as_json:
        print_json(rows)
        return
    names = [name for name in rows[0] if name not in _JSON_ONLY]
    print_table(
        [Column(name, no_wrap=name not in _PROSE) for name in names],
        [[_cell(row[name]) for name in names] for row in rows],
    )


_JSON_ONLY = ("for", "example", "recipes")
"""Columns that only ``--json`` has."""
_PROSE = ("note", "title", "licence", "summary", "settings", "source", "metrics", "hub")
"""Columns whose text may wrap."""


def _cell(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return "" if value is None else str(value)


def show(
    sweep: SweepArgument,
    overrides: OverridesArgument = None,
    resolved: Annotated[
        bool, typer.Option("--resolved", help="With the default of every key that is left out.")
    ] = False,
) -> None:
    """Print a sweep as one file, with its bases and overrides; passwords are left out.

    [dim]xlt show quickstart[/]
    [dim]xlt show sweeps/quickstart.yaml +target.epochs=3 --resolved[/]
    """
    from xlt_ray.config.yaml import as_yaml
    from xlt_ray.redact import redacted

    spec = api.find_sweep(sweep, overrides or (), Home.from_environment())
    tree = spec.tree_with_defaults() if resolved else spec.document.tree
    typer.echo(redacted(as_yaml(tree)), nl=False)


def schema() -> None:
    """Print the JSON schema of a sweep file, for editors.

    Any value below model, align, intermediate, target, few_shot and evaluate may be a distribution
    instead: {choice: \\[...]}, {int: \\[low, high]} or {float: \\[low, high]}.

    [dim]xlt schema[/]
    """
    from xlt_ray.config.schema import sweep_schema
    from xlt_ray.data.task import load_tasks

    print_json(sweep_schema(task.name for task in load_tasks()))
