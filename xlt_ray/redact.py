"""Removes passwords and tokens from errors, logs of failed trials, and all that goes to MLflow."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

_OWNERS = (
    "access|api|app|auth|bearer|bot|gh|github|gitlab|hf|hub|id|identity|oauth|personal|private"
    "|refresh|security|session|slack|tracking|user|wandb"
)
"""Whose token is a secret: those of texts (pad_token, sep_token) are not."""
_START = r"(?<![a-z0-9_-])[_-]*(?:[a-z0-9]+[_-]+)*"
"""What stands before the name in a longer one, as ``AWS_`` does."""
_NAMES = (
    r"(?:"
    r"(?:pg|db|my|user|ssh)?(?:password|passwd|passphrase|passcode|pwd)"
    r"|(?<=[_-])(?:pass|pw)"
    r"|(?:client|shared|app|web|consumer|signing|jwt)?[_-]?secret(?:[_-]?(?:access[_-]?)?key)?"
    r"|api[_-]?key|apikey|(?:account|access|encryption|private|signing|shared[_-]?access|storage)"
    r"[_-]?key"
    r"|shared[_-]?access[_-]?signature|(?:amz|goog)-(?:signature|credential)|signature"
    rf"|(?:{_OWNERS})[_-]?token"
    r")"
)
"""Names of settings whose value is a secret."""
_RANDOM = r"(?=[a-zA-Z+/=_.~-]*[0-9])(?=[0-9+/=_.~-]*[a-zA-Z])[a-zA-Z0-9+/=_.~-]{12,}"
"""A value as a generator of secrets makes it: long, with letters and digits."""
_PATTERNS = (
    # The key itself; a log may have been cut before its last line.
    re.compile(
        r"(?P<before>-----BEGIN [A-Z ]*PRIVATE KEY-----)"
        r"(?!\*\*\*).*?(?P<after>-----END [A-Z ]*PRIVATE KEY-----|\Z)",
        re.DOTALL,
    ),
    # A password ends at the last @ before a space or quote: some contain a slash or an @.
    re.compile(r"(?P<before>[A-Za-z][A-Za-z0-9+.-]*://[^\s:/@\"']*:)[^\s\"']*(?P<after>@)"),
    # Access tokens of web services stand where the name of a user does.
    re.compile(r"(?P<before>\bhttps?://)[^\s:/@\"'*]+(?P<after>@)"),
    re.compile(
        r"(?P<before>[?&;](?:[a-z0-9_-]*(?:password|passwd|pwd|token|secret|signature|credential"
        r"|api_?key)|sig|key|auth)=)[^&;\s\"']+(?P<after>)",
        re.IGNORECASE,
    ),
    re.compile(r"(?P<before>\bsig=)(?!\*\*\*)[A-Za-z0-9%+/=_-]{16,}(?P<after>)"),
    re.compile(
        r"(?P<before>\b(?:proxy-)?authorization[\"']?\s*[=:]\s*[\"']?(?:[a-z][a-z0-9-]*\s+)?+)"
        r"(?!\*\*\*)[^\s\"',]+(?P<after>)",
        re.IGNORECASE,
    ),
    # A bearer of news is not one of tokens: those have digits or signs among their letters.
    re.compile(
        r"(?P<before>\b(?:bearer|basic)\s+)(?=[a-z]*[0-9+/=._~-])[a-z0-9+/=._~-]{8,}(?P<after>)",
        re.IGNORECASE,
    ),
    # A quoted value goes on to its closing quote, any other to a space or separator.
    re.compile(
        rf"(?P<before>{_START}{_NAMES}[\"']?\s*[=:]\s*(?P<quote>[\"']))"
        r"(?!\*\*\*)[^\"'\n]+(?P<after>(?P=quote)?)",
        re.IGNORECASE,
    ),
    re.compile(
        rf"(?P<before>{_START}{_NAMES}[\"']?\s*[=:]\s*)"
        r"(?!\*\*\*)[^\s\"'&;,]+(?P<after>)",
        re.IGNORECASE,
    ),
    re.compile(
        rf"(?P<before>(?<!\S)--(?:(?:[a-z0-9]+[_-])*{_NAMES}|token)\s+[\"']?)"
        r"(?!\*\*\*|-)[^\s\"']+(?P<after>)",
        re.IGNORECASE,
    ),
    # These names are also those of harmless things, whose values do not look drawn at random.
    re.compile(
        rf"(?P<before>{_START}(?:[a-z]*token|jwt|auth|credentials?|pass|pw|webhook)"
        r"[\"']?\s*[=:]\s*[\"']?)"
        rf"(?!\*\*\*){_RANDOM}(?P<after>)",
        re.IGNORECASE,
    ),
    re.compile(rf"(?P<before>\b[A-Z0-9_]+_KEY=[\"']?)(?!\*\*\*){_RANDOM}(?P<after>)"),
    re.compile(r"(?P<before>\b(?:set-)?cookie: ?+)(?!\*\*\*)[^\n\"']+(?P<after>)", re.IGNORECASE),
    re.compile(
        r"(?P<before>\bpassword (?:(?:is|was) )?(?P<quote>[\"']))(?!\*\*\*)[^\"'\n]+"
        r"(?P<after>(?P=quote))",
        re.IGNORECASE,
    ),
    # Addresses that are secrets: who knows them may write there.
    re.compile(r"(?P<before>\bhooks\.slack\.com/[a-z]+/)(?!\*\*\*)[^\s\"']+(?P<after>)"),
    re.compile(r"(?P<before>\bdiscord(?:app)?\.com/api/webhooks/)(?!\*\*\*)[^\s\"']+(?P<after>)"),
    re.compile(r"(?P<before>\bapi\.telegram\.org/bot)(?!\*\*\*)[^\s/\"']+(?P<after>)"),
    # Tokens that say by their first letters what they are.
    re.compile(
        r"(?P<before>\b(?:hf_|gh[pousr]_|github_pat_|glpat-|xox[abeoprs]-|sk-(?:ant-|proj-)?"
        r"|AIza|ya29\.|npm_|pypi-|dapi|wandb_v1_|gsk_|[rs]k_(?:live|test)_|SG\.|hv[bs]\."
        r"|AKIA|ASIA))[A-Za-z0-9_.-]{12,}(?P<after>)"
    ),
    re.compile(r"(?P<before>\beyJ)[A-Za-z0-9_-]{6,}\.[A-Za-z0-9_-]{6,}\.[A-Za-z0-9_-]*(?P<after>)"),
)
_SECRET_NAME = re.compile(rf"{_START}{_NAMES}|authorization|token|credentials?", re.IGNORECASE)


def redacted(value: Any) -> Any:
    """The same value, with ``***`` for every password and token in it that is known as one.

    >>> redacted({"ledger": "postgresql://ada:s3cret@db/xlt"})
    {'ledger': 'postgresql://ada:***@db/xlt'}
    >>> redacted("could not connect with password=s3cret host=db")
    'could not connect with password=*** host=db'
    >>> redacted({"user": "ada", "password": "s3cret"})
    {'user': 'ada', 'password': '***'}
    """
    if isinstance(value, str):
        for pattern in _PATTERNS:
            value = pattern.sub(r"\g<before>***\g<after>", value)
        return value
    if isinstance(value, Mapping):
        return {key: _redacted_item(key, item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [redacted(item) for item in value]
    return value


def _redacted_item(key: Any, item: Any) -> Any:
    is_secret = isinstance(item, str) and isinstance(key, str) and _SECRET_NAME.fullmatch(key)
    return "***" if is_secret and item else redacted(item)
