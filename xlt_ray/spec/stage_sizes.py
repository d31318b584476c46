"""How long the trainings of a sweep are: steps, batches and rows of each kind of stage."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from xlt_ray.spec.early_stop import target_examples
from xlt_ray.spec.facts import Facts
from xlt_ray.spec.lengths import with_lengths
from xlt_ray.spec.methods import Training
from xlt_ray.spec.mixture import mixture_of
from xlt_ray.spec.trial import TrialSpec

Extent = tuple[int, int]
"""The lowest and the highest value over the configurations of a sweep."""


@dataclass(frozen=True)
class StageSize:
    """The trainings of one kind of stage on the same tasks, over all configurations."""

    kind: str
    content: str
    """Its tasks, or the objective of an alignment."""
    steps: Extent
    batch_size: Extent
    max_length: Extent

    def __str__(self) -> str:
        """One line.

        >>> str(StageSize("target", "pos", (94, 1176), (32, 32), (128, 128)))
        'target pos: 94 to 1,176 steps of 32 rows, each of at most 128 pieces'
        """
        return (
            f"{self.kind} {self.content}: {_extent(self.steps)} steps of "
            f"{_extent(self.batch_size)} rows, each of at most {_extent(self.max_length)} pieces"
        )


def trainings(trial: TrialSpec, facts: Facts) -> dict[str, tuple[Training, int]]:
    """Kind of stage -> its settings and its optimizer steps, in the order of a path.

    Raises:
        KeyError: a task without training data, which the checks complain about.
    """
    found: dict[str, tuple[Training, int]] = {}
    if trial.align is not None:
        found["align"] = trial.align, trial.align.steps
    if trial.intermediate is not None:
        settings = trial.intermediate
        mixture = mixture_of(settings, trial.target.source_language, facts.tasks)
        size = mixture.size(settings.size)
        steps = mixture.num_steps(size, settings.epochs, settings.batch_size)
        found["intermediate"] = settings, steps
    found["target"] = trial.target, target_examples(trial, facts) // trial.target.batch_size
    if trial.few_shot is not None:
        found["few_shot"] = trial.few_shot, trial.few_shot.steps
    return found


def stage_sizes(trials: Iterable[TrialSpec], facts: Facts) -> list[StageSize]:
    """Of the probes of a sweep that fits its facts."""
    grouped: dict[tuple[str, str], list[tuple[int, int, int]]] = {}
    for trial in trials:
        for kind, (settings, steps) in trainings(with_lengths(trial, facts), facts).items():
            row = (steps, settings.batch_size, settings.max_length or 0)
            grouped.setdefault((kind, _content(trial, kind)), []).append(row)
    return [
        StageSize(*names, *((min(column), max(column)) for column in zip(*rows, strict=True)))
        for names, rows in sorted(grouped.items(), key=lambda item: _ORDER.index(item[0][0]))
    ]


_ORDER = ("align", "intermediate", "target", "few_shot")


def _content(trial: TrialSpec, kind: str) -> str:
    if kind == "align":
        return str(getattr(trial.align, "objective", ""))
    if kind == "intermediate" and trial.intermediate is not None:
        return " and ".join(trial.intermediate.tasks)
    return trial.target.task


def _extent(extent: Extent) -> str:
    low, high = extent
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"
