"""A plan of real trainings: what it measures beforehand, and what it learns from them."""

from __future__ import annotations

from pathlib import Path

import xlt_ray
from tests.training.conftest import TINY, Bench
from xlt_ray.home import Home
from xlt_ray.store.store import StageStore


def test_a_plan_measures_steps_and_learns_from_stages(bench: Bench, tmp_path: Path) -> None:
    file, home = tmp_path / "tiny.yaml", Home(tmp_path / "home")
    file.write_text(TINY)
    probed = xlt_ray.plan(file, home=home, probe=True).forecast
    assert probed is not None
    assert probed.num_observations == 2, "both trainings, and no evaluation"
    assert not list(StageStore(home.stages))
    assert not home.ledgers.exists()

    bench.make(home.root)
    store = StageStore(home.stages)
    records = [store.record(key) for key in store]
    for record in records:
        assert record is not None
        assert record.usage["wall_s"] >= record.seconds > 0
        assert 0.1 < record.usage["peak_memory_gib"] < 8

    file.write_text(TINY.replace("learning_rate: 1e-3\n  fusion", "learning_rate: 2e-3\n  fusion"))
    learnt = xlt_ray.plan(file, home=home).forecast
    assert learnt is not None
    assert learnt.num_observations == len(records) == 3
    assert learnt.unknown == ()
    assert learnt.finish_h.high < probed.finish_h.high
    assert learnt.disk_bytes > 0
