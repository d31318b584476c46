"""An intermediate stage of several tasks: how a file asks for it, and what is refused."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from xlt_ray.config.checks.check_sweep import check
from xlt_ray.config.facts import Facts
from xlt_ray.config.mixture import Dataset, Mixture, mixture_of
from xlt_ray.config.search_space import grid
from xlt_ray.config.sweep import SweepSpec
from xlt_ray.config.trial import Intermediate
from xlt_ray.errors import SpecError, SpecErrors

SWEEP = """
name: t
data: {source: toy}
model: toy:2x64
intermediate:
  task: [pairs, tags]
target: {task: nli, source_language: qaa}
search: {trials: 2, sampler: grid}
"""
ReadSweep = Callable[..., SweepSpec]
Problems = Callable[..., list[SpecError]]


@pytest.fixture
def problems(sweep_from: ReadSweep, facts: Facts) -> Problems:
    def find(*overrides: str) -> list[SpecError]:
        return check(sweep_from(SWEEP, *overrides), facts)

    return find


@pytest.mark.parametrize(
    "overrides",
    [
        (),
        ("intermediate.size=900",),
        ("intermediate.task=[tags]",),
        ("intermediate.sampling=proportional",),
        ("intermediate.sampling={method: temperature, temperature: 2, cap: 100}",),
        ("intermediate.languages=all", "target.task=pairs", "intermediate.task=[tags, nli]"),
        ("intermediate.languages=[qaa, qab]",),
        ("intermediate.mlm={share: 0.2, languages: source}",),
        ("intermediate.mlm={choice: [null, {share: 0.2}]}",),
        ("intermediate.schedule={method: wsd, warmup_examples: 64}",),
        # One of the options is a single task, for which nothing is drawn.
        (
            "intermediate.task={choice: [pairs, [pairs, tags]]}",
            "intermediate.sampling={method: temperature, temperature: 2}",
        ),
    ],
)
def test_a_sound_mixture_has_no_problem(problems: Problems, overrides: tuple[str, ...]) -> None:
    assert problems(*overrides) == []


@pytest.mark.parametrize(
    ("overrides", "key", "problem", "remedy"),
    [
        (("intermediate.size=901",), "size", "are 900 training examples in qaa, not 901", "900"),
        (
            ("intermediate.size=601", "intermediate.sampling={method: proportional, cap: 300}"),
            "size", "600 training examples in qaa, at most 300 of each counted", "at most 600",
        ),
        (
            ("intermediate.languages=[qaa, qab]", "intermediate.size=1201"),
            "size", "1200 training examples in qaa, qab", "at most 1200",
        ),
        (
            ("intermediate.task=pairs", "intermediate.sampling={method: proportional}"),
            "sampling", "nothing to sample", "[ONE, OTHER]",
        ),
        (
            ("intermediate.languages=[qaa, qax]",),
            "languages", "pairs and tags have no training data in 'qax'", "qa",
        ),
        (
            ("intermediate.languages=[qab]",),
            "languages", "pairs has no training data in any", "qaa",
        ),
        (
            ("intermediate.source_language=qab",),
            "task", "pairs has no training data in 'qab'", "qaa",
        ),
        (
            ("intermediate.schedule={method: wsd, warmup_examples: 800}",),
            "schedule.warmup_examples", "still rise", "at most 736",
        ),
    ],
)  # fmt: skip
def test_what_cannot_be_trained_is_refused_with_key_and_remedy(
    problems: Problems, overrides: tuple[str, ...], key: str, problem: str, remedy: str
) -> None:
    (error,) = problems(*overrides)
    assert error.key == f"intermediate.{key}"
    assert problem in error.problem
    assert remedy in error.remedy


@pytest.mark.parametrize(
    ("override", "problem"),
    [
        ("intermediate.task=[pairs, tags, pairs]", "pairs is named twice"),
        ("intermediate.task=[]", "the list is empty"),
        ("intermediate.languages=[qaa, qaa]", "qaa is named twice"),
        ("intermediate.sampling={method: temperature, temperature: 0.5}", "greater than or equal"),
        ("intermediate.sampling={method: temperatur}", "there is no method 'temperatur'"),
        ("intermediate.mlm={share: 1.0}", "less than 1"),
        ("intermediate.mlm={mask: 0.5}", "is missing"),
    ],
)
def test_a_malformed_mixture_is_refused_before_anything_is_looked_up(
    sweep_from: ReadSweep, override: str, problem: str
) -> None:
    with pytest.raises(SpecErrors, match=problem) as errors:
        sweep_from(SWEEP, override)
    assert all(problem.key.startswith("intermediate.") for problem in errors.value.problems)


def test_lists_are_options_of_a_choice(sweep_from: ReadSweep) -> None:
    sweep = sweep_from(SWEEP, "intermediate.task={choice: [nli, [pairs, tags], [tags, nli]]}")
    tasks = [sweep.trial_of(one).intermediate for one in grid(sweep.space)]
    assert [task and task.tasks for task in tasks] == [("nli",), ("pairs", "tags"), ("nli", "tags")]
    labels = [one["intermediate.task"] for one in grid(sweep.space)]
    assert labels == ["nli", '["pairs", "tags"]', '["tags", "nli"]']


def _mixtures(facts: Facts) -> Iterator[tuple[Intermediate, Mixture]]:
    for tree in (
        {"task": "nli"},
        {"task": ["nli"], "languages": ["qab"]},
        {"task": ["tags", "nli"], "languages": ["qab", "qaa"]},
        {"task": ["tags", "pairs"], "mlm": {"share": 0.5}},
    ):
        settings = Intermediate.model_validate(tree)
        yield settings, mixture_of(settings, "qaa", facts.tasks)


def test_a_mixture_has_a_dataset_for_every_task_and_language(facts: Facts) -> None:
    found = [one.datasets for _, one in _mixtures(facts)]
    assert found == [
        (Dataset("nli", "qaa", 1000),),
        (Dataset("nli", "qab", 1000),),
        (
            Dataset("nli", "qaa", 1000), Dataset("nli", "qab", 1000),
            Dataset("tags", "qaa", 400), Dataset("tags", "qab", 300),
        ),
        (Dataset("pairs", "qaa", 500), Dataset("tags", "qaa", 400)),
    ]  # fmt: skip
    assert [one.is_plain for _, one in _mixtures(facts)] == [True, True, False, False]
