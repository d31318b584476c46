"""What an export says of itself: nothing that is missing is hidden, and every rule is named."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.unit.report.conftest import NOWHERE_SCORED, Finished
from xlt_ray.config.export_metadata import FILE, Exported, read_exported
from xlt_ray.data.task import task_named
from xlt_ray.errors import LedgerError
from xlt_ray.ledger import TrialView
from xlt_ray.report.card import model_card
from xlt_ray.report.frames import Snapshot
from xlt_ray.report.provenance import export_metadata, exportable, model_of, target_use


def describe(name: str) -> dict[str, Any]:
    return {**task_named(name).model_dump(mode="json"), "licence": f"licence of {name}"}


def exported(snapshot: Snapshot, view: TrialView, *, is_named: bool = False) -> Exported:
    return export_metadata(snapshot, view, is_named=is_named, describe_task=describe)


def complete(snapshot: Snapshot, configuration: int) -> TrialView:
    return next(
        trial
        for trial in snapshot.trials
        if trial.configuration == configuration and trial.state == "complete"
    )


def table(card: str, head: str) -> list[list[str]]:
    """Rows of the table whose first column is called ``head``."""
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in card.splitlines()
             if line.startswith("|")]  # fmt: skip
    begin = next(place for place, line in enumerate(lines) if line[0] == head)
    return [line for line in lines[begin + 2 :] if len(line) == len(lines[begin])]


def test_scores_have_the_source_first_and_missing_languages_in_plain_sight(
    snapshot: Snapshot,
) -> None:
    card = model_card(exported(snapshot, complete(snapshot, NOWHERE_SCORED)))
    rows = table(card, "language")
    assert [row[0] for row in rows] == ["qaa", "qab", "qac", "qad", "qae", "qaf"]
    assert set(rows[-1][1:]) == {"–"}
    assert "–" not in rows[0]
    assert "No mean is given: test accuracy is missing in qaf." in card


def test_a_mean_is_given_where_no_language_is_missing(snapshot: Snapshot) -> None:
    metadata = exported(snapshot, complete(snapshot, 0))
    values = {
        score.language: score.value
        for score in metadata.scores
        if (score.split, score.metric) == ("test", "accuracy")
    }
    mean = 100 * sum(values.values()) / 6
    assert f"Mean test accuracy over 6 languages: {mean:.1f}; without qaa:" in model_card(metadata)


def test_the_rule_of_selection_is_reported(snapshot: Snapshot, quick: Finished) -> None:
    best = quick.ledger.best()
    assert best is not None
    metadata = exported(snapshot, best.trial)
    number = len({trial.configuration for trial in snapshot.trials
                  if trial.state in ("complete", "pruned")})  # fmt: skip
    assert f"Configuration {best.configuration} is the best of {number}" in metadata.selection
    assert f"trial {best.trial.number} is the best of its {best.num_seeds}" in metadata.selection
    assert "chosen by accuracy on the dev set of qaa" in metadata.selection
    assert "named by hand" in exported(snapshot, best.trial, is_named=True).selection
    assert "ORACLE" not in metadata.selection
    objective = {**snapshot.sweep["objective"], "languages": "target"}
    oracle = replace(snapshot, sweep={**snapshot.sweep, "objective": objective})
    assert "ORACLE SELECTION" in exported(oracle, best.trial).selection


def test_stages_that_were_freed_are_named_as_such(snapshot: Snapshot) -> None:
    view = next(
        trial
        for trial in snapshot.trials
        if trial.state == "complete" and any(use.kind == "intermediate" for use in trial.stages)
    )
    (use,) = [stage for stage in view.stages if stage.kind == "intermediate"]
    records = {key: record for key, record in snapshot.records.items() if key != use.key}
    metadata = exported(replace(snapshot, records=records), view)
    (freed,) = [stage for stage in metadata.stages if stage.is_freed]
    assert (freed.key, freed.label) == (use.key, use.label)
    (row,) = [row for row in table(model_card(metadata), "stage") if row[0] == use.label]
    assert row[2] == "freed"
    whole = exported(snapshot, view)
    assert not any(stage.is_freed for stage in whole.stages)
    assert "licence of toy-paraphrase" in model_card(whole)
    assert whole.stages[-1].commit == "0123abc"
    assert "Made by commit `0123abc`." in model_card(whole)


def test_trials_without_a_target_stage_in_the_store_are_refused(snapshot: Snapshot) -> None:
    with pytest.raises(LedgerError, match="no trial is complete yet"):
        exportable(snapshot, None)
    pruned = next(trial for trial in snapshot.trials if trial.state == "pruned")
    with pytest.raises(LedgerError, match=r"is pruned and has no target stage; those that have: "):
        exportable(snapshot, pruned)
    view = complete(snapshot, 0)
    use = target_use(view)
    assert use is not None
    records = {key: record for key, record in snapshot.records.items() if key != use.key}
    with pytest.raises(LedgerError, match=rf"xlt stage quick --trial {view.number} --until target"):
        exportable(replace(snapshot, records=records), view)


def test_a_task_that_has_changed_its_meaning_since_is_refused(snapshot: Snapshot) -> None:
    with pytest.raises(LedgerError, match="version 1 of the task toy-nli, this xlt-ray has versi"):
        export_metadata(
            snapshot,
            complete(snapshot, 0),
            is_named=False,
            describe_task=lambda name: {**describe(name), "version": 2},
        )


def test_a_model_in_a_folder_is_called_by_its_name_alone(tmp_path: Path) -> None:
    block = {"name": str(tmp_path / "mini"), "trust_remote_code": True}
    assert model_of({"space": {"model": block}}, {}) == ("mini", True)
    several = {"space": {"model": {"choice": ["xlm-roberta-base", "a/b"]}}}
    assert model_of(several, {"model": "a/b"}) == ("a/b", False)


def test_what_is_written_is_what_is_read(snapshot: Snapshot, tmp_path: Path) -> None:
    metadata = exported(snapshot, complete(snapshot, 0))
    (tmp_path / FILE).write_text(metadata.model_dump_json())
    assert read_exported(tmp_path) == metadata
