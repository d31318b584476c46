"""Tagging: one label per word, read from CoNLL-U or from ``word TAB tag`` lines.

A word's label stands at its first piece. A sentence that is longer than a row is split before the
word that has no room any more, as XTREME's ``utils_preprocess.py`` does (seen), and scored whole.
In training its parts are rows of the same batch, so that sizes and steps are counted in sentences
(in XTREME a part is an example of its own). A word that is longer than a row has one to itself and
keeps its first pieces; in XTREME the unknown piece stands for it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from xlt_ray.config.facts import Split
from xlt_ray.data.item_scores import (
    Parts,
    label_counts,
    macro_f1_without,
    most_frequent,
    of_counts,
    of_jackknife,
)
from xlt_ray.data.metrics import accuracy, chunk_counts, conll_f1, entity_f1, macro_f1
from xlt_ray.data.text.conll import as_iob2, num_sentences, tagged_sentences, word_of
from xlt_ray.data.text.lines import RAISED, Faults, Names, line_error, lines
from xlt_ray.data.text.pipeline import IGNORED, Batch, Sentence, collate, places_of
from xlt_ray.data.types.base import AnswersType, Example, Frame, Predictions, Row, Rows, known_label

Tags = Sequence[str]


@dataclass(frozen=True, slots=True)
class TagExample(Example):
    """One tag per word."""

    label_field = "tags"
    words: tuple[str, ...]
    tags: tuple[str, ...] | None

    def sentences(self) -> tuple[tuple[str, ...], ...]:
        return (self.words,)


class Stretch(NamedTuple):
    """Words of a sentence that stand in one row."""

    sentence: Sentence
    begin: int
    """Place of its first word in the whole sentence."""

    @property
    def words(self) -> slice:
        return slice(self.begin, self.begin + len(self.sentence.ends))


class TagType(AnswersType):
    """Gold and predictions are one tuple of tags per sentence."""

    example = TagExample
    width = 1

    def read(self, path: Path, split: Split, faults: Faults = RAISED) -> Iterator[TagExample]:
        names = Names()
        sentences = tagged_sentences(path, self.task, is_labelled=True, faults=faults)
        for place, (name, words) in enumerate(sentences):
            numbers = [word.number for word in words]
            tags = self._known([word.tag for word in words], path, numbers, faults)
            unique = names.unique(name or f"{split}{place}")
            yield TagExample(unique, tuple(word.text for word in words), tags)

    def read_unlabelled(self, path: Path) -> Iterator[TagExample]:
        """Plain text, one sentence a line, unless the file ends in the task's format; tags may be
        missing there, too (``conll``)."""
        if path.suffix != f".{self.task.format}":
            for number, line in lines(path):
                if text := tuple(line.split()):
                    yield TagExample(f"line{number}", text, (self.task.labels[0],) * len(text))
            return
        names = Names()
        sentences = tagged_sentences(path, self.task, is_labelled=False)
        for place, (name, words) in enumerate(sentences):
            text = tuple(word.text for word in words)
            unique = names.unique(name or f"test{place}")
            yield TagExample(unique, text, (self.task.labels[0],) * len(text))

    def of_row(
        self, row: Mapping[str, Any], name: str, path: Path, number: int
    ) -> TagExample | None:
        words, tags = row["words"] or (), row["labels"]
        if len(words) != len(tags):
            raise line_error(path, number, f"has {len(words)} words and {len(tags)} tags")
        known = self._known([str(tag) for tag in tags], path, [number] * len(tags))
        text = tuple(word_of(str(word)) for word in words)
        return TagExample(name, text, known) if words else None

    def count(self, path: Path, split: Split) -> int:
        """Blocks between empty lines that hold a word; no label is looked at."""
        return num_sentences(path, self.task)

    def numbers(self, example: TagExample) -> np.ndarray:
        """(num_words,)."""
        return np.array([self.task.number_of(tag) for tag in known_label(example)], np.int64)

    def items(self, row: Row, frame: Frame) -> list[Stretch]:
        """The sentence split before every word that has no room in a row any more.

        Each stretch has as many words as there is room for, and one at least, however long.
        """
        (sentence,) = row
        room = max(frame.room(1), 1)
        if len(sentence.pieces) <= room:
            return [Stretch(sentence, 0)]
        stretches: list[Stretch] = []
        word = begin = 0
        while word < len(sentence.ends):
            end = max(int(np.searchsorted(sentence.ends, begin + room, side="right")), word + 1)
            pieces = sentence.pieces[begin : sentence.ends[end - 1]]
            stretches.append(Stretch(Sentence(pieces, sentence.ends[word:end] - begin), word))
            word, begin = end, int(sentence.ends[end - 1])
        return stretches

    def train_items(
        self,
        rows: Sequence[Row],
        plain: Sequence[Row],
        labels: Sequence[np.ndarray],
        frame: Frame,
        stream: tuple[str | int, ...],
    ) -> Sequence[tuple[int, Stretch]]:
        """All stretches of every sentence."""
        return [(place, part) for place, row in enumerate(rows) for part in self.items(row, frame)]

    def cut(self, rows: Rows, examples: Sequence[TagExample], frame: Frame) -> float:
        """Share of the words that are longer than a row."""
        lengths = [np.diff(rows[number][0].ends, prepend=0) for number in range(len(examples))]
        words = np.concatenate(lengths) if lengths else np.zeros(0)
        return float((words > frame.room(1)).mean()) if len(words) else 0.0

    def batch(self, items: Sequence[Stretch], labels: Sequence[np.ndarray], frame: Frame) -> Batch:
        """``labels`` (batch, length), -100 but at the first pieces of words."""
        rows = [(stretch.sentence,) for stretch in items]
        batch, places = collate(rows, frame.template, frame.max_length)
        tags = np.full(batch["input_ids"].shape, IGNORED, np.int64)
        for number, (stretch, (place,), numbers) in enumerate(
            zip(items, places, labels, strict=True)
        ):
            tags[number, place.start + stretch.sentence.starts] = numbers[stretch.words]
        batch["labels"] = tags
        return batch

    def decode(
        self, items: Sequence[Stretch], predicted: np.ndarray, frame: Frame
    ) -> list[tuple[str, ...]]:
        """``predicted`` (batch, length): numbers of labels."""
        rows = [(stretch.sentence,) for stretch in items]
        places = places_of(rows, frame.template, frame.max_length)
        return [
            tuple(self.task.labels[n] for n in numbers[place.start + row.starts].tolist())
            for (row,), (place,), numbers in zip(rows, places, np.asarray(predicted), strict=True)
        ]

    def certainties(self, logits: Any, labels: np.ndarray) -> list[Any]:
        """The probability of the likeliest tag at the first piece of every word."""
        likeliest = logits.softmax(dim=-1).numpy().max(axis=-1)
        return [row[numbers != IGNORED] for row, numbers in zip(likeliest, labels, strict=True)]

    def probability(
        self, answer: Any, parts: Sequence[Any], certainties: Sequence[Any]
    ) -> tuple[list[float], None]:
        """The probability of every word's tag."""
        return [value for part in certainties for value in part.tolist()], None

    def joined(self, example: TagExample, parts: Sequence[tuple[str, ...]]) -> tuple[str, ...]:
        return tuple(tag for part in parts for tag in part)

    def measured(self, metric: str, split: Predictions) -> float | None:
        if metric in ("f1", "conll_f1"):
            return {"f1": entity_f1, "conll_f1": conll_f1}[metric](split.gold, split.predicted)
        measure = {"accuracy": accuracy, "macro_f1": macro_f1}[metric]
        return measure(self.answers(split.gold), self.answers(split.predicted))

    def parts(self, metric: str, value: float, split: Predictions) -> Parts:
        if metric in ("f1", "conll_f1"):
            return of_counts(
                "f1", *chunk_counts(split.gold, split.predicted, is_strict=metric == "f1")
            )
        right, others, wanted = label_counts(split.gold, split.predicted)
        if metric == "accuracy":
            return of_counts("recall", right.sum(1), others.sum(1), wanted.sum(1))
        return of_jackknife(value, macro_f1_without(right, others, wanted))

    def answers(self, predicted: Sequence[Tags]) -> list[str]:
        """The tags of all words."""
        return [tag for tags in predicted for tag in tags]

    def constant(self, gold: Sequence[Tags]) -> list[Tags]:
        tag = most_frequent(self.answers(gold)) or "O"
        return [(tag,) * len(tags) for tags in gold]

    def _known(
        self, tags: Sequence[str], path: Path, numbers: Sequence[int], faults: Faults = RAISED
    ) -> tuple[str, ...]:
        """The labels of one sentence; those that mark entities are read by any scheme."""
        turned = as_iob2(tags) if self.task.scheme == "iob2" else tags
        labels: list[str] = []
        for tag, raw, number in zip(turned, tags, numbers, strict=True):
            with faults:
                labels.append(
                    self.task.known(tag if tag in self.task.labels else raw, path, number)
                )
        return tuple(labels)
