"""Every alignment objective learns, and goes on to the same bits after an interruption."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from tests.training.conftest import Bench, stop
from xlt_ray.config.methods import ALIGNMENTS
from xlt_ray.store.stage import Stage
from xlt_ray.store.store import StageStore
from xlt_ray.training.events import Evaluated, Event
from xlt_ray.training.setup import training_setup

STEPS = 60
OBJECTIVES = {
    **{entry.name: "" for entry in ALIGNMENTS},
    "tlm": "reset_positions: true, ",
    "contrastive": "group: 8, layer: 1, ",
    "weam": "aligner: ibm1, ",
}
every = pytest.mark.parametrize("objective", OBJECTIVES)


def override(objective: str, steps: int = STEPS) -> str:
    return (
        f"align={{objective: {objective}, {OBJECTIVES[objective]}languages: [qaa, qaf], "
        f"steps: {steps}, batch_size: 16, max_length: 48, learning_rate: 5e-3}}"
    )


def untrained_loss(bench: Bench, stage: Stage, root: Path) -> float:
    """Mean loss of the stage's network, as it is at the first step, over the last ten batches."""
    context = bench.context(root, override(str(stage.settings["objective"])))
    setup, _ = training_setup(stage, context)
    losses = []
    with torch.no_grad():
        for step in range(STEPS - 10, STEPS):
            batch = setup.batches.batch(step)
            tensors = {name: torch.from_numpy(array) for name, array in batch.items()}
            asked = (tensors["labels"] != -100).sum()
            losses.append(setup.network({**tensors, "denominator": asked}).item())
    return sum(losses) / len(losses)


def aligned(events: Iterator[Event]) -> list[Event]:
    """Events up to the end of the alignment stage, which is all that is made."""
    found: list[Event] = []
    for event in events:
        found.append(event)
        if getattr(event, "record", None) is not None:
            break
    events.close()  # type: ignore[attr-defined]
    return found


@every
def test_an_objective_lowers_its_loss(bench: Bench, tmp_path: Path, objective: str) -> None:
    stage = bench.path(override(objective))[1]
    assert stage.kind == "align"
    aligned(bench.walk(tmp_path, override(objective), evaluations=6))
    record = StageStore(tmp_path).record(stage.key)
    assert record is not None
    trained = record.history[-1]["metrics"]["loss"]
    assert trained < 0.93 * untrained_loss(bench, stage, tmp_path)


@pytest.mark.parametrize("zero_stage", [0, pytest.param(3, marks=pytest.mark.long)])
def test_masked_lm_is_scored_language_by_language_on_text_that_it_never_saw(
    bench: Bench, tmp_path: Path, zero_stage: int
) -> None:
    # Twice as many steps as are needed for it to get words right that it does not by chance.
    settings = override("mlm", steps=300).replace("steps:", "held_out: 100, steps:")
    stage = bench.path(settings)[1]
    assert stage.key != bench.path(override("mlm"))[1].key
    aligned(bench.walk(tmp_path, settings, evaluations=6, zero_stage=zero_stage))
    record = StageStore(tmp_path).record(stage.key)
    assert record is not None
    first, *_, last = (entry["metrics"] for entry in record.history)
    languages = {"masked_accuracy/qaa", "masked_accuracy/qaf"}
    assert last.keys() == {"loss", "masked_accuracy/mean", "masked_loss/mean"} | languages
    assert last["masked_accuracy/mean"] == pytest.approx(
        sum(last[language] for language in languages) / 2
    )
    assert last["masked_loss/mean"] < first["masked_loss/mean"]
    assert all(last[language] > first[language] for language in languages)


@pytest.mark.parametrize("zero_stage", [0, pytest.param(3, marks=pytest.mark.long)])
@pytest.mark.parametrize("objective", ["contrastive", "weam"])
def test_interrupted_alignment_goes_on_to_the_same_bits(
    bench: Bench, tmp_path: Path, objective: str, zero_stage: int
) -> None:
    settings = override(objective, steps=6)
    stage = bench.path(settings)[1]
    runtime = {"zero_stage": zero_stage, "micro_batch": 8, "evaluations": 2}
    aligned(bench.walk(tmp_path / "whole", settings, **runtime))
    broken = bench.walk(tmp_path / "broken", settings, **runtime)
    next(event for event in broken if isinstance(event, Evaluated))
    stop(broken)
    again = aligned(bench.walk(tmp_path / "broken", settings, **runtime))
    assert any(event.is_replay for event in again if isinstance(event, Evaluated))
    first, second = (
        {
            file.name: file.read_bytes()
            for file in StageStore(tmp_path / name).folder(stage.key).glob("*.safetensors")
        }
        for name in ("whole", "broken")
    )
    assert first == second
    assert ("network.safetensors" in first) == (objective == "weam")
