"""A real sweep whose better configurations go on to a larger intermediate size."""

from __future__ import annotations

import json
import os
import signal
import time
from collections import Counter

from tests.sweeps.conftest import Place

LADDER = (
    "intermediate.size={choice: [64, 128, 256]}", "intermediate.batch_size=8",
    "intermediate.schedule={method: wsd, warmup_examples: 16}", "target.epochs=1",
    "search.fidelity={over: intermediate.size, keep: 1}",
)  # fmt: skip


def test_a_killed_sweep_goes_on_and_better_configurations_continue_the_trunk(place: Place) -> None:
    planned = json.loads(place.xlt("plan", "small.yaml", *LADDER, "--json").stdout)
    assert planned["trials"] == 4 + 2 + 1
    process = place.start("run", "small.yaml", *LADDER)
    while process.poll() is None and place.log().count("complete") < 5:
        time.sleep(0.2)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    before = place.trials()
    assert len(before) >= 5, place.log()
    run = place.xlt("run", "small.yaml", *LADDER)
    assert run.returncode == 0, run.stdout + run.stderr
    trials = place.trials()
    assert [trial["state"] for trial in trials] == ["complete"] * 7
    assert [trial["params"] for trial in trials[: len(before)]] == [
        trial["params"] for trial in before
    ]
    assert Counter(trial["rung"] for trial in trials) == {0: 4, 1: 2, 2: 1}
    for trial in trials:
        assert trial["params"]["intermediate.size"] == (64, 128, 256)[trial["rung"]]
    for rung in (0, 1):
        objectives = {
            json.dumps({**trial["params"], "intermediate.size": 0}): trial["objective"]
            for trial in trials
            if trial["rung"] == rung
        }
        above = [
            json.dumps({**trial["params"], "intermediate.size": 0})
            for trial in trials
            if trial["rung"] == rung + 1
        ]
        assert min(objectives[name] for name in above) >= max(
            (value for name, value in objectives.items() if name not in above), default=0.0
        )
    # One ladder for all of them: three trunks, each made once.
    trunks = [stage for trial in trials for stage in trial["stages"] if stage["kind"] == "trunk"]
    assert len({stage["key"] for stage in trunks}) == 3
    made = [stage for stage in trunks if not stage["reused"]]
    assert len(made) == 3
    assert sum(stage["examples"] for stage in made) < 256
    status = json.loads(place.xlt("status", "small", "--json").stdout)
    assert status[0]["best"]["configuration"] == trials[-1]["configuration"]
    assert {run.data.tags["xlt.rung"] for run in place.runs()} == {"0", "1", "2"}
