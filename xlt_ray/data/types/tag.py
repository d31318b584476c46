"""Tagging: one label per word, read from CoNLL-U or from ``word TAB tag`` lines.

A word's label stands at its first piece. A sentence that is longer than a row is split before the
word that has no room any more, as XTREME's ``utils_preprocess.py`` does (seen), in training and in
evaluation: every word is trained on and predicted. In training the parts of a sentence are rows of
the same batch, so that sizes and steps are counted in sentences and do not depend on the tokenizer
(in XTREME a part is an example of its own). Scores are over whole sentences: their parts are put
together first, as XTREME's ``run_tag.py`` does where it writes what its ``evaluate.py`` reads.

A word that is longer than a row has one to itself, and its first pieces are what it is told by; in
XTREME the unknown piece stands for it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from xlt_ray.config.facts import Split
from xlt_ray.data.item_scores import (
    ItemScores,
    label_counts,
    macro_f1_without,
    most_frequent,
    of_counts,
    of_jackknife,
    top_share,
)
from xlt_ray.data.metrics import accuracy, chunk_counts, conll_f1, defined, entity_f1, macro_f1
from xlt_ray.data.task import Task
from xlt_ray.data.text.conll import as_iob2, num_sentences, tagged_sentences, word_of
from xlt_ray.data.text.lines import RAISED, Faults, Names, line_error, lines
from xlt_ray.data.text.pipeline import IGNORED, Batch, Sentence, collate
from xlt_ray.data.types.base import Frame, Row, Rows, TaskType


@dataclass(frozen=True, slots=True)
class TagExample:
    """One tag per word; ``tags`` is None where only the text may be seen."""

    id: str
    words: tuple[str, ...]
    tags: tuple[str, ...] | None

    @property
    def gold(self) -> tuple[str, ...] | None:
        return self.tags

    def hidden(self) -> TagExample:
        return replace(self, tags=None)

    def sentences(self) -> tuple[tuple[str, ...], ...]:
        return (self.words,)


class Stretch(NamedTuple):
    """Words of a sentence that stand in one row."""

    sentence: Sentence
    begin: int
    """Of its first word in the whole sentence."""

    @property
    def words(self) -> slice:
        return slice(self.begin, self.begin + len(self.sentence.ends))


class Stretches:
    """All stretches of all sentences, in their order."""

    def __init__(self, rows: Rows, frame: Frame) -> None:
        self._rows, self._frame = rows, frame
        places: list[tuple[int, int]] = []
        lengths: list[int] = []
        for owner in range(len(rows)):
            for number, stretch in enumerate(stretches(rows[owner], frame)):
                places.append((owner, number))
                lengths.append(len(stretch.sentence.pieces))
        self.owners = np.array([owner for owner, _ in places], np.int64)
        self.lengths = np.array(lengths, np.int64)
        self._places = places

    def __getitem__(self, number: int) -> Stretch:
        owner, place = self._places[number]
        return stretches(self._rows[owner], self._frame)[place]


class TagType(TaskType):
    """Gold and predictions are one tuple of tags per sentence."""

    def width(self, task: Task) -> int:
        return 1

    def read(
        self, path: Path, task: Task, split: Split, faults: Faults = RAISED
    ) -> Iterator[TagExample]:
        names = Names()
        sentences = tagged_sentences(path, task, is_labelled=True, faults=faults)
        for place, (name, words) in enumerate(sentences):
            tags = _known(
                task, [word.tag for word in words], path, [word.number for word in words], faults
            )
            own = names.unique(name or f"{split}{place}")
            yield TagExample(own, tuple(word.text for word in words), tags)

    def read_unlabelled(self, path: Path, task: Task) -> Iterator[TagExample]:
        """Plain text, one sentence a line, unless the file ends in the task's format; tags may be
        missing there, too (``conll``)."""
        if path.suffix != f".{task.format}":
            for number, line in lines(path):
                if text := tuple(line.split()):
                    yield TagExample(f"line{number}", text, (task.labels[0],) * len(text))
            return
        names = Names()
        for place, (name, words) in enumerate(tagged_sentences(path, task, is_labelled=False)):
            own, text = names.unique(name or f"test{place}"), tuple(word.text for word in words)
            yield TagExample(own, text, (task.labels[0],) * len(text))

    def of_row(
        self, task: Task, row: Mapping[str, Any], name: str, path: Path, number: int
    ) -> TagExample | None:
        words, tags = row["words"] or (), row["labels"]
        if len(words) != len(tags):
            raise line_error(path, number, f"has {len(words)} words and {len(tags)} tags")
        known = _known(task, [str(tag) for tag in tags], path, [number] * len(tags))
        return (
            TagExample(name, tuple(word_of(str(word)) for word in words), known) if words else None
        )

    def count(self, path: Path, task: Task, split: Split) -> int:
        """Blocks between empty lines that hold a word; no label is looked at."""
        return num_sentences(path, task)

    def numbers(self, task: Task, example: TagExample) -> np.ndarray:
        """(num_words,)."""
        assert example.tags is not None, "text without labels cannot be trained or scored"
        return np.array([task.number_of(tag) for tag in example.tags], np.int64)

    def train_items(
        self,
        task: Task,
        rows: Sequence[Row],
        plain: Sequence[Row],
        labels: Sequence[np.ndarray],
        frame: Frame,
        stream: tuple[str | int, ...],
    ) -> Sequence[tuple[int, Stretch]]:
        """All stretches of every sentence."""
        return [(place, part) for place, row in enumerate(rows) for part in stretches(row, frame)]

    def views(self, task: Task, rows: Rows, frame: Frame) -> Stretches:
        return Stretches(rows, frame)

    def cut(self, task: Task, rows: Rows, examples: Sequence[TagExample], frame: Frame) -> float:
        """Share of the words that are longer than a row."""
        lengths = [np.diff(rows[number][0].ends, prepend=0) for number in range(len(examples))]
        words = np.concatenate(lengths) if lengths else np.zeros(0)
        return float((words > frame.room(1)).mean()) if len(words) else 0.0

    def batch(
        self, task: Task, items: Sequence[Stretch], labels: Sequence[np.ndarray], frame: Frame
    ) -> Batch:
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
        self, task: Task, items: Sequence[Stretch], predicted: np.ndarray, frame: Frame
    ) -> list[tuple[str, ...]]:
        """``predicted`` (batch, length): numbers of labels."""
        rows = [(stretch.sentence,) for stretch in items]
        _, places = collate(rows, frame.template, frame.max_length)
        return [
            tuple(task.labels[one] for one in numbers[place.start + row.starts].tolist())
            for (row,), (place,), numbers in zip(rows, places, np.asarray(predicted), strict=True)
        ]

    def certainties(self, logits: Any, labels: np.ndarray) -> list[Any]:
        """The probability of the likeliest tag at the first piece of every word."""
        likeliest = logits.softmax(dim=-1).numpy().max(axis=-1)
        return [row[own != IGNORED] for row, own in zip(likeliest, labels, strict=True)]

    def probability(
        self, task: Task, answer: Any, parts: Sequence[Any], certainties: Sequence[Any]
    ) -> tuple[list[float], None]:
        """Of every word's tag."""
        return [value for part in certainties for value in part.tolist()], None

    def joined(
        self, task: Task, example: TagExample, parts: Sequence[tuple[str, ...]]
    ) -> tuple[str, ...]:
        return tuple(tag for part in parts for tag in part)

    def score(
        self,
        task: Task,
        language: str,
        gold: Sequence[Sequence[str]],
        predicted: Sequence[Sequence[str]],
    ) -> dict[str, float]:
        flat = [[tag for tags in side for tag in tags] for side in (gold, predicted)]
        measures = {
            "accuracy": lambda: accuracy(*flat),
            "macro_f1": lambda: macro_f1(*flat),
            "f1": lambda: entity_f1(gold, predicted),
            "conll_f1": lambda: conll_f1(gold, predicted),
        }
        return defined({metric: measures[metric]() for metric in task.metrics})

    def item_scores(
        self,
        task: Task,
        language: str,
        gold: Sequence[Sequence[str]],
        predicted: Sequence[Sequence[str]],
    ) -> ItemScores:
        """Items are sentences; the most frequent prediction is that of a word."""
        values = self.score(task, language, gold, predicted)
        words, said = ([tag for tags in side for tag in tags] for side in (gold, predicted))
        right, others, wanted = label_counts(gold, predicted)
        measures = {
            "accuracy": lambda: of_counts("recall", right.sum(1), others.sum(1), wanted.sum(1)),
            "macro_f1": lambda: of_jackknife(
                values["macro_f1"], macro_f1_without(right, others, wanted)
            ),
            "f1": lambda: of_counts("f1", *chunk_counts(gold, predicted, is_strict=True)),
            "conll_f1": lambda: of_counts("f1", *chunk_counts(gold, predicted, is_strict=False)),
        }
        blind = most_frequent(words) or "O"
        return ItemScores(
            owners=np.arange(len(gold)),
            parts={metric: measures[metric]() for metric in values},
            values=values,
            top_share=top_share(said),
            gold_top_share=top_share(words),
            chance=self.score(task, language, gold, [(blind,) * len(tags) for tags in gold]),
        )


