"""Predictions of an exported network for examples without labels, with probabilities.

Rows are put together, answered and decoded as in :mod:`xlt_ray.training.evaluate`, so the
predictions for a test set are those that were scored. Probabilities are softmaxes of the logits,
which a network trained in one language need not be calibrated for in another:

- of a pair: by label; of a choice: by the place of the option;
- of a tag: that of the word's own tag;
- of a span: the product of the probabilities of its begin and its end among all pieces of the
  window that it was found in; of no answer, those of the first piece in the window that is least
  sure of none;
- a score has none.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from xlt_ray.config.export_metadata import FILE, Exported, read_exported
from xlt_ray.config.task_types import TaskKind
from xlt_ray.data.batches.evaluation import EvalBatches
from xlt_ray.data.task import Task
from xlt_ray.data.text.pipeline import IGNORED, encode_words, template_of
from xlt_ray.data.text.unlabelled import read_inputs
from xlt_ray.data.types.base import Example, Frame, kind_of
from xlt_ray.errors import ModelError
from xlt_ray.modeling.exported_network import Loaded, load_exported, show_no_bars

BATCH_SIZE = 64
"""Rows of a batch, as many as evaluation has unless memory is short."""


@dataclass(frozen=True)
class Prediction:
    """The answer of a network to one example."""

    example: Example
    answer: Any
    """In the form of the kind's gold: a label, a tag per word, a number, an option, a text."""
    probability: Any
    """Of the answer: a number, of tags one per word; None where there is none."""
    by_label: dict[str, float] | None = None
    """Of a pair and of a choice: the probability of every label, or of every option's place."""


def predict_file(folder: Path, file: Path) -> tuple[Task, list[Prediction]]:
    """The task of the model in ``folder``, and what it says of every example of ``file``.

    On a GPU where this process sees one.

    Raises:
        ModelError: the folder is no export.
        DataError: the file does not hold what the task needs.
    """
    show_no_bars()
    metadata = read_exported(folder)
    task = _task_of(metadata)
    # A mistake in the text is found before the weights are read.
    examples = read_inputs(file, task)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    return task, predict(load_exported(folder), examples, device=device)


def predict(
    loaded: Loaded, examples: Sequence[Example], *, device: str = "cpu"
) -> list[Prediction]:
    """Predictions for ``examples``, in their order; labels that they have are not looked at.

    Raises:
        ModelError: the task that the folder tells of is none, or not the network's.
        DataError: the model's ``max_length`` leaves no room for text.
    """
    metadata = loaded.told
    task = _task_of(metadata)
    kind = kind_of(task)
    words = [sentence for example in examples for sentence in example.sentences()]
    batches = EvalBatches(
        task,
        metadata.source_language,
        Frame(template_of(loaded.tokenizer), metadata.max_length),
        encode_words(words, loaded.tokenizer, with_places=kind.has_places),
        tuple(examples),
        batch_size=BATCH_SIZE,
    )
    network = loaded.network.to(torch.device(device))
    decoded: list[Any] = [None] * batches.num_items
    certainties: list[Any] = [None] * batches.num_items
    with torch.inference_mode():
        for numbers, batch in batches:
            tensors = {
                name: torch.from_numpy(array).to(device)
                for name, array in batch.items()
                if name != "labels"
            }
            logits = network(tensors)
            answers = network.head.answers(logits).cpu().numpy()
            items = batches.decode(numbers, answers)
            certain = _certainties(task.kind, logits.float().cpu(), batch["labels"])
            for number, item, certainty in zip(numbers, items, certain, strict=True):
                decoded[number], certainties[number] = item, certainty
    return [
        _prediction(task, example, answer, items, certain)
        for example, answer, items, certain in zip(
            examples,
            batches.predictions(decoded),
            batches.by_example(decoded),
            batches.by_example(certainties),
            strict=True,
        )
    ]


def _task_of(metadata: Exported) -> Task:
    try:
        fields = metadata.tasks[metadata.task]
        # A newer version may have written further ones.
        known = {name: fields[name] for name in Task.model_fields if name in fields}
        task = Task.model_validate(known)
    except (KeyError, ValueError):
        task = None
    if task is None or (task.kind, task.labels) != (metadata.kind, metadata.labels):
        raise ModelError(
            f"tasks: what it says of {metadata.task} is no task, or not that of the network",
            model=FILE,
            remedy="export the model again",
        )
    return task


def _prediction(
    task: Task, example: Example, answer: Any, items: Sequence[Any], certainties: Sequence[Any]
) -> Prediction:
    """The prediction of one example from its decoded items and their certainties."""
    if task.kind == "span":
        return Prediction(example, answer, _span_probability(answer, items, certainties))
    if task.kind == "tag":
        return Prediction(
            example, answer, [value for part in certainties for value in part.tolist()]
        )
    (probabilities,) = certainties
    if task.kind == "pair":
        by_label = dict(zip(task.labels, probabilities.tolist(), strict=True))
        return Prediction(example, answer, by_label[answer], by_label)
    if task.kind == "choice":
        by_place = {str(place): value for place, value in enumerate(probabilities.tolist())}
        return Prediction(example, answer, by_place[str(answer)], by_place)
    return Prediction(example, answer, None)


def _span_probability(answer: str, windows: Sequence[Any], total: Sequence[float]) -> float:
    """``total`` is the log of the sum over all begins and ends of each window."""
    if answer:
        best = max(range(len(windows)), key=lambda index: windows[index].score)
        return float(np.exp(windows[best].score - total[best]))
    least = min(range(len(windows)), key=lambda index: windows[index].none)
    return float(np.exp(windows[least].none - total[least]))


def _certainties(kind: TaskKind, logits: torch.Tensor, labels: np.ndarray) -> list[Any]:
    """For each item of a batch, what its probability is computed from.

    Classes: the probability of each. Tags: of the likeliest one, at the first piece of every
    word. Spans: the log of the sum over all begins and ends.
    """
    if kind == "span":
        return logits.double().logsumexp(dim=-1).sum(dim=-1).tolist()
    if kind == "score":
        return [None] * len(logits)
    shares = logits.softmax(dim=-1).numpy()
    if kind == "tag":
        best = shares.max(axis=-1)
        return [row[row_labels != IGNORED] for row, row_labels in zip(best, labels, strict=True)]
    return list(shares)
