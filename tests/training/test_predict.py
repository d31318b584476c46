"""Predictions of an exported network are those that evaluation scored, whatever labels say."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from xlt_ray.config.export_metadata import Exported
from xlt_ray.config.methods import NoFusion
from xlt_ray.config.task_types import KINDS
from xlt_ray.config.trial import Model
from xlt_ray.data.batches.evaluation import eval_split
from xlt_ray.data.label_access import LabelAccess
from xlt_ray.data.sources.toy_source import ToySource
from xlt_ray.data.task import Task, task_named
from xlt_ray.data.text.pipeline import TextPipeline
from xlt_ray.data.types.base import Predictions, kind_of
from xlt_ray.modeling.encoder import load_encoder, load_tokenizer
from xlt_ray.modeling.exported_network import Loaded
from xlt_ray.modeling.network import build_network
from xlt_ray.training.evaluate import EvalPass, EvalSet, score
from xlt_ray.training.predict import Prediction, _task_of, predict

TASKS = ("toy-tagging", "toy-paraphrase", "toy-topic", "toy-similarity", "toy-choice", "toy-qa")
MAX_LENGTH = 24
"""So short that sentences are cut off and passages have several windows."""
NUM_EXAMPLES = 80
"""More than a batch."""


def loaded(task: Task) -> Loaded:
    torch.set_num_threads(1)
    model = Model(name="toy:1x32")
    tokenizer = load_tokenizer(model, ToySource(0).vocabulary())
    network = build_network(
        load_encoder(model, tokenizer, 0), task.kind, NoFusion(), len(task.labels), 0
    )
    metadata = Exported(
        sweep="s", trial=0, configuration=0, seed=0, params={}, objective=0.5, selection="",
        model="m", task=task.name, kind=task.kind, labels=task.labels, source_language="qaa",
        fusion={"method": "none"}, max_length=MAX_LENGTH,
        tasks={task.name: task.model_dump(mode="json")}, stages=(), languages=("qaa",), scores=(),
        versions={},
    )  # fmt: skip
    return Loaded(network.eval(), tokenizer, metadata)


def test_a_task_with_fields_of_a_newer_version_is_read() -> None:
    task = task_named(TASKS[0])
    metadata = loaded(task).metadata
    newer = {task.name: {**metadata.tasks[task.name], "reviewed": True}}
    assert _task_of(metadata.model_copy(update={"tasks": newer})) == task


def test_every_kind_that_is_predicted_is_predicted_here() -> None:
    # A query is ranked in a pool, which the file of a prediction has not.
    there = {name for name, entry in KINDS.items() if entry.is_trained} - {"ranking"}
    assert {task_named(name).kind for name in TASKS} == there


@pytest.mark.parametrize("name", TASKS)
def test_predictions_are_those_that_evaluation_scores(name: str, tmp_path: Path) -> None:
    task, source = task_named(name), ToySource(0)
    model = loaded(task)
    split = eval_split(
        source, task, LabelAccess("evaluate", name, "qaa"), "qab", "test", NUM_EXAMPLES,
        TextPipeline(model.tokenizer, "toy", MAX_LENGTH, tmp_path),
    )  # fmt: skip
    predictions = predict(model, split.examples)
    assert [prediction.example for prediction in predictions] == list(split.examples)
    answers = [prediction.answer for prediction in predictions]
    scored = kind_of(task).score(Predictions("qab", split.gold, answers))
    assert [scored] == score(model.network, EvalPass([EvalSet(split)], 64))
    check_probabilities(task, predictions)


def check_probabilities(task: Task, predictions: list[Prediction]) -> None:
    for prediction in predictions:
        if task.kind == "score":
            assert prediction.probability is None
        elif task.kind == "tag":
            assert len(prediction.probability) == len(prediction.answer)
            assert all(1 / len(task.labels) <= value <= 1 for value in prediction.probability)
        else:
            assert 0 < prediction.probability <= 1
        if prediction.by_label is not None:
            assert (
                prediction.by_label[str(prediction.answer)]
                == max(prediction.by_label.values())
                == prediction.probability
            )
            assert np.isclose(sum(prediction.by_label.values()), 1)


def test_every_word_of_a_long_sentence_has_a_tag() -> None:
    task = task_named("toy-tagging")
    example = ToySource(0).read(task, "qaa", "test")[0]
    long = type(example)("long", example.words * 20, example.tags * 20)  # type: ignore
    (prediction,) = predict(loaded(task), [long])
    assert len(long.words) > MAX_LENGTH
    assert len(prediction.answer) == len(prediction.probability) == len(long.words)
    assert set(prediction.answer) <= set(task.labels)
    check_probabilities(task, [prediction])


def test_a_span_is_as_sure_as_its_begin_and_end_are() -> None:
    task = task_named("toy-qa")
    model = loaded(task)
    example = next(
        example
        for example in ToySource(0).read(task, "qaa", "test")
        if sum(len(part) for part in example.sentences()) + 3 <= MAX_LENGTH
    )
    (prediction,) = predict(model, [example])
    question, passage = example.sentences()
    rows = model.tokenizer(
        [list(question)], [list(passage)], is_split_into_words=True, return_tensors="pt"
    )
    with torch.inference_mode():
        shares = model.network.predict(dict(rows))[0].softmax(dim=-1)
    # One piece a word here: the answer's words are its pieces.
    words = prediction.answer.split()
    begins = [
        place
        for place in range(len(question) + 2, rows["input_ids"].shape[1])
        if list(passage[place - len(question) - 2 :][: len(words)]) == words
    ]
    ways = [float(shares[0, begin] * shares[1, begin + len(words) - 1]) for begin in begins]
    assert any(np.isclose(way, prediction.probability, rtol=1e-4) for way in ways)


@pytest.mark.parametrize("name", ["toy-tagging", "toy-paraphrase", "toy-choice", "toy-qa"])
def test_labels_change_nothing(name: str) -> None:
    task = task_named(name)
    model = loaded(task)
    examples = ToySource(0).read(task, "qab", "test")[:40]
    golds = [example.gold for example in examples]
    mixed = tuple(
        with_gold_of(example, examples[(place + 1) % 40]) for place, example in enumerate(examples)
    )
    assert [example.gold for example in mixed] != golds
    for first, second in zip(predict(model, examples), predict(model, mixed), strict=True):
        assert first.answer == second.answer
        assert first.probability == second.probability


def with_gold_of(example, other):  # type: ignore[no-untyped-def]
    """The text of one example with the label of another, or as many of its tags."""
    from dataclasses import replace

    if hasattr(example, "tags"):
        return replace(example, tags=tuple(reversed(example.tags)))
    if hasattr(example, "answers"):
        return replace(example, answers=())
    return replace(example, label=other.label)