KIND = TagType()


def stretches(row: Row, frame: Frame) -> list[Stretch]:
    """A sentence split before every word that has no room in a row any more.

    Each has as many words as there is room for, and one at least, however long.
    """
    (sentence,) = row
    room = max(frame.room(1), 1)
    if len(sentence.pieces) <= room:
        return [Stretch(sentence, 0)]
    found: list[Stretch] = []
    word = begin = 0
    while word < len(sentence.ends):
        end = max(int(np.searchsorted(sentence.ends, begin + room, side="right")), word + 1)
        pieces = sentence.pieces[begin : sentence.ends[end - 1]]
        found.append(Stretch(Sentence(pieces, sentence.ends[word:end] - begin), word))
        word, begin = end, int(sentence.ends[end - 1])
    return found


def _known(
    task: Task,
    tags: Sequence[str],
    path: Path,
    numbers: Sequence[int],
    faults: Faults = RAISED,
) -> tuple[str, ...]:
    """The labels of one sentence; those that mark entities are read by any scheme."""
    turned = as_iob2(tags) if task.scheme == "iob2" else tags
    found: list[str] = []
    for tag, raw, number in zip(turned, tags, numbers, strict=True):
        with faults:
            found.append(task.known(tag if tag in task.labels else raw, path, number))
    return tuple(found)
