from __future__ import annotations

import subprocess
import sys
from collections import Counter

import pytest

from xlt_ray.config.task_types import KINDS
from xlt_ray.data.sampling import Rng
from xlt_ray.data.sources.toy_examples import DENIED, ENTAILED, OPEN, say_otherwise, toy_examples
from xlt_ray.data.sources.toy_source import SIZES, ToySource
from xlt_ray.data.sources.toy_world import (
    PIVOT,
    TOY_LANGUAGES,
    concepts,
    draw_clause,
    say,
    text_of,
    toy_words,
)
from xlt_ray.data.task import load_tasks, task_named

TASKS = [task for task in load_tasks() if task.source == "toy" and KINDS[task.kind].is_trained]


def test_generation_is_the_same_in_another_process():
    code = (
        "from xlt_ray.data.sources.toy_source import ToySource;"
        "from xlt_ray.data.task import task_named;"
        "s = ToySource(0); t = task_named('toy-nli');"
        "print(s.splits(t)['qac', 'dev'].digest, s.read(t, 'qac', 'dev')[7]);"
        "print(s.parallel_digest('qaf'), s.lexicon_digest('qab'))"
    )
    runs = {
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        ).stdout
        for _ in range(2)
    }
    assert len(runs) == 1


def test_another_seed_is_another_world(toy):
    other = ToySource(1)
    task = task_named("toy-nli")
    assert toy.read(task, PIVOT, "dev") != other.read(task, PIVOT, "dev")
    assert toy.splits(task)[PIVOT, "dev"] != other.splits(task)[PIVOT, "dev"]
    assert toy.lexicon_digest(PIVOT) != other.lexicon_digest(PIVOT)
    assert toy.parallel_digest(PIVOT) != other.parallel_digest(PIVOT)


def test_the_vocabulary_covers_every_text(toy):
    known = set(toy.vocabulary())
    for language in toy.parallel_languages():
        for text in toy.parallel(language).values():
            assert known.issuperset(text.split())
        for task in TASKS:
            for example in toy.read(task, language, "dev"):
                assert all(known.issuperset(words) for words in example.sentences())


def test_a_spelling_means_one_thing_in_each_language():
    for words in toy_words(0).values():
        forms = [form for all_forms in words.values() for form in all_forms]
        assert len(forms) == len(set(forms))


def test_shared_spellings_are_cognates_and_as_frequent_as_set():
    words = toy_words(0)
    for code, toy_language in TOY_LANGUAGES.items():
        own = [form for forms in words[code].values() for form in forms]
        relatives = [
            form for forms in words[toy_language.relatives or PIVOT].values() for form in forms
        ]
        shared = sum(first == second for first, second in zip(own, relatives, strict=True))
        if code == PIVOT:
            continue
        assert abs(shared / len(own) - toy_language.cognates) < 0.12
        assert shared == len(set(own) & set(relatives))


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.name)
def test_rows_are_translations_of_each_other(toy, task):
    pivot = toy.read(task, PIVOT, "test")
    for language in TOY_LANGUAGES:
        rows = toy.read(task, language, "test")
        assert [row.id for row in rows] == [row.id for row in pivot]
        if task.kind == "tag":
            assert [sorted(row.tags) for row in rows] == [sorted(row.tags) for row in pivot]
        elif task.kind == "span":
            sizes = [[len(row.answers[0].text.split()) for row in side] for side in (rows, pivot)]
            assert sizes[0] == sizes[1]
        elif task.kind == "ranking":
            assert [row.candidate for row in rows] == [row.candidate for row in pivot]
        else:
            assert [row.gold for row in rows] == [row.gold for row in pivot]


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.name)
def test_sizes_are_as_reported_and_labels_balanced(toy, task):
    for split, size in SIZES[task.name].items():
        rows = toy.read(task, PIVOT, split)
        assert len(rows) == size == toy.splits(task)[PIVOT, split].num_examples
        if task.kind == "pair":
            for label in task.labels:
                share = sum(row.label == label for row in rows) / size
                assert abs(share - 1 / len(task.labels)) < 0.08


def test_scores_are_spread_over_their_range_and_full_where_meanings_agree(toy):
    task = task_named("toy-similarity")
    rows = toy.read(task, PIVOT, "train")
    assert {row.score for row in rows if row.first == row.second} == {5.0}
    assert {round(row.score) for row in rows} == {0, 1, 2, 3, 4, 5}
    assert all(0 <= row.score <= 5 for row in rows)


def test_the_right_option_is_anywhere(toy):
    rows = toy.read(task_named("toy-choice"), PIVOT, "train")
    for place in range(3):
        assert abs(sum(row.label == place for row in rows) / len(rows) - 1 / 3) < 0.03


