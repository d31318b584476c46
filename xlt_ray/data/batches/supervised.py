"""Batches for supervised training, as padded numpy arrays.

Training batch ``step`` is a pure function of (seed, step), so an interrupted run continues with the
number of its next step. Examples are visited in one shuffle per epoch, those of like length
together; a batch has ``batch_size`` of them, exactly or (by pieces) on average, and the last batch
of an epoch continues into the order of the next. An example is one row, except that a long tagged
sentence has a row for each of its parts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice, pairwise

import numpy as np

from xlt_ray.config.facts import Split
from xlt_ray.config.methods import AugmentRobust
from xlt_ray.config.trial import Hybrid, Ranking, Size
from xlt_ray.data.batches.crosslingual import Crossing, crossing_of
from xlt_ray.data.batches.length_pools import Order, by_length, weighted
from xlt_ray.data.label_access import LabelAccess, labelled
from xlt_ray.data.sampling import Subset, digest_of, first_of, generator, order
from xlt_ray.data.sources.base import Source
from xlt_ray.data.task import Task
from xlt_ray.data.text.neighbours import AugmentedTable, augmented_table
from xlt_ray.data.text.pipeline import Batch, Encoded, TextPipeline, union
from xlt_ray.data.types.base import Example, Frame, Rows, kind_of
from xlt_ray.errors import DataError

Examples = Sequence[Example] | Subset[Example]
MONOLINGUAL = Hybrid()
"""No cross-lingual batches."""


@dataclass(frozen=True)
class BatchSettings:
    """How examples become batches, whichever examples they are."""

    batch_size: int
    seed: int
    is_nested: bool = False
    """Whether examples are walked through in their fixed shuffle, so that the batches of a smaller
    size are the first ones of a larger; else in a shuffle of their own."""
    is_by_pieces: bool = False
    """Whether batches have about equally many pieces, and ``batch_size`` examples on average; not
    for nested batches, nor where rows are compared."""
    num_negatives: int = Ranking().negatives
    """Wrong candidates of every row of a ranking task."""

    def frame(self, pipeline: TextPipeline) -> Frame:
        return Frame(pipeline.template, pipeline.max_length, self.num_negatives)


class TrainBatches:
    """Labelled examples of one language as an endless sequence of batches.

    With a hybrid ratio a batch, or each row of it, is cross-lingual with that probability (after
    arXiv 2408.10536): pairs take their two sentences from different languages where row-aligned
    training text exists; all else is code-switched by a lexicon. The other batches are in the
    source language, or in a language that is drawn for the batch. A batch that is cross-lingual as
    a whole may be scaled: it begins at the same example, and shows fewer examples, or some of the
    next batch as well.

    Args:
        places: the places among ``examples`` that are trained on.
        crossing: cross-lingual batches; None if there are none.
        copies: sentences of the examples with other words, which are trained on instead.
    """

    def __init__(
        self,
        task: Task,
        frame: Frame,
        table: Encoded,
        examples: Examples,
        places: np.ndarray,
        settings: BatchSettings,
        *,
        crossing: Crossing | None = None,
        copies: AugmentedTable | None = None,
    ) -> None:
        self.task, self.batch_size = task, settings.batch_size
        self._settings, self._seed = settings, settings.seed
        self._kind, self._frame = kind_of(task), frame
        width, size = self._kind.width, len(examples)
        self._lengths = self._kind.lengths(table.num_pieces().reshape(-1, width), frame)
        self._rows = self._plain = Rows(table, width, size)
        self._places, self._examples, self._crossing = places, examples, crossing
        self._sources = [table, *(part for part in (crossing, copies) if part is not None)]
        self._order = lru_cache(maxsize=4)(self._shuffled)
        self.coverage = {} if crossing is None else dict(crossing.coverage)
        """Share of the words that a ``lexicon``, or lists of ``neighbours``, have."""
        if copies is not None:
            self._rows = Rows(copies, width, copies.num_copies * size)
            self._places = np.concatenate([places + n * size for n in range(copies.num_copies)])
            self.coverage["neighbours"] = copies.coverage

    @property
    def num_examples(self) -> int:
        return len(self._places)

    def num_steps(self, epochs: int) -> int:
        """Steps that see every example at least ``epochs`` times."""
        return -(-self.num_examples * epochs // self.batch_size)

    def crossed(self, step: int) -> np.ndarray:
        """(rows of batch ``step``,) bool: which of them are cross-lingual."""
        begin, end = self._bounds(step)
        return self._crossed(generator("hybrid", self._seed, step), end - begin)

    def batch(self, step: int) -> Batch:
        """As :meth:`xlt_ray.data.text.pipeline.Batches.batch`."""
        random = generator("hybrid", self._seed, step)
        begin, end = self._bounds(step)
        crossed = self._crossed(random, end - begin).tolist()
        language = 0
        if self._crossing is not None and self._crossing.hybrid.mono != "source":
            language = int(random.integers(self._crossing.num_languages))
        rows, plain, labels = [], [], []
        for number, is_crossed in enumerate(crossed):
            place = self._place(begin + number)
            # Copies follow each other.
            example = place % len(self._plain)
            row = None
            if self._crossing is not None and is_crossed:
                row = self._crossing.row(example, random)
            elif self._crossing is not None and language:
                row = self._crossing.row_in(language, example)
            rows.append(row or self._rows[place])
            plain.append(self._plain[example])
            labels.append(self._kind.numbers(self._examples[example]))
        stream = ("items", self._seed, step)
        items = self._kind.train_items(rows, plain, labels, self._frame, stream)
        batch = self._kind.batch(
            [item for _, item in items], [labels[row] for row, _ in items], self._frame
        )
        if not self._settings.is_by_pieces:
            return batch
        return weighted(batch, end - begin, self.batch_size)

    def vocabulary(self) -> np.ndarray | None:
        """As :meth:`xlt_ray.data.text.pipeline.Batches.vocabulary`, of all sentences in the table;
        nested batches have that of the whole split, so that it is the same for every size."""
        ids = [self._frame.template.vocabulary, *(part.vocabulary() for part in self._sources)]
        return union(ids)

    def _crossed(self, random: np.random.Generator, num_rows: int) -> np.ndarray:
        if self._crossing is None:
            return np.zeros(num_rows, bool)
        hybrid = self._crossing.hybrid
        if hybrid.mixing == "in_batch":
            return random.random(num_rows) < hybrid.ratio
        if random.random() >= hybrid.ratio:
            return np.zeros(num_rows, bool)
        return np.ones(max(round(num_rows * hybrid.batch_scale), 1), bool)

    def _bounds(self, step: int) -> tuple[int, int]:
        """Where a batch begins and ends, in positions over all epochs."""
        epoch, begin = divmod(step * self.batch_size, self.num_examples)
        end, number = begin + self.batch_size, begin // self.batch_size
        bounds = self._order(epoch).bounds
        if number + 1 < len(bounds):
            begin, end = bounds[number : number + 2].tolist()
        passed = epoch * self.num_examples
        return passed + begin, passed + end

    def _place(self, position: int) -> int:
        epoch, place = divmod(position, self.num_examples)
        return int(self._order(epoch).places[place])

    def _shuffled(self, epoch: int) -> Order:
        """The order of an epoch; without bounds where batches stay as they are drawn."""
        unsorted = np.zeros(0, np.int64)
        if self._settings.is_nested:
            return Order(self._places, unsorted)
        random = generator("train-order", self._seed, epoch)
        places = random.permutation(self._places)
        if self._kind.compares_rows:
            return Order(places, unsorted)
        # Copies are about as long as their examples, and so are translations.
        lengths = self._lengths[places % len(self._plain)]
        first = -epoch * self.num_examples % self.batch_size
        ordered = by_length(
            lengths, self.batch_size, random, first=first, is_by_pieces=self._settings.is_by_pieces
        )
        return ordered._replace(places=places[ordered.places])


def train_batches(
    source: Source,
    task: Task,
    access: LabelAccess,
    size: Size,
    pipeline: TextPipeline,
    settings: BatchSettings,
    *,
    hybrid: Hybrid = MONOLINGUAL,
    augment: AugmentRobust | None = None,
) -> TrainBatches:
    """The first ``size`` training examples of the language of ``access`` in the fixed shuffle.

    Args:
        augment: copies with other words to train on instead; cross-lingual batches, and those of
            another language, keep the words.

    Raises:
        ForbiddenLabels: ``access`` is not for training on this task.
        DataError: no such data, fewer examples than ``size``, cross-lingual batches without
            translations and without a lexicon, or batches in other languages without translations.
    """
    source_language = access.source_language
    split = labelled(source, access, task, source_language, "train")
    places = first_of(len(split), size, task=task.name, language=source_language)
    if not len(places):
        raise DataError("is empty", task=task.name, language=source_language, split="train")

    def table(language: str, rows: Examples, *part: str | int) -> Encoded:
        return encoded_split(source, task, language, "train", rows, pipeline, *part)

    examples: Examples = split
    crossing: Crossing | None = None
    copies: AugmentedTable | None = None
    whole = hybrid.is_used or augment is not None or settings.is_nested
    blocks = () if whole else blocks_of(len(places), len(split))
    if blocks:
        shuffled = order(len(split))
        plain = Encoded.joined(
            [
                table(source_language, Subset(split, shuffled[begin:end]), "block", begin, end)
                for begin, end in blocks
            ]
        )
        examples, places = Subset(split, shuffled[: blocks[-1][1]]), np.arange(len(places))
    else:
        plain = table(source_language, split)
    if hybrid.is_used:
        crossing = crossing_of(source, task, access, hybrid, split, table, pipeline)
    if augment is not None:
        kind = kind_of(task)
        width, switched = kind.width, frozenset(kind.switched)
        copies = augmented_table(
            source,
            source_language,
            augment,
            plain,
            (sentence for example in split for sentence in example.sentences()),
            pipeline,
            settings.seed,
            lambda number: number % width not in switched,
        )
    return TrainBatches(
        task,
        settings.frame(pipeline),
        plain,
        examples,
        places,
        settings,
        crossing=crossing,
        copies=copies,
    )


BLOCK = 1024
"""Examples of the first block of a split."""


def blocks_of(size: int, num_examples: int) -> tuple[tuple[int, int], ...]:
    """Begin and end of the blocks of the fixed shuffle that hold its first ``size`` examples; none
    if they hold more than half of the split, which is then encoded as a whole.

    Each is encoded by itself and ends at twice the place where the one before it ends, so a small
    size encodes little, and sizes have their blocks in common.

    >>> blocks_of(1000, 9000), blocks_of(3000, 9000), blocks_of(5000, 9000)
    (((0, 1024),), ((0, 1024), (1024, 2048), (2048, 4096)), ())
    """
    ends = [0, BLOCK]
    while ends[-1] < size:
        ends.append(2 * ends[-1])
    return tuple(pairwise(ends)) if 2 * ends[-1] <= num_examples else ()


def shot_places(num_examples: int, shots: int, sample: int) -> np.ndarray:
    """Places of the first ``shots`` examples of a sample, (shots,) int64.

    Sample s of a split of n examples is one order of its places, a function of s and n alone: K
    shots are its first K, so that 5 lie inside 10, and where splits of several languages are
    translations of each other, row by row, so are their shots.

    >>> bool((shot_places(100, 5, 3) == shot_places(100, 10, 3)[:5]).all())
    True
    """
    return generator("few-shot", sample, num_examples).permutation(num_examples)[:shots]


def shot_batches(
    source: Source,
    task: Task,
    access: LabelAccess,
    split: Split,
    shots: int,
    sample: int,
    pipeline: TextPipeline,
    settings: BatchSettings,
) -> TrainBatches:
    """Batches of the shots of a language; the seed shuffles them.

    Raises:
        ForbiddenLabels: ``access`` is not for few shots, or ``split`` is the test set.
        DataError: no such data, or fewer examples than ``shots``.
    """
    language = access.few_shot_language
    examples = labelled(source, access, task, language, split)
    places, kind = shot_places(len(examples), len(examples), sample), kind_of(task)
    # What is not translated is passed over, so that the rest is the same in all languages.
    are_whole = (place for place in places.tolist() if kind.is_whole(examples[place]))
    whole = list(islice(are_whole, shots))
    if shots > len(whole):
        raise DataError(
            f"{shots} shots were requested, but there are only {len(whole)} whole examples",
            task=task.name,
            language=language,
            split=split,
            remedy=f"set few_shot.shots to at most {len(whole)}",
        )
    chosen = Subset(examples, np.array(whole))
    return TrainBatches(
        task,
        settings.frame(pipeline),
        encoded_split(source, task, language, split, chosen, pipeline, "shots", sample, shots),
        chosen,
        np.arange(shots),
        settings,
    )


def encoded_split(
    source: Source,
    task: Task,
    language: str,
    split: Split,
    examples: Examples,
    pipeline: TextPipeline,
    *part: str | int,
) -> Encoded:
    """The sentences of ``examples`` as pieces, labels left out: all of a split, or those that
    ``part`` names in the cache."""
    digest = source.splits(task)[language, split].digest
    return pipeline.encoded(
        (words for example in examples for words in example.sentences()),
        digest_of("split", task.name, task.version, language, split, digest, *part),
        with_places=kind_of(task).has_places,
    )
