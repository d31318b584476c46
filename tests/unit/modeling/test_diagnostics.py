"""Diagnostics of layers: invariances, and values that are known in advance."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from xlt_ray.config.diagnostics import DIAGNOSTICS, DiagnosticName
from xlt_ray.modeling.diagnostics.alignment_accuracy import alignment, error_rate, mutual
from xlt_ray.modeling.diagnostics.cka import cka
from xlt_ray.modeling.diagnostics.layer_states import States, Words, joined, pooled, words_of
from xlt_ray.modeling.diagnostics.retrieval_accuracy import retrieval

seeds = st.integers(0, 2**31 - 1)
X, Y, Z = [1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def words(*sentences: list[list[float]]) -> States:
    """One layer; a sentence is a list of the states of its words."""
    counts = torch.tensor([len(sentence) for sentence in sentences])
    every = torch.tensor([word for sentence in sentences for word in sentence])
    kept = Words(every[None], counts.cumsum(0) - counts, counts)
    return States(torch.zeros(1, len(sentences), every.shape[1]), kept)


def links(*sentences: list[tuple[int, int]]) -> list[Tensor]:
    return [torch.tensor(sentence, dtype=torch.long).reshape(-1, 2) for sentence in sentences]


def test_every_entry_has_an_implementation_and_the_name_that_sweeps_use() -> None:
    assert set(DIAGNOSTICS) == set(DiagnosticName.__args__)  # type: ignore[attr-defined]
    assert all(callable(entry.load()) for entry in DIAGNOSTICS.values())


@given(seed=seeds, num=st.integers(4, 40), width=st.integers(1, 60))
def test_cka_of_a_space_with_itself_is_one(seed: int, num: int, width: int) -> None:
    kept = States(random(2, num, width, seed=seed))
    torch.testing.assert_close(cka(kept, kept), torch.ones(2, dtype=torch.float64))


@given(
    seed=seeds,
    num=st.integers(4, 30),
    width=st.integers(2, 40),
    scale=st.floats(1e-3, 1e3),
    shift=st.floats(-5, 5),
)
def test_cka_does_not_depend_on_rotation_scale_and_shift(
    seed: int, num: int, width: int, scale: float, shift: float
) -> None:
    first, second = random(1, num, width, seed=seed), random(1, num, width, seed=seed + 1)
    turned = torch.linalg.qr(random(width, width, seed=seed + 2).double())[0]
    moved = scale * (first.double() @ turned) + shift
    expected = cka(States(first), States(second))
    torch.testing.assert_close(cka(States(moved), States(second)), expected, rtol=1e-6, atol=1e-8)
    torch.testing.assert_close(cka(States(second), States(first)), expected)


def test_cka_of_independent_spaces_is_about_zero_also_where_they_are_wide() -> None:
    values = torch.cat(
        [
            cka(States(random(1, 64, 512, seed=turn)), States(random(1, 64, 512, seed=100 + turn)))
            for turn in range(20)
        ]
    )
    assert abs(float(values.mean())) < 0.02
    # The biased estimate is 512 / (512 + 64).
    assert float(values.abs().max()) < 0.1


@given(seed=seeds, num=st.integers(2, 30))
def test_every_sentence_of_one_language_finds_itself(seed: int, num: int) -> None:
    kept = States(random(3, num, 8, seed=seed))
    assert retrieval(kept, kept).tolist() == [1.0] * 3


def test_retrieval_is_the_mean_of_both_directions() -> None:
    # All three find theirs; on the way back the one at 50 degrees is nearer to that at 40.
    first, second = (
        torch.tensor([[[math.cos(angle), math.sin(angle)] for angle in map(math.radians, angles)]])
        for angles in ((0, 40, 80), (10, 45, 50))
    )
    assert float(retrieval(States(first), States(second))) == pytest.approx((1 + 2 / 3) / 2)


def test_identical_sentences_are_not_found() -> None:
    same = States(torch.ones(1, 5, 4))
    assert retrieval(same, same).tolist() == [0.0]


def test_diagnostics_without_enough_data_are_not_defined() -> None:
    undefined = (
        retrieval(States(torch.ones(1, 1, 4)), States(torch.ones(1, 1, 4))),
        cka(States(torch.ones(1, 10, 8)), States(random(1, 10, 8))),
        cka(States(random(1, 3, 8)), States(random(1, 3, 8))),
        alignment(words([X]), words([X]), None),
        alignment(words([X]), words([X]), links([])),
    )
    assert all(math.isnan(float(value)) for value in undefined)


def test_the_error_rate_of_och_and_ney_by_hand() -> None:
    # A has 4 links, 2 of them sure and 3 possible; gold has 3 sure ones: 1 - (2 + 3) / (4 + 3).
    two, three, four = (torch.tensor([float(number)]) for number in (2, 3, 4))
    assert float(error_rate(four, two, three, 3)) == pytest.approx(2 / 7)


def test_words_are_aligned_where_each_is_the_nearest_of_the_other() -> None:
    similarity = torch.tensor([[[[0.9, 0.8, 0.1], [0.7, 0.2, 0.3]]]])
    exist = torch.ones(1, 2, dtype=torch.bool), torch.ones(1, 3, dtype=torch.bool)
    assert mutual(similarity, *exist).tolist() == [[[0, -1]]]
    without_first = torch.tensor([[False, True, True]])
    assert mutual(similarity, exist[0], without_first).tolist() == [[[1, 2]]]
    none = torch.zeros(1, 3, dtype=torch.bool)
    assert mutual(similarity, exist[0], none).tolist() == [[[-1, -1]]]
    assert mutual(similarity, none[:, :2], exist[1]).tolist() == [[[-1, -1]]]


@pytest.mark.parametrize(
    ("first", "second", "gold", "expected"),
    [
        ([[X, Y]], [[Y, X]], [[(0, 1), (1, 0)]], 0.0),
        ([[X, Y]], [[X, Y]], [[(0, 1), (1, 0)]], 1.0),
        # Found: both words; gold: one of them.
        ([[X, Y]], [[X, Y]], [[(0, 0)]], 1 / 3),
        # Two sentences are counted together: 3 found, 3 gold, 2 right.
        ([[X, Y], [X]], [[X, Y], [Z]], [[(0, 0), (1, 1)], []], 1 - 4 / 5),
        # Gold links of words that were cut off are left out, and a link said twice is one.
        ([[X]], [[X]], [[(0, 0), (1, 0), (0, 3)]], 0.0),
        ([[X, Y]], [[X, Y]], [[(0, 0), (0, 0)]], 1 / 3),
        # A sentence of which no word was kept.
        ([[X], []], [[X], [Y]], [[(0, 0)], [(0, 0)]], 0.0),
    ],
)
def test_alignment_errors_by_hand(
    first: list[list[list[float]]],
    second: list[list[list[float]]],
    gold: list[list[tuple[int, int]]],
    expected: float,
) -> None:
    error = alignment(words(*first), words(*second), links(*gold))
    assert float(error) == pytest.approx(expected, abs=1e-9)


def test_more_sentences_than_are_looked_at_together_are_all_counted() -> None:
    many = words(*[[X, Y]] * 150)
    assert float(alignment(many, many, links(*[[(0, 0), (1, 1)]] * 150))) == 0.0
    wrong = links(*[[(0, 0), (1, 1)]] * 149, [(0, 1)])
    assert float(alignment(many, many, wrong)) == pytest.approx(1 - 2 * 298 / (300 + 299))


def test_padding_is_in_no_mean() -> None:
    layers = [random(2, 4, 3, seed=turn) for turn in range(2)]
    mask = torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0]])
    weights = torch.zeros(2, 2, 4)
    weights[0, 0, 1:3] = 0.5
    weights[0, 1, 3] = weights[1, 0, 1] = 1.0
    sentences, pooled_words = pooled(layers, mask, weights)
    assert pooled_words is not None
    torch.testing.assert_close(sentences[1, 1], layers[1][1, :2].mean(dim=0))
    torch.testing.assert_close(pooled_words[0, 0, 0], layers[0][0, 1:3].mean(dim=0))
    assert not pooled_words[:, 1, 1].any()


@settings(max_examples=20)
@given(order=st.permutations(range(6)), cut=st.integers(1, 5))
def test_parts_are_put_back_into_the_order_of_the_sample(order: list[int], cut: int) -> None:
    counts = [(number % 3) + 1 for number in range(6)]
    rows = [[[float(number), float(place), 1.0] for place in range(counts[number])]
            for number in range(6)]  # fmt: skip
    sentences = torch.arange(6.0).reshape(1, 6, 1).expand(1, 6, 3)
    parts = [
        States(sentences[:, part], words(*[rows[number] for number in part]).words)
        for part in (order[:cut], order[cut:])
    ]
    back = joined(parts, order)
    assert torch.equal(back.sentences, sentences)
    assert [by_sentence(back)[number] for number in range(6)] == rows
    assert by_sentence(back.taken([4, 1])) == [rows[4], rows[1]]


def by_sentence(states: States) -> list[list[list[float]]]:
    """The words of each sentence in the only layer."""
    kept = states.words
    assert kept is not None
    return [
        kept.directions[0, begin : begin + count].tolist()
        for begin, count in zip(kept.begins.tolist(), kept.counts.tolist(), strict=True)
    ]


def test_padding_words_are_dropped() -> None:
    padded = torch.tensor([[[X, [0.0, 2.0, 0.0]], [[3.0, 0.0, 4.0], Y]]])
    kept = words_of(padded, [2, 1])
    assert kept.directions.tolist()[0] == [X, Y, pytest.approx([0.6, 0.0, 0.8])]
    assert (kept.begins.tolist(), kept.counts.tolist()) == ([0, 2], [2, 1])


def test_samples_of_the_same_sentences_share_their_words() -> None:
    whole = words([X, Y], [Z])
    assert whole.words is not None
    taken = whole.taken([1]).words
    assert taken is not None
    assert taken.directions is whole.words.directions
