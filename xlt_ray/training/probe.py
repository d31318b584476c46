"""A few real steps of a training stage, to learn how fast it is; keeps and stores nothing."""

from __future__ import annotations

import time
from dataclasses import replace
from statistics import fmean

import torch

from xlt_ray.store.stage import Stage
from xlt_ray.training.deepspeed_engine import Engine
from xlt_ray.training.load import TrainingContext
from xlt_ray.training.passes import passes_of
from xlt_ray.training.schedules import learning_rate
from xlt_ray.training.setup import training_setup

WARM_STEPS, STEPS = 2, 6
"""First steps, which allocate memory and choose kernels, and those that are measured."""


def seconds_of_a_step(stage: Stage, model: Stage, context: TrainingContext) -> float:
    """Mean time of a step of a training stage, begun from the pretrained model.

    Batches are spread over the training, because a pool of them is sorted by length.
    """
    setup, _ = training_setup(replace(stage, parent=model), context)
    engine = Engine(setup.network, stage.settings, context.runtime)
    try:
        number = min(WARM_STEPS + STEPS, setup.num_steps)
        took = []
        for step in range(0, setup.num_steps, -(-setup.num_steps // number)):
            passes = passes_of(
                setup.batches.batch(step),
                context.group.rank,
                context.runtime.workers,
                engine.accumulation,
                engine.device,
                is_divisible=setup.is_divisible,
            )
            began = time.monotonic()
            engine.step(passes, learning_rate(step, setup.num_steps, stage.settings))
            if engine.device.type == "cuda":
                torch.cuda.synchronize()
            took.append(time.monotonic() - began)
        return fmean(took[WARM_STEPS:] or took)
    finally:
        engine.close()
