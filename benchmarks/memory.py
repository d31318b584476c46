"""Predicted and measured peak memory of stages, each trial in a process of its own.

    python -m benchmarks.memory DATA MODELS

DATA is a folder as the `files` source reads it, with `pos/` and `pairs/xnli/`; MODELS holds folders
of encoders. A configuration whose encoder is missing is left out. Every trial trains some steps on
the CPU and evaluates 100 sentences. The record of its stages says what they took; the prediction is
that of `xlt plan`, made before.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from benchmarks.common import print_table


class Case(NamedTuple):
    """One configuration: what it is called, its encoder, and what differs from :func:`sweep`."""

    name: str
    model: str
    target: dict[str, Any]
    more: Mapping[str, Any] = MappingProxyType({})


CASES = (
    Case("nano, 32 x 128", "bible-nano", {"batch_size": 32}),
    Case("mini, 32 x 128", "bible-mini", {"batch_size": 32}),
    Case("mini, 128 x 128", "bible-mini", {"batch_size": 128, "size": 1024}),
    Case("mini, pairs, 128 x 128", "bible-mini", {"batch_size": 128, "size": 1024, "task": "xnli"}),
    Case("MiniLM 3, 32 x 128", "minilm-en-3", {"batch_size": 32}),
    Case("MiniLM 6, 64 x 128", "minilm-en-6", {"batch_size": 64, "size": 512}),
    Case("E5 3, 32 x 128", "e5-3", {"batch_size": 32, "size": 256, "task": "xnli"}),
    Case(
        "E5 3, whole table",
        "e5-3",
        {"batch_size": 32, "size": 256, "task": "xnli", "weight_decay": 0.01},
    ),
    Case(
        "E5 3, frozen table",
        "e5-3",
        {"batch_size": 32, "size": 256, "task": "xnli"},
        {"model.freeze": {"embeddings": True}},
    ),
    Case("E5 6, 64 x 128", "e5-6", {"batch_size": 64, "size": 256, "task": "xnli"}),
    Case(
        "E5 6, 64 x 128, checkpointing",
        "e5-6",
        {"batch_size": 64, "size": 256, "task": "xnli"},
        {"resources": {"activation_checkpointing": True}},
    ),
)


def sweep(case: Case, data: Path, models: Path) -> dict[str, Any]:
    freeze = case.more.get("model.freeze", {})
    return {
        "name": "memory",
        "data": {"source": "files", "root": str(data)},
        "model": {"name": str(models / case.model), "freeze": freeze},
        "target": {
            "task": "pos", "source_language": "en", "size": 512, "epochs": 1, "max_length": 128,
            "learning_rate": 1e-4, "evaluations": 1, **case.target,
        },
        "evaluate": {"languages": ["en"], "examples": 100},
        "objective": {"metric": "accuracy", "split": "dev", "languages": "source"},
        "search": {"sampler": "random", "trials": 1},
        "resources": case.more.get("resources", {}),
    }  # fmt: skip


def measure(case: Case, data: Path, models: Path) -> tuple[float, float]:
    """Predicted and measured peak of a trial in GiB; in this process.

    A stage after the largest one finds memory that the allocator has kept.
    """
    import xlt_ray
    from benchmarks.common import make_stages
    from xlt_ray.config.sweep import load_sweep
    from xlt_ray.home import Home
    from xlt_ray.sweep.read_facts import facts_of
    from xlt_ray.sweep.tasks import task_for

    with tempfile.TemporaryDirectory() as folder:
        spec, home = load_sweep(sweep(case, data, models)), Home(Path(folder))
        facts, plan = facts_of(spec), xlt_ray.plan(spec, home=home.root)
        (planned,) = plan.trials
        assert plan.forecast is not None
        trial = spec.trial_of(dict(planned.assignment), facts.model_bounds)
        task = task_for(0, trial, planned.path, spec, home)
        peaks = [event.record.usage["peak_memory_gib"] for event in make_stages(task)]
        return plan.forecast.peak.process / 2**30, max(peaks)


def in_own_process(arguments: Sequence[str]) -> str:
    command = [sys.executable, "-m", "benchmarks.memory", *arguments]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return done.stdout


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("models", type=Path)
    parser.add_argument("--case", help="only this one, in this process")
    arguments = parser.parse_args()
    os.environ.update(HF_HUB_OFFLINE="1", DS_ACCELERATOR="cpu", RAYON_NUM_THREADS="1")
    data, models = arguments.data.resolve(), arguments.models.resolve()
    if arguments.case:
        case = next(case for case in CASES if case.name == arguments.case)
        print(*(f"{peak:.3f}" for peak in measure(case, data, models)))
        return
    rows = []
    for case in CASES:
        if not (models / case.model).is_dir():
            print(f"{case.name}: skipped, {models / case.model} does not exist")
            continue
        predicted, measured = in_own_process([str(data), str(models), "--case", case.name]).split()
        error = 100 * (float(predicted) / float(measured) - 1)
        rows.append((case.name, predicted, measured, f"{error:+.0f}"))
    print_table(("trial", "predicted, GiB", "measured, GiB", "error, %"), rows)


if __name__ == "__main__":
    main()
