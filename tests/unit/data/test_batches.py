from __future__ import annotations

import numpy as np
import pytest

from xlt_ray.config.task_types import KINDS as TASK_KINDS
from xlt_ray.config.trial import Hybrid
from xlt_ray.data.batches import supervised
from xlt_ray.data.batches.evaluation import MIN_FILL, EvalBatches, eval_split
from xlt_ray.data.batches.supervised import BatchSettings, train_batches
from xlt_ray.data.label_access import LabelAccess
from xlt_ray.data.sources.local_files import FilesSource
from xlt_ray.data.sources.toy_world import TOY_LANGUAGES, toy_words
from xlt_ray.data.task import load_tasks, task_named
from xlt_ray.data.text.pipeline import TextPipeline
from xlt_ray.data.types.base import kind_of
from xlt_ray.errors import DataError, ForbiddenLabels

PARAPHRASE, TAGGING = task_named("toy-paraphrase"), task_named("toy-tagging")
MONOLINGUAL = Hybrid(ratio=0.0)


@pytest.fixture
def train(toy, toy_pipeline):
    def make(task=PARAPHRASE, size=100, hybrid=MONOLINGUAL, batch_size=16, seed=3, purpose="train"):
        access = LabelAccess(purpose, task.name, "qaa")
        return train_batches(
            toy, task, access, size, toy_pipeline(64), BatchSettings(batch_size, seed),
            hybrid=hybrid,
        )  # fmt: skip

    return make


@pytest.fixture
def evaluate(toy, toy_pipeline):
    def make(
        task=PARAPHRASE,
        language="qae",
        split="test",
        limit="all",
        purpose="evaluate",
        max_length=64,
    ):
        access = LabelAccess(purpose, task.name, "qaa")
        return eval_split(toy, task, access, language, split, limit, toy_pipeline(max_length))

    return make


def texts_of(batch, tokenizer):
    return [
        tokenizer.decode([piece for piece, mask in zip(ids, masks, strict=True) if mask])
        for ids, masks in zip(batch["input_ids"].tolist(), batch["attention_mask"], strict=True)
    ]


def same(first, other):
    return first.keys() == other.keys() and all(
        np.array_equal(first[key], other[key]) for key in first
    )


@pytest.mark.parametrize("ratio", [0.0, 0.5])
@pytest.mark.parametrize("task", [PARAPHRASE, TAGGING], ids=lambda task: task.name)
def test_a_batch_follows_from_seed_and_step_alone(train, task, ratio):
    hybrid = Hybrid(ratio=ratio)
    first, second = train(task, hybrid=hybrid), train(task, hybrid=hybrid)
    forwards = [first.batch(step) for step in range(12)]
    backwards = [second.batch(step) for step in reversed(range(12))]
    assert all(same(*pair) for pair in zip(forwards, reversed(backwards), strict=True))
    other = train(task, hybrid=hybrid, seed=4)
    assert not any(same(batch, other.batch(step)) for step, batch in enumerate(forwards))


def test_every_epoch_shows_every_example_of_the_subset_once(train, toy_tokenizer):
    batches = train(size=40, batch_size=16)
    assert (batches.num_examples, batches.num_steps(1), batches.num_steps(3)) == (40, 3, 8)
    rows = [text for step in range(5) for text in texts_of(batches.batch(step), toy_tokenizer)]
    assert len(rows) == 80
    first, second = rows[:40], rows[40:]
    assert sorted(first) == sorted(second)
    assert first != second
    assert len(set(first)) == 40
    smaller = texts_of(train(size=16, batch_size=16).batch(0), toy_tokenizer)
    assert set(smaller) <= set(first)


KINDS = [task for task in load_tasks() if task.source == "toy" and TASK_KINDS[task.kind].head]


