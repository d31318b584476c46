"""Mining: which sentences of two collections are translations of each other? (BUCC)

Read from JSON lines, each a sentence of the file's language or of the pivot::

    {"id": "de-000000042", "language": "de", "sentence": "Guten Tag.", "gold": ["en-000000007"]}
    {"id": "en-000000007", "language": "en", "sentence": "Good day."}

``gold`` names translations on the other side; a pair may be told on either of its lines. Most
sentences have none. Nothing is trained: a sentence is the mean of its pieces at one layer.

Candidates are mined as LASER does and XTREME's ``utils_retrieve.py`` after it (seen, ``max``
retrieval, k = 4): of every sentence the k nearest of the other side are looked at and the best of
them is a candidate, in both directions; all candidates are sorted by their score, and one counts
where neither of its sentences stands in a better one. The score is the ratio margin of
:mod:`xlt_ray.data.types.retrieval`, as XTREME has it, or the plain cosine; one that is not positive
is none. A pair is taken where its score reaches the threshold of best F1 on the dev set of the same
language, midway between two candidates. As there, sentences of the same text are one, and count for
nothing, neither right nor wrong, because it cannot be told which of them is meant.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from xlt_ray.config.facts import Split
from xlt_ray.data.item_scores import ItemScores, of_counts, ratio, top_share
from xlt_ray.data.task import Task
from xlt_ray.data.text.lines import RAISED, Faults, json_object, line_error, lines
from xlt_ray.data.types.sentence_vectors import NUM_NEIGHBOURS, SentenceVectorsType, of_length_one
from xlt_ray.errors import DataError

Scoring = Literal["margin", "cosine"]

_SUFFIXES: dict[Scoring, str] = {"margin": "", "cosine": "_cosine"}
_NUMBERS_AT_ONCE = 2**25
"""Cosines that are computed at once, 128 MiB of them; a sentence's own are always all there."""


class Wanted(NamedTuple):
    """What a line says of its sentence."""

    name: str
    language: str
    sentence: str
    gold: tuple[str, ...]


class Near(NamedTuple):
    """Of each sentence of one side its nearest ones of the other, nearest first."""

    numbers: np.ndarray
    """(n, k) int64."""
    cosines: np.ndarray
    """(n, k) float64."""


class Mined(NamedTuple):
    """Candidates, best first; no sentence of either side is there twice."""

    pairs: np.ndarray
    """(n, 2) int64: the number of a sentence of the first side, and of one of the second."""
    scores: np.ndarray
    """(n,) float64, descending and positive."""


class Judged(NamedTuple):
    """Candidates against the gold list."""

    scores: np.ndarray
    """(n,) float64, descending."""
    is_right: np.ndarray
    """(n,) bool."""
    num_gold: int
    owners: np.ndarray = np.zeros(0, np.int64)
    """(n,) int64: the example that the first sentence of each candidate is."""
    gold_owners: np.ndarray = np.zeros(0, np.int64)
    """(num_gold,) int64: the same of the gold list."""
    hub: float = 0.0
    """Share of the first side's sentences that are nearest to one and the same of the second."""


@dataclass(frozen=True, slots=True)
class MiningExample:
    """A sentence of one of the two sides; ``translations`` is None where it is hidden."""

    id: str
    language: str
    sentence: str
    translations: tuple[str, ...] | None

    @property
    def gold(self) -> Wanted | None:
        if self.translations is None:
            return None
        return Wanted(self.id, self.language, self.sentence, self.translations)

    def hidden(self) -> MiningExample:
        return replace(self, translations=None)

    def sentences(self) -> tuple[tuple[str, ...], ...]:
        return (tuple(self.sentence.split()),)


