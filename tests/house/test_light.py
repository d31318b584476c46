"""Help and errors come at once: the light half of the house imports no heavy library."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

HEAVY = ("torch", "ray", "mlflow", "transformers", "deepspeed", "datasets", "optuna", "matplotlib")

SHOW = f"""
import json, sys
print("LOADED", json.dumps([name for name in {HEAVY!r} if name in sys.modules]))
"""


def loaded_by(code: str) -> list[str]:
    """Heavy libraries that a fresh process has loaded after running ``code``."""
    done = subprocess.run(
        [sys.executable, "-c", code + SHOW], capture_output=True, text=True, check=True
    )
    last = next(line for line in done.stdout.splitlines() if line.startswith("LOADED "))
    lines: list[str] = json.loads(last.removeprefix("LOADED "))
    return lines


def importing_all_of(*packages: str) -> str:
    return f"""
import importlib, pkgutil
for name in {packages!r}:
    package = importlib.import_module(name)
    for module in pkgutil.walk_packages(package.__path__, name + "."):
        importlib.import_module(module.name)
"""


def test_config_store_and_home_are_light() -> None:
    code = importing_all_of("xlt_ray.config", "xlt_ray.store") + "import xlt_ray.home\n"
    assert loaded_by(code) == []


@pytest.mark.parametrize("code", ["import xlt_ray.cli", "import xlt_ray; xlt_ray.run"])
def test_importing_the_entries_is_light(code: str) -> None:
    assert loaded_by(f"{code}\n") == []


def test_the_ledger_needs_optuna_alone() -> None:
    assert loaded_by("import xlt_ray.ledger\n") == ["optuna"]


@pytest.mark.parametrize(
    "argv", [["--help"], ["--version"], ["run", "--help"], ["list", "methods"], ["schema"]]
)
def test_commands_that_only_tell_are_light(argv: list[str]) -> None:
    code = f"""
import sys
sys.argv = ["xlt", *{argv!r}]
from xlt_ray.cli import main
try:
    main()
except SystemExit as end:
    assert not end.code, end.code
"""
    assert set(loaded_by(code)) <= {"optuna"}


def test_the_scheduler_works_without_ray_or_mlflow() -> None:
    assert loaded_by("import xlt_ray.sweep.scheduler, xlt_ray.tracking\n") == ["optuna"]


def test_the_driver_of_a_sweep_needs_no_training_library() -> None:
    code = "import xlt_ray.sweep.runner, xlt_ray.sweep.tune, xlt_ray.sweep.trainable\n"
    assert set(loaded_by(code)) == {"ray", "optuna"}
