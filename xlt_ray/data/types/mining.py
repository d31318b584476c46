"""Mining: which sentences of two collections are translations of each other? (BUCC)

Read from JSON lines, each a sentence of the file's language or of the pivot; ``gold`` names
translations on the other side, and a pair may be named on either of its lines::

    {"id": "de-000000042", "language": "de", "sentence": "Guten Tag.", "gold": ["en-000000007"]}
    {"id": "en-000000007", "language": "en", "sentence": "Good day."}
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from xlt_ray.config.facts import Split
from xlt_ray.data.item_scores import ItemScores, of_counts, ratio, top_share
from xlt_ray.data.text.lines import RAISED, Faults, line_error
from xlt_ray.data.types.base import Example, Predictions
from xlt_ray.data.types.sentence_vectors import (
    NUM_NEIGHBOURS,
    SentenceVectorsType,
    ids_field,
    lines_by_id,
    of_length_one,
    over_mean,
    text_field,
)
from xlt_ray.errors import DataError

Scoring = Literal["margin", "cosine"]

_SUFFIXES: dict[Scoring, str] = {"margin": "", "cosine": "_cosine"}
_NUMBERS_AT_ONCE = 2**25
"""Cosines that are computed at once, 128 MiB of them; a sentence's own are always all there."""


class Near(NamedTuple):
    """The nearest sentences of the other side of each sentence of one side, nearest first."""

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
class MiningExample(Example):
    """A sentence of one of the two sides, and the ids of its translations."""

    label_field = "translations"
    language: str
    sentence: str
    translations: tuple[str, ...] | None

    @property
    def gold(self) -> MiningExample | None:
        return None if self.translations is None else self

    def sentences(self) -> tuple[tuple[str, ...], ...]:
        return (tuple(self.sentence.split()),)


class MiningType(SentenceVectorsType):
    """Gold is the example itself, a prediction the vector of its sentence; nothing is trained."""

    example = MiningExample
    width = 1

    def read(self, path: Path, split: Split, faults: Faults = RAISED) -> Iterator[MiningExample]:
        """Sentences of both sides by turns, each side in the order of the file."""
        code, pivot = path.name.partition(".")[0], self.task.pivot

        def refuse_faulty(example: MiningExample, number: int) -> None:
            if not example.sentence:
                raise line_error(path, number, "has no sentence")
            if example.language not in (code, pivot):
                problem = f"language {example.language!r} is neither {code} nor {pivot}"
                raise line_error(path, number, problem)

        by_id = lines_by_id(path, faults, _of_fields, refuse_faulty)
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
            sides[example.language == pivot].append(example)
        for pair in zip_longest(*sides):
            yield from (example for example in pair if example is not None)

    def of_row(
        self, row: Mapping[str, Any], name: str, path: Path, number: int
    ) -> MiningExample | None:
        """None for a row without text; its id, where others name it, has to be unique."""
        fields = {**row, "id": name, "gold": row.get("gold") or []}
        example = _of_fields(fields, path, number)
        return example if example.sentence else None

    def joined(self, example: Example, parts: Sequence[np.ndarray]) -> np.ndarray:
        (vector,) = parts
        return vector

    def item_scores(self, split: Predictions) -> ItemScores:
        """Items are the sentences of the language. Thresholds are those of best F1 on the dev set;
        without one, those that are best for these very sentences, which a dev set reaches.

        Chance is a random one-to-one pairing of all sentences.
        """
        pivot, metrics = self.task.pivot, self.task.metrics
        gold, by_score = split.gold, judged(pivot, split.gold, split.predicted)
        tuned_on = by_score if split.dev is None else judged(pivot, *split.dev)
        owners = np.array([n for n, line in enumerate(gold) if line.language != pivot], np.int64)
        sides = (len(owners), len(gold) - len(owners))
        num_gold, num_pairs = by_score["margin"].num_gold, min(sides)
        expected = num_pairs * num_gold / (sides[0] * sides[1]) if num_pairs else 0.0
        by_chance = [np.array([count]) for count in (expected, num_pairs, num_gold)]
        values, parts, chance = {}, {}, {}
        for scoring, suffix in _SUFFIXES.items():
            candidates, threshold = by_score[scoring], best_threshold(tuned_on[scoring])
            is_taken = candidates.scores >= threshold
            counts = [
                np.bincount(places, minlength=len(gold))[owners]
                for places in (
                    candidates.owners[is_taken & candidates.is_right],
                    candidates.owners[is_taken],
                    candidates.gold_owners,
                )
            ]
            for metric, value in measures(candidates, threshold).items():
                values[f"{metric}{suffix}"] = value
                parts[f"{metric}{suffix}"] = of_counts(metric, *counts)
                chance[f"{metric}{suffix}"] = ratio(*of_counts(metric, *by_chance))
        return ItemScores(
            owners=owners,
            parts={metric: parts[metric] for metric in metrics if metric in parts},
            values={metric: values[metric] for metric in metrics if metric in values},
            top_share=by_score["margin"].hub,
            gold_top_share=1 / sides[1] if sides[1] else 0.0,
            chance={metric: chance[metric] for metric in metrics if metric in chance},
        )


