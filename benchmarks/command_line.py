"""CPU time and memory of the commands that read a large sweep.

    python -m benchmarks.command_line [--trials 1000] [--languages 40] [--folder DIR]

makes the home of a finished sweep as ``benchmarks.report_page`` does, runs every command in a
process of its own, and prints its CPU seconds and peak memory, the median of several rounds. The
peer is plain Optuna, which reads the same journal into a data frame and has no scores by language.
Another run with the same folder reuses its sweep.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from benchmarks.common import print_table
from benchmarks.report_page import make
from xlt_ray.home import Home

QUICKSTART = str(Path(__file__).parents[1] / "sweeps" / "quickstart.yaml")
OPTUNA = """
import sys, optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
storage = JournalStorage(JournalFileBackend(sys.argv[1]))
study = optuna.load_study(study_name="many", storage=storage)
print(study.trials_dataframe().to_string())
"""


SPENT = """
import resource, subprocess, sys
subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL)
usage = resource.getrusage(resource.RUSAGE_CHILDREN)
print(usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)
"""
"""A small process between: a child's peak is never below the size of the process that forks it."""


def spent_by(command: Sequence[str], home: Home) -> tuple[float, float]:
    """CPU seconds and peak MiB of a command in a process of its own."""
    environment = os.environ | {"XLT_HOME": str(home.root), "OMP_NUM_THREADS": "1"}
    # An installed package has its bytecode.
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    program = [sys.executable, "-c", SPENT, *command]
    done = subprocess.run(program, env=environment, check=True, stdout=subprocess.PIPE, text=True)
    cpu, peak = map(float, done.stdout.split())
    return cpu, peak


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])  # type: ignore[union-attr]
    parser.add_argument("--trials", type=int, default=1000)
    parser.add_argument("--languages", type=int, default=40, help="scores: four in each")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--folder", type=Path, help="kept, and reused if it exists")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as aside:
        home = Home((arguments.folder or Path(aside)).absolute())
        if not home.ledger_journal("many").exists():
            languages = [f"l{number:03d}" for number in range(arguments.languages)]
            make(home, arguments.trials, languages, seeds=1)
        optuna = [sys.executable, "-c", OPTUNA, str(home.ledger_journal("many"))]
        xlt = [sys.executable, "-m", "xlt_ray"]
        commands = {
            "optuna: trials_dataframe()": optuna,
            "xlt --help": [*xlt, "--help"],
            "xlt status": [*xlt, "status"],
            "xlt trials": [*xlt, "trials", "many"],
            "xlt trials --json": [*xlt, "trials", "many", "--json"],
            "xlt report": [*xlt, "report", "many"],
            "xlt check quickstart": [*xlt, "check", QUICKSTART],
            "xlt plan quickstart": [*xlt, "plan", QUICKSTART],
        }
        rounds = [
            {name: spent_by(command, home) for name, command in commands.items()}
            for _ in range(arguments.rounds)
        ]
    medians = {
        name: [statistics.median(of_round[name][place] for of_round in rounds) for place in (0, 1)]
        for name in commands
    }
    peer_cpu, _ = medians["optuna: trials_dataframe()"]
    print_table(
        ["", "CPU, s", "of the peer's", "peak, MiB"],
        [
            [name, f"{cpu:.2f}", f"{cpu / peer_cpu:.2f}", f"{peak:.0f}"]
            for name, (cpu, peak) in medians.items()
        ],
    )


if __name__ == "__main__":
    main()
