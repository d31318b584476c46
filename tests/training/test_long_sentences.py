"""Sentences of tags that are split: more rows than sentences, through the engine and evaluated."""

from __future__ import annotations

from pathlib import Path

from safetensors.torch import load_file

from tests.rounding import assert_trained_alike
from tests.training.conftest import Bench
from xlt_ray.store.store import StageStore

SPLIT = (
    "intermediate=null", "target.task=toy-tagging", "target.max_length=8", "target.epochs=1",
)  # fmt: skip


def test_split_sentences_are_trained_alike_in_any_passes_and_scored_whole(
    bench: Bench, tmp_path: Path
) -> None:
    bench.make(tmp_path / "one", *SPLIT)
    bench.make(tmp_path / "other", *SPLIT, micro_batch=2)
    target, evaluation = bench.path(*SPLIT)[-2:]
    first, second = (
        load_file(tmp_path / name / "stages" / target.key / "model.safetensors")
        for name in ("one", "other")
    )
    assert_trained_alike(first, second, atol=2e-4)
    record = StageStore(tmp_path / "one").record(evaluation.key)
    assert record is not None
    # One piece a word here, so that no word is longer than a row.
    assert {score.cut for score in record.scores} == {0.0}


def test_pairs_that_no_row_has_room_for_are_reported_beside_their_score(
    bench: Bench, tmp_path: Path
) -> None:
    overrides = ("intermediate=null", "target.max_length=12", "target.epochs=1")
    bench.make(tmp_path, *overrides)
    record = StageStore(tmp_path).record(bench.path(*overrides)[-1].key)
    assert record is not None
    assert all(0 < (score.cut or 0) <= 1 for score in record.scores)
