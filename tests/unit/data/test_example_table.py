"""Tables of examples: what is written is read back, one by one, and text without labels."""

from __future__ import annotations

import pytest

from xlt_ray.data.example_table import ExampleTable, ids_of, without_labels, write_examples
from xlt_ray.data.label_access import LabelAccess, labelled, texts
from xlt_ray.data.sources.local_files import FilesSource
from xlt_ray.data.task import load_tasks, task_named
from xlt_ray.data.types.base import kind_of
from xlt_ray.errors import CHANGED, DataError

TOY = [task for task in load_tasks() if task.source == "toy"]
PAWS = task_named("pawsx")
HEADER = "id\tsentence1\tsentence2\tlabel"
ROWS = ("1\ta b\tc d\t0", "2\te\tf\t1", "3\tg\th\t0")


def test_a_toy_task_of_every_kind_is_here():
    kinds = {task.kind for task in load_tasks()}
    assert {task.kind for task in TOY} == kinds


@pytest.mark.parametrize("task", TOY, ids=[task.name for task in TOY])
def test_examples_of_every_kind_are_read_back_as_they_were_written(toy, tmp_path, task):
    language, split = next(iter(toy.splits(task)))
    examples = toy.read(task, language, split)[:50]
    write_examples(examples, tmp_path, kind_of(task).example)
    table = ExampleTable(tmp_path, kind_of(task).example)
    assert len(table) == len(examples)
    assert tuple(table) == table[:] == examples
    assert table[-1] == examples[-1]
    assert table[3:9:2] == examples[3:9:2]
    with pytest.raises(IndexError):
        table[len(examples)]
    assert tuple(without_labels(table)) == without_labels(examples)
    assert ids_of(without_labels(table)) == ids_of(examples) == [example.id for example in examples]


def test_text_without_labels_never_opens_the_labels(toy, tmp_path):
    task = task_named("toy-nli")
    examples = toy.read(task, "qaa", "dev")[:5]
    write_examples(examples, tmp_path, kind_of(task).example)
    for file in tmp_path.glob("labels*"):
        file.unlink()
    table = ExampleTable(tmp_path, kind_of(task).example)
    assert [example.gold for example in without_labels(table)] == [None] * 5
    with pytest.raises(FileNotFoundError):
        table[0]


def test_the_same_bytes_are_parsed_once(files, tmp_path, monkeypatch):
    plain = files("pairs/pawsx/en.train.tsv", HEADER, *ROWS)
    access, cache = LabelAccess("train", "pawsx", "en"), tmp_path / "cache"
    first = FilesSource(tmp_path, cache)
    examples = labelled(first, access, PAWS, "en", "train")
    assert tuple(examples) == plain.read(PAWS, "en", "train")
    facts = first.splits(PAWS)
    assert facts == plain.splits(PAWS)
    for reading in ("read", "count"):
        monkeypatch.setattr(type(kind_of(PAWS)), reading, None)
    second = FilesSource(tmp_path, cache)
    assert second.splits(PAWS) == facts
    assert tuple(labelled(second, access, PAWS, "en", "train")) == tuple(examples)
    assert [example.label for example in texts(second, access, PAWS, "en", "train")] == [None] * 3


def test_bytes_that_are_read_otherwise_are_another_table(files, tmp_path):
    """Training leaves out what is not translated, evaluation does not."""
    rows = (HEADER, ROWS[0], "2\tNS\tf\t1")
    files("pairs/pawsx/de.train.tsv", *rows)
    files("pairs/pawsx/de.test.tsv", *rows)
    source = FilesSource(tmp_path, tmp_path / "cache")
    sizes = {split: len(source.read(PAWS, "de", split)) for split in ("train", "test")}
    assert sizes == {"train": 1, "test": 2}
    assert {split: facts.num_examples for (_, split), facts in source.splits(PAWS).items()} == sizes


def test_a_file_that_changes_is_noticed_though_its_table_is_there(files, tmp_path):
    files("pairs/pawsx/en.dev.tsv", HEADER, *ROWS)
    before = FilesSource(tmp_path, tmp_path / "cache")
    before.read(PAWS, "en", "dev")
    source = FilesSource(tmp_path, tmp_path / "cache")
    digest = source.splits(PAWS)["en", "dev"].digest
    changed = files("pairs/pawsx/en.dev.tsv", HEADER, *ROWS[:2], "3\tx\th\t0")
    with pytest.raises(DataError, match=CHANGED):
        source.read(PAWS, "en", "dev")
    source = FilesSource(tmp_path, tmp_path / "cache")
    assert source.splits(PAWS)["en", "dev"].digest != digest
    assert tuple(source.read(PAWS, "en", "dev")) == changed.read(PAWS, "en", "dev")


def test_no_table_is_left_of_a_file_that_changes_while_it_is_read(files, tmp_path):
    files("pairs/pawsx/en.dev.tsv", HEADER, *ROWS)
    source = FilesSource(tmp_path, tmp_path / "cache")
    source.splits(PAWS)
    files("pairs/pawsx/en.dev.tsv", HEADER, *ROWS[:2])
    with pytest.raises(DataError, match=CHANGED):
        source.read(PAWS, "en", "dev")
    assert not list((tmp_path / "cache" / "examples").iterdir())
