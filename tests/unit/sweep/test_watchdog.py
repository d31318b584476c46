"""A process that hangs writes where it is and ends, even when it holds the interpreter's lock."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from xlt_ray.sweep.failures import LOG_LINES, Watchdog, hang_file, read_hang_report

HANGING = """
import ctypes, sys, threading
from pathlib import Path
from xlt_ray.sweep.failures import Watchdog, hang_file

def serve():
    threading.Event().wait()

def wait_with_the_lock():
    ctypes.PyDLL(None).pause()

def work():
    threading.Thread(target=serve, daemon=True).start()
    with Watchdog(hang_file(Path(sys.argv[1]), 7, 0), 0.2):
        wait_with_the_lock()

threading.Thread(target=work, daemon=True).start()
serve()
"""


def test_a_hanging_process_ends_and_its_traceback_is_read_once(tmp_path: Path) -> None:
    folder = tmp_path / "hangs" / "small"
    ended = subprocess.run([sys.executable, "-c", HANGING, str(folder)], timeout=60, check=False)
    assert ended.returncode == 1
    assert read_hang_report(folder, 70) is None
    failure = read_hang_report(folder, 7)
    assert failure is not None
    assert failure.cause == "timeout"
    assert failure.is_of_process
    assert failure.message == "nothing happened for 0:00:00: in wait_with_the_lock (<string>:10)"
    assert failure.log.splitlines()[-1].endswith("in wait_with_the_lock")
    assert "in serve" not in failure.log
    assert read_hang_report(folder, 7) is None
    assert list(folder.iterdir()) == []


def test_what_is_done_in_time_leaves_nothing(tmp_path: Path) -> None:
    file = hang_file(tmp_path, 3, 0)
    watch = Watchdog(file, 3600)
    for _ in range(3):
        with watch:
            pass
    watch.close()
    watch.close()
    assert not file.exists()


def test_a_process_that_was_killed_has_not_hung(tmp_path: Path) -> None:
    hang_file(tmp_path, 3, 0).touch()
    assert read_hang_report(tmp_path, 3) is None
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_not_there_holds_no_hang(tmp_path: Path) -> None:
    assert read_hang_report(tmp_path / "nowhere", 1) is None


@pytest.mark.parametrize("num_workers", [1, 2, 4])
def test_the_log_shows_every_worker_that_hung(tmp_path: Path, num_workers: int) -> None:
    for rank in range(num_workers):
        lines = range(rank, rank + 50)
        frames = "".join(f'  File "/x/loop.py", line {line} in train\n' for line in lines)
        hang_file(tmp_path, 5, rank).write_text(
            "watched thread: 0x2\nTimeout (0:30:00)!\nThread 0x01 (most recent call first):\n"
            '  File "/x/beat.py", line 1 in beat\n\n'
            f"Thread 0x02 (most recent call first):\n{frames}"
        )  # fmt: skip
    failure = read_hang_report(tmp_path, 5)
    assert failure is not None
    ranks = ", ".join(f"train (loop.py:{rank})" for rank in range(num_workers))
    assert failure.message == f"nothing happened for 0:30:00: in {ranks}"
    for rank in range(num_workers):
        assert f"worker-{rank} (most recent call last):" in failure.log
        assert f"line {rank} in train\n" in failure.log + "\n"
    assert len(failure.log.splitlines()) <= LOG_LINES + num_workers
