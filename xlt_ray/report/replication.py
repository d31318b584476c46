"""What repeats have in common: trained stages that more than one of them goes on from.

Repeats that share a trained stage (``seed: shared``) share its luck. Their spread is that of what
was trained after it, and however many they are, they are one sample of that stage: taking them for
so many is pseudo-replication (Hurlbert 1984). Where both sides of a comparison go on from the very
same stage, it favours neither, and what is said holds *given* that stage. The model that a path
starts from is given in the same sense.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from itertools import chain

from xlt_ray.ledger import StageUse, TrialView

TRAINED = ("align", "trunk", "intermediate", "target", "few_shot")
"""Kinds of stages whose seed is luck; an evaluation has none."""

Trained = tuple[StageUse, ...]
"""The trained stages of one trial in the order of its path."""


def trained_stages(views: Iterable[TrialView]) -> dict[int, Trained]:
    """Number of a trial -> its trained stages."""
    return {
        view.number: tuple(stage for stage in view.stages if stage.kind in TRAINED)
        for view in views
    }


def shared_by(repeats: Iterable[Trained]) -> Trained:
    """The stages that more than one of these repeats goes on from, each once."""
    stages: dict[str, StageUse] = {}
    number: Counter[str] = Counter()
    for path in repeats:
        stages |= {stage.key: stage for stage in path}
        number.update({stage.key for stage in path})
    return tuple(stage for key, stage in stages.items() if number[key] > 1)


def shared_on_one_side(pairs: Iterable[tuple[Trained, Trained]]) -> Trained:
    """The stages that more than one pair has on one side alone: what makes pairs dependent.

    A stage that both sides of a pair go on from drops out of their difference.
    """
    return shared_by(
        tuple(stage for stage in (*first, *second) if stage.key in keys)
        for first, second in pairs
        for keys in ({stage.key for stage in first} ^ {stage.key for stage in second},)
    )


def units(members: Sequence[Collection[str]]) -> Iterator[list[int]]:
    """The members by place, those together that share a key with each other, directly or through
    others.

    >>> list(units([{"a"}, {"b"}, {"a", "c"}, {"c"}]))
    [[0, 2, 3], [1]]
    """
    left = dict(enumerate(members))
    while left:
        first = next(iter(left))
        group, keys = [first], set(left.pop(first))
        while joining := [
            place for place, member_keys in left.items() if not keys.isdisjoint(member_keys)
        ]:
            for place in joining:
                keys |= set(left.pop(place))
            group += joining
        yield sorted(group)


def named(stages: Trained) -> str:
    """Stages by their labels, those of a ladder by its end.

    >>> named((StageUse("align", "1", "align tlm 9 steps", False),
    ...        StageUse("trunk", "2", "trunk nli 80", False),
    ...        StageUse("intermediate", "3", "intermediate nli 100", False)))
    'align tlm 9 steps, intermediate nli 100'
    """
    has_end = any(stage.kind == "intermediate" for stage in stages)
    labels = [stage.label for stage in stages if not (has_end and stage.kind == "trunk")]
    return ", ".join(dict.fromkeys(labels))


def spread_note(configurations: Iterable[Sequence[Trained]]) -> str:
    """What a table has to say of its deviations and intervals; empty where repeats share nothing.

    Args:
        configurations: the repeats of each.
    """
    several = [repeats for repeats in configurations if len(repeats) > 1]
    shared = [shared_by(repeats) for repeats in several]
    stages = {stage.key: stage for part in shared for stage in part}
    if not stages:
        return ""
    if len({frozenset(stage.key for stage in part) for part in shared}) == 1:
        is_all = all(stages.keys() <= {stage.key for stage in path} for path in chain(*several))
        return (
            f"{'All' if is_all else 'Several'} repeats share one training of "
            f"{named(tuple(stages.values()))}: deviations and intervals are of what was trained "
            "after it, given that one."
        )
    kinds = {stage.kind for stage in stages.values()}
    listed = " and ".join(dict.fromkeys(_KINDS[kind] for kind in TRAINED if kind in kinds))
    return (
        f"Repeats of a configuration share one {listed} training: deviations and intervals are of "
        "what was trained after it. They leave out the luck of that training and do not tell "
        "whether configurations with different ones differ (seed: per_trial would)."
    )


_KINDS: Mapping[str, str] = {
    "align": "alignment",
    "trunk": "intermediate",
    "intermediate": "intermediate",
    "target": "target",
    "few_shot": "few-shot",
}
