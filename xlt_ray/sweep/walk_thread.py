"""Runs a walk in a thread, so that training never waits for the driver.

Scores and finished stages are kept in order until they are fetched, a few for each stage. Only the
latest heartbeat is kept, so a driver that is away for hours costs no memory.
"""

from __future__ import annotations

import contextlib
import threading
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from xlt_ray.sweep.watchdog import Watchdog
from xlt_ray.training.loop import Event, Stop, Ticked, Waiting

if TYPE_CHECKING:
    from xlt_ray.training.process_group import ProcessGroup

StopMode = Literal["", "keep", "end"]
"""What the walk does at its next event: continue, save progress and end, or end."""


@dataclass(frozen=True)
class Update:
    """An event of a walk."""

    event: Event | None
    """None at the end of the path."""

    @property
    def is_heartbeat(self) -> bool:
        """Whether it only says that the walk is still running."""
        return isinstance(self.event, Waiting | Ticked)


class WalkThread:
    """The walk of one process. Several processes run in lockstep: they have the same updates and
    end at the same event, the one at which the leader stops."""

    def __init__(
        self,
        open_walk: Callable[[], tuple[Iterator[Event], ProcessGroup]],
        watchdog: Watchdog | None,
    ) -> None:
        """Start the walk.

        Args:
            open_walk: called in the thread, because PyTorch has settings per thread.
            watch: ends this process where a single event takes too long; closed at the end.
        """
        self._open_walk = open_walk
        self._watchdog = watchdog
        self._changed = threading.Condition()
        self._updates: deque[Update | BaseException] = deque()
        """The first one has the number ``_first``."""
        self._first = 0
        self._heartbeat: Update | None = None
        self._stop_mode: StopMode = ""
        # The process can exit without waiting for the thread.
        self._thread = threading.Thread(target=self._run, name="walk", daemon=True)
        self._thread.start()

    def fetch(self, number: int, seconds: float) -> Update | None:
        """Wait for the update of this number, counted from 0, and forget those before it.

        After ``seconds`` without it, returns the last heartbeat, or None if there was none since
        the last update. Raises what the walk raised, after all of its updates.
        """
        with self._changed:
            while self._first < number:
                self._updates.popleft()
                self._first += 1
            self._changed.wait_for(lambda: self._updates, seconds)
            if not self._updates:
                return self._heartbeat
            update = self._updates[0]
            if isinstance(update, Update):
                return update
            self._updates.clear()
        try:
            raise update
        finally:
            # The frames of the exception hold tensors, and this frame is among them.
            del update

    def stop(self, mode: StopMode) -> None:
        """End the walk at its next event, wait for that, and drop what it raises."""
        self._stop_mode = self._stop_mode or mode
        self._thread.join()

    def _run(self) -> None:
        try:
            self._walk()
        except BaseException as error:  # noqa: BLE001 - `fetch` raises it
            self._publish(error)
        finally:
            if self._watchdog is not None:
                self._watchdog.close()

    def _walk(self) -> None:
        watched = self._watchdog or contextlib.nullcontext()
        with watched:
            events, process_group = self._open_walk()
        mode: StopMode = ""
        while not mode:
            with watched:
                event = next(events, None)
            self._publish(Update(event))
            if event is None:
                return
            with watched:
                mode = process_group.share(self._stop_mode)
                if mode == "keep":
                    with contextlib.suppress(Stop, StopIteration):
                        events.throw(Stop())  # type: ignore[attr-defined]
                elif mode:
                    events.close()  # type: ignore[attr-defined]

    def _publish(self, update: Update | BaseException) -> None:
        with self._changed:
            is_heartbeat = isinstance(update, Update) and update.is_heartbeat
            self._heartbeat = update if isinstance(update, Update) and is_heartbeat else None
            if not is_heartbeat:
                self._updates.append(update)
                self._changed.notify_all()
