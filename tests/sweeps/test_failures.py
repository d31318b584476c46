"""Trials that run out of memory or hang, in real processes: what happens, and what is said."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable

import pytest
from safetensors.torch import load_file

from tests.rounding import assert_trained_alike
from tests.sweeps.conftest import Place
from tests.sweeps.spoiling import write_spoilt
from tests.sweeps.test_faults import logged, trial_processes, wait_for

FULL = """
def meet(engine, micro_batches):
    import torch

    if sum(len(batch["labels"]) for batch in micro_batches[0]) > 4:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
"""

HANGING = """
def meet(engine, micro_batches):
    import ctypes
    import os
    from pathlib import Path

    met = Path(__file__).with_name("met")
    if os.environ["RANK"] == "{rank}" and not met.exists():
        met.touch()
        # With the interpreter's lock: no other thread of this process runs again.
        ctypes.PyDLL(None).pause()
"""

BROKEN = """
def meet(engine, micro_batches):
    import os
    from pathlib import Path

    from xlt_ray.errors import DataError

    broken = Path(__file__).with_name("broken")
    if not broken.exists():
        broken.write_text(str(os.getpid()))
    if broken.read_text() == str(os.getpid()):
        raise DataError("what this process has in memory was altered")
"""

Spoil = Callable[[str], None]


@pytest.fixture
def spoil(place: Place, monkeypatch: pytest.MonkeyPatch) -> Spoil:
    """``spoil(code)``: see :func:`~tests.sweeps.spoiling.write_spoilt`."""

    def write(code: str) -> None:
        monkeypatch.setenv("PYTHONPATH", write_spoilt(place.root / "spoilt", code))

    return write


@pytest.mark.slow
def test_out_of_memory_is_met_with_smaller_passes_and_the_same_batch(
    place: Place, finished: Place, spoil: Spoil
) -> None:
    spoil(FULL)
    run = place.xlt("run", "small.yaml", "search.trials=2", "search.concurrent=1")
    assert run.returncode == 0, run.stdout + run.stderr
    trials = place.trials()
    assert [trial["state"] for trial in trials] == ["complete", "complete"]
    # 32, 16 and 8 sequences did not fit; the second trial knows it.
    assert [trial["attempts"] for trial in trials] == [4, 1]
    assert "retried with 16 instead of 32 sequences a pass" in run.stdout
    assert "retried with 4 instead of 8 sequences a pass" in run.stdout
    assert json.loads((place.home / "fits.json").read_text()) == {"toy:2x32": {"cpu": {"32": 4}}}
    key = next(trial["key"] for trial in trials[0]["stages"] if trial["kind"] == "target")
    record = json.loads((place.home / "stages" / key / "record.json").read_text())
    assert record["runtime"]["micro_batch"] == 4
    small, whole = (
        load_file(where.home / "stages" / key / "model.safetensors") for where in (place, finished)
    )
    assert_trained_alike(small, whole, atol=5e-4)


@pytest.mark.slow
def test_a_stage_that_one_process_fails_to_make_is_tried_in_another(
    place: Place, spoil: Spoil
) -> None:
    spoil(BROKEN)
    run = place.xlt("run", "small.yaml", "search.trials=2", "search.concurrent=1")
    assert run.returncode == 1, run.stdout + run.stderr
    assert [(trial["state"], trial["cause"]) for trial in place.trials()] == [
        ("failed", "data"), ("complete", None),
    ]  # fmt: skip


@pytest.mark.long
@pytest.mark.parametrize("workers", [1, 2])
def test_a_trial_that_hangs_ends_with_its_traceback_and_can_be_run_again(
    place: Place, spoil: Spoil, workers: int
) -> None:
    spoil(HANGING.format(rank=workers - 1))
    run = place.xlt(
        "run", "small.yaml", "search.trials=1", f"resources.workers={workers}",
        "failures={hang_after: 60, timeout: {action: fail}}",
    )  # fmt: skip
    assert run.returncode == 1, run.stdout + run.stderr
    (trial,) = place.trials()
    assert (trial["state"], trial["cause"], trial["attempts"]) == ("failed", "timeout", 1)
    assert "nothing happened for 0:01:00" in trial["message"]
    assert "in meet" in run.stdout, "the log shows where it hung"
    assert "xlt resume small --failed" in run.stdout
    again = place.xlt("resume", "small", "--trial", "0")
    assert again.returncode == 0, again.stdout + again.stderr
    retried = place.trials()[-1]
    assert (retried["state"], retried["retry_of"], retried["attempts"]) == ("complete", 0, 2)
    assert len(place.runs()) == 1, "a retry continues the run of the failed trial"


@pytest.mark.long
def test_a_trial_that_hung_once_goes_on_in_another_process(place: Place, spoil: Spoil) -> None:
    spoil(HANGING.format(rank=0))
    run = place.xlt("run", "small.yaml", "search.trials=1", "failures.hang_after=60")
    assert run.returncode == 0, run.stdout + run.stderr
    (trial,) = place.trials()
    assert (trial["state"], trial["attempts"]) == ("complete", 2)
    assert "timeout: nothing happened for 0:01:00" in run.stdout
    assert not any((place.home / "hangs" / "small").iterdir())


@pytest.mark.long
@pytest.mark.parametrize(
    ("number", "cause"), [(signal.SIGKILL, "lost"), (signal.SIGTERM, "preempted")]
)
def test_a_process_that_may_not_be_replaced_fails_its_trial_with_what_ray_says(
    place: Place, number: int, cause: str
) -> None:
    process = place.start("run", "small.yaml", "search.trials=1", "target.epochs=60",
                          f"failures={{{cause}: {{action: fail}}}}")  # fmt: skip
    wait_for(logged(place, r"trial 0 target 1920/7680"), process, place)
    wait_for(lambda: bool(trial_processes(process)), process, place)
    for victim in trial_processes(process):
        victim.send_signal(number)
    assert process.wait(500) == 1, place.log()
    (trial,) = place.trials()
    assert (trial["state"], trial["cause"], trial["attempts"]) == ("failed", cause, 1)
    assert trial["message"].startswith("ActorDiedError"), trial["message"]


@pytest.mark.slow
def test_only_failed_trials_can_be_run_again(finished: Place) -> None:
    refused = finished.xlt("resume", "small", "--trial", "1")
    assert refused.returncode == 2
    assert "trial 1 is complete, not failed" in refused.stderr
    refused = finished.xlt("resume", "small", "--where", "oom")
    assert refused.returncode == 2
    assert "no failed trial has the cause oom" in refused.stderr
