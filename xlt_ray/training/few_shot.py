"""Few-shot training: the whole network of a target stage, on a few examples of one language."""

from __future__ import annotations

from functools import partial
from typing import Any

from xlt_ray.data.permit import LabelAccess
from xlt_ray.data.shots import shot_batches
from xlt_ray.data.task import task_named
from xlt_ray.stages.stage import Stage
from xlt_ray.stages.store import StageStore
from xlt_ray.training.evaluate import dev_eval_set, score
from xlt_ray.training.load import TrainingInputs, load_network, ranking_of, tokenizer_digest
from xlt_ray.training.loop import TrainingSetup
from xlt_ray.training.runtime import Runtime


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
    task = task_named(settings["task"]["name"])
    batches = shot_batches(
        materials.source,
        task,
        LabelAccess("few_shot", task.name, settings["source_language"], settings["language"]),
        settings["split"],
        settings["shots"],
        settings["sample"],
        tokenizer,
        tokenizer_digest(tokenizer),
        settings["max_length"],
        settings["batch_size"],
        stage.seed,
        runtime.cache,
        num_negatives=ranking_of(settings).negatives,
    )
    examination = dev_eval_set(task, stage, materials, tokenizer, runtime)
    evaluate = partial(score, examination=examination) if examination is not None else None
    return TrainingSetup(network.train(), batches, settings["steps"], evaluate), tokenizer
