"""What every kind of task promises: from an example's text to arrays, and back to scores.

An example is plain text with its label. Its sentences are tokenised once and kept in a table
(:mod:`xlt_ray.data.text.pipeline`); a :data:`Row` is one example's sentences as pieces. What stands
in one row of a batch is an *item*: the row itself, or one part of it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Protocol, Self

import numpy as np

from xlt_ray.config.facts import Split
from xlt_ray.config.task_types import KINDS
from xlt_ray.data.item_scores import ItemScores, Parts, most_frequent, top_share
from xlt_ray.data.text.lines import RAISED, Faults
from xlt_ray.data.text.pipeline import Sentence, Template
from xlt_ray.errors import DataError

if TYPE_CHECKING:
    from xlt_ray.data.task import Task
    from xlt_ray.data.text.pipeline import Batch

Row = tuple[Sentence, ...]


class Predictions(NamedTuple):
    """Predictions for a split of one language, and the gold that they are compared with."""

    language: str
    gold: Sequence[Any]
    predicted: Sequence[Any]
    dev: tuple[Sequence[Any], Sequence[Any]] | None = None
    """Gold and predictions of the dev set, by which a kind whose entry says ``is_tuned`` chooses
    its threshold; without them, by what is scored."""

    def is_right(self) -> list[bool]:
        """Whether each prediction is the same as its gold."""
        return [right == answer for right, answer in zip(self.gold, self.predicted, strict=True)]


@dataclass(frozen=True, slots=True)
class Example(ABC):
    """Plain text and its label, which is None where only the text may be seen."""

    label_field: ClassVar[str] = ""
    """Name of the field that holds the label; empty where there are no labels."""

    id: str
    """Unique in a split; the same id in two languages means the same example."""

    @property
    def gold(self) -> Any:
        """What a prediction is compared with."""
        return getattr(self, self.label_field)

    def hidden(self) -> Self:
        """The same text, its label None."""
        nothing: dict[str, Any] = {self.label_field: None}
        return replace(self, **nothing)

    @abstractmethod
    def sentences(self) -> tuple[tuple[str, ...], ...]:
        """Words of every sentence, as many sentences as :attr:`TaskType.width` says.

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

    def row_length(self, row: Any) -> int:
        """Pieces of a row of one or two sentences, special ones included; the rest is cut."""
        num_sentences = sum(isinstance(part, Sentence) for part in row)
        return min(_length(row) + self.template.num_special(num_sentences), self.max_length)


class Table(Protocol):
    """What rows are taken from, sentence by sentence."""

    def __getitem__(self, number: int) -> Sentence:
        """One sentence."""


class Rows:
    """The rows of a table, ``width`` sentences each."""

    def __init__(self, table: Table, width: int, num_examples: int) -> None:
        self._table, self._width, self._num_examples = table, width, num_examples

    def __len__(self) -> int:
        return self._num_examples

    def __getitem__(self, number: int) -> Row:
        begin = self._width * number
        return tuple(self._table[begin + slot] for slot in range(self._width))


class Items:
    """The items that evaluation predicts, several for an example that has several parts."""

    owners: np.ndarray
    """(num_items,): the example of each item, ascending."""
    lengths: np.ndarray
    """(num_items,) int64: pieces of the longest row that shows each item, special ones included and
    ``max_length`` at most, by which batches are put together."""

    def __init__(self, kind: TaskType, rows: Rows, frame: Frame) -> None:
        self._kind, self._rows, self._frame = kind, rows, frame
        lengths = [
            [
                max(frame.row_length(part) for part in kind.shown(item))
                for item in kind.items(rows[number], frame)
            ]
            for number in range(len(rows))
        ]
        self.owners = np.repeat(np.arange(len(rows)), [len(row) for row in lengths])
        self.lengths = np.array([length for row in lengths for length in row], np.int64)

    def __getitem__(self, number: int) -> Any:
        owner = int(self.owners[number])
        first = int(np.searchsorted(self.owners, owner))
        return self._kind.items(self._rows[owner], self._frame)[number - first]


