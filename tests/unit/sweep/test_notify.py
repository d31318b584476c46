"""What people are told of a sweep, by a real server and real commands."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.unit.sweep.conftest import Driver, Start
from xlt_ray.config.sweep import SweepSpec
from xlt_ray.errors import SpecErrors
from xlt_ray.sweep import notify
from xlt_ray.sweep.notify import Notice, Notifier, end_notice, send
from xlt_ray.sweep.runner import SweepSummary

MESSAGE = {"sweep": "t", "event": "end", "title": "t is finished", "text": "two\nlines"}


class Inbox(BaseHTTPRequestHandler):
    """Keeps what is posted; answers 404 at /away, and late at /slow."""

    received: list[dict[str, Any]]

    def do_POST(self) -> None:
        assert self.headers["Content-Type"] == "application/json"
        body = self.rfile.read(int(self.headers["Content-Length"]))
        # Before the answer, after which a test looks.
        self.received.append(json.loads(body))
        if self.path == "/slow":
            time.sleep(3)
        self.send_response(404 if self.path == "/away" else 200)
        self.end_headers()

    def log_message(self, *_: Any) -> None: ...


@pytest.fixture
def inbox() -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """Address of a server, and what it has received."""
    received: list[dict[str, Any]] = []
    handler = type("Handler", (Inbox,), {"received": received})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}", received
    server.shutdown()


def summary_of(driver: Driver, **fields: Any) -> SweepSummary:
    trials, best = tuple(driver.ledger.trials()), driver.ledger.best()
    return replace(SweepSummary(trials, best, 1, 1, is_finished=True, is_out_of_budget=False),
                   **fields)  # fmt: skip


def test_a_url_gets_title_and_text(inbox: tuple[str, list[dict[str, Any]]]) -> None:
    url, received = inbox
    assert send(f"{url}/topic", MESSAGE) == ""
    assert received == [MESSAGE]


def test_a_url_that_is_a_secret_may_stand_in_the_environment(
    inbox: tuple[str, list[dict[str, Any]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WEBHOOK", inbox[0])
    assert send("$WEBHOOK", MESSAGE) == ""
    assert len(inbox[1]) == 1
    assert send("$NO_SUCH_VARIABLE", MESSAGE) == "this variable is not set"


def test_a_command_gets_the_message_as_input_and_in_variables(tmp_path: Path) -> None:
    file = tmp_path / "got"
    assert send(f'(cat; echo; echo "$XLT_TITLE: $XLT_TEXT") > {file}', MESSAGE) == ""
    first, *others = file.read_text().splitlines()
    assert json.loads(first) == MESSAGE
    assert others == ["t is finished: two", "lines"]


def test_what_cannot_be_delivered_is_said_in_a_few_words(
    inbox: tuple[str, list[dict[str, Any]]],
) -> None:
    url = inbox[0]
    assert send(f"{url}/away", MESSAGE) == "the server answered 404 Not Found"
    assert "timed out" in send(f"{url}/slow", MESSAGE, timeout_s=0.2)
    assert "refused" in send("http://127.0.0.1:9/", MESSAGE)
    assert send("echo no mailer >&2; exit 3", MESSAGE) == "exit code 3: no mailer"
    assert send("sleep 60 & sleep 60", MESSAGE, timeout_s=0.2) == "took longer than 0.2 s"


def test_each_cause_of_failure_is_told_once_also_after_a_restart(
    start: Start, inbox: tuple[str, list[dict[str, Any]]]
) -> None:
    url, received = inbox
    driver = start(f"notify=[{url}]")
    driver.fail(driver.next(), "no room", cause="oom")
    driver.fail(driver.next(), "no room", cause="oom")
    driver.notifier.close()
    assert [message["title"] for message in received] == ["t: trial 0 failed (oom)"]
    driver.restart()
    driver.fail(driver.next(), "no room", cause="oom")
    driver.fail(driver.next(), "password=s3cret is wrong", cause="storage")
    driver.notifier.close()
    assert [message["title"] for message in received[1:]] == ["t: trial 3 failed (storage)"]
    assert "password=*** is wrong" in received[1]["text"]


def test_the_end_is_told_once_and_again_when_the_sweep_was_extended(
    start: Start, inbox: tuple[str, list[dict[str, Any]]]
) -> None:
    url, received = inbox
    driver = start(f"notify={url}")
    driver.complete(driver.next())
    for _ in range(2):
        notice = end_notice(driver.sweep, summary_of(driver))
        assert notice is not None
        driver.notifier(notice)
        driver.restart()
    driver.complete(driver.next())
    notice = end_notice(driver.sweep, summary_of(driver))
    assert notice is not None
    driver.notifier(notice)
    driver.notifier.close()
    time.sleep(0.2)
    assert len(received) == 2
    assert received[0]["title"] == "t is finished"
    assert "1 complete" in received[0]["text"]
    assert "Best accuracy: 0.5000" in received[0]["text"]


def test_a_budget_and_a_stop_are_told_and_what_people_ended_is_not(start: Start) -> None:
    driver = start("budget.hours=2")

    def event(**fields: Any) -> str:
        notice = end_notice(driver.sweep, summary_of(driver, is_finished=False, **fields))
        return "" if notice is None else notice.event

    assert event(is_out_of_budget=True, stopped_by="no room left") == "budget None 2.0"
    assert event(stopped_by="the disk is full") == "stop 0 the disk is full"
    assert event(stopped_by="paused by hand", is_paused=True) == ""
    assert event() == "", "Ctrl-C"


def test_a_destination_that_fails_is_one_warning_without_its_secret(start: Start) -> None:
    driver = start("notify=['http://ada:s3cret@127.0.0.1:9/x', 'true']")
    driver.complete(driver.next())
    driver.notifier(Notice("end 1", "title", "text"))
    driver.notifier.close()
    driver.notifier.close()
    (warning,) = driver.reporter.warnings
    assert warning.startswith("notify: http://ada:***@127.0.0.1:9/x: ")


def test_the_driver_does_not_wait_for_a_slow_destination(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(notify, "TIMEOUT_S", 0.5)
    driver = start("notify='sleep 5'")
    notifier = Notifier(driver.sweep, driver.ledger, driver.reporter.warned)
    began = time.monotonic()
    notifier(Notice("end 1", "title", "text"))
    is_sent_beside = time.monotonic() - began < 2
    notifier.close()
    assert is_sent_beside
    assert time.monotonic() - began < 4.5


@pytest.mark.parametrize(
    ("destination", "problem"),
    [("ftp://host/x", "ftp:// cannot get a POST"), ("http://", "names no server"),
     ("''", "is empty")],
)  # fmt: skip
def test_bad_destinations_are_refused(
    sweep_from: Callable[..., SweepSpec], destination: str, problem: str
) -> None:
    text = "{name: t, data: {source: toy}, model: toy:2x64, target: {task: nli}, "
    with pytest.raises(SpecErrors, match=problem):
        sweep_from(text + f"search: {{trials: 1}}, notify: [{destination}]}}")
