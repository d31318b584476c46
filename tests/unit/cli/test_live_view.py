"""The live view: a function of a snapshot, readable in a narrow terminal and rich in a wide one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from rich.console import Console

from tests.unit.cli.test_progress import VIEW, failed
from xlt_ray.cli.live_view import live_view
from xlt_ray.cli.progress import LiveReporter
from xlt_ray.cli.snapshot import SweepProgress, SweepSnapshot
from xlt_ray.config.sweep import SweepSpec
from xlt_ray.ledger import StageUse, TrialView
from xlt_ray.sweep.tasks import Report

SIZES = (250, 1000, 4000)


@pytest.fixture
def sweep(sweep_from: Callable[..., SweepSpec]) -> SweepSpec:
    text = (
        "{name: t, data: {source: toy}, model: {choice: ['[bold]m0', m1]}, "
        "target: {task: nli, size: {choice: [250, 1000, 4000]}}, "
    )
    return sweep_from(text + "search: {trials: 50, sampler: random}}")


def drawn(snapshot: SweepSnapshot, width: int = 80, height: int = 24) -> list[str]:
    console = Console(width=width, height=height)
    with console.capture() as shown:
        console.print(live_view(snapshot, width, height))
    return [line.rstrip() for line in shown.get().splitlines()]


def running(number: int, **assignment: str | int) -> TrialView:
    return replace(VIEW, number=number, state="running", assignment=assignment)


def trained(kind: str, examples: int, **metrics: float) -> Report:
    return Report("evaluated", stage=kind, examples=examples, total_examples=1000, metrics=metrics)


def made(seconds: float, made_by: str = "") -> Report:
    use = StageUse("align", "k", "align", bool(made_by), 10, seconds, made_by)
    return Report("stage", stage="align", finished_stage=use)


@pytest.fixture
def progress(sweep: SweepSpec) -> tuple[SweepProgress, list[float]]:
    """A sweep that is followed, and its clock."""
    now = [0.0]
    return SweepProgress(sweep, clock=lambda: now[0]), now


def test_a_view_says_how_far_the_sweep_and_every_trial_is(
    progress: tuple[SweepProgress, list[float]],
) -> None:
    board, now = progress
    board.continues([replace(VIEW, number=0, state="complete", objective=0.75, cause=None)])
    for number in (1, 2):
        board.begun(running(number, **{"target.size": SIZES[number]}))
    board.reported(running(1), made(30.0))
    board.reported(running(2), made(10.0, "t/1"))
    board.reported(running(1), trained("target", 100, loss=0.9, accuracy=0.5))
    now[0] = 100.0
    board.reported(running(1), trained("target", 600, loss=0.25, accuracy=0.8125))
    board.reported(running(2), Report("waiting", stage="target", holder="trial 1 of t"))
    board.timed("about 5 min left")
    for width in (80, 160):
        lines = drawn(board.snapshot(), width)
        assert max(map(len, lines)) <= width
        text = "\n".join(lines)
        for part in ("1 of 50 trials", "2 min so far", "about 5 min left", "best accuracy 0.7500",
                     "sharing saved 25 % (10 s)", "size=1000", "60 %", "0.250", "0.812",
                     "waits for trial 1"):  # fmt: skip
            assert part in text, (width, part, text)
        assert "rate=" not in text, "it is the same in both trials"
        assert len([line for line in lines if "size=" in line]) == 2, "a line for each trial"
    assert "600/1000" in text, "a wide terminal has more columns"
    assert "1 min" in text, "400 examples at 5 a second"


def test_the_step_is_shown_until_the_first_trial_begins(
    progress: tuple[SweepProgress, list[float]],
) -> None:
    board, _ = progress
    board.preparing("starting Ray on this machine")
    assert drawn(board.snapshot())[-1] == "starting Ray on this machine"
    board.begun(VIEW)
    assert "starting Ray" not in "\n".join(drawn(board.snapshot()))


def test_failures_are_grouped_by_cause(progress: tuple[SweepProgress, list[float]]) -> None:
    board, _ = progress
    for number in range(7):
        board.finished(failed(number, "oom", message="CUDA out of\nmemory [/now]"))
    board.finished(failed(9, "nan", message="loss is not finite"))
    lines = [line for line in drawn(board.snapshot(), 100) if "failed" in line]
    assert lines == [
        "7 failed, oom (trials 0, 1, 2, 3, 4, ...): CUDA out of memory [/now]",
        "1 failed, nan (trial 9): loss is not finite",
    ]


def test_many_trials_leave_room_for_the_rest(progress: tuple[SweepProgress, list[float]]) -> None:
    board, _ = progress
    for number in range(200):
        board.begun(running(number, model=f"[bold]m{number}"))
    board.finished(failed(3, "oom"))
    lines = drawn(board.snapshot(), 80, 24)
    assert len(lines) <= 24
    assert "1 failed" in lines[-1]
    assert "more run" in lines[-2]
    assert any("[bold]m0 seed 0" in line for line in lines), (
        "brackets are shown as they are, not read as markup"
    )


def test_a_stage_that_begins_has_no_score_of_another_task(
    progress: tuple[SweepProgress, list[float]],
) -> None:
    board, _ = progress
    board.begun(running(1))
    board.reported(running(1), trained("intermediate", 500, loss=0.5, accuracy=0.9))
    board.reported(running(1), Report("ticked", stage="target", examples=8, total_examples=1000))
    (trial,) = board.snapshot().running
    assert (trial.stage, trial.score, trial.loss) == ("target", None, None)
    board.reported(running(1), Report("lost", cause="timeout", message="it hung"))
    assert board.snapshot().running[0].note == "timeout, tried again"


def test_a_stage_of_an_earlier_attempt_is_not_saved_by_sharing(
    progress: tuple[SweepProgress, list[float]],
) -> None:
    board, _ = progress
    board.begun(running(1))
    board.reported(running(1), made(30.0, "t/1"))
    assert board.snapshot().saved_s == 0


def test_a_warning_stands_above_the_view_without_its_secret(sweep: SweepSpec) -> None:
    console = Console(width=100)
    with console.capture() as shown:
        LiveReporter(sweep, console).warned("MLflow is away [/now], password=s3cret")
    assert "warning: MLflow is away [/now], password=***" in shown.get()
