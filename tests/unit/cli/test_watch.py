"""``xlt status --watch``: what runs and what rests in a terminal, a table a change in a log."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

from rich.console import Console

from tests.command import Xlt
from xlt_ray.cli.watch import ledgers_of, sweeps_view
from xlt_ray.home import Home
from xlt_ray.ledger import Occupation, load_ledger
from xlt_ray.store.lease import Lease, try_acquire
from xlt_ray.store.storage import Storage


def drawn(home: Home, width: int) -> str:
    console = Console(width=width, height=24)
    with console.capture() as shown:
        console.print(sweeps_view(ledgers_of(home, home.sweeps(), {}), width))
    text = shown.get()
    assert max(map(len, text.splitlines())) <= width
    return text


def test_a_sweep_at_rest_is_a_line_and_one_that_runs_is_shown_as_by_its_run(small: Home) -> None:
    assert "small: 2 of " in drawn(small, 80)
    lease = try_acquire(Storage(small.root), small.driver_lease("small"))
    assert isinstance(lease, Lease)
    with lease:
        ledger = load_ledger(small, "small")
        ledger.begin_attempt(2)
        ledger.set_occupied(2, Occupation(since=1.0, driver=lease.token))
        ledger.record_heartbeat(time.time(), 7200.0)
        ledger.report(2, 320, 0.625)
        for width in (80, 160):
            text = drawn(small, width)
            for part in ("2 of ", "about 2 h 0 min left", "0.7500", "target", "0.625", "1 failed"):
                assert part in text, (width, part, text)
            assert "so far" not in text, "only its driver knows when this run began"
        assert " 320 " in text


def test_known_ledgers_tell_what_came_since(small: Home) -> None:
    found = ledgers_of(small, ["small"], {})
    load_ledger(small, "small").tell_complete(2, 0.8)
    again = ledgers_of(small, ["small"], found)
    assert again["small"] is found["small"]
    assert again["small"].standings()[2] == "complete"


def test_in_a_log_there_is_a_table_a_change_until_an_interrupt(small: Home) -> None:
    command = [sys.executable, "-u", "-m", "xlt_ray", "status", "--watch"]
    environment = {**os.environ, "XLT_HOME": str(small.root)}
    with subprocess.Popen(
        command,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # A shell lets jobs in the background ignore Ctrl-C.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("sweep")
        load_ledger(small, "small").tell_complete(2, 0.875)
        lines = iter(process.stdout.readline, "")
        assert any("0.875" in line for line in lines)
        time.sleep(3 * 2.0)
        process.send_signal(signal.SIGINT)
        rest = process.stdout.read()
        assert "sweep" not in rest, "nothing has changed"
        assert process.wait(60) == 0
        assert process.stderr is not None
        assert process.stderr.read() == ""


def test_a_cluster_is_not_watched(xlt: Xlt) -> None:
    result = xlt("status", "--watch", "--address", "http://127.0.0.1:1")
    assert result.code == 2
    assert "leave out --address" in result.err
