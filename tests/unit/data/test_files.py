from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xlt_ray.config.trial import FilesData
from xlt_ray.data.sources.base import open_source
from xlt_ray.data.sources.local_files import FilesSource
from xlt_ray.data.task import task_named
from xlt_ray.errors import DataError

POS, NER, PAWS = task_named("pos"), task_named("ner-uner"), task_named("pawsx")


def token(number, form, tag):
    return "\t".join([number, form, "_", tag, *["_"] * 6])


CONLLU = "\n".join(
    [
        "# sent_id = s1",
        "# text = Du vin !",
        token("1-2", "Du", "_"),
        token("1", "de", "ADP"),
        token("2", "le", "DET"),
        token("2.1", "bon", "ADJ"),
        token("3", "vin rouge", "NOUN"),
        "",
        "",
        "# sent_id = s1",
        token("1", "Oui", "INTJ"),
        "",
        "# a block of comments alone",
        "",
        token("1", "fin", "NOUN"),
    ]
)


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_conllu_ranges_empty_nodes_and_loose_lines_are_understood(files, end):
    text = "\ufeff" + CONLLU.replace("\n", end)
    source = files("pos/fr.test.conllu", text)
    first, second, third = source.read(POS, "fr", "test")
    assert (first.words, first.tags) == (("de", "le", "vin rouge"), ("ADP", "DET", "NOUN"))
    assert (first.id, second.id) == ("s1", "s1#2")
    assert (third.words, third.tags) == (("fin",), ("NOUN",))
    assert source.splits(POS)["fr", "test"].num_examples == 3


def test_conll_blocks_are_sentences(files):
    source = files("ner-uner/de.test.conll", "\n\nA B\tB-PER\nC\tO\n\n\n\nD\tO\n")
    first, second = source.read(NER, "de", "test")
    assert (first.words, first.tags, second.words) == (("A B", "C"), ("B-PER", "O"), ("D",))
    assert source.splits(NER)["de", "test"].num_examples == 2


def test_the_prefix_of_pan_x_is_taken_off_its_words(files):
    source = files("ner-panx/de.test.conll", "de:Berlin\tB-LOC\nde:ist\tO\n\nde:10:30\tO\nde:\tO\n")
    first, second = source.read(task_named("ner-panx"), "de", "test")
    assert (first.words, second.words) == (("Berlin", "ist"), ("10:30", "_"))


@pytest.mark.parametrize("words", [["de:", "Haus"], ["http://a", "http://b"], ["Note:", "x"]])
def test_words_with_a_colon_stay_as_they_are(files, words):
    source = files("ner-panx/de.test.conll", "".join(f"{word}\tO\n" for word in words))
    (example,) = source.read(task_named("ner-panx"), "de", "test")
    assert example.words == tuple(words)


def test_marks_of_documents_are_no_words(files):
    source = files("ner-uner/de.test.conll", "-DOCSTART-\tO\n\nA\tO\n\n-DOCSTART-\tO\nB\tO\n")
    examples = source.read(NER, "de", "test")
    assert [example.words for example in examples] == [("A",), ("B",)]
    assert source.splits(NER)["de", "test"].num_examples == 2


def read_by_xtreme(text):
    """As ``pawsx_preprocess`` of XTREME does it: every line after the header is an example."""
    rows = [line.strip().split("\t") for line in text.split("\n")[1:] if line]
    return [(first.strip(), second.strip(), label) for _, first, second, label in rows]


WORDS = st.sampled_from(["NS", "a b", "so NS so", "ns", "x"])


