"""Item scores of every kind: they sum up to the metric, hold no label, and know the constant."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import pearsonr, spearmanr
from sklearn.metrics import f1_score

from xlt_ray.data.item_scores import (
    ItemScores,
    label_counts,
    macro_f1_without,
    pearson_without,
    ratio,
    spearman_without,
)
from xlt_ray.data.metrics import chunk_counts, conll_f1, entity_f1
from xlt_ray.data.task import Task, load_tasks, task_named
from xlt_ray.data.types import mining, ranking
from xlt_ray.data.types.base import Predictions, kind_of
from xlt_ray.data.types.ranking import chance_precision
from xlt_ray.store.record import Score

SEEDS = st.integers(0, 10**6)
NUMS = st.integers(0, 25)


def random_answers(task: Task, num: int, seed: int, *, is_constant: bool = False):
    """Gold and predictions of a kind, random, or the same prediction for everything."""
    random = np.random.default_rng(seed)

    def vectors() -> np.ndarray:
        return np.ones((num, 4)) if is_constant else random.normal(size=(num, 4))

    def labels(choices, size):
        choice = random.choice(choices)
        return [choice] * size if is_constant else random.choice(choices, size).tolist()

    if task.kind in ("pair", "text"):
        return random.choice(task.labels, num).tolist(), labels(task.labels, num)
    if task.kind == "choice":
        return random.integers(0, task.options, num).tolist(), labels(range(task.options), num)
    if task.kind == "score":
        low, high = task.range
        gold = np.round(random.uniform(low, high, num), 1)
        predicted = np.full(num, low) if is_constant else gold + random.normal(0, high - low, num)
        return gold.tolist(), predicted.tolist()
    if task.kind == "span":
        words = ["the cat", "cat", "", "a dog barks"] if task.spans.has_unanswerable else ["a b"]
        words += ["Ada", "Ada wrote", "1843"]
        gold = [tuple(random.choice(words, random.integers(1, 3))) for _ in range(num)]
        return gold, labels(words, num)
    if task.kind == "tag":
        lengths = random.integers(1, 8, num).tolist()
        gold = [tuple(random.choice(task.labels, size)) for size in lengths]
        label = random.choice(task.labels)
        predicted = [
            (label,) * size if is_constant else tuple(random.choice([*task.labels, "O"], size))
            for size in lengths
        ]
        return gold, predicted
    if task.kind == "retrieval":
        return [None] * num, list(zip(vectors(), vectors(), strict=True))
    if task.kind == "ranking":
        gold = [
            ranking.Wanted(str(n), "en" if n % 2 else "de", (str(random.integers(0, num)),))
            for n in range(num)
        ]
        queries = [vector if n % 3 else None for n, vector in enumerate(vectors())]
        return gold, list(zip(queries, vectors(), strict=True))
    assert task.kind == "mining"
    gold = [
        mining.MiningExample(
            str(n), task.pivot if n % 2 else "de", f"text {n}", (str(n + 1),) if n % 4 == 0 else ()
        )
        for n in range(num)
    ]
    return gold, list(vectors())


def scored(task: Task, num: int, seed: int, **kinds) -> ItemScores:
    gold, predicted = random_answers(task, num, seed, **kinds)
    return kind_of(task).item_scores(Predictions("en", gold, predicted))


@pytest.mark.parametrize("task", load_tasks(), ids=lambda task: task.name)
@settings(deadline=None, max_examples=6)
@given(num=NUMS, seed=SEEDS)
def test_the_metric_is_the_ratio_of_the_sums_over_items(task: Task, num: int, seed: int) -> None:
    if not task.labels and task.kind in ("pair", "tag"):
        pytest.skip("its labels are made by the user")
    gold, predicted = random_answers(task, num, seed)
    kind = kind_of(task)
    scores = kind.item_scores(Predictions("en", gold, predicted))
    assert scores.values == pytest.approx(kind.score(Predictions("en", gold, predicted)))
    assert list(scores.values) == list(scores.parts) == list(scores.chance)
    assert list(scores.values) == [metric for metric in task.metrics if metric in scores.values]
    for metric, (points, out_of) in scores.parts.items():
        assert ratio(points, out_of) == pytest.approx(scores.values[metric], abs=1e-9)
        assert len(points) == len(out_of) == len(scores.owners)
    assert len(set(scores.owners.tolist())) == len(scores.owners) <= num


@settings(deadline=None)
@given(num=st.integers(2, 25), seed=SEEDS, data=st.data())
@pytest.mark.parametrize("name", ["pos", "ner-panx", "xnli", "mlqa", "tatoeba"])
def test_resampled_items_give_the_metric_of_resampled_examples(name, num, seed, data) -> None:
    task = task_named(name)
    gold, predicted = random_answers(task, num, seed)
    kind = kind_of(task)
    scores = kind.item_scores(Predictions("en", gold, predicted))
    drawn = data.draw(st.lists(st.integers(0, num - 1), min_size=1, max_size=num))
    # Macro F1 is linear in its items only about the sample; a pool of candidates does not shrink.
    exact = [metric for metric in scores.parts if metric != "macro_f1" and task.kind != "retrieval"]
    if exact:
        again = kind.score(
            Predictions("en", [gold[n] for n in drawn], [predicted[n] for n in drawn])
        )
    for metric in (metric for metric in exact if metric in again):
        points, out_of = scores.parts[metric]
        assert ratio(points[drawn], out_of[drawn]) == pytest.approx(again[metric])


@settings(deadline=None)
@given(num=st.integers(3, 30), seed=SEEDS, step=st.sampled_from([0.1, 1.0]))
def test_correlations_without_an_item_are_those_of_the_others(num, seed, step) -> None:
    random = np.random.default_rng(seed)
    first, second = (np.round(random.normal(size=num) / step) * step for _ in range(2))
    for measure, without in ((pearsonr, pearson_without), (spearmanr, spearman_without)):
        exact = without(first, second)
        for number in range(num):
            sides = [np.delete(side, number) for side in (first, second)]
            expected = 0.0 if any(np.ptp(side) == 0 for side in sides) else measure(*sides)[0]
            assert exact[number] == pytest.approx(expected, abs=1e-9)


def test_blocks_of_ranks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    from xlt_ray.data import item_scores

    first, second = np.random.default_rng(1).integers(0, 9, (2, 50))
    whole = spearman_without(first, second)
    monkeypatch.setattr(item_scores, "_NUMBERS_AT_ONCE", 170)
    assert (spearman_without(first, second) == whole).all()


@settings(deadline=None, max_examples=30)
@given(rows=st.lists(st.tuples(*[st.sampled_from("abc_")] * 2), min_size=2, max_size=15))
def test_macro_f1_without_an_item_is_that_of_the_others(rows) -> None:
    gold, predicted = ([row[side] for row in rows] for side in (0, 1))
    exact = macro_f1_without(
        *label_counts([[label] for label in gold], [[label] for label in predicted])
    )
    for number in range(len(rows)):
        mine, theirs = ([*side[:number], *side[number + 1 :]] for side in (gold, predicted))
        expected = f1_score(
            mine, theirs, labels=sorted(set(mine)), average="macro", zero_division=0
        )
        assert exact[number] == pytest.approx(expected)


TAGS = st.lists(st.sampled_from(["O", "B-PER", "I-PER", "B-LOC", "I-LOC"]), max_size=9)


@settings(deadline=None)
@given(st.lists(st.tuples(TAGS, TAGS), min_size=1, max_size=6))
def test_chunks_counted_by_sentence_are_those_of_seqeval(pairs) -> None:
    gold, predicted = ([pair[side][: min(map(len, pair))] for pair in pairs] for side in (0, 1))
    for is_strict, whole in ((True, entity_f1), (False, conll_f1)):
        right, counted, wanted = chunk_counts(gold, predicted, is_strict=is_strict)
        expected = 2 * right.sum() / (counted.sum() + wanted.sum()) if wanted.sum() else None
        assert whole(gold, predicted) == (pytest.approx(expected) if wanted.sum() else None)


@pytest.mark.parametrize(
    "name", ["xnli", "pawsx", "pos", "xcopa", "stsb-score", "mlqa", "tatoeba", "lareqa"]
)
def test_the_same_prediction_for_everything_has_a_share_of_one(name: str) -> None:
    task = task_named(name)
    same = scored(task, 200, 3, is_constant=True)
    assert same.top_share == 1.0
    varied = scored(task, 200, 3)
    assert varied.top_share < 0.8
    assert same.gold_top_share == varied.gold_top_share < 0.8
    for found in (same, varied):
        score = Score(name, "de", "test", task.metrics[0], 0.5, 200, num_items=200)
        shares = {"top_share": found.top_share, "gold_top_share": found.gold_top_share}
        assert replace(score, **shares).is_near_constant == (found is same)
    assert all(0 <= value < 1 for value in same.chance.values())


@pytest.mark.parametrize("name", ["xnli", "pawsx", "pos", "ner-panx", "xcopa", "stsb-score"])
@pytest.mark.parametrize("seed", [0, 1])
def test_items_are_the_same_whatever_the_labels_are_called(name: str, seed: int) -> None:
    """So that no label can be read from them: every other naming gives the same numbers."""
    task = task_named(name)
    gold, predicted = random_answers(task, 60, seed)

    def renamed(answers):
        turn = dict(zip(task.labels, (*task.labels[1:], *task.labels[:1]), strict=True))
        if task.kind == "score":
            return [sum(task.range) - answer for answer in answers]
        if task.kind == "choice":
            return [task.options - 1 - answer for answer in answers]
        if name == "ner-panx":
            types = {"PER": "LOC", "LOC": "ORG", "ORG": "PER"}
            swap = {tag: tag[:2] + types.get(tag[2:], "") for tag in task.labels}
            return [tuple(swap[tag] for tag in tags) for tags in answers]
        if task.kind == "tag":
            return [tuple(turn.get(tag, tag) for tag in tags) for tags in answers]
        return [turn[answer] for answer in answers]

    kind = kind_of(task)
    scores = kind.item_scores(Predictions("de", gold, predicted))
    other = kind.item_scores(Predictions("de", renamed(gold), renamed(predicted)))
    metrics = set(task.metrics)
    # Runs of parts of speech differ in their letters behind the first.
    metrics -= {"conll_f1"} if name == "pos" else set()
    for metric in metrics:
        for left, right in zip(scores.parts[metric], other.parts[metric], strict=True):
            assert left == pytest.approx(right, abs=1e-9)


def test_chance_is_what_the_most_frequent_right_answer_scores() -> None:
    task = task_named("xnli")
    first, second = task.labels[:2]
    scores = kind_of(task).item_scores(
        Predictions("de", [first, first, first, second], [second] * 4)
    )
    assert scores.chance["accuracy"] == scores.gold_top_share == 0.75
    assert scores.values["accuracy"] == 0.25
    entities = task_named("ner-panx")
    gold = [("B-PER", "O", "O"), ("O", "O")]
    scores = kind_of(entities).item_scores(Predictions("de", gold, gold))
    assert scores.chance["f1"] == scores.chance["conll_f1"] == 0.0
    assert scores.top_share == scores.gold_top_share == 0.8


@settings(deadline=None, max_examples=20)
@given(st.integers(1, 6), st.integers(0, 4), st.integers(1, 5))
def test_chance_of_a_ranking_is_the_mean_over_all_orders(num, more, cutoff) -> None:
    from itertools import permutations

    num_right, size = min(num, 3), min(num, 3) + min(more, 3)
    precisions = []
    for order in permutations(range(size)):
        ranks = np.array([rank for rank, item in enumerate(order, 1) if item < num_right])
        hits = np.arange(1, num_right + 1) / ranks
        precisions.append(hits[ranks <= cutoff].sum() / min(num_right, cutoff))
    expected = float(np.mean(precisions))
    assert chance_precision(np.array([num_right]), size, cutoff) == pytest.approx([expected])
