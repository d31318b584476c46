"""What is refused of a few-shot stage, and that nothing reads the labels of its language."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from xlt_ray.config.checks.check_sweep import check
from xlt_ray.config.facts import Facts
from xlt_ray.config.search_space import grid
from xlt_ray.config.sweep import SweepSpec
from xlt_ray.errors import SpecError, SpecErrors

SWEEP = """
name: t
data: {source: toy}
model: toy:2x64
target: {task: nli, source_language: qaa}
few_shot: {language: qab, shots: 10}
search: {trials: 2, sampler: grid}
"""
ReadSweep = Callable[..., SweepSpec]


@pytest.mark.parametrize(
    "overrides",
    [
        (),
        ("few_shot=null",),
        ("few_shot.shots=50",),
        ("few_shot={language: qab, shots: 1000, split: train}",),
        ("few_shot={choice: [null, {language: {choice: [qab, qac]}, shots: {choice: [5, 10]}}]}",),
        ("few_shot.sample={choice: [0, 1, per_trial]}",),
        # It names other languages for the zero-shot trials.
        ("evaluate.languages=[qac]",),
    ],
)
def test_sound_shots_have_no_problem(
    sweep_from: ReadSweep, facts: Facts, overrides: tuple[str, ...]
) -> None:
    assert check(sweep_from(SWEEP, *overrides), facts) == []


@pytest.mark.parametrize(
    ("overrides", "key", "said"),
    [
        (("few_shot.language=qaa",), "few_shot.language", "is the source language"),
        (("few_shot.language=qbb",), "few_shot.language", "no dev set with labels in 'qbb'"),
        (("few_shot.shots=51",), "few_shot.shots", "has 50 examples, not 51"),
        (
            ("target.task=pairs", "few_shot.split=train"),
            "few_shot.split",
            "no train set with labels in any target language",
        ),
        (
            ("target.task=tags", "few_shot={language: qac, shots: 5, split: train}"),
            "few_shot.language",
            "no train set with labels in 'qac'",
        ),
        (("objective.languages=all",), "objective.languages", "that the objective would read"),
        (("objective.languages=[qab]",), "objective.languages", "that the objective would read"),
        (("evaluate.dev=all",), "evaluate.dev", "can train on dev sets"),
        (("evaluate.also=[pairs]",), "evaluate.also", "only the task itself is scored"),
        (("evaluate.diagnostics=[cka]",), "evaluate.diagnostics", "only the task itself"),
        (("target.average=3",), "target.average", "only the task itself is scored"),
        (("few_shot.max_length=500",), "few_shot.max_length", "reads at most 256 pieces"),
        (("few_shot.batch_size=9", "resources={workers: 2}"), "few_shot.batch_size", "evenly"),
    ],
    ids=str,
)
def test_what_cannot_be_is_refused_with_its_key(
    sweep_from: ReadSweep, facts: Facts, overrides: tuple[str, ...], key: str, said: str
) -> None:
    found: list[SpecError] = check(sweep_from(SWEEP, *overrides), facts)
    assert [one.fields["key"] for one in found if said in str(one)] == [key]


@pytest.mark.parametrize("text", ["split: test", "shots: 0", "sample: -1", "language: [qab]"])
def test_a_malformed_stage_is_no_sweep(sweep_from: ReadSweep, text: str) -> None:
    name, _, value = text.partition(": ")
    with pytest.raises(SpecErrors, match=f"few_shot.{name}"):
        sweep_from(SWEEP, f"few_shot.{name}={value}")


def test_a_grid_has_one_trial_for_each_language_number_and_sample(sweep_from: ReadSweep) -> None:
    sweep = sweep_from(
        SWEEP,
        "few_shot={choice: [null, {language: {choice: [qab, qac]}, shots: {choice: [5, 10, 50]}, "
        "sample: {choice: [0, 1]}}]}",
    )
    assert len(list(grid(sweep.space))) == 1 + 2 * 3 * 2
    assert sweep.has_few_shot
    assert not sweep_from(SWEEP, "few_shot=null").has_few_shot


def test_the_language_of_the_shots_is_trained_on_nothing_but_the_shots(
    sweep_from: ReadSweep, facts: Facts
) -> None:
    before = "intermediate={task: nli, languages: [qaa, %s]}"
    alone = "evaluate.languages=[qac]"
    (error,) = check(sweep_from(SWEEP, alone, before % "qab"), facts)
    assert error.key == "intermediate.languages"
    assert "labels in 'qab', in which it is scored after few shots" in error.problem
    assert check(sweep_from(SWEEP, alone, before % "qad"), facts) == []