@given(st.lists(st.tuples(WORDS, WORDS, st.sampled_from("01")), max_size=12))
def test_every_row_that_the_benchmark_scores_is_scored_and_only_whole_ones_are_trained(rows):
    rows = [("first", "row", "0"), *rows]
    lines = [f"{number}\t{first}\t{second}\t{label}" for number, (first, second, label)
             in enumerate(rows, 1)]  # fmt: skip
    text = "\n".join([TSV.strip(), *lines, ""])
    scored = read_by_xtreme(text)
    whole = [value for value in scored if "NS" not in value]
    with tempfile.TemporaryDirectory() as root:
        folder = Path(root) / "pairs" / "pawsx"
        folder.mkdir(parents=True)
        for split in ("train", "dev", "test"):
            (folder / f"de.{split}.tsv").write_text(text)
        source = FilesSource(Path(root))
        for split, expected in (("train", whole), ("dev", scored), ("test", scored)):
            examples = source.read(PAWS, "de", split)
            assert [
                (example.first, example.second, example.label) for example in examples
            ] == expected
            assert source.splits(PAWS)["de", split].num_examples == len(expected)


def test_incomplete_rows_are_not_trained_on_and_repeated_ids_distinguished(files):
    rows = [
        "id\tsentence1\tsentence2\tlabel",
        'd1\t"Quoted at the start\tb\t1',
        "d2\tNS\tb\t1",
        "d3\ta\t \t0",
        "",
        "d1\tc\u2028d\te\t0",
    ]
    source = files("pairs/pawsx/de.train.tsv", "\n".join(rows))
    examples = source.read(PAWS, "de", "train")
    assert [(example.id, example.first, example.label) for example in examples] == [
        ("d1", '"Quoted at the start', "1"),
        ("d1#2", "c\u2028d", "0"),
    ]
    assert source.splits(PAWS)["de", "train"].num_examples == 2


@pytest.mark.parametrize(
    ("task", "name", "text", "complaint"),
    [
        (POS, "pos/fr.test.conllu", f"\n{token('1', 'a', 'NOUNN')}\n", r":2: .*did you mean NOUN"),
        (POS, "pos/fr.test.conllu", "1\ta\tNOUN\n", r":1: has 3 columns, not 10"),
        (NER, "ner-uner/fr.test.conll", "a\tO\nb\n", r":2: is not `word TAB tag`"),
        (NER, "ner-uner/fr.test.conll", "a\tI-FOO\n", r":1: unknown label 'I-FOO'"),
        (NER, "ner-uner/fr.test.conll", "O\tist\n", r":1: is `tag TAB word`"),
        (NER, "ner-uner/fr.test.conll", "a\tNN\tB-NP\tO\n", r":1: .*no other columns"),
        (NER, "ner-uner/fr.test.conll", "de:A\tO\nde:B\tO\nC\tO\n", r":3: 'C' lacks the 'de:'"),
        (PAWS, "pairs/pawsx/fr.test.tsv", "id\tsentence1\tlabel\n", r":1: .*lacks sentence2"),
        (
            PAWS,
            "pairs/pawsx/fr.test.tsv",
            "id\tsentence1\tsentence2\tlabel\n1\ta\tb\n",
            r":2: has 3 columns, the header 4",
        ),
        (
            PAWS,
            "pairs/pawsx/fr.test.tsv",
            "id\tsentence1\tsentence2\tlabel\n\n1\ta\tb\t2\n",
            r":3: unknown label '2'",
        ),
    ],
)
def test_a_broken_file_is_named_with_its_line(files, task, name, text, complaint):
    with pytest.raises(DataError, match=complaint) as caught:
        files(name, text).read(task, "fr", "test")
    assert name in str(caught.value)


def test_text_that_is_not_utf8_is_refused(files):
    source = files("ner-uner/fr.test.conll", "é\tO\n", encoding="latin-1")
    with pytest.raises(DataError, match="not UTF-8"):
        source.read(NER, "fr", "test")


def test_a_split_that_is_missing_says_which_languages_have_it(files):
    source = files("ner-uner/de.test.conll", "a\tO\n")
    with pytest.raises(DataError, match=r"ner-uner/fr/test: .*test exists in: de"):
        source.read(NER, "fr", "test")
    with pytest.raises(DataError, match="no language has it"):
        source.read(NER, "de", "train")
    with pytest.raises(DataError, match="toy-nli/qaa/train"):
        source.read(task_named("toy-nli"), "qaa", "train")


