from __future__ import annotations

import warnings

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xlt_ray.data.metrics import conll_f1, entity_f1, macro_f1
from xlt_ray.data.task import task_named
from xlt_ray.data.types.base import Predictions, kind_of
from xlt_ray.data.types.mining import MiningExample

TAGS = st.sampled_from(["O", "B-PER", "I-PER", "B-LOC", "I-LOC"])


def score(task, gold, predicted, language="en"):
    return kind_of(task).score(Predictions(language, gold, predicted))


def sentences_of(tags):
    return st.integers(1, 9).flatmap(
        lambda length: st.tuples(*[st.lists(tags, min_size=length, max_size=length)] * 2)
    )


@settings(deadline=None)  # the first call imports scikit-learn
@given(st.lists(sentences_of(TAGS), min_size=1, max_size=6))
def test_entity_f1_is_that_of_seqeval_in_strict_mode(pairs):
    from seqeval.metrics import f1_score
    from seqeval.scheme import IOB2

    gold, predicted = [list(side) for side in zip(*pairs, strict=True)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = f1_score(gold, predicted, mode="strict", scheme=IOB2, zero_division=0)
    has_entity = any(tag.startswith("B-") for tags in gold for tag in tags)
    assert entity_f1(gold, predicted) == (pytest.approx(expected) if has_entity else None)


@settings(deadline=None)
@given(sentences_of(st.sampled_from("abcd")))
def test_macro_f1_is_that_of_scikit_learn_over_gold_labels(pair):
    from sklearn.metrics import f1_score

    gold, predicted = pair
    expected = f1_score(gold, predicted, labels=sorted(set(gold)), average="macro", zero_division=0)
    assert macro_f1(gold, predicted) == pytest.approx(expected)


def test_pairs_are_scored_by_example_and_the_headline_comes_first():
    scores = score(task_named("pawsx"), ["0", "1", "1", "1"], ["0", "1", "1", "0"])
    assert next(iter(scores)) == "accuracy"
    assert scores == {"accuracy": 0.75, "macro_f1": pytest.approx((2 / 3 + 4 / 5) / 2)}


def test_tags_are_scored_by_word_over_all_sentences():
    scores = score(task_named("pos"), [["NOUN", "VERB"], ["X"]], [["NOUN", "NOUN"], ["X"]])
    assert scores["accuracy"] == pytest.approx(2 / 3)


@settings(deadline=None)
@given(st.lists(sentences_of(TAGS), min_size=1, max_size=6))
def test_lenient_f1_is_that_of_seqeval_as_the_benchmark_calls_it(pairs):
    from seqeval.metrics import f1_score

    gold, predicted = [list(side) for side in zip(*pairs, strict=True)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = f1_score(gold, predicted)
    has_entity = any(tag != "O" for tags in gold for tag in tags)
    assert conll_f1(gold, predicted) == (pytest.approx(expected) if has_entity else None)


def test_an_entity_that_begins_inside_counts_for_the_lenient_f1_alone():
    scores = score(task_named("ner-panx"), [["B-PER", "I-PER", "O"]], [["I-PER", "I-PER", "O"]])
    assert (scores["f1"], scores["conll_f1"]) == (0.0, 1.0)


@pytest.mark.parametrize(
    ("gold", "predicted", "expected"),
    [
        (["NOUN", "NOUN", "VERB"], ["NOUN", "VERB", "VERB"], 0.0),
        (["DET", "NOUN", "NOUN", "VERB"], ["DET", "NOUN", "NOUN", "NOUN"], 0.4),
        (["DET", "CCONJ"], ["DET", "SCONJ"], 1.0),
    ],
)
def test_parts_of_speech_are_chunks_of_equal_tags(gold, predicted, expected):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        scores = score(task_named("pos"), [gold], [predicted])["conll_f1"]
    assert scores == pytest.approx(expected)


ONE_OF_EACH_KIND = {
    "pos": ("NOUN",),
    "ner-uner": ("O",),
    "pawsx": "0",
    "xquad": ("Ada",),
    "stsb-score": 1.0,
    "xcopa": 1,
    "tatoeba": None,
    "lareqa": None,
    "bucc-mining": MiningExample("d1", "de", "a", ()),
}
"""Task -> gold of an example."""


@pytest.mark.parametrize("name", ONE_OF_EACH_KIND)
def test_nothing_to_score_has_no_score(name):
    assert score(task_named(name), [], []) == {}


@pytest.mark.parametrize("name", ONE_OF_EACH_KIND)
def test_lengths_that_differ_are_our_mistake(name):
    with pytest.raises(ValueError, match=r"inconsistent numbers|is shorter|1 \w+( scores)?, 0 "):
        score(task_named(name), [ONE_OF_EACH_KIND[name]], [])


@pytest.mark.parametrize("name", ["ner-panx", "ner-uner", "ner-masakha"])
@pytest.mark.parametrize("prediction", [["O", "O"], ["B-PER", "I-PER"]], ids=["none", "some"])
def test_entities_have_no_f1_where_gold_has_none_whatever_is_predicted(name, prediction):
    scores = score(task_named(name), [["O", "O"]], [prediction])
    assert scores == {"accuracy": 1.0 if prediction == ["O", "O"] else 0.0}


@pytest.mark.parametrize("name", ["ner-panx", "ner-uner", "ner-masakha"])
def test_the_headline_of_entities_is_the_lenient_f1_of_the_published_scripts(name):
    gold, prediction = [["B-PER", "O", "B-LOC", "O"]], [["B-PER", "O", "O", "I-LOC"]]
    scores = score(task_named(name), gold, prediction)
    assert next(iter(scores)) == "conll_f1"
    # The strict one sees no wrong entity in the stray tag, and flatters.
    assert (scores["conll_f1"], scores["f1"]) == (0.5, pytest.approx(2 / 3))


@pytest.mark.parametrize("name", ["pos", "ner-uner"])
def test_sentences_of_other_lengths_are_our_mistake(name):
    with pytest.raises(ValueError, match=r"inconsistent numbers|gold tags|[Ff]ound"):
        score(task_named(name), [["O"]], [["O", "O"]])
