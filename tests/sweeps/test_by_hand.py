"""Another process changes a sweep while it runs, and its driver is killed in between."""

from __future__ import annotations

import os
import signal

import pytest

from tests.sweeps.conftest import Place
from tests.sweeps.test_faults import LONG, logged, saved_examples, wait_for
from xlt_ray.home import Home
from xlt_ray.ledger import Ledger, Request, load_ledger
from xlt_ray.ledger.requests import leave_request
from xlt_ray.sweep.make_requests import clone_request, pause_request, set_request, stop_request

RUN = ("run", "small.yaml", *LONG, "search.concurrent=1", "target.evaluations=30",
       "budget.hours=5", "progress.every=0.2")  # fmt: skip


@pytest.mark.slow
def test_a_sweep_that_is_changed_while_it_runs(place: Place) -> None:
    home = Home(place.home)

    def ledger() -> Ledger:
        return load_ledger(home, "small")

    def ask(*requests: Request) -> None:
        for request in requests:
            leave_request(home, "small", request)

    process = place.start(*RUN)
    wait_for(logged(place, "trial 0 target 512/7680"), process, place)
    ask(
        stop_request(ledger(), 0),
        clone_request(ledger(), 0, ["target.fusion.layer=1"]),
        set_request(ledger(), ["search.trials=1", "budget.hours=6"]),
    )
    wait_for(logged(place, "trial 0 stopped by hand at"), process, place)
    assert 0 < saved_examples(place) < 7680, "it keeps its progress"
    wait_for(logged(place, "search.trials set to 1 instead of 2"), process, place)
    wait_for(logged(place, r"trial 1 target \d+/7680"), process, place)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()

    process = place.start(*RUN)
    again = r"(?s)search.trials is 1, as set by hand.*trial 1 target \d+/7680"
    wait_for(logged(place, again), process, place)
    ask(pause_request(ledger()))
    assert process.wait(200) == 1
    assert "ended early: paused by hand" in place.log()

    done = place.xlt("resume", "small")
    assert done.returncode == 0, done.stdout + done.stderr
    trials = place.trials()
    assert [(trial["state"], trial["by_hand"]) for trial in trials] == [
        ("pruned", "stopped by hand"),
        ("complete", "clone of trial 0"),
    ]
    assert trials[1]["params"] == {**trials[0]["params"], "target.fusion.layer": 1}
    tags = [run.data.tags for run in place.runs()]
    assert {tag["xlt.trial"]: tag["xlt.by_hand"] for tag in tags} == {
        str(trial["number"]): trial["by_hand"] for trial in trials
    }
    assert ledger().sweep["budget"]["hours"] == 6
    assert [request.kind for request in ledger().by_hand] == ["stop", "clone", "set", "pause"]
