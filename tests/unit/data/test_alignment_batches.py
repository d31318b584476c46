from __future__ import annotations

import numpy as np
import pytest

from xlt_ray.config.methods import CodeSwitchMlm, MonolingualLm, TranslationLm, Weam
from xlt_ray.data.batches.alignment_batches import alignment_batches
from xlt_ray.data.batches.length_pools import POOL, WEIGHT
from xlt_ray.data.sources.local_files import FilesSource
from xlt_ray.data.sources.toy_world import TOY_LANGUAGES, toy_words
from xlt_ray.data.text.pipeline import IGNORED, TextPipeline
from xlt_ray.errors import DataError

CODE_SWITCH = CodeSwitchMlm(objective="code_switch_mlm", batch_size=64)
TLM = TranslationLm(objective="tlm", batch_size=64)
MLM = MonolingualLm(objective="mlm", batch_size=64)
WEAM = Weam(objective="weam", batch_size=64)
every = pytest.mark.parametrize(
    "settings", [CODE_SWITCH, TLM, MLM, WEAM], ids=lambda settings: settings.objective
)


@pytest.fixture
def batches(toy, toy_pipeline):
    def make(settings, seed=0, **changes):
        settings = settings.model_copy(update=changes)
        return alignment_batches(toy, settings, toy_pipeline(settings.max_length), seed)

    return make


def original(batch):
    """The batch before masking."""
    return np.where(batch["labels"] == IGNORED, batch["input_ids"], batch["labels"])


@every
def test_a_batch_follows_from_seed_and_step_alone(batches, settings):
    first, second, other = batches(settings), batches(settings), batches(settings, seed=1)
    for step in (5, 0, 3):
        batch, again = first.batch(step), second.batch(step)
        assert all(np.array_equal(batch[key], again[key]) for key in batch)
        assert not np.array_equal(batch["input_ids"], other.batch(step)["input_ids"])


@every
def test_batches_by_pieces_weigh_as_many_rows_as_they_have(batches, settings):
    by_pieces = batches(settings, batching="pieces")
    weighed = [
        (float(batch[WEIGHT]), len(batch["labels"])) for batch in map(by_pieces.batch, range(POOL))
    ]
    assert all(weight == num_rows / 64 for weight, num_rows in weighed)
    assert sum(num_rows for _, num_rows in weighed) == 64 * POOL
    assert len(set(weighed)) > 1


@every
def test_masking_takes_its_share_and_spares_special_tokens(batches, settings):
    masked = batches(settings, mask=0.3)
    many = [masked.batch(step) for step in range(30)]
    fates = {"masked": 0, "replaced": 0, "kept": 0}
    num_words = num_chosen = 0
    for batch in many:
        chosen = batch["labels"] != IGNORED
        assert (batch["labels"][chosen] > 4).all()
        assert (batch["attention_mask"][chosen] == 1).all()
        num_words += int((original(batch) > 4).sum())
        num_chosen += int(chosen.sum())
        shown, wanted = batch["input_ids"][chosen], batch["labels"][chosen]
        fates["masked"] += int((shown == 4).sum())
        fates["kept"] += int((shown == wanted).sum())
        fates["replaced"] += int(((shown != 4) & (shown != wanted)).sum())
        assert (batch["input_ids"][~chosen & (batch["attention_mask"] == 1)] != 4).all()
    assert abs(num_chosen / num_words - 0.3) < 0.02
    for fate, share in {"masked": 0.8, "replaced": 0.1, "kept": 0.1}.items():
        assert abs(fates[fate] / num_chosen - share) < 0.03


def test_a_batch_always_has_something_to_predict(batches):
    tiny = batches(CODE_SWITCH, batch_size=1, mask=0.0001)
    assert all((tiny.batch(step)["labels"] != IGNORED).sum() == 1 for step in range(20))


def switched_share(batch, tokenizer, language):
    own = {form for forms in toy_words(0)[language].values() for form in forms}
    words = [piece for piece in original(batch).ravel().tolist() if piece > 4]
    return np.mean([tokenizer.convert_ids_to_tokens(piece) not in own for piece in words])


def test_switching_replaces_its_share_of_words(batches, toy, toy_tokenizer):
    pair = ("qaa", "qae")
    none = batches(CODE_SWITCH, languages=pair, switch=0.0).batch(0)
    texts = {f"[CLS] {text} [SEP]" for code in pair for text in toy.parallel(code).values()}
    for row in original(none).tolist():
        assert toy_tokenizer.decode([piece for piece in row if piece]) in texts
    # All words of both languages are switched into the other one, but for gaps of the lexicon.
    everything = batches(CODE_SWITCH, languages=pair, switch=1.0)
    shares = [switched_share(everything.batch(step), toy_tokenizer, "qaa") for step in range(5)]
    assert 0.35 < np.mean(shares) < 0.65
    known = {form for code in pair for forms in toy_words(0)[code].values() for form in forms}
    for piece in original(everything.batch(0)).ravel().tolist():
        assert piece < 5 or toy_tokenizer.convert_ids_to_tokens(piece) in known


