"""A plan as people read it: the tree of stages, what it costs, and why two trials part."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import TYPE_CHECKING

from rich.text import Text
from rich.tree import Tree

from xlt_ray.stages.canonical import Json
from xlt_ray.stages.stage import short

if TYPE_CHECKING:
    from xlt_ray.sweep.plan import Divergence, Plan, PlannedStage

SHOWN = 12
"""Lines that stages of one kind below one parent take at most."""
_VALUE = 60
"""Characters of a value that differs; digests and lists of languages are longer."""


def stage_tree(plan: Plan) -> Tree:
    """Every stage below its parent, models first; of many siblings the first ones."""
    root = Tree(Text(plan.name, style="bold"))
    below: dict[str, list[PlannedStage]] = {}
    for one in plan.stages:
        assert one.stage.parent is not None
        below.setdefault(one.stage.parent.key, []).append(one)
    models = {one.model.key: one.model for one in plan.stages}
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
