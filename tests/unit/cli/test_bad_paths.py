"""Every command, in a home or with a path that cannot be used: one line, exit code 2, nothing lost.

The tests may run as root, whom no mode of a file keeps out, so bad places are files, links and
folders that the kernel itself keeps.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from tests.command import CommandResult, Xlt
from xlt_ray.cli import export
from xlt_ray.errors import SpecError
from xlt_ray.home import FOLDERS, Home

READERS = (
    ("status",), ("status", "small"), ("status", "--json"), ("trials", "small"), ("logs", "small"),
    ("report", "small"), ("compare", "small"), ("ui", "small"), ("export", "small", "out"),
    ("gc",), ("gc", "--yes"), ("gc", "--quota", "1GB"), ("resume", "small"),
    ("confirm", "small", "--seeds", "2"), ("check", "SWEEP"), ("plan", "SWEEP"),
    ("stage", "SWEEP"), ("run", "SWEEP"),
)  # fmt: skip
WRITERS = (("run", "SWEEP"), ("stage", "SWEEP"))
NO_FOLDERS = ("a file", "below a file", "a loop", "a link to nothing", "too long a name")


def one_line(result: CommandResult) -> str:
    assert result.code == 2, result
    assert "Traceback" not in result.err
    (line,) = result.err.splitlines()
    assert line.startswith("xlt: ")
    return line


@pytest.fixture
def place(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    taken, loop, astray = tmp_path / "taken", tmp_path / "loop", tmp_path / "astray"
    taken.write_text("x")
    loop.symlink_to(loop)
    astray.symlink_to(tmp_path / "nowhere" / "deep")
    return {
        "a file": taken,
        "below a file": taken / "below",
        "a loop": loop,
        "a link to nothing": astray,
        "too long a name": tmp_path / ("x" * 300),
        "where nothing can be made": Path("/proc/nothing"),
        "nothing": tmp_path / "gone.yaml",
        "a folder": tmp_path,
    }[request.param]


@pytest.mark.parametrize(
    ("place", "command"),
    [
        *(("a file", command) for command in READERS),
        *((bad, ("status",)) for bad in NO_FOLDERS[1:]),
    ],
    indirect=["place"],
)
def test_a_home_that_is_no_folder_is_refused_by_every_command(
    xlt: Xlt, file: Path, place: Path, command: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XLT_HOME", str(place))
    result = xlt(*(file if argument == "SWEEP" else argument for argument in command))
    assert f"XLT_HOME={place}: " in one_line(result)
    assert result.out == ""


@pytest.mark.parametrize("place", ["where nothing can be made"], indirect=True)
@pytest.mark.parametrize("command", WRITERS, ids=" ".join)
def test_a_home_that_cannot_be_written_is_refused_before_anything_is_made(
    xlt: Xlt, file: Path, place: Path, command: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XLT_HOME", str(place))
    result = xlt(
        *(file if argument == "SWEEP" else argument for argument in command), "target.task=toy-nli"
    )
    assert "is not writable" in one_line(result)


@pytest.mark.parametrize("part", FOLDERS)
def test_a_file_where_a_run_needs_a_folder_of_the_home_is_refused(
    xlt: Xlt, home: Home, file: Path, part: str
) -> None:
    home.root.mkdir()
    (home.root / part).write_text("x")
    line = one_line(xlt("run", file, "target.task=toy-nli"))
    assert f"is not writable (Not a directory: {home.root / part})" in line
    assert (home.root / part).read_text() == "x"


@pytest.mark.parametrize("place", NO_FOLDERS, indirect=True)
def test_the_doctor_tells_a_bad_home_among_what_else_it_finds(
    xlt: Xlt, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XLT_HOME", str(place))
    result = xlt("doctor")
    assert result.code == 1
    assert f"{place}: cannot be written" in result.out
    assert result.err == ""
    assert len(result.out.splitlines()) > 3


@pytest.mark.parametrize(
    ("place", "command"),
    [
        *(("nothing", command) for command in ("check", "plan", "run", "stage")),
        *((bad, "check") for bad in (*NO_FOLDERS, "a folder")),
    ],
    indirect=["place"],
)
def test_a_sweep_file_that_cannot_be_read_is_one_line(
    xlt: Xlt, home: Home, command: str, place: Path
) -> None:
    assert str(place) in one_line(xlt(command, place))
    assert not home.root.exists()


@pytest.mark.parametrize("place", NO_FOLDERS, indirect=True)
@pytest.mark.parametrize("key", ["data.root", "model"])
def test_a_path_in_a_sweep_that_cannot_be_used_is_reported_without_a_traceback(
    xlt: Xlt, tmp_path: Path, place: Path, key: str
) -> None:
    folder = tmp_path / "data" / "pos"
    folder.mkdir(parents=True)
    for name in ("en.train", "en.dev", "de.test"):
        (folder / f"{name}.conllu").write_text("1\tdog\t_\tNOUN\t_\t_\t_\t_\t_\t_\n\n")
    sweep = tmp_path / "bad.yaml"
    sweep.write_text(
        f"name: bad\ndata: {{source: files, root: {tmp_path / 'data'}}}\nmodel: {tmp_path}\n"
        "target: {task: pos, source_language: en}\nsearch: {trials: 1}\n"
    )
    result = xlt("check", sweep, f"{key}={place}")
    assert result.code == 2
    assert "Traceback" not in result.err
    assert str(place) in result.err


# -- where predictions go ----------------------------------------------------------------


@pytest.mark.parametrize("place", [*NO_FOLDERS[1:2], *NO_FOLDERS[4:]], indirect=True)
def test_predictions_that_cannot_be_written_are_refused_before_they_are_made(
    xlt: Xlt, place: Path, tmp_path: Path
) -> None:
    line = one_line(xlt("predict", tmp_path / "no-model", tmp_path / "no.txt", "--output", place))
    assert line == f"xlt: {place}: cannot be written ({_why(place)})"


def _why(place: Path) -> str:
    return "Not a directory" if "taken" in str(place) else "File name too long"


def test_a_folder_is_no_place_for_predictions(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="cannot be written"):
        export._refuse_unwritable(tmp_path)
    export._refuse_unwritable(tmp_path / "new.tsv")
    assert list(tmp_path.iterdir()) == []


def test_predictions_into_a_pipe_leave_the_pipe(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    export._refuse_unwritable(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        export._write(pipe, iter(["one", "two"]))
        assert os.read(reader, 100) == b"one\ntwo\n"
    finally:
        os.close(reader)
    assert stat.S_ISFIFO(pipe.stat().st_mode)
