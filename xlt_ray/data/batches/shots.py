"""The few labelled examples of one target language that a few-shot stage trains on.

Sample s of a split of n examples is one order of its places, a function of s and n alone: K shots
are its first K, so that 5 lie inside 10, and where splits of several languages are translations
of each other, row by row, their shots are, too.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from xlt_ray.config.facts import Split
from xlt_ray.config.trial import Ranking
from xlt_ray.data.batches.supervised import TrainBatches, encoded_split
from xlt_ray.data.label_access import LabelAccess, labelled
from xlt_ray.data.sampling import generator
from xlt_ray.data.sources.base import Source
from xlt_ray.data.task import Task
from xlt_ray.data.text.pipeline import template_of
from xlt_ray.data.types.base import kind_of
from xlt_ray.errors import DataError


def places_of(num_examples: int, shots: int, sample: int) -> np.ndarray:
    """Places of the first ``shots`` examples of a sample, (shots,) int64.

    >>> bool((places_of(100, 5, 3) == places_of(100, 10, 3)[:5]).all())
    True
    """
    return generator("few-shot", sample, num_examples).permutation(num_examples)[:shots]


def shot_batches(
    source: Source,
    task: Task,
    permit: LabelAccess,
    split: Split,
    shots: int,
    sample: int,
    tokenizer: Any,
    tokenizer_digest: str,
    max_length: int,
    batch_size: int,
    seed: int,
    cache_dir: Path,
    *,
    num_negatives: int = Ranking().negatives,
) -> TrainBatches:
    """Batches of the shots of the permit's language; ``seed`` shuffles them.

    Raises:
        ForbiddenLabels: the permit is not one for few shots, or ``split`` is the test set.
        DataError: no such data, or fewer examples than ``shots``.
    """
    language = permit.few_shot_language
    examples = labelled(source, permit, task, language, split)
    order, kind = places_of(len(examples), len(examples), sample), kind_of(task)
    # What is not translated is passed over, so that the rest is the same in all languages.
    whole = [place for place in order.tolist() if kind.is_whole(examples[place])]
    if shots > len(whole):
        raise DataError(
            f"{shots} shots are asked, there are {len(whole)} whole examples",
            task=task.name,
            language=language,
            split=split,
            remedy=f"set few_shot.shots to at most {len(whole)}",
        )
    return TrainBatches(
        task,
        template_of(tokenizer),
        encoded_split(
            source, task, language, split, examples, tokenizer, tokenizer_digest, cache_dir
        ),
        examples,
        np.array(whole[:shots], np.int64),
        max_length=max_length,
        batch_size=batch_size,
        seed=seed,
        num_negatives=num_negatives,
    )
