"""What a run says of failures: one line when it tries again, and a list at its end."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from xlt_ray.cli.board import SHOWN, LineBoard, TableBoard, complaints, sentence
from xlt_ray.ledger import TrialView
from xlt_ray.spec.sweep import SweepSpec
from xlt_ray.sweep.order import Report

VIEW = TrialView(
    number=0, state="failed", assignment={}, configuration=0, repeat=0, seed=0, objective=None,
    curve=(), attempts=1, cause="bug", message="KeyError: 'x'", log="", stages=(),
    mlflow_run_id=None, retry_of=None, started=None, ended=None,
)  # fmt: skip


def failed(number: int, cause: str, log: str = "", **more: Any) -> TrialView:
    return replace(VIEW, number=number, cause=cause, log=log, **more)


def test_without_failures_nothing_is_said() -> None:
    assert list(complaints("small", [])) == []


def test_every_failed_trial_is_listed_with_cause_message_and_command() -> None:
    lines = list(complaints("small", [failed(3, "oom", message="no room"), failed(17, "nan")]))
    assert lines[0] == "2 failed:"
    assert "  trial 3: oom: no room" in lines
    assert "    again: xlt resume small --trial 3" in lines
    assert "    again: xlt resume small --trial 17" in lines
    assert lines[-1] == "run them again: xlt resume small --failed"


def test_the_first_of_each_cause_shows_the_end_of_its_log() -> None:
    log = "\n".join(f"{{}} line {number}" for number in range(40))
    views = [
        failed(number, cause, log.format(*[f"trial {number}"] * 40))
        for number, cause in enumerate(["oom", "oom", "nan"])
    ]
    text = "\n".join(complaints("small", views))
    assert "trial 0 line 39" in text
    assert "trial 1 line" not in text
    assert "trial 2 line 39" in text
    assert "line 5" not in text


def test_the_bug_that_most_trials_met_is_the_one_that_is_shown() -> None:
    often = '  File "loop.py", line 7, in train'
    views = [failed(0, "bug", '  File "once.py", line 1, in main'),
             *(failed(number, "bug", often) for number in (1, 2, 3))]  # fmt: skip
    text = "\n".join(complaints("small", views))
    assert text.count("loop.py") == 1
    assert "once.py" not in text


@pytest.mark.parametrize(
    ("report", "says"),
    [
        (
            Report("retrying", cause="oom", message="OutOfMemoryError: CUDA out of memory",
                   remedy="with 8 instead of 16 sequences a pass"),
            "oom: OutOfMemoryError: CUDA out of memory; tried again with 8 instead of 16 "
            "sequences a pass",
        ),
        (
            Report("lost", cause="timeout", message="it hung", remedy="in another process"),
            "timeout: it hung; tried again in another process",
        ),
        (Report("pausing"), ""),
    ],
)  # fmt: skip
def test_one_line_tells_why_a_trial_is_tried_again(
    report: Report, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert sentence(report, "accuracy") == says
    LineBoard("accuracy").heard(replace(VIEW, number=5), report)
    assert capsys.readouterr().out.count("\n") == bool(says)


def test_the_table_shows_those_that_run_then_the_latest_that_ended(
    sweep_from: Callable[..., SweepSpec],
) -> None:
    from rich.console import Console

    text = "{name: t, data: {source: toy}, model: toy:2x64, target: {task: nli}, "
    board = TableBoard(sweep_from(text + "search: {trials: 500, sampler: random}}"), "accuracy")
    for number in range(200):
        board.begun(replace(VIEW, number=number, state="running"))
        if number != 3:
            board.finished(failed(number, "oom"))
    console = Console(width=120)
    with console.capture() as shown:
        console.print(board.render())
    lines = shown.get().splitlines()
    assert "199 trials ended in this run, 500 in all" in lines[0]
    numbers = [int(line.split()[1]) for line in lines if "seed=" in line]
    assert numbers == [3, *range(199, 200 - SHOWN, -1)]
