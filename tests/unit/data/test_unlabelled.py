"""Text without labels: what is read of it, and where it is wrong."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from xlt_ray.data.task import task_named
from xlt_ray.data.types.base import read_inputs
from xlt_ray.errors import DataError


def written(folder: Path, name: str, text: str) -> Path:
    file = folder / name
    file.write_text(text, encoding="utf-8")
    return file


def test_a_sentence_a_line_is_words_between_whitespace(tmp_path: Path) -> None:
    file = written(tmp_path, "a.txt", "\ufeffZwei Wörter\r\n\n  Noch  drei mehr \n")
    first, second = read_inputs(file, task_named("pos"))
    assert (first.id, first.sentences()) == ("line1", (("Zwei", "Wörter"),))
    assert (second.id, second.sentences()) == ("line3", (("Noch", "drei", "mehr"),))


def test_a_file_of_the_tasks_own_format_is_read_as_training_reads_it(tmp_path: Path) -> None:
    line = "1\tHunde\t_\tNOUN" + "\t_" * 6
    file = written(tmp_path, "de.test.conllu", f"# sent_id = x7\n{line}\n")
    (example,) = read_inputs(file, task_named("pos"))
    assert (example.id, example.sentences()) == ("x7", (("Hunde",),))


@pytest.mark.parametrize("name", ["pawsx", "sick", "stsb-score"])
@pytest.mark.parametrize(
    ("text", "ids"),
    [
        ("a b\tc\nd\te f\n", ["line1", "line2"]),
        ("sentence2\tsentence1\nc\ta b\ne f\td\n", ["line2", "line3"]),
        (
            "id\tsentence1\tsentence2\tlabel\n7\ta b\tc\twhatever\n7\td\te f\t\n",
            ["7", "7#2"],
        ),
    ],
    ids=["plain", "header", "own"],
)
def test_pairs_are_two_columns_or_named_ones_with_or_without_labels(
    name: str, text: str, ids: list[str], tmp_path: Path
) -> None:
    task = task_named(name)
    columns = task.columns
    for own, usual in ((columns.first, "sentence1"), (columns.second, "sentence2"),
                       (columns.id, "id"), (columns.label, "label")):  # fmt: skip
        text = text.replace(usual, own)
    examples = read_inputs(written(tmp_path, "x.tsv", text), task)
    assert [example.id for example in examples] == ids
    assert [example.sentences() for example in examples] == [
        (("a", "b"), ("c",)),
        (("d",), ("e", "f")),
    ]


def test_no_row_of_a_table_is_lost(tmp_path: Path) -> None:
    text = "id\tsentence1\tsentence2\tlabel\n8\tNS\tx\t1\n9\ta\tb\t\n"
    examples = read_inputs(written(tmp_path, "x.tsv", text), task_named("pawsx"))
    assert [(example.id, example.first) for example in examples] == [("8", "NS"), ("9", "a")]


@pytest.mark.parametrize("tag", ["_", "", "B-PER", "NOUNN"])
def test_tags_of_a_file_are_not_looked_at(tag: str, tmp_path: Path) -> None:
    lines = [f"{place}\t{word}\t_\t{tag}" + "\t_" * 6 for place, word in ((1, "In"), (2, "dem"))]
    lines.insert(0, "1-2\tIm" + "\t_" * 8)
    (example,) = read_inputs(written(tmp_path, "a.conllu", "\n".join(lines)), task_named("pos"))
    assert example.words == ("In", "dem")


@pytest.mark.parametrize("line", ["Ada", "Ada\tS-PER", "Ada\t_", "Ada\tNNP\tB-PER"])
def test_a_word_is_what_stands_first_in_a_line(line: str, tmp_path: Path) -> None:
    (example,) = read_inputs(written(tmp_path, "a.conll", line + "\n"), task_named("ner-uner"))
    assert example.words == ("Ada",)


@pytest.mark.parametrize("label", [{}, {"label": None}, {"label": 7}])
def test_options_need_no_label(label: dict[str, int], tmp_path: Path) -> None:
    row = {"premise": "p", "question": "cause", "choice1": "a", "choice2": "b", **label}
    (example,) = read_inputs(written(tmp_path, "a.jsonl", json.dumps(row)), task_named("xcopa"))
    assert example.options == ("a", "b")


@pytest.mark.parametrize("answers", [{}, {"answers": [{"text": "nowhere", "answer_start": 3}]},
                                     {"answers": "?"}])  # fmt: skip
def test_questions_need_no_answers(answers: dict[str, object], tmp_path: Path) -> None:
    asked = {"id": "q", "question": "who ?", **answers}
    tree = {"data": [{"paragraphs": [{"context": "she did", "qas": [asked]}]}]}
    (example,) = read_inputs(written(tmp_path, "q.json", json.dumps(tree)), task_named("xquad"))
    assert example.sentences() == (("who", "?"), ("she", "did"))


@pytest.mark.parametrize(
    ("task", "text", "message"),
    [
        ("pawsx", "a\tb\nc\n", r"x.tsv:2: has 1 columns, not 2; two sentences, or a header with"),
        ("pawsx", "a\tb\tc\n", r"x.tsv:1: has 3 columns, not 2"),
        ("pawsx", "id\tsentence1\tsentence2\n1\ta\n", r"x.tsv:2: has 2 columns, not 3"),
        ("pawsx", "a\tb\n \tc\n", r"x.tsv:2: a sentence is empty"),
        ("pawsx", "sentence1\tsentence2\n", "x.tsv: holds nothing to predict"),
        ("pos", "\n\n", "x.tsv: holds nothing to predict"),
        ("xcopa", '{"premise": "p"}\n', r"x.tsv:1: has 0 options"),
    ],
)
def test_a_fault_is_reported_with_its_line(
    task: str, text: str, message: str, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match=message):
        read_inputs(written(tmp_path, "x.tsv", text), task_named(task))


def test_a_file_that_is_not_there_is_a_data_error(tmp_path: Path) -> None:
    for place in (tmp_path / "nowhere.txt", tmp_path):
        with pytest.raises(DataError, match="cannot be read"):
            read_inputs(place, task_named("pos"))
