"""Batches and digests of known data: what changes them changes every number made from them."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest

from xlt_ray.config.trial import Hybrid
from xlt_ray.data.batches.evaluation import EvalBatches, eval_split
from xlt_ray.data.batches.supervised import BatchSettings, train_batches
from xlt_ray.data.label_access import LabelAccess
from xlt_ray.data.task import task_named

GOLDEN = json.loads((Path(__file__).parent / "golden.json").read_text())
TOY = ("toy-tagging", "toy-paraphrase", "toy-similarity", "toy-choice", "toy-qa")
FILES = {
    "pos": ("pos/en.train.conllu", "1\tA\t_\tDET\t_\t_\t_\t_\t_\t_\n"),
    "ner-uner": ("ner-uner/en.train.conll", "Ada\tB-PER\n"),
    "pawsx": ("pairs/pawsx/en.train.tsv", "id\tsentence1\tsentence2\tlabel\n1\ta b\tb a\t1\n"),
    "stsb-score": ("pairs/stsb/en.train.tsv", "id\tsentence1\tsentence2\tscore\n1\ta\tb\t4\n"),
    "xcopa": (
        "choice/xcopa/en.train.jsonl",
        '{"premise": "p", "choice1": "x", "choice2": "y", "question": "cause", "label": 0}\n',
    ),
    "xquad": (
        "qa/xquad/en.train.json",
        '{"data": [{"paragraphs": [{"context": "a b", "qas": [{"id": 1, "question": "q",'
        ' "answers": [{"text": "b", "answer_start": 2}]}]}]}]}',
    ),
}


def digest(batches):
    state = hashlib.sha256()
    for batch in batches:
        for name in sorted(batch):
            array = np.ascontiguousarray(batch[name])
            state.update(f"{name} {array.dtype} {array.shape}".encode())
            state.update(array.tobytes())
    return state.hexdigest()


@pytest.mark.parametrize("name", TOY)
@pytest.mark.parametrize("ratio", [0.0, 0.5])
def test_training_batches_are_the_known_ones(toy, toy_pipeline, name, ratio):
    batches = train_batches(
        toy, task_named(name), LabelAccess("train", name, "qaa"), 100, toy_pipeline(20),
        BatchSettings(16, 3), hybrid=Hybrid(ratio=ratio),
    )  # fmt: skip
    batch_digest = digest(batches.batch(step) for step in range(8))
    assert batch_digest == GOLDEN["train"][f"{name} {ratio}"]


@pytest.mark.parametrize("name", TOY)
def test_evaluation_batches_are_the_known_ones(toy, toy_pipeline, name):
    split = eval_split(
        toy,
        task_named(name),
        LabelAccess("evaluate", name, "qaa"),
        "qae",
        "test",
        90,
        toy_pipeline(20),
    )
    batches = list(EvalBatches([split], 32))
    assert batches[0].numbers[:6].tolist() == GOLDEN["order"][name]
    assert digest(batch.arrays for batch in batches) == GOLDEN["evaluate"][name]


@pytest.mark.parametrize("name", TOY)
def test_toy_splits_have_their_known_digest(toy, name):
    assert toy.splits(task_named(name))["qac", "dev"].digest == GOLDEN["splits"][name]


@pytest.mark.parametrize("name", FILES)
def test_files_have_their_known_digest(files, name):
    facts = files(*FILES[name]).splits(task_named(name))["en", "train"]
    assert (facts.num_examples, facts.digest) == (1, GOLDEN["files"][name])
