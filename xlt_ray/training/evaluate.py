"""Score a network: the source dev set during training, every language at the end.

At the end also what :mod:`xlt_ray.config.checks.check_evaluation` adds: pairs of languages and
further tasks under the same head, and retrieval, ranking and mining by the encoder alone. Mining
reads the dev set of each language that it scores, for its threshold and for nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from xlt_ray.config.facts import Split
from xlt_ray.config.task_types import (
    AVERAGE_SUFFIX,
    FEW_SHOT_SUFFIX,
    KINDS,
    PAIRS_SUFFIX,
    is_by_encoder,
)
from xlt_ray.config.trial import Size
from xlt_ray.data.batches.evaluation import EvalBatches, eval_batches, pair_batches
from xlt_ray.data.item_scores import ItemScores
from xlt_ray.data.label_access import LabelAccess
from xlt_ray.data.task import Task, task_named
from xlt_ray.data.text.pipeline import TextPipeline
from xlt_ray.data.types.base import kind_of
from xlt_ray.modeling.fusion.dlfa import masked_mean
from xlt_ray.modeling.multitask import OneTask
from xlt_ray.modeling.network import Batch, Network, hidden_states
from xlt_ray.store.evaluation_items import Items, item_ids
from xlt_ray.store.record import Role, Score
from xlt_ray.store.stage import Stage
from xlt_ray.store.store import StageStore
from xlt_ray.training.final_weights import put_average
from xlt_ray.training.load import TrainingInputs, load_network, load_parent, text_pipeline
from xlt_ray.training.loop import Ticked
from xlt_ray.training.process_group import ProcessGroup
from xlt_ray.training.runtime import Runtime


@dataclass(frozen=True)
class EvalSet:
    """One split of one language, ready to be predicted."""

    task: Task
    batches: EvalBatches
    layer: int | None = None
    """That sentences are taken from, where the encoder alone is asked; None is the head."""
    encoder: Any = None
    """Which is asked then; None is the network's own."""
    dev: EvalBatches | None = None
    """What scoring takes something from, where the kind of the task is tuned."""


@dataclass(frozen=True)
class EvalRequest:
    """One line of what an evaluation stage scores; two languages are a pair."""

    role: Role
    task: str
    languages: tuple[str, ...]
    split: Split


def score(network: nn.Module, examination: EvalSet) -> dict[str, float]:
    """Metrics of the task over all examples; the network is in evaluation mode."""
    batches, dev = examination.batches, examination.dev
    decoded = _decoded(network, examination, batches)
    if dev is None:
        return batches.score(decoded)
    tuned_on = (dev.gold, dev.predictions(_decoded(network, examination, dev)))
    task, said = examination.task, batches.predictions(decoded)
    return kind_of(task).score_tuned(task, batches.language, batches.gold, said, tuned_on)


def item_scores(network: nn.Module, examination: EvalSet) -> ItemScores:
    """As :func:`score`, item by item."""
    batches, dev = examination.batches, examination.dev
    task, language = examination.task, batches.language
    said = batches.predictions(_decoded(network, examination, batches))
    if dev is None:
        return kind_of(task).item_scores(task, language, batches.gold, said)
    tuned_on = (dev.gold, dev.predictions(_decoded(network, examination, dev)))
    return kind_of(task).item_scores_tuned(task, language, batches.gold, said, tuned_on)


def _decoded(network: nn.Module, examination: EvalSet, batches: EvalBatches) -> list[Any]:
    assert isinstance(network, Network | OneTask), "what is scored was trained on a task"
    layer = examination.layer
    device = next(network.parameters()).device
    decoded: list[Any] = [None] * batches.num_items
    # Not in inference mode: what ZeRO 3 gathers there could not be trained afterwards.
    with torch.no_grad():
        for numbers, batch in batches:
            tensors = {
                name: torch.from_numpy(array).to(device)
                for name, array in batch.items()
                if name != "labels"
            }
            answers = (
                network.head.answers(network(tensors))
                if layer is None
                else sentence_vectors(examination.encoder or network.encoder, tensors, layer)
            )
            said_of_items = batches.decode(numbers, answers.cpu().numpy())
            for number, said in zip(numbers, said_of_items, strict=True):
                decoded[number] = said
    return decoded


def dev_eval_set(
    task: Task, stage: Stage, materials: TrainingInputs, pipeline: TextPipeline, runtime: Runtime
) -> EvalSet | None:
    """A task's dev set in a training stage's source language; None where the task has none."""
    language = stage.settings["source_language"]
    if (language, "dev") not in materials.source.splits(task):
        return None
    permit = LabelAccess("select", task.name, language)
    return _dev(task, permit, language, "all", materials, pipeline, runtime)


def watched_scores(
    task: Task, stage: Stage, materials: TrainingInputs, pipeline: TextPipeline, runtime: Runtime
) -> Callable[[nn.Module], dict[str, dict[str, float]]] | None:
    """Metrics of a network on the dev set of each language that is watched; None without any.

    They are what the objective is at the end, and shape nothing in the stage.
    """
    if stage.kind != "target" or not runtime.watched:
        return None
    permit = LabelAccess("evaluate", task.name, stage.settings["source_language"])
    number = runtime.watched_examples
    examinations = {
        language: _dev(task, permit, language, number, materials, pipeline, runtime)
        for language in runtime.watched
    }
    return lambda network: {
        language: score(network, examination) for language, examination in examinations.items()
    }


