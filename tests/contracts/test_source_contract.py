"""What every data source promises, and what the real collection holds where it is there."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.hubmirror import write_mirror
from xlt_ray.config.task_types import KINDS
from xlt_ray.config.trial import FilesData, HubData, ToyData
from xlt_ray.data.batches.evaluation import joined
from xlt_ray.data.label_access import LabelAccess, labelled, texts
from xlt_ray.data.sources.base import open_source
from xlt_ray.data.task import load_tasks, task_named
from xlt_ray.data.types.base import kind_of
from xlt_ray.errors import DataError, ForbiddenLabels

OF_EACH_KIND = ("ner-panx", "pawsx", "xcopa", "squad2", "tatoeba", "bucc-mining")
SHARED = Path(__file__).parents[3] / "shared" / "data"


def conllu(sentences):
    return "".join(
        f"# sent_id = {name}\n"
        + "".join(
            "\t".join([str(place), word, "_", tag, *["_"] * 6]) + "\n"
            for place, (word, tag) in enumerate(words, start=1)
        )
        + "\n"
        for name, words in sentences.items()
    )


def write_folder(root):
    rows = "id\tsentence1\tsentence2\tlabel\n"
    files = {
        "pos/en.train.conllu": conllu(
            {"s1": [("A", "DET"), ("dog", "NOUN")], "s2": [("So", "ADV")]}
        ),
        "pos/en.dev.conllu": conllu({"d1": [("cats", "NOUN"), ("sleep", "VERB")]}),
        "pos/de.test.conllu": conllu({"t1": [("Hunde", "NOUN")]}),
        "ner-uner/en.train.conll": "Ada\tB-PER\nspoke\tO\n\nHere\tO\n",
        "ner-uner/sv.test.conll": "Ada\tB-PER\n",
        "pairs/pawsx/en.train.tsv": rows + "1\ta b\tb a\t1\n2\tc\td\t0\n",
        "pairs/pawsx/de.train.tsv": rows + "2\tC\tD\t0\n1\tA B\tB A\t1\n",
        "pairs/pawsx/de.test.tsv": rows + "9\tA\tA\t1\n",
        "pairs/stsb/en.train.tsv": ("id\tsentence1\tsentence2\tscore\tlabel\n1\ta b\tb\t4.5\t2\n"),
        "choice/xcopa/et.test.jsonl": (
            '{"premise": "A", "choice1": "B", "choice2": "C", "question": "cause",'
            ' "label": 1, "idx": 7}\n'
        ),
        "qa/mlqa/en.train.json": (
            '{"data": [{"paragraphs": [{"context": "Ada wrote it.", "qas": [{"id": "q1",'
            ' "question": "Who?", "answers": [{"text": "Ada", "answer_start": 0}]}]}]}]}'
        ),
        "parallel/bible/en.tsv": "GEN.1.1\tIn the beginning\nGEN.1.3\tAnd God said\n",
        "parallel/bible/de.tsv": "GEN.1.1\tAm Anfang\nGEN.1.2\tUnd die Erde\n",
        "lexicon/en-de.tsv": "beginning\tAnfang\nGod\tGott\n",
        "retrieval/bucc/de.dev.jsonl": (
            '{"id": "d1", "language": "de", "sentence": "Ja", "gold": ["e1"]}\n'
            '{"id": "e1", "language": "en", "sentence": "Yes"}\n'
            '{"id": "e2", "language": "en", "sentence": "No"}\n'
        ),
    }
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text, encoding="utf-8")
    return FilesData(source="files", root=str(root))


@pytest.fixture(scope="module")
def mirror(tmp_path_factory):
    """Data sets as on the hub, parallel text and word lists beside them."""
    root = tmp_path_factory.mktemp("hub")
    texts = write_folder(root / "texts").root
    return HubData(
        source="hub", root=str(write_mirror(root / "sets")), texts=texts, cache=str(root / "arrow")
    )


@pytest.fixture(params=["toy", "files", "hub"])
def data(request, tmp_path):
    if request.param == "hub":
        return request.getfixturevalue("mirror")
    return ToyData(source="toy") if request.param == "toy" else write_folder(tmp_path)


def held(source):
    """Every (task, language, split) that a source says it has; of the hub one task of each kind."""
    return [
        (task, language, split)
        for task in load_tasks()
        if source.name != "hub" or task.name in OF_EACH_KIND
        for language, split in source.splits(task)
    ]


def test_every_split_reads_as_it_was_reported(data):
    source = open_source(data)
    assert held(source)
    for task, language, split in held(source):
        examples = source.read(task, language, split)
        assert len(examples) == source.splits(task)[language, split].num_examples
        assert len({example.id for example in examples}) == len(examples)
        kind = kind_of(task)
        for example in examples:
            words = example.sentences()
            assert len(words) == kind.width
            # Of ranking a row may have no query.
            assert any(words) if task.kind == "ranking" else all(words)
            assert all(word.strip() for sentence in words for word in sentence)
            assert kind.numbers(example).dtype in (np.int64, np.float32)
            assert example.hidden().gold is None
            assert example.hidden().sentences() == words


def test_a_source_opened_again_gives_the_same_digests_and_text(data):
    first, second = open_source(data), open_source(data)
    for task, language, split in held(first):
        assert first.splits(task)[language, split] == second.splits(task)[language, split]
        assert first.read(task, language, split) == second.read(task, language, split)
    for language in first.parallel_languages():
        assert first.parallel_digest(language) == second.parallel_digest(language)
        assert dict(first.parallel(language)) == dict(second.parallel(language))
        assert first.lexicon_digest(language) == second.lexicon_digest(language)


def test_digests_tell_splits_languages_and_resources_apart(data):
    source = open_source(data)
    digests = [
        source.splits(task)[language, split].digest for task, language, split in held(source)
    ]
    digests += [source.parallel_digest(language) for language in source.parallel_languages()]
    assert len(set(digests)) == len(digests)
    assert all(len(digest) == 64 for digest in digests)


def test_a_source_has_only_its_own_tasks(data):
    source = open_source(data)
    for task, _, _ in held(source):
        # What is not on the hub lies beside its texts.
        assert source.name in task.sources or (source.name == "hub" and not task.hub)


def test_a_task_that_is_not_on_the_hub_is_the_same_beside_it(mirror):
    task, files = task_named("bucc-mining"), FilesData(source="files", root=mirror.texts)
    beside, alone = open_source(mirror), open_source(files)
    assert beside.splits(task) == alone.splits(task) != {}
    assert beside.read(task, "de", "dev") == alone.read(task, "de", "dev")
    bare = open_source(mirror.model_copy(update={"texts": None}))
    assert not bare.splits(task)
    with pytest.raises(DataError, match="bucc-mining/de/dev"):
        bare.read(task, "de", "dev")


def test_a_missing_split_is_refused_with_its_place(data):
    source = open_source(data)
    task = held(source)[0][0]
    with pytest.raises(DataError, match=f"{task.name}/xx/train"):
        source.read(task, "xx", "train")


def test_parallel_sentences_join_on_their_ids(data):
    source = open_source(data)
    languages = source.parallel_languages()
    assert languages == tuple(sorted(languages))
    shared = set.intersection(*(set(source.parallel(language)) for language in languages))
    assert shared
    assert len({source.parallel(language)[min(shared)] for language in languages}) > 1
    assert all(
        text.strip() for language in languages for text in source.parallel(language).values()
    )


def test_a_lexicon_translates_into_its_languages_and_no_other(data):
    source = open_source(data)
    for language in source.parallel_languages():
        targets = source.lexicon_languages(language)
        assert language not in targets
        for word, by_target in source.lexicon(language).items():
            assert word
            assert by_target
            assert set(by_target) <= set(targets)
            assert all(translations for translations in by_target.values())
    assert source.lexicon_languages("xx") == ()
    assert source.lexicon("xx") == {}


def test_a_closed_vocabulary_holds_every_word(data):
    source = open_source(data)
    vocabulary = source.vocabulary()
    if source.name != "toy":
        assert vocabulary is None
        return
    assert len(set(vocabulary)) == len(vocabulary)
    words = {
        word
        for language in source.parallel_languages()
        for text in source.parallel(language).values()
        for word in text.split()
    }
    assert words <= set(vocabulary)


def test_every_source_is_read_with_label_access_alone(data):
    source = open_source(data)
    for task, language, split in held(source):
        access = LabelAccess("train", task.name, "none-of-these")
        with pytest.raises(ForbiddenLabels):
            labelled(source, access, task, language, split)
        if split == "train":
            hidden = texts(source, access, task, language, split)
            assert len(hidden) == source.splits(task)[language, split].num_examples
            assert all(example.gold is None for example in hidden)


@pytest.fixture
def shared():
    if not SHARED.is_dir():
        pytest.skip("no shared data beside the repository")
    return open_source(FilesData(source="files", root=str(SHARED)))


CONVERTED = ("bucc-mining", "ccg", "lareqa", "mewsli-x")
"""Tasks whose files everybody has to make."""
REAL = [task.name for task in load_tasks() if task.source == "files" and task.name not in CONVERTED]


def splits_of_collection(shared, task):
    """Splits of a task of which the collection has files; others are skipped."""
    splits = shared.splits(task)
    if not splits:
        pytest.skip(f"the collection has no files of {task.name}")
    return splits


@pytest.mark.parametrize("name", REAL)
def test_real_files_read_as_they_were_reported(shared, name):
    task = task_named(name)
    splits = splits_of_collection(shared, task)
    assert (("en", "train") in splits) == KINDS[task.kind].is_trained
    for (language, split), facts in splits.items():
        examples = shared.read(task, language, split)
        assert len(examples) == facts.num_examples > 0
        assert len({example.id for example in examples}) == len(examples)


def test_real_tagging_data_is_surveyed_whole(shared):
    assert len(shared.splits(task_named("pos"))) == 44


def test_real_test_sets_are_joined_by_sentence(shared):
    task = task_named("pos")
    pud = [
        {example.id for example in shared.read(task, language, "test")}
        for language in ("en", "de", "zh")
    ]
    assert len(set.intersection(*pud)) == 1000


def test_real_translations_keep_the_label_of_their_row(shared):
    task = task_named("stsb")
    english = {example.id: example.label for example in shared.read(task, "en", "train")}
    german = shared.read(task, "de", "train")
    assert len(german) > 5000
    assert all(english[example.id] == example.label for example in german)


@pytest.mark.parametrize("name", [name for name in REAL if task_named(name).is_parallel])
def test_real_test_rows_of_parallel_tasks_join_in_every_language(shared, name):
    task = task_named(name)
    splits = splits_of_collection(shared, task)
    english = shared.read(task, "en", "test")
    languages = [language for language, split in splits if split == "test"]
    assert len(languages) >= 7
    for language in languages:
        both = joined(english, shared.read(task, language, "test"), task=name, language=language)
        assert len(both.examples) > 0.95 * len(english)


def test_real_words_with_spaces_stay_one_word(shared):
    words = [
        word for example in shared.read(task_named("pos"), "vi", "test") for word in example.words
    ]
    assert sum(" " in word for word in words) > 1000


def test_real_parallel_text_joins_on_verses(shared):
    english, french = shared.parallel("en"), shared.parallel("fr")
    assert len(english.keys() & french.keys()) > 10_000
    assert "ar" in shared.parallel_languages()
