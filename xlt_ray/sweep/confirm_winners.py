"""The sweep that runs the winners of a finished one again, on fresh seeds.

The best of many trials is best by merit and by luck. Fresh seeds, above every seed that the sweep
has used, measure it without the luck. Each repeat makes all stages from the pretrained model on,
whatever ``align.seed`` and ``intermediate.seed`` say, so that no repeats share the luck of one.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from xlt_ray.config.places import with_absolute_paths
from xlt_ray.config.search_space import Choice, Value, plain
from xlt_ray.config.sweep import SweepSpec, sweep_of
from xlt_ray.config.yaml import override_key, parse_document
from xlt_ray.errors import SpecError

SHAREABLE = ("align", "intermediate")
"""Stages that repeats of a configuration may share."""
MAY_DIFFER = ("name", "search.concurrent", "resources", "progress", "failures", "store", "places")
"""What a confirmation may change: how it is run, not what is run."""


def confirming(
    sweep: SweepSpec,
    assignments: Sequence[Mapping[str, Any]],
    used_seeds: Iterable[int],
    *,
    seeds: int,
    overrides: Sequence[str] = (),
) -> SweepSpec:
    """The sweep ``NAME-confirm``: only these configurations, each on ``seeds`` fresh seeds.

    The space stays as it is, so that parameters keep their names in tables; the configurations are
    points to try before the sampler, which is never used. There is no early stopping and no
    budget, so that every configuration gets all of its seeds.

    Args:
        assignments: of the configurations, in the order in which they run.
        used_seeds: of all trials of ``sweep``.
        overrides: ``KEY=VALUE`` of :data:`MAY_DIFFER`.

    Raises:
        SpecError: an override of what would make it a different experiment; or two of the
            configurations differ in nothing but whether repeats share a stage.
        SpecErrors: an override is wrong.
    """
    for key in (override_key(override) for override in overrides):
        if not any(key == allowed or key.startswith(f"{allowed}.") for allowed in MAY_DIFFER):
            raise SpecError(
                "would make it a different experiment",
                file="command line",
                key=key,
                remedy="a confirmation can only change: " + ", ".join(MAY_DIFFER),
            )
    search = sweep.settings.search
    tree: dict[str, Any] = {
        **sweep.settings.model_dump(mode="json"),
        **plain(sweep.space.tree),
        "name": f"{sweep.name}-confirm",
        "early_stop": None,
        "budget": {},
    }
    points = [dict(assignment) for assignment in assignments]
    for key in SHAREABLE:
        block = sweep.space.tree.get(key)
        if block is None:
            continue
        tree[key] = plain(_with_own_seed(block))
        labels = _new_labels(block)
        for point in points:
            # It is not a parameter any more.
            point.pop(f"{key}.seed", None)
            if key in point:
                point[key] = labels[point[key]]
    if any(point in points[:index] for index, point in enumerate(points)):
        raise SpecError(
            "two of the configurations to confirm are the same, as repeats share nothing "
            "in a confirmation",
            file=sweep.name,
            remedy="confirm fewer of them",
        )
    first_seed = fresh_seed(sweep, used_seeds)
    tree["search"] = {
        **search.model_dump(mode="json"),
        "sampler": "random",
        "trials": len(points),
        "seeds": seeds,
        # The sampler is never used; ledgers of older confirmations have only this number.
        "seed": first_seed,
        "training_seed": first_seed,
        "first": points,
        "from": [],
    }
    text = json.dumps(tree, ensure_ascii=False)
    document = parse_document(text, f"confirmation of {sweep.name}", overrides)
    confirmation = sweep_of(with_absolute_paths(document))
    if confirmation.settings.resources.precision != sweep.settings.resources.precision:
        raise SpecError(
            f"{sweep.name} was trained with {sweep.settings.resources.precision}",
            file="command line",
            key="resources.precision",
            remedy="leave it as it was",
        )
    return confirmation


def fresh_seed(sweep: SweepSpec, used_seeds: Iterable[int]) -> int:
    """The first seed above all that the sweep has used or would use."""
    search = sweep.settings.search
    return max([search.training_seed + search.most_seeds - 1, *used_seeds]) + 1


def _with_own_seed(block: Any) -> Any:
    """A block, or every block among the options of a choice, with ``seed: per_trial``."""
    if isinstance(block, Choice):
        changed = _changed(block)
        # Two options that differed only in their seed become one.
        return Choice(tuple(dict(zip(changed.labels(), changed.options, strict=True)).values()))
    return {**block, "seed": "per_trial"} if isinstance(block, Mapping) else block


def _new_labels(block: Any) -> Mapping[Value, Value]:
    """Old label of an option -> new label; empty without a choice of blocks."""
    if not isinstance(block, Choice):
        return {}
    return dict(zip(block.labels(), _changed(block).labels(), strict=True))


def _changed(block: Choice) -> Choice:
    return Choice(tuple(map(_with_own_seed, block.options)))
