"""Small real sweeps, planned and run: how often the 80 % interval of `xlt plan` holds what happens.

    python -m benchmarks.planning DATA MODELS FOLDER [--sweeps N] [--alone]

DATA is a folder as the `files` source reads it, with `pos/` and `pairs/xnli/`; MODELS holds
`bible-nano` and `bible-mini`. All sweeps share the home in FOLDER, in this order, so that the first
is planned without any measured stage, and the others with those of the sweeps before. Results are
kept in FOLDER, too: the same command goes on after the last sweep that has ended. With `--alone`
trials run one after another in this process, without Ray and MLflow.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from benchmarks.common import print_table, xlt_run

TOY = {
    "data": {"source": "toy"},
    "model": "toy:2x64",
    "target": {
        "task": "toy-nli", "source_language": "qaa", "size": 600, "epochs": 1, "batch_size": 32,
        "learning_rate": {"choice": [1e-4, 1e-3]},
    },
    "evaluate": {"examples": 100},
}  # fmt: skip
REAL = {
    "model": "bible-nano",
    "target": {
        "task": "pos", "source_language": "en", "size": 512, "epochs": 1, "batch_size": 32,
        "max_length": 128, "learning_rate": {"choice": [1e-4, 1e-3]}, "evaluations": 1,
    },
    "evaluate": {"languages": ["en", "de", "es"], "examples": 100},
}  # fmt: skip


def sweeps() -> Iterator[tuple[str, dict[str, Any]]]:
    """Name and content of each sweep, in their order."""

    def toy(**more: Any) -> dict[str, Any]:
        return {**TOY, **more, "target": {**TOY["target"], **more.get("target", {})}}  # type: ignore[dict-item]

    def real(**more: Any) -> dict[str, Any]:
        return {**REAL, **more, "target": {**REAL["target"], **more.get("target", {})}}  # type: ignore[dict-item]

    def pretrained(size: Any) -> dict[str, Any]:
        return {"task": "toy-paraphrase", "size": size, "epochs": 1, "batch_size": 32}

    yield "toy", toy()
    yield "toy-deep", toy(model="toy:4x64")
    yield "toy-wide", toy(model="toy:2x128", target={"size": 1000})
    yield "toy-intermediate", toy(intermediate=pretrained({"choice": [320, 960]}))
    yield "toy-models", toy(model={"choice": ["toy:2x64", "toy:4x128"]})
    align = {
        "objective": "code_switch_mlm", "steps": 60, "batch_size": 32, "max_length": 32,
    }  # fmt: skip
    yield "toy-align", toy(align=align, intermediate=pretrained(640))
    yield "nano", real()
    yield "nano-sizes", real(target={"size": {"choice": [256, 1024]}, "learning_rate": 5e-4})
    yield "nano-batch", real(target={"batch_size": 64, "size": 1024})
    yield "nano-pairs", real(target={"task": "xnli"})
    yield "mini", real(model="bible-mini")
    yield "mini-pairs", real(model="bible-mini", target={"task": "xnli", "batch_size": 16})
    yield "mini-frozen", real(model={"name": "bible-mini", "freeze": {"layers": 3}})
    xnli = {"task": "xnli", "size": 512, "epochs": 1, "batch_size": 32, "max_length": 128}
    yield "nano-intermediate", real(intermediate=xnli)
    yield "mini-again", real(model="bible-mini", target={"learning_rate": {"choice": [2e-4, 5e-4]}})
    yield "toy-again", toy(target={"learning_rate": {"choice": [2e-4, 5e-4, 2e-3]}})


def written(name: str, content: Mapping[str, Any], data: Path, models: Path, folder: Path) -> Path:
    model = content["model"]
    if "data" not in content:
        names = {"name": model} if isinstance(model, str) else model
        content = {
            **content,
            "data": {"source": "files", "root": str(data)},
            "model": {**names, "name": str(models / names["name"])},
        }
    whole = {
        **content,
        "name": name,
        "objective": {"metric": "accuracy", "split": "dev", "languages": "source"},
        "search": {"sampler": "grid", "trials": 4, "seeds": 1},
    }
    file = folder / f"{name}.yaml"
    file.write_text(json.dumps(whole))
    return file


def run_alone(file: Path, home: Path) -> int:
    """Run the trials of a sweep in this process, and write its ledger as a driver does."""
    from benchmarks.common import make_stages
    from xlt_ray.config.sweep import load_sweep
    from xlt_ray.home import Home
    from xlt_ray.ledger import Occupation, StageUse, open_ledger
    from xlt_ray.sweep.read_facts import facts_of
    from xlt_ray.sweep.tasks import Planner

    sweep, place = load_sweep(file), Home(home)
    facts, ledger = facts_of(sweep), open_ledger(place, sweep)
    planner = Planner(sweep, facts)
    while (asked := ledger.ask(sweep, facts.model_bounds)) is not None:
        began = time.monotonic()
        ledger.begin_attempt(asked.number)
        uses = [
            StageUse(event.stage.kind, event.stage.key, event.stage.label, event.reused)
            for event in make_stages(planner.task(asked, place))
        ]
        ledger.set_stages(asked.number, uses)
        ledger.set_occupied(asked.number, Occupation(time.monotonic() - began))
        ledger.tell_complete(asked.number, 0.5)
    return 0


def compare(file: Path, name: str, home: Path, *, is_alone: bool) -> dict[str, Any]:
    """Plan a sweep, run it, and read what it took."""
    import xlt_ray
    from xlt_ray.home import Home
    from xlt_ray.ledger import load_ledger
    from xlt_ray.store.store import StageStore

    overrides = ["search.concurrent=1"] if is_alone else []
    plan = xlt_ray.plan(file, overrides, home=home)
    forecast = plan.forecast
    assert forecast is not None
    code = run_alone(file, home) if is_alone else xlt_run(file, home)
    assert code == 0, f"{name} ended with {code}"
    ledger, store = load_ledger(Home(home), name), StageStore(str(home))
    views = ledger.trials()
    began = min(view.started.timestamp() for view in views if view.started)
    ended = max(view.ended.timestamp() for view in views if view.ended)
    records = [store.record(use.key) for view in views for use in view.stages if not use.reused]
    sizes = (entry.num_bytes for record in records if record for entry in record.files.values())
    peaks = [record.usage["peak_memory_gib"] for record in records if record]
    return {
        "name": name,
        "trials": len(views),
        "observations": forecast.num_observations,
        "finish_h": [*forecast.finish_h],
        "actual_finish_h": (ended - began) / 3600,
        "device_h": [*forecast.device_h],
        "actual_device_h": sum(view.occupied.seconds for view in views) / 3600,
        "memory_gib": forecast.peak.process / 2**30,
        "actual_memory_gib": max(peaks),
        "disk_mb": forecast.disk_bytes / 1e6,
        "actual_disk_mb": sum(sizes) / 1e6,
    }


def shown(row: Mapping[str, Any]) -> list[str]:
    def minutes(name: str) -> list[str]:
        median, low, high = (60 * hours for hours in row[name])
        actual = 60 * row[f"actual_{name}"]
        is_inside = "yes" if low <= actual <= high else "no"
        return [f"{median:.2f} ({low:.2f} to {high:.2f})", f"{actual:.2f}", is_inside]

    return [
        row["name"],
        str(row["observations"]),
        *minutes("finish_h"),
        *minutes("device_h"),
        f"{row['memory_gib']:.2f} / {row['actual_memory_gib']:.2f}",
        f"{row['disk_mb']:.0f} / {row['actual_disk_mb']:.0f}",
    ]


def summary(rows: list[dict[str, Any]], name: str) -> str:
    """Share of the sweeps inside the interval, its width, and the error of the median."""
    inside = [row[name][1] <= row[f"actual_{name}"] <= row[name][2] for row in rows]
    widths = [row[name][2] / row[name][1] for row in rows]
    errors = [abs(math.log(row[name][0] / row[f"actual_{name}"])) for row in rows]
    return (
        f"{name}: {sum(inside)} of {len(rows)} inside; high end over low end "
        f"{statistics.median(widths):.1f} (median); median off by a factor of "
        f"{math.exp(statistics.median(errors)):.2f}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("models", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--sweeps", type=int, default=99, help="stop after this many sweeps")
    parser.add_argument("--alone", action="store_true", help="in this process, without Ray")
    arguments = parser.parse_args()
    os.environ.update(HF_HUB_OFFLINE="1", DS_ACCELERATOR="cpu")
    folder = arguments.folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    results = folder / "results.jsonl"
    lines = results.read_text().splitlines() if results.exists() else []
    rows = [json.loads(line) for line in lines]
    done = {row["name"].partition(".")[0] for row in rows}
    for name, content in list(sweeps())[: arguments.sweeps]:
        if name in done:
            continue
        # One that was interrupted would not show what it takes.
        attempts = len([*folder.glob(f"{name}.*.yaml")])
        attempt = f"{name}.{attempts}"
        file = written(
            attempt, content, arguments.data.resolve(), arguments.models.resolve(), folder
        )
        rows.append(compare(file, attempt, folder / "home", is_alone=arguments.alone))
        with results.open("a") as stream:
            stream.write(json.dumps(rows[-1]) + "\n")
    heads = ("sweep", "seen", "finish, min", "actual", "inside", "CPU, min", "actual", "inside")
    print_table((*heads, "GiB", "MB"), map(shown, rows))
    # The first one has nothing to learn from.
    for name in ("finish_h", "device_h"):
        print(summary(rows[1:], name))


if __name__ == "__main__":
    main()
