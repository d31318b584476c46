"""A search over a stage that repeats share is warned of, and nothing else is."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import pytest

from xlt_ray.config.checks.check_sweep import stages_are_trained_per_seed
from xlt_ray.config.facts import Facts, ModelFacts
from xlt_ray.config.search_space import probes
from xlt_ray.config.sweep import SweepSpec, load_sweep

SWEEPS = Path(__file__).parents[3] / "sweeps"

SOUND = """
name: t
data: {source: toy}
model: toy:2x64
intermediate: {task: pairs, size: 100}
target: {task: nli, source_language: qaa, learning_rate: {choice: [1.0e-5, 2.0e-5]}}
search: {trials: 2, seeds: 3}
"""
SIZES = "intermediate.size={choice: [100, 500]}"


def warnings(sweep: SweepSpec, facts: Facts) -> dict[str, str]:
    trials = [sweep.trial(tree) for tree, _ in probes(sweep.space, facts.model_bounds)]
    return {
        key: ": ".join((key, *rest)) for key, *rest in stages_are_trained_per_seed(sweep, trials)
    }


@pytest.fixture
def warned(sweep_from: Callable[..., SweepSpec], facts: Facts) -> Callable[..., dict[str, str]]:
    """Warnings by key of the sound sweep with overrides."""

    def find(*overrides: str) -> dict[str, str]:
        return warnings(sweep_from(SOUND, *overrides), facts)

    return find


def test_what_is_common_to_all_configurations_favours_none(warned: Callable) -> None:
    assert not warned()
    assert not warned("target.fusion={method: dlfa, layer: {int: [0, 1]}}")


@pytest.mark.parametrize(
    ("override", "path"),
    [
        (SIZES, "intermediate.size"),
        ("intermediate={choice: [null, {task: pairs, size: 100}]}", "intermediate"),
        ("intermediate.learning_rate={float: [1.0e-5, 2.0e-5]}", "intermediate.learning_rate"),
        ("model={choice: [toy:2x64, toy:4x64]}", "model"),
    ],
)
def test_whatever_decides_a_shared_stage_is_named(
    warned: Callable, override: str, path: str
) -> None:
    (message,) = warned(override).values()
    assert "intermediate.seed: the 3 seeds of a configuration share one intermediate" in message
    assert f"a search over {path} compares" in message
    assert "intermediate.seed: per_trial" in message


def test_one_seed_and_stages_of_every_seed_are_not_warned_of(warned: Callable) -> None:
    assert not warned(SIZES, "search.seeds=1")
    assert not warned(SIZES, "intermediate.seed=per_trial")
    # One option that is shared is enough.
    assert warned(
        "intermediate={choice: [{task: pairs, size: 100, seed: per_trial}, {task: pairs}]}"
    )


def test_an_alignment_of_every_seed_leads_to_an_intermediate_stage_of_every_seed(
    warned: Callable,
) -> None:
    align = "align={objective: mlm, steps: 10, learning_rate: {choice: [1.0e-4, 2.0e-4]}%s}"
    assert set(warned(align % "")) == {"align.seed", "intermediate.seed"}
    assert not warned(align % ", seed: per_trial")


@pytest.mark.parametrize("file", sorted(SWEEPS.glob("*.yaml")), ids=lambda file: file.stem)
def test_shipped_sweeps_train_a_stage_that_they_ask_about_for_every_seed(file: Path) -> None:
    model = ModelFacts("any", 12, 768, 512, "")
    facts = Facts(defaultdict(lambda: model), {})
    warned = warnings(load_sweep(file), facts).keys()
    # The quickstart is fast because it shares, and says at its head what that means.
    shown = {"align.seed", "intermediate.seed"} if file.stem == "quickstart" else set()
    assert warned == shown
