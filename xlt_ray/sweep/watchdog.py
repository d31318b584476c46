"""Ends a process that hangs, after it has written its traceback for the driver.

The timer is Python's ``faulthandler``, a thread in C that does not need the interpreter lock, so it
also ends a process that is stuck inside a library.
"""

from __future__ import annotations

import contextlib
import faulthandler
import re
import threading
from collections.abc import Mapping
from pathlib import Path

from xlt_ray.sweep.failures import LOG_LINES, Failure

_WATCHED = "watched thread: "


class Watchdog:
    """A context manager: if its block takes longer than ``timeout`` seconds, this process writes
    the traceback of all threads and ends. Use one per process, always in the same thread."""

    def __init__(self, file: Path, timeout: float) -> None:
        file.parent.mkdir(parents=True, exist_ok=True)
        self._file = file
        self._timeout = timeout
        self._stream = file.open("w", encoding="utf-8")

    def __enter__(self) -> Watchdog:
        if not self._stream.tell():
            self._stream.write(f"{_WATCHED}{threading.get_ident():#x}\n")
            self._stream.flush()
        faulthandler.dump_traceback_later(self._timeout, exit=True, file=self._stream)
        return self

    def __exit__(self, *_: object) -> None:
        faulthandler.cancel_dump_traceback_later()

    def close(self) -> None:
        """Delete the file: nothing hung."""
        if not self._stream.closed:
            self._stream.close()
            self._file.unlink(missing_ok=True)


def hang_file(folder: Path, number: int, rank: int) -> Path:
    """The file that one worker of a trial writes."""
    return folder / f"trial-{number}.worker-{rank}.txt"


def read_hang_report(folder: Path, number: int) -> Failure | None:
    """The failure that a trial's workers wrote when they hung, or None; deletes their files.

    A worker that waits for another one hangs with it, so the log has the tracebacks of all.
    """
    logs: dict[str, str] = {}
    for file in sorted(folder.glob(f"trial-{number}.worker-*.txt")):
        # A shared folder may be slow or gone; the cause of the failure is then `lost`.
        with contextlib.suppress(OSError):
            logs[file.stem] = file.read_text(encoding="utf-8", errors="replace")
            file.unlink()
    threads = {name: _working_thread(text) for name, text in logs.items() if "Timeout" in text}
    if not threads:
        return None
    num_lines = LOG_LINES // len(threads)
    places = dict.fromkeys(_place(lines[-1]) for lines in threads.values())
    return Failure(
        cause="timeout",
        message=f"nothing happened for {_duration(logs)}: in {', '.join(places)}",
        log="\n".join(
            line
            for name, lines in threads.items()
            for line in (f"{name.partition('.')[2]} (most recent call last):", *lines[-num_lines:])
        ),
    )


def _working_thread(text: str) -> list[str]:
    """The traceback of the watched thread; innermost call last."""
    watched = re.search(rf"{_WATCHED}0x(\w+)", text)
    threads = dict(re.findall(r"hread 0x0*(\w+)[^\n]*\n((?: +File[^\n]*\n?)*)", text))
    lines = threads.get(watched[1] if watched else "", "").splitlines()
    return lines[::-1] or ["nowhere"]


def _duration(logs: Mapping[str, str]) -> str:
    match = re.search(r"\((\d+:\d+:\d+)", "\n".join(logs.values()))
    return match[1] if match else "too long"


def _place(frame: str) -> str:
    """A line of a traceback as function, file and line.

    >>> _place('  File "/a/b.py", line 5 in wait')
    'wait (b.py:5)'
    """
    match = re.search(r'File "(.+)", line (\d+) in (.+)', frame)
    return f"{match[3]} ({Path(match[1]).name}:{match[2]})" if match else frame.strip()
