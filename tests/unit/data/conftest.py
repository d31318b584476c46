"""The toy world and a word-level tokenizer for it, as every test of this room needs them."""

from __future__ import annotations

import json

import numpy as np
import pytest
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from xlt_ray.data.batches.evaluation import EvalBatches
from xlt_ray.data.sources.local_files import FilesSource
from xlt_ray.data.sources.toy_source import ToySource
from xlt_ray.data.text.pipeline import TextPipeline

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]


def word_tokenizer(words, template="bert", *, is_reported=True):
    """``is_reported``: the tokenizer lists token types among its input names."""
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
        model_input_names=[*names, "token_type_ids"] if is_reported else names,
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


@pytest.fixture
def files(tmp_path):
    """``files(name, *lines)``: write a file, JSON for lines that are dicts, and open its folder."""

    def write(name, *lines, encoding="utf-8"):
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        text = "\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines)
        file.write_bytes(text.encode(encoding))
        return FilesSource(tmp_path)

    return write


def decoded_with(split, answers_to, batch_size=4):
    """What is said of every item, where ``answers_to(arrays)`` are the network's answers."""
    decoded = [None] * split.num_items
    batches = EvalBatches([split], batch_size)
    for batch in batches:
        answers = batches.decode(batch, answers_to(batch.arrays))
        for number, answer in zip(batch.numbers, answers, strict=True):
            assert decoded[number] is None
            decoded[number] = answer
    return decoded


def counts_of_pieces(batch):
    """Vectors that only equal sentences share: how often every piece stands in them."""
    assert "labels" not in batch
    return np.stack([np.bincount(row, minlength=4000) for row in batch["input_ids"]])


@pytest.fixture(scope="session")
def cache_dir(tmp_path_factory):
    """One cache for the whole run: content decides what is found in it."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="session")
def toy_pipeline(toy_tokenizer, cache_dir):
    """``toy_pipeline(max_length)``: the toy tokenizer, with rows of at most so many pieces."""
    return lambda max_length: TextPipeline(toy_tokenizer, "toy", max_length, cache_dir)
