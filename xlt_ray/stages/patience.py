"""Waiting for a storage that cannot be reached: for whoever must not end by one bad minute."""

from __future__ import annotations

import errno
import functools
import itertools
import time
from collections.abc import Callable
from typing import ParamSpec, TypeVar

PAUSES_S = (1.0, 2.0, 5.0, 10.0, 20.0, 40.0, *itertools.repeat(60.0, 60))
"""Between two tries; an hour in all."""

_Arguments = ParamSpec("_Arguments")
_Result = TypeVar("_Result")


def patient(
    ask: Callable[_Arguments, _Result],
    say: Callable[[str], object],
    *,
    pause: Callable[[float], object] = time.sleep,
) -> Callable[_Arguments, _Result]:
    """``ask``, asked again after growing pauses for as long as it raises OSError.

    ``say`` is told once, when the waiting begins. What is raised after :data:`PAUSES_S` is
    raised; a full disk is at once, because no waiting empties it.
    """

    @functools.wraps(ask)
    def asked(*arguments: _Arguments.args, **named: _Arguments.kwargs) -> _Result:
        for tries, pause_s in enumerate(PAUSES_S):
            try:
                return ask(*arguments, **named)
            except OSError as error:
                if error.errno in (errno.ENOSPC, errno.EDQUOT):
                    raise
                if not tries:
                    say(f"the stage store cannot be reached ({error}); waiting until it can be")
            pause(pause_s)
        return ask(*arguments, **named)

    return asked
