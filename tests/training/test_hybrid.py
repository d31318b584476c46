"""Hybrid batches of another size than usual, and mixed ones, through the engine."""

from __future__ import annotations

from pathlib import Path

import pytest
from safetensors.torch import load_file

from tests.rounding import assert_trained_alike
from tests.training.conftest import Bench
from xlt_ray.store.store import StageStore

PLAIN = "intermediate=null"


@pytest.mark.parametrize(
    ("hybrid", "change"),
    [
        ("{ratio: 0.5, mixing: in_batch}", {"micro_batch": 4}),
        ("{ratio: 0.5, batch_scale: 1.5}", {"micro_batch": 4}),
        # 4 rows for 16 passes: most of them have none.
        ("{ratio: 0.5, batch_scale: 0.25}", {"micro_batch": 1}),
        ("{ratio: 0.5, batch_scale: 0.25}", {"micro_batch": 1, "zero_stage": 3}),
    ],
    ids=str,
)
def test_micro_batches_move_weights_by_rounding_alone(
    bench: Bench, tmp_path: Path, hybrid: str, change: dict[str, int]
) -> None:
    overrides = (PLAIN, f"target.hybrid={hybrid}")
    bench.make(tmp_path / "one", *overrides)
    bench.make(tmp_path / "other", *overrides, **change)
    key = bench.path(*overrides)[-2].key
    first, second = (
        load_file(tmp_path / name / "stages" / key / "model.safetensors")
        for name in ("one", "other")
    )
    assert_trained_alike(first, second, atol=2e-4)


def test_every_setting_of_hybrid_batches_changes_the_weights(bench: Bench, tmp_path: Path) -> None:
    settings = (
        "pairs: uniform", "pairs: by_size", "mixing: in_batch", "batch_scale: 0.5", "mono: uniform",
    )  # fmt: skip
    bits = {}
    for setting in settings:
        overrides = (PLAIN, f"target.hybrid={{ratio: 0.5, {setting}}}", "target.epochs=1")
        bench.make(tmp_path, *overrides)
        bits[setting] = bench.bits(tmp_path, *overrides)
    assert len(set(bits.values())) == len(settings), bits


@pytest.mark.parametrize(
    ("settings", "lists"),
    [
        ("target.hybrid={ratio: 0.5, text: switched}", ["lexicon"]),
        ("target.robust={method: augment, neighbours: lexicon}", ["neighbours"]),
        ("target.hybrid={ratio: 0.5}", []),
    ],
)
def test_what_lists_of_words_cover_is_in_the_record(
    bench: Bench, tmp_path: Path, settings: str, lists: list[str]
) -> None:
    overrides = (PLAIN, settings, "target.epochs=1")
    bench.make(tmp_path, *overrides)
    record = StageStore(tmp_path).record(bench.path(*overrides)[-2].key)
    assert record is not None
    assert list(record.coverage) == lists
    # Most words of the toy world are in its lexicon, not all.
    assert all(0.3 < share <= 1 for share in record.coverage.values())
