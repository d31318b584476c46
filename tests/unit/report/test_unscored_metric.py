"""A metric that stored evaluations lack is missing in what is written of them, and breaks none."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.command import Xlt
from tests.unit.report import conftest as fixtures
from tests.unit.report.conftest import Finished, finished, sized
from tests.unit.report.test_card import exported
from xlt_ray.config.trial import TrialSpec
from xlt_ray.home import Home
from xlt_ray.ledger import TrialView
from xlt_ray.report.additional_tasks import few_shot_frame
from xlt_ray.report.card import model_card
from xlt_ray.report.xtreme import xtreme_frame
from xlt_ray.store.record import Score

TEXT = sized(3).replace("metric: accuracy", "metric: macro_f1")


@pytest.fixture(params=[True, False], ids=["of all trials", "of one trial"])
def lacking(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, home: Home
) -> Finished:
    """A sweep by ``macro_f1`` whose evaluations, all or the first, were scored without it."""
    scores_of: Callable[[TrialSpec, TrialView], tuple[Score, ...]] = fixtures.scores_of

    def without(trial: TrialSpec, view: TrialView) -> tuple[Score, ...]:
        scores = scores_of(trial, view)
        if request.param or view.number == 0:
            return tuple(score for score in scores if score.metric != "macro_f1")
        return scores

    monkeypatch.setattr(fixtures, "scores_of", without)
    return finished(home, TEXT)


def test_reports_tables_and_cards_are_written(lacking: Finished, tmp_path: Path) -> None:
    snapshot = lacking.snapshot()
    page = lacking.report(tmp_path / "report")
    assert page.is_file()
    assert few_shot_frame(snapshot).empty
    assert len(xtreme_frame([snapshot])) == 0
    view = next(trial for trial in snapshot.trials if trial.state == "complete")
    card = model_card(exported(snapshot, view))
    assert "test accuracy" in card
    assert "test macro_f1" in card


@pytest.mark.usefixtures("lacking")
@pytest.mark.parametrize(
    "command",
    [("report", "quick"), ("trials", "quick"), ("trials", "quick", "--json"),
     ("compare", "quick/0", "quick/1"), ("status",)],
)  # fmt: skip
def test_a_command_ends_well_or_says_what_is_missing(xlt: Xlt, command: tuple[str, ...]) -> None:
    output = xlt(*command)
    if output.code:
        assert command[0] == "compare"
        assert "has no test scores of macro_f1" in output.err
    assert "Traceback" not in output.err
