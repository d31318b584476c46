"""Word alignments: learned ones against what they must be, and against the toy world's gold."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from xlt_ray.config.diagnostics import Diagnosis
from xlt_ray.config.trial import Model
from xlt_ray.data.sources.local_files import FilesSource
from xlt_ray.data.text import word_alignment
from xlt_ray.data.text.parallel_sample import parallel_sample
from xlt_ray.data.text.word_alignment import (
    aligned,
    grow_diag_final_and,
    model_one,
    word_alignments,
)
from xlt_ray.errors import DataError
from xlt_ray.modeling.encoder import load_tokenizer

LINKS = st.sets(st.tuples(st.integers(0, 5), st.integers(0, 5)), max_size=12)

MEASURED = {
    ("qaa", "qab"): (0.0, 0.0),
    ("qaa", "qad"): (0.0004, 0.0005),
    ("qac", "qaf"): (0.0005, 0.0030),
}
"""Error rates of grow-diag-final-and and of the intersection; the test allows 0.002 more."""


def error_rate(links, gold):
    """AER of Och and Ney (2003) where every gold link is sure: 1 - 2 |A & S| / (|A| + |S|)."""
    both = sum(len(first & second) for first, second in zip(links, gold, strict=True))
    return 1 - 2 * both / sum(
        len(first) + len(second) for first, second in zip(links, gold, strict=True)
    )


def toy_text(toy, first, second):
    left, right, gold = toy.parallel(first), toy.parallel(second), toy.alignments(first, second)
    names = [name for name in left if name in right]
    return (
        [left[name].lower().split() for name in names],
        [right[name].lower().split() for name in names],
        [set(gold[name]) for name in names],
    )


@pytest.mark.parametrize("pair", MEASURED, ids="-".join)
def test_learned_alignments_are_close_to_gold(toy, pair):
    first, second, gold = toy_text(toy, *pair)
    grown = aligned(first, second, "grow-diag-final-and")
    sure = aligned(first, second, "intersection")
    assert error_rate(gold, gold) == 0.0
    measured, measured_sure = MEASURED[pair]
    assert error_rate(grown, gold) < measured + 0.002
    assert error_rate(sure, gold) < measured_sure + 0.002


def test_model_one_learns_what_words_are_said_as():
    given = [["the", "house"], ["the", "book"], ["a", "book"]]
    translations = [["das", "Haus"], ["das", "Buch"], ["ein", "Buch"]]
    assert [links.tolist() for links in model_one(given, translations)] == [[0, 1], [0, 1], [0, 1]]
    turned = [words[::-1] for words in translations]
    assert [links.tolist() for links in model_one(given, turned)] == [[1, 0], [1, 0], [1, 0]]


def test_a_word_that_nothing_says_is_aligned_with_nothing():
    given = [["a"], ["b"], ["c"], ["d"]]
    translations = [["x", "um"], ["y", "um"], ["z", "um"], ["w", "um"]]
    assert [links.tolist() for links in model_one(given, translations)] == [[0, -1]] * 4


def test_equal_words_are_aligned_along_the_diagonal():
    given, translations = [["a", "b", "a"], ["b"]], [["x", "y", "x"], ["y"]]
    assert model_one(given, translations)[0].tolist() == [0, 1, 2]


def test_empty_sentences_have_no_links():
    assert aligned([["a"], []], [[], ["x"]], "intersection") == [set(), set()]
    assert [links.tolist() for links in model_one([[]], [[]])] == [[]]
    assert model_one([[], ["a"]], [["x"], ["x"]])[0].tolist() == [-1]


@given(forward=LINKS, backward=LINKS)
def test_grown_links_lie_between_intersection_and_union(forward, backward):
    grown = grow_diag_final_and(forward, backward)
    assert forward & backward <= grown <= forward | backward
    assert grown == grow_diag_final_and(forward, backward)
    assert grow_diag_final_and(forward, forward) == forward


def test_growing_takes_neighbours_and_then_words_that_are_left():
    both = {(0, 0)}
    # (1, 1) touches (0, 0); (0, 1) would link two words that are linked by then; (5, 5) is far.
    grown = grow_diag_final_and(both | {(1, 1), (5, 5)}, both | {(0, 4)})
    assert grown == {(0, 0), (1, 1), (5, 5)}


def test_given_alignments_come_from_the_data_and_are_kept(toy, cache_dir, monkeypatch):
    names = [name for name in toy.parallel("qaa") if name in toy.parallel("qaf")]
    gold = toy.alignments("qaa", "qaf")
    rest = {"aligner": "auto", "symmetrise": "intersection", "cache_dir": cache_dir}
    made = word_alignments(toy, "qaa", "qaf", **rest)
    assert len(made) == len(names) == 1500
    for number in (0, 7, 1499):
        assert {tuple(link) for link in made[number].tolist()} == set(gold[names[number]])

    def refuse(*_):
        raise AssertionError("they were kept")

    monkeypatch.setattr(word_alignment, "aligned", refuse)
    monkeypatch.setattr(type(toy), "alignments", refuse)
    again = word_alignments(toy, "qaa", "qaf", **rest)
    assert all(np.array_equal(made[number], again[number]) for number in range(1500))


def folder_with_links(root, links):
    files = {
        "parallel/c/en.tsv": "v1\tA small house\nv2\ta\nv3\tno translation\n",
        "parallel/c/de.tsv": "v2\tein\nv1\tEin Haus\n",
        "alignments/c/en-de.tsv": links,
    }
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return FilesSource(root)


def test_alignments_of_a_file_are_those_of_both_directions(tmp_path):
    source = folder_with_links(tmp_path, "v1\t0-0 2-1\nv3\t0-0\nv9\t7-7\n")
    assert source.alignments("en", "de") == {"c/v1": ((0, 0), (2, 1))}
    assert source.alignments("de", "en") == {"c/v1": ((0, 0), (1, 2))}
    assert source.alignment_digest("de", "en")
    assert source.alignment_digest("de", "fr") == ""
    rest = {"symmetrise": "intersection", "cache_dir": tmp_path / "k"}
    found = word_alignments(source, "de", "en", aligner="auto", **rest)
    assert [links.tolist() for links in (found[0], found[1])] == [[], [[0, 0], [1, 2]]]
    learned = word_alignments(source, "de", "en", aligner="ibm1", **rest)
    assert learned[0].tolist() == [[0, 0]], "given or not"
    other = folder_with_links(tmp_path, "v1\t0-1\n")
    assert word_alignments(other, "de", "en", aligner="auto", **rest)[1].tolist() == [[1, 0]]


@pytest.mark.parametrize(
    ("links", "complaint"),
    [
        ("v1\t0:0\n", "is not `id TAB"),
        ("v1\t0-2\n", r"have \[3, 2\] words"),
        ("v1\n", "is not `id"),
    ],
)
def test_a_line_that_is_no_alignment_is_named(tmp_path, links, complaint):
    with pytest.raises(DataError, match=rf"en-de\.tsv:1: .*{complaint}"):
        folder_with_links(tmp_path, links).alignments("en", "de")


def test_links_of_other_sentences_are_refused(tmp_path):
    with pytest.raises(DataError, match=r"en-de\.tsv: none of its ids is one of a sentence"):
        folder_with_links(tmp_path, "1\t0-0\n2\t0-0\n").alignments("en", "de")


def test_diagnostics_take_the_sentences_whose_words_are_known_to_be_aligned(tmp_path):
    source = folder_with_links(tmp_path, "v1\t0-0 2-1\n")
    tokenizer = load_tokenizer(Model(name="toy:2x32"), ("A", "small", "house", "a", "Ein", "Haus"))
    (linked,), (plain,) = (
        parallel_sample(source, Diagnosis((name,), "en", ("de",), 9, 16), tokenizer).pairs
        for name in ("alignment", "cka")
    )
    assert (len(linked.source_rows), len(plain.source_rows)) == (1, 2)
    assert plain.links is None
    assert [link.tolist() for link in linked.links] == [[[0, 0], [2, 1]]]


def test_alignments_are_learned_where_the_data_has_none(tmp_path):
    for language, text in (("en", "v1\tA house\nv2\ta\n"), ("de", "v2\tein\nv1\tEin Haus\n")):
        file = tmp_path / "parallel" / "c" / f"{language}.tsv"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    rest = {"aligner": "auto", "symmetrise": "grow-diag-final-and", "cache_dir": tmp_path / "k"}
    source = FilesSource(tmp_path)
    found = word_alignments(source, "de", "en", **rest)
    # In the order of the first language's text.
    assert [links.tolist() for links in (found[0], found[1])] == [[[0, 0]], [[0, 0], [1, 1]]]
    before = {file.name for file in (tmp_path / "k" / "alignments").iterdir()}
    (tmp_path / "parallel" / "c" / "en.tsv").write_text("v1\tA house\nv2\tone\n")
    word_alignments(FilesSource(tmp_path), "de", "en", **rest)
    after = {file.name for file in (tmp_path / "k" / "alignments").iterdir()}
    assert before < after, "other text, other alignments"
