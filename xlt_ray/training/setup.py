"""From a training stage to what is trained: network, batches by step, and dev scoring.

Everything that shapes the result is read from the stage, not from the sweep file, so what is
hashed and what is done cannot differ. Of the data only numbers of examples are read here, which
the stage's fingerprints cover.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from torch import nn
from torch.nn import functional

from xlt_ray.config.methods import (
    ALIGNMENTS,
    FUSIONS,
    PEFT,
    ROBUST,
    SAMPLINGS,
    Alignment,
    AugmentRobust,
    Contrastive,
    MaskedAlignment,
    MonolingualLm,
    Robust,
    Sampling,
    method_named,
)
from xlt_ray.config.mixture import Dataset, Mixture
from xlt_ray.config.trial import Freeze, Hybrid, Ranking, num_steps
from xlt_ray.data.batches.alignment_batches import (
    MaskedBatches,
    alignment_batches,
    held_out_batches,
    monolingual_batches,
)
from xlt_ray.data.batches.mixture_batches import NumberedBatches, mixed_batches, part_seed
from xlt_ray.data.batches.supervised import BatchSettings, shot_batches, train_batches
from xlt_ray.data.label_access import LabelAccess
from xlt_ray.data.task import Task, task_named
from xlt_ray.data.text.parallel import rest_of
from xlt_ray.data.text.pipeline import Batch, Batches, TextPipeline
from xlt_ray.modeling.freeze import freeze
from xlt_ray.modeling.heads import IGNORED
from xlt_ray.modeling.multitask import MultitaskNetwork, OneTask, build_multitask
from xlt_ray.modeling.network import MaskedLm, build_network
from xlt_ray.modeling.objectives.perturbed import robust_network
from xlt_ray.modeling.peft import add_peft
from xlt_ray.modeling.trimmed_embedding import trim_embedding
from xlt_ray.store.stage import Stage, head_seed_of
from xlt_ray.training.evaluate import dev_pass, score, watched_scores
from xlt_ray.training.load import (
    TrainingContext,
    load_network,
    load_parent,
    method_settings,
    tensors_of,
)
from xlt_ray.training.loop import TrainingSetup


def training_setup(stage: Stage, context: TrainingContext) -> tuple[TrainingSetup, Any]:
    """The setup of a training stage, on its parent's encoder; and the tokenizer."""
    if stage.kind == "few_shot":
        setup, tokenizer = few_shot_setup(stage, context)
    else:
        encoder, tokenizer = load_parent(stage, context)
        pipeline = context.pipeline(tokenizer, stage.settings["max_length"])
        make = supervised_setup
        if stage.kind == "align":
            make = alignment_setup
        elif "tasks" in stage.settings:
            make = mixed_setup
        setup = make(stage, encoder, pipeline, context)
    encoder = setup.network.get_submodule("encoder")
    frozen = Freeze.model_validate(stage.settings.get("freeze", {}))
    if "peft" in stage.settings:
        add_peft(encoder, method_settings(PEFT, stage.settings["peft"]), stage.seed)
        # It trains no embeddings anyway; what it added to frozen layers is frozen with them.
        frozen = Freeze(layers=frozen.layers)
    freeze(encoder, frozen)
    vocabulary = setup.batches.vocabulary()
    # Weight decay moves the rows of pieces that never occur as well.
    if vocabulary is not None and not stage.settings["weight_decay"]:
        trim_embedding(encoder, vocabulary)
    return setup, tokenizer


def alignment_setup(
    stage: Stage, encoder: Any, pipeline: TextPipeline, context: TrainingContext
) -> TrainingSetup:
    """An objective on parallel text; masked LM is scored on sentences that are held out."""
    objective = method_named(ALIGNMENTS, stage.settings["objective"])
    fields = objective.settings.model_fields.keys() & stage.settings.keys()
    settings = objective.settings.model_validate({name: stage.settings[name] for name in fields})
    assert isinstance(settings, Alignment)
    network: nn.Module = objective.load_network()(encoder, settings, stage.seed)
    source, evaluate = context.source, None
    if isinstance(settings, MaskedAlignment) and settings.held_out:
        held_out = held_out_batches(source, settings, pipeline, context.runtime.evaluation_batch)
        source = rest_of(source, settings)
        evaluate = partial(masked_scores, batches=held_out)
    batches = alignment_batches(source, settings, pipeline, stage.seed)
    coverage = batches.coverage if isinstance(batches, MaskedBatches) else {}
    return TrainingSetup(
        network,
        batches,
        stage.settings["steps"],
        evaluate,
        coverage=coverage,
        is_divisible=not isinstance(settings, Contrastive),
    )


def supervised_setup(
    stage: Stage, encoder: Any, pipeline: TextPipeline, context: TrainingContext
) -> TrainingSetup:
    """One task in its source language: a target stage, an intermediate stage or a trunk."""
    settings = stage.settings
    task, batch_size = task_named(settings["task"]["name"]), settings["batch_size"]
    fusion = method_settings(FUSIONS, settings.get("fusion"))
    robust: Robust = method_settings(ROBUST, settings.get("robust"))
    ranking = _ranking(settings)
    head_seed = head_seed_of(stage)
    plain = build_network(encoder, task.kind, fusion, len(task.labels), head_seed, ranking)
    network = robust_network(plain, robust, pipeline.template.special_ids)
    is_trunk = stage.kind == "trunk"
    if is_trunk:
        steps = settings["steps"]
        size = steps * batch_size
    else:
        size = settings["size"]
        steps = num_steps(size, settings["epochs"] * robust.repeats, batch_size)
    supervised = train_batches(
        context.source,
        task,
        LabelAccess("train", task.name, settings["source_language"]),
        size,
        pipeline,
        _batch_settings(stage),
        hybrid=Hybrid.model_validate(settings.get("hybrid", {})),
        augment=robust if isinstance(robust, AugmentRobust) else None,
    )
    is_noisy = robust.perturbs == "embeddings"
    batches: Batches = NumberedBatches(supervised, stage.seed) if is_noisy else supervised
    if is_trunk:
        # Its rate has not decayed yet: a score would compare with nothing.
        return TrainingSetup(network, batches, steps, None)
    evaluate = _dev_scoring(task, stage, pipeline, context)
    watch = watched_scores(task, stage, pipeline, context)
    return TrainingSetup(network, batches, steps, evaluate, watch, supervised.coverage)


