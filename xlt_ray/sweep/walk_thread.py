"""A walk in a thread of its own: training goes on, however late somebody asks for news.

Scores and finished stages are kept in order until they are fetched, a few for each stage. Of signs
of life only the latest is kept, so a driver that is away for hours costs no memory.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import psutil

from xlt_ray.sweep.watchdog import Watchdog
from xlt_ray.training.loop import Evaluated, Event, Stop, Ticked, Waiting

if TYPE_CHECKING:
    from xlt_ray.training.process_group import ProcessGroup

Wish = Literal["", "keep", "end"]
"""What the walk is to do at its next event: go on, keep what was trained and end, just end."""


@dataclass(frozen=True)
class News:
    """Something that happened in a walk."""

    event: Event | None
    """None at the end of the path."""
    system: Mapping[str, float] = field(default_factory=dict)
    """At an evaluation: memory of the process, examples per second since the last evaluation."""

    @property
    def is_sign(self) -> bool:
        """Whether it only says that the walk goes on."""
        return isinstance(self.event, Waiting | Ticked)


class WalkThread:
    """One process's walk. Several processes walk in lockstep: each has the same news, and all of
    them end at the event at which the leader is told to."""

    def __init__(
        self, open_walk: Callable[[], tuple[Iterator[Event], ProcessGroup]], watch: Watchdog | None
    ) -> None:
        """Begin the walk.

        Args:
            open_walk: called in the thread, as PyTorch has settings for each thread.
            watch: ends this process where a single event takes too long; closed at the end.
        """
        self._open_walk = open_walk
        self._watch = watch
        self._changed = threading.Condition()
        self._news: deque[News | BaseException] = deque()
        """From number ``_first`` on."""
        self._first = 0
        self._sign: News | None = None
        self._wish: Wish = ""
        self._rated = ("", 0, 0.0)
        # A process that is told to exit does not wait for it.
        self._thread = threading.Thread(target=self._run, name="walk", daemon=True)
        self._thread.start()

    def fetch(self, number: int, seconds: float) -> News | None:
        """The news of this number, counted from 0; those before it are not asked for any more.

        Where it does not happen within ``seconds``, the last sign of life instead; None where there
        was none since the last news. What the walk raised is raised here, after all its news.
        """
        with self._changed:
            while self._first < number:
                self._news.popleft()
                self._first += 1
            self._changed.wait_for(lambda: self._news, seconds)
            if not self._news:
                return self._sign
            news = self._news[0]
            if isinstance(news, News):
                return news
            self._news.clear()
        try:
            raise news
        finally:
            # Its frames hold tensors, and this one is among them.
            del news

    def stop(self, wish: Wish) -> None:
        """Let the walk end at its next event, and wait for that; what it raises is not told."""
        self._wish = self._wish or wish
        self._thread.join()

    def _run(self) -> None:
        try:
            self._walk()
        except BaseException as error:  # noqa: BLE001 - it is raised where news is fetched
            self._tell(error)
        finally:
            if self._watch is not None:
                self._watch.close()

    def _walk(self) -> None:
        watched = self._watch or contextlib.nullcontext()
        with watched:
            events, group = self._open_walk()
        wish: Wish = ""
        while not wish:
            with watched:
                event = next(events, None)
            self._tell(News(event, self._system(event)))
            if event is None:
                return
            with watched:
                wish = group.share(self._wish)
                if wish == "keep":
                    with contextlib.suppress(Stop, StopIteration):
                        events.throw(Stop())  # type: ignore[attr-defined]
                elif wish:
                    events.close()  # type: ignore[attr-defined]

    def _tell(self, news: News | BaseException) -> None:
        with self._changed:
            is_sign = isinstance(news, News) and news.is_sign
            self._sign = news if isinstance(news, News) and is_sign else None
            if not is_sign:
                self._news.append(news)
                self._changed.notify_all()

    def _system(self, event: Event | None) -> dict[str, float]:
        """What is cheap to know about this process; nothing for what happened before it."""
        if not isinstance(event, Evaluated) or event.is_replay:
            return {}
        now = time.monotonic()
        stage, examples, then = self._rated
        rate = (event.examples - examples) / (now - then) if stage == event.stage.key else None
        self._rated = (event.stage.key, event.examples, now)
        memory = psutil.Process().memory_info().rss / 2**30
        return {"memory_gib": memory, **({"examples_per_s": rate} if rate else {})}
