"""From a training stage to what is trained: network, batches and dev scoring.

Everything that shapes the result is read from the stage, not from the sweep file, so that what
is hashed and what is done cannot differ.

Masked LM scored language by language, on parallel text that it was not trained on.

The lesson of an intermediate stage that trains several tasks, or masked LM beside one.

As in :mod:`xlt_ray.training.setup`, everything is read from the stage; of the data only numbers of
examples are asked, which its fingerprints cover.

Few-shot training: the whole network of a target stage, on a few examples of one language.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from xlt_ray.config.methods import (
    ALIGNMENTS,
    SAMPLINGS,
    Alignment,
    AugmentRobust,
    MaskedAlignment,
    MonolingualLm,
    Sampling,
    method_named,
)
from xlt_ray.config.mixture import Dataset, Mixture
from xlt_ray.config.trial import Hybrid, num_steps
from xlt_ray.data.batches.alignment_batches import (
    MaskedBatches,
    alignment_batches,
    monolingual_batches,
)
from xlt_ray.data.batches.mixture_batches import Batches, NumberedBatches, mixed_batches, part_seed
from xlt_ray.data.batches.supervised import shot_batches, train_batches
from xlt_ray.data.label_access import LabelAccess
from xlt_ray.data.task import task_named
from xlt_ray.data.text.parallel_sample import held_out_batches, rest_of
from xlt_ray.data.text.pipeline import Batch, TextPipeline
from xlt_ray.modeling.losses import IGNORED
from xlt_ray.modeling.multitask import MultitaskNetwork, OneTask, build_multitask
from xlt_ray.modeling.network import MaskedLm, build_network
from xlt_ray.modeling.objectives.perturbed import robust_network
from xlt_ray.store.stage import Stage
from xlt_ray.store.store import StageStore
from xlt_ray.training.evaluate import dev_eval_set, score, watched_scores
from xlt_ray.training.load import (
    TrainingInputs,
    fusion_of,
    load_network,
    load_parent,
    ranking_of,
    robust_of,
    text_pipeline,
)
from xlt_ray.training.loop import BatchSource, TrainingSetup
from xlt_ray.training.runtime import Runtime


def training_setup(
    stage: Stage, materials: TrainingInputs, store: StageStore, runtime: Runtime
) -> tuple[TrainingSetup, Any]:
    """What a training stage trains, on its parent's encoder; and the tokenizer."""
    settings = stage.settings
    if stage.kind == "few_shot":
        return few_shot_setup(stage, materials, store, runtime)
    encoder, tokenizer = load_parent(stage, materials, store)
    pipeline = text_pipeline(tokenizer, settings["max_length"], runtime.cache)
    if stage.kind == "align":
        method_settings = _alignment(settings)
        objective = method_named(ALIGNMENTS, settings["objective"])
        aligned: nn.Module = objective.load_network()(encoder, method_settings, stage.seed)
        source, evaluate = materials.source, None
        if isinstance(method_settings, MaskedAlignment) and method_settings.held_out:
            parts = held_out_batches(source, method_settings, pipeline, runtime.evaluation_batch)
            source, evaluate = (
                rest_of(source, method_settings),
                partial(masked_scores, batches=parts),
            )
        batches = alignment_batches(source, method_settings, pipeline, stage.seed)
        coverage = batches.coverage if isinstance(batches, MaskedBatches) else {}
        return TrainingSetup(
            aligned, batches, settings["steps"], evaluate, coverage=coverage
        ), tokenizer
    if "tasks" in settings:
        return mixed_setup(stage, encoder, pipeline, materials, runtime), tokenizer
    task = task_named(settings["task"]["name"])
    robust = robust_of(settings)
    ranking = ranking_of(settings)
    plain = build_network(
        encoder, task.kind, fusion_of(settings), len(task.labels), stage.seed, ranking
    )
    network = robust_network(plain, robust, pipeline.template.special_ids)
    is_nested = stage.kind == "trunk" or bool(stage.starts_at)
    if stage.kind == "trunk":
        steps = settings["steps"]
        size = steps * settings["batch_size"]
    else:
        size = settings["size"]
        steps = num_steps(size, settings["epochs"] * robust.repeats, settings["batch_size"])
    made = train_batches(
        materials.source,
        task,
        LabelAccess("train", task.name, settings["source_language"]),
        size,
        pipeline,
        settings["batch_size"],
        stage.seed,
        hybrid=_hybrid(settings),
        is_nested=is_nested,
        augment=robust if isinstance(robust, AugmentRobust) else None,
        num_negatives=ranking.negatives,
    )
    supervised: BatchSource = made
    if robust.perturbs == "embeddings":
        supervised = NumberedBatches(supervised, stage.seed)
    if stage.kind == "trunk":
        # Its rate has not decayed yet: a score would compare with nothing.
        return TrainingSetup(network, supervised, steps, None), tokenizer
    examination = dev_eval_set(task, stage, materials, pipeline, runtime)
    scoring = partial(score, examination=examination) if examination is not None else None
    watching = watched_scores(task, stage, materials, pipeline, runtime)
    return TrainingSetup(network, supervised, steps, scoring, watching, made.coverage), tokenizer


