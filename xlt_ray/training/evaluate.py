"""Score a network: the source dev set during training, every language at the end.

At the end also what :mod:`xlt_ray.config.trial.Evaluate` adds: pairs of languages and
further tasks under the same head, and retrieval, ranking and mining by the encoder alone. Mining
reads the dev set of each language that it scores, for its threshold and for nothing else.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, NamedTuple

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
from xlt_ray.data.batches.evaluation import EvalBatch, EvalBatches, EvalSplit, eval_split
from xlt_ray.data.item_scores import ItemScores
from xlt_ray.data.label_access import LabelAccess
from xlt_ray.data.task import Task, task_named
from xlt_ray.data.text.pipeline import TextPipeline
from xlt_ray.data.types.base import Predictions, TaskType, kind_of
from xlt_ray.modeling.fusion.dlfa import masked_mean
from xlt_ray.modeling.multitask import OneTask
from xlt_ray.modeling.network import Batch, Network, hidden_states
from xlt_ray.store.evaluation_items import Items, item_ids
from xlt_ray.store.record import Role, Score
from xlt_ray.store.stage import Stage
from xlt_ray.training.events import Ticked
from xlt_ray.training.final_weights import put_average
from xlt_ray.training.load import TrainingContext, load_parent, tensors_of
from xlt_ray.training.loop import TICK_S
from xlt_ray.training.prefetch import prefetched

MAX_ITEMS = 20_000
"""Items after which a pass takes no further split: more of them are hardly less padded, and the
answers to all items of a pass are in memory (vectors, for tasks about sentences)."""


class EvalSet(NamedTuple):
    """One split of one language."""

    split: EvalSplit
    dev: EvalSplit | None = None
    """Dev set that scoring is tuned on, for tasks whose type needs it."""


@dataclass(frozen=True)
class EvalPass:
    """Splits of one task that are predicted together, and how."""

    eval_sets: Sequence[EvalSet]
    batch_size: int
    """Rows of the greatest length in a batch; see :class:`EvalBatches`."""
    layer: int | None = None
    """Layer of the encoder that gives sentence vectors; None to use the head."""
    encoder: Any = None
    """The encoder for sentence vectors; None for that of the network."""
    autocast: str | None = None
    """``bf16`` to compute under autocast; None to compute in the type of the weights."""

    @property
    def kind(self) -> TaskType:
        return kind_of(self.eval_sets[0].split.task)


class EvalRequest(NamedTuple):
    """One split to score."""

    role: Role
    task: str
    language: str
    """``FIRST:SECOND`` for a pair of languages."""
    split: Split


def score(network: nn.Module, eval_pass: EvalPass) -> list[dict[str, float]]:
    """Metrics of the task over all examples of each split; the network is in evaluation mode."""
    predicted = [part for parts in _predicted(network, eval_pass) for part in parts]
    return [eval_pass.kind.score(predictions) for predictions in predicted]


def _predicted(network: nn.Module, eval_pass: EvalPass) -> Iterator[list[Predictions]]:
    """Yields nothing after every batch, and at the end the predictions for each split."""
    assert isinstance(network, Network | OneTask), "what is scored was trained on a task"
    layer, device = eval_pass.layer, next(network.parameters()).device
    is_bf16 = eval_pass.autocast == "bf16"

    def compute(tensors: dict[str, Tensor]) -> Tensor:
        with torch.autocast(device.type, torch.bfloat16, enabled=is_bf16):
            if layer is None:
                return network.head.answers(network(tensors))
            return sentence_vectors(eval_pass.encoder or network.encoder, tensors, layer)

    dev_sets = [eval_set.dev for eval_set in eval_pass.eval_sets if eval_set.dev is not None]
    splits = [*(eval_set.split for eval_set in eval_pass.eval_sets), *dev_sets]
    batches = EvalBatches(splits, eval_pass.batch_size)
    decoded = []
    for batch, answers in computed(batches, device, compute):
        decoded.append((batch.numbers, batches.decode(batch, answers.numpy())))
        yield []
    by_split = [
        (split.gold, split.predictions(of_split))
        for split, of_split in zip(splits, batches.by_split(decoded), strict=True)
    ]
    tuned_on = iter(by_split[len(eval_pass.eval_sets) :])
    yield [
        Predictions(split.language, *scored, None if dev is None else next(tuned_on))
        for (split, dev), scored in zip(eval_pass.eval_sets, by_split, strict=False)
    ]


def computed(
    batches: Iterable[EvalBatch],
    device: torch.device,
    compute: Callable[[dict[str, Tensor]], Tensor],
) -> Iterator[tuple[EvalBatch, Tensor]]:
    """Batches with what ``compute`` makes of their tensors (without labels), on the CPU.

    A GPU computes a batch while the one before it is decoded and the next one is collated.
    """
    before: tuple[EvalBatch, _Copy] | None = None
    on_device = ((batch, tensors_of(batch.inputs, device)) for batch in batches)
    for batch, tensors in prefetched(on_device, device):
        # Not in inference mode: weights that ZeRO 3 gathers there could not be trained afterwards.
        with torch.no_grad():
            copy = _Copy(compute(tensors))
        if before is not None:
            yield before[0], before[1].wait()
        before = batch, copy
    if before is not None:
        yield before[0], before[1].wait()


class _Copy:
    """A copy of a tensor on the CPU, for which nothing waits until it is read."""

    def __init__(self, tensor: Tensor) -> None:
        self._tensor = tensor.to("cpu", non_blocking=True)
        self._is_copied = torch.cuda.Event() if tensor.is_cuda else None
        if self._is_copied is not None:
            self._is_copied.record()

    def wait(self) -> Tensor:
        if self._is_copied is not None:
            self._is_copied.synchronize()
        return self._tensor


def dev_pass(
    task: Task, stage: Stage, pipeline: TextPipeline, context: TrainingContext
) -> EvalPass | None:
    """A task's dev set in a training stage's source language; None where the task has none."""
    language = stage.settings["source_language"]
    if (language, "dev") not in context.source.splits(task):
        return None
    label_access = LabelAccess("select", task.name, language)
    return _dev_pass(task, label_access, [language], "all", pipeline, context)


def watched_scores(
    task: Task, stage: Stage, pipeline: TextPipeline, context: TrainingContext
) -> Callable[[nn.Module], dict[str, dict[str, float]]] | None:
    """Dev metrics, those of the final objective, by watched language; None if none is watched."""
    watched, number = context.runtime.watched, context.runtime.watched_examples
    if stage.kind != "target" or not watched:
        return None
    label_access = LabelAccess("evaluate", task.name, stage.settings["source_language"])
    eval_pass = _dev_pass(task, label_access, watched, number, pipeline, context)
    return lambda network: dict(zip(watched, score(network, eval_pass), strict=True))


def _dev_pass(
    task: Task,
    label_access: LabelAccess,
    languages: Sequence[str],
    number: Size,
    pipeline: TextPipeline,
    context: TrainingContext,
) -> EvalPass:
    """The first ``number`` examples of the dev set of each language.

    Under ZeRO 3 the workers gather each layer together, so that all of them predict everything.
    """
    splits = [
        eval_split(context.source, task, label_access, language, "dev", number, pipeline)
        for language in languages
    ]
    return EvalPass([EvalSet(split) for split in splits], context.runtime.evaluation_batch)


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


Result = tuple[list[Score], Items]


def evaluate_stage(
    stage: Stage, network: Network, tokenizer: Any, context: TrainingContext
) -> Generator[Ticked, None, tuple[tuple[Score, ...], tuple[Items, ...]]]:
    """Scores of the parent stage's ``network`` for all requests of the stage, and their items; a
    :class:`Ticked` every second or so, for all workers alike.

    The workers share the requests. Afterwards the network may have averaged weights.
    """
    group = context.group
    requests = eval_requests(stage)[group.rank :: group.size]
    work = _results(requests, stage, network, tokenizer, context)
    results: list[Result] = []
    while not all(group.gather(_is_finished(work, results))):
        yield Ticked(stage, 0)
    all_results = [result for worker in group.gather(results) for result in worker]
    scores = [score for scores, _ in all_results for score in scores]
    return (
        tuple(sorted(scores, key=lambda score: (*_order(score), score.metric))),
        tuple(sorted((items for _, items in all_results), key=_order)),
    )


def _is_finished(work: Iterator[list[Result]], results: list[Result]) -> bool:
    """Whether the work, done for about a second, has ended; adds its results."""
    began = time.monotonic()
    for new in work:
        results += new
        if time.monotonic() - began > TICK_S:
            return False
    return True


def _results(
    requests: Sequence[EvalRequest],
    stage: Stage,
    network: Network,
    tokenizer: Any,
    context: TrainingContext,
) -> Iterator[list[Result]]:
    """Yields nothing after every batch, and the results of a pass one by one."""
    assert stage.parent is not None
    pipeline = context.pipeline(tokenizer, stage.settings["max_length"])
    before: Any = None
    if stage.settings.get("retrieval_encoder") == "before":
        before, _ = load_parent(stage.parent, context)
        before.to(context.runtime.device).eval()
    # Scores of the target task do not depend on what is evaluated beside it, not even in rounding.
    for (role, name), group in groupby(requests, lambda request: (request.role, request.task)):
        task = task_named(name)
        if role == "average":
            put_average(network, context.store.folder(stage.parent.key))
        for chunk in _chunks(
            (request, _eval_set(request, task, stage, pipeline, context)) for request in group
        ):
            is_by_vectors = _is_by_vectors(chunk[0][0], task, stage)
            eval_pass = EvalPass(
                [eval_set for _, eval_set in chunk],
                context.runtime.evaluation_batch,
                stage.settings["retrieval_layer"] if is_by_vectors else None,
                before,
                stage.settings.get("autocast"),
            )
            predicted: list[Predictions] = []
            for new in _predicted(network, eval_pass):
                predicted += new
                yield []
            for (request, eval_set), predictions in zip(chunk, predicted, strict=True):
                items = eval_pass.kind.item_scores(predictions)
                yield [_scores_and_items(request, eval_set.split, items)]


def _chunks(
    eval_sets: Iterable[tuple[EvalRequest, EvalSet]],
) -> Iterator[list[tuple[EvalRequest, EvalSet]]]:
    """Splits for one pass after another, each of few more items than :data:`MAX_ITEMS`."""
    chunk: list[tuple[EvalRequest, EvalSet]] = []
    for request, eval_set in eval_sets:
        chunk.append((request, eval_set))
        if sum(eval_set.split.num_items for _, eval_set in chunk) >= MAX_ITEMS:
            yield chunk
            chunk = []
    if chunk:
        yield chunk


def _is_by_vectors(request: EvalRequest, task: Task, stage: Stage) -> bool:
    """Whether the encoder alone answers, not the head."""
    target = task_named(stage.settings["task"]["name"])
    return request.role == "further" and is_by_encoder(task.kind, target.kind)


def _order(result: Score | Items) -> tuple[str, str, str, str]:
    return result.split, result.role, result.task, result.language


def _eval_set(
    request: EvalRequest,
    task: Task,
    stage: Stage,
    pipeline: TextPipeline,
    context: TrainingContext,
) -> EvalSet:
    settings = stage.settings
    trained_on = settings["few_shot"]["language"] if request.role == "few_shot" else ""
    label_access = LabelAccess("evaluate", task.name, settings["source_language"], trained_on)
    begin = (context.source, task, label_access, request.language)
    end = (settings["examples"], pipeline)
    is_tuned = KINDS[task.kind].is_tuned and _is_by_vectors(request, task, stage)
    return EvalSet(
        eval_split(*begin, request.split, *end),
        eval_split(*begin, "dev", *end) if is_tuned else None,
    )


SUFFIXES = {"pairs": PAIRS_SUFFIX, "average": AVERAGE_SUFFIX, "few_shot": FEW_SHOT_SUFFIX}
"""What follows a task's name in scores of a role."""


def _scores_and_items(request: EvalRequest, split: EvalSplit, items: ItemScores) -> Result:
    task, cut = f"{request.task}{SUFFIXES.get(request.role, '')}", split.cut
    ids = item_ids(split.examples[owner].id for owner in items.owners.tolist())
    return [
        Score(
            task=task,
            language=split.language,
            split=request.split,
            metric=metric,
            value=value,
            num_examples=len(split.examples),
            role=request.role,
            num_dropped=split.num_dropped,
            cut=cut,
            num_items=len(ids),
            top_share=items.top_share,
            gold_top_share=items.gold_top_share,
            chance=items.chance[metric],
        )
        for metric, value in items.values.items()
    ], Items(request.role, task, split.language, request.split, ids, items.parts)
