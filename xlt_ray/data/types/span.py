"""Extractive question answering: the part of a passage that answers a question.

Read from SQuAD's JSON, v1.1 or v2. A passage that is too long is seen through overlapping windows,
as in BERT (arXiv 1810.04805): each is one row with the question before it. The best span of any
window is the answer, or none where that scores better. Spans are counted in characters without
whitespace, which needs no word boundaries: Chinese and Thai passages are few long words.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from xlt_ray.config.facts import Split
from xlt_ray.data.item_scores import Parts, each
from xlt_ray.data.metrics import exact_match, normalised, token_f1
from xlt_ray.data.sampling import generator
from xlt_ray.data.text.lines import RAISED, Faults, Names, line_error
from xlt_ray.data.text.pipeline import Batch, Sentence, collate, places_of
from xlt_ray.data.text.squad import (
    Question,
    StandingAnswer,
    UnansweredQuestion,
    paragraphs,
    question_error,
)
from xlt_ray.data.types.base import AnswersType, Example, Frame, Predictions, Row, Rows, known_label

_NOTHING = np.zeros(0, np.int32)


class Answer(NamedTuple):
    """``begin`` is the place of its first character in the passage."""

    text: str
    begin: int


@dataclass(frozen=True, slots=True)
class SpanExample(Example):
    """A question and its passage.

    Any of several answers is right, the first is trained on; an empty tuple means that the passage
    does not answer the question.
    """

    label_field = "answers"
    question: str
    passage: str
    answers: tuple[Answer, ...] | None

    @property
    def gold(self) -> tuple[str, ...] | None:
        """Texts of the answers, the empty text alone where there is none."""
        if self.answers is None:
            return None
        return tuple(answer.text for answer in self.answers) or ("",)

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


class BestSpan(NamedTuple):
    """The best span of one window, in characters without whitespace."""

    score: float
    begin: int
    end: int
    none: float
    """Score of giving no answer: begin and end on the first piece."""


class SpanType(AnswersType):
    """Gold is a tuple of texts, any of which is right; a prediction is one text."""

    example = SpanExample
    has_places = True
    width = 2

    @property
    def switched(self) -> Sequence[int]:
        """The question alone: an answer has to stand in its passage as it is."""
        return (0,)

    def read(self, path: Path, split: Split, faults: Faults = RAISED) -> Iterator[SpanExample]:
        names = Names()
        for paragraph in paragraphs(path, Question, faults):
            for question in paragraph.qas:
                with faults:
                    name = names.unique(str(question.id))
                    yield self._example(path, name, paragraph.context, question)

    def read_unlabelled(self, path: Path) -> Iterator[SpanExample]:
        names = Names()
        for paragraph in paragraphs(path, UnansweredQuestion):
            for question in paragraph.qas:
                name = names.unique(str(question.id))
                _refuse_empty(path, name, paragraph.context, question)
                yield SpanExample(name, question.question, paragraph.context, ())

    def of_row(
        self, row: Mapping[str, Any], name: str, path: Path, number: int
    ) -> SpanExample | None:
        """An answer that does not stand where the row says is looked for nearby: some data sets
        have cut whitespace off their passages and left the places as they were."""
        passage, asks = (str(row[column] or "") for column in ("passage", "question"))
        try:
            answers = tuple(
                StandingAnswer(text=text, answer_start=_standing(passage, text, begin))
                for text, begin in _answers(row["answers"])
            )
        except (KeyError, TypeError, ValueError):
            problem = "its answers are not a text and an answer_start each"
            raise line_error(path, number, problem) from None
        question = Question(id=name, question=asks, answers=answers)
        return self._example(path, name, passage, question)

    def count(self, path: Path, split: Split) -> int:
        """Questions; no answer is looked at."""
        return sum(len(paragraph.qas) for paragraph in paragraphs(path, UnansweredQuestion))

    def numbers(self, example: SpanExample) -> np.ndarray:
        """(2,): begin and end of the first answer without whitespace; -1 where there is none."""
        answers = known_label(example)
        return _place(example, answers[0]) if answers else np.array([-1, -1], np.int64)

    def items(self, row: Row, frame: Frame) -> list[Window]:
        """The question, cut where it is long, beside each part of the passage.

        Parts are as long as the row has room for, but the last; neighbours share ``spans.overlap``
        pieces, or half a part where that is less.
        """
        question, passage = row
        assert passage.places is not None, "spans need the places of pieces"
        room = max(frame.room(2), 2)
        kept = min(len(question.pieces), self.task.spans.max_question, room // 2)
        cut_question = Sentence(question.pieces[:kept], _NOTHING)
        size = room - kept
        step = size - min(self.task.spans.overlap, size // 2)
        parts = [
            slice(begin, begin + size)
            for begin in range(0, max(len(passage.pieces) - size, 0) + step, step)
        ]
        return [
            Window(cut_question, Sentence(passage.pieces[part], _NOTHING, passage.places[part]))
            for part in parts
        ]

    def train_items(
        self,
        rows: Sequence[Row],
        plain: Sequence[Row],
        labels: Sequence[np.ndarray],
        frame: Frame,
        stream: tuple[str | int, ...],
    ) -> Sequence[tuple[int, Window]]:
        """One window a row, drawn anew each time: with probability 1/2 one of those that hold the
        whole answer, else any. A window without the answer is trained to say "none".

        The usual scripts make every window an example, so that the size of a training depends on
        the tokenizer.
        """
        draws = generator(*stream).random((len(rows), 2))
        drawn = []
        for row, label, (coin, draw) in zip(rows, labels, draws.tolist(), strict=True):
            windows = self.items(row, frame)
            holders = [window for window in windows if window.span(label) is not None]
            chosen = holders if holders and coin < 0.5 else windows
            drawn.append(chosen[int(draw * len(chosen))])
        return list(enumerate(drawn))

    def cut(self, rows: Rows, examples: Sequence[SpanExample], frame: Frame) -> float:
        """Share of the questions that are cut, or have answers of which none can be given: no
        window holds one, or all are longer than ``spans.max_answer``."""

        def is_cut(example: SpanExample, row: Row) -> bool:
            windows = self.items(row, frame)
            if len(windows[0].question.pieces) < len(row[0].pieces):
                return True
            spans = [
                window.span(_place(example, answer))
                for answer in example.answers or ()
                for window in windows
            ]
            longest = self.task.spans.max_answer
            return bool(spans) and not any(
                span is not None and span[1] - span[0] < longest for span in spans
            )

        cut = [is_cut(example, rows[number]) for number, example in enumerate(examples)]
        return sum(cut) / len(cut) if cut else 0.0

    def batch(self, items: Sequence[Window], labels: Sequence[np.ndarray], frame: Frame) -> Batch:
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
        self, items: Sequence[Window], predicted: np.ndarray, frame: Frame
    ) -> list[BestSpan]:
        """``predicted`` (batch, 2, length): how good every piece is as begin and as end."""
        places = places_of(items, frame.template, frame.max_length)
        longest = self.task.spans.max_answer
        return [
            _best(window, scores[:, place], float(scores[:, 0].sum()), longest)
            for window, (_, place), scores in zip(items, places, np.asarray(predicted), strict=True)
        ]

    def certainties(self, logits: Any, labels: np.ndarray) -> list[float]:
        """The log of the sum over all begins and ends of each window."""
        total: list[float] = logits.double().logsumexp(dim=-1).sum(dim=-1).tolist()
        return total

    def probability(
        self, answer: str, parts: Sequence[BestSpan], certainties: Sequence[float]
    ) -> tuple[float, None]:
        """The product of the probabilities of begin and end among all pieces of the window that
        holds the answer; without an answer, those of the first piece in the window that is least
        sure of having none."""
        windows = list(zip(parts, certainties, strict=True))
        if answer:
            best, certainty = max(windows, key=lambda window: window[0].score)
            return float(np.exp(best.score - certainty)), None
        least, certainty = min(windows, key=lambda window: window[0].none)
        return float(np.exp(least.none - certainty)), None

    def joined(self, example: SpanExample, parts: Sequence[BestSpan]) -> str:
        best = max(parts, key=lambda part: part.score)
        none, spans = min(part.none for part in parts), self.task.spans
        if spans.has_unanswerable and none - best.score > spans.null_threshold:
            return ""
        solid = [place for place, char in enumerate(example.passage) if not char.isspace()]
        if best.end <= best.begin:
            return ""
        return example.passage[solid[best.begin] : solid[best.end - 1] + 1]

    def measured(self, metric: str, split: Predictions) -> float | None:
        """The mean over the examples."""
        values = self._by_example(metric, split)
        return float(np.mean(values)) if values else None

    def parts(self, metric: str, value: float, split: Predictions) -> Parts:
        return each(self._by_example(metric, split))

    def right_answers(self, gold: Sequence[Sequence[str]]) -> list[str]:
        return [answers[0] for answers in gold]

    def _by_example(self, metric: str, split: Predictions) -> list[float]:
        """By example, the best score of its prediction over its gold answers.

        Where questions may have no answer, gold answers that normalisation leaves nothing of
        count for nothing, and are "none" where there is no other; and an answer of no token is
        right or wrong, never in between (SQuAD v2's script; v1.1's has F1 0 there).
        """
        num_questions, num_answers = len(split.gold), len(split.predicted)
        if num_questions != num_answers:
            raise ValueError(f"{num_questions} questions, {num_answers} answers")
        spans = self.task.spans
        language, has_none = spans.passage_language or split.language, spans.has_unanswerable

        def tokens(text: str) -> tuple[str, ...]:
            return normalised(text, spans.normalisation, language)

        def value(right: tuple[str, ...], answer: tuple[str, ...]) -> float:
            is_whole = metric == "em" or (has_none and not (right and answer))
            return exact_match(right, answer) if is_whole else token_f1(right, answer)

        values = []
        for answers, text in zip(split.gold, split.predicted, strict=True):
            right = [tokens(answer) for answer in answers]
            if has_none:
                right = [answer for answer in right if answer] or [()]
            values.append(max(value(answer, tokens(text)) for answer in right))
        return values

    def _example(self, path: Path, name: str, passage: str, question: Question) -> SpanExample:
        answers = () if question.is_impossible else question.answers
        _refuse_empty(path, name, passage, question)
        if not answers and not self.task.spans.has_unanswerable:
            remedy = f"spans.has_unanswerable: true in the task file of {self.task.name}"
            raise question_error(path, name, "has no answer", remedy)
        kept = tuple(Answer(answer.text, answer.answer_start) for answer in answers)
        for text, begin in kept:
            if not text.strip() or begin < 0 or passage[begin : begin + len(text)] != text:
                raise question_error(path, name, f"{text!r} is not at {begin}")
        return SpanExample(name, question.question, passage, kept)


def _best(window: Window, scores: np.ndarray, none: float, longest: int) -> BestSpan:
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
    return BestSpan(best, int(begin), int(end), none)


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
    return [(answer["text"], answer["answer_start"]) for answer in column or ()]


def _standing(passage: str, text: str, begin: int) -> int:
    """Where ``text`` stands nearest to ``begin``; ``begin`` itself where it stands nowhere."""
    if passage[begin : begin + len(text)] == text:
        return begin
    places = (passage.rfind(text, 0, begin + len(text)), passage.find(text, max(begin, 0)))
    return min(
        (place for place in places if place >= 0),
        key=lambda place: abs(place - begin),
        default=begin,
    )


def _refuse_empty(path: Path, name: str, passage: str, question: UnansweredQuestion) -> None:
    if not passage.strip() or not question.question.strip():
        raise question_error(path, name, "its text or its passage is empty")
