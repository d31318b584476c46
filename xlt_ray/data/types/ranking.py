"""Ranking: which candidates of a pool in many languages are right for a query?

Read from JSON lines, each a query, a candidate, or both; a line's candidate is right for the line's
own query, and ``relevant`` names the lines whose candidates are right besides::

    {"id": "q7", "query": "Wer schrieb es?", "relevant": ["a7-en", "a7-de"]}
    {"id": "a7-en", "candidate": "Ada wrote it.", "language": "en"}
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from xlt_ray.config.facts import Split
from xlt_ray.data.item_scores import ItemScores, each, ratio, top_share
from xlt_ray.data.sampling import generator
from xlt_ray.data.text.lines import RAISED, Faults, line_error, lines
from xlt_ray.data.text.pipeline import Batch
from xlt_ray.data.types.base import Example, Frame, Predictions, Row
from xlt_ray.data.types.sentence_vectors import (
    SentenceVectorsType,
    ids_field,
    lines_by_id,
    of_length_one,
    text_field,
)
from xlt_ray.errors import DataError

CUTOFF = 20
"""Ranks that mean average precision looks at."""
_NUMBERS_AT_ONCE = 2**22
"""Cosines that are computed at once, 16 MiB of them; a query's own are always all there."""


class Wanted(NamedTuple):
    """What a line says of relevance."""

    name: str
    language: str
    """Language of the candidate; empty where the line does not say it."""
    relevant: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class RankingExample(Example):
    """A query, a candidate or both; the other is empty."""

    label_field = "relevant"
    query: str
    candidate: str
    language: str
    relevant: tuple[str, ...] | None

    @property
    def gold(self) -> Wanted | None:
        return None if self.relevant is None else Wanted(self.id, self.language, self.relevant)

    def sentences(self) -> tuple[tuple[str, ...], ...]:
        return (tuple(self.query.split()), tuple(self.candidate.split()))


