"""``xlt check``, ``xlt plan``, ``xlt list``, ``xlt schema``: what there is, what a sweep needs.

A plan as people read it: the tree of stages, what it costs, and why two trials part.
"""

from __future__ import annotations

import dataclasses
import json
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.text import Text
from rich.tree import Tree

from xlt_ray.cli.arguments import JsonOption, OverridesArgument, SweepArgument, find_sweep
from xlt_ray.home import Home
from xlt_ray.store.canonical import Json
from xlt_ray.store.stage import short

if TYPE_CHECKING:
    from xlt_ray.config.checks.check_schedules import StageSize
    from xlt_ray.config.facts import Coverage
    from xlt_ray.data.file_check import Sizes
    from xlt_ray.data.piece_check import TextShares
    from xlt_ray.errors import XltError
    from xlt_ray.sweep.plan import Divergence, Plan, PlannedStage

SHOWN = 12
"""Lines that stages of one kind below one parent take at most."""
_VALUE = 60
"""Characters of a value that differs; digests and lists of languages are longer."""


def stage_tree(plan: Plan) -> Tree:
    """Every stage below its parent, models first; of many siblings the first ones."""
    root = Tree(Text(plan.name, style="bold"))
    below: dict[str, list[PlannedStage]] = {}
    for stage in plan.stages:
        assert stage.stage.parent is not None
        below.setdefault(stage.stage.parent.key, []).append(stage)
    models = {stage.model.key: stage.model for stage in plan.stages}
    for key, model in models.items():
        users = {number for one in below[key] for number in one.trials}
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
        yield "the space has no further configuration, though search.trials asks for more"
    if plan.is_stopped_early:
        yield (
            "at most: early_stop ends some first repeats, and the other repeats of their "
            "configurations are not trained"
        )
    if len(plan.unshared_sizes) > 1:
        listed = ", ".join(f"{size:,}" for size in plan.unshared_sizes)
        yield (
            f"sizes {listed} share no training, as the learning rate of each decays to its own "
            "end; under intermediate.schedule: wsd, in one epoch, a larger one goes on from a "
            "smaller"
        )
    if plan.is_estimate:
        yield "an estimate: the tpe sampler chooses trials by the scores of those before them"


def parting_lines(one: int, other: int, divergence: Divergence | None) -> Iterator[str]:
    """Why two trials do not share, field by field."""
    if divergence is None:
        yield f"trials {one} and {other} share every stage"
        return
    yield f"trials {one} and {other} part at their {divergence.kind} stages:"
    for path, ours, theirs in divergence.differences:
        yield f"  {path}: {_shown(ours)} -> {_shown(theirs)}"


def _grow(branch: Tree, parent: str, below: dict[str, list[PlannedStage]]) -> None:
    children = sorted(below.get(parent, ()), key=lambda one: (one.stage.kind, one.trials))
    for kind, same in groupby(children, key=lambda one: one.stage.kind):
        siblings = list(same)
        # The line that sums up the rest is one of the lines, so the rest is never a single one.
        shown = siblings if len(siblings) <= SHOWN else siblings[: SHOWN - 1]
        for one in shown:
            after = below.get(one.stage.key, [])
            if [follower.stage.kind for follower in after] == ["evaluate"]:
                # Nearly every target stage has exactly one: a line of its own would tell nothing.
                branch.add(_line(one) + _evaluation(after[0]))
            else:
                _grow(branch.add(_line(one)), one.stage.key, below)
        if shown is not siblings:
            branch.add(Text(f"and {len(siblings) - len(shown)} more {kind} stages", style="dim"))


def _line(one: PlannedStage) -> Text:
    stage = one.stage
    parts = [stage.label, short(stage.key), _trials(one.trials)]
    if stage.is_training:
        parts.append(f"{stage.num_examples:,} examples")
    return _marked("  ".join(parts), one)


def _evaluation(one: PlannedStage) -> Text:
    return _marked(f"  + {one.stage.kind} {short(one.stage.key)}", one)