class MiningType(SentenceVectorsType):
    """Predictions are vectors of sentences."""

    def width(self, task: Task) -> int:
        return 1

    def read(
        self, path: Path, task: Task, split: Split, faults: Faults = RAISED
    ) -> Iterator[MiningExample]:
        """Sentences of both sides by turns, each side in the order of the file."""
        own = path.name.partition(".")[0]
        by_id: dict[str, tuple[int, MiningExample]] = {}
        for number, line in lines(path):
            if line.strip():
                with faults:
                    cells = json_object(line, path, number)
                    example = _of_cells(cells, path, number)
                    if not example.id:
                        raise line_error(path, number, "has no id")
                    if not example.sentence:
                        raise line_error(path, number, "has no sentence")
                    if example.id in by_id:
                        raise line_error(path, number, f"id {example.id!r} is repeated")
                    if example.language not in (own, task.pivot):
                        problem = f"language {example.language!r} is neither {own} nor {task.pivot}"
                        raise line_error(path, number, problem)
                    by_id[example.id] = (number, example)
        for number, example in by_id.values():
            with faults:
                for name in example.translations or ():
                    if name not in by_id or by_id[name][1].language == example.language:
                        problem = f"gold: no line {name!r} has a sentence of the other language"
                        raise line_error(path, number, problem)
        if by_id and not any(example.translations for _, example in by_id.values()):
            raise DataError(
                f"{path}: no line has gold, and nothing can be scored",
                remedy="gold: [ID, ...] at sentences that have translations",
            )
        sides: tuple[list[MiningExample], list[MiningExample]] = ([], [])
        for _, example in by_id.values():
            sides[example.language == task.pivot].append(example)
        for pair in zip_longest(*sides):
            yield from (example for example in pair if example is not None)

    def of_row(
        self, task: Task, row: Mapping[str, Any], name: str, path: Path, number: int
    ) -> MiningExample | None:
        """None for a row without text; its id, where others name it, has to be unique."""
        cells = {**row, "id": name, "gold": row.get("gold") or []}
        example = _of_cells(cells, path, number)
        return example if example.sentence else None

    def item_scores(
        self, task: Task, language: str, gold: Sequence[Wanted], predicted: Sequence[np.ndarray]
    ) -> ItemScores:
        """At the thresholds that are best for these very sentences: what a dev set reaches.

        Items are the sentences of the language; thresholds stay what they are.
        """
        candidates = judged(task, gold, predicted)
        return _item_scores(task, gold, candidates, candidates)

    def item_scores_tuned(
        self,
        task: Task,
        language: str,
        gold: Sequence[Wanted],
        predicted: Sequence[np.ndarray],
        dev: tuple[Sequence[Wanted], Sequence[np.ndarray]],
    ) -> ItemScores:
        """At the thresholds that are best for the dev set."""
        return _item_scores(task, gold, judged(task, gold, predicted), judged(task, *dev))


KIND = MiningType()


def judged(
    task: Task, gold: Sequence[Wanted], predicted: Sequence[np.ndarray]
) -> dict[Scoring, Judged]:
    """What is mined of all sentences, by either score.

    Of the gold list those pairs count of which both sentences are there.
    """
    if len(gold) != len(predicted):
        raise ValueError(f"{len(gold)} sentences, {len(predicted)} vectors")
    side_of = {sentence.name: sentence.language == task.pivot for sentence in gold}
    wanted = {
        (name, sentence.name) if side_of[sentence.name] else (sentence.name, name)
        for sentence in gold
        for name in sentence.gold
        if side_of.get(name, side_of[sentence.name]) != side_of[sentence.name]
    }
    texts: tuple[dict[str, str | None], dict[str, str | None]] = ({}, {})
    vectors: tuple[list[np.ndarray], list[np.ndarray]] = ([], [])
    for sentence, vector in zip(gold, predicted, strict=True):
        side = side_of[sentence.name]
        if sentence.sentence in texts[side]:
            texts[side][sentence.sentence] = None
        else:
            texts[side][sentence.sentence] = sentence.name
            vectors[side].append(vector)
    names = [list(side.values()) for side in texts]
    by_score: dict[Scoring, Judged] = {}
    place_of = {sentence.name: place for place, sentence in enumerate(gold)}
    gold_owners = np.array([place_of[sentence] for sentence, _ in wanted], np.int64)
    mined_by_score, hub = _mined_by_score(vectors)
    for scoring, mined in mined_by_score.items():
        pairs = [
            (names[0][sentence], names[1][partner]) for sentence, partner in mined.pairs.tolist()
        ]
        counts = np.array([None not in pair for pair in pairs], bool)
        is_right = np.array([pair in wanted for pair in pairs], bool)
        owners = np.array(
            [place_of[sentence] for sentence, partner in pairs if sentence and partner], np.int64
        )
        by_score[scoring] = Judged(
            mined.scores[counts], is_right[counts], len(wanted), owners, gold_owners, hub
        )
    return by_score


