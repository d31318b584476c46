"""Ranking: which candidates of a pool in many languages are right for a query?

Read from JSON lines, each a query, a candidate, or both::

    {"id": "q7", "query": "Wer schrieb es?", "relevant": ["a7-en", "a7-de"]}
    {"id": "a7-en", "candidate": "Ada wrote it.", "language": "en"}

A line's candidate is right for the line's own query, and ``relevant`` names the lines whose
candidates are right besides. The pool of a file is every candidate in it; what is cut off by
``evaluate.examples`` is in no pool, and a query that has nothing right in the pool is not scored.

Queries and candidates are vectors by themselves, compared by the cosine: those of the head where
the task is trained, else the mean of the pieces at one layer of the encoder. ``map_at_20`` is the
mean over queries of

    AP@k = sum over ranks r <= k that are right of (right ones among the first r) / r  /  min(R, k)

for R right candidates and k = 20, as XTREME-R's script has it (arXiv 2104.07412, seen).
``map_at_20_own`` is the same among the candidates in the query's own language alone, the
monolingual pool of LAReQA (arXiv 2004.05484). ``accuracy`` is the share of queries
whose first candidate is right. A wrong candidate that is as near as a right one stands before it.

A training row is a query, its candidate, and candidates of other rows of the batch as wrong ones
(:class:`xlt_ray.modeling.heads.RankingHead`). They belong to the row itself, so a loss
depends on neither micro-batches nor workers. In a cross-lingual batch the query of a row is in one
language and its candidate in another, so candidates of several languages compete.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from xlt_ray.config.facts import Split
from xlt_ray.data.item_scores import ItemScores, each, ratio, top_share
from xlt_ray.data.sampling import generator
from xlt_ray.data.task import Task
from xlt_ray.data.text.lines import RAISED, Faults, json_object, line_error, lines
from xlt_ray.data.text.pipeline import Batch, collate
from xlt_ray.data.types.base import Frame, Row, Rows, TaskType, Views
from xlt_ray.data.types.sentence_vectors import of_length_one
from xlt_ray.errors import DataError

CUTOFF = 20
"""Ranks that mean average precision looks at."""
_NUMBERS_AT_ONCE = 2**22
"""Cosines that are computed at once, 16 MiB of them; a query's own are always all there."""


class Wanted(NamedTuple):
    """What a line says of relevance."""

    name: str
    language: str
    """Of the candidate; empty where it is not told."""
    relevant: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class RankingExample:
    """A query, a candidate or both; the other is empty. ``relevant`` is None where it is hidden."""

    id: str
    query: str
    candidate: str
    language: str
    relevant: tuple[str, ...] | None

    @property
    def gold(self) -> Wanted | None:
        return None if self.relevant is None else Wanted(self.id, self.language, self.relevant)

    def hidden(self) -> RankingExample:
        return replace(self, relevant=None)

    def sentences(self) -> tuple[tuple[str, ...], ...]:
        return (tuple(self.query.split()), tuple(self.candidate.split()))


class Sides:
    """The sentences that are there, each as an item of its own."""

    def __init__(self, rows: Rows) -> None:
        self._rows = rows
        present = [
            (number, side, len(sentence.pieces))
            for number in range(len(rows))
            for side, sentence in enumerate(rows[number])
            if len(sentence.pieces)
        ]
        owners, sides, lengths = np.array(present, np.int64).reshape(-1, 3).T
        self.owners, self.lengths = owners, lengths
        self._sides = sides

    def __getitem__(self, number: int) -> Row:
        return (self._rows[int(self.owners[number])][int(self._sides[number])],)


