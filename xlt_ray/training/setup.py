"""From a training stage to what is trained: network, batches by step, and dev scoring.

Everything that shapes the result is read from the stage, not from the sweep file, so what is
hashed and what is done cannot differ. Of the data only numbers of examples are read here, which
the stage's fingerprints cover.
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
    held_out_batches,
    monolingual_batches,
)
from xlt_ray.data.batches.mixture_batches import NumberedBatches, mixed_batches, part_seed
from xlt_ray.data.batches.supervised import shot_batches, train_batches
from xlt_ray.data.label_access import LabelAccess
from xlt_ray.data.task import Task, task_named
from xlt_ray.data.text.parallel import rest_of
from xlt_ray.data.text.pipeline import Batch, Batches, TextPipeline
from xlt_ray.modeling.heads import IGNORED
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
from xlt_ray.training.loop import TrainingSetup
from xlt_ray.training.runtime import Runtime


def training_setup(
    stage: Stage, inputs: TrainingInputs, store: StageStore, runtime: Runtime
) -> tuple[TrainingSetup, Any]:
    """The setup of a training stage, on its parent's encoder; and the tokenizer."""
    if stage.kind == "few_shot":
        return few_shot_setup(stage, inputs, store, runtime)
    encoder, tokenizer = load_parent(stage, inputs, store)
    pipeline = text_pipeline(tokenizer, stage.settings["max_length"], runtime.cache)
    if stage.kind == "align":
        setup = alignment_setup(stage, encoder, pipeline, inputs, runtime)
    elif "tasks" in stage.settings:
        setup = mixed_setup(stage, encoder, pipeline, inputs, runtime)
    else:
        setup = supervised_setup(stage, encoder, pipeline, inputs, runtime)
    return setup, tokenizer


def alignment_setup(
    stage: Stage, encoder: Any, pipeline: TextPipeline, inputs: TrainingInputs, runtime: Runtime
) -> TrainingSetup:
    """An objective on parallel text; masked LM is scored on sentences that are held out."""
    settings = _alignment(stage.settings)
    objective = method_named(ALIGNMENTS, stage.settings["objective"])
    network: nn.Module = objective.load_network()(encoder, settings, stage.seed)
    source, evaluate = inputs.source, None
    if isinstance(settings, MaskedAlignment) and settings.held_out:
        batches_by_language = held_out_batches(source, settings, pipeline, runtime.evaluation_batch)
        source = rest_of(source, settings)
        evaluate = partial(masked_scores, batches=batches_by_language)
    batches = alignment_batches(source, settings, pipeline, stage.seed)
    coverage = batches.coverage if isinstance(batches, MaskedBatches) else {}
    return TrainingSetup(network, batches, stage.settings["steps"], evaluate, coverage=coverage)


def supervised_setup(
    stage: Stage, encoder: Any, pipeline: TextPipeline, inputs: TrainingInputs, runtime: Runtime
) -> TrainingSetup:
    """One task in its source language: a target stage, an intermediate stage or a trunk."""
    settings = stage.settings
    task = task_named(settings["task"]["name"])
    robust = robust_of(settings)
    ranking = ranking_of(settings)
    plain = build_network(
        encoder, task.kind, fusion_of(settings), len(task.labels), stage.seed, ranking
    )
    network = robust_network(plain, robust, pipeline.template.special_ids)
    is_trunk = stage.kind == "trunk"
    if is_trunk:
        steps = settings["steps"]
        size = steps * settings["batch_size"]
    else:
        size = settings["size"]
        steps = num_steps(size, settings["epochs"] * robust.repeats, settings["batch_size"])
    supervised = train_batches(
        inputs.source,
        task,
        LabelAccess("train", task.name, settings["source_language"]),
        size,
        pipeline,
        settings["batch_size"],
        stage.seed,
        hybrid=Hybrid.model_validate(settings.get("hybrid", {})),
        is_nested=is_trunk or bool(stage.starts_at),
        augment=robust if isinstance(robust, AugmentRobust) else None,
        num_negatives=ranking.negatives,
    )
    batches: Batches = supervised
    if robust.perturbs == "embeddings":
        batches = NumberedBatches(batches, stage.seed)
    if is_trunk:
        # Its rate has not decayed yet: a score would compare with nothing.
        return TrainingSetup(network, batches, steps, None)
    evaluate = _dev_scoring(task, stage, inputs, pipeline, runtime)
    watch = watched_scores(task, stage, inputs, pipeline, runtime)
    return TrainingSetup(network, batches, steps, evaluate, watch, supervised.coverage)