class RankingType(SentenceVectorsType):
    """Predictions are two vectors for each example, None of a side that is not there.

    The pool of a file is every candidate in it; what is cut off by ``evaluate.examples`` is in no
    pool, and a query that has nothing right in the pool is not scored. Vectors are those of the
    head where the task is trained, and are compared by the cosine.
    """

    example = RankingExample
    width = 2
    compares_rows = True

    def read(self, path: Path, split: Split, faults: Faults = RAISED) -> Iterator[RankingExample]:
        """Ids are those of the lines, which name each other by them."""

        def refuse_faulty(example: RankingExample, number: int) -> None:
            if not example.query and not example.candidate:
                raise line_error(path, number, "has neither query nor candidate")
            if split == "train" and not (example.query and example.candidate):
                missing = "candidate" if example.query else "query"
                remedy = "a line to train on is a query and a candidate right for it"
                raise line_error(path, number, f"has no {missing}", remedy)

        by_id = lines_by_id(path, faults, _of_fields, refuse_faulty)
        for number, example in by_id.values():
            with faults:
                for name in example.relevant or ():
                    if name not in by_id or not by_id[name][1].candidate:
                        problem = f"relevant: no line {name!r} has a candidate"
                        raise line_error(path, number, problem)
                yield example

    def read_unlabelled(self, path: Path) -> Iterator[RankingExample]:
        raise DataError(
            f"{path}: {self.task.name} ranks the candidates of a whole pool; a single row has no "
            "prediction",
            remedy="network.predict gives the vectors of sentences, to be compared by the cosine",
        )

    def of_row(
        self, row: Mapping[str, Any], name: str, path: Path, number: int
    ) -> RankingExample | None:
        """None for a row without text; its id, where others name it, has to be unique."""
        fields = {**row, "id": name, "relevant": row.get("relevant") or []}
        example = _of_fields(fields, path, number)
        return example if example.query or example.candidate else None

    def count(self, path: Path, split: Split) -> int:
        """Lines that are not empty; none of them is read."""
        return sum(1 for _, line in lines(path) if line.strip())

    def train_items(
        self,
        rows: Sequence[Row],
        plain: Sequence[Row],
        labels: Sequence[np.ndarray],
        frame: Frame,
        stream: tuple[str | int, ...],
    ) -> Sequence[tuple[int, Row]]:
        """A query, its candidate and those of ``num_negatives`` other rows as wrong ones, which
        belong to the row itself, so that a loss depends on neither micro-batches nor workers.

        A candidate that is the same text in the source language is not a wrong one, whatever
        language or words it has in this batch. Where the batch has fewer others they are there
        several times; where it has none the row's own stands for them, and nothing is learned.
        """
        items = []
        texts = [candidate.pieces.tobytes() for _, candidate in plain]
        for place, (query, candidate) in enumerate(rows):
            others = [row for row, text in enumerate(texts) if text != texts[place]]
            drawn = generator(*stream, place).permutation(others or [place])
            negatives = [rows[row][1] for row in np.resize(drawn, frame.num_negatives).tolist()]
            items.append((query, candidate, *negatives))
        return list(enumerate(items))

    def batch(self, items: Sequence[Row], labels: Sequence[np.ndarray], frame: Frame) -> Batch:
        """Pieces (batch, sentences, length) with ``labels`` (batch,) in training; else single
        sentences (batch, length) without labels."""
        flat = super().batch([(sentence,) for item in items for sentence in item], [], frame)
        width = len(items[0])
        if width == 1:
            return flat
        batch = {name: array.reshape(len(items), width, -1) for name, array in flat.items()}
        batch["labels"] = np.stack(labels)
        return batch

    def item_scores(self, split: Predictions) -> ItemScores:
        """Items are the queries that have something right in the pool, which stays what it is.

        ``map_at_20`` is over the whole pool, ``map_at_20_own`` over the candidates in the query's
        own language, the monolingual pool of LAReQA (arXiv 2004.05484); ``accuracy`` is the share
        of queries whose first candidate is right.
        """
        num_lines = len(split.gold)
        if num_lines != len(split.predicted):
            raise ValueError(f"{num_lines} examples, {len(split.predicted)} pairs of vectors")
        lines: list[tuple[Wanted, Any]] = list(zip(split.gold, split.predicted, strict=True))
        asked = [
            (number, line, query)
            for number, (line, (query, _)) in enumerate(lines)
            if query is not None
        ]
        pool = [(line, vector) for line, (_, vector) in lines if vector is not None]
        if not pool or not asked:
            return ItemScores(np.zeros(0, np.int64), {}, {}, 0.0, 0.0, {})
        place_of = {line.name: place for place, (line, _) in enumerate(pool)}
        right = [
            sorted({place_of[name] for name in (line.name, *line.relevant) if name in place_of})
            for _, line, _ in asked
        ]
        queries = of_length_one(np.stack([vector for *_, vector in asked]))
        candidates = of_length_one(np.stack([vector for _, vector in pool]))
        whole = ranked(queries, candidates, right, CUTOFF)
        num_right = np.array([len(right[number]) for number in whole.numbers], np.int64)
        parts = {"map_at_20": each(whole.precisions), "accuracy": each(whole.firsts)}
        chance = {
            "map_at_20": _mean(chance_precision(num_right, len(pool), CUTOFF)),
            "accuracy": _mean(num_right / len(pool)),
        }
        if "map_at_20_own" in self.task.metrics:
            same = [
                place for place, (line, _) in enumerate(pool) if line.language == split.language
            ]
            place_in_same = {place: number for number, place in enumerate(same)}
            right = [
                [place_in_same[place] for place in row if place in place_in_same] for row in right
            ]
            among = ranked(queries, candidates[same], right, CUTOFF)
            points, out_of = np.zeros((2, len(whole.numbers)))
            # A query with something right in its own language has something right at all.
            places = np.searchsorted(whole.numbers, among.numbers)
            points[places], out_of[places] = among.precisions, 1
            parts["map_at_20_own"] = (points, out_of)
            num_right = np.array([len(right[number]) for number in among.numbers], np.int64)
            chance["map_at_20_own"] = _mean(chance_precision(num_right, len(same), CUTOFF))
        # Where no query has anything right there is nothing to be found.
        parts = {metric: parts[metric] for metric in self.task.metrics if parts[metric][1].sum()}
        owners = np.array([number for number, *_ in asked], np.int64)
        return ItemScores(
            owners=owners[whole.numbers],
            parts=parts,
            values={metric: ratio(*both) for metric, both in parts.items()},
            top_share=top_share(whole.tops.tolist()),
            gold_top_share=top_share(
                [place for number in whole.numbers for place in right[number]]
            ),
            chance={metric: chance[metric] for metric in parts},
        )


