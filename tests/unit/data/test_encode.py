from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from xlt_ray.data.text.pipeline import TextPipeline, WordPieces, encode_words, template_of

MODEL = Path(__file__).parents[4] / "shared" / "models" / "bible-mini"


def framed(template, *sentences):
    ids, types = [], []
    for part in template.parts(len(sentences)):
        run = part.ids if part.slot is None else sentences[part.slot].pieces.tolist()
        ids += run
        types += [part.token_type] * len(run)
    return ids, types


@pytest.mark.parametrize("is_reported", [True, False])
@pytest.mark.parametrize("shape", ["bert", "roberta"])
def test_the_template_frames_as_the_tokenizer_does(make_tokenizer, shape, is_reported):
    tokenizer = make_tokenizer(["a", "b", "c"], shape, is_reported=is_reported)
    template = template_of(tokenizer)
    first, second = encode_words([["a", "b"], ["c"]], tokenizer)
    for sentences, texts in (((first,), ["a b"]), ((first, second), ["a b", "c"])):
        expected = tokenizer(*texts, return_token_type_ids=True)
        ids, types = framed(template, *sentences)
        assert ids == expected["input_ids"]
        assert types == expected["token_type_ids"]
    # Whatever input names the tokenizer lists: classes without a list of their own leave them out.
    assert template.has_token_types == (shape == "bert")
    assert template.special_ids == {0, 1, 2, 3, 4}


@pytest.mark.skipif(not MODEL.is_dir(), reason="no shared models")
def test_a_real_tokenizer_gives_the_same_pieces_as_when_it_is_called_whole():
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(MODEL)
    texts = ["In the beginning God created the heavens.", "Am Anfang schuf Gott Himmel und Erde."]
    sentences = encode_words([text.split() for text in texts], tokenizer)
    ids, _ = framed(template_of(tokenizer), *sentences)
    assert ids == tokenizer(*texts)["input_ids"]
    assert all(
        len(sentence.ends) == len(text.split())
        for sentence, text in zip(sentences, texts, strict=True)
    )


def vanishing_tokenizer():
    """Drops zero-width spaces, splits words into letters."""
    letters = Tokenizer(models.BPE({"[UNK]": 0, "a": 1, "b": 2}, [], unk_token="[UNK]"))
    letters.normalizer = normalizers.Replace("\u200b", "")
    letters.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=letters, unk_token="[UNK]", pad_token="[UNK]")


def test_every_word_has_a_piece_even_one_that_is_normalised_away():
    sentence, empty = encode_words([["ab", "\u200b", "b"], []], vanishing_tokenizer())
    assert sentence.pieces.tolist() == [1, 2, 0, 2]
    assert sentence.ends.tolist() == [2, 3, 4]
    assert sentence.starts.tolist() == [0, 2, 3]
    assert len(empty.pieces) == len(empty.ends) == 0


def byte_level_tokenizer():
    """Writes the space before a word into its first piece, and takes it out of the offsets."""
    pieces = {char: number for number, char in enumerate(pre_tokenizers.ByteLevel.alphabet())}
    pieces |= {"\u0120a": 256, "ab": 257}
    inner = Tokenizer(models.BPE(pieces, [("\u0120", "a"), ("a", "b")]))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    inner.post_processor = processors.ByteLevel(trim_offsets=True)
    return PreTrainedTokenizerFast(tokenizer_object=inner, unk_token="a", pad_token="a")


@pytest.mark.parametrize("make", [byte_level_tokenizer, vanishing_tokenizer])
def test_words_by_themselves_give_what_whole_lists_give(make):
    tokenizer = make()
    sentences = [["ab", "bab", "ab"], ["b", "ab", "aab"], ["ab"]]
    whole = tokenizer(
        sentences, is_split_into_words=True, add_special_tokens=False, return_offsets_mapping=True
    )
    encoded = encode_words(sentences, tokenizer, with_places=True)
    for number, (words, sentence) in enumerate(zip(sentences, encoded, strict=True)):
        owners = whole.word_ids(number)
        assert sentence.pieces.tolist() == whole["input_ids"][number]
        assert np.repeat(range(len(words)), np.diff(sentence.ends, prepend=0)).tolist() == owners
        begins = np.cumsum([0, *map(len, words)])[owners]
        assert (sentence.places == begins[:, None] + whole["offset_mapping"][number]).all()