def _dev_scoring(
    task: Task, stage: Stage, inputs: TrainingInputs, pipeline: TextPipeline, runtime: Runtime
) -> Callable[[nn.Module], Mapping[str, float]] | None:
    eval_set = dev_eval_set(task, stage, inputs, pipeline, runtime)
    return None if eval_set is None else partial(score, eval_set=eval_set)


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
        num_right = num_hidden = 0
        loss = 0.0
        for part in parts:
            tensors = {name: torch.from_numpy(array).to(device) for name, array in part.items()}
            labels = tensors.pop("labels")
            logits = network({**tensors, "is_predicted": labels != IGNORED}).float()
            labels = labels[labels != IGNORED]
            num_right += int((logits.argmax(dim=-1) == labels).sum())
            loss += float(functional.cross_entropy(logits, labels, reduction="sum"))
            num_hidden += len(labels)
        accuracies[language] = num_right / num_hidden
        losses.append(loss / num_hidden)
    return {
        "masked_accuracy/mean": sum(accuracies.values()) / len(accuracies),
        "masked_loss/mean": sum(losses) / len(losses),
        **{f"masked_accuracy/{language}": value for language, value in accuracies.items()},
    }


def mixed_setup(
    stage: Stage, encoder: Any, pipeline: TextPipeline, inputs: TrainingInputs, runtime: Runtime
) -> TrainingSetup:
    """Several tasks, or masked LM beside one; scores are named ``TASK/METRIC``."""
    settings = stage.settings
    sampling = _sampling(settings)
    mixture = _mixture(settings, sampling, inputs)
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
        inputs.source,
        mixture,
        sampling,
        size,
        _masked(stage, inputs, pipeline) if "mlm" in settings else None,
        pipeline,
        batch_size,
        stage.seed,
        is_nested=is_trunk or bool(stage.starts_at),
        num_negatives=ranking_of(settings).negatives,
    )
    if is_trunk:
        return TrainingSetup(network, batches, settings["steps"], None)
    steps = mixture.num_steps(size, settings["epochs"], batch_size)
    evaluate = _scoring(stage, mixture.tasks, inputs, pipeline, runtime)
    return TrainingSetup(network, batches, steps, evaluate)


def _sampling(settings: Mapping[str, Any]) -> Sampling:
    """How datasets are drawn; irrelevant if there is one only."""
    chosen = settings.get("sampling", {"method": "proportional"})
    sampling = method_named(SAMPLINGS, chosen["method"]).settings.model_validate(chosen)
    assert isinstance(sampling, Sampling)
    return sampling


def _mixture(settings: Mapping[str, Any], sampling: Sampling, inputs: TrainingInputs) -> Mixture:
    sizes = {name: inputs.source.splits(task_named(name)) for name in settings["tasks"]}
    datasets = tuple(
        Dataset(name, language, sizes[name][language, "train"].num_examples)
        for name, entry in sorted(settings["tasks"].items())
        for language in entry["languages"]
    )
    return Mixture(datasets, sampling.cap, settings["mlm"]["share"] if "mlm" in settings else 0.0)


def _masked(stage: Stage, inputs: TrainingInputs, pipeline: TextPipeline) -> Batches:
    settings, mlm = stage.settings, stage.settings["mlm"]
    method_settings = MonolingualLm(
        objective="mlm",
        languages=tuple(mlm["languages"]),
        mask=mlm["mask"],
        batch_size=settings["batch_size"],
        max_length=settings["max_length"],
    )
    return monolingual_batches(
        inputs.source, method_settings, pipeline, part_seed(stage.seed, "masked LM")
    )


def _scoring(
    stage: Stage,
    names: tuple[str, ...],
    inputs: TrainingInputs,
    pipeline: TextPipeline,
    runtime: Runtime,
) -> Callable[[nn.Module], Mapping[str, float]] | None:
    """Scores on the source language's dev set of every task; None if no task has one."""
    dev_sets = {
        number: dev_eval_set(task_named(name), stage, inputs, pipeline, runtime)
        for number, name in enumerate(names)
    }
    eval_sets = {number: dev for number, dev in dev_sets.items() if dev is not None}

    def scores(network: nn.Module) -> dict[str, float]:
        assert isinstance(network, MultitaskNetwork)
        return {
            f"{eval_set.task.name}/{metric}": value
            for number, eval_set in eval_sets.items()
            for metric, value in score(OneTask(network, number), eval_set).items()
        }

    return scores if eval_sets else None


def few_shot_setup(
    stage: Stage, inputs: TrainingInputs, store: StageStore, runtime: Runtime
) -> tuple[TrainingSetup, Any]:
    """The whole network of a target stage on a few examples of one language; and the tokenizer.

    The source language's dev set is scored on the way, which shows what is forgotten. Of other
    labels only those of the shots are read.
    """
    assert stage.parent is not None
    settings = stage.settings
    network, tokenizer = load_network(stage.parent, inputs, store)
    pipeline = text_pipeline(tokenizer, settings["max_length"], runtime.cache)
    task = task_named(settings["task"]["name"])
    batches = shot_batches(
        inputs.source,
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
    evaluate = _dev_scoring(task, stage, inputs, pipeline, runtime)
    return TrainingSetup(network.train(), batches, settings["steps"], evaluate), tokenizer
