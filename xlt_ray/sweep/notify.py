"""Tells people about a sweep (``notify``): its first failure of each cause, its end, its budget.

Only the driver sends. The ledger keeps what was sent, so that a sweep that is killed and continued
sends nothing twice. A message that cannot be delivered is a warning.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from http.client import HTTPException
from typing import TYPE_CHECKING

from xlt_ray.config.sweep import SweepSpec, is_url
from xlt_ray.ledger import Ledger, TrialView
from xlt_ray.redact import redacted

if TYPE_CHECKING:
    from xlt_ray.sweep.runner import SweepSummary

TIMEOUT_S = 10.0
"""Seconds that a server or command may take."""
NOTIFIED = "notified"
"""Attribute of a study: the events that people were told of."""


@dataclass(frozen=True)
class Notice:
    """What people are told of one event."""

    event: str
    """What happened, in words that are the same when the next driver meets it again."""
    title: str
    text: str


def failure_notice(sweep: str, view: TrialView) -> Notice:
    """Of a trial that failed; its cause decides whether people were told already."""
    return Notice(
        f"failure {view.cause}",
        f"{sweep}: trial {view.number} failed ({view.cause})",
        f"Trial {view.number} of {sweep} failed: {view.cause}: {view.message}\n"
        f"Other failures of this cause follow in the summary at the end; xlt status {sweep}",
    )


def end_notice(sweep: SweepSpec, summary: SweepSummary) -> Notice | None:
    """Of a run that has ended; None if a person ended it."""
    from xlt_ray.ledger import STANDINGS, failure_lines, standings

    states = [*standings(summary.trials).values()]
    counts = ", ".join(f"{states.count(state)} {state}" for state in STANDINGS if state in states)
    if summary.is_finished:
        event, what = f"end {len(summary.trials)}", "is finished"
    elif summary.is_out_of_budget:
        budget = sweep.settings.budget
        event, what = f"budget {budget.gpu_hours} {budget.hours}", "has used up its budget"
    elif summary.stopped_by and not summary.is_paused:
        event, what = f"stop {len(summary.trials)} {summary.stopped_by}", "has stopped"
    else:
        return None
    best = summary.best
    lines = [f"{sweep.name} {what}: {counts or 'no trials'}."]
    if best is not None:
        metric = sweep.settings.objective.metric
        lines.append(f"Best {metric}: {best.objective:.4f} (configuration {best.configuration}).")
    lines += [summary.stopped_by] if summary.stopped_by else []
    lines += failure_lines(summary.trials, sweep.name)
    return Notice(event, f"{sweep.name} {what}", "\n".join(lines))


class Notifier:
    """Sends notices to every destination of a sweep, without making the driver wait.

    Args:
        warn: called by the driver's own thread with what could not be delivered.
    """

    def __init__(self, sweep: SweepSpec, ledger: Ledger, warn: Callable[[str], None]) -> None:
        self._sweep = sweep.name
        self._destinations = sweep.settings.notify
        self._ledger = ledger
        self._warn = warn
        self._threads: list[threading.Thread] = []
        self._problems: deque[str] = deque()

    def __call__(self, notice: Notice) -> None:
        """Send a notice; does nothing if people were told of its event."""
        self._show_problems()
        told = self._ledger.study.user_attrs.get(NOTIFIED, [])
        if not self._destinations or notice.event in told:
            return
        # First of all, so that a driver which is killed here sends nothing twice.
        self._ledger.note(NOTIFIED, [*told, notice.event])
        kind = notice.event.partition(" ")[0]
        message = {"sweep": self._sweep, "event": kind, "title": notice.title, "text": notice.text}
        for destination in self._destinations:
            thread = threading.Thread(
                target=self._send, args=(destination, redacted(message)), daemon=True
            )
            thread.start()
            self._threads.append(thread)

    def close(self) -> None:
        """Wait for what is on its way, at most as long as one message may take."""
        ends_s = time.monotonic() + TIMEOUT_S + 1
        for thread in self._threads:
            thread.join(max(ends_s - time.monotonic(), 0.0))
        self._show_problems()

    def _send(self, destination: str, message: dict[str, str]) -> None:
        if problem := send(destination, message):
            self._problems.append(f"notify: {destination}: {problem}")

    def _show_problems(self) -> None:
        while self._problems:
            self._warn(str(redacted(self._problems.popleft())))


def send(destination: str, message: dict[str, str], timeout_s: float = TIMEOUT_S) -> str:
    """Deliver a message; why not, if it was not delivered.

    Args:
        destination: a URL, which gets a JSON POST, or a command of the shell, which gets the same
            JSON as input and title and text as ``XLT_TITLE`` and ``XLT_TEXT``. A URL may name
            variables of the environment.
    """
    expanded = os.path.expandvars(destination)
    body = json.dumps(message, ensure_ascii=False).encode()
    if destination.startswith("$") and " " not in destination and expanded == destination:
        return "this variable is not set"
    try:
        if is_url(expanded):
            return _post(expanded, body, timeout_s)
        return _run(destination, message, body, timeout_s)
    except (OSError, ValueError, HTTPException) as error:
        return str(getattr(error, "reason", error)) or type(error).__name__


def _post(url: str, body: bytes, timeout_s: float) -> str:
    headers = {"Content-Type": "application/json", "User-Agent": "xlt-ray"}
    request = urllib.request.Request(url, body, headers)
    try:
        urllib.request.urlopen(request, timeout=timeout_s).close()
    except urllib.error.HTTPError as error:
        return f"the server answered {error.code} {error.reason}"
    return ""


def _run(command: str, message: dict[str, str], body: bytes, timeout_s: float) -> str:
    variables = {"XLT_TITLE": message["title"], "XLT_TEXT": message["text"]}
    # A session of its own, so that Ctrl-C does not reach it and all of it can be ended.
    process = subprocess.Popen(
        command,
        shell=True,
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env={**os.environ, **variables},
        start_new_session=True,
    )
    try:
        _, errors = process.communicate(body, timeout=timeout_s)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        return f"took longer than {timeout_s:g} s"
    if process.returncode == 0:
        return ""
    last = errors.decode(errors="replace").strip().splitlines()[-1:]
    return ": ".join([f"exit code {process.returncode}", *last])
