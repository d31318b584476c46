"""Several tasks and masked LM in one intermediate stage: learned, resumed, alike on any runtime."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from tests.rounding import assert_trained_alike
from tests.training.conftest import TINY, Bench, stop
from xlt_ray.config.sweep import sweep_of
from xlt_ray.config.yaml import parse_document
from xlt_ray.store.stage import Stage
from xlt_ray.store.store import StageStore
from xlt_ray.sweep.read_facts import facts_of
from xlt_ray.training.events import Committed, Evaluated
from xlt_ray.training.loop import TrainingSetup
from xlt_ray.training.setup import training_setup

MIXED = [
    "intermediate.task=[toy-nli, toy-tagging, toy-similarity, toy-choice, toy-qa]",
    "intermediate.languages=[qaa, qab]",
    "intermediate.sampling={method: temperature, temperature: 4}",
    "intermediate.mlm={share: 0.25}",
    "intermediate.size=128",
    "intermediate.batch_size=8",
    "intermediate.weight_decay=0.1",
    "intermediate.learning_rate=5e-4",
    "target.size=16",
]
"""Five kinds, two languages and masked LM: 16 steps of tasks, 22 of all."""

NO_GRADIENT = ("heads.toy-choice.output.bias", "heads.toy-qa.output.bias")
"""A softmax over options or pieces is the same whatever is added to all: what Adam makes steps of
here is rounding."""


def intermediate(bench: Bench, *overrides: str) -> Stage:
    return next(stage for stage in bench.path(*overrides) if stage.kind == "intermediate")


def until_intermediate(bench: Bench, root: Path, *overrides: str, **runtime: Any) -> None:
    """Make the path as far as the intermediate stage."""
    walk = bench.walk(root, *overrides, **runtime)
    for event in walk:
        if isinstance(event, Committed) and event.stage.kind == "intermediate":
            break
    walk.close()  # type: ignore[attr-defined]


def weights(root: Path, stage: Stage) -> dict[str, torch.Tensor]:
    """All that a stage left: encoder and heads."""
    folder = StageStore(root).folder(stage.key)
    return {
        name: tensor
        for file in ("model", "network")
        for name, tensor in load_file(folder / f"{file}.safetensors").items()
    }


@pytest.fixture(scope="module")
def mixed(bench: Bench) -> Bench:
    """The bench with facts of all kinds."""
    return replace(bench, facts=facts_of(sweep_of(parse_document(TINY, "tiny.yaml", MIXED))))


@pytest.fixture(scope="module")
def made(mixed: Bench, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """A store with the mixture, made in one go under a runtime; each once."""

    @cache
    def make(**runtime: int) -> Path:
        root = tmp_path_factory.mktemp("made")
        until_intermediate(mixed, root, *MIXED, **runtime)
        return root

    return make


def test_the_stage_keeps_a_head_for_every_task_and_scores_each(
    mixed: Bench, made: Callable[..., Path]
) -> None:
    stage, root = intermediate(mixed, *MIXED), made()
    heads = {name.split(".")[1] for name in weights(root, stage) if name.startswith("heads.")}
    assert heads == {"toy-nli", "toy-tagging", "toy-similarity", "toy-choice", "toy-qa"}
    record = StageStore(root).record(stage.key)
    assert record is not None
    assert record.num_examples == stage.num_examples == 22 * 8
    scored = set(record.history[-1]["metrics"])
    assert {"loss", "toy-nli/accuracy", "toy-similarity/pearson", "toy-qa/f1"} <= scored


@pytest.mark.parametrize(
    "change", [{"zero_stage": 3}, {"zero_stage": 2, "micro_batch": 2}], ids=str
)
def test_heads_that_a_step_does_not_use_move_alike_under_every_runtime(
    mixed: Bench, made: Callable[..., Path], change: dict[str, int]
) -> None:
    stage = intermediate(mixed, *MIXED)
    first, second = weights(made(), stage), weights(made(**change), stage)
    assert torch.nn.functional.linear is torch._C._nn.linear, "ZeRO 3 leaves nothing behind"
    assert first.keys() == second.keys()
    for part in (first, second):
        for name in NO_GRADIENT:
            del part[name]
    assert_trained_alike(first, second, atol=1e-4)


@pytest.mark.parametrize(
    "runtime", [{}, pytest.param({"zero_stage": 3}, marks=pytest.mark.long)], ids=str
)
def test_an_interrupted_mixture_goes_on_to_the_same_bits(
    mixed: Bench, made: Callable[..., Path], tmp_path: Path, runtime: dict[str, int]
) -> None:
    broken = mixed.walk(tmp_path, *MIXED, **runtime)
    next(event for event in broken if isinstance(event, Evaluated))
    stop(broken)
    stage = intermediate(mixed, *MIXED)
    progress = StageStore(tmp_path).find_progress(stage.key)
    assert progress is not None
    assert progress.step == 11, "half of 22 steps"
    until_intermediate(mixed, tmp_path, *MIXED, **runtime)
    first, second = weights(made(**runtime), stage), weights(tmp_path, stage)
    assert all(torch.equal(first[name], second[name]) for name in first)


FEW = [
    "intermediate.task=[toy-tagging, toy-similarity]",
    *MIXED[1:4],
    "intermediate.size={choice: [80, 160]}",
    "intermediate.batch_size=8",
    "intermediate.schedule={method: wsd, warmup_examples: 8}",
    "target.size=16",
    "evaluate={languages: [qab], examples: 4}",
]
"""A ladder of two tasks."""


@pytest.mark.long
def test_a_larger_size_of_a_mixture_goes_on_from_the_trunk_of_a_smaller(
    mixed: Bench, tmp_path: Path
) -> None:
    small, large = ([*FEW, f"intermediate.size={size}"] for size in (80, 160))
    until_intermediate(mixed, tmp_path / "alone", *large, evaluations=1)
    first = mixed.make(tmp_path / "climbed", *small, evaluations=1)
    kinds = [ids.stage.kind for ids in first if isinstance(ids, Committed)]
    assert kinds == ["trunk", "intermediate", "target", "evaluate"], "its encoder is carried over"
    until_intermediate(mixed, tmp_path / "climbed", *large, evaluations=1)
    stage = intermediate(mixed, *large)
    left, right = (weights(tmp_path / root, stage) for root in ("alone", "climbed"))
    assert all(torch.equal(left[name], right[name]) for name in left)
    trunk = next(stage for stage in mixed.path(*large) if stage.kind == "trunk")
    record = StageStore(tmp_path / "climbed").record(trunk.key)
    assert record is not None
    assert record.num_examples < trunk.settings["steps"] * 8, "the smaller trunk was taken over"


@pytest.mark.long
def test_every_task_of_a_mixture_is_learned(mixed: Bench, tmp_path: Path) -> None:
    overrides = [
        "intermediate.task=[toy-tagging, toy-choice, toy-qa]",
        "intermediate.sampling={method: temperature, temperature: 100}",
        "intermediate.mlm={share: 0.1, languages: source}",
        "intermediate.size=6400",
        "intermediate.batch_size=32",
    ]
    setup, _ = training_setup(intermediate(mixed, *overrides), mixed.context(tmp_path, *overrides))
    assert setup.num_steps == 223, "200 of tasks"
    before = _scores(setup)
    optimizer = torch.optim.AdamW(setup.network.parameters(), lr=3e-3)
    for step in range(setup.num_steps):
        rate = 3e-3 * min(1.0, (step + 1) / 20) * (1 - step / setup.num_steps)
        optimizer.param_groups[0]["lr"] = rate
        batch = {name: torch.from_numpy(array) for name, array in setup.batches.batch(step).items()}
        batch["denominator"] = (batch["labels"] != -100).sum().float()
        optimizer.zero_grad()
        setup.network(batch).backward()
        torch.nn.utils.clip_grad_norm_(setup.network.parameters(), 1.0)
        optimizer.step()
    after = _scores(setup)
    gains = {"toy-tagging/accuracy": 0.3, "toy-choice/accuracy": 0.15, "toy-qa/f1": 0.05}
    for name, gain in gains.items():
        assert after[name] > before[name] + gain, (name, before[name], after[name])


def _scores(setup: TrainingSetup) -> Mapping[str, float]:
    assert setup.evaluate is not None
    setup.network.eval()
    scores = setup.evaluate(setup.network)
    setup.network.train()
    return scores
