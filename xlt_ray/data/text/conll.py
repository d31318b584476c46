"""Tagged sentences of CoNLL-U files and of files of ``word TAB tag``, line by line.

Skipped are ranges and empty nodes of CoNLL-U, ``-DOCSTART-`` of CoNLL-2003, and the language before
the words of PAN-X as it is downloaded (``de:Berlin``).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from xlt_ray.data.task import Task
from xlt_ray.data.text.lines import RAISED, Faults, blocks, line_error

_BEGIN, _INSIDE, _END = frozenset("BSU"), frozenset("BISUEL"), frozenset("SUEL")


def as_iob2(tags: Sequence[str]) -> list[str]:
    """The tags of one sentence in IOB2; a tag of no scheme stays as it is.

    IOB2, IOB1, IO, BIOES, BILOU, IOE1 and IOE2 mark the begin of an entity in the same way: with B,
    S or U, or with any other tag unless an entity of its type is open; E, L, S and U end it. So a
    file need not name its scheme, and a file that mixes schemes loses no entity. conlleval and
    seqeval's default rules read tags in the same way (:func:`xlt_ray.data.metrics.conll_f1`).

    >>> as_iob2(["I-PER", "I-PER", "B-PER", "O", "I-LOC"])
    ['B-PER', 'I-PER', 'B-PER', 'O', 'B-LOC']
    >>> as_iob2(["B-PER", "E-PER", "S-PER", "U-LOC"])
    ['B-PER', 'I-PER', 'B-PER', 'B-LOC']
    """
    iob2: list[str] = []
    open_entity = ""
    for tag in tags:
        prefix, dash, entity = tag.partition("-")
        if not dash or prefix not in _INSIDE:
            iob2.append(tag)
            open_entity = ""
            continue
        is_begin = prefix in _BEGIN or entity != open_entity
        iob2.append(f"{'B' if is_begin else 'I'}-{entity}")
        open_entity = "" if prefix in _END else entity
    return iob2


_DOCUMENT = "-DOCSTART-"
"""Marks the begin of a document in files of CoNLL-2003, in the place of a word."""
_LANGUAGE = re.compile(r"([a-z]{2,3}(?:-[a-z-]+)?:).")


class Word(NamedTuple):
    """One line of a file."""

    number: int
    text: str
    tag: str


def tagged_sentences(
    path: Path, task: Task, *, is_labelled: bool, faults: Faults = RAISED
) -> Iterator[tuple[str, list[Word]]]:
    """Names, empty where a file has none, and words of the sentences of a file.

    Args:
        is_labelled: whether every line must have a tag.

    Raises:
        DataError: a line does not hold what its format says.
    """
    if task.format == "conllu":
        return _conllu(path, faults)
    sentences = list(_conll(path, task, faults, is_labelled=is_labelled))
    return iter(_without_language(path, sentences))


def num_sentences(path: Path, task: Task) -> int:
    """Number of blocks between empty lines that hold a word; no label is read."""
    is_conllu = task.format == "conllu"
    return sum(
        any(
            _is_word(line.partition("\t")[0]) if is_conllu else not line.startswith(_DOCUMENT)
            for line in block
        )
        for _, block in blocks(path)
    )


def _conllu(path: Path, faults: Faults) -> Iterator[tuple[str, list[Word]]]:
    for begin, lines in blocks(path):
        name = ""
        words: list[Word] = []
        for number, line in enumerate(lines, begin):
            if line.startswith("#"):
                key, _, value = line[1:].partition("=")
                if key.strip() == "sent_id" and value.strip():
                    name = value.strip()
                continue
            with faults:
                cells = line.split("\t")
                if len(cells) != 10:
                    raise line_error(path, number, f"has {len(cells)} columns, not 10")
                if cells[0] == "1" and words:
                    problem = "is the first word of a sentence, with no empty line before it"
                    raise line_error(path, number, problem)
                if _is_word(cells[0]):
                    words.append(Word(number, word_of(cells[1]), cells[3]))
        if words:
            yield name, words


def _conll(
    path: Path, task: Task, faults: Faults, *, is_labelled: bool
) -> Iterator[tuple[str, list[Word]]]:
    for begin, lines in blocks(path):
        words = []
        for number, line in enumerate(lines, begin):
            if line.startswith(_DOCUMENT):
                continue
            with faults:
                cells = line.split("\t")
                if is_labelled and len(cells) != 2:
                    remedy = "one tab, and no other columns"
                    raise line_error(path, number, "is not `word TAB tag`", remedy)
                tag = cells[-1].strip()
                if is_labelled and cells[0].strip() in task.labels and tag not in task.labels:
                    raise line_error(path, number, "is `tag TAB word`", "the word comes first")
                words.append(Word(number, word_of(cells[0]), tag))
        if words:
            yield "", words


def _without_language(
    path: Path, sentences: list[tuple[str, list[Word]]]
) -> list[tuple[str, list[Word]]]:
    """The words of PAN-X as it is downloaded, ``de:Berlin``, without the language's code.

    Raises:
        DataError: most words of the file have it, but not all.
    """
    words = [word for _, sentence in sentences for word in sentence]
    match = _LANGUAGE.match(words[0].text) if words else None
    prefix = match[1] if match else ""
    lacking = [word for word in words if not word.text.startswith(prefix)]
    if not prefix or len(lacking) > len(words) // 2:
        return sentences
    if lacking:
        problem = f"{lacking[0].text!r} lacks the {prefix!r} that other words begin with"
        raise line_error(path, lacking[0].number, problem, "remove it everywhere")
    return [
        (name, [word._replace(text=word_of(word.text[len(prefix) :])) for word in sentence])
        for name, sentence in sentences
    ]


def _is_word(number: str) -> bool:
    """Whether the first cell of a CoNLL-U line is not of a comment, a range or an empty node."""
    return not (number.startswith("#") or "-" in number or "." in number)


def word_of(text: str) -> str:
    """Words with spaces inside (Vietnamese) stay one word."""
    return text.strip() or "_"