class Ranked(NamedTuple):
    """The queries that have something right in the pool, ``n`` of them."""

    numbers: np.ndarray
    """(n,) int64, ascending: which query."""
    precisions: np.ndarray
    """(n,): average precision at the cutoff."""
    firsts: np.ndarray
    """(n,): 1.0 where its first candidate is right."""
    tops: np.ndarray
    """(n,) int64: the nearest candidate, the earliest of those that are equally near."""


def ranked(
    queries: np.ndarray, candidates: np.ndarray, right: Sequence[Sequence[int]], cutoff: int
) -> Ranked:
    """Average precision of every query at ``cutoff``, and whether its first candidate is right:

        AP@k = sum over right ranks r <= k of (right ones among the first r) / r / min(R, k)

    for R right candidates, as XTREME-R's script has it (arXiv 2104.07412, seen). Vectors (n, width)
    and (m, width) are compared by their product; ``right`` has the numbers of the right candidates
    of each query, and queries that have none are left out. Wrong ones come first at a tie, and what
    is not a number ranks last. Memory beside the vectors does not grow with n * m.
    """
    answerable = [number for number, row in enumerate(right) if len(row)]
    precisions, firsts, tops = [], [], []
    step = max(1, _NUMBERS_AT_ONCE // max(len(candidates), 1))
    for begin in range(0, len(answerable), step):
        numbers = answerable[begin : begin + step]
        for number, nearness in zip(numbers, queries[numbers] @ candidates.T, strict=True):
            ranks = _ranks(nearness, np.asarray(right[number]))
            hits = np.arange(1, len(ranks) + 1) / ranks
            precisions.append(hits[ranks <= cutoff].sum() / min(len(ranks), cutoff))
            firsts.append(ranks[0] == 1)
            tops.append(nearness.argmax())
    return Ranked(
        np.array(answerable, np.int64),
        np.array(precisions, np.float64),
        np.array(firsts, np.float64),
        np.array(tops, np.int64),
    )


def chance_precision(num_right: np.ndarray, num_candidates: int, cutoff: int) -> np.ndarray:
    """(n,): expected average precision at ``cutoff`` of a random order.

    The candidate at a rank is right with probability R/m, and each of the r - 1 before it is then
    with (R - 1)/(m - 1).

    >>> chance_precision(np.array([1]), 4, 20).round(4).tolist()
    [0.5208]
    """
    ranks = np.arange(1, min(cutoff, num_candidates) + 1)
    others = (num_right[:, None] - 1) / max(num_candidates - 1, 1)
    at_ranks = ((1 + (ranks - 1) * others) / ranks).sum(axis=1)
    return np.asarray(
        num_right / num_candidates * at_ranks / np.minimum(num_right, cutoff), np.float64
    )


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if len(values) else 0.0


def _ranks(nearness: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Ranks, from 1 and ascending, of the candidates ``right`` by ``nearness`` (m,)."""
    of_right = -np.sort(-nearness[right])
    # Not below instead of at least, so that what is not a number counts against the query.
    before = np.array(
        [(~(nearness < value)).sum() - (~(of_right < value)).sum() for value in of_right]
    )
    return np.asarray(before + np.arange(1, len(of_right) + 1))


def _of_fields(fields: Mapping[str, Any], path: Path, number: int) -> RankingExample:
    name, query, candidate, language = (
        text_field(fields, key, path, number) for key in ("id", "query", "candidate", "language")
    )
    relevant = ids_field(fields, "relevant", path, number)
    if relevant and not query:
        raise line_error(path, number, "relevant: no query has these ids")
    return RankingExample(name, query, candidate, language, relevant)
