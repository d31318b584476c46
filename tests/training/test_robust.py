"""Robust training through the engine: exact when resumed, and of use against an attack."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from tests.rounding import assert_trained_alike
from tests.training.conftest import Bench, stop
from xlt_ray.config.methods import AdversarialRobust
from xlt_ray.data.batches.evaluation import EvalBatches, eval_split
from xlt_ray.data.label_access import LabelAccess
from xlt_ray.data.task import task_named
from xlt_ray.modeling.objectives.perturbed import robust_network
from xlt_ray.store.record import StageRecord
from xlt_ray.store.store import StageStore
from xlt_ray.training.events import Evaluated
from xlt_ray.training.load import load_network

PLAIN = "intermediate=null"
METHODS = {
    "adversarial": "{method: adversarial, steps: 2, step_size: 0.05, epsilon: 0.08}",
    "random": "{method: random, epsilon: 0.05, draws: 2}",
    "augment": "{method: augment, copies: 2}",
    "none": "{method: none, matched_steps: 2}",
}
every = pytest.mark.parametrize("robust", METHODS)


def override(robust: str) -> tuple[str, ...]:
    return PLAIN, f"target.robust={METHODS[robust]}"


def target_of(bench: Bench, root: Path, *overrides: str) -> StageRecord:
    record = StageStore(root).record(bench.path(*overrides)[-2].key)
    assert record is not None
    return record


@every
def test_a_method_changes_key_weights_and_length_as_it_says(
    bench: Bench, tmp_path: Path, robust: str
) -> None:
    bench.make(tmp_path, PLAIN)
    bench.make(tmp_path, *override(robust))
    assert bench.path(PLAIN)[-2].key != bench.path(*override(robust))[-2].key
    assert bench.bits(tmp_path, *override(robust)) != bench.bits(tmp_path, PLAIN)
    times = 2 if robust in ("augment", "none") else 1
    plain, robustly = (
        target_of(bench, tmp_path, *overrides) for overrides in ((PLAIN,), override(robust))
    )
    assert robustly.num_examples == times * plain.num_examples


@every
@pytest.mark.parametrize("zero_stage", [0, pytest.param(3, marks=pytest.mark.long)])
def test_interrupted_training_goes_on_to_the_same_bits(
    bench: Bench, tmp_path: Path, robust: str, zero_stage: int
) -> None:
    if robust in ("augment", "none") and zero_stage:
        pytest.skip("what they change is before the engine")
    runtime = {"zero_stage": zero_stage, "micro_batch": 8}
    bench.make(tmp_path / "whole", *override(robust), **runtime)
    broken = bench.walk(tmp_path / "broken", *override(robust), **runtime)
    for event in broken:
        if isinstance(event, Evaluated) and event.stage.kind == "target":
            break
    stop(broken)
    resumed = bench.make(tmp_path / "broken", *override(robust), **runtime)
    assert any(event.is_replay for event in resumed if isinstance(event, Evaluated))
    assert bench.bits(tmp_path / "broken", *override(robust)) == bench.bits(
        tmp_path / "whole", *override(robust)
    )


@pytest.mark.parametrize("robust", ["adversarial", "random"])
@pytest.mark.parametrize(
    "change", [{"micro_batch": 4}, {"micro_batch": 4, "zero_stage": 3}, {"zero_stage": 1}], ids=str
)
def test_accumulation_and_sharding_move_weights_by_rounding_alone(
    bench: Bench, tmp_path: Path, robust: str, change: dict[str, int]
) -> None:
    bench.make(tmp_path / "one", *override(robust))
    bench.make(tmp_path / "other", *override(robust), **change)
    key = bench.path(*override(robust))[-2].key
    first, second = (
        load_file(tmp_path / name / "stages" / key / "model.safetensors")
        for name in ("one", "other")
    )
    assert_trained_alike(first, second, atol=2e-4)


ATTACK = AdversarialRobust(method="adversarial", steps=5, step_size=0.03, epsilon=0.08, norm="l2")
LEARN = ("intermediate=null", "target.task=toy-tagging", "target.size=600", "target.epochs=8",
         "target.hybrid.ratio=0", "target.fusion={method: none}")  # fmt: skip
DEFENCE = "target.robust={method: adversarial, steps: 2, step_size: 0.05, epsilon: 0.08}"


def attacked(bench: Bench, root: Path, *overrides: str) -> tuple[float, float]:
    """Loss on the dev set, and the loss there at the worst perturbation that is found."""
    trial, target = bench.trial(*overrides), bench.path(*overrides)[-2]
    context = bench.context(root, *overrides)
    network, tokenizer = load_network(target, context)
    task = task_named(trial.target.task)
    split = eval_split(
        context.source, task, LabelAccess("select", task.name, "qaa"), "qaa", "dev", 200,
        context.pipeline(tokenizer, 32),
    )  # fmt: skip
    batches = EvalBatches([split], 100)
    losses = []
    for trained in (network, robust_network(network, ATTACK, tokenizer.all_special_ids)):
        found = []
        for batch in batches:
            tensors = {name: torch.from_numpy(array) for name, array in batch.arrays.items()}
            asked = (tensors["labels"] != -100).sum()
            found.append(trained.train()({**tensors, "denominator": asked}).item())
        losses.append(float(np.mean(found)))
    return losses[0], losses[1]


def test_adversarial_training_defends_against_an_attack(bench: Bench, tmp_path: Path) -> None:
    bench.make(tmp_path, *LEARN)
    bench.make(tmp_path, *LEARN, DEFENCE)
    clean, hit = attacked(bench, tmp_path, *LEARN)
    defended_clean, defended_hit = attacked(bench, tmp_path, *LEARN, DEFENCE)
    assert hit > clean
    assert defended_hit > defended_clean
    assert defended_hit < 0.7 * hit


@pytest.mark.parametrize("robust", ["adversarial", "random"])
@pytest.mark.parametrize("precision", ["bf16", "bf16-mixed"])
def test_bf16_training_keeps_sound_weights(
    bench: Bench, tmp_path: Path, robust: str, precision: str
) -> None:
    overrides = (*override(robust), f"resources={{precision: {precision}, zero_stage: 1}}")
    bench.make(tmp_path, *overrides, zero_stage=1)
    target = target_of(bench, tmp_path, *overrides)
    losses = [entry["metrics"]["loss"] for entry in target.history]
    assert len(losses) == 2
    assert all(0 < loss < 2 for loss in losses), losses
