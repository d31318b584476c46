"""Averaged checkpoints: the mean of what was saved one by one, whole after an interruption."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.training.conftest import Bench, stop
from xlt_ray.store.record import StageRecord
from xlt_ray.store.store import StageStore
from xlt_ray.training.events import Evaluated
from xlt_ray.training.final_weights import AVERAGE
from xlt_ray.training.load import load_network

PLAIN = ("intermediate=null", "target.evaluations=4", "target.select=last")
ASKED = (*PLAIN, "target.average=3")


def record_of(bench: Bench, root: Path, *overrides: str) -> StageRecord:
    record = StageStore(root).record(bench.path(*overrides)[-1].key)
    assert record is not None
    return record


@pytest.fixture(scope="module")
def checkpoints(
    bench: Bench, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, dict[int, dict[str, torch.Tensor]]]:
    """A store with an averaged training, and the weights of its evaluations but the last."""
    root = tmp_path_factory.mktemp("averaged")
    return root, bench.checkpoints(root, *ASKED)


def test_the_average_is_the_mean_of_the_last_checkpoints(
    bench: Bench, checkpoints: tuple[Path, dict[int, dict[str, torch.Tensor]]]
) -> None:
    root, saved = checkpoints
    store, target = StageStore(root), bench.path(*ASKED)[-2]
    network, _ = load_network(target, bench.context(root, *ASKED))
    last = dict(network.named_parameters())
    means = load_file(store.folder(target.key) / AVERAGE)
    assert set(means) == set(last)
    assert {4, 6} <= set(saved), "of 8 steps; the last one is the result"
    for name, mean in means.items():
        parts = torch.stack([saved[4][name], saved[6][name], last[name].detach()])
        torch.testing.assert_close(mean, parts.mean(0), rtol=1e-6, atol=1e-7)
    assert any(not torch.equal(means[name], last[name]) for name in means)


@pytest.mark.parametrize("zero_stage", [0, pytest.param(3, marks=pytest.mark.long)])
def test_an_interrupted_training_ends_in_the_same_average(
    bench: Bench, tmp_path: Path, zero_stage: int
) -> None:
    bench.make(tmp_path / "whole", *ASKED, zero_stage=zero_stage)
    broken = bench.walk(tmp_path / "broken", *ASKED, zero_stage=zero_stage)
    for event in broken:
        if isinstance(event, Evaluated) and event.step == 6:
            break
    stop(broken)
    assert StageStore(tmp_path / "broken").find_progress(bench.path(*ASKED)[-2].key) is not None
    bench.make(tmp_path / "broken", *ASKED, zero_stage=zero_stage)
    # All weights of the result, the average among them.
    assert bench.bits(tmp_path / "broken", *ASKED) == bench.bits(tmp_path / "whole", *ASKED)


def test_averaged_weights_are_scored_besides_and_change_no_other_score(
    bench: Bench, tmp_path: Path, checkpoints: tuple[Path, dict[int, dict[str, torch.Tensor]]]
) -> None:
    root, _ = checkpoints
    bench.make(tmp_path, *PLAIN)
    plain = record_of(bench, tmp_path, *PLAIN)
    record = record_of(bench, root, *ASKED)
    assert [score for score in record.scores if score.role == "target"] == list(plain.scores)
    averaged = [score for score in record.scores if score.role == "average"]
    assert {score.task for score in averaged} == {"toy-paraphrase-average"}
    assert [(score.split, score.language, score.metric) for score in averaged] == [
        (score.split, score.language, score.metric) for score in plain.scores
    ]


def test_an_average_over_one_checkpoint_is_no_part_of_a_key(bench: Bench) -> None:
    assert bench.path("target.average=1")[-2].key == bench.path()[-2].key
    # Which checkpoints are averaged follows from when the training is evaluated.
    keys = {
        bench.path("target.average=2", f"target.evaluations={evaluations}")[-2].key
        for evaluations in (2, 4, 8)
    }
    assert len(keys) == 3


def test_the_average_is_of_the_last_checkpoints_whichever_is_selected(
    bench: Bench, tmp_path: Path, checkpoints: tuple[Path, dict[int, dict[str, torch.Tensor]]]
) -> None:
    root, _ = checkpoints
    best = (*ASKED, "target.select=best")
    bench.make(tmp_path, *best)
    first, second = (
        (StageStore(place).folder(bench.path(*asked)[-2].key) / AVERAGE).read_bytes()
        for place, asked in ((root, ASKED), (tmp_path, best))
    )
    assert first == second
