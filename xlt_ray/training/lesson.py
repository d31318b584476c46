"""From a training stage to what is trained: network, batches and dev scoring.

Everything that shapes the result is read from the stage, not from the sweep file, so that what
is hashed and what is done cannot differ.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from torch import nn

from xlt_ray.data.batches import train_batches
from xlt_ray.data.encode import template_of
from xlt_ray.data.held_out import held_out_batches, rest_of
from xlt_ray.data.noise import NumberedBatches
from xlt_ray.data.permit import LabelAccess
from xlt_ray.data.pretraining import MaskedBatches, alignment_batches
from xlt_ray.data.task import task_named
from xlt_ray.modeling.network import build_network
from xlt_ray.modeling.objectives.perturbed import robust_network
from xlt_ray.spec.methods import (
    ALIGNMENTS,
    Alignment,
    AugmentRobust,
    MaskedAlignment,
    method_named,
)
from xlt_ray.spec.steps import num_steps
from xlt_ray.spec.trial import Hybrid
from xlt_ray.stages.stage import Stage
from xlt_ray.stages.store import StageStore
from xlt_ray.training.evaluate import dev_eval_set, score, watched_scores
from xlt_ray.training.few_shot import few_shot_setup
from xlt_ray.training.load import (
    TrainingInputs,
    fusion_of,
    load_parent,
    ranking_of,
    robust_of,
    tokenizer_digest,
)
from xlt_ray.training.loop import BatchSource, TrainingSetup
from xlt_ray.training.masked import masked_scores
from xlt_ray.training.mixed import mixed_setup
from xlt_ray.training.runtime import Runtime


def training_setup(
    stage: Stage, materials: TrainingInputs, store: StageStore, runtime: Runtime
) -> tuple[TrainingSetup, Any]:
    """What a training stage trains, on its parent's encoder; and the tokenizer."""
    settings = stage.settings
    if stage.kind == "few_shot":
        return few_shot_setup(stage, materials, store, runtime)
    encoder, tokenizer = load_parent(stage, materials, store)
    if stage.kind == "align":
        knobs = _alignment(settings)
        objective = method_named(ALIGNMENTS, settings["objective"])
        aligned: nn.Module = objective.load_network()(encoder, knobs, stage.seed)
        source, evaluate = materials.source, None
        if isinstance(knobs, MaskedAlignment) and knobs.held_out:
            parts = held_out_batches(source, knobs, tokenizer, runtime.evaluation_batch)
            source, evaluate = rest_of(source, knobs), partial(masked_scores, batches=parts)
        batches = alignment_batches(
            source,
            knobs,
            tokenizer,
            tokenizer_digest(tokenizer),
            stage.seed,
            runtime.cache,
        )
        coverage = batches.coverage if isinstance(batches, MaskedBatches) else {}
        return TrainingSetup(
            aligned, batches, settings["steps"], evaluate, coverage=coverage
        ), tokenizer
    if "tasks" in settings:
        return mixed_setup(stage, encoder, tokenizer, materials, runtime), tokenizer
    task = task_named(settings["task"]["name"])
    source_language = settings["source_language"]
    robust = robust_of(settings)
    ranking = ranking_of(settings)
    plain = build_network(
        encoder, task.kind, fusion_of(settings), len(task.labels), stage.seed, ranking
    )
    network = robust_network(plain, robust, template_of(tokenizer).special_ids)
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
        LabelAccess("train", task.name, source_language),
        size,
        source_language,
        _hybrid(settings),
        tokenizer,
        tokenizer_digest(tokenizer),
        settings["max_length"],
        settings["batch_size"],
        stage.seed,
        runtime.cache,
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
    examination = dev_eval_set(task, stage, materials, tokenizer, runtime)
    scoring = partial(score, examination=examination) if examination is not None else None
    watching = watched_scores(task, stage, materials, tokenizer, runtime)
    return TrainingSetup(network, supervised, steps, scoring, watching, made.coverage), tokenizer


def _hybrid(settings: Mapping[str, Any]) -> Hybrid:
    return Hybrid.model_validate(settings.get("hybrid", {}))


def _alignment(settings: Mapping[str, Any]) -> Alignment:
    knobs = method_named(ALIGNMENTS, settings["objective"]).knobs
    chosen = {name: value for name, value in settings.items() if name in knobs.model_fields}
    alignment = knobs.model_validate(chosen)
    assert isinstance(alignment, Alignment)
    return alignment
