"""The sweeps of docs/real-data.md on real languages, and their tables.

    python -m benchmarks.real_data DATA MODELS [--home HOME] [--only NAME ...]

runs every sweep of this folder (or the named ones) one after the other with `xlt run`, and then
prints their tables in Markdown. DATA is a folder as the `files` source reads it, MODELS one with
the encoders `bible-nano` and `bible-mini`. What a home has already is not trained again: a run that
was stopped goes on, and a second one only prints.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import yaml

from benchmarks.real_data.tables import Asked, table
from xlt_ray import Results

HERE = Path(__file__).parent
AMERICAS = ("ay", "bzd", "cni", "gn", "hch", "nah", "oto", "quy", "shp", "tar")
EUROPE_ASIA = ("ar", "bg", "de", "el", "es", "fr", "hi", "ko", "ru", "sw", "tr", "ur", "vi", "zh")
PAWSX = ("de", "es", "fr", "ja", "ko", "zh")
TABLES: Mapping[str, tuple[Asked, ...]] = {
    "pos": (
        Asked(("accuracy",), ("de", "sv", "cs", "zh", "ru", "hi")),
        Asked(("conll_f1",), ("de", "sv", "cs", "zh", "ru", "hi")),
    ),
    "ner": (Asked(("conll_f1", "f1"), ("de", "sv", "es", "zh", "ru", "hi", "sw")),),
    "xnli": (
        Asked(("accuracy",), ("de", "es", "zh", "sw", "ru", "gn"),
              {"mean of XNLI's 14": EUROPE_ASIA, "mean of the Americas' 10": AMERICAS}),
    ),
    "pawsx": (
        Asked(("accuracy",), PAWSX),
        Asked(("accuracy",), ("de:fr", "ja:zh"), {
            "the same language": tuple(f"{one}:{one}" for one in ("en", *PAWSX)),
            "two languages": tuple(
                f"{one}:{other}" for one in ("en", *PAWSX) for other in ("en", *PAWSX)
                if one != other
            ),
        }, further="pawsx-pairs"),
    ),
    "qa": (
        Asked(("f1", "em"), ("ar", "de", "es", "zh"), where={"target.task": "xquad"}),
        Asked(("f1", "em"), ("ar", "de", "es", "zh"), where={"target.task": "mlqa"}),
        Asked(("f1", "em"), ("ar", "fi", "id", "ru", "sw"), where={"target.task": "tydiqa"}),
    ),
    "xcopa": (Asked(("accuracy",), ("et", "id", "sw", "ta", "zh")),),
    "tatoeba": (
        Asked(("accuracy",), ("de", "es", "ja", "sw", "ru", "hi"), further="tatoeba"),
    ),
    "robust": (
        Asked(("accuracy",), ("de", "es", "zh", "sw", "ru"),
              {"mean of XNLI's 14": EUROPE_ASIA, "mean of the Americas' 10": AMERICAS}),
    ),
    "axes": (Asked(("pearson",), ("de", "es", "fr", "ja", "pt", "ru", "zh")),),
}  # fmt: skip


def run(name: str, data: Path, models: Path, home: Path) -> float:
    """Run one sweep to its end; returns the seconds that it took.

    Raises:
        SystemExit: it did not end as it should; it has said why.
    """
    began = time.monotonic()
    file = HERE / f"{name}.yaml"
    model = yaml.safe_load(file.read_text())["model"]
    local = [f"{models / one}" for one in (model["choice"] if isinstance(model, dict) else [model])]
    program = shutil.which("xlt", path=str(Path(sys.executable).parent)) or "xlt"
    ended = subprocess.run(
        [program, "run", str(file), f"data.root={data}",
         f"model={local[0]}" if len(local) == 1 else f"model={{choice: [{', '.join(local)}]}}"],
        check=False, env=os.environ | {"XLT_HOME": str(home)},
    )  # fmt: skip
    if ended.returncode:
        raise SystemExit(ended.returncode)
    return time.monotonic() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("data", type=Path)
    parser.add_argument("models", type=Path)
    parser.add_argument("--home", type=Path, default=Path("real-home"))
    parser.add_argument("--only", nargs="*", choices=TABLES, default=list(TABLES))
    asked = parser.parse_args()
    data, models, home = (one.absolute() for one in (asked.data, asked.models, asked.home))
    seconds = {name: run(name, data, models, home) for name in asked.only}
    for name, spent in seconds.items():
        results = Results(home, f"real-{name}")
        print(f"\n## {name} ({len(results.trials)} trials, {spent / 60:.1f} min)")
        for one in TABLES[name]:
            chosen = ", ".join(f"{parameter} {value}" for parameter, value in one.where.items())
            print("\n" + " ".join(filter(None, (one.further, ", ".join(one.metrics), chosen))))
            print(f"\n{table(results, one)}")


if __name__ == "__main__":
    main()