def test_a_changed_file_has_another_digest(files):
    before = files("ner-uner/de.test.conll", "a\tO\n").splits(NER)["de", "test"]
    after = files("ner-uner/de.test.conll", "a\tB-PER\n").splits(NER)["de", "test"]
    assert before.num_examples == after.num_examples
    assert before.digest != after.digest


def test_other_files_in_a_task_folder_are_no_splits(files):
    files("ner-uner/LICENCE.txt", "free")
    files("ner-uner/de.extra.conll", "a\tO\n")
    assert set(files("ner-uner/de.test.conll", "a\tO\n").splits(NER)) == {("de", "test")}


def test_a_task_may_take_train_and_dev_sets_from_another_folder(files):
    files("ner-uner/en.train.conll", "a\tO\n")
    files("ner-uner/en.dev.conll", "a\tO\n")
    files("ner-uner/sv.test.conll", "a\tO\n")
    source = files("ner-masakha/sw.test.conll", "b\tB-PER\n")
    task = task_named("ner-masakha")
    assert set(source.splits(task)) == {("sw", "test"), ("en", "train"), ("en", "dev")}
    assert source.read(task, "en", "train")[0].words == ("a",)
    assert source.splits(task)["en", "dev"].digest != source.splits(NER)["en", "dev"].digest
    with pytest.raises(DataError, match="test exists in: sw"):
        source.read(task, "sv", "test")


def test_corpora_of_one_language_are_joined_with_ids_apart(files):
    files("parallel/bible/en.tsv", "v1\tGod made\nv2\t \nv1\tagain\n")
    source = files("parallel/news/en.tsv", "v1\tToday\n")
    assert source.parallel_languages() == ("en",)
    assert source.parallel("en") == {"bible/v1": "God made", "news/v1": "Today"}
    with pytest.raises(DataError, match=r"xx: .*available: en"):
        source.parallel("xx")


def test_a_lexicon_gathers_translations_over_languages(files):
    files("lexicon/en-de.tsv", "dog\tHund\ndog\tKöter\ndog\tHund\n")
    source = files("lexicon/en-fr.tsv", "dog\tchien\n")
    assert source.lexicon_languages("en") == ("de", "fr")
    assert source.lexicon("en") == {"dog": {"de": ("Hund", "Köter"), "fr": ("chien",)}}
    with pytest.raises(DataError, match=r"en-fr\.tsv:1: is not `word TAB translation`"):
        files("lexicon/en-fr.tsv", "dog\n").lexicon("en")


def test_a_missing_root_is_refused(tmp_path):
    with pytest.raises(DataError, match="is not a folder"):
        open_source(FilesData(source="files", root=str(tmp_path / "none")))


@pytest.mark.parametrize("root", ["data", "~/data"])
def test_a_root_counts_from_the_working_directory_or_the_home_folder(
    files, tmp_path, monkeypatch, root
):
    files("data/ner-uner/de.test.conll", "a\tO\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path if root.startswith("~") else tmp_path / "none"))
    source = open_source(FilesData(source="files", root=root))
    assert len(source.read(NER, "de", "test")) == 1


WORD = token("1", "a", "X")
TSV = "id\tsentence1\tsentence2\tlabel\n"


def test_only_a_line_feed_ends_a_line(files):
    source = files("parallel/bible/en.tsv", "v1\tone\rline\r\r\nv2\tanother\n")
    assert source.parallel("en") == {"bible/v1": "one\rline", "bible/v2": "another"}
    with pytest.raises(DataError, match=r"fr\.tsv:2: is not `id TAB sentence`"):
        files("parallel/bible/fr.tsv", "v1\ta\rb\nv2\n").parallel("fr")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("ner-uner/de.test.conll", "\ufeff\n\na\tO\n\u3000\nb\tO\n\u00a0\t\u2003\n\n"),
        ("ner-uner/de.test.conll", "\ufeffa\tO\r\n \r\nb\tO"),
        ("pos/de.test.conllu", f"\ufeff# alone\n\n{WORD}\n\x1f\n{WORD}"),
        ("pos/de.test.conllu", f"# a\n{token('1-2', 'a', '_')}\n\n{WORD}\n\n{WORD}"),
        (
            "pairs/pawsx/de.test.tsv",
            "\ufeffid\t sentence1 \tsentence2\tlabel \n1\ta\tb\t0\n2\ta\tb\t1",
        ),
        (
            "choice/socialiqa/de.test.jsonl",
            '\ufeff\n{"context": "c", "choices": ["a", "b", "c"], "label": 0}\n\u3000\n'
            '{"context": "c", "choices": ["a", "b", "c"], "label": 0}\n',
        ),
        (
            "retrieval/lareqa/de.test.jsonl",
            '\ufeff\n{"id": 1, "query": "a"}\n\u3000\n{"id": 2, "candidate": "b"}\n',
        ),
    ],
)  # fmt: skip
def test_as_many_examples_are_counted_as_are_read(files, name, text):
    source = files(name, text)
    (task,) = [
        task_named(known)
        for known in ("ner-uner", "pos", "pawsx", "socialiqa", "lareqa")
        if name.startswith(f"{task_named(known).folder}/")
    ]
    assert len(source.read(task, "de", "test")) == 2
    assert source.splits(task)["de", "test"].num_examples == 2


