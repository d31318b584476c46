"""``xlt stop``, ``xlt clone``, ``xlt set`` and ``xlt pause`` where no driver runs."""

from __future__ import annotations

import pytest

from tests.command import Xlt
from xlt_ray.config.sweep import sweep_of
from xlt_ray.config.yaml import parse_document
from xlt_ray.home import Home
from xlt_ray.ledger import open_ledger

TEXT = """
name: small
data: {source: toy}
model: toy:2x64
target: {task: toy-nli, source_language: qaa, learning_rate: {float: [1e-5, 1e-3]}}
search: {trials: 2, sampler: random}
"""


@pytest.fixture(autouse=True)
def _asked(home: Home) -> None:
    """A sweep whose driver has asked one trial."""
    sweep = sweep_of(parse_document(TEXT, "small.yaml"))
    open_ledger(home, sweep).ask(sweep, lambda _: {})


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("stop small --trial 0", "small: trial 0 stopped"),
        ("clone small --trial 0 target.learning_rate=1e-4",
         "small: trial 0 cloned with target.learning_rate=0.0001"),
        ("set small search.trials=3 budget.hours=2",
         "small: search.trials set to 3, budget.hours set to 2.0"),
    ],
)  # fmt: skip
def test_a_request_waits_for_the_next_run(xlt: Xlt, home: Home, command: str, message: str) -> None:
    done = xlt(*command.split())
    assert (done.code, done.err) == (0, "")
    assert done.out == f"{message}; no driver runs: it is done at the next xlt resume small\n"
    assert len(list(home.requests("small").iterdir())) == 1


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("stop small --trial 4", "there is no trial 4"),
        ("clone small --trial 0 target.learning_rte=1", "did you mean target.learning_rate?"),
        ("clone small --trial 0 target.learning_rate=1", "from 1e-05 to 0.001"),
        ("set small budget.gpu_hours=-4", "must be greater than 0"),
        ("set small search.seeds=4", "cannot change in a sweep that exists"),
        ("pause small", "small: does not run; xlt resume small continues it"),
    ],
)
def test_what_cannot_be_done_leaves_no_request(
    xlt: Xlt, home: Home, command: str, message: str
) -> None:
    done = xlt(*command.split())
    assert (done.code, message in done.err) == (2, True), done.err
    assert not home.requests("small").exists()