class RankingType(TaskType):
    """Predictions are two vectors for each example, None of a side that is not there."""

    def width(self, task: Task) -> int:
        return 2

    def read(
        self, path: Path, task: Task, split: Split, faults: Faults = RAISED
    ) -> Iterator[RankingExample]:
        """Ids are those of the lines, which name each other by them."""
        by_id: dict[str, tuple[int, RankingExample]] = {}
        for number, line in lines(path):
            if line.strip():
                with faults:
                    example = _example(line, path, number)
                    if example.id in by_id:
                        raise line_error(path, number, f"id {example.id!r} is repeated")
                    if split == "train" and not (example.query and example.candidate):
                        missing = "candidate" if example.query else "query"
                        remedy = "a line to train on is a query and a candidate right for it"
                        raise line_error(path, number, f"has no {missing}", remedy)
                    by_id[example.id] = (number, example)
        for number, example in by_id.values():
            with faults:
                for name in example.relevant or ():
                    if name not in by_id or not by_id[name][1].candidate:
                        problem = f"relevant: no line {name!r} has a candidate"
                        raise line_error(path, number, problem)
                yield example

    def read_unlabelled(self, path: Path, task: Task) -> Iterator[RankingExample]:
        raise DataError(
            f"{path}: {task.name} ranks the candidates of a whole pool; a single row has no "
            "prediction",
            remedy="network.predict gives the vectors of sentences, to be compared by the cosine",
        )

    def of_row(
        self, task: Task, row: Mapping[str, Any], name: str, path: Path, number: int
    ) -> RankingExample | None:
        """None for a row without text; its id, where others name it, has to be unique."""
        cells = {**row, "id": name, "relevant": row.get("relevant") or []}
        example = _of_cells(cells, path, number)
        return example if example.query or example.candidate else None

    def count(self, path: Path, task: Task, split: Split) -> int:
        """Lines that are not empty; none of them is read."""
        return sum(1 for _, line in lines(path) if line.strip())

    def numbers(self, task: Task, example: RankingExample) -> np.ndarray:
        """(): the right candidate stands first."""
        return np.array(0, np.int64)

    def train_items(
        self,
        task: Task,
        rows: Sequence[Row],
        plain: Sequence[Row],
        labels: Sequence[np.ndarray],
        frame: Frame,
        stream: tuple[str | int, ...],
    ) -> Sequence[tuple[int, Row]]:
        """A query, its candidate and those of ``num_negatives`` other rows as wrong ones.

        A candidate that is the same text in the source language is no wrong one, whatever language
        or words it has in this batch. Where the batch has fewer others they are there several
        times; where it has none the row's own stands for them, and nothing is learned.
        """
        items = []
        texts = [candidate.pieces.tobytes() for _, candidate in plain]
        for place, (query, candidate) in enumerate(rows):
            others = [one for one, text in enumerate(texts) if text != texts[place]]
            drawn = generator(*stream, place).permutation(others or [place])
            negatives = [rows[one][1] for one in np.resize(drawn, frame.num_negatives).tolist()]
            items.append((query, candidate, *negatives))
        return list(enumerate(items))

    def shown(self, task: Task, row: Row) -> Sequence[Row]:
        return [(sentence,) for sentence in row]

    def views(self, task: Task, rows: Rows, frame: Frame) -> Views:
        return Sides(rows)

    def batch(
        self, task: Task, items: Sequence[Row], labels: Sequence[np.ndarray], frame: Frame
    ) -> Batch:
        """Pieces (batch, sentences, length) with ``labels`` (batch,) in training; else single
        sentences (batch, length) without labels."""
        flat, _ = collate(
            [(sentence,) for item in items for sentence in item], frame.template, frame.max_length
        )
        width = len(items[0])
        if width == 1:
            return flat
        batch = {name: array.reshape(len(items), width, -1) for name, array in flat.items()}
        batch["labels"] = np.stack(labels)
        return batch

    def decode(
        self, task: Task, items: Sequence[Row], predicted: np.ndarray, frame: Frame
    ) -> list[np.ndarray]:
        """``predicted`` (batch, hidden): vectors of sentences."""
        return list(np.asarray(predicted))

    def joined(
        self, task: Task, example: RankingExample, parts: Sequence[np.ndarray]
    ) -> tuple[np.ndarray | None, np.ndarray | None]:
        left = iter(parts)
        query, candidate = (next(left) if words else None for words in example.sentences())
        return query, candidate

    def score(
        self,
        task: Task,
        language: str,
        gold: Sequence[Wanted],
        predicted: Sequence[tuple[np.ndarray | None, np.ndarray | None]],
    ) -> dict[str, float]:
        return dict(self.item_scores(task, language, gold, predicted).values)

    def item_scores(
        self,
        task: Task,
        language: str,
        gold: Sequence[Wanted],
        predicted: Sequence[tuple[np.ndarray | None, np.ndarray | None]],
    ) -> ItemScores:
        """Items are the queries that have something right in the pool, which stays what it is."""
        if len(gold) != len(predicted):
            raise ValueError(f"{len(gold)} examples, {len(predicted)} pairs of vectors")
        owners = [number for number, (query, _) in enumerate(predicted) if query is not None]
        asked = [
            (one, query)
            for one, (query, _) in zip(gold, predicted, strict=True)
            if query is not None
        ]
        pool = [
            (one, other)
            for one, (_, other) in zip(gold, predicted, strict=True)
            if other is not None
        ]
        if not pool or not asked:
            return ItemScores(np.zeros(0, np.int64), {}, {}, 0.0, 0.0, {})
        place_of = {one.name: place for place, (one, _) in enumerate(pool)}
        right = [
            sorted({place_of[name] for name in (one.name, *one.relevant) if name in place_of})
            for one, _ in asked
        ]
        queries, candidates = (
            of_length_one(np.stack([vector for _, vector in side])) for side in (asked, pool)
        )
        found = ranked(queries, candidates, right, CUTOFF)
        parts = {"map_at_20": each(found.precisions), "accuracy": each(found.firsts)}
        num_right = np.array([len(right[number]) for number in found.numbers], np.int64)
        chance = {
            "map_at_20": _mean(chance_precision(num_right, len(pool), CUTOFF)),
            "accuracy": _mean(num_right / len(pool)),
        }
        if "map_at_20_own" in task.metrics:
            own = [place for place, (one, _) in enumerate(pool) if one.language == language]
            place_in_own = {number: place for place, number in enumerate(own)}
            right = [[place_in_own[one] for one in row if one in place_in_own] for row in right]
            among = ranked(queries, candidates[own], right, CUTOFF)
            points, out_of = np.zeros((2, len(found.numbers)))
            # Whoever has something right among the own has something right at all.
            places = np.searchsorted(found.numbers, among.numbers)
            points[places], out_of[places] = among.precisions, 1
            parts["map_at_20_own"] = (points, out_of)
            num_right = np.array([len(right[number]) for number in among.numbers], np.int64)
            chance["map_at_20_own"] = _mean(chance_precision(num_right, len(own), CUTOFF))
        # Where no query has anything right there is nothing to be found.
        parts = {metric: parts[metric] for metric in task.metrics if parts[metric][1].sum()}
        targets = [one for number in found.numbers for one in right[number]]
        return ItemScores(
            owners=np.array(owners, np.int64)[found.numbers],
            parts=parts,
            values={metric: ratio(*both) for metric, both in parts.items()},
            top_share=top_share(found.tops.tolist()),
            gold_top_share=top_share(targets),
            chance={metric: chance[metric] for metric in parts},
        )


