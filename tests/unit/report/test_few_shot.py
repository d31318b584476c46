"""Scores after few shots stand in a table of their own, beside the same stage without shots."""

from __future__ import annotations

import re
from pathlib import Path

import pandas as pd
import pytest

import tests.unit.report.conftest as fixtures
from tests.unit.report.conftest import LANGUAGES, Finished, finished
from xlt_ray.config.trial import TrialSpec
from xlt_ray.errors import LedgerError
from xlt_ray.home import Home
from xlt_ray.ledger import TrialView
from xlt_ray.report.additional_tasks import additional_frame, few_shot_frame, few_shot_tables
from xlt_ray.report.card import model_card
from xlt_ray.report.comparison import candidate_of
from xlt_ray.report.confirmation import confirmation_of, winners
from xlt_ray.report.frames import scores_frame
from xlt_ray.report.provenance import export_metadata, target_use
from xlt_ray.report.selection import header
from xlt_ray.report.tables import tables_of
from xlt_ray.store.record import Score

SWEEP = """
name: few
data: {source: toy}
model: toy:2x64
target: {task: toy-nli, source_language: qaa, size: 800, max_length: 32}
few_shot:
  choice:
    - null
    - {language: {choice: [qab, qac]}, shots: {choice: [5, 10]}, sample: {choice: [0, 1, 2]}}
objective: {metric: accuracy}
search: {sampler: grid, trials: 13, seeds: 1}
"""
BEFORE = dict(zip(LANGUAGES, (0.8, 0.6, 0.5, 0.4, 0.4, 0.4), strict=True))


def scores_of(trial: TrialSpec, view: TrialView) -> tuple[Score, ...]:
    """Shots help by 0.01 each and by 0.02 for the number of the sample, and cost the source 0.1."""
    shots = trial.few_shot
    if shots is None:
        found = [
            ("target", "toy-nli", "test", language, BEFORE[language]) for language in LANGUAGES
        ]
        found.append(("target", "toy-nli", "dev", "qaa", 0.8))
    else:
        after = BEFORE[shots.language] + 0.01 * shots.shots + 0.02 * shots.sample_of(view.seed)
        name = "toy-nli-few-shot"
        found = [
            ("few_shot", name, "test", shots.language, after),
            ("few_shot", name, "test", "qaa", 0.7),
            ("few_shot", name, "dev", "qaa", 0.7 + 0.2 * (shots.shots == 10)),
        ]
    return tuple(
        Score(task, language, split, metric, value - minus, 400, role)  # type: ignore[arg-type]
        for role, task, split, language, value in found
        for metric, minus in (("accuracy", 0.0), ("macro_f1", 0.02))
    )


@pytest.fixture
def _invented_scores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fixtures, "scores_of", scores_of)
    # The fates that other tests give to some configurations of a larger sweep.
    monkeypatch.setattr(fixtures, "end", complete)


@pytest.fixture
def few(tmp_path: Path, _invented_scores: None) -> Finished:
    return finished(Home(tmp_path / "few"), SWEEP)


def complete(run: Finished, view: TrialView) -> None:
    run.ledger.begin_attempt(view.number)
    fixtures.walk(run, view)
    trial = run.sweep.trial_of(dict(view.assignment), fixtures.bounds)
    dev = next(score.value for score in scores_of(trial, view) if score.split == "dev")
    run.ledger.tell_complete(view.number, dev)


def test_every_sample_is_reported_with_what_it_added_to_its_own_target_stage(few: Finished) -> None:
    frame = few_shot_frame(few.snapshot())
    assert len(frame) == 12 * 3 * 2
    own = frame[(frame["language"] == frame["shot_language"]) & (frame["metric"] == "accuracy")]
    assert set(own["split"]) == {"test"}
    expected = 0.01 * own["shots"] + 0.02 * own["sample"]
    pd.testing.assert_series_equal(
        own["gain"], expected.astype(float), check_names=False, check_exact=False
    )
    assert set(frame["task"]) == {"toy-nli"}
    named = [f"few-shot ({language})" for language in frame["shot_language"]]
    assert list(frame["supervision"]) == named
    assert frame["data"].str.len().min() > 0


