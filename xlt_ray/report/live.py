"""The page of a sweep while it runs: a small server on this machine that reads its ledger.

Every address begins with a token that only the printed address has. Nothing is written here:
what the page's buttons ask becomes a request to the driver, as from the command line.
"""

from __future__ import annotations

import json
import secrets
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from xlt_ray.config.labels import parameter_names, value_label
from xlt_ray.errors import SpecError, XltError
from xlt_ray.home import Home
from xlt_ray.ledger import STANDINGS, TrialView, load_ledger, standings
from xlt_ray.ledger.access import driver_of
from xlt_ray.report.provenance import LOCAL_MLFLOW, mlflow_server
from xlt_ray.store.stage import short

LOOPBACK = "127.0.0.1"
MOST_BYTES = 65_536
"""Of what a button sends."""

Ask = Callable[[str, int, Sequence[str]], str]
"""Leaves a request, "stop" or "clone", for a trial with some changes; returns what it answers."""


class LiveSweep:
    """What a page shows of one sweep. Rows that a page has already are not sent again."""

    def __init__(self, home: Home, name: str) -> None:
        self.home, self.name = home, name
        self._ledger = load_ledger(home, name)
        self._rows: dict[int, dict[str, Any]] = {}
        self._changed: dict[int, int] = {}
        self._version = 0
        self._lock = threading.Lock()

    @property
    def sweep(self) -> Mapping[str, Any]:
        return self._ledger.sweep

    def state(self, since: int = 0) -> dict[str, Any]:
        """The sweep now, with the rows that changed after the state of version ``since``."""
        with self._lock:
            ledger = self._ledger
            ledger.driver = driver_of(self.home, self.name)
            views = ledger.trials()
            states = standings(views, driver=ledger.driver)
            self._version += 1
            for view in views:
                row = trial_row(view, states[view.number])
                if self._rows.get(view.number) != row:
                    self._rows[view.number] = row
                    self._changed[view.number] = self._version
            heartbeat, best = ledger.heartbeat, ledger.best()
            left_s = heartbeat.left_s if heartbeat and heartbeat.driver == ledger.driver else None
            return {
                "version": self._version,
                "is_running": bool(ledger.driver),
                "seconds_left": None
                if left_s is None or heartbeat is None
                else max(left_s - (time.time() - heartbeat.time), 0.0),
                "counts": {
                    state: sum(state == other for other in states.values()) for state in STANDINGS
                },
                "best": None
                if best is None
                else {"configuration": best.configuration, "objective": best.objective},
                "by_hand": list(map(str, ledger.by_hand)),
                "rows": [
                    row for number, row in self._rows.items() if self._changed[number] > since
                ],
            }


def trial_row(view: TrialView, standing: str) -> dict[str, Any]:
    """One trial, as the page shows it."""
    names = parameter_names(view.assignment)
    return {
        "number": view.number,
        "state": standing,
        "configuration": view.configuration,
        "seed": view.seed,
        "objective": view.objective,
        "parameters": {name: value_label(view.assignment[path]) for path, name in names.items()},
        "paths": list(view.assignment),
        "stages": [[use.kind, short(use.key), use.label, use.reused] for use in view.stages],
        "curve": view.curve,
        "note": ": ".join(filter(None, (view.cause, view.message))) or view.by_hand,
        "run": view.mlflow_run_id or "",
    }


class _Server(ThreadingHTTPServer):
    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignore browsers that close the connection before they have the answer."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


def live_server(sweep: LiveSweep, port: int, ask: Ask) -> tuple[ThreadingHTTPServer, str]:
    """A server on this machine alone, and the address that opens its page.

    Raises:
        SpecError: the port is taken.
    """
    token = secrets.token_urlsafe(24)
    page = _page(sweep)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path, query = self._place()
            if path == "":
                self._answer(page, "text/html; charset=utf-8")
            elif path == "state":
                since = query.removeprefix("since=")
                self._answer_json(sweep.state(int(since) if since.isdecimal() else 0))
            else:
                self.send_error(HTTPStatus.NOT_FOUND)

        def do_POST(self) -> None:
            (what, _), length = self._place(), self.headers.get("Content-Length", "")
            if what not in ("stop", "clone"):
                self.send_error(HTTPStatus.NOT_FOUND)
                return
            if not length.isdecimal() or int(length) > MOST_BYTES:
                self.send_error(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
                return
            try:
                asked = json.loads(self.rfile.read(int(length)))
                trial, changes = int(asked["trial"]), [str(change) for change in asked["changes"]]
            except (ValueError, TypeError, KeyError):
                self.send_error(HTTPStatus.BAD_REQUEST)
                return
            try:
                self._answer_json({"done": ask(what, trial, changes)})
            except XltError as error:
                self._answer_json({"error": str(error)}, HTTPStatus.BAD_REQUEST)

        def _place(self) -> tuple[str | None, str]:
            """What follows the token, None without it, and the query."""
            path, _, query = self.path.removeprefix("/").partition("?")
            given, _, rest = path.partition("/")
            is_known = secrets.compare_digest(given.encode(), token.encode())
            return rest if is_known else None, query

        def _answer_json(self, value: Any, status: HTTPStatus = HTTPStatus.OK) -> None:
            self._answer(json.dumps(value), "application/json", status)

        def _answer(self, text: str, kind: str, status: HTTPStatus = HTTPStatus.OK) -> None:
            content = text.encode()
            self.send_response(status)
            for name, value in (
                ("Content-Type", kind),
                ("Content-Length", str(len(content))),
                ("Cache-Control", "no-store"),
                ("Referrer-Policy", "no-referrer"),
                ("X-Frame-Options", "DENY"),
            ):
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            """Addresses with the token are in no log."""

    try:
        server = _Server((LOOPBACK, port), Handler)
    except OSError as error:
        raise SpecError(
            f"port {port} cannot be used ({error.strerror})", file="command line", key="--port",
            remedy="name another one",
        ) from None  # fmt: skip
    return server, f"http://{LOOPBACK}:{server.server_port}/{token}/"


def _page(sweep: LiveSweep) -> str:
    from xlt_ray.report.page import template

    objective = sweep.sweep["objective"]
    return str(
        template("live.html").render(
            name=sweep.name,
            metric=objective["metric"],
            mode=objective["mode"],
            mlflow=mlflow_server(sweep.sweep) or LOCAL_MLFLOW,
        )
    )
