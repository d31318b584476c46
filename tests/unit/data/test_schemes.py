"""Tagging schemes: whichever a file has, its entities are those that were written."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from seqeval.metrics.sequence_labeling import get_entities

from xlt_ray.data.task import task_named
from xlt_ray.data.text.conll import as_iob2
from xlt_ray.data.types.base import Predictions, kind_of

Span = tuple[str, int]
"""Type of an entity, empty between entities, and its number of words."""

SPANS = st.lists(st.tuples(st.sampled_from(["", "PER", "LOC"]), st.integers(1, 4)), max_size=8)


def entities(spans: list[Span]) -> list[tuple[str, int, int]]:
    found, place = [], 0
    for entity, length in spans:
        if entity:
            found.append((entity, place, place + length - 1))
        place += length
    return found


def written(spans: list[Span], scheme: str) -> list[str]:
    """Tags as the definitions of the schemes say."""
    tags: list[str] = []
    for number, (entity, length) in enumerate(spans):
        if not entity:
            tags += ["O"] * length
            continue
        touches = {
            side: 0 <= number + side < len(spans) and spans[number + side][0] == entity
            for side in (-1, 1)
        }
        marks = ["I"] * length
        if scheme == "iob2" or (scheme == "iob1" and touches[-1]):
            marks[0] = "B"
        elif scheme == "ioe2" or (scheme == "ioe1" and touches[1]):
            marks[-1] = "E"
        elif scheme in ("bioes", "bilou"):
            first, last, only = "BES" if scheme == "bioes" else "BLU"
            marks = [only] if length == 1 else [first, *"I" * (length - 2), last]
        tags += [f"{mark}-{entity}" for mark in marks]
    return tags


@pytest.mark.parametrize("scheme", ["iob1", "iob2", "ioe1", "ioe2", "bioes", "bilou"])
@given(spans=SPANS)
def test_entities_of_every_scheme_are_read(scheme: str, spans: list[Span]) -> None:
    tags = as_iob2(written(spans, scheme))
    assert tags == written(spans, "iob2")
    assert get_entities(tags) == entities(spans)


@given(st.lists(st.sampled_from(["O", "B-PER", "I-PER", "B-LOC", "I-LOC", "X"])))
def test_tags_that_follow_no_scheme_are_read_as_the_published_scripts_do(tags: list[str]) -> None:
    found = as_iob2(tags)
    lenient = [("O" if tag == "X" else tag) for tag in tags]
    assert get_entities([("O" if tag == "X" else tag) for tag in found]) == get_entities(lenient)
    assert as_iob2(found) == found


def test_gold_in_iob1_scores_in_full(files) -> None:
    text = "Berlin\tI-LOC\nist\tO\n\nAda\tI-PER\nByron\tI-PER\nBonn\tI-LOC\n"
    task = task_named("ner-panx")
    gold = [
        example.tags for example in files("ner-panx/de.test.conll", text).read(task, "de", "test")
    ]
    assert gold == [("B-LOC", "O"), ("B-PER", "I-PER", "B-LOC")]
    assert set(kind_of(task).score(Predictions("de", gold, gold)).values()) == {1.0}
