"""What a finished trial is measured by: further objectives and constraints name an entry each.

A name is that of an entry of :data:`MEASURES`, or of a language by its code or English name: the
score of that language.
"""

from __future__ import annotations

import re
import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Any, Literal

from pydantic import PlainSerializer, PlainValidator, WithJsonSchema

from xlt_ray.config.languages import language, languages
from xlt_ray.errors import nearest

Reads = Literal["source", "target", "low", "time", "gpus", "weights"]
"""Dev scores of the source language, of target languages, or of target languages with low
resources; time, GPU-hours, or weights."""


@dataclass(frozen=True)
class Outcome:
    """What is known of a finished trial."""

    scores: Mapping[str, float]
    """The objective's metric on the dev sets, by language."""
    source: str
    is_higher_better: bool
    seconds: float
    """That all stages of its path took, whichever trials made them."""
    gpus: float
    weight_bytes: int

    @cached_property
    def targets(self) -> dict[str, float]:
        return {code: value for code, value in self.scores.items() if code != self.source}


@dataclass(frozen=True)
class Measure:
    """One quantity of a finished trial."""

    name: str
    title: str
    reads: Reads
    value: Callable[[Outcome], float]

    @property
    def is_score(self) -> bool:
        """Whether ``objective.mode`` says what is better; of costs, less is."""
        return self.reads in ("source", "target", "low")

    @property
    def reads_targets(self) -> bool:
        """Whether it reads labels of target languages."""
        return self.reads in ("target", "low")


def _worst(outcome: Outcome) -> float:
    values = outcome.targets.values()
    return min(values) if outcome.is_higher_better else max(values)


def is_low_resource(code: str) -> bool:
    return language(code).resources == "low"


MEASURES: Mapping[str, Measure] = {
    measure.name: measure
    for measure in (
        Measure("source", "source language", "source", lambda out: out.scores[out.source]),
        Measure(
            "target_mean", "mean of the target languages", "target",
            lambda out: statistics.fmean(out.targets.values()),
        ),
        Measure(
            "low_resource", "mean of the low-resource languages", "low",
            lambda out: statistics.fmean(
                value for code, value in out.targets.items() if is_low_resource(code)
            ),
        ),
        Measure("worst_language", "worst target language", "target", _worst),
        Measure("hours", "hours of all its stages", "time", lambda out: out.seconds / 3600),
        Measure(
            "gpu_hours", "GPU-hours of all its stages", "gpus",
            lambda out: out.seconds * out.gpus / 3600,
        ),
        Measure("model_mb", "weights in MB", "weights", lambda out: out.weight_bytes / 1e6),
    )
}  # fmt: skip


def measure_named(name: str, source: str | None = None) -> Measure:
    """The entry of a name, or the score of the language with that code.

    Args:
        source: the source language of all trials; None if they differ.
    """
    if name in MEASURES:
        return MEASURES[name]
    reads: Reads = "source" if name == source else "target"
    return Measure(name, f"language {name}", reads, lambda outcome: outcome.scores[name])


def measure_name(text: Any) -> str:
    """The name of a measure as it is kept: languages by code. ValueError if there is none.

    >>> measure_name("gpu_hours"), measure_name("English"), measure_name("qaa")
    ('gpu_hours', 'en', 'qaa')
    """
    name = str(text)
    if name in MEASURES or re.fullmatch("[a-z]{2,3}", name) or name in languages():
        return name
    for known in languages().values():
        if known.name.casefold() == name.casefold():
            return known.code
    raise ValueError(
        f"there is no measure {name!r}; {nearest(name, MEASURES)}, or a language by its code"
    )


@dataclass(frozen=True)
class Constraint:
    """A bound of a measure."""

    measure: str
    relation: Literal["<=", ">="]
    bound: float

    def __str__(self) -> str:
        return f"{self.measure} {self.relation} {self.bound:g}"

    def excess(self, value: float) -> float:
        """How far a value is beyond the bound; at most 0 if it keeps it.

        >>> constraint("en >= 0.75").excess(0.5), constraint("hours <= 4").excess(4)
        (0.25, 0.0)
        """
        return value - self.bound if self.relation == "<=" else self.bound - value


_CONSTRAINT = re.compile(r"\s*(.+?)\s*([<>]=)\s*([-+]?[0-9.]+(?:[eE][-+]?[0-9]+)?)\s*")


def constraint(text: Any) -> Constraint:
    """A constraint from its text; ValueError if it is none.

    >>> str(constraint("English>=0.80"))
    'en >= 0.8'
    """
    match = _CONSTRAINT.fullmatch(text) if isinstance(text, str) else None
    if match is None:
        raise ValueError("must be MEASURE >= NUMBER or MEASURE <= NUMBER, as in 'gpu_hours <= 4'")
    name, relation, bound = match.groups()
    return Constraint(measure_name(name), ">=" if relation == ">=" else "<=", float(bound))


ConstraintText = Annotated[
    Constraint,
    PlainValidator(lambda value: value if isinstance(value, Constraint) else constraint(value)),
    PlainSerializer(str, return_type=str),
    WithJsonSchema({"type": "string", "pattern": _CONSTRAINT.pattern}),
]
"""A :class:`Constraint`, which files and ledgers keep as text."""
