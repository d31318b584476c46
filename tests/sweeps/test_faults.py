"""Faults while a sweep runs: kill anything, and the same command brings it to its end."""

from __future__ import annotations

import filecmp
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable

import psutil
import pytest

from tests.sweeps.conftest import Place
from xlt_ray.store.store import StageStore

LONG = ["target.epochs=60", "search.trials=2"]
"""Overrides for trials that are still at work when something happens to them."""
EVALUATION = r"trial 0 target (\d+)/7680"


def saved_examples(place: Place) -> int:
    """Examples, in batches of 16, that the furthest progress in the store has seen."""
    store = StageStore(place.home)
    found = [store.find_progress(file.name) for file in (place.home / "progress").glob("*")]
    return max((progress.step * 16 for progress in found if progress is not None), default=0)


def wait_for(happened: Callable[[], bool], process: subprocess.Popen[str], place: Place) -> None:
    deadline = time.monotonic() + 400
    while not happened():
        assert process.poll() is None, "the sweep ended first:\n" + place.log()
        assert time.monotonic() < deadline, place.log()
        time.sleep(0.05)


def logged(place: Place, pattern: str) -> Callable[[], bool]:
    return lambda: re.search(pattern, place.log()) is not None


def trial_processes(driver: subprocess.Popen[str]) -> list[psutil.Process]:
    """The processes below a driver in which trials are walked."""
    return [
        child
        for child in psutil.Process(driver.pid).children(recursive=True)
        if "ray::ResourceTrainable" in " ".join(child.cmdline())
    ]


def assert_exactly_once(place: Place, num_trials: int) -> None:
    """Ledger and MLflow are what an unbroken run would show."""
    trials = place.trials()
    assert [trial["state"] for trial in trials] == ["complete"] * num_trials
    points = [tuple(sorted(trial["params"].items())) for trial in trials]
    assert len(set(points)) == num_trials
    runs = place.runs()
    assert sorted(run.info.run_id for run in runs) == sorted(
        trial["mlflow_run_id"] for trial in trials
    )
    assert {run.info.status for run in runs} == {"FINISHED"}
    for run in runs:
        assert run.data.metrics["objective"] == pytest.approx(
            trials[int(run.data.tags["xlt.trial"])]["objective"]
        )
    trained = [stage["key"] for trial in trials for stage in trial["stages"] if not stage["reused"]]
    assert len(trained) == len(set(trained)), "no stage was trained twice to its end"


@pytest.mark.slow
def test_killed_driver_loses_nothing(place: Place, finished: Place) -> None:
    process = place.start("run", "small.yaml")
    wait_for(logged(place, r"trial 0 target 128/256"), process, place)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    kept = place.stage_keys()
    records = {key: (place.home / "stages" / key / "record.json").read_bytes() for key in kept}
    again = place.xlt("run", "small.yaml")
    assert again.returncode == 0, again.stdout + again.stderr
    assert_exactly_once(place, 4)
    for key, record in records.items():
        assert (place.home / "stages" / key / "record.json").read_bytes() == record
    unbroken = {trial["number"]: trial["objective"] for trial in finished.trials()}
    assert {trial["number"]: trial["objective"] for trial in place.trials()} == unbroken
    for key in finished.stage_keys():
        for weights in (finished.home / "stages" / key).glob("*.safetensors"):
            assert filecmp.cmp(weights, place.home / "stages" / key / weights.name, shallow=False)


@pytest.mark.slow
def test_trials_train_on_while_the_driver_is_stopped(place: Place) -> None:
    process = place.start(
        "run", "small.yaml", "search.trials=1", *LONG[:1], "target.evaluations=30",
        "progress.every=0.2",
    )  # fmt: skip
    wait_for(logged(place, EVALUATION), process, place)
    os.kill(process.pid, signal.SIGSTOP)
    try:
        reached = int(re.findall(EVALUATION, place.log())[-1])
        # Three evaluations further, of which the driver has not heard.
        wait_for(lambda: saved_examples(place) >= reached + 3 * 256, process, place)
    finally:
        os.kill(process.pid, signal.SIGCONT)
    assert process.wait(500) == 0, place.log()
    assert_exactly_once(place, 1)
    steps = [int(step) for step in re.findall(EVALUATION, place.log())]
    assert steps == [256 * number for number in range(1, 31)], "every score is heard, in order"


@pytest.mark.long
def test_killed_trial_process_goes_on_from_its_progress(place: Place) -> None:
    process = place.start("run", "small.yaml", "search.concurrent=1", *LONG)
    wait_for(logged(place, r"trial 0 target 1920/7680"), process, place)
    wait_for(lambda: saved_examples(place) >= 1920, process, place)
    # Ray writes a process's title anew at every call; it may be caught half written.
    wait_for(lambda: bool(trial_processes(process)), process, place)
    for victim in trial_processes(process):
        victim.kill()
    assert process.wait(500) == 0, place.log()
    assert_exactly_once(place, 2)
    trial = place.trials()[0]
    assert trial["attempts"] == 2
    lines = [line for line in place.log().splitlines() if "trial 0 target 1920/7680" in line]
    assert len(lines) == 1, "what was saved before is not trained again"


@pytest.mark.slow
@pytest.mark.parametrize(
    "number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.long)]
)
def test_interrupted_sweep_stops_cleanly_and_is_continued(
    place: Place, number: signal.Signals
) -> None:
    process = place.start("run", "small.yaml", *LONG, "target.evaluations=30")
    wait_for(logged(place, EVALUATION), process, place)
    reached = int(re.findall(EVALUATION, place.log())[-1])
    process.send_signal(number)
    assert process.wait(200) == 1, place.log()
    assert "stopping after saving progress" in place.log()
    assert "xlt resume small" in place.log()
    assert {run.info.status for run in place.runs()} <= {"KILLED", "FINISHED"}
    assert saved_examples(place) >= reached
    again = place.xlt("resume", "small")
    assert again.returncode == 0, again.stdout + again.stderr
    assert_exactly_once(place, 2)


