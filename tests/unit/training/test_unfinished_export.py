"""An export that is killed leaves nothing that the next one does not clear away."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from xlt_ray.training.load import export_folder

WRITER = """
import sys
from pathlib import Path
from xlt_ray.training.load import export_folder
with export_folder(Path(sys.argv[1])) as aside:
    (aside / "model.safetensors").write_bytes(b"half")
    print("writes", flush=True)
    sys.stdin.read()
"""


def start_export(folder: Path) -> subprocess.Popen[str]:
    """A process that has written half a model and waits for the end of its input."""
    writer = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert writer.stdout is not None
    assert writer.stdout.readline() == "writes\n"
    return writer


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_what_a_killed_export_left_goes_with_the_next_one(tmp_path: Path) -> None:
    killed = start_export(tmp_path / "first")
    killed.kill()
    killed.wait()
    assert len(names(tmp_path)) == 1
    with export_folder(tmp_path / "second") as aside:
        (aside / "README.md").write_text("whole")
        assert names(tmp_path) == [aside.name]
    assert names(tmp_path) == ["second"]
    assert names(tmp_path / "second") == ["README.md"]


def test_what_a_living_export_writes_stays(tmp_path: Path) -> None:
    living = start_export(tmp_path / "first")
    with export_folder(tmp_path / "second") as aside:
        (aside / "README.md").write_text("whole")
    living.communicate("")
    assert living.returncode == 0
    assert names(tmp_path) == ["first", "second"]
    assert names(tmp_path / "first") == ["model.safetensors"]


def test_an_export_that_fails_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(KeyError), export_folder(tmp_path / "first"):
        raise KeyError
    assert names(tmp_path) == []
