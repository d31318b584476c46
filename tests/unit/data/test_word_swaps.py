from __future__ import annotations

from functools import partial

import numpy as np
import pytest
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from xlt_ray.config.methods import Contrastive, Weam
from xlt_ray.data.batches.alignment_batches import alignment_batches
from xlt_ray.data.sources.local_files import FilesSource
from xlt_ray.data.sources.toy_world import toy_words
from xlt_ray.data.text.pipeline import IGNORED, TextPipeline

WEAM = Weam(objective="weam", batch_size=24, languages=("qaa", "qae"))


@pytest.fixture
def batches(toy, toy_pipeline):
    def make(settings, seed=0, **changes):
        settings = settings.model_copy(update=changes)
        return alignment_batches(toy, settings, toy_pipeline(settings.max_length), seed)

    return make


def meanings(language):
    return {
        form: (gloss, number)
        for gloss, forms in toy_words(0)[language].items()
        for number, form in enumerate(forms)
    }


def test_swaps_lead_to_words_of_the_same_meaning(batches, toy_tokenizer):
    meaning = meanings("qaa") | meanings("qae")
    batch = batches(WEAM).batch(0)
    ids = np.where(batch["labels"] == IGNORED, batch["input_ids"], batch["labels"])
    words = [toy_tokenizer.convert_ids_to_tokens(row) for row in ids.tolist()]
    types, num_swapped = batch["token_type_ids"], 0
    for row, swap in enumerate(batch["swap"]):
        for place, weights in enumerate(swap):
            (goal,) = np.flatnonzero(weights)
            assert weights[goal] == 1.0
            if goal != place:
                num_swapped += 1
                assert types[row, goal] != types[row, place]
                assert meaning[words[row][goal]] == meaning[words[row][place]]
            else:
                assert words[row][place] in ("[CLS]", "[SEP]", "[PAD]"), "gold aligns every word"
        assert np.array_equal(swap, swap.T), "gold links are one to one"
    assert num_swapped > 200


def test_rows_of_a_swap_sum_to_one_whatever_is_cut_off(batches):
    for aligner in ("auto", "ibm1"):
        for length in (8, 11, 64):
            swap = batches(WEAM, aligner=aligner, max_length=length).batch(3)["swap"]
            assert swap.dtype == np.float32
            assert swap.shape[1] == swap.shape[2] <= length
            np.testing.assert_allclose(swap.sum(axis=2), 1.0, rtol=1e-6)
            assert (swap >= 0).all()


def test_words_of_several_pieces_swap_with_all_pieces(tmp_path):
    for language, text in (("de", "v1\tab c\nv2\tc"), ("en", "v1\tx yz\nv2\tx")):
        file = tmp_path / "parallel" / "bible" / f"{language}.tsv"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text + "\n")

    backend = Tokenizer(
        models.WordPiece(
            {piece: number for number, piece in enumerate(
                ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "##b", "c", "x", "y", "##z"]
            )},
            unk_token="[UNK]",
        )
    )  # fmt: skip
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    backend.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]",
        sep_token="[SEP]", mask_token="[MASK]",
    )  # fmt: skip
    settings = Weam(objective="weam", batch_size=16, symmetrise="intersection")
    pipeline = TextPipeline(tokenizer, "w", settings.max_length, tmp_path / "k")
    batches = alignment_batches(FilesSource(tmp_path), settings, pipeline, 0)
    batch = batches.batch(0)
    ids = np.where(batch["labels"] == IGNORED, batch["input_ids"], batch["labels"])
    row = next(
        n for n, pieces in enumerate(ids.tolist()) if pieces[:8] == [2, 5, 6, 7, 3, 8, 9, 10]
    )
    swap = batch["swap"][row]
    # ab = yz, c = x: [CLS] a b c [SEP] x y z.
    assert swap[1, [6, 7]].tolist() == swap[2, [6, 7]].tolist() == [0.5, 0.5]
    assert swap[6, [1, 2]].tolist() == swap[7, [1, 2]].tolist() == [0.5, 0.5]
    assert swap[3, 5] == swap[5, 3] == 1.0
    assert swap[0, 0] == swap[4, 4] == 1.0


CONTRAST = Contrastive(objective="contrastive", batch_size=24, group=8)


@pytest.fixture
def pairs(batches):
    return partial(batches, CONTRAST)


def texts_of(ids, tokenizer):
    return [tokenizer.decode([piece for piece in row if piece > 4]) for row in ids.tolist()]


def test_pairs_are_translations_with_the_number_of_their_meaning(pairs, toy, toy_tokenizer):
    names = {}
    for language in toy.parallel_languages():
        for name, text in toy.parallel(language).items():
            names.setdefault(text, set()).add(name)
    by_number = {}
    for step in range(4):
        batch = pairs().batch(step)
        ours = texts_of(batch["input_ids"], toy_tokenizer)
        theirs = texts_of(batch["other_input_ids"], toy_tokenizer)
        for sentence, translation, number in zip(
            ours, theirs, batch["sentence"].tolist(), strict=True
        ):
            shared = names[sentence] & names[translation]
            assert shared
            by_number.setdefault(number, shared)
            assert by_number[number] & shared
        assert batch["labels"].tolist() == [*range(8)] * 3
    assert len(by_number) > 80


def test_pairs_follow_from_seed_and_step_alone(pairs):
    first, second, other = pairs(), pairs(), pairs(seed=1)
    for step in (5, 0, 3):
        batch, again = first.batch(step), second.batch(step)
        assert all(np.array_equal(batch[key], again[key]) for key in batch)
        assert not np.array_equal(batch["sentence"], other.batch(step)["sentence"])


def test_a_group_of_the_whole_batch_is_the_default(pairs):
    assert pairs(group="batch").batch(0)["labels"].tolist() == [*range(24)]
