from __future__ import annotations

import itertools

import pytest

from xlt_ray.data.label_access import LabelAccess, labelled, texts
from xlt_ray.data.task import task_named
from xlt_ray.errors import ForbiddenLabels

LANGUAGES = ("qaa", "qab")
SPLITS = ("train", "dev", "test")
OPEN = {
    "train": {("qaa", "train")},
    "select": {("qaa", "dev")},
    "evaluate": set(itertools.product(LANGUAGES, ("dev", "test"))),
}


@pytest.mark.parametrize("purpose", OPEN)
def test_labels_open_to_their_purpose_and_nothing_else(toy, purpose):
    task = task_named("toy-paraphrase")
    access = LabelAccess(purpose, task.name, "qaa")
    for language, split in itertools.product(LANGUAGES, SPLITS):
        if (language, split) in OPEN[purpose]:
            examples = labelled(toy, access, task, language, split)
            assert all(example.label in task.labels for example in examples)
        else:
            with pytest.raises(ForbiddenLabels, match=f"toy-paraphrase/{language}/{split}"):
                labelled(toy, access, task, language, split)


@pytest.mark.parametrize("purpose", OPEN)
def test_texts_without_labels_open_to_training_from_train_alone(toy, purpose):
    task = task_named("toy-tagging")
    access = LabelAccess(purpose, task.name, "qaa")
    for language, split in itertools.product(LANGUAGES, SPLITS):
        if (purpose, split) == ("train", "train"):
            examples = texts(toy, access, task, language, split)
            assert all(example.words and example.tags is None for example in examples)
        else:
            with pytest.raises(ForbiddenLabels):
                texts(toy, access, task, language, split)


def test_access_to_another_task_opens_nothing(toy):
    task = task_named("toy-nli")
    access = LabelAccess("train", "toy-paraphrase", "qaa")
    with pytest.raises(ForbiddenLabels, match="toy-nli/qaa/train"):
        labelled(toy, access, task, "qaa", "train")
    with pytest.raises(ForbiddenLabels):
        texts(toy, access, task, "qaa", "train")
