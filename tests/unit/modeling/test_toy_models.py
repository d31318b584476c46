from __future__ import annotations

import pytest
import torch

from xlt_ray.config.trial import Model
from xlt_ray.errors import ModelError
from xlt_ray.modeling.encoder import load_encoder, load_tokenizer
from xlt_ray.modeling.toy_models import SPECIAL_TOKENS, is_toy, toy_digest, toy_shape

VOCABULARY = ("mi", "日本", "tano", "re")


@pytest.mark.parametrize(
    "name", ["toy:", "toy:2", "toy:0x64", "toy:2x0", "toy:2x64x3", "toy:-1x64", "toy:2x100"]
)
def test_malformed_presets_are_refused(name: str) -> None:
    assert is_toy(name)
    with pytest.raises(ModelError, match=name):
        toy_shape(name)


def test_every_word_is_one_piece_and_pairs_have_segments() -> None:
    tokenizer = load_tokenizer(Model(name="toy:1x32"), VOCABULARY)
    encoded = tokenizer("mi tano", "日本 unheard")
    assert tokenizer.convert_ids_to_tokens(encoded["input_ids"]) == (
        ["[CLS]", "mi", "tano", "[SEP]", "日本", "[UNK]", "[SEP]"]
    )
    assert encoded["token_type_ids"] == [0, 0, 0, 0, 1, 1, 1]


def test_words_as_a_list_give_the_same_pieces_as_text() -> None:
    tokenizer = load_tokenizer(Model(name="toy:1x32"), VOCABULARY)
    assert (
        tokenizer(["mi", "re"], is_split_into_words=True)["input_ids"]
        == (tokenizer("mi re")["input_ids"])
    )


def test_ids_follow_the_order_of_the_vocabulary() -> None:
    tokenizer = load_tokenizer(Model(name="toy:1x32"), VOCABULARY)
    assert tokenizer.convert_ids_to_tokens(range(len(tokenizer))) == [*SPECIAL_TOKENS, *VOCABULARY]


def test_the_encoder_comes_from_its_seed_alone() -> None:
    model = Model(name="toy:2x32")
    tokenizer = load_tokenizer(model, VOCABULARY)
    first = load_encoder(model, tokenizer, 1).state_dict()
    torch.rand(5)
    again = load_encoder(model, tokenizer, 1).state_dict()
    other = load_encoder(model, tokenizer, 2).state_dict()
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not all(torch.equal(first[name], other[name]) for name in first)


def test_the_encoder_has_the_shape_of_its_name() -> None:
    model = Model(name="toy:3x64")
    encoder = load_encoder(model, load_tokenizer(model, VOCABULARY), 0)
    assert encoder.config.num_hidden_layers == 3
    assert encoder.get_input_embeddings().weight.shape == (len(VOCABULARY) + 5, 64)


def test_the_digest_knows_shape_and_vocabulary() -> None:
    digests = {
        toy_digest("toy:2x32", VOCABULARY),
        toy_digest("toy:2x64", VOCABULARY),
        toy_digest("toy:3x32", VOCABULARY),
        toy_digest("toy:2x32", VOCABULARY[::-1]),
    }
    assert len(digests) == 4
    assert toy_digest("toy:2x32", VOCABULARY) in digests
