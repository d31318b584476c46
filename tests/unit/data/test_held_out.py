"""Parallel sentences that masked LM is scored on are trained on by nobody."""

from __future__ import annotations

import numpy as np
import pytest

from xlt_ray.config.methods import ALIGNMENTS, MaskedAlignment, MonolingualLm
from xlt_ray.data.batches.alignment_batches import alignment_batches, held_out_batches
from xlt_ray.data.text.parallel import held_out_names, rest_of
from xlt_ray.errors import DataError

MASKED = [entry for entry in ALIGNMENTS if issubclass(entry.settings, MaskedAlignment)]
LANGUAGES = ("qaa", "qaf")
SETTINGS = MonolingualLm(
    objective="mlm", languages=LANGUAGES, held_out=40, batch_size=8, max_length=48
)


def rows(ids):
    return {tuple(row[row > 4].tolist()) for row in ids}


def test_all_objectives_that_predict_hidden_pieces_can_hold_text_out():
    assert {entry.name for entry in ALIGNMENTS} - {entry.name for entry in MASKED} == {
        "contrastive"
    }
    assert "held_out" not in SETTINGS.model_copy(update={"held_out": 0}).hashed()


@pytest.mark.parametrize("entry", MASKED, ids=lambda entry: entry.name)
def test_what_is_held_out_is_in_no_training_batch(toy, toy_pipeline, entry):
    fields = {**SETTINGS.model_dump(exclude={"objective"}), "objective": entry.name}
    settings = entry.settings.model_validate(fields)
    rest = rest_of(toy, settings)
    names = held_out_names(toy, settings)
    assert len(names) == 40
    for language in LANGUAGES:
        assert rest.parallel(language).keys() == toy.parallel(language).keys() - names
        assert rest.parallel_digest(language) != toy.parallel_digest(language)
    batches = alignment_batches(rest, settings, toy_pipeline(48), 0)
    first, second = (batches.batch(step)["input_ids"] for step in (0, 1))
    assert first.shape[0] == 8
    assert not np.array_equal(first, second)


def test_the_same_sentences_are_masked_alike_whenever_asked(toy, toy_tokenizer, toy_pipeline):
    held_out = held_out_batches(toy, SETTINGS, toy_pipeline(48), 16)
    again = held_out_batches(toy, SETTINGS.model_copy(update={"steps": 9}), toy_pipeline(48), 16)
    assert held_out.keys() == set(LANGUAGES)
    for language, parts in held_out.items():
        names = held_out_names(toy, SETTINGS) & toy.parallel(language).keys()
        assert sum(len(part["labels"]) for part in parts) == len(names)
        for first, second in zip(parts, again[language], strict=True):
            assert all(np.array_equal(first[name], second[name]) for name in first)
            assert (first["labels"] != -100).any()
        words = [toy.parallel(language)[name].split() for name in names]
        true = {tuple(toy_tokenizer.convert_tokens_to_ids(word)) for word in words}
        whole = {
            row
            for part in parts
            for row in rows(np.where(part["labels"] == -100, part["input_ids"], part["labels"]))
        }
        assert whole == true


def test_a_smaller_share_is_part_of_a_larger_and_none_has_to_be_left(toy):
    few, many = (
        held_out_names(toy, SETTINGS.model_copy(update={"held_out": number})) for number in (5, 50)
    )
    assert few < many
    everything = SETTINGS.model_copy(update={"held_out": 10**6})
    with pytest.raises(DataError, match=r"none is left to train on; a smaller align\.held_out"):
        rest_of(toy, everything).parallel("qaa")