def _marked(text: str, one: PlannedStage) -> Text:
    if one.is_in_store:
        return Text.assemble((f"{text}  in store", "green"))
    return Text.assemble(text if one.is_needed else f"{text}  not needed")


def _trials(numbers: Sequence[int]) -> str:
    return f"trial {numbers[0]}" if len(numbers) == 1 else f"{len(numbers)} trials"


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}" + ("" if number == 1 else "s")


def _shown(value: Json) -> str:
    if value is None:
        return "none"
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _VALUE else text[: _VALUE - 3] + "..."


def check(
    sweep: SweepArgument, overrides: OverridesArgument = None, as_json: JsonOption = False
) -> None:
    """Validate a sweep against its models, its data and this machine; starts nothing.

    Problems of the file itself are shown together, then those with its data and models, each with
    file, line, key and what would be right. A warning is of what can be run and may mislead.
    Without a network, models of `xlt list models` are taken to be as it says.

    [dim]xlt check sweeps/quickstart.yaml target.epochs=3[/]
    """
    from xlt_ray.config.checks.check_sweep import most_configurations
    from xlt_ray.config.supervision import TRANSLATE_TRAIN, supervisions
    from xlt_ray.errors import SpecErrors, XltError
    from xlt_ray.store.storage import Storage
    from xlt_ray.sweep.findings import Findings, asks_the_hub, refuse_faulty, text_shares
    from xlt_ray.sweep.runner import checked_facts, refuse_too_large

    problems: list[dict[str, Any]] = []
    findings = Findings()
    found = None
    assumed: list[str] = []
    marked: list[str] = []
    coverage: tuple[Coverage, ...] = ()
    shares: Sequence[TextShares] = ()
    try:
        home = Home.from_environment()
        found = find_sweep(sweep, overrides, home)
        if not as_json and asks_the_hub(found):
            typer.echo(
                "asks the Hugging Face Hub about models and data sets (HF_HUB_OFFLINE=1 looks into "
                "its cache alone)",
                err=True,
            )
        facts = checked_facts(found, may_assume=True)
        findings = refuse_faulty(found, facts, home.cache, may_fetch=False)
        assumed = sorted(name for name, model in facts.models.items() if not model.weights)
        marked += [
            f"{kind}: not zero-shot" if TRANSLATE_TRAIN in kind else kind
            for kind in supervisions(found, facts)
        ]
        refuse_too_large(found.settings.resources, facts.model_names)
        if found.settings.places.store is not None:
            # A kind of storage that there is not; nothing is asked of it.
            Storage(found.settings.places.store)
        coverage, shares = facts.coverage, text_shares(found, facts, home.cache)
    except XltError as errors:
        if not as_json:
            raise
        each = errors.problems if isinstance(errors, SpecErrors) else (errors,)
        problems = [_problem_row(one) for one in each]
    if as_json:
        rows = [_problem_row(warning) for warning in findings.warnings]
        told = {"ok": not problems, "problems": problems, "warnings": rows}
        told |= {"coverage": _rows(coverage), "reads": _rows(findings.sizes)}
        told |= {"trains": _rows(findings.trainings), "pieces": _rows(shares)}
        typer.echo(json.dumps(told, indent=1))
        if problems:
            raise typer.Exit(2)
    elif found is not None:
        typer.echo(
            f"{found.name}: ok, at most {most_configurations(found, facts)} configurations x "
            f"{found.settings.search.seeds} seeds"
            + (" [oracle selection]" if found.is_oracle else "")
            + (" [few-shot: not zero-shot]" if found.has_few_shot else "")
            + "".join(f" [{one}]" for one in marked)
        )
        if assumed:
            typer.echo(f"not looked up, the hub cannot be reached: {', '.join(assumed)}")
        for line in (
            *(f"reads {sizes}" for sizes in findings.sizes),
            *map(str, (*findings.trainings, *shares)),
        ):
            typer.echo(textwrap.fill(line, 80, subsequent_indent="  ", break_on_hyphens=False))
        for one in coverage:
            typer.echo(str(one))
        for warning in findings.warnings:
            typer.echo(f"warning: {warning}")