def _hybrid(settings: Mapping[str, Any]) -> Hybrid:
    return Hybrid.model_validate(settings.get("hybrid", {}))


def _alignment(settings: Mapping[str, Any]) -> Alignment:
    method_settings = method_named(ALIGNMENTS, settings["objective"]).settings
    chosen = {
        name: value for name, value in settings.items() if name in method_settings.model_fields
    }
    alignment = method_settings.model_validate(chosen)
    assert isinstance(alignment, Alignment)
    return alignment


def masked_scores(network: nn.Module, batches: Mapping[str, Sequence[Batch]]) -> dict[str, float]:
    """``masked_accuracy/LANGUAGE``: share of the hidden pieces that are predicted; besides its
    mean over languages and that of the mean loss of each (nats a piece).

    Every worker scores all of it: ZeRO 3 gathers a layer where all workers call it.
    """
    assert isinstance(network, MaskedLm), "an objective that predicts hidden pieces"
    device = next(network.parameters()).device
    accuracies, losses = {}, []
    for language, parts in batches.items():
        right = asked = 0
        loss = 0.0
        for part in parts:
            tensors = {name: torch.from_numpy(one).to(device) for name, one in part.items()}
            labels = tensors.pop("labels")
            logits = network({**tensors, "asked": labels != IGNORED}).float()
            labels = labels[labels != IGNORED]
            right += int((logits.argmax(dim=-1) == labels).sum())
            loss += float(functional.cross_entropy(logits, labels, reduction="sum"))
            asked += len(labels)
        accuracies[language] = right / asked
        losses.append(loss / asked)
    return {
        "masked_accuracy/mean": sum(accuracies.values()) / len(accuracies),
        "masked_loss/mean": sum(losses) / len(losses),
        **{f"masked_accuracy/{language}": one for language, one in accuracies.items()},
    }


def mixed_setup(
    stage: Stage, encoder: Any, pipeline: TextPipeline, materials: TrainingInputs, runtime: Runtime
) -> TrainingSetup:
    """What a stage of several tasks trains on ``encoder``; scores are called ``TASK/METRIC``."""
    settings = stage.settings
    sampling = _sampling(settings)
    mixture = _mixture(settings, sampling, materials)
    tasks = [task_named(name) for name in mixture.tasks]
    network = build_multitask(
        encoder,
        [(task.name, task.kind, len(task.labels)) for task in tasks],
        has_masked_lm="mlm" in settings,
        seed=stage.seed,
        ranking=ranking_of(settings),
    )
    batch_size, is_trunk = settings["batch_size"], stage.kind == "trunk"
    size = 0 if is_trunk else settings["size"]
    batches = mixed_batches(
        materials.source,
        mixture,
        sampling,
        size,
        _masked(stage, materials, pipeline) if "mlm" in settings else None,
        pipeline,
        batch_size,
        stage.seed,
        is_nested=is_trunk or bool(stage.starts_at),
        num_negatives=ranking_of(settings).negatives,
    )
    if is_trunk:
        return TrainingSetup(network, batches, settings["steps"], None)
    steps = mixture.num_steps(size, settings["epochs"], batch_size)
    evaluate = _scoring(stage, mixture.tasks, materials, pipeline, runtime)
    return TrainingSetup(network, batches, steps, evaluate)


