"""Default row lengths follow the kind of task and the model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from xlt_ray.config.checks.check_sweep import lengths_fit
from xlt_ray.config.facts import Facts
from xlt_ray.config.schema import sweep_schema
from xlt_ray.config.trial import TrialSpec
from xlt_ray.store.stage_path import StagePath

from .conftest import with_values

PathWith = Callable[..., StagePath]


def of_kinds(facts: Facts, **kinds: Any) -> Facts:
    tasks = {name: replace(facts.tasks[name], kind=kind) for name, kind in kinds.items()}
    return replace(facts, tasks={**facts.tasks, **tasks})


def lengths(path: StagePath) -> dict[str, int]:
    return {stage.kind: stage.settings["max_length"] for stage in path if stage.kind != "model"}


@pytest.mark.parametrize(
    ("model", "target", "intermediate", "expected"),
    [
        ("real", "pair", "pair", (128, 128)),
        ("real", "span", "pair", (384, 128)),
        ("real", "tag", "span", (128, 384)),
        ("toy:2x64", "span", "span", (256, 256)),
        ("toy:4x64", "span", "pair", (128, 128)),
    ],
)
def test_questions_about_passages_have_384_pieces_or_what_the_model_reads(
    path_with: PathWith, facts: Facts, model: str, target: Any, intermediate: Any,
    expected: tuple[int, int],
) -> None:  # fmt: skip
    changed = of_kinds(facts, nli=target, pairs=intermediate)
    hybrid = {"target.hybrid.ratio": 0.0, "model.name": model}
    by_kind = lengths(path_with(hybrid, facts=changed))
    assert (by_kind["target"], by_kind["intermediate"]) == expected
    assert by_kind["evaluate"] == by_kind["target"]
    assert by_kind["align"] == 128


def test_a_length_that_is_given_counts_and_names_the_same_stage_as_the_default(
    path_with: PathWith, facts: Facts
) -> None:
    changed = of_kinds(facts, nli="span")
    whole = {"target.hybrid.ratio": 0.0, "model.name": "real"}
    assert lengths(path_with({**whole, "target.max_length": 64}, facts=changed))["target"] == 64
    given = path_with({**whole, "target.max_length": 384}, facts=changed)
    assert given[-1].key == path_with(whole, facts=changed)[-1].key


def test_several_tasks_have_the_length_of_the_most_demanding_one(
    path_with: PathWith, facts: Facts
) -> None:
    changed = of_kinds(facts, tags="span")
    values = {"model.name": "real", "intermediate.task": ["pairs", "tags"]}
    assert lengths(path_with(values, facts=changed))["intermediate"] == 384


@pytest.mark.parametrize(("own", "expected"), [(None, 96), (32, 32)])
def test_few_shots_have_the_length_of_the_target(
    path_with: PathWith, own: int | None, expected: int
) -> None:
    shots = {"language": "qab", "shots": 5, "max_length": own}
    by_kind = lengths(path_with({"target.max_length": 96, "few_shot": shots}))
    assert by_kind["few_shot"] == expected


def test_a_model_that_reads_fewer_positions_needs_no_length(facts: Facts) -> None:
    short = replace(facts.models["toy:2x64"], max_positions=40)
    changed = replace(facts, models={**facts.models, "toy:2x64": short})
    trial = TrialSpec.model_validate(with_values({"align": None}))
    assert not list(lengths_fit(trial, changed, None))  # type: ignore[arg-type]
    trial = TrialSpec.model_validate(with_values({"align": None, "target.max_length": 64}))
    ((key, problem, _),) = lengths_fit(trial, changed, None)  # type: ignore[arg-type]
    assert (key, "at most 40 pieces" in problem) == ("target.max_length", True)


def test_the_schema_says_what_a_length_that_is_left_out_is() -> None:
    described = sweep_schema()["$defs"]["Target"]["properties"]["max_length"]["description"]
    assert "384 for passages, else 128" in described
