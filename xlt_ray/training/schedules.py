"""Schedules of learning rates: pure functions of the step, nothing has to be saved.

A learning rate takes the step that is about to be made (from 0), the number of all steps and the
stage's settings.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from xlt_ray.config.methods import SCHEDULES, method_named
from xlt_ray.config.trial import trunk_steps


def learning_rate(step: int, num_steps: int, settings: Mapping[str, Any]) -> float:
    """The learning rate of a stage at a step."""
    method = settings.get("schedule", {"method": "linear"})["method"]
    rate: float = method_named(SCHEDULES, method).load()(step, num_steps, settings)
    return rate


def linear(step: int, num_steps: int, settings: Mapping[str, Any]) -> float:
    """Linear rise over the first ``warmup`` share of the steps, then linear decay to zero.

    >>> settings = {"learning_rate": 1.0, "warmup": 0.25}
    >>> [linear(step, 4, settings) for step in range(4)]
    [1.0, 1.0, 0.6666666666666666, 0.3333333333333333]
    """
    rising = int(num_steps * settings["warmup"])
    peak: float = settings["learning_rate"]
    if step < rising:
        return peak * (step + 1) / rising
    return peak * (num_steps - step) / (num_steps - rising)


def warmup_stable_decay(step: int, num_steps: int, settings: Mapping[str, Any]) -> float:
    """Rise over ``warmup_examples``, stay, fall by 1 - sqrt over the share ``decay`` of the steps.

    The trunk of a ladder (settings without ``decay``) never falls, so its rate does not depend
    on how far it goes.

    >>> schedule = {"method": "wsd", "warmup_examples": 4, "decay": 0.5}
    >>> settings = {"learning_rate": 1.0, "batch_size": 2, "schedule": schedule}
    >>> [round(warmup_stable_decay(step, 8, settings), 3) for step in range(8)]
    [0.5, 1.0, 1.0, 1.0, 1.0, 0.5, 0.293, 0.134]
    """
    schedule, peak = settings["schedule"], settings["learning_rate"]
    rising = math.ceil(schedule["warmup_examples"] / settings["batch_size"])
    height = min((step + 1) / rising, 1.0) if rising else 1.0
    if "decay" in schedule:
        constant = trunk_steps(num_steps, schedule["decay"])
        height *= 1.0 - math.sqrt(max(step - constant, 0) / (num_steps - constant))
    return float(peak * height)
