"""Whoever must not end by one bad minute waits for the storage, longer and longer, not for ever."""

from __future__ import annotations

import errno

import pytest

from xlt_ray.store.storage import PAUSES_S, patient


class Outage:
    """A storage that fails so many times, and what is said and waited meanwhile."""

    def __init__(self, times: int, error: Exception | None = None) -> None:
        self.left = times
        self.error = error or ConnectionError("nobody listens")
        self.said: list[str] = []
        self.pauses: list[float] = []

    def exists(self, path: str) -> bool:
        self.left -= 1
        if self.left >= 0:
            raise self.error
        return path == "there"

    def ask(self, path: str) -> bool:
        return patient(self.exists, self.said.append, pause=self.pauses.append)(path)


def test_what_answers_is_asked_once_and_nothing_is_said() -> None:
    one = Outage(0)
    assert one.ask("there")
    assert not one.ask("elsewhere")
    assert (one.said, one.pauses) == ([], [])


def test_an_outage_is_waited_for_with_growing_pauses_and_told_once() -> None:
    one = Outage(4)
    assert one.ask("there")
    assert one.pauses == list(PAUSES_S[:4]) == sorted(one.pauses)
    assert len(set(one.pauses)) == 4
    (said,) = one.said
    assert "cannot be reached (nobody listens)" in said


def test_an_outage_without_end_is_an_error_after_an_hour() -> None:
    one = Outage(10**6)
    with pytest.raises(ConnectionError):
        one.ask("there")
    assert 3600 <= sum(one.pauses) <= 2 * 3600
    assert len(one.said) == 1


@pytest.mark.parametrize(
    "error", [OSError(errno.ENOSPC, "full"), OSError(errno.EDQUOT, "full"), KeyError("x")]
)
def test_what_waiting_does_not_mend_is_raised_at_once(error: Exception) -> None:
    one = Outage(1, error)
    with pytest.raises(type(error)):
        one.ask("there")
    assert (one.said, one.pauses) == ([], [])
