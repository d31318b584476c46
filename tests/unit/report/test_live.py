"""The server of the live page: nothing without the token, what changed with it, and requests."""

from __future__ import annotations

import json
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from tests.unit.report.conftest import Finished
from xlt_ray.errors import LedgerError, SpecError
from xlt_ray.report.live import LiveSweep, live_server

asked: list[tuple[str, int, list[str]]] = []


def ask(kind: str, trial: int, changes: Sequence[str]) -> str:
    if trial == 0:
        raise LedgerError("quick: trial 0 has ended: it is <complete>")
    asked.append((kind, trial, [*changes]))
    return "quick: it is done"


@pytest.fixture
def address(small: Finished) -> Iterator[str]:
    asked.clear()
    server, address = live_server(LiveSweep(small.home, "quick"), 0, ask)
    with server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield address
        server.shutdown()
        thread.join()


def fetch(url: str, body: Any = None) -> tuple[int, str]:
    data = None if body is None else json.dumps(body).encode()
    try:
        with urllib.request.urlopen(urllib.request.Request(url, data), timeout=60) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def test_the_page_and_what_changed_are_served(address: str, small: Finished) -> None:
    status, page = fetch(address)
    assert status == 200
    assert "<title>quick · xlt-ray live</title>" in page
    state = json.loads(fetch(f"{address}state?since=0")[1])
    views = small.ledger.trials()
    assert len(state["rows"]) == len(views) == sum(state["counts"].values())
    assert state["is_running"] is False
    row = state["rows"][0]
    assert (row["objective"], row["seed"]) == (views[0].objective, views[0].seed)
    assert [stage[0] for stage in row["stages"]] == [use.kind for use in views[0].stages]
    again = json.loads(fetch(f"{address}state?since={state['version']}")[1])
    assert again["rows"] == []
    small.ledger.set_run_id(views[-1].number, "ab12")
    late = json.loads(fetch(f"{address}state?since=0")[1])
    assert len(late["rows"]) == len(views)


def test_nothing_is_served_or_asked_without_the_token(address: str) -> None:
    root = address[: address.rstrip("/").rindex("/") + 1]
    request = {"trial": 3, "changes": []}
    for wrong in ("", "state", "stop", "x" * 32 + "/", "x" * 32 + "/state"):
        assert fetch(root + wrong)[0] == 404
        assert fetch(root + wrong, request)[0] == 404
    assert fetch(f"{root}{'x' * 32}/stop", request)[0] == 404
    assert fetch(f"{address}stop")[0] == 404, "a link asks nothing"
    assert asked == []


def test_buttons_ask_and_mistakes_are_answered(address: str) -> None:
    change = ["target.hybrid.ratio=0.5"]
    assert fetch(f"{address}clone", {"trial": 3, "changes": change}) == (
        200, '{"done": "quick: it is done"}',
    )  # fmt: skip
    assert fetch(f"{address}stop", {"trial": 4, "changes": []})[0] == 200
    assert asked == [("clone", 3, change), ("stop", 4, [])]
    status, answer = fetch(f"{address}stop", {"trial": 0, "changes": []})
    assert (status, json.loads(answer)["error"]) == (
        400,
        "quick: trial 0 has ended: it is <complete>",
    )
    for nonsense in ({"trial": "x", "changes": []}, {}, [1]):
        assert fetch(f"{address}stop", nonsense)[0] == 400
    assert fetch(f"{address}stop", {"trial": 4, "changes": ["x" * 70_000]})[0] == 413
    assert fetch(f"{address}pause", {"trial": 4, "changes": []})[0] == 404


def test_a_taken_port_is_a_mistake(address: str, small: Finished) -> None:
    port = int(address.split(":")[2].split("/")[0])
    with pytest.raises(SpecError, match=f"port {port} cannot be used"):
        live_server(LiveSweep(small.home, "quick"), port, ask)