def _batch_settings(stage: Stage) -> BatchSettings:
    return BatchSettings(
        stage.settings["batch_size"],
        stage.seed,
        is_nested=stage.kind == "trunk" or bool(stage.starts_at),
        is_by_pieces=stage.settings.get("batching") == "pieces",
        num_negatives=_ranking(stage.settings).negatives,
    )


def _ranking(settings: Mapping[str, Any]) -> Ranking:
    """Settings of a stage for a ranking task; the defaults for other stages."""
    return Ranking.model_validate(settings.get("ranking", {}))


def _dev_scoring(
    task: Task, stage: Stage, pipeline: TextPipeline, context: TrainingContext
) -> Callable[[nn.Module], Mapping[str, float]] | None:
    dev = dev_pass(task, stage, pipeline, context)
    return None if dev is None else lambda network: score(network, dev)[0]


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
            tensors = tensors_of(part, device)
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
    stage: Stage, encoder: Any, pipeline: TextPipeline, context: TrainingContext
) -> TrainingSetup:
    """Several tasks, or masked LM beside one; scores are named ``TASK/METRIC``."""
    settings, batch_size = stage.settings, stage.settings["batch_size"]
    sampling: Sampling = method_settings(SAMPLINGS, settings.get("sampling"), "proportional")
    mlm, ranking = settings.get("mlm"), _ranking(settings)
    datasets = tuple(
        Dataset(
            name,
            language,
            context.source.splits(task_named(name))[language, "train"].num_examples,
        )
        for name, entry in sorted(settings["tasks"].items())
        for language in entry["languages"]
    )
    mixture = Mixture(datasets, sampling.cap, mlm["share"] if mlm else 0.0)
    tasks = [task_named(name) for name in mixture.tasks]
    network = build_multitask(
        encoder,
        [(task.name, task.kind, len(task.labels)) for task in tasks],
        has_masked_lm=mlm is not None,
        seed=stage.seed,
        ranking=ranking,
    )
    is_trunk = stage.kind == "trunk"
    size = 0 if is_trunk else settings["size"]
    batches = mixed_batches(
        context.source,
        mixture,
        sampling,
        size,
        None if mlm is None else _masked(stage, mlm, pipeline, context),
        pipeline,
        _batch_settings(stage),
    )
    if is_trunk:
        return TrainingSetup(network, batches, settings["steps"], None)
    steps = mixture.num_steps(size, settings["epochs"], batch_size)
    return TrainingSetup(network, batches, steps, _scoring(tasks, stage, pipeline, context))


def _masked(
    stage: Stage, mlm: Mapping[str, Any], pipeline: TextPipeline, context: TrainingContext
) -> Batches:
    settings = MonolingualLm(
        objective="mlm",
        languages=tuple(mlm["languages"]),
        mask=mlm["mask"],
        batch_size=stage.settings["batch_size"],
        batching=stage.settings.get("batching", "examples"),
        max_length=stage.settings["max_length"],
    )
    seed = part_seed(stage.seed, "masked LM")
    return monolingual_batches(context.source, settings, pipeline, seed)


def _scoring(
    tasks: Sequence[Task], stage: Stage, pipeline: TextPipeline, context: TrainingContext
) -> Callable[[nn.Module], Mapping[str, float]] | None:
    """Scores on the source language's dev set of every task; None if no task has one."""
    passes = [dev_pass(task, stage, pipeline, context) for task in tasks]
    dev_passes = {number: dev for number, dev in enumerate(passes) if dev is not None}

    def scores(network: nn.Module) -> dict[str, float]:
        assert isinstance(network, MultitaskNetwork)
        return {
            f"{tasks[number].name}/{metric}": value
            for number, dev in dev_passes.items()
            for metric, value in score(OneTask(network, number), dev)[0].items()
        }

    return scores if dev_passes else None


def few_shot_setup(stage: Stage, context: TrainingContext) -> tuple[TrainingSetup, Any]:
    """The whole network of a target stage on a few examples of one language; and the tokenizer.

    The source language's dev set is scored on the way, which shows what is forgotten. Of other
    labels only those of the shots are read.
    """
    assert stage.parent is not None
    settings = stage.settings
    network, tokenizer = load_network(stage.parent, context)
    pipeline = context.pipeline(tokenizer, settings["max_length"])
    task = task_named(settings["task"]["name"])
    batches = shot_batches(
        context.source,
        task,
        LabelAccess("few_shot", task.name, settings["source_language"], settings["language"]),
        settings["split"],
        settings["shots"],
        settings["sample"],
        pipeline,
        _batch_settings(stage),
    )
    evaluate = _dev_scoring(task, stage, pipeline, context)
    return TrainingSetup(network.train(), batches, settings["steps"], evaluate), tokenizer