def test_a_row_is_a_number_of_shots_with_the_spread_over_samples(few: Finished) -> None:
    snapshot = few.snapshot()
    (table,) = few_shot_tables(few_shot_frame(snapshot), snapshot, snapshot.sweep)
    assert [(row.language, row.shots) for row in table.rows] == [
        ("qab", 5), ("qab", 10), ("qac", 5), ("qac", 10),
    ]  # fmt: skip
    row = table.rows[1]
    assert (row.num_samples, row.num_seeds, len(row.configurations)) == (3, 1, 3)
    assert row.score.mean == pytest.approx(0.6 + 0.1 + 0.02)
    assert row.score.deviation == pytest.approx(0.02)
    assert (row.lowest, row.highest) == pytest.approx((0.7, 0.74))
    assert row.zero_shot is not None
    assert row.zero_shot.mean == pytest.approx(0.6)
    assert row.source is not None
    assert row.source_before is not None
    assert (row.source_before.mean, row.source.mean) == pytest.approx((0.8, 0.7))
    # Samples of one seed give no deviation of what was before.
    for before in (row.zero_shot, row.source_before):
        assert (before.deviation, before.num_seeds) == (None, 1)
    assert row.score.num_seeds == 3


def test_no_zero_shot_table_has_a_score_after_shots(few: Finished) -> None:
    snapshot = few.snapshot()
    scores = scores_frame(snapshot)
    assert set(scores[scores["stage"] == "evaluate"]["number"]) == {0}
    assert additional_frame(snapshot).empty
    (table,) = tables_of(snapshot)
    (scored,) = [row for row in table.rows if row.cells]
    assert scored.mean is not None
    assert scored.mean.mean == pytest.approx(sum(BEFORE.values()) / 6)


def test_the_page_says_so_even_where_a_trial_with_shots_is_chosen(few: Finished) -> None:
    snapshot = few.snapshot()
    assert snapshot.best_configuration != 0
    assert "NOT ZERO-SHOT" in header(snapshot.sweep, "qaa")
    page = few.report()
    text = page.read_text()
    assert "After few shots" in text
    assert "are not zero-shot" in text
    assert len(pd.read_csv(page.parent / "tables" / "few-shot.csv")) == 12 * 3 * 2
    (best,) = re.findall(r'<h2 id="best">.*?</section>', text, re.S)
    assert "not zero-shot</span>: few-shot toy-nli 10 qab" in best
    assert "<b>90.0<i> </i></b><span>dev (objective)" in best


@pytest.mark.usefixtures("_invented_scores")
def test_without_the_zero_shot_trial_nothing_is_invented(tmp_path: Path) -> None:
    text = SWEEP.replace("    - null\n", "").replace("trials: 13", "trials: 12")
    alone = finished(Home(tmp_path / "alone"), text)
    snapshot = alone.snapshot()
    frame = few_shot_frame(snapshot)
    assert frame["gain"].isna().all()
    (table,) = few_shot_tables(frame, snapshot, snapshot.sweep)
    assert {row.zero_shot for row in table.rows} == {None}
    assert "After few shots" in alone.report().read_text()


def test_a_plain_sweep_has_none_of_it(small: Finished) -> None:
    snapshot = small.snapshot()
    frame = few_shot_frame(snapshot)
    assert frame.empty
    assert few_shot_tables(frame, snapshot, snapshot.sweep) == []
    assert "few_shot" not in header(snapshot.sweep, "qaa")


def test_an_export_is_of_the_network_after_the_shots_and_says_so(few: Finished) -> None:
    snapshot = few.snapshot()
    view = snapshot.trials[1]
    use = target_use(view)
    assert use is not None
    assert use.kind == "few_shot"

    def describe(_: str) -> dict[str, object]:
        return {
            "title": "NLI", "version": 1, "kind": "pair", "labels": ["a", "b"],
            "metrics": ["accuracy"],
        }  # fmt: skip

    metadata = export_metadata(snapshot, view, is_named=True, describe_task=describe)
    assert "FEW-SHOT" in metadata.selection
    card = model_card(metadata)
    assert "5 labelled examples of qab (few-shot, not zero-shot)" in card
    assert "tags: [xlt-ray, few-shot" in card


def test_a_trial_after_shots_is_not_compared_and_reported_as_what_it_is(few: Finished) -> None:
    snapshot = few.snapshot()
    with pytest.raises(
        LedgerError, match=r"labels of a target language \(few-shot .*not zero-shot"
    ):
        candidate_of(snapshot)
    with pytest.raises(LedgerError, match="with zero-shot scores: 0"):
        candidate_of(snapshot, 3)
    assert candidate_of(snapshot, 0).row.cells


def test_of_a_winner_after_shots_the_objective_alone_is_confirmed(few: Finished) -> None:
    snapshot = few.snapshot()
    (winner,) = winners(snapshot, 1)
    assert winner.assignment["few_shot"] is not None
    confirmation = confirmation_of(snapshot, snapshot, [winner.configuration])
    assert [(row.measure, row.selected) for row in confirmation.rows] == [
        ("objective", winner.objective)
    ]
    assert any("not zero-shot" in note for note in confirmation.notes)
