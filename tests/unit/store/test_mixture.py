"""Keys and lengths of intermediate stages of several tasks or languages, or with masked LM."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from xlt_ray.config.facts import Facts
from xlt_ray.store.stage import Stage
from xlt_ray.store.stage_path import StagePath

from .conftest import with_data

PathWith = Callable[..., StagePath]

BOTH = {"intermediate.task": ["pairs", "tags"]}
TEMPERATURE = {"method": "temperature", "temperature": 2.0}


@pytest.fixture
def stage(path_with: PathWith) -> Callable[..., Stage]:
    """The intermediate stage of the full trial, changed."""

    def find(values: dict[str, object], **rest: object) -> Stage:
        return next(s for s in path_with(values, **rest) if s.kind == "intermediate")

    return find


@pytest.mark.parametrize(
    "values",
    [
        {"intermediate.task": ["pairs"]},
        {"intermediate.languages": ["qaa"]},
        {"intermediate.languages": "all"},
        {"intermediate.mlm": None},
        {"intermediate.sampling": TEMPERATURE},
    ],
    ids=str,
)
def test_one_task_in_one_language_is_what_it_always_was(
    stage: Callable[..., Stage], values: dict[str, object]
) -> None:
    assert stage(values).key == stage({}).key


def test_the_order_of_tasks_and_languages_means_nothing(stage: Callable[..., Stage]) -> None:
    first = {"intermediate.task": ["nli", "tags"], "intermediate.languages": ["qab", "qaa"]}
    second = {"intermediate.task": ["tags", "nli"], "intermediate.languages": ["qaa", "qab"]}
    assert stage(first).key == stage(second).key
    assert "source_language" in stage(first).settings


@pytest.mark.parametrize(
    "values",
    [
        {"intermediate.task": ["nli", "pairs", "tags"]},
        {"intermediate.sampling": TEMPERATURE},
        {"intermediate.sampling": {**TEMPERATURE, "temperature": 3.0}},
        {"intermediate.sampling": {"method": "proportional", "cap": 450}},
        {"intermediate.mlm": {"share": 0.1}},
        {"intermediate.mlm": {"share": 0.2}},
        {"intermediate.mlm": {"share": 0.1, "mask": 0.3}},
        {"intermediate.mlm": {"share": 0.1, "languages": ["qab"]}},
        {"intermediate.mlm": {"share": 0.1, "languages": "source"}},
        {"intermediate.languages": ["qaa", "qab"]},
        {"intermediate.size": 100},
    ],
    ids=str,
)
def test_every_setting_of_a_mixture_is_in_its_key(
    stage: Callable[..., Stage], values: dict[str, object]
) -> None:
    assert stage({**BOTH, **values}).key != stage(BOTH).key


def test_what_a_mixture_trains_on_is_in_its_key(stage: Callable[..., Stage], facts: Facts) -> None:
    other = with_data(facts, "tags", "qaa", "train")
    assert stage(BOTH, facts=other).key != stage(BOTH).key
    newer = replace(facts, tasks={**facts.tasks, "tags": replace(facts.tasks["tags"], version=2)})
    assert stage(BOTH, facts=newer).key != stage(BOTH).key
    # The alignment before it, which trains on the same text, has a key of its own.
    text = replace(facts, parallel={**facts.parallel, "qab": "other text"})
    assert stage({**BOTH, "align": None}, facts=text).key == stage({**BOTH, "align": None}).key
    mlm = {**BOTH, "align": None, "intermediate.mlm": {"share": 0.1}}
    assert stage(mlm, facts=text).key != stage(mlm).key


@pytest.mark.parametrize(
    ("values", "examples"),
    [
        ({}, 928),
        ({"intermediate.size": 320}, 320),
        ({"intermediate.size": 320, "intermediate.epochs": 2}, 640),
        ({"intermediate.size": 320, "intermediate.mlm": {"share": 0.2}}, 416),
        ({"intermediate.sampling": {"method": "proportional", "cap": 320}}, 640),
        ({"intermediate.languages": ["qaa", "qab"]}, 1216),
    ],
    ids=str,
)
def test_a_mixture_counts_its_examples_over_all_tasks_and_masked_lm_on_top(
    stage: Callable[..., Stage], values: dict[str, object], examples: int
) -> None:
    assert stage({**BOTH, **values}).num_examples == examples, "whole batches of 32"


def test_labels_for_people_name_tasks_languages_and_masked_lm(stage: Callable[..., Stage]) -> None:
    values = {**BOTH, "intermediate.languages": ["qaa", "qab"], "intermediate.size": 100}
    values |= {"intermediate.mlm": {"share": 0.25}}
    assert stage(values).label == "intermediate pairs+tags in 2 languages and 25 % MLM 100"


def test_trunks_of_a_mixture_are_shared_between_sizes(path_with: PathWith) -> None:
    wsd = {**BOTH, "intermediate.schedule": "wsd", "intermediate.mlm": {"share": 0.2}}
    large = path_with({**wsd, "intermediate.size": 800}, sizes=(400, 800))
    small = path_with({**wsd, "intermediate.size": 400}, sizes=(400, 800))
    trunks = [[stage.key for stage in path if stage.kind == "trunk"] for path in (small, large)]
    assert trunks[1][:1] == trunks[0]
    assert len(trunks[1]) == 2
    trained = [stage for stage in large if stage.kind in ("trunk", "intermediate")]
    assert sum(stage.num_examples for stage in trained) == 32 * 32, "25 steps, 20 % on top"


def test_the_dev_set_of_every_task_is_part_of_the_key(
    stage: Callable[..., Stage], facts: Facts
) -> None:
    for name in ("pairs", "tags"):
        other = with_data(facts, name, "qaa", "dev")
        assert stage(BOTH, facts=other).key != stage(BOTH).key
