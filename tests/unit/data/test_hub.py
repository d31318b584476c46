"""The hub source reads data sets in the hub's own form: field by field, and says what is wrong."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.hubmirror import INFERENCE, question, write_data_set, write_mirror
from xlt_ray.config.trial import HubData
from xlt_ray.data.sources.base import open_source
from xlt_ray.data.sources.hub_source import HubSource
from xlt_ray.data.task import HubPart, load_tasks, parse_task, task_named
from xlt_ray.data.types.choice import ChoiceExample
from xlt_ray.data.types.pair import PairExample
from xlt_ray.data.types.retrieval import RetrievalExample
from xlt_ray.data.types.score import ScoreExample
from xlt_ray.data.types.span import Answer, SpanExample
from xlt_ray.data.types.tag import TagExample
from xlt_ray.data.types.text import TextExample
from xlt_ray.errors import DataError

DOCUMENT = Path(__file__).parents[3] / "docs" / "tasks.md"
REGISTRY = [task.name for task in load_tasks() if task.hub]


@pytest.fixture(scope="module", autouse=True)
def _offline():
    import datasets

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
        yield


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_mirror(tmp_path_factory.mktemp("mirror"))


@pytest.fixture(scope="module")
def arrow(tmp_path_factory):
    return str(tmp_path_factory.mktemp("arrow"))


@pytest.fixture(scope="module")
def source(folder, arrow):
    return HubSource(folder, cache=arrow)


def pair(name, first, label, second="h"):
    return PairExample(name, first, second, label)


def answered(name, passage, *texts, asked="Who?"):
    answers = tuple(Answer(text, passage.index(text)) for text in texts)
    return SpanExample(name, asked, passage, answers)


MNLI = [pair(f"train{n}", f"mnli {n}", INFERENCE[n]) for n in range(3)]
COPA = ("It fell.", "It flew.")
EFFECT = "What happened as a result?"
ENTITIES = ("B-PER", "O")
EXPECTED = {
    "anli-plus en train": [
        *MNLI,
        pair("train3", "snli 0", "contradiction"),
        # train4 has no label
        pair("train5", "snli 2", "entailment"),
        *(pair(f"train{5 + turn}", f"train {turn}", INFERENCE[turn - 1]) for turn in (1, 2, 3)),
    ],
    "anli-plus en test": [pair(f"test{n}", f"test {n + 1}", INFERENCE[n]) for n in range(3)],
    "casehold en test": [
        ChoiceExample("test0", "See Roe (<HOLDING>).", "", ("v", "w", "x", "y", "z"), 3)
    ],
    "medmcqa en dev": [
        ChoiceExample("m1", "", "Which bone?", ("Ulna", "Tibia", "Ilium", "Rib"), 2)
    ],
    "scitail en train": [pair("train0", "Water boils.", "entails", "It is hot.")],
    "bucc de test": [RetrievalExample("test0", "Gute Nacht", "Good night")],
    "commonsenseqa en train": [
        ChoiceExample("7", "", "Where is a fish?", ("sea", "sky", "tree", "car", "sun"), 0)
    ],
    "cosmosqa en dev": [
        ChoiceExample("dev0", "validation It rained.", "So?", ("wet", "dry", "hot", "none"), 2)
    ],
    "hellaswag en train": [
        ChoiceExample("train0", "A man sails. He", "", ("sinks.", "lands.", "flies.", "sings."), 1)
    ],
    "socialiqa en train": [
        ChoiceExample("train0", "train Kim ran.", "Why?", ("late", "fun", "no"), 2)
    ],
    "mlqa en train": [answered("train1", "Ada wrote it.", "Ada")],
    "mlqa de dev": [answered("validation1", "Ada, de.", "Ada", asked="Wer de?")],
    "mlqa-en de test": [answered("test1", "Ada, en.", "Ada", asked="Wer de?")],
    "mnli en train": MNLI,
    "mnli en dev": [pair("dev0", "matched 0", "neutral")],
    "mnli en test": [pair("test0", "mismatched 0", "contradiction")],
    "ner-panx de dev": [
        TagExample("dev0", ("de-validation", "spoke"), ENTITIES),
        TagExample("dev1", ("Rome",), ("B-LOC",)),
    ],
    "pawsx de train": [
        PairExample("1", "a de", "b", "1"),
        PairExample("3", "c de", "d", "0"),
    ],
    "pos de test": [TagExample("test0", ("German-test", "runs"), ("NOUN", "VERB"))],
    "pos kk train": [TagExample("train0", ("kk-train", "runs"), ("NOUN", "VERB"))],
    "pos th test": [TagExample("test0", ("th-test", "runs"), ("NOUN", "VERB"))],
    "qqp en dev": [
        PairExample("dev0", "Who?", "Who is it?", "duplicate"),
        PairExample("dev1", "Who?", "Where?", "not_duplicate"),
    ],
    "squad en dev": [answered("validation1", "Ada wrote it.", "Ada")],
    "squad2 en train": [
        answered("q1", "Ada wrote it.", "Ada", "it"),
        answered("q2", "Ada wrote it.", asked="When?"),
    ],
    "tatoeba de test": [RetrievalExample("test0", "Danke.", "Thanks.")],
    "tydiqa en train": [
        answered(f"english-{n}", f"It was english {n}.", f"english {n}") for n in range(9)
    ],
    "tydiqa en dev": [answered("english-9", "It was english 9.", "english 9")],
    "tydiqa sw test": [
        answered(f"swahili-{n}", f"It was swahili {n}.", f"swahili {n}") for n in range(10)
    ],
    "xcopa en dev": [ChoiceExample("dev0", "dev", EFFECT, COPA, 1)],
    "xcopa et test": [ChoiceExample("test0", "et test", EFFECT, COPA, 0)],
    "xnli en train": MNLI,
    "xnli de test": [pair(f"test{n}", f"de test {n}", INFERENCE[n]) for n in range(3)],
    "xnli-translated de train": [
        pair("train0", "de 0", "entailment"),
        pair("train1", "de 1", "contradiction"),
    ],
    "afrisenti ha test": [TextExample("test0", "Good.", "positive")],
    "afrixnli en dev": [pair("dev0", "eng 0", "neutral")],
    "belebele de test": [
        ChoiceExample("test0", "It rained.", "So?", ("wet", "dry", "hot", "none"), 1)
    ],
    "masakhanews en test": [TextExample("test0", "All well.", "health")],
    "massive de dev": [TextExample("3", "Wake me.", "alarm_set")],
    "nusax en train": [TextExample("train0", "Bad.", "negative")],
    "sib200 de test": [TextExample("7", "Go there.", "travel")],
    "xquad en train": [answered("train1", "Ada wrote it.", "Ada")],
    "xquad en dev": [answered("validation1", "Ada wrote it.", "Ada")],
    "xquad de test": [answered("x1", "Ada de", "Ada de")],
}


def test_every_entry_of_the_registry_is_compared():
    assert {line.split()[0] for line in EXPECTED} == set(REGISTRY)


@pytest.mark.parametrize("place", EXPECTED)
def test_rows_become_the_examples_that_they_say(source, place):
    name, language, split = place.split()
    examples = source.read(task_named(name), language, split)
    assert list(examples) == EXPECTED[place]
    assert source.splits(task_named(name))[language, split].num_examples == len(examples)


@pytest.mark.parametrize("name", REGISTRY)
def test_a_mirror_has_the_languages_that_it_holds(source, name):
    named = {language for part in task_named(name).hub for language in part.names}
    held = {"pos": {"en", "de", "kk", "th"}, "xcopa": {"en", "et", "sw"}}
    # What one configuration holds for all languages is not looked into.
    held |= {"tydiqa": named, "xnli": named, "afrisenti": {"ha"}}
    held |= {key: {"en"} for key in ("masakhanews", "nusax", "afrixnli")}
    there = {language for language, _ in source.splits(task_named(name))}
    assert there == named & held.get(name, {"en", "de"})


def test_a_language_without_rows_is_no_empty_set(source):
    with pytest.raises(DataError, match=r"tydiqa/ko/test: google/xtreme tydiqa .*no row"):
        source.splits(task_named("tydiqa"))["ko", "test"]


@pytest.fixture
def small(tmp_path):
    """A mirror of PAWS-X in English alone, and what rewrites it."""

    def write(first="a", splits=("train",), jsonl=False, **columns):
        from datasets import ClassLabel, Value

        folder = tmp_path / "small" / "google-research-datasets/paws-x"
        shutil.rmtree(folder, ignore_errors=True)
        row = {"id": 1, "sentence1": first, "sentence2": "b", "label": 1, **columns}
        row = {name: value for name, value in row.items() if value is not None}
        types = {"id": Value("int32"), "label": ClassLabel(names=["0", "1"])}
        features = {name: types.get(name, Value("string")) for name in row}
        rows = {"en": {split: [row] for split in splits}}
        write_data_set(folder, rows, features, jsonl=jsonl)
        return HubSource(tmp_path / "small", cache=str(tmp_path / "arrow"))

    return write


PAWS = task_named("pawsx")


def test_digests_follow_the_rows_and_not_the_files(small):
    digest = small().splits(PAWS)["en", "train"].digest
    assert small(jsonl=True).splits(PAWS)["en", "train"].digest == digest
    assert small("another").splits(PAWS)["en", "train"].digest != digest


def test_rows_are_read_once_a_home_and_again_when_their_file_changes(small, tmp_path, monkeypatch):
    def opened():
        return HubSource(
            tmp_path / "small", cache=str(tmp_path / "arrow"), tables=tmp_path / "home"
        )

    plain = small()
    facts, examples = plain.splits(PAWS)["en", "train"], plain.read(PAWS, "en", "train")
    assert opened().splits(PAWS)["en", "train"] == facts
    with monkeypatch.context() as patch:
        patch.setattr(HubSource, "_rows", None)
        again = opened()
        assert tuple(again.read(PAWS, "en", "train")) == examples
        assert again.splits(PAWS)["en", "train"] == facts
    small("another")
    assert opened().read(PAWS, "en", "train")[0].first == "another"
    with pytest.raises(DataError, match="no such data"):
        opened().read(PAWS, "xx", "train")


def test_a_row_that_is_not_translated_is_scored_and_not_trained_on(small):
    assert small("NS", ("validation",)).read(PAWS, "en", "dev")[0].first == "NS"
    with pytest.raises(DataError, match="no row of"):
        small("NS").read(PAWS, "en", "train")


def test_a_file_that_changed_is_read_again(small):
    assert small("before").read(PAWS, "en", "train")[0].first == "before"
    assert small("after").read(PAWS, "en", "train")[0].first == "after"


@pytest.mark.parametrize(
    ("place", "complaint"),
    [
        (("de", "train"), r"pawsx/de/train: google-research-datasets/paws-x de \(in .*\): there is "
                          r"no configuration 'de'; available: en"),
        (("en", "dev"), r"pawsx/en/dev: .*paws-x en .*no split 'validation'; available: train"),
        (("sw", "test"), r"pawsx/sw/test: the hub source has no such data"),
    ],
)  # fmt: skip
def test_what_a_mirror_lacks_is_named_with_what_it_has(small, place, complaint):
    with pytest.raises(DataError, match=complaint):
        small().read(PAWS, *place)


def test_a_missing_column_is_named_with_those_that_are_there(small):
    with pytest.raises(
        DataError, match=r"paws-x en .*no column 'sentence1'.*did you mean sentence2"
    ):
        small(sentence1=None).read(PAWS, "en", "train")


def test_an_unknown_label_is_named_with_its_row(small):
    from datasets import Value

    folder = small()._library.mirror / "google-research-datasets/paws-x"
    row = {"id": 1, "sentence1": "a", "sentence2": "b", "label": "maybe"}
    write_data_set(folder, {"en": {"train": [row]}}, dict.fromkeys(row, Value("string")))
    with pytest.raises(DataError, match=r"paws-x en .*train:1: unknown label 'maybe'"):
        HubSource(folder.parents[1]).read(PAWS, "en", "train")


def test_a_damaged_file_is_named(small):
    source = small()
    folder = source._library.mirror / "google-research-datasets/paws-x"
    next(folder.rglob("*.parquet")).write_bytes(b"PAR1 this is no parquet file")
    with pytest.raises(DataError, match=r"pawsx/en/train: .*paws-x en .*cannot be read"):
        source.read(PAWS, "en", "train")


def test_a_data_set_that_is_not_in_the_mirror_is_named(tmp_path):
    (tmp_path / "empty").mkdir()
    source = HubSource(tmp_path / "empty")
    assert not source.splits(PAWS)
    with pytest.raises(DataError, match="copy the data set google-research-datasets/paws-x into"):
        source.read(PAWS, "en", "train")


def test_a_hub_that_cannot_be_reached_is_said_plainly(tmp_path):
    source = HubSource(cache=str(tmp_path))
    assert ("de", "test") in source.splits(PAWS)
    with pytest.raises(
        DataError, match=r"paws-x de: the Hugging Face Hub cannot be reached"
    ) as caught:
        source.splits(PAWS)["de", "test"]
    assert caught.value.exit_code == 2
    assert "data.root" in str(caught.value)


def test_what_the_cache_has_is_taken_where_the_hub_is_silent(small, tmp_path):
    there = small().splits(PAWS)["en", "train"]
    (kept,) = (tmp_path / "arrow/mirrors").glob("*/paws-x")
    shutil.copytree(kept, tmp_path / "hub/google-research-datasets___paws-x")
    source = HubSource(cache=str(tmp_path / "hub"))
    assert source.splits(PAWS)["en", "train"] == there
    with pytest.raises(DataError, match=r"paws-x de: the Hugging Face Hub cannot be reached"):
        source.read(PAWS, "de", "train")


def test_no_script_is_run(tmp_path):
    folder = tmp_path / "google-research-datasets/paws-x"
    folder.mkdir(parents=True)
    (folder / "paws-x.py").write_text("raise SystemExit('ran')\n")
    with pytest.raises(DataError, match=r"pawsx/en/train: .*paws-x"):
        HubSource(tmp_path).read(PAWS, "en", "train")


def test_only_plain_forms_are_read(tmp_path):
    folder = tmp_path / "google-research-datasets/paws-x"
    folder.mkdir(parents=True)
    (folder / "README.md").write_text(
        "---\nconfigs:\n- config_name: en\n  data_files:\n"
        "  - {split: train, path: train.tar}\n---\n"
    )
    (folder / "train.tar").write_bytes(b"no archive")
    with pytest.raises(DataError, match=r"paws-x en .*of the form 'webdataset'; parquet, JSON"):
        HubSource(tmp_path).read(PAWS, "en", "train")


def test_texts_come_from_a_folder_of_their_own(folder, tmp_path):
    (tmp_path / "parallel/bible").mkdir(parents=True)
    (tmp_path / "parallel/bible/en.tsv").write_text("1\tIn the beginning\n")
    (tmp_path / "lexicon").mkdir()
    (tmp_path / "lexicon/en-de.tsv").write_text("day\tTag\n")
    data = HubData(source="hub", root=str(folder), texts=str(tmp_path))
    source = open_source(data)
    assert source.parallel_languages() == ("en",)
    assert source.lexicon("en") == {"day": {"de": ("Tag",)}}
    with pytest.raises(DataError, match=r"data\.texts"):
        HubSource(folder).parallel("en")


def test_rows_of_translated_data_join_whatever_was_left_out(tmp_path):
    from datasets import Value

    for code, sentences in (("en", ("a", "", "c")), ("de", ("A", "B", "C"))):
        rows = [
            {"premise": sentence, "hypothesis": "h", "label": "neutral"} for sentence in sentences
        ]
        write_data_set(
            tmp_path / code / "facebook/xnli", {code: {"train": rows}},
            dict.fromkeys(rows[0], Value("string")),
        )  # fmt: skip
    task = task_named("xnli-translated")
    english, german = (
        {
            example.id: example.first
            for example in HubSource(tmp_path / code).read(task, code, "train")
        }
        for code in ("en", "de")
    )
    assert {name: german[name] for name in english} == {"train0": "A", "train2": "C"}


def test_an_answer_that_was_moved_by_cut_whitespace_is_found(tmp_path):
    from datasets import List, Value

    row = {**question("q", "Ada met Ada.", "Ada"), "title": ""}
    row["answers"] = {"text": ["Ada"], "answer_start": [9]}
    text = Value("string")
    features = {
        **dict.fromkeys(row, text),
        "answers": {"text": List(text), "answer_start": List(Value("int32"))},
    }
    write_data_set(tmp_path / "rajpurkar/squad", {"plain_text": {"train": [row]}}, features)
    (example,) = HubSource(tmp_path).read(task_named("squad"), "en", "train")
    assert example.answers == (Answer("Ada", 8),)


def documented(task):
    places = [place for part in task.hub for place in part.places()]

    def languages(split):
        found = sorted({language for language, name in places if name == split})
        return (", ".join(found) if len(found) <= 4 else str(len(found))) or "-"

    sets = dict.fromkeys(
        f"`{part.id}`" + (f" `{part.config}`" if part.config else "") for part in task.hub
    )
    cells = (*map(languages, ("train", "dev", "test")), "; ".join(sets))
    return f"| `{task.name}` | `{task.kind}` | {' | '.join(cells)} |"


@pytest.mark.parametrize("name", REGISTRY)
def test_the_document_says_what_the_registry_says(name):
    assert documented(task_named(name)) in DOCUMENT.read_text().splitlines()


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (("{language}", "{tongue}"), "can be filled in"),
        ((", label: label", ""), "columns lack label"),
        (("label: label", "label: label, third: x"), "columns of a pair task are"),
        (("id: a/b", "id: b"), "hub"),
        (("{language}", "{name.first}"), "can be filled in"),
    ],
)
def test_a_wrong_hub_entry_is_refused(change, complaint):
    text = """\
