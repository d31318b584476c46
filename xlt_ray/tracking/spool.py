"""The spool: points that MLflow has not taken yet, in a file of the home.

Ledger and store hold all that MLflow shows but for what the driver alone hears, memory and
examples per second, and the curves of stages that are freed before MLflow answers again. So points
are written here before they are sent; the file is emptied when nothing is left to send, and what
a driver that died has left in it is sent by the next one.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from xlt_ray.store.canonical import is_whole, with_checksum


@dataclass(frozen=True)
class OutboxPoint:
    """Metrics of a trial after so many examples, measured at ``moment`` (ms since 1970)."""

    number: int
    examples: int
    metrics: dict[str, float]
    moment: int


class Outbox:
    """One sweep's file; its driver alone opens it."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def add(self, point: OutboxPoint) -> None:
        """Write a point; it is there when this process dies, if the machine goes on.

        Raises:
            OSError: it could not be written; the file is as it was.
        """
        self._file.parent.mkdir(parents=True, exist_ok=True)
        with self._file.open("ab", buffering=0) as stream:
            end, line = stream.seek(0, os.SEEK_END), _line(point).encode()
            try:
                while line:
                    line = line[stream.write(line) :]
            except OSError:
                # The next point would be glued to a half one.
                stream.truncate(end)
                raise

    def read(self) -> list[OutboxPoint]:
        """What was not sent. Lines that are not as they were written are left out, and the file
        as it was is kept beside this one as ``.damaged-TIME``."""
        if not self._file.exists():
            return []
        lines = self._file.read_bytes().splitlines(keepends=True)
        read = [_point(line) for line in lines]
        points = [one for one in read if one is not None]
        if len(points) < len(lines):
            # A last line without its end was being written when its driver died.
            if None in read[:-1] or lines[-1].endswith(b"\n"):
                moment = time.strftime("%Y%m%dT%H%M%S")
                shutil.copy2(self._file, f"{self._file}.damaged-{moment}")
            aside = self._file.with_suffix(".new")
            aside.write_text("".join(map(_line, points)), encoding="utf-8")
            os.replace(aside, self._file)
        return points

    def clear(self) -> None:
        """Everything was sent."""
        self._file.unlink(missing_ok=True)


def _line(point: OutboxPoint) -> str:
    return json.dumps(with_checksum(asdict(point))) + "\n"


def _point(line: bytes) -> OutboxPoint | None:
    try:
        found: dict[str, Any] = json.loads(line)
        if not is_whole(found):
            return None
        return OutboxPoint(found["number"], found["examples"], found["metrics"], found["moment"])
    except (ValueError, KeyError, TypeError):
        return None
