"""The sample that diagnostics are measured on: fixed, without labels, the same in every process."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from xlt_ray.config.diagnostics import Diagnosis
from xlt_ray.config.trial import Model
from xlt_ray.data.sources.toy_source import ToySource
from xlt_ray.data.text.parallel_sample import ParallelSample, parallel_sample
from xlt_ray.errors import DataError
from xlt_ray.modeling.encoder import load_tokenizer


class Texts:
    """A source that has parallel text and nothing that a label could be read from."""

    def __init__(self, text: Mapping[str, Mapping[str, str]]) -> None:
        self._text = text

    def parallel(self, language: str) -> Mapping[str, str]:
        return self._text[language]


VOCABULARY = tuple(f"w{number}" for number in range(40)) + tuple(f"v{n}" for n in range(40))


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return load_tokenizer(Model(name="toy:2x32"), VOCABULARY)


def texts(num: int, *, reverse: bool = False) -> Texts:
    names = [f"c/{number}" for number in range(num)]
    names = names[::-1] if reverse else names
    return Texts(
        {
            "en": {name: f"w{name[2:]} w1 w2" for name in names},
            "de": {name: f"v{name[2:]} v1" for name in names if int(name[2:]) % 2},
            "sw": {name: f"v{name[2:]}" for name in names},
        }
    )


def drawn(source: Any, tokenizer: Any, num: int, languages: tuple[str, ...] = ("de", "sw")) -> Any:
    return parallel_sample(source, Diagnosis(("cka",), "en", languages, num, 32), tokenizer)


def pieces(sample: ParallelSample, language: str, batch_size: int = 4) -> list[list[int]]:
    """The sentences of a language in the sample's order."""
    found: dict[int, list[int]] = {}
    for batch in sample.batches(language, batch_size):
        for row, number in enumerate(batch.numbers):
            mask = batch.arrays["attention_mask"][row] == 1
            found[number] = batch.arrays["input_ids"][row][mask].tolist()
    return [found[number] for number in sorted(found)]


def pairs(sample: ParallelSample) -> dict[str, list[tuple[list[int], list[int]]]]:
    own = pieces(sample, sample.diagnosis.source_language)
    return {
        pair.language: [
            (own[row], other)
            for row, other in zip(pair.source_rows, pieces(sample, pair.language), strict=True)
        ]
        for pair in sample.pairs
    }


def test_the_sample_follows_from_the_ids_alone(tokenizer: Any) -> None:
    chosen = pairs(drawn(texts(40), tokenizer, 10))
    assert chosen == pairs(drawn(texts(40, reverse=True), tokenizer, 10))
    assert {language: len(found) for language, found in chosen.items()} == {"de": 10, "sw": 10}
    # Another language beside it changes nothing of a pair.
    assert pairs(drawn(texts(40), tokenizer, 10, ("sw",)))["sw"] == chosen["sw"]


def test_a_smaller_sample_is_the_beginning_of_a_larger_one(tokenizer: Any) -> None:
    large, small = (pairs(drawn(texts(40), tokenizer, num)) for num in (15, 6))
    for language, found in small.items():
        assert large[language][:6] == found


def test_rows_are_translations(tokenizer: Any) -> None:
    names = tokenizer.convert_ids_to_tokens
    for rows in pairs(drawn(texts(40), tokenizer, 12)).values():
        for own, other in rows:
            assert names(own)[1][1:] == names(other)[1][1:]


def test_a_sentence_that_reads_like_another_is_passed_over(tokenizer: Any) -> None:
    source = Texts(
        {
            "en": {f"c/{number}": f"w{number % 5}" for number in range(30)},
            "de": {f"c/{number}": f"v{number}" for number in range(30)},
        }
    )
    rows = pairs(drawn(source, tokenizer, 20, ("de",)))["de"]
    assert len(rows) == 5
    assert len({tuple(own) for own, _ in rows}) == 5


def test_languages_that_share_nothing_are_refused(tokenizer: Any) -> None:
    source = Texts({"en": {"a/1": "w1"}, "de": {"b/1": "v1"}})
    with pytest.raises(DataError, match="shares no parallel sentence with en"):
        drawn(source, tokenizer, 20, ("de",))


def test_means_of_words_are_over_the_pieces_that_were_kept(tokenizer: Any) -> None:
    sample = parallel_sample(
        texts(40),  # type: ignore[arg-type]
        Diagnosis(("cka",), "en", ("sw",), 8, 4),
        tokenizer,
    )
    for batch in sample.batches("en", 3):
        assert batch.num_words == [2] * len(batch.numbers)
        sums = batch.word_weights.sum(axis=-1)
        np.testing.assert_allclose(sums, np.ones_like(sums))
        # Of [CLS] a b [SEP] the words are the two in the middle.
        np.testing.assert_array_equal(
            batch.word_weights.sum(axis=1)[:, :4], [[0, 1, 1, 0]] * len(sums)
        )


def test_gold_links_of_the_toy_world_join_words_of_one_meaning() -> None:
    source = ToySource()
    tokenizer = load_tokenizer(Model(name="toy:2x32"), source.vocabulary())
    sample = parallel_sample(source, Diagnosis(("alignment",), "qaa", ("qaf",), 20, 64), tokenizer)
    (pair,) = sample.pairs
    assert pair.links is not None
    own, other = pieces(sample, "qaa"), pieces(sample, "qaf")
    lexicon = {
        tokenizer.convert_tokens_to_ids(word): into["qaf"]
        for word, into in source.lexicon("qaa").items()
        if "qaf" in into
    }
    num_checked = 0
    for row, links in enumerate(pair.links):
        for place, there in links.tolist():
            word = own[pair.source_rows[row]][1 + place]
            if word in lexicon:
                found = tokenizer.convert_ids_to_tokens(other[row][1 + there])
                assert found in lexicon[word]
                num_checked += 1
    assert num_checked > 50