@pytest.mark.slow
def test_a_sweep_whose_ray_server_is_killed_ends_soon_with_one_line_and_goes_on(
    place: Place,
) -> None:
    process = place.start("run", "small.yaml", *LONG)
    wait_for(logged(place, EVALUATION), process, place)
    (server,) = [
        child for child in psutil.Process(process.pid).children() if child.name() == "gcs_server"
    ]
    others = psutil.Process(process.pid).children(recursive=True)
    server.kill()
    assert process.wait(100) == 1, place.log()
    *_, last = place.log().splitlines()
    assert re.search(r"Ray has died: .*; the same command goes on$", last)
    assert "Traceback" not in place.log()
    _, alive = psutil.wait_procs(others, 60)
    assert not alive, "the next command meets no process of this one"
    again = place.xlt("run", "small.yaml", *LONG)
    assert again.returncode == 0, again.stdout + again.stderr
    assert_exactly_once(place, 2)


@pytest.mark.slow
def test_failing_trials_show_their_cause_and_the_others_complete(place: Place) -> None:
    run = place.xlt(
        "run", "small.yaml", "target.learning_rate={choice: [1e-3, 1e30]}", "target.clip=0",
        "target.fusion.layer=1", "target.hybrid.ratio=0", "target.warmup=0",
    )  # fmt: skip
    assert run.returncode == 1
    trials = {trial["params"]["target.learning_rate"]: trial for trial in place.trials()}
    assert trials[1e-3]["state"] == "complete"
    assert trials[1e30]["state"] == "failed"
    assert trials[1e30]["cause"] == "nan"
    assert "loss" in trials[1e30]["message"]
    assert "xlt resume small --failed" in run.stdout
    again = place.xlt("resume", "small", "--failed")
    assert again.returncode == 1
    retried = place.trials()[-1]
    assert (retried["retry_of"], retried["attempts"]) == (trials[1e30]["number"], 2)
    assert len(place.runs()) == 2, "a retry continues the run of the failed trial"


@pytest.mark.slow
def test_early_stopping_prunes_first_repeats_and_the_others_follow_the_complete_ones(
    place: Place,
) -> None:
    run = place.xlt(
        "run", "small.yaml", "search.sampler=random", "search.trials=6", "search.seeds=2",
        "early_stop={method: asha, grace_examples: 64, reduction: 2}", "search.concurrent=2",
        "target.learning_rate={float: [1e-7, 1e-2], log: true}", "target.task=toy-tagging",
        "objective.languages=all",
    )  # fmt: skip
    assert run.returncode == 0, run.stdout + run.stderr
    trials = place.trials()
    states = [trial["state"] for trial in trials]
    assert set(states) == {"complete", "pruned"}, states
    for trial in trials:
        kinds = [stage["kind"] for stage in trial["stages"]]
        assert ("evaluate" in kinds) == (trial["state"] == "complete")
    seeds = {
        state: sorted(
            sorted(trial["seed"] for trial in trials if trial["params"] == params)
            for params in {str(trial["params"]): trial["params"] for trial in trials
                           if trial["state"] == state}.values()
        )
        for state in ("complete", "pruned")
    }  # fmt: skip
    first = min(trial["seed"] for trial in trials)
    assert all(own == [first, first + 1] for own in seeds["complete"])
    assert all(own == [first] for own in seeds["pruned"])


def test_second_driver_of_a_running_sweep_is_refused(place: Place) -> None:
    process = place.start("run", "small.yaml")
    try:
        wait_for(lambda: (place.home / "leases" / "sweep-small.json").exists(), process, place)
        second = place.xlt("run", "small.yaml")
        assert second.returncode == 2
        assert "is already being run" in second.stderr
        assert str(process.pid) in second.stderr
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


BAD = {
    "misspelt key": (["target.learning_rte=1"], "did you mean learning_rate?"),
    "wrong type": (["target.epochs=many"], "target.epochs"),
    "fusion layer above the depth": (["target.fusion.layer=2"], "at most 1"),
    "missing data root": (["data={source: files, root: nowhere}"], "nowhere"),
    "language without the split": (["evaluate.languages=[qaz]"], "no test set in 'qaz'"),
    "unknown model folder": (["model=./no-such-model"], "no-such-model"),
    "too many CPUs": (["resources.cpus_per_worker=512"], "512"),
    "GPUs that are not there": (
        ["resources.gpus_per_worker=1", "resources.workers=16"],
        "a trial asks for 16",
    ),
    "objective on the test set": (["objective.split=test"], "selects on the test set"),
    "unknown task": (["target.task=toy-paraphrse"], "did you mean toy-paraphrase?"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_ends_soon_with_one_clear_message_and_nothing_started(
    place: Place, name: str
) -> None:
    overrides, expected = BAD[name]
    refused = place.xlt("run", "small.yaml", *overrides, "target.batch_size=64")
    assert refused.returncode == 2, refused.stdout + refused.stderr
    assert expected in refused.stderr
    assert "Traceback" not in refused.stderr
    assert not (place.home / "ledger").exists()


def test_missing_sweep_file_names_those_that_are_there(place: Place) -> None:
    refused = place.xlt("run", "smal.yaml")
    assert refused.returncode == 2
    assert "small.yaml" in refused.stderr
