"""Nothing that is shown, kept or sent carries a password: text loses its secrets on the way.

Every message of our own errors passes here, and whatever goes to MLflow, into the ledger's logs of
failed trials, or onto the screen from there.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

# A password ends at the last @ before a space or quote: some contain a slash or an @ themselves.
_LOGIN = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*://)(?P<user>[^\s:/@\"']*):[^\s\"']*@")
# Access tokens of web services stand where the name of a user does.
_BARE = re.compile(r"(?P<scheme>\bhttps?://)[^\s:/@\"'*]+@")
_QUERY = re.compile(
    r"(?P<name>[?&;](?:[a-z_-]*(?:password|passwd|token|secret|signature|api_?key)|sig)=)[^&;\s\"']+",
    re.IGNORECASE,
)
_SETTING = re.compile(
    r"(?P<name>\b(?:[a-z]+_)*(?:pg)?(?:password|passwd|secret_access_key|secret_key|api_?key"
    # Tokens by whose they are: those of texts (pad_token, sep_token) are none.
    r"|(?:auth|access|session|tracking|hub|hf)_token)"
    r"[\"']?\s*[=:]\s*[\"']?)(?!\*\*\*)[^\s\"'&;,]+",
    re.IGNORECASE,
)
_BEARER = re.compile(r"(?P<name>\b(?:Bearer|Basic)\s+)[A-Za-z0-9+/=._~-]{8,}")


def redacted(value: Any) -> Any:
    """The same value, with ``***`` for every password and token in it that can be told.

    >>> redacted({"ledger": "postgresql://ada:s3cret@db/xlt"})
    {'ledger': 'postgresql://ada:***@db/xlt'}
    >>> redacted("could not connect with password=s3cret host=db")
    'could not connect with password=*** host=db'
    """
    if isinstance(value, str):
        text = _LOGIN.sub(r"\g<scheme>\g<user>:***@", value)
        text = _BARE.sub(r"\g<scheme>***@", text)
        for pattern in (_QUERY, _SETTING, _BEARER):
            text = pattern.sub(r"\g<name>***", text)
        return text
    if isinstance(value, Mapping):
        return {key: redacted(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [redacted(item) for item in value]
    return value
