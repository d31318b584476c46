"""What kinds of task share whose predictions are vectors of sentences."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from xlt_ray.data.text.lines import Faults, json_object, line_error, lines
from xlt_ray.data.text.pipeline import Batch, collate
from xlt_ray.data.types.base import Example, Frame, Predictions, Row, TaskType

NUM_NEIGHBOURS = 4
"""Neighbours of a sentence whose nearness its margin is measured against."""

AnyExample = TypeVar("AnyExample", bound=Example)


class SentenceVectorsType(TaskType):
    """A sentence is the mean of its pieces at one layer, or what a head makes of it."""

    def numbers(self, example: Example) -> np.ndarray:
        """(): there is nothing to be learned, or the right candidate stands first."""
        return np.array(0, np.int64)

    def items(self, row: Row, frame: Frame) -> list[Row]:
        """The sentences that are there, each as an item of its own."""
        return [(sentence,) for sentence in row if len(sentence.pieces)]

    def shown(self, row: Row) -> Sequence[Row]:
        return [(sentence,) for sentence in row]

    def batch(self, items: Sequence[Row], labels: Sequence[np.ndarray], frame: Frame) -> Batch:
        """Single sentences, without labels."""
        batch, _ = collate(items, frame.template, frame.max_length)
        return batch

    def decode(self, items: Sequence[Row], predicted: np.ndarray, frame: Frame) -> list[np.ndarray]:
        """``predicted`` (batch, hidden): vectors of sentences."""
        return list(np.asarray(predicted))

    def joined(self, example: Example, parts: Sequence[np.ndarray]) -> Any:
        """A vector for each sentence, None for one that is not there."""
        vectors = iter(parts)
        return tuple(next(vectors) if words else None for words in example.sentences())

    def score(self, split: Predictions) -> dict[str, float]:
        return dict(self.item_scores(split).values)


def of_length_one(vectors: np.ndarray) -> np.ndarray:
    """Vectors (n, width) made 1 long; one of zeros stays as it is."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors / np.where(lengths == 0, 1.0, lengths)


def over_mean(cosines: np.ndarray, mean: np.ndarray) -> np.ndarray:
    """The ratio margin of Artetxe and Schwenk (arXiv 1811.01136): each cosine over the mean of
    those of both sides' neighbours; 0 where that is not positive, as a ratio to it says nothing."""
    return np.divide(cosines, mean, out=np.zeros_like(cosines), where=mean > 0)


def lines_by_id(
    path: Path,
    faults: Faults,
    example_of: Callable[[Mapping[str, Any], Path, int], AnyExample],
    refuse_faulty: Callable[[AnyExample, int], None],
) -> dict[str, tuple[int, AnyExample]]:
    """The examples of JSON lines that name each other, each with the number of its line."""
    by_id: dict[str, tuple[int, AnyExample]] = {}
    for number, line in lines(path):
        if line.strip():
            with faults:
                example = example_of(json_object(line, path, number), path, number)
                if not example.id:
                    raise line_error(path, number, "has no id")
                refuse_faulty(example, number)
                if example.id in by_id:
                    raise line_error(path, number, f"id {example.id!r} is repeated")
                by_id[example.id] = (number, example)
    return by_id


def text_field(fields: Mapping[str, Any], key: str, path: Path, number: int) -> str:
    """A text or a number of a JSON line; empty where it is missing or null."""
    value = fields.get(key)
    if not isinstance(value, str | int | None):
        raise line_error(path, number, f"{key} is not text")
    return "" if value is None else str(value).strip()


def ids_field(fields: Mapping[str, Any], key: str, path: Path, number: int) -> tuple[str, ...]:
    """The ids that a JSON line names; none where it is missing."""
    names = fields.get(key, [])
    if not isinstance(names, list) or not all(isinstance(name, str | int) for name in names):
        raise line_error(path, number, f"{key} is not a list of ids")
    return tuple(str(name).strip() for name in names)
