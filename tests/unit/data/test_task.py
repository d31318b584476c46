from __future__ import annotations

import pytest

from xlt_ray.data.task import load_tasks, parse_task, task_named
from xlt_ray.errors import DataError

PAIR = """\
name: x
kind: pair
version: 1
title: T
labels: ["0", "1"]
metrics: [accuracy]
source: files
folder: x
"""


def test_every_promised_task_is_there():
    promised = {
        *("pos", "ner-uner", "ner-panx", "stsb", "nli", "pawsx", "sick", "xnli"),
        *("toy-tagging", "toy-nli", "toy-paraphrase"),
    }
    assert {task.name for task in load_tasks()} >= promised


def test_a_label_is_numbered_by_its_place():
    task = task_named("nli")
    assert [task.number_of(label) for label in task.labels] == [0, 1, 2]


def test_an_unknown_task_is_answered_with_the_nearest_name():
    with pytest.raises(DataError, match="did you mean pawsx"):
        task_named("paws-x")


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (("title: T", "titel: T"), "title"),
        (('labels: ["0", "1"]', 'labels: ["0", "0"]'), "listed twice"),
        (("folder: x", "scheme: none"), "needs its folder"),
        (("metrics: [accuracy]", "metrics: [f1]"), "needs scheme iob2"),
        (("kind: pair", "kind: tag"), "pairs are read from tsv"),
        (("name: x", "name: y"), "must agree"),
        (("version: 1", "version: 0"), "version"),
    ],
)
def test_a_wrong_task_file_is_refused_with_its_name(change, complaint):
    assert parse_task(PAIR, "x.yaml").name == "x"
    with pytest.raises(DataError, match=complaint) as caught:
        parse_task(PAIR.replace(*change), "x.yaml")
    assert "x.yaml" in str(caught.value)
