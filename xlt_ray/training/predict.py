"""Predictions of an exported network for examples without labels, with probabilities.

Rows are batched, answered and decoded as in :mod:`xlt_ray.training.evaluate`, so the predictions
for a test set are those that were scored, but for rounding where a trial in ``bf16`` or
``bf16-mixed`` was scored under autocast. Probabilities are softmaxes of the logits; a network that
was trained in one language need not be calibrated for another.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from xlt_ray.config.export_metadata import FILE, Exported, read_exported
from xlt_ray.data.batches.evaluation import EvalBatches, EvalSplit
from xlt_ray.data.task import Task
from xlt_ray.data.text.pipeline import encode_words, template_of
from xlt_ray.data.types.base import Example, Frame, kind_of, read_inputs
from xlt_ray.errors import ModelError
from xlt_ray.modeling.exported_network import Loaded, load_exported, silence_transformers
from xlt_ray.training.evaluate import computed

BATCH_SIZE = 64
"""Rows of the greatest length in a batch, as many as evaluation has unless memory is short."""


@dataclass(frozen=True)
class Prediction:
    """The answer of a network to one example."""

    example: Example
    answer: Any
    """In the form of the kind's gold: a label, a tag per word, a number, an option, a text."""
    probability: Any
    """The probability of the answer, one per word for tags; None where there is none."""
    by_label: dict[str, float] | None = None
    """For a pair or a choice, the probability of every label, or of every option's place."""


def predict_file(folder: Path, file: Path) -> tuple[Task, list[Prediction]]:
    """The task of the model in ``folder``, and its prediction for every example of ``file``.

    On a GPU where this process sees one.

    Raises:
        ModelError: the folder is no export.
        DataError: the file does not hold what the task needs.
    """
    silence_transformers()
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
    metadata = loaded.metadata
    task = _task_of(metadata)
    kind = kind_of(task)
    words = [sentence for example in examples for sentence in example.sentences()]
    split = EvalSplit(
        task,
        metadata.source_language,
        Frame(template_of(loaded.tokenizer), metadata.max_length),
        encode_words(words, loaded.tokenizer, with_places=kind.has_places),
        tuple(examples),
    )
    batches = EvalBatches([split], BATCH_SIZE)
    network = loaded.network.to(torch.device(device))

    numbers, decoded, certainties = [], [], []
    for batch, logits in computed(
        batches, torch.device(device), lambda tensors: network(tensors).float()
    ):
        numbers.append(batch.numbers)
        decoded.append(batches.decode(batch, network.head.answers(logits).numpy()))
        certainties.append(kind.certainties(logits, batch.arrays["labels"]))
    (answers,), (certain,) = (
        batches.by_split(zip(numbers, of_batches, strict=True))
        for of_batches in (decoded, certainties)
    )
    return [
        Prediction(example, answer, *kind.probability(answer, parts, certainties))
        for example, answer, parts, certainties in zip(
            examples,
            split.predictions(answers),
            split.by_example(answers),
            split.by_example(certain),
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
            f"tasks: the entry of {metadata.task} is not a task, or not that of the network",
            model=FILE,
            remedy="export the model again",
        )
    return task