def _dev(
    task: Task,
    permit: LabelAccess,
    language: str,
    number: Size,
    materials: TrainingInputs,
    pipeline: TextPipeline,
    runtime: Runtime,
) -> EvalSet:
    """The first ``number`` examples of a dev set."""
    batches = eval_batches(
        materials.source,
        task,
        permit,
        language,
        "dev",
        number,
        pipeline,
        runtime.evaluation_batch,
    )
    return EvalSet(task, batches)


def sentence_vectors(encoder: Any, batch: Batch, layer: int) -> torch.Tensor:
    """Mean over the pieces of each row at one layer of the encoder, ``(batch, hidden)`` float32;
    special pieces count, as in XTREME."""
    states = hidden_states(encoder, batch)[layer]
    return masked_mean(states, batch["attention_mask"]).squeeze(1).float()


def eval_requests(stage: Stage) -> list[EvalRequest]:
    """All that an evaluation stage names, in a fixed order: the target task first."""
    settings, found = stage.settings, []
    name = settings["task"]["name"]
    splits: tuple[Split, ...] = ("dev", "test")
    role: Role = "few_shot" if "few_shot" in settings else "target"
    for split in splits:
        found += [
            EvalRequest(role, name, (setting,), split) for setting in settings["languages"][split]
        ]
    found += [EvalRequest("pairs", name, tuple(pair), "test") for pair in settings.get("pairs", ())]
    for task, entry in settings.get("also", {}).items():
        found += [EvalRequest("further", task, (one,), "test") for one in entry["languages"]]
    if stage.parent is not None and "average" in stage.parent.settings:
        # Last, so that the network takes on the averaged weights once and keeps them.
        for split in splits:
            languages = settings["languages"][split]
            found += [EvalRequest("average", name, (language,), split) for language in languages]
    return found


def evaluate_stage(
    stage: Stage, materials: TrainingInputs, store: StageStore, runtime: Runtime, team: ProcessGroup
) -> Generator[Ticked, None, tuple[tuple[Score, ...], tuple[Items, ...]]]:
    """Scores of the parent stage's network in all that the stage names, and their items.

    Workers take what is asked in turn; each turn ends with a sign of life.
    """
    assert stage.parent is not None
    network, tokenizer = load_network(stage.parent, materials, store)
    pipeline = text_pipeline(tokenizer, stage.settings["max_length"], runtime.cache)
    device = torch.device(runtime.device)
    network.to(device).eval()
    before: Any = None
    if stage.settings.get("retrieval_encoder") == "before":
        before, _ = load_parent(stage.parent, materials, store)
        before.to(device).eval()
    asked = eval_requests(stage)
    found: list[tuple[list[Score], Items]] = []
    is_averaged = False
    for turn in range(0, len(asked), team.size):
        if turn:
            yield Ticked(stage, 0)
        if turn + team.rank < len(asked):
            one = asked[turn + team.rank]
            if one.role == "average" and not is_averaged:
                put_average(network, store.folder(stage.parent.key))
                is_averaged = True
            examination = _examination(one, stage, materials, pipeline, runtime, before)
            found.append(_told(one, examination, item_scores(network, examination)))
    told = [one for part in team.gather(found) for one in part]
    scores = [one for part, _ in told for one in part]
    return (
        tuple(sorted(scores, key=lambda one: (*_place(one), one.metric))),
        tuple(sorted((items for _, items in told), key=_place)),
    )


def _place(one: Score | Items) -> tuple[str, str, str, str]:
    return one.split, one.role, one.task, one.language


def _examination(
    asked: EvalRequest,
    stage: Stage,
    materials: TrainingInputs,
    pipeline: TextPipeline,
    runtime: Runtime,
    before: Any,
) -> EvalSet:
    settings, task = stage.settings, task_named(asked.task)
    trained_on = settings["few_shot"]["language"] if asked.role == "few_shot" else ""
    permit = LabelAccess("evaluate", task.name, settings["source_language"], trained_on)
    begin = (materials.source, task, permit)
    end = (settings["examples"], pipeline, runtime.evaluation_batch)
    if asked.role == "pairs":
        first, second = asked.languages
        batches = pair_batches(*begin, (first, second), *end)
    else:
        batches = eval_batches(*begin, asked.languages[0], asked.split, *end)
    is_alone = asked.role == "further" and is_by_encoder(
        task.kind, task_named(settings["task"]["name"]).kind
    )
    if not is_alone:
        return EvalSet(task, batches)
    is_tuned = KINDS[task.kind].is_tuned
    dev = eval_batches(*begin, asked.languages[0], "dev", *end) if is_tuned else None
    return EvalSet(task, batches, settings["retrieval_layer"], before, dev)


def _told(asked: EvalRequest, examination: EvalSet, found: ItemScores) -> tuple[list[Score], Items]:
    batches = examination.batches
    suffixes = {
        "pairs": PAIRS_SUFFIX,
        "average": AVERAGE_SUFFIX,
        "few_shot": FEW_SHOT_SUFFIX,
    }
    task = f"{asked.task}{suffixes.get(asked.role, '')}"
    cut = batches.cut
    ids = item_ids(batches.examples[owner].id for owner in found.owners.tolist())
    return [
        Score(
            task=task,
            language=batches.language,
            split=asked.split,
            metric=metric,
            value=value,
            num_examples=len(batches.examples),
            role=asked.role,
            num_dropped=batches.num_dropped,
            cut=cut,
            num_items=len(ids),
            top_share=found.top_share,
            gold_top_share=found.gold_top_share,
            chance=found.chance[metric],
        )
        for metric, value in found.values.items()
    ], Items(asked.role, task, batches.language, asked.split, ids, found.parts)
