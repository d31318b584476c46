"""The few-shot stage: its place in a path and the content of its key."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from xlt_ray.config.facts import Facts
from xlt_ray.config.trial import FewShot
from xlt_ray.store.stage_path import StagePath

from .conftest import with_data

PathWith = Callable[..., StagePath]

SHOTS: dict[str, Any] = {"language": "qab", "shots": 10, "sample": 2}
CHANGES: dict[str, Any] = {
    "language": "qac",
    "shots": 5,
    "sample": 1,
    "split": "train",
    "steps": 7,
    "learning_rate": 1e-4,
    "batch_size": 8,
    "batching": "pieces",
    "max_length": 64,
    "weight_decay": 0.01,
    "warmup": 0.5,
    "clip": 0.0,
}


def with_shots(path_with: PathWith, **given: Any) -> StagePath:
    seeds = {name: given.pop(name) for name in ("seed", "facts") if name in given}
    return path_with({"few_shot": {**SHOTS, **given}}, **seeds)


def test_it_continues_the_target_stage_of_trials_without_shots(
    path_with: PathWith,
) -> None:
    plain, few = path_with(), with_shots(path_with)
    assert [stage.kind for stage in few[-3:]] == ["target", "few_shot", "evaluate"]
    assert [stage.key for stage in few[:-2]] == [stage.key for stage in plain[:-1]]
    assert few[-2].settings["fusion"] == few[-3].settings["fusion"]
    assert few[-2].num_examples == 100 * 32


def test_it_is_evaluated_in_its_language_and_the_source_and_never_on_its_dev_set(
    path_with: PathWith,
) -> None:
    evaluate = with_shots(path_with)[-1]
    assert evaluate.settings["languages"] == {"dev": ("qaa",), "test": ("qaa", "qab")}
    assert set(evaluate.data["dev"]) == {"qaa"}
    assert evaluate.settings["few_shot"] == {
        "language": "qab", "split": "dev", "shots": 10, "sample": 2,
    }  # fmt: skip
    assert "few_shot" not in path_with()[-1].settings


def test_every_setting_is_tried_below() -> None:
    assert set(FewShot.model_fields) == set(CHANGES)


@pytest.mark.parametrize("setting", CHANGES)
def test_a_setting_changes_the_stage_and_nothing_above_it(
    path_with: PathWith, setting: str
) -> None:
    plain, other_shots = with_shots(path_with), with_shots(path_with, **{setting: CHANGES[setting]})
    changed = [a.kind for a, b in zip(plain, other_shots, strict=True) if a.key != b.key]
    assert changed == ["few_shot", "evaluate"]


@pytest.mark.parametrize("language", ["qab", "qaa"])
def test_the_data_of_the_shots_and_the_dev_set_of_the_source_are_part_of_the_key(
    path_with: PathWith, facts: Facts, language: str
) -> None:
    changed = with_data(facts, "nli", language, "dev")
    few_shot, evaluate = with_shots(path_with, facts=changed)[-2:]
    assert few_shot.key != with_shots(path_with)[-2].key
    assert evaluate.key != with_shots(path_with)[-1].key
    if language == "qab":
        assert few_shot.parent == with_shots(path_with)[-3]


def test_repeats_draw_samples_of_their_own_unless_one_is_named(path_with: PathWith) -> None:
    for given, expected in (("per_trial", [3, 4]), (2, [2, 2])):
        stages = [with_shots(path_with, sample=given, seed=seed)[-2] for seed in (3, 4)]
        assert [stage.settings["sample"] for stage in stages] == expected
        assert [stage.seed for stage in stages] == [3, 4]
