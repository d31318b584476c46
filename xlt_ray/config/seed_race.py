"""How many trials configurations get: all the same number, or the better ones more than the others.

In a race the number of seeds doubles from rung to rung, and with ``search.fidelity`` a parameter
takes its next value, while the number of configurations falls geometrically: sequential halving
(Karnin et al. 2013) with seeds for pulls, or with trainings that cost more and more.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag, model_validator

from xlt_ray.config.methods import ConfigModel


class Race(ConfigModel):
    """Every configuration gets ``first`` seeds, the better ones further ones, the last ones
    ``most``."""

    first: int = Field(default=1, ge=1)
    """Trials of every configuration; the number doubles from rung to rung."""
    most: int = Field(default=8, ge=2)
    """Trials of each of the last configurations."""
    keep: int = Field(default=3, ge=2)
    """Configurations that get ``most`` trials, so that the best is compared with its rivals."""

    @model_validator(mode="after")
    def _rises(self) -> Race:
        if self.most <= self.first:
            raise ValueError(f"most must be above first, which is {self.first}")
        return self


class SeedRace(ConfigModel):
    """Instead of a number of seeds."""

    race: Race
    """Better configurations get more seeds."""


def _kind_of(seeds: Any) -> str:
    # A wrong value is then explained as the one or the other, not as both.
    return "SeedRace" if isinstance(seeds, Mapping | SeedRace) else "int"


NumberOrRace = Annotated[
    Annotated[int, Field(ge=1), Tag("int")] | Annotated[SeedRace, Tag("SeedRace")],
    Discriminator(_kind_of),
]
Seeds = int | SeedRace | Mapping[str, Any]
"""``search.seeds``, as settings or as plain JSON."""


class Fidelity(ConfigModel):
    """Every configuration is tried with the first value of a parameter, the better ones with its
    next one, the last ones with its last value and all their seeds."""

    over: Literal[
        "align.steps", "intermediate.size", "intermediate.epochs", "target.size", "target.epochs"
    ]
    """A choice of increasing whole numbers. It is not searched over: a small value tells early
    which configurations are worth a large one."""
    keep: int = Field(default=3, ge=1)
    """Configurations that are tried with the last value."""


@dataclass(frozen=True)
class Rung:
    """The best ``num_configurations`` get ``num_trials`` trials each.

    They are compared by the mean of their trials from ``since`` on.
    """

    num_trials: int
    num_configurations: int
    since: int = 0


def seed_levels(seeds: Seeds) -> tuple[int, ...]:
    """The numbers of seeds of all rungs; a fixed number of seeds is a race of one rung.

    >>> seed_levels(3), seed_levels({"race": {"first": 1, "most": 6, "keep": 3}})
    ((3,), (1, 2, 4, 6))
    """
    if isinstance(seeds, int):
        return (seeds,)
    race = SeedRace.model_validate(seeds).race
    levels = [race.first]
    while levels[-1] < race.most:
        levels.append(min(2 * levels[-1], race.most))
    return tuple(levels)


def seed_rungs(seeds: Seeds, num_configurations: int) -> tuple[Rung, ...]:
    """The rungs of a sweep with so many configurations.

    >>> [rung.num_configurations for rung in seed_rungs({"race": {}}, 24)]
    [24, 12, 6, 3]
    """
    levels = seed_levels(seeds)
    if isinstance(seeds, int):
        return (Rung(seeds, num_configurations),)
    numbers = _falling(num_configurations, SeedRace.model_validate(seeds).race.keep, len(levels))
    return tuple(map(Rung, levels, numbers))


def fidelity_rungs(
    keep: int, num_values: int, seeds: int, num_configurations: int
) -> tuple[Rung, ...]:
    """The rungs of a sweep with a fidelity: one trial for each value, ``seeds`` for the last.

    >>> [rung.num_configurations for rung in fidelity_rungs(3, 3, 2, 27)]
    [27, 9, 3]
    """
    last = num_values - 1
    return tuple(
        Rung(number + (seeds if number == last else 1), num, since=number)
        for number, num in enumerate(_falling(num_configurations, keep, num_values))
    )


def _falling(num_configurations: int, keep: int, num_rungs: int) -> list[int]:
    """Numbers of configurations that fall geometrically to ``keep``."""
    share = min(keep, num_configurations) / max(num_configurations, 1)
    return [
        round(num_configurations * share ** (number / (num_rungs - 1)))
        for number in range(num_rungs)
    ]


def num_trials(rungs: Sequence[Rung]) -> int:
    """All trials of a sweep whose trials all complete.

    >>> num_trials(seed_rungs(3, 24)), num_trials(seed_rungs({"race": {}}, 24))
    (72, 60)
    """
    return rungs[0].num_trials * rungs[0].num_configurations + sum(
        (after.num_trials - before.num_trials) * after.num_configurations
        for before, after in pairwise(rungs)
    )


def seeds_text(seeds: Seeds) -> str:
    """How many seeds configurations get.

    >>> seeds_text(3), seeds_text({"race": {}})
    ('3', '1 to 8')
    """
    levels = seed_levels(seeds)
    return " to ".join(map(str, dict.fromkeys((levels[0], levels[-1]))))


def level_of(num_seeds: int, levels: Sequence[int]) -> int:
    """How many rungs a configuration with so many complete trials has reached.

    >>> [level_of(number, (1, 2, 4, 8)) for number in (0, 1, 3, 8)]
    [0, 1, 2, 4]
    """
    return bisect_right(levels, num_seeds)
