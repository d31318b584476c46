"""``xlt worker``: processes without Ray that share the stages of a sweep."""

from __future__ import annotations

import random
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.sweeps.conftest import SMALL, Place
from xlt_ray.api import find_sweep
from xlt_ray.errors import SpecError
from xlt_ray.home import Home
from xlt_ray.sweep.stage_worker import WorkerSummary, work

SAME = ("number", "params", "seed", "scores", "dev_scores", "objective")
"""Fields of a trial that do not depend on who made its stages."""


def outcomes(place: Place) -> list[dict[str, object]]:
    return [{name: trial[name] for name in SAME} for trial in place.trials()]


def test_four_workers_that_are_killed_at_random_make_what_one_sweep_makes(
    place: Place, finished: Place
) -> None:
    draw, workers = random.Random(5), list[subprocess.Popen[str]]()
    for _ in range(4):
        workers.append(place.start("worker", "small.yaml", "progress.every=0.1"))
        time.sleep(1)
    num_killed, deadline = 0, time.monotonic() + 400
    while any(worker.poll() is None for worker in workers):
        assert time.monotonic() < deadline, place.log()
        time.sleep(draw.uniform(0.5, 2))
        is_training = any((place.home / "progress").glob("*/*")) or place.stage_keys()
        if num_killed < 4 and is_training:
            victim = draw.randrange(4)
            if workers[victim].poll() is None:
                workers[victim].send_signal(draw.choice((signal.SIGKILL, signal.SIGTERM)))
                workers[victim].wait()
                num_killed += 1
                workers[victim] = place.start("worker", "small.yaml", "progress.every=0.1")
    assert num_killed, "the workers were faster than the kills"
    assert {worker.returncode for worker in workers} == {0}, place.log()

    done = place.xlt("run", "small.yaml", "progress.every=0.1")
    assert "0 new stages" in done.stdout, done.stdout + done.stderr
    assert outcomes(place) == outcomes(finished)
    assert place.stage_keys() == finished.stage_keys()


def test_a_worker_leaves_its_stages_to_the_ledger_before_anything_is_trained(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise garbage collection would find stages that no sweep names."""
    monkeypatch.chdir(place.root)
    home, summary = Home(place.home), WorkerSummary()
    spec = find_sweep("small.yaml", (), home)
    event = next(work(spec, home, summary, lambda: False))
    listed = place.xlt("gc", "--json").stdout
    assert event.stage.key not in listed
    assert [trial["state"] for trial in place.trials()] == ["queued"] * 4


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("search.sampler=tpe", "depend on scores"),
        ("search.seeds={race: {first: 1, most: 2, keep: 2}}", "search.seeds"),
        ("early_stop={method: asha, grace: 0.5}", "early_stop"),
        ("budget.gpu_hours=1", "budget"),
        ("resources.workers=2", "resources.workers"),
    ],
)
def test_what_workers_cannot_decide_is_refused_before_anything_starts(
    tmp_path: Path, override: str, message: str
) -> None:
    home = Home(tmp_path / "home")
    (tmp_path / "small.yaml").write_text(SMALL)
    spec = find_sweep(tmp_path / "small.yaml", (override,), home)  # type: ignore[arg-type]
    with pytest.raises(SpecError, match=message):
        next(work(spec, home, WorkerSummary(), lambda: False))
    assert not home.sweeps()
