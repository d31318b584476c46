"""Files and folders appear whole or not at all, and leftovers of dead processes go."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from xlt_ray import files


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_write_that_fails_leaves_the_file_as_it_was(tmp_path: Path) -> None:
    file = tmp_path / "deep" / "file.txt"
    files.atomic_write(file, "first")

    def broken_off() -> None:
        with files.atomic_file(file) as aside:
            aside.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        broken_off()
    assert file.read_text() == "first"
    assert names(file.parent) == ["file.txt"]


def test_one_writer_creates_a_file(tmp_path: Path) -> None:
    assert files.atomic_create(tmp_path / "file", b"first")
    assert not files.atomic_create(tmp_path / "file", b"second")
    assert (tmp_path / "file").read_bytes() == b"first"
    assert names(tmp_path) == ["file"]


def test_the_first_of_two_folders_stays(tmp_path: Path) -> None:
    for content, may_exist in (("first", False), ("second", True)):
        with files.atomic_folder(tmp_path / "folder", may_exist=may_exist) as aside:
            (aside / "file").write_text(content)
    with pytest.raises(OSError, match="not empty"), files.atomic_folder(tmp_path / "folder"):
        pass
    assert (tmp_path / "folder" / "file").read_text() == "first"
    assert names(tmp_path) == ["folder"]


def test_damaged_content_is_kept_however_often_it_happens(tmp_path: Path) -> None:
    file = tmp_path / "file"
    kept = []
    for copy in (True, False):
        file.write_text("damaged")
        kept.append(files.set_aside_damaged(file, copy=copy))
        assert file.exists() == copy
    (tmp_path / "file.damaged-by.hand").touch()
    assert files.damaged_copies(file) == sorted(kept)
    assert {path.read_text() for path in kept} == {"damaged"}


def test_leftovers_of_dead_writers_are_deleted_and_of_living_ones_kept(tmp_path: Path) -> None:
    dead = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"],
                          capture_output=True, text=True, check=True)  # fmt: skip
    living = files.hidden_name(tmp_path / "living")
    machine_digits = living.name.split("-")[1]
    elsewhere = ".file.xlt-00000000-1-00000000", ".file.xlt-00000000-2-00000000"
    for name in (
        living.name, f".file.xlt-{machine_digits}-{int(dead.stdout)}-00000000", *elsewhere, ".env",
    ):  # fmt: skip
        (tmp_path / name).touch()
    long_ago = time.time() - 2 * files.LONGEST_WRITE_S
    os.utime(tmp_path / elsewhere[1], (long_ago, long_ago))
    files.remove_leftovers(tmp_path)
    assert names(tmp_path) == sorted([".env", elsewhere[0], living.name])
