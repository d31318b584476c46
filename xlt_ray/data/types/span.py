"""Extractive question answering: the part of a passage that answers a question.

Read from SQuAD's JSON, v1.1 or v2. A passage that is too long is seen through overlapping
windows, as BERT does it (arXiv 1810.04805): each window is one row with the question before it.
At evaluation all windows of an example are scored, and the best span of any of them is the
answer; where questions may have none, no answer is given if the best score of "none" (begin and
end on the first piece), the lowest over the windows, is better than that of the best span by
more than a threshold.

In training one window stands for an example each time it is drawn: with probability 1/2 one of
those that hold the whole answer, else any of them, each choice uniform. A window without the
answer is trained to say "none". That is ours; the usual scripts make every window an example of
its own, and the size of a training would depend on the tokenizer.

Spans are counted in characters without whitespace, which is the same for text and for words and
needs no word boundaries: Chinese and Thai passages are few long words.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from xlt_ray.config.facts import Split
from xlt_ray.data.item_scores import ItemScores, each, most_frequent, top_share
from xlt_ray.data.metrics import exact_match, normalised, token_f1
from xlt_ray.data.sampling import generator
from xlt_ray.data.task import Task
from xlt_ray.data.text.lines import RAISED, Faults, Names, line_error
from xlt_ray.data.text.pipeline import Batch, Sentence, collate
from xlt_ray.data.text.squad import (
    Question,
    StandingAnswer,
    UnansweredQuestion,
    paragraphs,
    question_error,
)
from xlt_ray.data.types.base import Frame, Row, Rows, TaskType

_NOTHING = np.zeros(0, np.int32)


class Answer(NamedTuple):
    """``begin`` is the place of its first character in the passage."""

    text: str
    begin: int


@dataclass(frozen=True, slots=True)
class SpanExample:
    """A question and its passage; ``answers`` is None where only the text may be seen.

    Any of several answers is right, the first is trained on; none means that the passage does
    not answer the question.
    """

    id: str
    question: str
    passage: str
    answers: tuple[Answer, ...] | None

    @property
    def gold(self) -> tuple[str, ...] | None:
        """Texts of the answers, the empty text alone where there is none."""
        if self.answers is None:
            return None
        return tuple(answer.text for answer in self.answers) or ("",)

    def hidden(self) -> SpanExample:
        return replace(self, answers=None)

    def sentences(self) -> tuple[tuple[str, ...], ...]:
        return (tuple(self.question.split()), tuple(self.passage.split()))


class Window(NamedTuple):
    """The question and one part of its passage, both cut to fit."""

    question: Sentence
    part: Sentence

    def span(self, label: np.ndarray) -> tuple[int, int] | None:
        """First and last piece of the part that share a character with an answer.

        None where the part does not hold all of it. Several pieces may share one character
        (bytes, ligatures that are taken apart); characters that were dropped have none.
        """
        assert self.part.places is not None, "spans need the places of pieces"
        begin, end = label.tolist()
        begins, ends = self.part.places[:, 0], self.part.places[:, 1]
        if begin < 0 or not len(begins) or begin < begins[0] or end > ends[-1]:
            return None
        first = int(np.searchsorted(ends, begin, side="right"))
        last = int(np.searchsorted(begins, end, side="left")) - 1
        return (first, last) if first <= last else None


class Found(NamedTuple):
    """The best span of one window, in characters without whitespace, and how good none is."""

    score: float
    begin: int
    end: int
    none: float


class Windows:
    """All windows of all examples, in their order."""

    def __init__(self, task: Task, rows: Rows, frame: Frame) -> None:
        self._task, self._rows, self._frame = task, rows, frame
        places: list[tuple[int, int]] = []
        lengths: list[int] = []
        for owner in range(len(rows)):
            for number, window in enumerate(windows(task, rows[owner], frame)):
                places.append((owner, number))
                lengths.append(len(window.question.pieces) + len(window.part.pieces))
        self.owners = np.array([owner for owner, _ in places], np.int64)
        self.lengths = np.array(lengths, np.int64)
        self._places = places

    def __getitem__(self, number: int) -> Window:
        owner, window = self._places[number]
        return windows(self._task, self._rows[owner], self._frame)[window]


class SpanType(TaskType):
    """Gold is a tuple of texts, any of which is right; a prediction is one text."""

    has_places = True

    def width(self, task: Task) -> int:
        return 2

    def switched(self, task: Task) -> Sequence[int]:
        """The question alone: an answer has to stand in its passage as it is."""
        return (0,)

    def read(
        self, path: Path, task: Task, split: Split, faults: Faults = RAISED
    ) -> Iterator[SpanExample]:
        names = Names()
        for paragraph in paragraphs(path, Question, faults):
            for question in paragraph.qas:
                with faults:
                    name = names.unique(str(question.id))
                    yield _example(path, task, name, paragraph.context, question)

    def read_unlabelled(self, path: Path, task: Task) -> Iterator[SpanExample]:
        names = Names()
        for paragraph in paragraphs(path, UnansweredQuestion):
            for question in paragraph.qas:
                name = names.unique(str(question.id))
                _refuse_empty(path, name, paragraph.context, question)
                yield SpanExample(name, question.question, paragraph.context, ())

    def of_row(
        self, task: Task, row: Mapping[str, Any], name: str, path: Path, number: int
    ) -> SpanExample | None:
        """An answer that does not stand where the row says is looked for nearby: some data sets
        have cut whitespace off their passages and left the places as they were."""
        passage, asked = (str(row[column] or "") for column in ("passage", "question"))
        try:
            answers = tuple(
                StandingAnswer(text=text, answer_start=_standing(passage, text, begin))
                for text, begin in _answers(row["answers"])
            )
        except (KeyError, TypeError, ValueError):
            problem = "its answers are not a text and an answer_start each"
            raise line_error(path, number, problem) from None
        question = Question(id=name, question=asked, answers=answers)
        return _example(path, task, name, passage, question)

    def count(self, path: Path, task: Task, split: Split) -> int:
        """Questions; no answer is looked at."""
        return sum(len(paragraph.qas) for paragraph in paragraphs(path, UnansweredQuestion))

    def numbers(self, task: Task, example: SpanExample) -> np.ndarray:
        """(2,): begin and end of the first answer without whitespace; -1 where there is none."""
        assert example.answers is not None, "text without labels cannot be trained or scored"
        if not example.answers:
            return np.array([-1, -1], np.int64)
        return _place(example, example.answers[0])

    def train_items(
        self,
        task: Task,
        rows: Sequence[Row],
        plain: Sequence[Row],
        labels: Sequence[np.ndarray],
        frame: Frame,
        stream: tuple[str | int, ...],
    ) -> Sequence[tuple[int, Window]]:
        """One window a row."""
        draws = generator(*stream).random((len(rows), 2))
        found = []
        for row, label, (turn, draw) in zip(rows, labels, draws.tolist(), strict=True):
            there = windows(task, row, frame)
            holders = [one for one in there if one.span(label) is not None]
            chosen = holders if holders and turn < 0.5 else there
            found.append(chosen[int(draw * len(chosen))])
        return list(enumerate(found))

    def views(self, task: Task, rows: Rows, frame: Frame) -> Windows:
        return Windows(task, rows, frame)

    def cut(self, task: Task, rows: Rows, examples: Sequence[SpanExample], frame: Frame) -> float:
        """Share of the questions that are cut, or have answers of which none can be given: no
        window holds one, or all are longer than ``spans.max_answer``."""

        def is_cut(example: SpanExample, row: Row) -> bool:
            parts = windows(task, row, frame)
            if len(parts[0].question.pieces) < len(row[0].pieces):
                return True
            spans = [
                window.span(_place(example, answer))
                for answer in example.answers or ()
                for window in parts
            ]
            return bool(spans) and not any(
                span is not None and span[1] - span[0] < task.spans.max_answer for span in spans
            )

        found = [is_cut(example, rows[number]) for number, example in enumerate(examples)]
        return sum(found) / len(found) if found else 0.0

    def batch(
        self, task: Task, items: Sequence[Window], labels: Sequence[np.ndarray], frame: Frame
    ) -> Batch:
        """``labels`` (batch, 2): first and last piece of the answer, 0 and 0 if not in here."""
        batch, places = collate(items, frame.template, frame.max_length)
        spans = np.zeros((len(items), 2), np.int64)
        for number, (window, (_, place), label) in enumerate(
            zip(items, places, labels, strict=True)
        ):
            span = window.span(label)
            if span is not None:
                spans[number] = np.array(span) + place.start
        batch["labels"] = spans
        return batch

    def decode(
        self, task: Task, items: Sequence[Window], predicted: np.ndarray, frame: Frame
    ) -> list[Found]:
        """``predicted`` (batch, 2, length): how good every piece is as begin and as end."""
        _, places = collate(items, frame.template, frame.max_length)
        return [
            _best(window, scores[:, place], float(scores[:, 0].sum()), task.spans.max_answer)
            for window, (_, place), scores in zip(items, places, np.asarray(predicted), strict=True)
        ]

    def certainties(self, logits: Any, labels: np.ndarray) -> list[float]:
        """The log of the sum over all begins and ends of each window."""
        total: list[float] = logits.double().logsumexp(dim=-1).sum(dim=-1).tolist()
        return total

    def probability(
        self, task: Task, answer: str, parts: Sequence[Any], certainties: Sequence[float]
    ) -> tuple[float, None]:
        """The product of the probabilities of begin and end among all pieces of the window that
        holds the answer; without an answer, those of the first piece in the window that is least
        sure of having none."""
        windows = range(len(parts))
        if answer:
            best = max(windows, key=lambda window: parts[window].score)
            return float(np.exp(parts[best].score - certainties[best])), None
        least = min(windows, key=lambda window: parts[window].none)
        return float(np.exp(parts[least].none - certainties[least])), None

    def joined(self, task: Task, example: SpanExample, parts: Sequence[Found]) -> str:
        best = max(parts, key=lambda one: one.score)
        none = min(part.none for part in parts)
        if task.spans.has_unanswerable and none - best.score > task.spans.null_threshold:
            return ""
        solid = [place for place, one in enumerate(example.passage) if not one.isspace()]
        if best.end <= best.begin:
            return ""
        return example.passage[solid[best.begin] : solid[best.end - 1] + 1]

    def score(
        self,
        task: Task,
        language: str,
        gold: Sequence[Sequence[str]],
        predicted: Sequence[str],
    ) -> dict[str, float]:
        """Of each prediction the best over the gold answers, then the mean over examples.

        Where questions may have no answer, gold answers that normalisation leaves nothing of
        count for nothing, and are "none" where there is no other; and an answer of no token is
        right or wrong, never in between (SQuAD v2's script; v1.1's has F1 0 there).
        """
        return {
            metric: float(np.mean(values))
            for metric, values in self._by_item(task, language, gold, predicted).items()
        }

    def item_scores(
        self, task: Task, language: str, gold: Sequence[Sequence[str]], predicted: Sequence[str]
    ) -> ItemScores:
        found = self._by_item(task, language, gold, predicted)
        firsts = [right[0] for right in gold]
        return ItemScores(
            owners=np.arange(len(gold)),
            parts={metric: each(values) for metric, values in found.items()},
            values=self.score(task, language, gold, predicted),
            top_share=top_share(predicted),
            gold_top_share=top_share(firsts),
            chance=self.score(task, language, gold, [most_frequent(firsts) or ""] * len(gold)),
        )

    def _by_item(
        self, task: Task, language: str, gold: Sequence[Sequence[str]], predicted: Sequence[str]
    ) -> dict[str, list[float]]:
        if len(gold) != len(predicted):
            raise ValueError(f"{len(gold)} questions, {len(predicted)} answers")
        language, rule = task.spans.passage_language or language, task.spans.normalisation

        def tokens(text: str) -> tuple[str, ...]:
            return normalised(text, rule, language)

        measures = {"f1": token_f1, "em": exact_match}
        has_none = task.spans.has_unanswerable
        values: dict[str, list[float]] = {metric: [] for metric in task.metrics if gold}
        for answers, text in zip(gold, predicted, strict=True):
            right, said = [tokens(answer) for answer in answers], tokens(text)
            if has_none:
                right = [answer for answer in right if answer] or [()]
            for metric, own in values.items():
                own.append(
                    max(
                        exact_match(answer, said)
                        if has_none and not (answer and said)
                        else measures[metric](answer, said)
                        for answer in right
                    )
                )
        return values


KIND = SpanType()


def windows(task: Task, row: Row, frame: Frame) -> list[Window]:
    """The question, cut where it is long, beside each part of the passage.

    Parts are as long as the row has room for, but the last; neighbours share ``spans.overlap``
    pieces, or half a part where that is less.
    """
    question, passage = row
    assert passage.places is not None, "spans need the places of pieces"
    room = max(frame.room(2), 2)
    kept = min(len(question.pieces), task.spans.max_question, room // 2)
    asked = Sentence(question.pieces[:kept], _NOTHING)
    size = room - kept
    step = size - min(task.spans.overlap, size // 2)
    found = []
    for begin in range(0, max(len(passage.pieces) - size, 0) + step, step):
        part = slice(begin, begin + size)
        found.append(Window(asked, Sentence(passage.pieces[part], _NOTHING, passage.places[part])))
    return found


def _best(window: Window, scores: np.ndarray, none: float, longest: int) -> Found:
    """The best span of at most ``longest`` pieces, of all there are; the first among equals."""
    begins, ends = scores.astype(np.float64)
    best, span = -np.inf, (0, 0)
    for extra in range(min(longest, len(begins))):
        sums = begins[: len(begins) - extra] + ends[extra:]
        first = int(sums.argmax())
        if sums[first] > best:
            best, span = float(sums[first]), (first, first + extra)
    assert window.part.places is not None
    begin, end = window.part.places[span[0], 0], window.part.places[span[1], 1]
    return Found(best, int(begin), int(end), none)


def _place(example: SpanExample, answer: Answer) -> np.ndarray:
    """(2,): where an answer begins and ends in the passage without whitespace."""
    first = _num_solid(example.passage[: answer.begin])
    return np.array([first, first + _num_solid(answer.text)], np.int64)


def _num_solid(text: str) -> int:
    return sum(len(word) for word in text.split())


def _answers(column: Any) -> list[tuple[str, int]]:
    """Text and place of every answer, of a list of them or of two lists."""
    if isinstance(column, Mapping):
        return list(zip(column["text"], column["answer_start"], strict=True))
    return [(one["text"], one["answer_start"]) for one in column or ()]


def _standing(passage: str, text: str, begin: int) -> int:
    """Where ``text`` stands nearest to ``begin``; ``begin`` itself where it stands nowhere."""
    if passage[begin : begin + len(text)] == text:
        return begin
    places = (passage.rfind(text, 0, begin + len(text)), passage.find(text, max(begin, 0)))
    return min(
        (place for place in places if place >= 0), key=lambda one: abs(one - begin), default=begin
    )


def _refuse_empty(path: Path, name: str, passage: str, one: UnansweredQuestion) -> None:
    if not passage.strip() or not one.question.strip():
        raise question_error(path, name, "its text or its passage is empty")


def _example(path: Path, task: Task, name: str, passage: str, one: Question) -> SpanExample:
    answers = () if one.is_impossible else one.answers
    _refuse_empty(path, name, passage, one)
    if not answers and not task.spans.has_unanswerable:
        remedy = f"spans.has_unanswerable: true in the task file of {task.name}"
        raise question_error(path, name, "has no answer", remedy)
    for text, begin in ((answer.text, answer.answer_start) for answer in answers):
        if not text.strip() or begin < 0 or passage[begin : begin + len(text)] != text:
            raise question_error(path, name, f"{text!r} is not at {begin}")
    kept = tuple(Answer(answer.text, answer.answer_start) for answer in answers)
    return SpanExample(name, one.question, passage, kept)
