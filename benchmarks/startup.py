"""From the command to the first training step, and from the last trial to the end of the process.

The peer is a bare class trainable of Ray Tune that imports the same libraries and takes one step of
a linear layer. Each side is a process of its own, one after the other, on a Ray that it starts.

    python -m benchmarks.startup
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import psutil

from benchmarks.common import print_table

SWEEP = {
    "name": "startup",
    "data": {"source": "toy"},
    "model": "toy:2x32",
    "target": {
        "task": "toy-paraphrase",
        "source_language": "qaa",
        "size": 64,
        "epochs": 1,
        "batch_size": 16,
        "max_length": 32,
        "learning_rate": {"choice": [1e-3, 2e-3]},
        "evaluations": 1,
    },
    "objective": {"metric": "accuracy", "languages": "source"},
    "search": {"trials": 2, "sampler": "grid", "concurrent": 2},
}
MOMENT = "moment:"


def note(moment: str) -> None:
    """Print a moment, its time, and the CPU time of this process so far, for the parent."""
    print(MOMENT, moment, time.time(), time.process_time(), sep="\t", flush=True)


def noting(call: Callable[..., Any], moment: str) -> Callable[..., Any]:
    """The same function, which notes when it has returned."""

    def noted(*args: Any, **options: Any) -> Any:
        result = call(*args, **options)
        note(moment)
        return result

    return noted


class Reporter:
    """Notes the first time that each kind of report comes."""

    def __init__(self) -> None:
        self._kinds: set[str] = set()

    def _first(self, kind: str, moment: str) -> None:
        if kind not in self._kinds:
            self._kinds.add(kind)
            note(moment)

    def preparing(self, step: str) -> None: ...

    def continues(self, trials: Any) -> None: ...

    def begun(self, view: Any) -> None:
        self._first("begun", "first actor up")

    def reported(self, view: Any, report: Any) -> None:
        if report.examples:
            self._first("steps", "first trial evaluated")

    def finished(self, view: Any) -> None:
        note("a trial complete")

    def timed(self, line: str) -> None: ...

    def warned(self, message: str) -> None:
        print(message, file=sys.stderr)


def run_product(home: Path) -> None:
    from xlt_ray.config.sweep import load_sweep
    from xlt_ray.home import Home
    from xlt_ray.sweep import runner
    from xlt_ray.tracking import MlflowSync

    for owner, name, moment in (
        (runner, "checked_facts", "facts read"),
        (runner, "connect", "Ray up"),
        (MlflowSync, "wait_until_open", "MLflow open"),
    ):
        setattr(owner, name, noting(getattr(owner, name), moment))
    runner.run(load_sweep(SWEEP), Home(home), Reporter())
    note("sweep ended")


def run_peer(folder: Path) -> None:
    import ray
    from ray import tune

    class Bare(tune.Trainable):  # type: ignore[misc]
        def setup(self, config: dict[str, Any]) -> None:
            import deepspeed
            import torch
            import transformers.models.bert.modeling_bert  # noqa: F401

            assert deepspeed.__version__
            self._layer = torch.nn.Linear(8, 8)

        def step(self) -> dict[str, Any]:
            import torch

            self._layer(torch.ones(8)).sum().backward()
            return {"done": True}

        def save_checkpoint(self, checkpoint_dir: str) -> None: ...

    class Noting(tune.Callback):  # type: ignore[misc]
        def on_trial_result(self, *args: Any, **info: Any) -> None:
            note("a trial complete")

    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    note("Ray up")
    tune.Tuner(
        tune.with_resources(Bare, {"cpu": 1}),
        tune_config=tune.TuneConfig(num_samples=2),
        run_config=tune.RunConfig(storage_path=str(folder), verbose=0, callbacks=[Noting()]),
    ).fit()
    note("sweep ended")


SIDES = {"xlt-ray": run_product, "bare Ray Tune": run_peer}


def measured(side: str) -> list[tuple[str, float, str]]:
    """Moments of one side: what, seconds since its process began, CPU seconds of the driver."""
    with tempfile.TemporaryDirectory() as folder:
        began = time.time()
        command = [sys.executable, "-m", "benchmarks.startup", side, folder]
        output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
        ended = time.time()
    rows = [line.split("\t")[1:] for line in output.splitlines() if line.startswith(MOMENT)]
    moments = [(what, float(at) - began, f"{float(cpu):.1f}") for what, at, cpu in rows]
    return [*moments, ("process ended", ended - began, "")]


def main(arguments: Sequence[str]) -> None:
    if arguments:
        side, folder = arguments
        SIDES[side](Path(folder))
        return
    print(f"load of the last minute: {psutil.getloadavg()[0]:.1f} on {psutil.cpu_count()} cores")
    for side in SIDES:
        rows = [(what, f"{seconds:.1f}", cpu) for what, seconds, cpu in measured(side)]
        print_table((side, "s", "s of CPU, driver"), rows)


if __name__ == "__main__":
    main(sys.argv[1:])
