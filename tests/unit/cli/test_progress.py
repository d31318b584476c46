"""What a run says of failures: one line when it tries again, and a list at its end."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from xlt_ray.cli.output import print_table
from xlt_ray.cli.progress import JsonReporter, LineReporter, echo_event, sentence
from xlt_ray.cli.summary import describe_failures, echo_summary
from xlt_ray.config.sweep import SweepSpec
from xlt_ray.ledger import TrialView
from xlt_ray.store.record import Score, StageRecord
from xlt_ray.store.stage import Stage
from xlt_ray.sweep.runner import SweepSummary
from xlt_ray.sweep.tasks import Report
from xlt_ray.training.events import Committed

VIEW = TrialView(
    number=0, state="failed", assignment={}, configuration=0, repeat=0, seed=0, objective=None,
    curve=(), attempts=1, cause="bug", message="KeyError: 'x'", log="", stages=(),
    mlflow_run_id=None, retry_of=None, started=None, ended=None,
)  # fmt: skip


@pytest.fixture
def sweep(sweep_from: Callable[..., SweepSpec]) -> SweepSpec:
    text = "{name: t, data: {source: toy}, model: toy:2x64, target: {task: nli}, "
    return sweep_from(text + "search: {trials: 500, sampler: random}}")


def failed(number: int, cause: str, log: str = "", **more: Any) -> TrialView:
    return replace(VIEW, number=number, cause=cause, log=log, **more)


def test_without_failures_nothing_is_said() -> None:
    assert list(describe_failures("small", [])) == []


def test_failed_trials_are_listed_by_cause_with_one_command() -> None:
    views = [failed(3, "oom", message="no room"), failed(17, "nan", message="loss"),
             failed(18, "nan", message="loss")]  # fmt: skip
    lines = list(describe_failures("small", views))
    assert lines[0] == "3 failed:"
    assert lines.index("  nan: trials 17, 18: loss") < lines.index("  oom: trial 3: no room")
    assert "    run these again: xlt resume small --where oom" in lines
    assert lines[-1] == "run them again: xlt resume small --failed"


def test_forty_trials_that_failed_alike_are_one_line_and_one_command() -> None:
    lines = list(describe_failures("small", [failed(number, "disk") for number in range(40)]))
    assert len(lines) == 3
    assert "18, 19 and 20 more: KeyError" in lines[1]
    assert lines[2] == "run them again: xlt resume small --failed"


@pytest.mark.parametrize(
    ("is_finished", "failed_ones", "is_reported"),
    [(True, [], True), (False, [], False), (True, [failed(0, "nan")], False)],
)
def test_everything_was_there_only_where_that_is_so(
    sweep: SweepSpec, capsys: pytest.CaptureFixture[str],
    is_finished: bool, failed_ones: list[TrialView], is_reported: bool,
) -> None:  # fmt: skip
    echo_summary(sweep, SweepSummary(tuple(failed_ones), None, 0, 0, is_finished, False))
    assert ("everything was in the store" in capsys.readouterr().out) == is_reported


def test_what_was_stopped_early_has_trained_and_was_not_there_already(
    sweep: SweepSpec, capsys: pytest.CaptureFixture[str]
) -> None:
    pruned = replace(VIEW, state="pruned", cause=None, message="")
    echo_summary(sweep, SweepSummary((pruned,), None, 0, 0, True, False, num_stopped_early=1))
    out = capsys.readouterr().out
    assert "and stopped 1 trial early" in out
    assert "everything was in the store" not in out


@pytest.mark.parametrize("is_finished", [True, False])
def test_the_whole_space_was_tried_only_where_every_trial_has_ended(
    sweep: SweepSpec, capsys: pytest.CaptureFixture[str], is_finished: bool
) -> None:
    echo_summary(sweep, SweepSummary((VIEW,), None, 0, 0, is_finished, False, is_whole_space=True))
    assert ("configurations of the space were tried" in capsys.readouterr().out) == is_finished


def test_the_first_of_each_cause_shows_the_end_of_its_log() -> None:
    log = "\n".join(f"{{}} line {number}" for number in range(40))
    views = [
        failed(number, cause, log.format(*[f"trial {number}"] * 40))
        for number, cause in enumerate(["oom", "oom", "nan"])
    ]
    text = "\n".join(describe_failures("small", views))
    assert "trial 0 line 39" in text
    assert "trial 1 line" not in text
    assert "trial 2 line 39" in text
    assert "line 5" not in text


def test_the_bug_that_most_trials_met_is_the_one_that_is_shown() -> None:
    often = '  File "loop.py", line 7, in train'
    views = [failed(0, "bug", '  File "once.py", line 1, in main'),
             *(failed(number, "bug", often) for number in (1, 2, 3))]  # fmt: skip
    text = "\n".join(describe_failures("small", views))
    assert text.count("loop.py") == 1
    assert "once.py" not in text


@pytest.mark.parametrize(
    ("report", "says"),
    [
        (
            Report("retrying", cause="oom", message="OutOfMemoryError: CUDA out of memory",
                   remedy="with 8 instead of 16 sequences a pass"),
            "oom: OutOfMemoryError: CUDA out of memory; retried with 8 instead of 16 "
            "sequences a pass",
        ),
        (
            Report("lost", cause="timeout", message="it hung", remedy="in another process"),
            "timeout: it hung; retried in another process",
        ),
        (Report("pausing"), ""),
    ],
)  # fmt: skip
def test_one_line_tells_why_a_trial_is_tried_again(
    sweep: SweepSpec, report: Report, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert sentence(report, "accuracy") == says
    LineReporter(sweep).reported(replace(VIEW, number=5), report)
    assert capsys.readouterr().out.count("\n") == bool(says)


def test_a_log_hears_of_a_long_stage_every_two_minutes(
    sweep: SweepSpec, capsys: pytest.CaptureFixture[str]
) -> None:
    now = [0.0]
    board = LineReporter(sweep, clock=lambda: now[0])
    board.begun(VIEW)
    capsys.readouterr()
    for examples in range(300):
        now[0] += 1
        board.reported(VIEW, Report("ticked", stage="align", examples=examples, total_examples=900))
    lines = capsys.readouterr().out.splitlines()
    assert [line.partition(" ")[2] for line in lines] == [
        "trial 0 align 119/900", "trial 0 align 239/900",
    ]  # fmt: skip


def test_a_log_hears_once_what_a_trial_waits_for(
    sweep: SweepSpec, capsys: pytest.CaptureFixture[str]
) -> None:
    board = LineReporter(sweep, clock=lambda: 0.0)
    for holder in ("trial 3 of a", "trial 3 of a", "trial 4 of a", "trial 4 of a"):
        board.reported(VIEW, Report("waiting", stage="target", holder=holder))
    board.finished(VIEW)
    assert capsys.readouterr().out.count("waits for") == 2


def test_json_lines_say_what_happens_and_ticks_only_now_and_then(
    capsys: pytest.CaptureFixture[str],
) -> None:
    now = [1000.0]
    board = JsonReporter(clock=lambda: now[0])
    board.preparing("starting Ray on this machine")
    board.begun(replace(VIEW, assignment={"model": "a"}, state="running"))
    for examples in range(25):
        now[0] += 1
        board.reported(VIEW, Report("ticked", stage="align", examples=examples, total_examples=25))
    board.warned("MLflow rejected password=s3cret")
    board.finished(failed(0, "oom"))
    board.summarized(SweepSummary((VIEW,), None, 2, 50, True, False))
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["event"] for line in lines] == [
        "preparing", "begun", *["ticked"] * 3, "warning", "ended", "summary",
    ]  # fmt: skip
    assert lines[1]["params"] == {"model": "a"}
    assert [line["examples"] for line in lines[2:5]] == [0, 10, 20]
    assert lines[5]["text"] == "MLflow rejected password=***"
    assert (lines[6]["trial"], lines[6]["cause"]) == (0, "oom")
    assert (lines[7]["failed"], lines[7]["best"]) == ([0], None)


def test_scores_of_pairs_and_averaged_weights_are_named_by_their_task(
    capsys: pytest.CaptureFixture[str],
) -> None:
    stage = Stage("evaluate", {}, {}, 0, None, "evaluate toy-nli")
    scores = (
        Score("toy-nli", "qab", "test", "accuracy", 0.5, 10),
        Score("toy-nli-average", "qab", "test", "accuracy", 0.25, 10, "average"),
        Score("toy-nli-pairs", "qaa:qab", "test", "accuracy", 0.75, 10, "pairs"),
    )
    record = StageRecord(stage.key, stage.payload, stage.label, {}, scores=scores)
    echo_event(Committed(stage, record, reused=True))
    lines = [line.split(maxsplit=1)[1] for line in capsys.readouterr().out.splitlines()[1:]]
    assert lines == [
        "toy-nli test qab accuracy 0.5000",
        "toy-nli-average test qab accuracy 0.2500",
        "toy-nli-pairs test qaa:qab accuracy 0.7500",
    ]


def test_a_table_in_a_pipe_has_a_line_for_each_row_and_cuts_nothing(
    capsys: pytest.CaptureFixture[str],
) -> None:
    long = "x" * 300
    rows = [["语", 3.25, long], None, ["a\nb", 10, ""]]
    print_table(["", "size", "note"], rows, title="sizes", legend="the legend", has_numbers=True)
    assert capsys.readouterr().out.splitlines() == [
        "sizes",
        f"     size  {'note':>300}",
        f"---  ----  {'-' * 300}",
        f"语   3.25  {long}",
        f"---  ----  {'-' * 300}",
        "a b    10",
        "the legend",
    ]


def test_brackets_in_a_table_are_shown_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(["model"], [["[/x]"], ["models/[bold]m"]], empty="none")
    output = capsys.readouterr().out
    assert "[/x]" in output
    assert "models/[bold]m" in output