class TaskType(ABC):
    """One kind of task, for one task. Labels of items are what :meth:`numbers` gives."""

    example: ClassVar[type[Example]]
    """What its examples are."""
    has_places = False
    """Whether its table keeps where in the text every piece stands."""
    compares_rows = False
    """Whether rows of a training batch are compared with each other, so that rows of like length
    would be another training."""

    def __init__(self, task: Task) -> None:
        self.task = task

    @property
    @abstractmethod
    def width(self) -> int:
        """Sentences of an example."""

    @property
    def switched(self) -> Sequence[int]:
        """Sentences whose words may be replaced by translations: all of them."""
        return range(self.width)

    @abstractmethod
    def read(self, path: Path, split: Split, faults: Faults = RAISED) -> Iterator[Example]:
        """Examples of one file, in their order.

        Args:
            faults: what is done with the fault of a line, which gives no example then.

        Raises:
            DataError: the file does not hold what the task says.
        """

    def read_unlabelled(self, path: Path) -> Iterator[Example]:
        """Examples to predict, their labels placeholders whatever the file says or leaves out.

        Every row is predicted, so that answers and rows match: a row without text is an error.

        Raises:
            DataError: the file does not hold what the kind needs, or the kind predicts nothing of
                a single example.
        """
        return self.read(path, "test")

    @abstractmethod
    def of_row(self, row: Mapping[str, Any], name: str, path: Path, number: int) -> Example | None:
        """The example of one row of a data set, or None where the row says nothing.

        ``row`` has the columns of the kind's entry (:mod:`xlt_ray.config.task_types`), ``name`` is
        its id; ``path`` and ``number`` say where it stands.

        Raises:
            DataError: the row does not hold what the task says.
        """

    def count(self, path: Path, split: Split) -> int:
        """Number of examples that :meth:`read` finds in a file."""
        return sum(1 for _ in self.read(path, split))

    def is_whole(self, example: Any) -> bool:
        """Whether all text of an example is there. What is not is scored, as benchmarks do, but it
        is neither trained on nor set beside another language."""
        return True

    @abstractmethod
    def numbers(self, example: Any) -> np.ndarray:
        """The label of an example as numbers."""

    def items(self, row: Row, frame: Frame) -> Sequence[Any]:
        """The items of an example in evaluation."""
        return [row]

    def train_items(
        self,
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

    def shown(self, row: Row) -> Sequence[Row]:
        """The sentences of an example that a network sees together, one or two each time."""
        return [row]

    def lengths(self, num_pieces: np.ndarray, frame: Frame) -> np.ndarray:
        """(num_examples,) int64: most pieces that a network sees together of each example, special
        ones included; the sentences have ``num_pieces`` (num_examples, width)."""
        shown: Sequence[Any] = self.shown(tuple(num_pieces.T))
        special = frame.template.num_special
        lengths = [np.minimum(sum(part) + special(len(part)), frame.max_length) for part in shown]
        return np.max(lengths, axis=0)

    def cut(self, rows: Rows, examples: Sequence[Any], frame: Frame) -> float:
        """Share of the examples of which a row has no room for everything; 0.0 of none."""
        is_cut = [
            any(_length(part) > frame.room(len(part)) for part in self.shown(rows[number]))
            for number in range(len(examples))
        ]
        return sum(is_cut) / len(is_cut) if is_cut else 0.0

    @abstractmethod
    def batch(self, items: Sequence[Any], labels: Sequence[np.ndarray], frame: Frame) -> Batch:
        """Padded arrays of items, with their ``labels``."""

    @abstractmethod
    def decode(self, items: Sequence[Any], predicted: np.ndarray, frame: Frame) -> list[Any]:
        """What a batch's answers (:meth:`Head.answers`) say of each of its items."""

    def certainties(self, logits: Any, labels: np.ndarray) -> list[Any]:
        """By item of a batch, what :meth:`probability` needs to know of its ``logits``, a float32
        tensor on the CPU; None where the kind has no probabilities."""
        return [None] * len(logits)

    def probability(
        self, answer: Any, parts: Sequence[Any], certainties: Sequence[Any]
    ) -> tuple[Any, dict[str, float] | None]:
        """How likely the ``answer`` to an example is, and every label where the kind has labels.

        ``parts`` are the decoded items of the example and ``certainties`` belong to them.
        """
        return None, None

    def joined(self, example: Any, parts: Sequence[Any]) -> Any:
        """What the decoded items of one example say together, in the form of its gold."""
        (only,) = parts
        return only

    @abstractmethod
    def score(self, split: Predictions) -> dict[str, float]:
        """The task's metrics as fractions, headline first, as far as gold leaves them defined.

        Raises:
            ValueError: lengths differ, which is our own mistake.
        """

    @abstractmethod
    def item_scores(self, split: Predictions) -> ItemScores:
        """As :meth:`score`, item by item, with what the same answer to everything would score."""


class AnswersType(TaskType):
    """A kind whose predictions are answers, each to be compared with the gold of its example."""

    @abstractmethod
    def measured(self, metric: str, split: Predictions) -> float | None:
        """The score by one metric; None where gold leaves it undefined."""

    @abstractmethod
    def parts(self, metric: str, value: float, split: Predictions) -> Parts:
        """What every example contributes to ``value``, which is the score by one metric."""

    def answers(self, predicted: Sequence[Any]) -> Sequence[Any]:
        """Predictions as they are counted to find the most frequent one."""
        return predicted

    def right_answers(self, gold: Sequence[Any]) -> Sequence[Any]:
        """Gold as it is counted to find the most frequent right answer."""
        return self.answers(gold)

    def constant(self, gold: Sequence[Any]) -> Sequence[Any]:
        """The most frequent right answer, as prediction for every example."""
        return [most_frequent(self.right_answers(gold))] * len(gold)

    def score(self, split: Predictions) -> dict[str, float]:
        values = {metric: self.measured(metric, split) for metric in self.task.metrics}
        return {metric: value for metric, value in values.items() if value is not None}

    def item_scores(self, split: Predictions) -> ItemScores:
        values = self.score(split)
        return ItemScores(
            owners=np.arange(len(split.gold)),
            parts={metric: self.parts(metric, value, split) for metric, value in values.items()},
            values=values,
            top_share=top_share(self.answers(split.predicted)),
            gold_top_share=top_share(self.right_answers(split.gold)),
            chance=self.score(split._replace(predicted=self.constant(split.gold))),
        )


def known_label(example: Example) -> Any:
    """The label of an example that is trained on or scored."""
    label = getattr(example, example.label_field)
    assert label is not None, "text without labels cannot be trained or scored"
    return label


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
        examples = tuple(kind_of(task).read_unlabelled(path))
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from None
    if not examples:
        raise DataError(f"{path}: holds nothing to predict", task=task.name)
    return examples


def kind_of(task: Task) -> TaskType:
    """The kind of a task, for this task."""
    kind = KINDS[task.kind].load_examples()(task)
    assert isinstance(kind, TaskType)
    return kind


def _length(item: Any) -> int:
    """Pieces of all sentences of an item or of a row."""
    return sum(len(part.pieces) for part in item if isinstance(part, Sentence))
