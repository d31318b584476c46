"""What an intermediate stage trains on: datasets (a task in a language each) and masked LM.

A stage of one dataset without masked LM is *plain*; every other is a mixture, which
:mod:`xlt_ray.data.batches.mixture_batches` draws from.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction

from xlt_ray.config.facts import TaskFacts
from xlt_ray.config.trial import Intermediate, num_steps


@dataclass(frozen=True)
class Dataset:
    """The training examples of one task in one language."""

    task: str
    language: str
    num_examples: int


@dataclass(frozen=True)
class Mixture:
    """The datasets of a stage, by task and language, and how many of their examples count."""

    datasets: tuple[Dataset, ...]
    cap: int | None = None
    """Examples of a dataset that count at most."""
    mlm_share: float = 0.0
    """Share of masked LM in all batches."""

    @property
    def is_plain(self) -> bool:
        return len(self.datasets) == 1 and not self.mlm_share

    @property
    def counts(self) -> tuple[int, ...]:
        """Examples of each dataset that count."""
        return tuple(
            dataset.num_examples if self.cap is None else min(dataset.num_examples, self.cap)
            for dataset in self.datasets
        )

    @property
    def tasks(self) -> tuple[str, ...]:
        """Each task once."""
        return tuple(dict.fromkeys(dataset.task for dataset in self.datasets))

    @property
    def languages(self) -> tuple[str, ...]:
        """Each language of a dataset once, sorted."""
        return tuple(sorted({dataset.language for dataset in self.datasets}))

    def of(self, task: str) -> tuple[str, ...]:
        """Languages of one task's datasets."""
        return tuple(dataset.language for dataset in self.datasets if dataset.task == task)

    def size(self, size: int | str) -> int:
        """``all`` or a number, as a number of examples over all datasets."""
        return sum(self.counts) if isinstance(size, str) else size

    def num_steps(self, size: int, epochs: int, batch_size: int) -> int:
        """Optimizer steps: those for the examples, and those of masked LM between them.

        >>> english = Dataset("nli", "en", 1000)
        >>> [Mixture((english,), None, share).num_steps(1000, 1, 10) for share in (0.0, 0.2)]
        [100, 125]
        """
        labelled = num_steps(size, epochs, batch_size)
        return math.ceil(labelled / (1 - Fraction(str(self.mlm_share))))


def mixture_of(
    settings: Intermediate, source_language: str, tasks: Mapping[str, TaskFacts]
) -> Mixture:
    """The datasets that ``settings`` name and that the data has.

    Args:
        source_language: that of the target, the default of the stage.
    """
    datasets = tuple(
        Dataset(name, language, tasks[name].splits[language, "train"].num_examples)
        for name in settings.tasks
        for language in _languages(settings, source_language, tasks[name])
    )
    # A single dataset is not sampled, so the cap may not enter a key.
    cap = settings.sampling.cap if len(datasets) > 1 else None
    return Mixture(datasets, cap, settings.mlm.share if settings.mlm else 0.0)


def own_language(settings: Intermediate, source_language: str) -> str:
    """The source language of an intermediate stage, whose dev sets score it."""
    return settings.source_language or source_language


def text_languages(
    settings: Intermediate, source_language: str, parallel: Mapping[str, str]
) -> tuple[str, ...]:
    """Languages of the text for masked LM, sorted; empty without masked LM."""
    if settings.mlm is None:
        return ()
    languages = settings.mlm.languages
    if languages == "source":
        return (own_language(settings, source_language),)
    return tuple(sorted(parallel if languages == "all" else set(languages)))


def _languages(settings: Intermediate, source_language: str, task: TaskFacts) -> tuple[str, ...]:
    trained = task.languages("train")
    if settings.languages == "all":
        return trained
    languages = settings.languages or (own_language(settings, source_language),)
    return tuple(language for language in trained if language in languages)