def test_a_word_that_repeats_is_tokenised_once(make_tokenizer):
    tokenizer, seen = make_tokenizer(["a", "b"]), []

    class Counting:
        unk_token_id = tokenizer.unk_token_id

        def __call__(self, lists, **settings):
            seen.extend(word for words in lists for word in words)
            return tokenizer(lists, **settings)

    pieces = WordPieces(Counting())
    seen.clear()
    for sentences in ([["a", "b", "a"], ["a"]], [["b", "a"], ["c"]]):
        pieces.columns(sentences)
    assert seen == ["a", "b", "c"]


def table(sentences, tokenizer, folder, content="c", of="t"):
    return TextPipeline(tokenizer, of, 64, folder).encoded(sentences, content)


def refuse():
    raise AssertionError("the cache was not used")
    yield


def test_a_table_is_made_once_and_read_back_equal(make_tokenizer, tmp_path):
    tokenizer = make_tokenizer([str(number) for number in range(50)])
    sentences = [[str(number % 50)] * (number % 7) for number in range(2500)]
    made = table(sentences, tokenizer, tmp_path)
    again = table(refuse(), None, tmp_path)
    assert len(made) == len(again) == 2500
    direct = encode_words(sentences, tokenizer)
    for number in (0, 6, 999, 1000, 2499):
        for items in (made, again):
            assert items[number].pieces.tolist() == direct[number].pieces.tolist()
            assert items[number].ends.tolist() == direct[number].ends.tolist()
    assert made.num_pieces().tolist() == [len(words) for words in sentences]
    assert np.diff(made.word_offsets()).tolist() == [len(words) for words in sentences]


def test_other_content_or_another_tokenizer_is_another_table(make_tokenizer, tmp_path):
    tokenizer = make_tokenizer(["a", "b"])
    first = table([["a"]], tokenizer, tmp_path)
    assert table([["b"]], tokenizer, tmp_path, content="d")[0].pieces != first[0].pieces
    assert table([["b"]], tokenizer, tmp_path, of="u")[0].pieces != first[0].pieces


def test_tables_made_at_once_leave_one_and_no_rubbish(make_tokenizer, tmp_path):
    tokenizer = make_tokenizer(["a"])
    meeting = threading.Barrier(2)
    found = []

    def sentences():
        yield ["a"]
        meeting.wait(30)  # both have seen that there is no table yet

    threads = [
        threading.Thread(target=lambda: found.append(table(sentences(), tokenizer, tmp_path)))
        for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [words[0].pieces.tolist() for words in found] == [[5], [5]]
    assert len(list((tmp_path / "encoded").iterdir())) == 1


def test_a_table_of_nothing_can_be_kept(make_tokenizer, tmp_path):
    tokenizer = make_tokenizer(["a"])
    table([], tokenizer, tmp_path)
    assert len(table(refuse(), None, tmp_path)) <= 1


def gemma_like_tokenizer():
    """Puts a mark for the space before a word, and none before the first of a text."""
    pieces = {piece: number for number, piece in enumerate(["<pad>", "</s>", "▁", "_", *"abx"])}
    merges = [("▁", "a"), ("▁", "b"), ("▁", "x")]
    pieces |= {"".join(merge): len(pieces) + number for number, merge in enumerate(merges)}
    inner = Tokenizer(models.BPE(pieces, merges))
    inner.normalizer = normalizers.Replace(" ", "▁")
    inner.pre_tokenizer = pre_tokenizers.Split("▁", "merged_with_next")
    return PreTrainedTokenizerFast(tokenizer_object=inner, pad_token="<pad>", eos_token="</s>")


def test_words_of_tokenizers_that_put_no_space_before_them_are_read_as_after_one():
    tokenizer = gemma_like_tokenizer()
    (sentence,) = encode_words([["ab", "b"]], tokenizer, with_places=True)
    assert tokenizer.convert_ids_to_tokens(sentence.pieces) == ["▁a", "b", "▁b"]
    assert sentence.places.tolist() == [[0, 1], [1, 2], [2, 3]]


def test_sentences_that_no_special_piece_divides_are_divided_by_the_end_of_text():
    template = template_of(gemma_like_tokenizer())
    assert [(part.slot, part.ids) for part in template.pair] == [(0, ()), (None, (1,)), (1, ())]
    assert [part.slot for part in template.single] == [0]
    # Without a mask of its own an underscore hides a piece.
    assert template.mask_id == 3