KIND = RankingType()


class Ranked(NamedTuple):
    """Of each query that has something right in the pool, ``n`` of them."""

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
    """Average precision of every query at ``cutoff``, and whether its first candidate is right.

    Vectors (n, width) and (m, width), compared by their product; ``right``: of each query the
    numbers of its right candidates. Queries that have none are left out.
    Wrong ones come first at a tie, and what is not a number ranks last. Memory beside the vectors
    does not grow with n * m.
    """
    asked = [number for number, row in enumerate(right) if len(row)]
    precisions, firsts, tops = [], [], []
    step = max(1, _NUMBERS_AT_ONCE // max(len(candidates), 1))
    for begin in range(0, len(asked), step):
        numbers = asked[begin : begin + step]
        for number, nearness in zip(numbers, queries[numbers] @ candidates.T, strict=True):
            ranks = _ranks(nearness, np.asarray(right[number]))
            hits = np.arange(1, len(ranks) + 1) / ranks
            precisions.append(hits[ranks <= cutoff].sum() / min(len(ranks), cutoff))
            firsts.append(ranks[0] == 1)
            tops.append(nearness.argmax())
    return Ranked(
        np.array(asked, np.int64),
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
    own = -np.sort(-nearness[right])
    # Not below instead of at least, so that what is not a number counts against the query.
    before = np.array([(~(nearness < one)).sum() - (~(own < one)).sum() for one in own])
    return np.asarray(before + np.arange(1, len(own) + 1))


def _example(line: str, path: Path, number: int) -> RankingExample:
    example = _of_cells(json_object(line, path, number), path, number)
    if not example.id:
        raise line_error(path, number, "has no id")
    if not example.query and not example.candidate:
        raise line_error(path, number, "has neither query nor candidate")
    return example


def _of_cells(cells: Mapping[str, Any], path: Path, number: int) -> RankingExample:
    def text(key: str) -> str:
        found = cells.get(key)
        if not isinstance(found, str | int | None):
            raise line_error(path, number, f"{key} is not text")
        return "" if found is None else str(found).strip()

    relevant = cells.get("relevant", [])
    if not isinstance(relevant, list) or not all(isinstance(one, str | int) for one in relevant):
        raise line_error(path, number, "relevant is not a list of ids")
    names = tuple(str(one).strip() for one in relevant)
    if names and not text("query"):
        raise line_error(path, number, "relevant: no query has these ids")
    return RankingExample(text("id"), text("query"), text("candidate"), text("language"), names)