def test_every_language_is_drawn_alike_however_little_text_it_has(batches, toy_tokenizer):
    counts = dict.fromkeys(TOY_LANGUAGES, 0)
    alone = {
        code: {form for forms in words.values() for form in forms}
        for code, words in toy_words(0).items()
    }
    plain = batches(CODE_SWITCH, switch=0.0)
    for step in range(20):
        for row in original(plain.batch(step)).tolist():
            words = {toy_tokenizer.convert_ids_to_tokens(piece) for piece in row if piece > 4}
            spoken = [code for code in TOY_LANGUAGES if words <= alone[code]]
            for code in spoken:
                counts[code] += 1
    assert min(counts.values()) > 0.12 * 20 * 64


def test_monolingual_rows_are_sentences_as_they_are(batches, toy, toy_tokenizer):
    texts = {
        f"[CLS] {text} [SEP]" for code in TOY_LANGUAGES for text in toy.parallel(code).values()
    }
    for row in original(batches(MLM).batch(0)).tolist():
        assert toy_tokenizer.decode([piece for piece in row if piece]) in texts


def test_positions_begin_anew_at_the_second_sentence_where_asked(batches):
    plain, reset = batches(TLM).batch(0), batches(TLM, reset_positions=True).batch(0)
    positions = reset.pop("position_ids")
    assert "position_ids" not in plain
    assert all(np.array_equal(plain[name], reset[name]) for name in plain)
    for ids, types, row in zip(
        original(plain).tolist(), plain["token_type_ids"].tolist(), positions.tolist(), strict=True
    ):
        begin = types.index(1)
        assert ids[begin - 1] == 3, "the second sentence begins after a separator"
        assert row[:begin] == list(range(begin))
        assert row[begin:] == list(range(len(row) - begin))


def test_translation_rows_are_translations(batches, toy, toy_tokenizer):
    pairs = {
        (toy.parallel(first)[name], toy.parallel(second)[name])
        for first, second in (("qaa", "qaf"), ("qaf", "qaa"))
        for name in toy.parallel(first).keys() & toy.parallel(second).keys()
    }
    batch = batches(TLM, languages=("qaa", "qaf")).batch(0)
    found = set()
    for row in original(batch).tolist():
        text = toy_tokenizer.decode([piece for piece in row if piece])
        pair = tuple(text.removeprefix("[CLS] ").removesuffix(" [SEP]").split(" [SEP] "))
        assert pair in pairs
        found.add(pair[0] in toy.parallel("qaa").values())
    assert found == {True, False}


@pytest.fixture
def bible(tmp_path):
    for language, text in (("en", "v1\tgod made\nv2\tlight"), ("de", "v2\tlicht")):
        file = tmp_path / "parallel" / "bible" / f"{language}.tsv"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"{text}\n")
    return tmp_path


def test_missing_material_is_named_with_a_remedy(bible, make_tokenizer, tmp_path):
    tokenizer = make_tokenizer(["god", "made", "light", "licht"])
    rest = (TextPipeline(tokenizer, "t", TLM.max_length, tmp_path / "cache"), 0)
    source = FilesSource(bible)
    with pytest.raises(DataError, match="needs a lexicon between the languages de, en"):
        alignment_batches(source, CODE_SWITCH, *rest)
    assert alignment_batches(source, TLM, *rest).batch(0)["input_ids"].shape == (64, 5)
    with pytest.raises(DataError, match=r"xx: .*available: de, en"):
        alignment_batches(source, TLM.model_copy(update={"languages": ("xx",)}), *rest)
    with pytest.raises(DataError, match="share no parallel sentence"):
        alignment_batches(source, TLM.model_copy(update={"languages": ("en",)}), *rest)
    (bible / "lexicon").mkdir()
    (bible / "lexicon" / "en-de.tsv").write_text("light\tlicht\n")
    switched = CODE_SWITCH.model_copy(update={"switch": 1.0, "languages": ("en", "de")})
    batches = alignment_batches(FilesSource(bible), switched, *rest)
    rows = {tuple(row[row > 4]) for step in range(9) for row in original(batches.batch(step))}
    assert rows == {(5, 6), (8,)}
    for file in bible.glob("parallel/*/*.tsv"):
        file.unlink()
    with pytest.raises(DataError, match="has no parallel text"):
        alignment_batches(FilesSource(bible), TLM, *rest)


def test_a_tokenizer_without_mask_token_is_refused(toy, toy_tokenizer, cache_dir):
    import copy

    maskless = copy.deepcopy(toy_tokenizer)
    maskless.mask_token = None
    with pytest.raises(DataError, match="needs a mask token"):
        alignment_batches(toy, CODE_SWITCH, TextPipeline(maskless, "toy", 48, cache_dir), 0)
