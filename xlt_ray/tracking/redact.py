"""Nothing that goes to MLflow carries a password: URLs lose theirs on the way."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

_LOGIN = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*://)(?P<user>[^\s:/@]*):[^\s/]*@")
_QUERY = re.compile(
    r"(?P<name>[?&;](?:[a-z_-]*(?:password|passwd|token|secret|signature|api_?key)|sig)=)[^&;\s]+",
    re.IGNORECASE,
)


def redacted(value: Any) -> Any:
    """The same value, with the passwords of all URLs in it replaced by ``***``.

    >>> redacted({"ledger": "postgresql://ada:s3cret@db/xlt"})
    {'ledger': 'postgresql://ada:***@db/xlt'}
    """
    if isinstance(value, str):
        return _QUERY.sub(r"\g<name>***", _LOGIN.sub(r"\g<scheme>\g<user>:***@", value))
    if isinstance(value, Mapping):
        return {key: redacted(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [redacted(item) for item in value]
    return value
