"""Processes that hang: they leave a traceback and end, and whoever started them reads it.

The watch is the interpreter's own (``faulthandler``): a thread in C that needs no lock of
Python, so it ends a process that is stuck inside a library, too.
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
    """``with watch:`` what is inside must be done within ``timeout`` seconds, or this process
    writes where every thread of it is and ends. One watch at a time in a process, and always in the
    same thread."""

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
        """Nothing hung: the file goes."""
        if not self._stream.closed:
            self._stream.close()
            self._file.unlink(missing_ok=True)


def hang_file(folder: Path, number: int, rank: int) -> Path:
    """Where one worker of a trial writes."""
    return folder / f"trial-{number}.worker-{rank}.txt"


def read_hang_report(folder: Path, number: int) -> Failure | None:
    """What a trial's workers wrote when they hung, or None; their files go.

    A worker that waits for another one hangs with it: the log shows all of them.
    """
    logs: dict[str, str] = {}
    for file in sorted(folder.glob(f"trial-{number}.worker-*.txt")):
        # A shared folder may be slow or gone; then the trial is a lost one.
        with contextlib.suppress(OSError):
            logs[file.stem] = file.read_text(encoding="utf-8", errors="replace")
            file.unlink()
    threads = {name: _working_thread(text) for name, text in logs.items() if "Timeout" in text}
    if not threads:
        return None
    room = LOG_LINES // len(threads)
    places = dict.fromkeys(_place(lines[-1]) for lines in threads.values())
    return Failure(
        cause="timeout",
        message=f"nothing happened for {_duration(logs)}: in {', '.join(places)}",
        log="\n".join(
            line
            for name, lines in threads.items()
            for line in (f"{name.partition('.')[2]} (most recent call last):", *lines[-room:])
        ),
    )


def _working_thread(text: str) -> list[str]:
    """Where the thread is that was watched; innermost call last."""
    watched = re.search(rf"{_WATCHED}0x(\w+)", text)
    threads = dict(re.findall(r"hread 0x0*(\w+)[^\n]*\n((?: +File[^\n]*\n?)*)", text))
    lines = threads.get(watched[1] if watched else "", "").splitlines()
    return lines[::-1] or ["nowhere"]


def _duration(logs: Mapping[str, str]) -> str:
    found = re.search(r"\((\d+:\d+:\d+)", "\n".join(logs.values()))
    return found[1] if found else "too long"


def _place(frame: str) -> str:
    """A line of a traceback in few words.

    >>> _place('  File "/a/b.py", line 5 in wait')
    'wait (b.py:5)'
    """
    found = re.search(r'File "(.+)", line (\d+) in (.+)', frame)
    return f"{found[3]} ({Path(found[1]).name}:{found[2]})" if found else frame.strip()
