"""Tables in terminals of 80 and 160 columns: nothing is cut, and no column is lost."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys

import pytest

from tests.unit.report.conftest import finished
from xlt_ray.home import Home
from xlt_ray.report.results import Results


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    return finished(Home(tmp_path_factory.mktemp("home"))).home


def in_terminal(home: Home, width: int, *arguments: str) -> list[str]:
    """Lines of a command that prints to a terminal of this width."""
    ours, terminal = pty.openpty()
    variables = {"XLT_HOME": str(home.root), "COLUMNS": str(width), "TERM": "xterm"}
    command = [sys.executable, "-m", "xlt_ray", *arguments]
    with subprocess.Popen(command, stdout=terminal, env={**os.environ, **variables}) as process:
        os.close(terminal)
        parts = []
        # Linux ends the reading of a terminal that nothing holds open with an error.
        while part := _read(ours):
            parts.append(part)
        assert process.wait() == 0
    os.close(ours)
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", b"".join(parts).decode())
    return text.splitlines()


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 65536)
    except OSError:
        return b""


@pytest.mark.parametrize("width", [80, 160])
def test_tables_fit_a_terminal_and_nothing_in_them_is_cut(home: Home, width: int) -> None:
    results = Results(home, "quick")
    for verb in ("status", "trials", "scores"):
        lines = in_terminal(home, width, verb, *["quick"] * (verb != "status"))
        text = "\n".join(lines)
        assert max(map(len, lines)) <= width, text
        assert "…" not in text
        if verb == "trials":
            numbers = [int(line.split()[0]) for line in lines if re.match(r" \d+ +[a-z]", line)]
            assert numbers == list(results.trials["number"])
            assert ("intermediate ✓" in text) == (width == 160), "a wide one has the stages"
        if verb == "scores":
            shown = [line for line in lines if re.match(r" \d+ +model=", line)]
            table = results.table()
            scored = table[table["qaa"].notna()]
            assert [int(line.split()[0]) for line in shown] == list(scored.index)
            for line, (_, row) in zip(shown, scored.iterrows(), strict=True):
                assert f"{row['qaa']:.3f} ±" in line
        if verb == "status":
            assert "interrupted" in text
            assert "queued" not in text, "no trial is"
