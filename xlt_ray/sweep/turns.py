"""Whose turn it is: trials that were asked stand in line, behind the stages that others make.

A trial may begin when nobody is making the stage that it would make next. One that may not is
put behind that stage, and is looked at again when the stage is released and at no other time:
a decision takes as long with 100,000 trials as with ten, and no trial is looked at more often
than its path has stages, unless a maker fails.
"""

from __future__ import annotations

import heapq
import itertools
from collections import Counter
from collections.abc import Callable, Iterator


class StageQueue:
    """Trials by number, those that wait and those that are at work.

    Args:
        next_key: key of the stage that a trial would make next, or is making; None where nothing
            is left to be made.
    """

    def __init__(self, next_key: Callable[[int], str | None]) -> None:
        self._next_key = next_key
        self._places = itertools.count()
        self._waiting: dict[int, int] = {}
        """Trials in the order in which they came -> place in line."""
        self._ready: list[tuple[int, int]] = []
        """A heap of place and number: those that may begin, as far as is known."""
        self._behind: dict[str, list[int]] = {}
        self._making: dict[int, str | None] = {}
        self._makers: Counter[str] = Counter()

    def __len__(self) -> int:
        """How many wait."""
        return len(self._waiting)

    def __iter__(self) -> Iterator[int]:
        """Those that wait, in the order in which they came."""
        return iter(self._waiting)

    def join(self, number: int) -> None:
        """A trial comes, to the end of the line."""
        self._waiting[number] = next(self._places)
        heapq.heappush(self._ready, (self._waiting[number], number))

    def leave(self, number: int) -> None:
        """A trial that waits will not begin."""
        del self._waiting[number]

    def first(self) -> int | None:
        """The first in line that may begin, or None; it stays where it is."""
        while self._ready:
            place, number = self._ready[0]
            if self._waiting.get(number) == place:
                key = self._next_key(number)
                if key is None or not self._makers[key]:
                    return number
                self._behind.setdefault(key, []).append(number)
            heapq.heappop(self._ready)
        return None

    def begin(self, number: int) -> None:
        """A trial that waits is at work now."""
        del self._waiting[number]
        self._take(number)

    def moved(self, number: int) -> None:
        """A trial at work has made a stage, or found it; nothing happens for any other trial."""
        if number in self._making:
            self._release(number)
            self._take(number)

    def end(self, number: int) -> None:
        """A trial is at work no more."""
        self._release(number)

    def _take(self, number: int) -> None:
        key = self._next_key(number)
        self._making[number] = key
        if key is not None:
            self._makers[key] += 1

    def _release(self, number: int) -> None:
        key = self._making.pop(number)
        if key is None:
            return
        self._makers[key] -= 1
        if not self._makers[key]:
            del self._makers[key]
            for waiting in self._behind.pop(key, ()):
                if waiting in self._waiting:
                    heapq.heappush(self._ready, (self._waiting[waiting], waiting))
