"""Tagging: one label per word, read from CoNLL-U or from ``word TAB tag`` lines.

A word's label stands at its first piece. A word that ``max_length`` cut off was predicted by
nobody: it gets ``O`` where tags mark entities, else ``_``, which is no label and therefore
always wrong.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from xlt_ray.data.collate import IGNORED, Batch, collate, tag_places
from xlt_ray.data.item_scores import (
    ItemScores,
    label_counts,
    macro_f1_without,
    most_frequent,
    of_counts,
    of_jackknife,
    top_share,
)
from xlt_ray.data.kinds.kind import Frame, Kind, Row
from xlt_ray.data.lines import Names, blocks, line_error
from xlt_ray.data.metrics import (
    accuracy,
    chunk_counts,
    conll_f1,
    defined,
    entity_f1,
    macro_f1,
)
from xlt_ray.data.schemes import as_iob2
from xlt_ray.data.task import Task
from xlt_ray.spec.facts import Split


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


class TagKind(Kind):
    """Gold and predictions are one tuple of tags per sentence."""

    def width(self, task: Task) -> int:
        return 1

    def read(self, path: Path, task: Task, split: Split) -> Iterator[TagExample]:
        names = Names()
        for place, (name, words) in enumerate(_sentences(path, task, is_labelled=True)):
            tags = _known(task, [word.tag for word in words], path, [word.number for word in words])
            own = names.unique(name or f"{split}{place}")
            yield TagExample(own, tuple(word.text for word in words), tags)

    def read_unlabelled(self, path: Path, task: Task) -> Iterator[TagExample]:
        """What stands in the place of a tag may be missing, too (``conll``)."""
        names = Names()
        for place, (name, words) in enumerate(_sentences(path, task, is_labelled=False)):
            own, text = names.unique(name or f"test{place}"), tuple(word.text for word in words)
            yield TagExample(own, text, (task.labels[0],) * len(text))

    def of_row(
        self, task: Task, row: Mapping[str, Any], name: str, path: Path, number: int
    ) -> TagExample | None:
        words, tags = row["words"] or (), row["labels"]
        if len(words) != len(tags):
            raise line_error(path, number, f"has {len(words)} words and {len(tags)} tags")
        known = _known(task, [str(tag) for tag in tags], path, [number] * len(tags))
        return TagExample(name, tuple(_word(str(word)) for word in words), known) if words else None

    def count(self, path: Path, task: Task) -> int:
        """Blocks between empty lines that hold a word; no label is looked at."""
        is_conllu = task.format == "conllu"
        return sum(
            any(
                _is_word(line.partition("\t")[0]) if is_conllu else not line.startswith(_DOCUMENT)
                for line in block
            )
            for _, block in blocks(path)
        )

    def numbers(self, task: Task, example: TagExample) -> np.ndarray:
        """(num_words,)."""
        assert example.tags is not None, "text without labels cannot be trained or scored"
        return np.array([task.number_of(tag) for tag in example.tags], np.int64)

    def batch(
        self, task: Task, items: Sequence[Row], labels: Sequence[np.ndarray], frame: Frame
    ) -> Batch:
        """``labels`` (batch, length), -100 but at the first pieces of words."""
        batch, places = collate(items, frame.template, frame.max_length)
        tags = np.full(batch["input_ids"].shape, IGNORED, np.int64)
        for number, (row, (place,), numbers) in enumerate(zip(items, places, labels, strict=True)):
            at = tag_places(row[0], place)
            tags[number, at] = numbers[: len(at)]
        batch["labels"] = tags
        return batch

    def decode(
        self, task: Task, items: Sequence[Row], predicted: np.ndarray, frame: Frame
    ) -> list[tuple[str, ...]]:
        """``predicted`` (batch, length): numbers of labels."""
        missing = "O" if task.scheme == "iob2" else "_"
        _, places = collate(items, frame.template, frame.max_length)
        found: list[tuple[str, ...]] = []
        for row, (place,), numbers in zip(items, places, np.asarray(predicted), strict=True):
            tags = [task.labels[one] for one in numbers[tag_places(row[0], place)].tolist()]
            found.append((*tags, *[missing] * (len(row[0].ends) - len(tags))))
        return found

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


KIND = TagKind()


class _Word(NamedTuple):
    """One line of a file."""

    number: int
    text: str
    tag: str


def _sentences(path: Path, task: Task, *, is_labelled: bool) -> Iterator[tuple[str, list[_Word]]]:
    """Names, empty where a file has none, and words of the sentences of a file."""
    if task.format == "conllu":
        return _conllu(path)
    return iter(_without_language(path, list(_conll(path, task, is_labelled=is_labelled))))


def _conllu(path: Path) -> Iterator[tuple[str, list[_Word]]]:
    for begin, lines in blocks(path):
        name, words = "", []
        for number, line in enumerate(lines, begin):
            if line.startswith("#"):
                key, _, value = line[1:].partition("=")
                if key.strip() == "sent_id" and value.strip():
                    name = value.strip()
                continue
            cells = line.split("\t")
            if len(cells) != 10:
                raise line_error(path, number, f"has {len(cells)} columns, not 10")
            if _is_word(cells[0]):
                words.append(_Word(number, _word(cells[1]), cells[3]))
        if words:
            yield name, words


def _conll(path: Path, task: Task, *, is_labelled: bool) -> Iterator[tuple[str, list[_Word]]]:
    for begin, lines in blocks(path):
        words = []
        for number, line in enumerate(lines, begin):
            if line.startswith(_DOCUMENT):
                continue
            cells = line.split("\t")
            if is_labelled and len(cells) != 2:
                remedy = "one tab, and no other columns"
                raise line_error(path, number, "is not `word TAB tag`", remedy)
            tag = cells[-1].strip()
            if is_labelled and cells[0].strip() in task.labels and tag not in task.labels:
                raise line_error(path, number, "is `tag TAB word`", "the word comes first")
            words.append(_Word(number, _word(cells[0]), tag))
        if words:
            yield "", words


_DOCUMENT = "-DOCSTART-"
"""What begins a document in files of CoNLL-2003, in the place of a word."""
_LANGUAGE = re.compile(r"([a-z]{2,3}(?:-[a-z-]+)?:).")


def _without_language(
    path: Path, sentences: list[tuple[str, list[_Word]]]
) -> list[tuple[str, list[_Word]]]:
    """The words of PAN-X as it is downloaded, ``de:Berlin``, without the language's code.

    Raises:
        DataError: most words of the file have it, but not all.
    """
    words = [word for _, sentence in sentences for word in sentence]
    found = _LANGUAGE.match(words[0].text) if words else None
    prefix = found[1] if found else ""
    lacking = [word for word in words if not word.text.startswith(prefix)]
    if not prefix or len(lacking) > len(words) // 2:
        return sentences
    if lacking:
        problem = f"{lacking[0].text!r} lacks the {prefix!r} that other words begin with"
        raise line_error(path, lacking[0].number, problem, "take it off everywhere")
    return [
        (name, [word._replace(text=_word(word.text[len(prefix) :])) for word in sentence])
        for name, sentence in sentences
    ]


def _known(task: Task, tags: Sequence[str], path: Path, numbers: Sequence[int]) -> tuple[str, ...]:
    """The labels of one sentence; those that mark entities are read by any scheme."""
    turned = as_iob2(tags) if task.scheme == "iob2" else tags
    return tuple(
        task.known(tag if tag in task.labels else raw, path, number)
        for tag, raw, number in zip(turned, tags, numbers, strict=True)
    )


def _is_word(number: str) -> bool:
    """Of the first cell of a CoNLL-U line: neither a comment, a range nor an empty node."""
    return not (number.startswith("#") or "-" in number or "." in number)


def _word(text: str) -> str:
    """Words with spaces inside (Vietnamese) stay one word."""
    return text.strip() or "_"