def test_an_answer_stands_in_its_passage_and_not_in_its_question(toy):
    for row in toy.read(task_named("toy-qa"), "qae", "dev"):
        (answer,) = row.answers
        assert row.passage[answer.begin :].startswith(answer.text)
        assert answer.begin == 0 or row.passage[answer.begin - 1] == " "
        clause, passage = (
            Counter(text.split()) for text in (f"{row.question} {answer.text}", row.passage)
        )
        assert clause <= passage


def test_train_and_test_share_hardly_a_pair(toy):
    task = task_named("toy-paraphrase")
    train = {(row.first, row.second) for row in toy.read(task, PIVOT, "train")}
    test = [(row.first, row.second) for row in toy.read(task, PIVOT, "test")]
    assert sum(pair in train for pair in test) / len(test) < 0.02


def test_lengths_stay_small(toy):
    for task in TASKS:
        for row in toy.read(task, "qae", "test"):
            first, *others = (len(words) for words in row.sentences())
            if task.kind == "tag":
                assert first <= 24
            else:
                assert first <= 12
                assert all(first + other + 3 <= 28 for other in others)


def test_a_lexicon_translates_form_by_form_and_has_gaps(toy):
    words = toy_words(0)
    lexicon = toy.lexicon(PIVOT)
    for gloss, forms in words[PIVOT].items():
        for form, word in enumerate(forms):
            for target, into in lexicon.get(word, {}).items():
                assert into == (words[target][gloss][form],)
    size = {
        target: sum(target in translations for translations in lexicon.values())
        for target in TOY_LANGUAGES
    }
    assert size["qab"] == len([form for forms in words[PIVOT].values() for form in forms])
    assert size["qaf"] < size["qae"] < size["qab"]
    assert (toy.lexicon("en"), toy.lexicon_languages("en")) == ({}, ())


def test_gold_alignments_join_words_of_one_meaning(toy):
    words = toy_words(0)
    gloss = {
        code: {
            form: (name, n) for name, forms in words[code].items() for n, form in enumerate(forms)
        }
        for code in ("qab", "qae")
    }
    first, second = toy.parallel("qab"), toy.parallel("qae")
    alignments = toy.alignments("qab", "qae")
    assert alignments.keys() == first.keys() & second.keys()
    for name, places in list(alignments.items())[:300]:
        left, right = first[name].split(), second[name].split()
        assert len(places) == len(left) == len(right)
        assert all(gloss["qab"][left[a]] == gloss["qae"][right[b]] for a, b in places)


def test_languages_differ_in_word_order():
    clause = draw_clause(Rng("order"))
    slots = {
        code: tuple(word.slot for word in say(toy_words(0), code, clause)) for code in TOY_LANGUAGES
    }
    assert len(set(slots.values())) >= 3
    assert len({frozenset(order) for order in slots.values()}) == 1


@pytest.mark.parametrize("edit", [*ENTAILED, *DENIED, *OPEN])
def test_an_edit_changes_the_meaning_or_says_that_it_cannot(edit):
    rng = Rng("edits")
    outcomes = []
    for _ in range(200):
        clause = draw_clause(rng)
        result = edit(rng, clause)
        outcomes.append(result is not None)
        if result is not None:
            assert glosses_of(result) != glosses_of(clause)
    assert any(outcomes)


def glosses_of(clause):
    """The meaning of a clause: which concept in which slot, whatever its form."""
    words = toy_words(0)
    gloss = {form: name for name, forms in words[PIVOT].items() for form in forms}
    return {spoken.slot: gloss[spoken.text] for spoken in say(words, PIVOT, clause)}


def test_saying_otherwise_changes_words_and_keeps_the_meaning():
    rng = Rng("otherwise")
    for _ in range(200):
        clause = draw_clause(rng)
        other = say_otherwise(rng, clause, 2)
        assert glosses_of(other) == glosses_of(clause)
        assert text_of(say(toy_words(0), PIVOT, other)) != text_of(say(toy_words(0), PIVOT, clause))


def test_paraphrases_are_those_pairs_that_mean_the_same():
    stream = toy_examples("toy-paraphrase", "train", 0)
    for _ in range(500):
        example = next(stream)
        assert (glosses_of(example.first) == glosses_of(example.second)) == (example.label == "1")


def test_opposites_and_categories_are_closed():
    known = concepts()
    for gloss, concept in known.items():
        if concept.opposite:
            assert known[concept.opposite].opposite == gloss
        if concept.category:
            assert known[concept.category].tag == "NOUN"
    assert set(task_named("toy-tagging").labels) == {word.tag for word in known.values()}