def judged(
    pivot: str, gold: Sequence[MiningExample], predicted: Sequence[np.ndarray]
) -> dict[Scoring, Judged]:
    """What is mined of all sentences, by either score.

    Of the gold list those pairs count of which both sentences are there. As in LASER's script,
    sentences of the same text are one, and count for nothing, neither right nor wrong, because
    nothing says which of them is meant.
    """
    if len(gold) != len(predicted):
        raise ValueError(f"{len(gold)} sentences, {len(predicted)} vectors")
    side_of = {line.id: line.language == pivot for line in gold}
    wanted = {
        (name, line.id) if side_of[line.id] else (line.id, name)
        for line in gold
        for name in line.translations or ()
        if side_of.get(name, side_of[line.id]) != side_of[line.id]
    }
    ids: tuple[dict[str, str | None], dict[str, str | None]] = ({}, {})
    vectors: tuple[list[np.ndarray], list[np.ndarray]] = ([], [])
    for line, vector in zip(gold, predicted, strict=True):
        side = side_of[line.id]
        if line.sentence in ids[side]:
            ids[side][line.sentence] = None
        else:
            ids[side][line.sentence] = line.id
            vectors[side].append(vector)
    names = [list(side.values()) for side in ids]
    by_score: dict[Scoring, Judged] = {}
    place_of = {line.id: place for place, line in enumerate(gold)}
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


def nearest_of(first: np.ndarray, second: np.ndarray, num_neighbours: int) -> Near:
    """The nearest of ``second`` (m, width) of each of ``first`` (n, width), by the cosine.

    All of them where there are fewer; of two that are equally near the earlier one. Nothing is
    near to a vector of zeros, or to one that is not a number (cosine 0). Memory beside the vectors
    does not grow with n * m.
    """
    first, second = (_sound(side) for side in (first, second))
    shape = (len(first), min(num_neighbours, len(second)))
    numbers, cosines = np.zeros(shape, np.int64), np.zeros(shape, np.float64)
    step = max(1, _NUMBERS_AT_ONCE // max(len(second), 1))
    for begin in range(0, len(first), step):
        block = first[begin : begin + step] @ second.T
        rows = np.arange(len(block))
        for place in range(shape[1]):
            best = block.argmax(axis=1)
            numbers[begin : begin + step, place] = best
            cosines[begin : begin + step, place] = block[rows, best]
            block[rows, best] = -np.inf
    return Near(numbers, cosines)


def candidates(forward: Near, backward: Near, scoring: Scoring) -> Mined:
    """The best of each sentence in both directions, as far as no sentence is used twice.

    As LASER does and XTREME's ``utils_retrieve.py`` after it (seen; ``max`` retrieval, k = 4): all
    are sorted by their score, the ratio margin or the cosine, and one counts where neither of its
    sentences stands in a better one. ``forward`` looks for the first side in the second,
    ``backward`` the other way round; of equal scores the forward one comes first, and the earlier
    sentence.
    """
    means = (forward.cosines.mean(axis=1), backward.cosines.mean(axis=1))
    pairs, scores = [], []
    for near, mean, mean_of_others in ((forward, *means), (backward, *means[::-1])):
        values = near.cosines
        if scoring == "margin":
            values = over_mean(values, (mean[:, None] + mean_of_others[near.numbers]) / 2)
        places = values.argmax(axis=1)[:, None]
        best = np.take_along_axis(near.numbers, places, axis=1)
        pairs.append(np.concatenate([np.arange(len(best))[:, None], best], axis=1))
        scores.append(np.take_along_axis(values, places, axis=1)[:, 0])
    all_pairs = np.concatenate([pairs[0], pairs[1][:, ::-1]])
    all_scores = np.concatenate(scores)
    used: tuple[set[int], set[int]] = (set(), set())
    kept = []
    for number in np.argsort(-all_scores, kind="stable").tolist():
        sentence, partner = all_pairs[number].tolist()
        if all_scores[number] > 0 and sentence not in used[0] and partner not in used[1]:
            used[0].add(sentence)
            used[1].add(partner)
            kept.append(number)
    return Mined(all_pairs[kept], all_scores[kept])


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

    >>> mined = Judged(np.array([0.9, 0.8, 0.2]), np.array([True, False, True]), num_gold=2)
    >>> measures(mined, 0.5)
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


def _mined_by_score(
    vectors: Sequence[Sequence[np.ndarray]],
) -> tuple[dict[Scoring, Mined], float]:
    """Candidates by either score, and the share of :attr:`Judged.hub`."""
    if not all(vectors):
        nothing = Mined(np.zeros((0, 2), np.int64), np.zeros(0))
        return dict.fromkeys(_SUFFIXES, nothing), 0.0
    first, second = (np.stack(side) for side in vectors)
    forward = nearest_of(first, second, NUM_NEIGHBOURS)
    backward = nearest_of(second, first, NUM_NEIGHBOURS)
    mined = {scoring: candidates(forward, backward, scoring) for scoring in _SUFFIXES}
    return mined, top_share(forward.numbers[:, 0].tolist())


def _sound(vectors: np.ndarray) -> np.ndarray:
    """Vectors made 1 long; those that are not numbers are zeros."""
    is_finite = np.isfinite(vectors).all(axis=1, keepdims=True)
    return of_length_one(np.where(is_finite, vectors, 0.0).astype(vectors.dtype, copy=False))


def _of_fields(fields: Mapping[str, Any], path: Path, number: int) -> MiningExample:
    name, language, sentence = (
        text_field(fields, key, path, number) for key in ("id", "language", "sentence")
    )
    return MiningExample(name, language, sentence, ids_field(fields, "gold", path, number))
