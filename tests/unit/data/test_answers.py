"""Answers compared as SQuAD's and MLQA's scripts do."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xlt_ray.data.metrics import exact_match, normalised, token_f1
from xlt_ray.data.task import parse_task, task_named
from xlt_ray.data.types.base import Predictions, kind_of


@pytest.mark.parametrize(
    ("rule", "language", "text", "tokens"),
    [
        ("squad", "en", "The Norman-conquest,\n of  a king!", "normanconquest of king"),
        ("squad", "de", "die Stadt", "die stadt"),
        ("squad", "zh", "北京，大学。", "北京，大学。"),
        ("mlqa", "en", "“The” Beatles", "beatles"),
        ("mlqa", "de", "Die Stadt des Kindes", "stadt kindes"),
        ("mlqa", "es", "el Niño y la Niña", "niño y niña"),
        ("mlqa", "vi", "của những người", "người"),
        ("mlqa", "ar", "الكتاب", "كتاب"),
        ("mlqa", "hi", "भारत की राजधानी।", "भारत की राजधानी"),
        ("mlqa", "zh", "北京，1898年", "北 京 1898 年"),
        ("mlqa", "th", "กรุงเทพ มหานคร", "กรุงเทพ มหานคร"),
    ],
)
def test_answers_are_normalised_by_rule_and_language(rule, language, text, tokens):
    assert " ".join(normalised(text, rule, language)) == tokens


def test_f1_counts_a_token_as_often_as_it_stands():
    assert token_f1(("a", "b", "b"), ("b", "b", "c")) == pytest.approx(2 / 3)
    assert token_f1(("a",), ("b",)) == 0.0
    assert token_f1((), ()) == 0.0


@given(st.lists(st.sampled_from("abc"), min_size=1), st.lists(st.sampled_from("abc"), min_size=1))
def test_f1_is_symmetric_and_full_for_the_same_bag(first, other):
    value = token_f1(tuple(first), tuple(other))
    assert value == token_f1(tuple(other), tuple(first))
    assert (value == 1.0) == (sorted(first) == sorted(other))
    assert value >= exact_match(tuple(first), tuple(other))


def test_the_nearest_gold_answer_counts_and_scores_are_means_over_questions():
    task = task_named("xquad")
    gold = [("in the year 1066", "1066"), ("Normandy",)]
    scores = kind_of(task).score(Predictions("en", gold, ["1066.", "a duke of Normandy"]))
    assert list(scores) == ["f1", "em"]
    assert scores == {"f1": pytest.approx((1 + 1 / 2) / 2), "em": 0.5}


def test_the_articles_are_those_of_the_passage():
    english, german = task_named("mlqa-en"), task_named("mlqa")
    gold, predicted = [("die Hard",)], ["Hard"]
    assert kind_of(german).score(Predictions("de", gold, predicted))["em"] == 1.0
    assert kind_of(english).score(Predictions("de", gold, predicted))["em"] == 0.0


V2 = """\
name: squad2
kind: span
version: 1
title: T
metrics: [f1, em]
source: files
folder: qa/squad2
format: json
spans: {has_unanswerable: true}
"""


def test_no_answer_is_right_or_wrong_as_a_whole():
    task = parse_task(V2, "squad2.yaml")
    gold = [("",), ("",), ("Normandy",)]
    scores = kind_of(task).score(Predictions("en", gold, ["", "Normandy", ""]))
    assert scores == {"f1": pytest.approx(1 / 3), "em": pytest.approx(1 / 3)}


def version_two(answers: tuple[str, ...], predicted: str) -> dict[str, float]:
    """SQuAD v2's script, written anew: of one question."""
    right = [answer for answer in answers if normalised(answer, "squad", "en")] or [""]
    best = {"f1": 0.0, "em": 0.0}
    for first, second in (
        (normalised(a, "squad", "en"), normalised(predicted, "squad", "en")) for a in right
    ):
        same = sum(min(first.count(word), second.count(word)) for word in set(first))
        f1 = 2 * same / (len(first) + len(second)) if first and second else float(first == second)
        best = {"f1": max(best["f1"], f1), "em": max(best["em"], float(first == second))}
    return best


WORDS = st.lists(st.sampled_from(["The", "a", "cat", "sat", "!", "cat,"]), max_size=3)


@given(st.lists(WORDS.map(" ".join), min_size=1, max_size=3), WORDS.map(" ".join))
def test_questions_that_may_have_no_answer_are_scored_as_by_their_script(answers, predicted):
    task = parse_task(V2, "squad2.yaml")
    assert kind_of(task).score(Predictions("en", [tuple(answers)], [predicted])) == version_two(
        tuple(answers), predicted
    )
    assert version_two(("The",), "the") == {"f1": 1.0, "em": 1.0}


def test_an_answer_that_is_an_article_has_no_f1_where_every_question_has_one():
    task = task_named("xquad")
    assert kind_of(task).score(Predictions("en", [("The",)], ["the"])) == {"f1": 0.0, "em": 1.0}
