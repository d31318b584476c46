from __future__ import annotations

import re
from pathlib import Path

import pytest

from xlt_ray.config.task_types import KINDS
from xlt_ray.config.yaml import parse_document
from xlt_ray.data import task as task_module
from xlt_ray.data.sources.local_files import FilesSource
from xlt_ray.data.task import load_tasks, parse_task, task_named
from xlt_ray.errors import DataError
from xlt_ray.sweep import read_facts as facts_module

DOCS = Path(__file__).parents[3] / "docs"

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


PROMISED = {
    *("pos", "ner-uner", "ner-panx", "stsb", "nli", "pawsx", "sick", "xnli"),
    *("ner-masakha", "pos-masakha", "stsb-score", "xquad", "mlqa", "mlqa-en", "tydiqa"),
    *("xcopa", "socialiqa", "cosmosqa", "hellaswag", "commonsenseqa", "comve"),
    *("toy-tagging", "toy-nli", "toy-paraphrase"),
    *("toy-similarity", "toy-choice", "toy-qa", "toy-retrieval", "tatoeba"),
    *("toy-ranking", "lareqa", "mewsli-x", "ccg"),
    *("toy-mining", "bucc", "bucc-mining"),
}


def test_every_promised_task_is_there():
    assert {task.name for task in load_tasks()} >= PROMISED


def test_published_numbers_stand_in_the_document_with_their_source():
    fields = ("role", "learning_rate", "epochs", "batch_size", "max_length", "warmup",
              "weight_decay", "note")  # fmt: skip
    documented = {
        (recipe.source, task.name, *(getattr(recipe, field) for field in fields))
        for task in load_tasks()
        for recipe in task.recipes
    }
    table = (DOCS / "tasks.md").read_text().partition("### Published hyperparameters")[2]
    rows = [
        [cell.strip(" `") for cell in line.strip("|").split("|")]
        for line in table.partition("\n### ")[0].splitlines()
        if "`" in line and line.startswith("|")
    ]
    shown = {
        (*row[:3], *(float(cell) if cell else None for cell in row[3:9]), row[9]) for row in rows
    }
    assert shown == documented
    assert all("seen" in row[0] or "remembered" in row[0] for row in documented)


def test_the_sweeps_over_xtreme_have_the_published_numbers():
    for name in ("xtreme", "xtreme-f1"):
        file = DOCS.parent / "sweeps" / f"{name}.yaml"
        for option in parse_document(file.read_text(), file.name).tree["target"]["choice"]:
            asked = option["task"]
            for task in asked["choice"] if isinstance(asked, dict) else [asked]:
                (recipe,) = [
                    recipe for recipe in task_named(task).recipes if "2005.13013" in recipe.source
                ]
                assert {
                    name: getattr(recipe, name) for name in recipe.model_fields_set - {"source"}
                } == {name: option[name] for name in recipe.model_fields_set - {"source"}}


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
        (("folder: x", "scheme: iob2\nfolder: x"), "iob2 needs tags"),
        (("folder: x", "scheme: none"), "needs the key folder"),
        (("metrics: [accuracy]", "metrics: [f1]"), "f1 does not score pair tasks"),
        (("kind: pair", "kind: tag"), "tag tasks are read from conllu or conll"),
        (("folder: x", "format: xml\nfolder: x"), "pair tasks are read from tsv"),
        (("source: files", "format: json\nsource: toy"), "pair tasks are read from tsv"),
        (('labels: ["0", "1"]', "labels: [yes]"), "two labels or more"),
        (("name: x", "name: y"), "must agree"),
        (("version: 1", "version: 0"), "version"),
        (("folder: x", "pivot: en\nfolder: x"), "pivot: only for the kinds retrieval"),
        (("name: x", "name: x-pairs"), "scores of language pairs"),
        (("name: x", "name: x-average"), "scores of averaged weights"),
        (("name: x", "name: x-few-shot"), "scores after few shots"),
        (("metrics: [accuracy]", "metrics: [bleu]"), "bleu does not score .*accuracy, macro_f1"),
    ],
)
def test_a_wrong_task_file_is_refused_with_its_name(change, complaint):
    assert parse_task(PAIR, "x.yaml").name == "x"
    with pytest.raises(DataError, match=complaint) as caught:
        parse_task(PAIR.replace(*change), "x.yaml")
    assert "x.yaml" in str(caught.value)


