"""Score a network: the source dev set during training, every language at the end.

At the end also what :mod:`xlt_ray.config.trial.Evaluate` adds: pairs of languages and
further tasks under the same head, and retrieval, ranking and mining by the encoder alone. Mining
reads the dev set of each language that it scores, for its threshold and for nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from xlt_ray.config.facts import Split
from xlt_ray.config.task_types import (
    AVERAGE_SUFFIX,
    FEW_SHOT_SUFFIX,
    KINDS,
    PAIRS_SUFFIX,
    is_by_encoder,
)
from xlt_ray.config.trial import Size
from xlt_ray.data.batches.evaluation import EvalBatches, eval_batches
from xlt_ray.data.item_scores import ItemScores
from xlt_ray.data.label_access import LabelAccess
from xlt_ray.data.task import Task, task_named
from xlt_ray.data.text.pipeline import TextPipeline
from xlt_ray.data.types.base import Predictions, kind_of
from xlt_ray.modeling.fusion.dlfa import masked_mean
from xlt_ray.modeling.multitask import OneTask
from xlt_ray.modeling.network import Batch, Network, hidden_states
from xlt_ray.store.evaluation_items import Items, item_ids
from xlt_ray.store.record import Role, Score
from xlt_ray.store.stage import Stage
from xlt_ray.training.final_weights import put_average
from xlt_ray.training.load import TrainingContext, load_network, load_parent, tensors_of
from xlt_ray.training.loop import Ticked
from xlt_ray.training.prefetch import prefetched


@dataclass(frozen=True)
class EvalSet:
    """One split of one language, encoded for prediction."""

    task: Task
    batches: EvalBatches
    layer: int | None = None
    """Layer of the encoder that gives sentence vectors; None to use the head."""
    encoder: Any = None
    """The encoder for sentence vectors; None for that of the network."""
    dev: EvalBatches | None = None
    """Dev set that scoring is tuned on, for tasks whose type needs it."""


class EvalRequest(NamedTuple):
    """One split to score."""

    role: Role
    task: str
    language: str
    """``FIRST:SECOND`` for a pair of languages."""
    split: Split


def score(network: nn.Module, eval_set: EvalSet) -> dict[str, float]:
    """Metrics of the task over all examples; the network is in evaluation mode."""
    return kind_of(eval_set.task).score(_predictions(network, eval_set))


def item_scores(network: nn.Module, eval_set: EvalSet) -> ItemScores:
    """As :func:`score`, item by item."""
    return kind_of(eval_set.task).item_scores(_predictions(network, eval_set))


def _predictions(network: nn.Module, eval_set: EvalSet) -> Predictions:
    batches, dev = eval_set.batches, eval_set.dev
    predicted = batches.predictions(_decoded(network, eval_set, batches))
    tuned_on = None
    if dev is not None:
        tuned_on = (dev.gold, dev.predictions(_decoded(network, eval_set, dev)))
    return Predictions(batches.language, batches.gold, predicted, tuned_on)


def _decoded(network: nn.Module, eval_set: EvalSet, batches: EvalBatches) -> list[Any]:
    assert isinstance(network, Network | OneTask), "what is scored was trained on a task"
    layer, device = eval_set.layer, next(network.parameters()).device

    def answer(numbers: np.ndarray, tensors: dict[str, Tensor]) -> list[Any]:
        tensors.pop("labels", None)
        if layer is None:
            answers = network.head.answers(network(tensors))
        else:
            answers = sentence_vectors(eval_set.encoder or network.encoder, tensors, layer)
        return batches.decode(numbers, answers.cpu().numpy())

    # Not in inference mode: weights that ZeRO 3 gathers there could not be trained afterwards.
    with torch.no_grad():
        return collect(batches, device, answer)


def collect(
    batches: EvalBatches,
    device: torch.device,
    answer: Callable[[np.ndarray, dict[str, Tensor]], Iterable[Any]],
) -> list[Any]:
    """The results of ``answer(numbers, tensors)`` for the items of all batches, in their order."""
    answers: list[Any] = [None] * batches.num_items
    on_device = ((numbers, tensors_of(batch, device)) for numbers, batch in batches)
    for numbers, tensors in prefetched(on_device, device):
        of_batch = answer(numbers, tensors)
        for number, item_answer in zip(numbers, of_batch, strict=True):
            answers[number] = item_answer
    return answers


def dev_eval_set(
    task: Task, stage: Stage, pipeline: TextPipeline, context: TrainingContext
) -> EvalSet | None:
    """A task's dev set in a training stage's source language; None where the task has none."""
    language = stage.settings["source_language"]
    if (language, "dev") not in context.source.splits(task):
        return None
    label_access = LabelAccess("select", task.name, language)
    return _dev(task, label_access, language, "all", pipeline, context)


def watched_scores(
    task: Task, stage: Stage, pipeline: TextPipeline, context: TrainingContext
) -> Callable[[nn.Module], dict[str, dict[str, float]]] | None:
    """Dev metrics, those of the final objective, by watched language; None if none is watched."""
    runtime = context.runtime
    if stage.kind != "target" or not runtime.watched:
        return None
    label_access = LabelAccess("evaluate", task.name, stage.settings["source_language"])
    eval_sets = {
        language: _dev(task, label_access, language, runtime.watched_examples, pipeline, context)
        for language in runtime.watched
    }
    return lambda network: {
        language: score(network, eval_set) for language, eval_set in eval_sets.items()
    }


def _dev(
    task: Task,
    label_access: LabelAccess,
    language: str,
    number: Size,
    pipeline: TextPipeline,
    context: TrainingContext,
) -> EvalSet:
    """The first ``number`` examples of a dev set."""
    end = (number, pipeline, context.runtime.evaluation_batch)
    return EvalSet(task, eval_batches(context.source, task, label_access, language, "dev", *end))


def sentence_vectors(encoder: Any, batch: Batch, layer: int) -> Tensor:
    """Mean over the pieces of each row at one layer of the encoder, ``(batch, hidden)`` float32;
    special pieces count, as in XTREME."""
    states = hidden_states(encoder, batch, (layer,))[layer]
    return masked_mean(states, batch["attention_mask"]).squeeze(1).float()


def eval_requests(stage: Stage) -> list[EvalRequest]:
    """Everything that an evaluation stage scores, in a fixed order: the target task first."""
    settings = stage.settings
    splits: tuple[Split, ...] = ("dev", "test")
    name = settings["task"]["name"]
    target = [(language, split) for split in splits for language in settings["languages"][split]]
    role: Role = "few_shot" if "few_shot" in settings else "target"
    requests = [EvalRequest(role, name, language, split) for language, split in target]
    requests += [
        EvalRequest("pairs", name, ":".join(pair), "test") for pair in settings.get("pairs", ())
    ]
    for task, entry in settings.get("also", {}).items():
        requests += [
            EvalRequest("further", task, language, "test") for language in entry["languages"]
        ]
    if stage.parent is not None and "average" in stage.parent.settings:
        # Last, so that the averaged weights are loaded into the network once and stay.
        requests += [EvalRequest("average", name, language, split) for language, split in target]
    return requests


def evaluate_stage(
    stage: Stage, context: TrainingContext
) -> Generator[Ticked, None, tuple[tuple[Score, ...], tuple[Items, ...]]]:
    """Scores of the parent stage's network for all requests of the stage, and their items; a
    :class:`Ticked` after every round of requests that the workers share."""
    assert stage.parent is not None
    group, device = context.group, torch.device(context.runtime.device)
    network, tokenizer = load_network(stage.parent, context)
    pipeline = context.pipeline(tokenizer, stage.settings["max_length"])
    network.to(device).eval()
    before: Any = None
    if stage.settings.get("retrieval_encoder") == "before":
        before, _ = load_parent(stage.parent, context)
        before.to(device).eval()
    requests = eval_requests(stage)
    results: list[tuple[list[Score], Items]] = []
    is_averaged = False
    for first in range(0, len(requests), group.size):
        if first:
            yield Ticked(stage, 0)
        if first + group.rank < len(requests):
            request = requests[first + group.rank]
            if request.role == "average" and not is_averaged:
                put_average(network, context.store.folder(stage.parent.key))
                is_averaged = True
            eval_set = _eval_set(request, stage, pipeline, context, before)
            results.append(_scores_and_items(request, eval_set, item_scores(network, eval_set)))
    all_results = [result for worker in group.gather(results) for result in worker]
    scores = [score for scores, _ in all_results for score in scores]
    return (
        tuple(sorted(scores, key=lambda score: (*_order(score), score.metric))),
        tuple(sorted((items for _, items in all_results), key=_order)),
    )


def _order(result: Score | Items) -> tuple[str, str, str, str]:
    return result.split, result.role, result.task, result.language


def _eval_set(
    request: EvalRequest,
    stage: Stage,
    pipeline: TextPipeline,
    context: TrainingContext,
    before: Any,
) -> EvalSet:
    settings, task = stage.settings, task_named(request.task)
    trained_on = settings["few_shot"]["language"] if request.role == "few_shot" else ""
    label_access = LabelAccess("evaluate", task.name, settings["source_language"], trained_on)
    begin = (context.source, task, label_access, request.language)
    end = (settings["examples"], pipeline, context.runtime.evaluation_batch)
    batches = eval_batches(*begin, request.split, *end)
    is_alone = request.role == "further" and is_by_encoder(
        task.kind, task_named(settings["task"]["name"]).kind
    )
    if not is_alone:
        return EvalSet(task, batches)
    dev = eval_batches(*begin, "dev", *end) if KINDS[task.kind].is_tuned else None
    return EvalSet(task, batches, settings["retrieval_layer"], before, dev)


SUFFIXES = {"pairs": PAIRS_SUFFIX, "average": AVERAGE_SUFFIX, "few_shot": FEW_SHOT_SUFFIX}
"""What follows a task's name in scores of a role."""


def _scores_and_items(
    request: EvalRequest, eval_set: EvalSet, items: ItemScores
) -> tuple[list[Score], Items]:
    batches = eval_set.batches
    task, cut = f"{request.task}{SUFFIXES.get(request.role, '')}", batches.cut
    ids = item_ids(batches.examples[owner].id for owner in items.owners.tolist())
    return [
        Score(
            task=task,
            language=batches.language,
            split=request.split,
            metric=metric,
            value=value,
            num_examples=len(batches.examples),
            role=request.role,
            num_dropped=batches.num_dropped,
            cut=cut,
            num_items=len(ids),
            top_share=items.top_share,
            gold_top_share=items.gold_top_share,
            chance=items.chance[metric],
        )
        for metric, value in items.values.items()
    ], Items(request.role, task, batches.language, request.split, ids, items.parts)