@pytest.mark.parametrize("task", KINDS, ids=lambda task: task.name)
def test_a_small_size_encodes_a_part_of_the_split_and_trains_the_same_batches(
    toy, toy_tokenizer, tmp_path, monkeypatch, task
):
    def train(size, block):
        monkeypatch.setattr(supervised, "BLOCK", block)
        pipeline = TextPipeline(toy_tokenizer, "t", 64, tmp_path / f"{block}")
        access = LabelAccess("train", task.name, "qaa")
        return train_batches(toy, task, access, size, pipeline, BatchSettings(16, 3))

    def encoded(block):
        """Number of sentences in each table of the cache."""
        files = (tmp_path / f"{block}" / "encoded").glob("*/1.npy")
        return sorted(len(np.load(file)) - 1 for file in files)

    width = kind_of(task).width
    for size, blocks in ((30, [40]), (100, [40, 40, 80])):
        small, whole = train(size, 40), train(size, 10**9)
        assert encoded(40) == [width * block for block in blocks]
        assert all(same(small.batch(step), whole.batch(step)) for step in range(10))
        assert set(small.vocabulary()) <= set(whole.vocabulary())
    assert len(encoded(10**9)) == 1
    # Most of a split is encoded as a whole.
    num_examples = len(toy.read(task, "qaa", "train"))
    train(num_examples // 2 + 1, 40)
    assert max(encoded(40)) == width * num_examples


def test_nested_batches_have_one_vocabulary_whatever_their_size(toy, toy_pipeline):
    access = LabelAccess("train", PARAPHRASE.name, "qaa")
    settings = BatchSettings(16, 3, is_nested=True)
    small, large = (
        train_batches(toy, PARAPHRASE, access, size, toy_pipeline(64), settings)
        for size in (16, "all")
    )
    assert (small.vocabulary() == large.vocabulary()).all()


def test_a_batch_may_be_larger_than_the_data(train):
    assert train(size=5, batch_size=16).batch(0)["input_ids"].shape[0] == 16


def test_labels_and_types_stand_beside_their_sentences(train, toy, toy_tokenizer):
    by_text = {
        f"[CLS] {row.first} [SEP] {row.second} [SEP]": row.label
        for row in toy.read(PARAPHRASE, "qaa", "train")
    }
    batch = train(size="all").batch(0)
    labels = [PARAPHRASE.labels[number] for number in batch["labels"]]
    assert [by_text[text] for text in texts_of(batch, toy_tokenizer)] == labels
    assert batch["labels"].shape == (16,)
    assert (batch["token_type_ids"].sum(1) > 0).all()
    assert all(array.dtype == np.int64 for array in batch.values())


def test_tags_stand_at_their_words_and_nowhere_else(train, toy):
    words = toy_words(0)["qaa"]
    verbs = {form for gloss in ("push", "pull", "buy") for form in words[gloss]}
    vocabulary = [*["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"], *toy.vocabulary()]
    batch = train(TAGGING, size="all").batch(0)
    seen = 0
    for ids, labels in zip(batch["input_ids"], batch["labels"], strict=True):
        for piece, label in zip(ids.tolist(), labels.tolist(), strict=True):
            assert (label == -100) == (piece < 5)
            if vocabulary[piece] in verbs:
                seen += 1
                assert TAGGING.labels[label] == "VERB"
    assert seen


def languages_of(text):
    """Languages that have all words of a sentence."""
    forms = {
        code: {form for all_forms in words.values() for form in all_forms}
        for code, words in toy_words(0).items()
    }
    return {code for code in TOY_LANGUAGES if forms[code].issuperset(text.split())}


def test_cross_lingual_pairs_say_their_sentences_in_different_languages(train, toy, toy_tokenizer):
    batches = train(size=64, batch_size=64, hybrid=Hybrid(ratio=1.0, languages=("qad", "qae")))
    by_sentence = {}
    for language in ("qaa", "qad", "qae"):
        for row in toy.read(PARAPHRASE, language, "train"):
            by_sentence.setdefault((language, row.first), []).append(row)
    seen = set()
    batch = batches.batch(0)
    for text, label in zip(texts_of(batch, toy_tokenizer), batch["labels"], strict=True):
        first, second = text.removeprefix("[CLS] ").removesuffix(" [SEP]").split(" [SEP] ")
        spoken = [
            (language, other)
            for language in languages_of(first) & {"qaa", "qad", "qae"}
            for other in languages_of(second) & {"qaa", "qad", "qae"}
        ]
        assert any(first != second for first, second in spoken)
        labels = {row.label for language, _ in spoken for row in by_sentence[language, first]}
        assert PARAPHRASE.labels[label] in labels
        seen.update(spoken)
    assert len({language for language, _ in seen}) == 3


def test_the_ratio_is_the_share_of_cross_lingual_batches(train):
    batches = train(hybrid=Hybrid(ratio=0.3))
    share = np.mean([batches.crossed(step).all() for step in range(1000)])
    assert abs(share - 0.3) < 0.05
    never, always = train(hybrid=Hybrid(ratio=0.0)), train(hybrid=Hybrid(ratio=1.0))
    assert not any(never.crossed(step).any() for step in range(50))
    assert all(always.crossed(step).all() for step in range(50))
    for step in range(5):
        assert same(batches.batch(step), never.batch(step)) == (not batches.crossed(step).any())


def test_the_order_of_examples_does_not_depend_on_the_ratio(train):
    first, second = train(hybrid=Hybrid(ratio=1.0)), train()
    assert all((first.batch(n)["labels"] == second.batch(n)["labels"]).all() for n in range(20))


def test_tagged_sentences_are_code_switched_and_keep_their_tags(train, toy_tokenizer):
    plain = train(TAGGING, size="all").batch(0)
    switched = train(TAGGING, size="all", hybrid=Hybrid(ratio=1.0, languages=("qae",))).batch(0)
    assert (plain["labels"] == switched["labels"]).all()
    words = plain["labels"] != -100
    share = (plain["input_ids"] != switched["input_ids"])[words].mean()
    assert 0.35 < share < 0.55  # half of the words, but for gaps of the lexicon
    own = {form for forms in toy_words(0)["qaa"].values() for form in forms}
    target = {form for forms in toy_words(0)["qae"].values() for form in forms}
    for text in texts_of(switched, toy_tokenizer):
        assert set(text.split()[1:-1]) <= own | target


def test_cross_lingual_batches_without_translations_or_lexicon_say_what_to_add(
    tmp_path, make_tokenizer
):
    folder = tmp_path / "pairs" / "sick"
    folder.mkdir(parents=True)
    (folder / "en.train.tsv").write_text("id\tsentence1\tsentence2\tlabel\n1\ta\tb\tneutral\n")
    pipeline = TextPipeline(make_tokenizer(["a", "b", "c"]), "t", 32, tmp_path / "cache")

    def train(**options):
        access = LabelAccess("train", "sick", "en")
        source = FilesSource(tmp_path)
        settings = BatchSettings(4, 0)
        return train_batches(
            source, task_named("sick"), access, "all", pipeline, settings, **options
        )

    assert train().batch(0)["labels"].tolist() == [1] * 4
    with pytest.raises(DataError, match=r"lexicon/en-LANGUAGE\.tsv"):
        train(hybrid=Hybrid(ratio=0.5))
    (tmp_path / "lexicon").mkdir()
    (tmp_path / "lexicon" / "en-de.tsv").write_text("b\tc\n")
    batches = train(hybrid=Hybrid(ratio=1.0))
    rows = {tuple(row) for step in range(9) for row in batches.batch(step)["input_ids"].tolist()}
    assert rows == {(2, 5, 3, 6, 3), (2, 5, 3, 7, 3)}


def test_training_reads_through_its_access(train):
    with pytest.raises(ForbiddenLabels):
        train(purpose="select")


def test_asking_for_too_many_examples_is_refused(train):
    with pytest.raises(DataError, match="there are only 4000"):
        train(size=5000)


@pytest.mark.parametrize("task", [PARAPHRASE, TAGGING], ids=lambda task: task.name)
def test_evaluation_shows_every_example_once_and_decodes_to_gold(evaluate, task):
    splits = [evaluate(task), evaluate(task, language="qaf")]
    batches = EvalBatches(splits, 32)
    of_batches, shapes = [], []
    for batch in batches:
        shapes.append(batch.arrays["input_ids"].shape)
        decoded = batches.decode(batch, np.maximum(batch.arrays["labels"], 0))
        of_batches.append((batch.numbers, decoded))
    assert len(batches) == len(shapes)
    numbers = np.concatenate([numbers for numbers, _ in of_batches])
    assert sorted(numbers.tolist()) == list(range(800))
    for split, decoded in zip(splits, batches.by_split(of_batches), strict=True):
        assert decoded == list(split.gold)
    lengths = [length for _, length in shapes]
    assert lengths == sorted(lengths, reverse=True)
    num_rows = [rows for rows, _ in shapes]
    num_cells = 32 * splits[0].frame.max_length
    assert all(rows * length <= num_cells for rows, length in shapes)
    # Full, or closed because the next row is much shorter.
    in_order = np.concatenate([split.lengths for split in splits])[numbers]
    begins = np.cumsum([0, *num_rows[:-1]])
    for (rows, length), begin, following in zip(shapes, begins, begins[1:], strict=False):
        assert in_order[following - 1] >= MIN_FILL * in_order[begin]
        is_full = (rows + 1) * length > num_cells
        assert is_full or in_order[following] < MIN_FILL * in_order[begin]
    assert max(num_rows) > 32


def test_a_limit_takes_the_first_examples_or_all_there_are(evaluate, toy):
    assert evaluate(limit=7).examples == toy.read(PARAPHRASE, "qae", "test")[:7]
    assert evaluate(limit=7).num_items == 7
    assert len(evaluate(limit=9999).examples) == 400


def test_selection_scores_the_dev_set_of_the_source_language_alone(evaluate):
    assert len(evaluate(language="qaa", split="dev", purpose="select").examples) == 300
    with pytest.raises(ForbiddenLabels):
        evaluate(language="qab", split="dev", purpose="select")