def _sampling(settings: Mapping[str, Any]) -> Sampling:
    """How datasets are drawn; one alone is always drawn."""
    chosen = settings.get("sampling", {"method": "proportional"})
    sampling = method_named(SAMPLINGS, chosen["method"]).settings.model_validate(chosen)
    assert isinstance(sampling, Sampling)
    return sampling


def _mixture(settings: Mapping[str, Any], sampling: Sampling, materials: TrainingInputs) -> Mixture:
    sizes = {name: materials.source.splits(task_named(name)) for name in settings["tasks"]}
    datasets = tuple(
        Dataset(name, language, sizes[name][language, "train"].num_examples)
        for name, entry in sorted(settings["tasks"].items())
        for language in entry["languages"]
    )
    return Mixture(datasets, sampling.cap, settings["mlm"]["share"] if "mlm" in settings else 0.0)


def _masked(stage: Stage, materials: TrainingInputs, pipeline: TextPipeline) -> Batches:
    settings, mlm = stage.settings, stage.settings["mlm"]
    method_settings = MonolingualLm(
        objective="mlm",
        languages=tuple(mlm["languages"]),
        mask=mlm["mask"],
        batch_size=settings["batch_size"],
        max_length=settings["max_length"],
    )
    return monolingual_batches(
        materials.source, method_settings, pipeline, part_seed(stage.seed, "masked LM")
    )


def _scoring(
    stage: Stage,
    names: tuple[str, ...],
    materials: TrainingInputs,
    pipeline: TextPipeline,
    runtime: Runtime,
) -> Callable[[nn.Module], Mapping[str, float]] | None:
    """Of the source language's dev set of every task that has one; None where none has."""
    found = {
        number: dev_eval_set(task_named(name), stage, materials, pipeline, runtime)
        for number, name in enumerate(names)
    }
    examinations = {number: one for number, one in found.items() if one is not None}

    def scores(network: nn.Module) -> dict[str, float]:
        assert isinstance(network, MultitaskNetwork)
        return {
            f"{examination.task.name}/{metric}": value
            for number, examination in examinations.items()
            for metric, value in score(OneTask(network, number), examination).items()
        }

    return scores if examinations else None


def few_shot_setup(
    stage: Stage, materials: TrainingInputs, store: StageStore, runtime: Runtime
) -> tuple[TrainingSetup, Any]:
    """What a few-shot stage trains, from its parent's encoder, fusion and head; and the tokenizer.

    On the way the source language's dev set is scored: what is forgotten. No other labels are
    read but those of the shots.
    """
    assert stage.parent is not None
    settings = stage.settings
    network, tokenizer = load_network(stage.parent, materials, store)
    pipeline = text_pipeline(tokenizer, settings["max_length"], runtime.cache)
    task = task_named(settings["task"]["name"])
    batches = shot_batches(
        materials.source,
        task,
        LabelAccess("few_shot", task.name, settings["source_language"], settings["language"]),
        settings["split"],
        settings["shots"],
        settings["sample"],
        pipeline,
        settings["batch_size"],
        stage.seed,
        num_negatives=ranking_of(settings).negatives,
    )
    examination = dev_eval_set(task, stage, materials, pipeline, runtime)
    evaluate = partial(score, examination=examination) if examination is not None else None
    return TrainingSetup(network.train(), batches, settings["steps"], evaluate), tokenizer