def nearest(first: np.ndarray, second: np.ndarray, num_neighbours: int) -> Near:
    """The nearest of ``second`` (m, width) of each of ``first`` (n, width), by the cosine.

    All of them where there are fewer; of two that are equally near the earlier one. Nothing is
    near to a vector of zeros, or to one that is no number (cosine 0). Memory beside the vectors
    does not grow with n * m.
    """
    one, other = (_sound(side) for side in (first, second))
    width = min(num_neighbours, len(other))
    numbers = np.zeros((len(one), width), np.int64)
    cosines = np.zeros((len(one), width), np.float64)
    step = max(1, _NUMBERS_AT_ONCE // max(len(other), 1))
    for begin in range(0, len(one), step):
        block = one[begin : begin + step] @ other.T
        rows = np.arange(len(block))
        for place in range(width):
            best = block.argmax(axis=1)
            numbers[begin : begin + step, place] = best
            cosines[begin : begin + step, place] = block[rows, best]
            block[rows, best] = -np.inf
    return Near(numbers, cosines)


def candidates(forward: Near, backward: Near, scoring: Scoring) -> Mined:
    """The best of each sentence in both directions, as far as no sentence is used twice.

    ``forward`` is of the first side among the second, ``backward`` the other way round. Of equal
    scores the forward one comes first, and the earlier sentence.
    """
    means = (forward.cosines.mean(axis=1), backward.cosines.mean(axis=1))
    best = []
    for near, own, other in ((forward, *means), (backward, *means[::-1])):
        values = near.cosines
        if scoring == "margin":
            mean = (own[:, None] + other[near.numbers]) / 2
            values = np.divide(values, mean, out=np.zeros_like(values), where=mean > 0)
        places = values.argmax(axis=1)[:, None]
        best.append(
            [np.take_along_axis(one, places, axis=1)[:, 0] for one in (near.numbers, values)]
        )
    (into, there), (out_of, back) = best
    pairs = np.concatenate(
        [
            np.stack([np.arange(len(into)), into], axis=1),
            np.stack([out_of, np.arange(len(out_of))], axis=1),
        ]
    )
    scores = np.concatenate([there, back])
    used: tuple[set[int], set[int]] = (set(), set())
    kept = []
    for number in np.argsort(-scores, kind="stable").tolist():
        one, other = pairs[number].tolist()
        if scores[number] > 0 and one not in used[0] and other not in used[1]:
            used[0].add(one)
            used[1].add(other)
            kept.append(number)
    return Mined(pairs[kept], scores[kept])


def best_threshold(candidates: Judged) -> float:
    """The threshold of best F1: midway between the last candidate taken and the next one.

    Where all are taken it is the score of the last; of several that are equally good it is the
    highest. 0 where no candidate is right, so that all are taken (so too in the benchmark).
    """
    scores, right = candidates.scores, candidates.is_right.cumsum()
    if not len(right) or not right[-1]:
        return 0.0
    # Candidates of one score are taken together or not at all.
    ends = np.append(np.flatnonzero(scores[1:] < scores[:-1]), len(scores) - 1)
    f1 = 2 * right[ends] / (ends + 1 + candidates.num_gold)
    last = int(ends[f1.argmax()])
    if last == len(scores) - 1:
        return float(scores[last])
    midway = float(scores[last] + scores[last + 1]) / 2
    # Between neighbouring floats there is nothing: midway may be the lower one.
    return midway if midway > scores[last + 1] else float(scores[last])


def measures(candidates: Judged, threshold: float) -> dict[str, float]:
    """F1, precision and recall of the candidates that reach a threshold; 0.0 where none is right,
    nothing where there is no pair to be found.

    >>> found = Judged(np.array([0.9, 0.8, 0.2]), np.array([True, False, True]), num_gold=2)
    >>> measures(found, 0.5)
    {'f1': 0.5, 'precision': 0.5, 'recall': 0.5}
    """
    if not candidates.num_gold:
        return {}
    is_taken = candidates.scores >= threshold
    num_taken, num_right = int(is_taken.sum()), int((is_taken & candidates.is_right).sum())
    if not num_right:
        return dict.fromkeys(("f1", "precision", "recall"), 0.0)
    return {
        "f1": 2 * num_right / (num_taken + candidates.num_gold),
        "precision": num_right / num_taken,
        "recall": num_right / candidates.num_gold,
    }


def _item_scores(
    task: Task,
    gold: Sequence[Wanted],
    by_score: Mapping[Scoring, Judged],
    dev: Mapping[Scoring, Judged],
) -> ItemScores:
    """Chance is a random one-to-one pairing of all sentences."""
    owners = np.array([n for n, one in enumerate(gold) if one.language != task.pivot], np.int64)
    sides = (len(owners), len(gold) - len(owners))
    num_gold, num_pairs = by_score["margin"].num_gold, min(sides)
    expected = num_pairs * num_gold / (sides[0] * sides[1]) if num_pairs else 0.0
    values, parts, chance = {}, {}, {}
    for scoring, suffix in _SUFFIXES.items():
        threshold = best_threshold(dev[scoring])
        is_taken = by_score[scoring].scores >= threshold
        counts = [
            np.bincount(places, minlength=len(gold))[owners]
            for places in (
                by_score[scoring].owners[is_taken & by_score[scoring].is_right],
                by_score[scoring].owners[is_taken],
                by_score[scoring].gold_owners,
            )
        ]
        by_chance = [np.array([one]) for one in (expected, num_pairs, num_gold)]
        for metric, value in measures(by_score[scoring], threshold).items():
            values[f"{metric}{suffix}"] = value
            parts[f"{metric}{suffix}"] = of_counts(metric, *counts)
            chance[f"{metric}{suffix}"] = ratio(*of_counts(metric, *by_chance))
    return ItemScores(
        owners=owners,
        parts={metric: parts[metric] for metric in task.metrics if metric in parts},
        values={metric: values[metric] for metric in task.metrics if metric in values},
        top_share=by_score["margin"].hub,
        gold_top_share=1 / sides[1] if sides[1] else 0.0,
        chance={metric: chance[metric] for metric in task.metrics if metric in chance},
    )


def _mined_by_score(
    vectors: Sequence[Sequence[np.ndarray]],
) -> tuple[dict[Scoring, Mined], float]:
    """Candidates by either score, and the share of :attr:`Judged.hub`."""
    if not all(vectors):
        nothing = Mined(np.zeros((0, 2), np.int64), np.zeros(0))
        return dict.fromkeys(_SUFFIXES, nothing), 0.0
    first, second = (np.stack(side) for side in vectors)
    forward = nearest(first, second, NUM_NEIGHBOURS)
    backward = nearest(second, first, NUM_NEIGHBOURS)
    mined = {scoring: candidates(forward, backward, scoring) for scoring in _SUFFIXES}
    return mined, top_share(forward.numbers[:, 0].tolist())


def _sound(vectors: np.ndarray) -> np.ndarray:
    """Vectors made 1 long; those that are no numbers are zeros."""
    is_finite = np.isfinite(vectors).all(axis=1, keepdims=True)
    return of_length_one(np.where(is_finite, vectors, 0.0).astype(vectors.dtype, copy=False))


def _of_cells(cells: Mapping[str, Any], path: Path, number: int) -> MiningExample:
    def text(key: str) -> str:
        found = cells.get(key)
        if not isinstance(found, str | int | None):
            raise line_error(path, number, f"{key} is not text")
        return "" if found is None else str(found).strip()

    gold = cells.get("gold", [])
    if not isinstance(gold, list) or not all(isinstance(one, str | int) for one in gold):
        raise line_error(path, number, "gold is not a list of ids")
    names = tuple(str(one).strip() for one in gold)
    return MiningExample(text("id"), text("language"), text("sentence"), names)
