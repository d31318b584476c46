"""What further objectives and constraints measure of a finished trial."""

from __future__ import annotations

import pytest

from tests.unit.sweep.conftest import Start, scores_of
from xlt_ray.store.record import Score

SEVERAL = (
    "objective=[{metric: accuracy}, worst_language, target_mean, hours]",
    "constraints=[qab >= 0.3, qaa >= 0.5, hours <= 1]",
)


def test_a_trial_is_measured_by_all_objectives(start: Start) -> None:
    driver = start(*SEVERAL, "evaluate={languages: [qaa, qab, qac]}")
    task = driver.begin_next()
    driver.make(task)
    scores = (*scores_of(0.5), Score("nli", "qac", "dev", "accuracy", 0.4, 50))
    view = driver.end(task, "complete", scores=scores)
    # Three stages of 2 seconds each.
    assert view.objectives == (0.5, 0.25, pytest.approx(0.325), pytest.approx(6 / 3600))
    assert view.violated == ("qab >= 0.3",)
    assert view.constraints["qaa >= 0.5"] == 0.0
    # The second trial reuses a stage, and costs the same.
    task = driver.begin_next()
    driver.make(task)
    assert driver.end(task, "complete", scores=scores).further[-1] == view.further[-1]


def test_a_language_without_a_score_fails_its_trial(start: Start) -> None:
    driver = start(*SEVERAL, "evaluate={languages: [qaa, qab, qac]}")
    view = driver.complete(driver.next())
    assert (view.state, view.cause) == ("failed", "data")
    assert "no dev score in qac" in view.message