name: x
kind: pair
version: 1
title: T
labels: ["0", "1"]
metrics: [accuracy]
source: hub
hub:
  - id: a/b
    config: "{language}"
    languages: [en]
    splits: {train: train}
    columns: {first: a, second: b, label: label}
"""
    assert parse_task(text, "x.yaml").sources == ("hub",)
    with pytest.raises(DataError, match=complaint):
        parse_task(text.replace(*change), "x.yaml")


def test_the_same_rows_under_two_names_are_the_same_examples(source):
    first, second = (source.splits(task_named(name)) for name in ("mlqa", "xquad"))
    assert first["en", "train"].is_same(second["en", "train"])
    assert first["en", "train"].digest != second["en", "train"].digest
    assert not first["en", "train"].is_same(second["en", "dev"])


def test_a_revision_of_a_data_set_that_nobody_reads_is_refused(folder):
    with pytest.raises(DataError, match=r"google/xtrem'.*did you mean google/xtreme\?"):
        HubSource(folder, revisions={"google/xtrem": "main"})


@pytest.fixture
def read_rows(tmp_path):
    """``read_rows(task, rows, features, **columns)``: the rows of a data set of one split."""

    def read(name, rows, features, **columns):
        write_data_set(tmp_path / "a/b", {"en": {"train": rows}}, features)
        part = HubPart(
            id="a/b", config="en", languages=("en",), splits={"train": "train"}, columns=columns
        )
        task = task_named(name).model_copy(update={"hub": (part,)})
        return HubSource(tmp_path).read(task, "en", "train")

    return read


def test_numbers_are_read_as_scores(read_rows):
    from datasets import Value

    row = {"a": "x", "b": "y", "score": 2.5}
    features = {"a": Value("string"), "b": Value("string"), "score": Value("float64")}
    examples = read_rows("stsb-score", [row], features, first="a", second="b", label="score")
    assert examples == (ScoreExample("train0", "x", "y", 2.5),)


def test_a_row_whose_block_is_missing_is_left_out(read_rows):
    from datasets import Value

    text = Value("string")
    rows = [{"a": "x", "b": "y", "gold": gold} for gold in ({"label": "0"}, None, {"label": "1"})]
    features = {"a": text, "b": text, "gold": {"label": text}}
    examples = read_rows("pawsx", rows, features, first="a", second="b", label="gold.label")
    assert [(row.id, row.label) for row in examples] == [("train0", "0"), ("train2", "1")]


def test_a_row_without_an_id_is_numbered(read_rows):
    from datasets import Value

    rows = [{"id": name, "a": "x", "b": "y", "label": "0"} for name in ("7", None, " ", None)]
    features = dict.fromkeys(rows[0], Value("string"))
    examples = read_rows("pawsx", rows, features, id="id", first="a", second="b", label="label")
    assert [row.id for row in examples] == ["7", "train1", "train2", "train3"]