@pytest.mark.parametrize(
    ("task", "name", "text"),
    [
        (NER, "ner-uner/fr.test.conll", "\ufeff\n \n"),
        (POS, "pos/fr.test.conllu", "# a comment alone\n"),
        (PAWS, "pairs/pawsx/fr.test.tsv", TSV),
        (PAWS, "pairs/pawsx/fr.train.tsv", f"{TSV}1\tNS\tb\t0\n"),
        (task_named("socialiqa"), "choice/socialiqa/fr.test.jsonl", ""),
        (task_named("xquad"), "qa/xquad/fr.test.json", '{"data": []}'),
        (task_named("lareqa"), "retrieval/lareqa/fr.test.jsonl", "\n"),
        (task_named("tatoeba"), "retrieval/tatoeba/fr.test.tsv", "source\ttarget\n"),
    ],
)
def test_a_file_without_examples_is_refused_and_not_scored_as_zero(files, task, name, text):
    with pytest.raises(DataError, match=rf"{name}: holds no example; .*delete the file"):
        files(name, text).splits(task)


def test_sets_of_its_own_go_before_those_of_another_folder(files):
    files("ner-uner/en.train.conll", "lent\tO\n")
    files("ner-uner/en.dev.conll", "lent\tO\n")
    source = files("ner-masakha/en.dev.conll", "own\tO\n\nown\tO\n")
    task = task_named("ner-masakha")
    assert source.read(task, "en", "dev")[0].words == ("own",)
    assert source.splits(task)["en", "dev"].num_examples == 2
    assert source.read(task, "en", "train")[0].words == ("lent",)


def test_tasks_that_read_one_file_have_the_same_content_and_digests_of_their_own(files):
    row = "id\tsentence1\tsentence2\tlabel\tscore\n1\ta\tb\t0\t1.5\n"
    source = files("pairs/stsb/de.train.tsv", row)
    first, second = (source.splits(task_named(name)) for name in ("stsb", "stsb-score"))
    assert first["de", "train"].is_same(second["de", "train"])
    assert first["de", "train"].digest != second["de", "train"].digest
    changed = files("pairs/stsb/de.train.tsv", row.replace("1.5", "1.6")).splits(task_named("stsb"))
    assert not first["de", "train"].is_same(changed["de", "train"])


def test_codes_of_languages_may_have_a_hyphen(files):
    source = files("lexicon/zh-Hant-pt-BR.tsv", "a\tb\n")
    assert source.lexicon_languages("zh-Hant") == ("pt-BR",)
    assert source.lexicon("zh-Hant") == {"a": {"pt-BR": ("b",)}}


def test_parallel_text_without_a_sentence_is_refused(files):
    with pytest.raises(DataError, match="sw: its parallel text holds no sentence"):
        files("parallel/bible/sw.tsv", "\nv1\t \n").parallel("sw")
