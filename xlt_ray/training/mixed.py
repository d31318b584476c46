"""The lesson of an intermediate stage that trains several tasks, or masked LM beside one.

As in :mod:`xlt_ray.training.lesson`, everything is read from the stage; of the data only numbers of
examples are asked, which its fingerprints cover.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import nn

from xlt_ray.data.mixture import Batches, mixed_batches, own_seed
from xlt_ray.data.pretraining import monolingual_batches
from xlt_ray.data.task import task_named
from xlt_ray.modeling.multitask import MultitaskNetwork, OneTask, build_multitask
from xlt_ray.spec.methods import SAMPLINGS, MonolingualLm, Sampling, method_named
from xlt_ray.spec.mixture import Dataset, Mixture
from xlt_ray.stages.stage import Stage
from xlt_ray.training.evaluate import dev_eval_set, score
from xlt_ray.training.load import TrainingInputs, ranking_of, tokenizer_digest
from xlt_ray.training.loop import TrainingSetup
from xlt_ray.training.runtime import Runtime


def mixed_setup(
    stage: Stage, encoder: Any, tokenizer: Any, materials: TrainingInputs, runtime: Runtime
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
        _masked(stage, materials, tokenizer, runtime) if "mlm" in settings else None,
        tokenizer,
        tokenizer_digest(tokenizer),
        settings["max_length"],
        batch_size,
        stage.seed,
        runtime.cache,
        is_nested=is_trunk or bool(stage.starts_at),
        num_negatives=ranking_of(settings).negatives,
    )
    if is_trunk:
        return TrainingSetup(network, batches, settings["steps"], None)
    steps = mixture.num_steps(size, settings["epochs"], batch_size)
    evaluate = _scoring(stage, mixture.tasks, materials, tokenizer, runtime)
    return TrainingSetup(network, batches, steps, evaluate)


def _sampling(settings: Mapping[str, Any]) -> Sampling:
    """How datasets are drawn; one alone is always drawn."""
    chosen = settings.get("sampling", {"method": "proportional"})
    sampling = method_named(SAMPLINGS, chosen["method"]).knobs.model_validate(chosen)
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


def _masked(stage: Stage, materials: TrainingInputs, tokenizer: Any, runtime: Runtime) -> Batches:
    settings, mlm = stage.settings, stage.settings["mlm"]
    knobs = MonolingualLm(
        objective="mlm",
        languages=tuple(mlm["languages"]),
        mask=mlm["mask"],
        batch_size=settings["batch_size"],
        max_length=settings["max_length"],
    )
    return monolingual_batches(
        materials.source,
        knobs,
        tokenizer,
        tokenizer_digest(tokenizer),
        own_seed(stage.seed, "masked LM"),
        runtime.cache,
    )


def _scoring(
    stage: Stage,
    names: tuple[str, ...],
    materials: TrainingInputs,
    tokenizer: Any,
    runtime: Runtime,
) -> Callable[[nn.Module], Mapping[str, float]] | None:
    """Of the source language's dev set of every task that has one; None where none has."""
    found = {
        number: dev_eval_set(task_named(name), stage, materials, tokenizer, runtime)
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