def test_what_the_document_says_of_tasks_and_kinds_is_so():
    text = (DOCS / "tasks.md").read_text()
    # Of the kinds the first table: others say more of them.
    found = re.findall(r"^\| `([\w-]+)` \| (.*) \|$", text, re.M)
    rows = {row[0]: row[1:] for row in reversed(found)}
    rows = {name: " ".join(rest) for name, rest in rows.items()}
    kinds = {task.name: task.kind for task in load_tasks()}
    assert rows.keys() >= PROMISED | {kinds[name] for name in PROMISED}
    for name, row in rows.items():
        if name in KINDS:
            listed = set(re.findall(r"`(\w+)`", row))
            metrics = {
                metric for task in load_tasks() if task.kind == name for metric in task.metrics
            }
            assert listed >= {*metrics, *KINDS[name].formats}
        else:
            assert row.startswith(f"`{kinds[name]}`")


def test_tasks_of_the_extending_guide_are_tasks_of_every_kind():
    blocks = re.findall(
        r"^```yaml\n# xlt_ray/data/tasks/(.*?)\n(.*?)^```",
        (DOCS / "extending.md").read_text(),
        re.S | re.M,
    )
    shipped = {task.kind for task in load_tasks()}
    assert {parse_task(text, name).kind for name, text in blocks} == shipped


CCG = (
    task_named("ccg").model_dump_json(
        include={"name", "kind", "version", "title", "labels_file", "metrics", "source", "folder"}
    )[:-1]
    + ', "format": "conll"}'
)


def test_labels_of_a_file_of_their_own_are_the_labels_of_the_task(tmp_path, monkeypatch):
    monkeypatch.setattr(task_module, "labels_file", lambda name: tmp_path / name)
    assert parse_task(CCG, "ccg.yaml").labels == ()
    (tmp_path / "ccg.labels").write_text("(S[dcl]\\NP)/NP\nN/N\nother\n")
    assert parse_task(CCG, "ccg.yaml").labels == ("(S[dcl]\\NP)/NP", "N/N", "other")
    windows = "\ufeffNP\r\n\r\n two words \r\n"
    (tmp_path / "ccg.labels").write_bytes(windows.encode())
    assert parse_task(CCG, "ccg.yaml").labels == ("NP", "two words")
    (tmp_path / "ccg.labels").write_bytes("é\nN\n".encode("latin-1"))
    with pytest.raises(DataError, match=r"ccg\.labels:1: is not UTF-8"):
        parse_task(CCG, "ccg.yaml")
    (tmp_path / "ccg.labels").write_text("N\nN\n")
    with pytest.raises(DataError, match="listed twice"):
        parse_task(CCG, "ccg.yaml")
    with pytest.raises(DataError, match="give either labels or labels_file"):
        parse_task(CCG.replace('"kind"', '"labels": ["a", "b"], "kind"'), "ccg.yaml")


def test_a_sweep_of_a_task_without_its_labels_is_reported_where_they_belong(tmp_path, monkeypatch):
    (tmp_path / "ccg").mkdir()
    (tmp_path / "ccg/en.train.conll").write_text("Ada\tN\n")
    monkeypatch.setattr(task_module, "labels_file", lambda name: tmp_path / name)
    bare = parse_task(CCG, "ccg.yaml")
    monkeypatch.setattr(facts_module, "task_named", lambda _: bare)
    with pytest.raises(DataError, match=r"ccg: the labels of this task .*ccg\.labels, one label"):
        facts_module._task_facts("ccg", FilesSource(tmp_path))
