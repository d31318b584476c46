"""The toy world and a word-level tokenizer for it, as every test of this room needs them."""

from __future__ import annotations

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from xlt_ray.data.sources.toy_source import ToySource
from xlt_ray.data.text.pipeline import TextPipeline

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]


def word_tokenizer(words, template="bert", *, is_told=True):
    """``is_told``: the tokenizer lists token types among its input names."""
    numbers = {word: number for number, word in enumerate([*SPECIAL, *words])}
    tokenizer = Tokenizer(models.WordLevel(numbers, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    shapes = {
        "bert": ("[CLS] $A [SEP]", "[CLS] $A [SEP] $B:1 [SEP]:1"),
        "roberta": ("[CLS] $A [SEP]", "[CLS] $A [SEP] [SEP] $B [SEP]"),
    }
    single, pair = shapes[template]
    tokenizer.post_processor = processors.TemplateProcessing(
        single=single, pair=pair, special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    names = ["input_ids", "attention_mask"]
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
        model_input_names=[*names, "token_type_ids"] if is_told else names,
    )


@pytest.fixture(scope="session")
def toy():
    return ToySource(0)


@pytest.fixture(scope="session")
def toy_tokenizer(toy):
    return word_tokenizer(toy.vocabulary())


@pytest.fixture(scope="session")
def make_tokenizer():
    return word_tokenizer


@pytest.fixture(scope="session")
def cache_dir(tmp_path_factory):
    """One cache for the whole run: content decides what is found in it."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="session")
def toy_pipeline(toy_tokenizer, cache_dir):
    """``toy_pipeline(max_length)``: the toy tokenizer, with rows of at most so many pieces."""
    return lambda max_length: TextPipeline(toy_tokenizer, "toy", max_length, cache_dir)
