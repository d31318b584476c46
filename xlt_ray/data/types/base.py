"""What every kind of task promises: from an example's text to arrays, and back to scores.

An example is plain text with its label. Its sentences are tokenised once and kept in a table
(:mod:`xlt_ray.data.text.pipeline`); a :data:`Row` is one example's sentences as pieces. What stands
in one row of a batch is an *item*: the row itself, but for kinds that show one part of a long text
at a time. Kinds hold no state.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, Self

import numpy as np

from xlt_ray.config.facts import Split
from xlt_ray.config.task_types import KINDS
from xlt_ray.data.item_scores import ItemScores
from xlt_ray.data.text.lines import RAISED, Faults
from xlt_ray.data.text.pipeline import Sentence, Template
from xlt_ray.errors import DataError

if TYPE_CHECKING:
    from xlt_ray.data.task import Task
    from xlt_ray.data.text.pipeline import Batch

Row = tuple[Sentence, ...]


class Example(Protocol):
    """One example: frozen, plain text, its label None where only the text may be seen."""

    @property
    def id(self) -> str:
        """Unique in a split; the same id in two languages means the same example."""

    @property
    def gold(self) -> Any:
        """What a prediction is compared with."""

    def hidden(self) -> Self:
        """The same text, its label None."""

    def sentences(self) -> tuple[tuple[str, ...], ...]:
        """Words of every sentence, as many sentences as :meth:`TaskType.width` says.

        Words of running text are what whitespace separates, so Chinese, Japanese and Thai
        sentences are one long word each.
        """


class Frame(NamedTuple):
    """How rows are put into arrays."""

    template: Template
    max_length: int
    num_negatives: int = 0
    """Wrong candidates of a row of a ranking task in training."""

    def room(self, num_sentences: int) -> int:
        """Pieces of text in a row of one or two sentences."""
        return self.max_length - self.template.num_special(num_sentences)


class Views(Protocol):
    """The items that evaluation predicts, several for an example where it has several parts."""

    @property
    def owners(self) -> np.ndarray:
        """(num_items,): the example of each item, ascending."""

    @property
    def lengths(self) -> np.ndarray:
        """(num_items,): pieces of each item, by which batches are put together."""

    def __getitem__(self, number: int) -> Any:
        """One item."""


class Table(Protocol):
    """What rows are taken from, sentence by sentence."""

    def __getitem__(self, number: int) -> Sentence:
        """One sentence."""


class Rows:
    """The rows of a table, ``width`` sentences each; as views, every example is one item."""

    def __init__(self, table: Table, width: int, num_examples: int) -> None:
        self._table, self._width, self._num_examples = table, width, num_examples

    def __len__(self) -> int:
        return self._num_examples

    def __getitem__(self, number: int) -> Row:
        begin = self._width * number
        return tuple(self._table[begin + slot] for slot in range(self._width))

    @property
    def owners(self) -> np.ndarray:
        return np.arange(self._num_examples)

    @cached_property
    def lengths(self) -> np.ndarray:
        return np.array(
            [sum(len(one.pieces) for one in self[number]) for number in range(len(self))], np.int64
        )


class TaskType(ABC):
    """One kind of task. Arrays are numpy; labels of items are what :meth:`numbers` gives."""

    has_places = False
    """Whether its table keeps where in the text every piece stands."""

    @abstractmethod
    def width(self, task: Task) -> int:
        """Sentences of an example."""

    def switched(self, task: Task) -> Sequence[int]:
        """Sentences whose words may be replaced by translations: all of them."""
        return range(self.width(task))

    @abstractmethod
    def read(
        self, path: Path, task: Task, split: Split, faults: Faults = RAISED
    ) -> Iterator[Example]:
        """Examples of one file, in their order.

        Args:
            faults: what is done with the fault of a line, which gives no example then.

        Raises:
            DataError: the file does not hold what the task says.
        """

    def read_unlabelled(self, path: Path, task: Task) -> Iterator[Example]:
        """Examples to predict, their labels placeholders whatever the file says or leaves out.

        Every row is predicted, so that answers and rows match: a row without text is an error.

        Raises:
            DataError: the file does not hold what the kind needs, or the kind predicts nothing of
                a single example.
        """
        return self.read(path, task, "test")

    @abstractmethod
    def of_row(
        self, task: Task, row: Mapping[str, Any], name: str, path: Path, number: int
    ) -> Example | None:
        """The example of one row of a data set, or None where the row says nothing.

        ``row`` has the columns of the kind's entry (:mod:`xlt_ray.config.task_types`), ``name`` is
        its id; ``path`` and ``number`` say where it stands.

        Raises:
            DataError: the row does not hold what the task says.
        """

    def count(self, path: Path, task: Task, split: Split) -> int:
        """Number of examples that :meth:`read` finds in a file."""
        return sum(1 for _ in self.read(path, task, split))

    def is_whole(self, example: Any) -> bool:
        """Whether all text of an example is there. What is not is scored, as benchmarks do, but it
        is neither trained on nor set beside another language."""
        return True

    @abstractmethod
    def numbers(self, task: Task, example: Any) -> np.ndarray:
        """The label of an example as numbers."""

    def train_items(
        self,
        task: Task,
        rows: Sequence[Row],
        plain: Sequence[Row],
        labels: Sequence[np.ndarray],
        frame: Frame,
        stream: tuple[str | int, ...],
    ) -> Sequence[tuple[int, Any]]:
        """The items of a training batch, each with the place of its row among ``rows``.

        Every row has one item or more, in their order.

        Args:
            plain: the same rows in the source language's own words, which tell what is the same
                text whatever language or words a row has now.
            stream: names the random numbers.
        """
        return list(enumerate(rows))

    def views(self, task: Task, rows: Rows, frame: Frame) -> Views:
        """All items that evaluation has to predict."""
        return rows

    def shown(self, task: Task, row: Row) -> Sequence[Row]:
        """The sentences of an example that a network sees together, one or two each time."""
        return [row]

    def cut(self, task: Task, rows: Rows, examples: Sequence[Any], frame: Frame) -> float:
        """Share of the examples of which a row has no room for everything; 0.0 of none."""
        lengths = [
            [(len(part), sum(len(one.pieces) for one in part)) for part in self.shown(task, row)]
            for row in (rows[number] for number in range(len(examples)))
        ]
        too_long = [any(length > frame.room(width) for width, length in parts) for parts in lengths]
        return sum(too_long) / len(too_long) if too_long else 0.0

    @abstractmethod
    def batch(
        self, task: Task, items: Sequence[Any], labels: Sequence[np.ndarray], frame: Frame
    ) -> Batch:
        """Padded arrays of items, with their ``labels``."""

    @abstractmethod
    def decode(
        self, task: Task, items: Sequence[Any], predicted: np.ndarray, frame: Frame
    ) -> list[Any]:
        """What a batch's answers (:meth:`Head.answers`) say of each of its items."""

    def certainties(self, logits: Any, labels: np.ndarray) -> list[Any]:
        """By item of a batch, what :meth:`probability` needs to know of its ``logits``, a float32
        tensor on the CPU; None where the kind has no probabilities."""
        return [None] * len(logits)

    def probability(
        self, task: Task, answer: Any, parts: Sequence[Any], certainties: Sequence[Any]
    ) -> tuple[Any, dict[str, float] | None]:
        """How likely the ``answer`` to an example is, and every label where the kind has labels.

        ``parts`` are the decoded items of the example and ``certainties`` belong to them.
        """
        return None, None

    def joined(self, task: Task, example: Any, parts: Sequence[Any]) -> Any:
        """What the decoded items of one example say together, in the form of its gold."""
        (only,) = parts
        return only

    @abstractmethod
    def score(
        self, task: Task, language: str, gold: Sequence[Any], predicted: Sequence[Any]
    ) -> dict[str, float]:
        """The task's metrics as fractions, headline first, as far as gold leaves them defined.

        Lengths that differ are our own mistake (ValueError).
        """

    def score_tuned(
        self,
        task: Task,
        language: str,
        gold: Sequence[Any],
        predicted: Sequence[Any],
        dev: tuple[Sequence[Any], Sequence[Any]],
    ) -> dict[str, float]:
        """As :meth:`score`, with what is chosen by gold and predictions of the dev set.

        Asked of kinds whose entry says ``is_tuned``; of the others nothing is chosen.
        """
        return self.score(task, language, gold, predicted)

    @abstractmethod
    def item_scores(
        self, task: Task, language: str, gold: Sequence[Any], predicted: Sequence[Any]
    ) -> ItemScores:
        """As :meth:`score`, item by item, with what the same answer to everything would score."""

    def item_scores_tuned(
        self,
        task: Task,
        language: str,
        gold: Sequence[Any],
        predicted: Sequence[Any],
        dev: tuple[Sequence[Any], Sequence[Any]],
    ) -> ItemScores:
        """As :meth:`item_scores`, for :meth:`score_tuned`."""
        return self.item_scores(task, language, gold, predicted)


def class_shares(logits: Any) -> list[Any]:
    """The probability of each class, item by item, (classes,) float32 each."""
    return list(logits.softmax(dim=-1).numpy())


def read_inputs(path: Path, task: Task) -> tuple[Example, ...]:
    """The examples of a file that is to be predicted, in its order.

    Raises:
        DataError: it cannot be read, does not hold what the kind of task needs (with the line
            where there is one), or holds nothing.
    """
    try:
        examples = tuple(kind_of(task).read_unlabelled(path, task))
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from None
    if not examples:
        raise DataError(f"{path}: holds nothing to predict", task=task.name)
    return examples


def kind_of(task: Task) -> TaskType:
    """The kind of a task."""
    kind = KINDS[task.kind].load_examples()
    assert isinstance(kind, TaskType)
    return kind
