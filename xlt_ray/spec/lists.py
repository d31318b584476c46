"""Lists of names in a sweep file, where each name counts once."""

from __future__ import annotations

from typing import Any


def each_once(value: Any) -> Any:
    """A setting as it is; ValueError where it is a list that is empty or names one thing twice.

    >>> each_once(("en", "de")), each_once("all")
    (('en', 'de'), 'all')
    """
    if isinstance(value, tuple):
        if not value:
            raise ValueError("the list is empty")
        twice = [one for one in value if value.count(one) > 1]
        if twice:
            raise ValueError(f"{twice[0]} is named twice; name each once")
    return value
