"""The best checkpoint on the source dev set: that of the original's loop, whole after a kill."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file

from tests.training.conftest import Bench, stop, what_was_scored
from tests.training.pair import pair_beside
from xlt_ray.store.record import StageRecord
from xlt_ray.store.store import StageStore
from xlt_ray.training.events import Evaluated
from xlt_ray.training.final_weights import best_step
from xlt_ray.training.load import EXTRA

# Falls after its first epoch: the rate is far too high then.
ASKED = ("intermediate=null", "target.evaluations=8", "target.learning_rate=6e-3")
LAST = (*ASKED, "target.select=last")


def record_of(bench: Bench, root: Path, *overrides: str, place: int = -2) -> StageRecord:
    record = StageStore(root).record(bench.path(*overrides)[place].key)
    assert record is not None
    return record


def weights_of(bench: Bench, root: Path, *overrides: str) -> dict[str, torch.Tensor]:
    """Of encoder, fusion and head, as progress calls them."""
    folder = StageStore(root).folder(bench.path(*overrides)[-2].key)
    encoder = load_file(folder / "model.safetensors")
    return {
        **{f"encoder.{name}": tensor for name, tensor in encoder.items()},
        **load_file(folder / EXTRA),
    }


@pytest.fixture(scope="module")
def evaluated(
    bench: Bench, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, dict[int, dict[str, torch.Tensor]]]:
    """A finished training, and the weights at each of its evaluations but the last."""
    root = tmp_path_factory.mktemp("best")
    return root, bench.checkpoints(root, *ASKED)


def saved_by_xtreme(history: Sequence[Mapping[str, Any]], metric: str) -> int | None:
    """As run_classify.py and run_tag.py do it: a checkpoint is saved where its score is higher
    than all before, so of equals the first stays."""
    best_score, saved = float("-inf"), None
    for entry in history:
        if entry["metrics"][metric] > best_score:
            best_score, saved = entry["metrics"][metric], entry["step"]
    return saved


@given(st.lists(st.sampled_from([0.0, 0.25, 0.5, 0.5000001, 1.0, float("-inf")]), max_size=9))
def test_the_same_step_is_selected_as_by_the_original(scores: list[float]) -> None:
    history = [{"step": 10 * n, "metrics": {"f1": score}} for n, score in enumerate(scores, 1)]
    if scores and max(scores) == float("-inf"):
        # The original would save none.
        assert best_step(history, "f1") == 10
    else:
        assert best_step(history, "f1") == saved_by_xtreme(history, "f1")


def test_what_is_not_a_number_is_never_better() -> None:
    scores = [float("nan"), 0.1, float("nan")]
    history = [
        {"step": step, "metrics": {"pearson": score}} for step, score in enumerate(scores, 1)
    ]
    assert best_step(history, "pearson") == 2


def test_where_nothing_can_be_selected_by_the_last_weights_stay() -> None:
    """Gold labels that leave a metric undefined: it is missing in every evaluation."""
    assert best_step([], "f1") is None
    history = [{"step": step, "metrics": {"accuracy": 0.5 - step / 10}} for step in (1, 2, 3)]
    assert [best_step(history[:many], "f1") for many in (1, 2, 3)] == [1, 2, 3]


def test_the_result_is_the_network_of_the_best_evaluation(
    bench: Bench, evaluated: tuple[Path, dict[int, dict[str, torch.Tensor]]]
) -> None:
    root, checkpoints = evaluated
    record = record_of(bench, root, *ASKED)
    best = saved_by_xtreme(record.history, "accuracy")
    assert record.selected_step == best
    assert best in checkpoints, "this training has its best evaluation before its last one"
    found = weights_of(bench, root, *ASKED)
    assert found.keys() == checkpoints[best].keys()
    for name, weights in found.items():
        assert torch.equal(weights, checkpoints[best][name]), name


def test_what_was_selected_is_what_is_scored(
    bench: Bench, evaluated: tuple[Path, dict[int, dict[str, torch.Tensor]]], tmp_path: Path
) -> None:
    root, _ = evaluated
    whole = (*ASKED, "evaluate.examples=all")
    bench.make(root, *whole)
    top = max(point["metrics"]["accuracy"] for point in record_of(bench, root, *ASKED).history)
    dev = [
        score.value
        for score in record_of(bench, root, *whole, place=-1).scores
        if (score.split, score.metric) == ("dev", "accuracy")
    ]
    assert dev == [pytest.approx(top)]
    bench.make(tmp_path, *LAST)
    last = record_of(bench, tmp_path, *LAST)
    assert last.selected_step is None
    assert what_was_scored(last) == what_was_scored(record_of(bench, root, *ASKED)), (
        "the training is the same"
    )
    assert bench.bits(tmp_path, *LAST) != bench.bits(root, *ASKED)


@pytest.mark.parametrize("zero_stage", [0, 2, pytest.param(3, marks=pytest.mark.long)])
@pytest.mark.parametrize("after", [3, 7])
def test_an_interrupted_training_selects_the_same_weights(
    bench: Bench, tmp_path: Path, zero_stage: int, after: int
) -> None:
    bench.make(tmp_path / "whole", *ASKED, zero_stage=zero_stage)
    broken = bench.walk(tmp_path / "broken", *ASKED, zero_stage=zero_stage)
    for event in broken:
        if isinstance(event, Evaluated) and event.step == after:
            break
    stop(broken)
    assert StageStore(tmp_path / "broken").find_progress(bench.path(*ASKED)[-2].key) is not None
    bench.make(tmp_path / "broken", *ASKED, zero_stage=zero_stage)
    assert bench.bits(tmp_path / "broken", *ASKED) == bench.bits(tmp_path / "whole", *ASKED)
    first, second = (record_of(bench, tmp_path / name, *ASKED) for name in ("whole", "broken"))
    assert first.selected_step == second.selected_step


@pytest.mark.long
def test_two_workers_select_what_both_saw_whole(bench: Bench, tmp_path: Path) -> None:
    """Broken off after the best evaluation: its weights were progress then."""
    with pair_beside(bench) as pair:
        pair.follow(tmp_path, *ASKED, zero_stage=3)
        record = record_of(bench, tmp_path, *ASKED)
        assert record.selected_step == saved_by_xtreme(record.history, "accuracy")
        steps = [point["step"] for point in record.history]
        broken = tmp_path / "broken"
        number = steps.index(record.selected_step) + 1
        pair.follow(broken, *ASKED, zero_stage=3, num_evaluations=number)
    store = StageStore(broken)
    progress = store.find_progress(bench.path(*ASKED)[-2].key)
    assert progress is not None
    assert progress.step == record.selected_step
    saved = load_file(store.fetch_progress(progress, "test") / "weights.safetensors")
    for name, weights in weights_of(bench, tmp_path, *ASKED).items():
        assert torch.equal(weights, saved[name]), name


def test_when_a_training_is_evaluated_and_what_it_selects_are_part_of_its_key(
    bench: Bench,
) -> None:
    changes = ((), ("target.evaluations=4",), ("target.select=last",))
    assert len({bench.path(*change)[-2].key for change in changes}) == len(changes)
