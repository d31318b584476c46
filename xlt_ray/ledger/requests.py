"""What people ask of a sweep that exists: stop a trial, try a point, change a setting, pause.

Only the driver writes the ledger, so a command leaves its request as a file in the home. The driver
reads it within seconds, or when the sweep is run next, notes it in the ledger, and deletes the
file. Everything that a request leads to follows from the ledger, so a kill changes nothing.
"""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal, get_args

from xlt_ray.config.sweep import SweepSpec
from xlt_ray.files import atomic_create
from xlt_ray.home import Home
from xlt_ray.store.canonical import from_fields

if TYPE_CHECKING:
    from xlt_ray.ledger.ledger import Ledger

BY_HAND = "by_hand"
"""Attribute of a study: the fields of the requests that were carried out, in their order."""
MAY_SET = ("budget.gpu_hours", "budget.hours", "budget.confirm_share", "search.trials",
           "search.concurrent")  # fmt: skip
"""Settings that may change while a sweep runs."""


Kind = Literal["stop", "pause", "clone", "set"]


@dataclass(frozen=True)
class Request:
    """One request; :attr:`id` sorts by time."""

    kind: Kind
    trial: int | None = None
    """The trial to stop or to clone."""
    values: Mapping[str, Any] = field(default_factory=dict)
    """Parameters of the point to try, or values of settings, by dotted key."""
    changed: tuple[str, ...] = ()
    """Parameters of the point that differ from the cloned trial."""
    replaced: Mapping[str, Any] = field(default_factory=dict)
    """What the settings are without the change; the driver adds it."""
    driver: str = ""
    """The driver to pause."""
    id: str = field(default_factory=lambda: f"{time.time_ns()}-{uuid.uuid4().hex[:8]}")

    def __str__(self) -> str:
        if self.kind == "set":
            return ", ".join(
                f"{key} set to {_shown(value)}"
                + f" instead of {_shown(self.replaced.get(key))}" * (key in self.replaced)
                for key, value in self.values.items()
            )
        if self.kind == "clone":
            changes = ", ".join(f"{key}={_shown(self.values.get(key))}" for key in self.changed)
            return f"trial {self.trial} cloned with {changes}"
        return "paused" if self.kind == "pause" else f"trial {self.trial} stopped"


def _shown(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


# -- files in the home ------------------------------------------------------------------------


def leave_request(home: Home, name: str, request: Request) -> None:
    """Leave a request for the driver of a sweep."""
    text = json.dumps(asdict(request), ensure_ascii=False)
    atomic_create(home.requests(name) / f"{request.id}.json", text)


def left_requests(home: Home, name: str, warn: Callable[[str], object]) -> Iterator[Request]:
    """The requests that wait, the oldest first; each is deleted when the next one is taken.

    Args:
        warn: called with a message about a file that is not a request.
    """
    for file in sorted(home.requests(name).glob("*.json")):
        try:
            request = from_fields(Request, json.loads(file.read_text(encoding="utf-8")))
            if request.kind not in get_args(Kind):
                raise ValueError(request.kind)
        except (ValueError, TypeError, AttributeError):
            warn(f"{file}: is not a request to a sweep, and was deleted")
        else:
            yield request
        file.unlink(missing_ok=True)


# -- in the ledger ----------------------------------------------------------------------------


def requests_of(attributes: Mapping[str, Any]) -> list[Request]:
    """The requests in the attributes of a study."""
    return [from_fields(Request, fields) for fields in attributes.get(BY_HAND, ())]


def accept(ledger: Ledger, request: Request) -> None:
    """Note that a request is carried out."""
    noted = [*ledger.study.user_attrs.get(BY_HAND, ()), asdict(request)]
    ledger.note(BY_HAND, noted)


def with_replaced(request: Request, sweep: SweepSpec, earlier: Iterable[Request]) -> Request:
    """A request to set values, with what the sweep would have without it."""
    replaced = {key: sweep.setting(key) for key in request.values}
    for before in earlier:
        for key in request.values:
            # The value that an earlier change has replaced is that of the sweep file.
            if (
                key in before.values
                and before.kind == "set"
                and (sweep.setting(key) == before.values[key])
            ):
                replaced[key] = before.replaced[key]
    return replace(request, replaced=replaced)


def set_by_hand(sweep: SweepSpec, requests: Iterable[Request]) -> SweepSpec:
    """The sweep with the settings that were changed by hand.

    The last change of a key holds until the sweep itself has another value than it had then.
    """
    last: dict[str, Request] = {}
    for request in requests:
        if request.kind == "set":
            last |= dict.fromkeys(request.values, request)
    for key, request in last.items():
        if sweep.setting(key) == request.replaced[key]:
            sweep = sweep.with_setting(key, request.values[key])
    return sweep
