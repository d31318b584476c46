"""Multiple choice: the right one of several options, read from JSON lines.

Two shapes of a line are known: ``{id, context, question, choices: [...], label}`` and XCOPA's
``{idx, premise, question, choice1, choice2, label}``; labels count from 0. Every option is shown by
itself beside the context, as in jiant: the first sentence is the context, the second the question
and the option. Where a row is too long the longer sentence is cut, so the question stays. Without a
context the question takes its place.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from xlt_ray.config.facts import Split
from xlt_ray.data.item_scores import Parts, each
from xlt_ray.data.metrics import accuracy
from xlt_ray.data.text.lines import RAISED, Faults, Names, json_object, line_error, lines
from xlt_ray.data.text.pipeline import Batch, collate
from xlt_ray.data.types.base import (
    AnswersType,
    Example,
    Frame,
    Predictions,
    Row,
    class_shares,
    known_label,
)


@dataclass(frozen=True, slots=True)
class ChoiceExample(Example):
    """Options for what a context and a question ask; ``label`` is the place of the right one.

    Context or question may be empty, not both.
    """

    label_field = "label"
    context: str
    question: str
    options: tuple[str, ...]
    label: int | None

    def sentences(self) -> tuple[tuple[str, ...], ...]:
        """The context, then what is read beside it for every option."""
        context, question = self.context.split(), self.question.split()
        first, lead = (context, question) if context else (question, [])
        return (tuple(first), *((*lead, *option.split()) for option in self.options))


class ChoiceType(AnswersType):
    """Gold and predictions are the place of one option."""

    example = ChoiceExample

    @property
    def width(self) -> int:
        return 1 + self.task.options

    def read(self, path: Path, split: Split, faults: Faults = RAISED) -> Iterator[ChoiceExample]:
        return self._read(path, split, faults, {})

    def read_unlabelled(self, path: Path) -> Iterator[ChoiceExample]:
        return self._read(path, "test", RAISED, {"label": 0})

    def _read(
        self, path: Path, split: Split, faults: Faults, placeholders: Mapping[str, int]
    ) -> Iterator[ChoiceExample]:
        names = Names()
        for number, line in lines(path):
            if line.strip():
                with faults:
                    fields = {**json_object(line, path, number), **placeholders}
                    example = self._of_fields(fields, path, number)
                    yield replace(example, id=names.unique(example.id or f"{split}{number - 1}"))

    def of_row(
        self, row: Mapping[str, Any], name: str, path: Path, number: int
    ) -> ChoiceExample | None:
        label = str(row["label"]).strip()
        fields = {
            **row,
            "choices": row["options"],
            "label": int(label) if label.isdecimal() else label,
        }
        return replace(self._of_fields(fields, path, number), id=name)

    def count(self, path: Path, split: Split) -> int:
        """Lines that are not empty; none of them is read."""
        return sum(1 for _, line in lines(path) if line.strip())

    def numbers(self, example: ChoiceExample) -> np.ndarray:
        """()."""
        return np.array(known_label(example), np.int64)

    def shown(self, row: Row) -> Sequence[Row]:
        context, *options = row
        return [(context, option) for option in options]

    def batch(self, items: Sequence[Row], labels: Sequence[np.ndarray], frame: Frame) -> Batch:
        """Pieces (batch, options, length); ``labels`` (batch,)."""
        pairs = [pair for item in items for pair in self.shown(item)]
        flat, _ = collate(pairs, frame.template, frame.max_length)
        shape = (len(items), self.task.options, -1)
        batch = {name: array.reshape(shape) for name, array in flat.items()}
        batch["labels"] = np.stack(labels)
        return batch

    def decode(self, items: Sequence[Row], predicted: np.ndarray, frame: Frame) -> list[int]:
        """``predicted`` (batch,): places of options."""
        return [int(place) for place in np.asarray(predicted).tolist()]

    def certainties(self, logits: Any, labels: np.ndarray) -> list[Any]:
        return class_shares(logits)

    def probability(
        self, answer: int, parts: Sequence[int], certainties: Sequence[Any]
    ) -> tuple[float, dict[str, float]]:
        """The softmax over the options, by the place of the option."""
        by_place = {str(place): value for place, value in enumerate(certainties[0].tolist())}
        return by_place[str(answer)], by_place

    def measured(self, metric: str, split: Predictions) -> float | None:
        return {"accuracy": accuracy}[metric](split.gold, split.predicted)

    def parts(self, metric: str, value: float, split: Predictions) -> Parts:
        return each(split.is_right())

    def _of_fields(self, fields: Mapping[str, Any], path: Path, number: int) -> ChoiceExample:
        """The example of one line; its id is empty where the line has none."""

        def text(*keys: str) -> str:
            value = next((fields[key] for key in keys if key in fields), "")
            if not isinstance(value, str | int):
                raise line_error(path, number, f"{keys[0]} is not text")
            return str(value).strip()

        options = _options(fields, path, number)
        if len(options) != self.task.options:
            problem = f"has {len(options)} options, {self.task.name} has {self.task.options}"
            raise line_error(path, number, problem)
        context, question = text("context", "premise"), text("question")
        if not context and not question:
            raise line_error(path, number, "has neither context nor question")
        label = fields.get("label")
        if not isinstance(label, int) or isinstance(label, bool) or not 0 <= label < len(options):
            problem = f"label {label!r} is not a place from 0 to {len(options) - 1}"
            raise line_error(path, number, problem)
        question = self.task.questions.get(question, question)
        return ChoiceExample(text("id", "idx"), context, question, options, label)


def _options(fields: Mapping[str, Any], path: Path, number: int) -> tuple[str, ...]:
    options = fields.get("choices")
    if options is None:
        options = []
        while (key := f"choice{len(options) + 1}") in fields:
            options.append(fields[key])
    if not isinstance(options, list) or not all(isinstance(o, str) and o.strip() for o in options):
        raise line_error(path, number, "an option is not text, or is empty")
    return tuple(option.strip() for option in options)