def _rows(found: Iterable[Coverage | Sizes | StageSize | TextShares]) -> list[dict[str, Any]]:
    return [dataclasses.asdict(one) for one in found]


def _problem_row(error: XltError) -> dict[str, Any]:
    from xlt_ray.errors import ClusterError

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
    as_json: JsonOption = False,
) -> None:
    """Show what a sweep will train, and what its trials share; starts and writes nothing.

    What the ledger and the store have already is taken into account. What the tpe sampler will
    choose is an estimate; early stopping is not foreseen.

    [dim]xlt plan sweeps/quickstart.yaml[/]
    [dim]xlt plan sweeps/quickstart.yaml search.seeds=5 --explain 0 1[/]
    """
    from rich.console import Console

    from xlt_ray.cli.listings import parting_row, plan_row
    from xlt_ray.ledger import changed_since, continued, find_ledger
    from xlt_ray.ledger.made_with import listed
    from xlt_ray.store.store import StageStore
    from xlt_ray.sweep.plan import divergence, plan_of
    from xlt_ray.sweep.read_facts import used_facts
    from xlt_ray.sweep.removal import begins_anew
    from xlt_ray.sweep.runner import checked_facts

    home = Home.from_environment()
    found = find_sweep(sweep, overrides, home)
    facts = checked_facts(found)
    store = StageStore(found.settings.places.store or home.stages)
    ledger = None if begins_anew(home, found) else find_ledger(home, found)
    if ledger is not None:
        found = continued(found, ledger)
        _, changed = changed_since(ledger, used_facts(found, facts))
        if changed:
            typer.echo(
                f"warning: what its trials are made with has changed: {listed(changed)}; "
                "`xlt run` asks for --accept-changes",
                err=True,
            )
    planned = plan_of(found, facts, store, ledger)
    if explain is not None:
        parted = divergence(*map(planned.trial, explain))
        if as_json:
            typer.echo(json.dumps(parting_row(*explain, parted), indent=1, ensure_ascii=False))
        else:
            typer.echo("\n".join(parting_lines(*explain, parted)))
        return
    if as_json:
        row = {**plan_row(planned), "coverage": _rows(facts.coverage)}
        typer.echo(json.dumps(row, indent=1, ensure_ascii=False))
        return
    console = Console()
    (console if console.is_terminal else Console(width=240)).print(stage_tree(planned))
    typer.echo("\n".join([*cost_lines(planned), *map(str, facts.coverage)]))


def list_(
    what: Annotated[Literal["tasks", "models", "methods"], typer.Argument(help="What to list.")],
    as_json: JsonOption = False,
) -> None:
    """What a sweep can name: tasks, models or methods.

    [dim]xlt list tasks[/]
    """
    from rich.console import Console
    from rich.table import Column, Table

    from xlt_ray.cli.listings import method_rows, model_rows, task_rows

    rows = {"tasks": task_rows, "models": model_rows, "methods": method_rows}[what]()
    if as_json:
        typer.echo(json.dumps(rows, indent=1, ensure_ascii=False))
        return
    names = [name for name in rows[0] if name not in _JSON_ALONE]
    table = Table(*(Column(name, no_wrap=name not in _PROSE) for name in names))
    for row in rows:
        table.add_row(*(_cell(row[name]) for name in names))
    console = Console(markup=False)
    (console if console.is_terminal else Console(width=200, markup=False)).print(table)


_JSON_ALONE = ("for", "example", "recipes")
"""What tables have no room for."""
_PROSE = ("note", "title", "licence", "summary", "settings", "source", "metrics", "hub")
"""Columns whose text may go over several lines."""


def _cell(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return "" if value is None else str(value)


def schema() -> None:
    """Print the JSON schema of a sweep file, for editors.

    Any value below model, align, intermediate, target, few_shot and evaluate may be a distribution
    instead: {choice: \\[...]}, {int: \\[low, high]} or {float: \\[low, high]}.

    [dim]xlt schema[/]
    """
    from xlt_ray.config.schema import sweep_schema

    typer.echo(json.dumps(sweep_schema(), indent=1))
