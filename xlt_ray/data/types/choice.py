"""Multiple choice: the right one of several options, read from JSON lines.

Two shapes of a line are known: ``{id, context, question, choices: [...], label}`` and XCOPA's
``{idx, premise, question, choice1, choice2, label}``; labels count from 0.

Every option is shown by itself beside the context, as in jiant and in the scripts of Hugging
Face: the first sentence is the context, the second the question and the option. Where a row is
too long it is the longer sentence that is cut, so the question stays. Without a context the
question takes its place.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from xlt_ray.config.facts import Split
from xlt_ray.data.item_scores import ItemScores, each, most_frequent, top_share
from xlt_ray.data.metrics import accuracy, defined
from xlt_ray.data.task import Task
from xlt_ray.data.text.lines import RAISED, Faults, Names, json_object, line_error, lines
from xlt_ray.data.text.pipeline import Batch, collate
from xlt_ray.data.types.base import Frame, Row, TaskType, class_shares


@dataclass(frozen=True, slots=True)
class ChoiceExample:
    """Options for what a context and a question ask; ``label`` is the place of the right one.

    It is None where only the text may be seen. Context or question may be empty, not both.
    """

    id: str
    context: str
    question: str
    options: tuple[str, ...]
    label: int | None

    @property
    def gold(self) -> int | None:
        return self.label

    def hidden(self) -> ChoiceExample:
        return replace(self, label=None)

    def sentences(self) -> tuple[tuple[str, ...], ...]:
        """The context, then what is read beside it for every option."""
        context, question = self.context.split(), self.question.split()
        first, lead = (context, question) if context else (question, [])
        return (tuple(first), *((*lead, *option.split()) for option in self.options))


class ChoiceType(TaskType):
    """Gold and predictions are the place of one option."""

    def width(self, task: Task) -> int:
        return 1 + task.options

    def read(
        self, path: Path, task: Task, split: Split, faults: Faults = RAISED
    ) -> Iterator[ChoiceExample]:
        names = Names()
        for number, line in lines(path):
            if line.strip():
                with faults:
                    place, example = f"{split}{number - 1}", _example(line, task, path, number)
                    yield replace(example, id=names.unique(example.id or place))

    def read_unlabelled(self, path: Path, task: Task) -> Iterator[ChoiceExample]:
        names = Names()
        for number, line in lines(path):
            if line.strip():
                cells = {**json_object(line, path, number), "label": 0}
                example = _of_cells(cells, task, path, number)
                yield replace(example, id=names.unique(example.id or f"test{number - 1}"))

    def of_row(
        self, task: Task, row: Mapping[str, Any], name: str, path: Path, number: int
    ) -> ChoiceExample | None:
        label = str(row["label"]).strip()
        cells = {
            **row,
            "choices": row["options"],
            "label": int(label) if label.isdecimal() else label,
        }
        return replace(_of_cells(cells, task, path, number), id=name)

    def count(self, path: Path, task: Task, split: Split) -> int:
        """Lines that are not empty; none of them is read."""
        return sum(1 for _, line in lines(path) if line.strip())

    def numbers(self, task: Task, example: ChoiceExample) -> np.ndarray:
        """()."""
        assert example.label is not None, "text without labels cannot be trained or scored"
        return np.array(example.label, np.int64)

    def shown(self, task: Task, row: Row) -> Sequence[Row]:
        context, *options = row
        return [(context, option) for option in options]

    def batch(
        self, task: Task, items: Sequence[Row], labels: Sequence[np.ndarray], frame: Frame
    ) -> Batch:
        """Pieces (batch, options, length); ``labels`` (batch,)."""
        pairs = [pair for item in items for pair in self.shown(task, item)]
        flat, _ = collate(pairs, frame.template, frame.max_length)
        batch = {name: array.reshape(len(items), task.options, -1) for name, array in flat.items()}
        batch["labels"] = np.stack(labels)
        return batch

    def decode(
        self, task: Task, items: Sequence[Row], predicted: np.ndarray, frame: Frame
    ) -> list[int]:
        """``predicted`` (batch,): places of options."""
        return [int(place) for place in np.asarray(predicted).tolist()]

    def certainties(self, logits: Any, labels: np.ndarray) -> list[Any]:
        return class_shares(logits)

    def probability(
        self, task: Task, answer: int, parts: Sequence[int], certainties: Sequence[Any]
    ) -> tuple[float, dict[str, float]]:
        """The softmax over the options, by the place of the option."""
        by_place = {str(place): value for place, value in enumerate(certainties[0].tolist())}
        return by_place[str(answer)], by_place

    def score(
        self, task: Task, language: str, gold: Sequence[int], predicted: Sequence[int]
    ) -> dict[str, float]:
        return defined({"accuracy": accuracy(gold, predicted)})

    def item_scores(
        self, task: Task, language: str, gold: Sequence[int], predicted: Sequence[int]
    ) -> ItemScores:
        values = self.score(task, language, gold, predicted)
        return ItemScores(
            owners=np.arange(len(gold)),
            parts={
                metric: each([one == two for one, two in zip(gold, predicted, strict=True)])
                for metric in values
            },
            values=values,
            top_share=top_share(predicted),
            gold_top_share=top_share(gold),
            chance=self.score(task, language, gold, [most_frequent(gold) or 0] * len(gold)),
        )


KIND = ChoiceType()


def _example(line: str, task: Task, path: Path, number: int) -> ChoiceExample:
    """One line; its id is empty where the line has none."""
    return _of_cells(json_object(line, path, number), task, path, number)


def _of_cells(cells: Mapping[str, Any], task: Task, path: Path, number: int) -> ChoiceExample:
    def text(*keys: str) -> str:
        found = next((cells[key] for key in keys if key in cells), "")
        if not isinstance(found, str | int):
            raise line_error(path, number, f"{keys[0]} is not text")
        return str(found).strip()

    options = _options(cells, path, number)
    if len(options) != task.options:
        problem = f"has {len(options)} options, {task.name} has {task.options}"
        raise line_error(path, number, problem)
    context, question = text("context", "premise"), text("question")
    if not context and not question:
        raise line_error(path, number, "has neither context nor question")
    label = cells.get("label")
    if not isinstance(label, int) or isinstance(label, bool) or not 0 <= label < len(options):
        problem = f"label {label!r} is not a place from 0 to {len(options) - 1}"
        raise line_error(path, number, problem)
    question = task.questions.get(question, question)
    return ChoiceExample(text("id", "idx"), context, question, options, label)


def _options(cells: Mapping[str, Any], path: Path, number: int) -> tuple[str, ...]:
    found = cells.get("choices")
    if found is None:
        found = []
        while f"choice{len(found) + 1}" in cells:
            found.append(cells[f"choice{len(found) + 1}"])
    if not isinstance(found, list) or not all(isinstance(o, str) and o.strip() for o in found):
        raise line_error(path, number, "an option is not text, or is empty")
    return tuple(option.strip() for option in found)
