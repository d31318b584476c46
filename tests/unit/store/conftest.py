"""Trials with made-up data, and their paths."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from xlt_ray.config.facts import Facts, SplitFacts
from xlt_ray.config.trial import TrialSpec
from xlt_ray.store.stage_path import StagePath, path_of

FULL: dict[str, Any] = {
    "data": {"source": "toy"},
    "model": "toy:2x64",
    "align": {"objective": "code_switch_mlm"},
    "intermediate": {"task": "pairs"},
    "target": {
        "task": "nli",
        "source_language": "qaa",
        "fusion": {"method": "dlfa", "layer": 1},
        "robust": {"method": "none"},
        "hybrid": {"ratio": 0.25},
    },
}


def with_values(values: dict[str, Any]) -> dict[str, Any]:
    """The full trial with dotted paths replaced."""

    def place(node: Any, steps: list[str], value: Any) -> Any:
        if not steps:
            return value
        below = node if isinstance(node, dict) else {}
        return {**below, steps[0]: place(below.get(steps[0], {}), steps[1:], value)}

    tree: Any = FULL
    for path, value in values.items():
        tree = place(tree, path.split("."), value)
    return dict(tree)


def with_data(facts: Facts, task: str, language: str, split: str) -> Facts:
    """The facts with other data in one split of a task."""
    known = facts.tasks[task]
    splits = {**known.splits, (language, split): SplitFacts(1000, "other data")}
    return replace(facts, tasks={**facts.tasks, task: replace(known, splits=splits)})


@pytest.fixture
def path_with(facts: Facts) -> Callable[..., StagePath]:
    """``path_with({"target.epochs": 2}, seed=1)``: path of the full trial, changed."""

    def path(
        values: dict[str, Any] | None = None,
        *,
        seed: int = 0,
        shared_seed: int = 0,
        facts: Facts = facts,
        sizes: tuple[int | str, ...] = (),
    ) -> StagePath:
        trial = TrialSpec.model_validate(with_values(values or {}))
        return path_of(trial, facts, seed=seed, shared_seed=shared_seed, sizes=sizes)

    return path
