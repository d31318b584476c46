"""The tutorial works as it is written: every command of it, in its order."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.docs.test_documents import ROOT, blocks

TUTORIAL = ROOT / "docs" / "tutorial.md"
EXPECTED = {
    "xlt check": "names: ok, at most 4 configurations x 2 seeds",
    "xlt plan": "8 trials",
    "xlt run": "names: 8 complete",
    "xlt report": "report: ",
    "xlt predict": "B-PER",
    "xlt show": "name: names-last-layer",
}
"""What the output of a command contains."""


def test_every_command_of_the_tutorial_works(tmp_path: Path) -> None:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    environment = kept | {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "XLT_HOME": str(tmp_path / "home"),
        "RAY_worker_niceness": "0",
    }
    sweep, continued = blocks(TUTORIAL, "yaml")
    activate, *commands = [line for block in blocks(TUTORIAL, "") for line in block.splitlines()]
    assert activate == ". .venv/bin/activate"
    os.symlink(ROOT / "examples", tmp_path / "examples")
    folder = tmp_path
    outputs = {}
    for command in commands:
        if command.startswith("cd "):
            folder /= command.removeprefix("cd ")
            (folder / "names.yaml").write_text(sweep)
            (folder / "names-last-layer.yaml").write_text(continued)
            continue
        done = subprocess.run(
            command.split(), cwd=folder, env=environment, capture_output=True, text=True,
            timeout=900, check=False,
        )  # fmt: skip
        assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
        outputs[" ".join(command.split()[:2])] = done.stdout
    for command, text in EXPECTED.items():
        assert text in outputs[command], outputs[command]
    assert {"xlt trials", "xlt export"} <= outputs.keys()
    assert (folder / "models" / "best" / "config.json").is_file()
