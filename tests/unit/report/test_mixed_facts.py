"""Trials that were made with other data, weights or code than others are marked wherever shown."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from tests.unit.report.conftest import Finished, bounds, csv_rows, end, sized
from xlt_ray.config.sweep import sweep_of
from xlt_ray.config.yaml import parse_document
from xlt_ray.home import Home
from xlt_ray.ledger import Ledger, MadeWith, mixed_facts, open_ledger
from xlt_ray.report.comparison import _science, candidate_of, compare
from xlt_ray.report.confirmation import confirmation_of
from xlt_ray.report.provenance import weights_of
from xlt_ray.report.results import Results
from xlt_ray.store.store import StageStore
from xlt_ray.tracking.mlflow_fields import LedgerSnapshot, sweep_note, trial_tags

BEFORE = MadeWith(
    {"nli qaa train": "1" * 20, "nli qab test": "2" * 20}, {"torch": "2.12"}, "a" * 40
)
AFTER = MadeWith({"nli qaa train": "3" * 20, "nli qab test": "2" * 20}, {"torch": "2.13"}, "b" * 40)


def made_with(home: Home, *starts: MadeWith) -> Finished:
    """A sweep of one trial for each start, the last start making the rest."""
    text = sized(4)
    sweep = sweep_of(parse_document(text, "quick.yaml"))
    found = Finished(home, sweep, Ledger.__new__(Ledger), StageStore(home.stages))
    for start in starts:
        ledger = open_ledger(home, sweep, start, accept_changes=True)
        found = replace(found, ledger=ledger)
        while (asked_trial := ledger.ask(sweep, bounds)) is not None:
            end(found, ledger.trial(asked_trial.number))
            if start is not starts[-1]:
                break
    return found


@pytest.fixture
def mixed(home: Home) -> Finished:
    return made_with(home, BEFORE, BEFORE, AFTER)


def test_every_table_and_the_page_say_so(mixed: Finished) -> None:
    page = mixed.report()
    text = page.read_text()
    assert "Mixed facts" in text
    assert "Chosen among mixed facts" in text
    assert "nli qaa train: 1111111111 -&gt; 3333333333" in text
    assert "torch 2.12" in text
    assert "b" * 40 in text
    assert "<small>facts 1</small>" in text
    assert "<small>facts 2</small>" in text
    rows = csv_rows((page.parent / "tables/trials.csv").read_text())
    assert [row["facts"] for row in rows] == ["1", "1", "2", "2"]
    (table,) = (page.parent / "tables").glob("*-languages.csv")
    rows = csv_rows(table.read_text())
    assert {row["configuration"]: row["facts"] for row in rows} == {
        "0": "1", "1": "1", "2": "2", "3": "2",
    }  # fmt: skip
    scores = csv_rows((page.parent / "tables/scores.csv").read_text())
    assert {(row["number"], row["facts"]) for row in scores} == set(
        zip("0123", "1122", strict=True)
    )
    note = "(facts: configurations): 1: 0, 1; 2: 2, 3."
    assert note in " ".join(table.with_suffix(".tex").read_text().split())


def test_nothing_is_said_where_nothing_changed(home: Home) -> None:
    start = made_with(home, BEFORE, replace(BEFORE, versions={"torch": "2.14"}))
    page = start.report()
    text = page.read_text()
    assert "ixed facts" not in text
    assert "<small>facts" not in text
    assert "torch 2.14" in text, "every start stands on the page, with its versions"
    (table,) = (page.parent / "tables").glob("*-languages.tex")
    assert "MIXED" not in table.read_text()


def test_mlflow_shows_the_facts_of_every_trial_and_says_where_they_are_mixed(
    mixed: Finished,
) -> None:
    views = mixed.ledger.trials()
    assert [trial_tags(view, "complete")["xlt.facts"] for view in views] == ["1", "1", "2", "2"]
    assert trial_tags(replace(views[0], facts=0), "complete")["xlt.facts"] == ""
    ledger = LedgerSnapshot.of(mixed.ledger)
    note = sweep_note(ledger, None)
    assert f"**Mixed facts**: {mixed_facts(views)}." in note
    assert "Mixed" not in sweep_note(replace(ledger, trials=ledger.trials[:2], best=None), None)


def test_a_comparison_tells_versions_and_seeds_of_different_facts(mixed: Finished) -> None:
    snapshot = mixed.snapshot()
    first, second = candidate_of(snapshot, 0), candidate_of(snapshot, 2)
    assert (first.facts, second.facts) == ({1}, {2})
    newer = replace(second, versions=frozenset({'{"commit": "new"}'}), facts=frozenset({1, 2}))
    (comparison,) = compare([first, newer])
    assert any("different versions" in note and "new" in note for note in comparison.notes)
    assert any("sets 1+2" in note and "quick/2" in note for note in comparison.notes)
    (plain,) = compare([first, second])
    assert not any("versions" in note or "facts" in note for note in plain.notes)


def test_models_are_distinguished_by_their_weights(mixed: Finished) -> None:
    snapshot = mixed.snapshot()
    view = next(trial for trial in snapshot.trials if trial.facts == 1)
    name = str(view.assignment["model"])
    kept = replace(snapshot, fact_sets={1: {f"model {name}": "w" * 64}})
    assert weights_of(kept, view) == "w" * 64
    assert weights_of(snapshot, view) == "", "nobody kept it"
    # Two revisions of one model are two configurations, whatever else they have in common.
    searched = {**snapshot.sweep, "space": {**snapshot.sweep["space"], "model": {"choice": [
        {"name": "org/e", "revision": "v1"}, {"name": "org/e", "revision": "v2"}]}}}  # fmt: skip
    both = replace(
        snapshot,
        sweep=searched,
        fact_sets={1: {"model org/e@v1": "1" * 40, "model org/e@v2": "2" * 40}},
    )
    views = [
        replace(view, assignment={**view.assignment, "model": json.dumps(option)})
        for option in searched["space"]["model"]["choice"]
    ]
    assert [weights_of(both, view) for view in views] == ["1" * 40, "2" * 40]
    assert _science(both, views[0]) != _science(both, views[1])


def test_a_confirmation_on_other_data_says_so(mixed: Finished) -> None:
    snapshot = mixed.snapshot()
    fresh = replace(snapshot, trials=tuple(replace(trial, facts=2) for trial in snapshot.trials))
    (note,) = [
        note for note in confirmation_of(snapshot, fresh, [0]).notes if "selected with" in note
    ]
    assert note.endswith(": nli qaa train: 1111111111 -> 3333333333")
    same = replace(snapshot, trials=tuple(replace(trial, facts=1) for trial in snapshot.trials))
    assert not [
        note for note in confirmation_of(snapshot, same, [0]).notes if "selected with" in note
    ]
    assert Results(mixed.home, "quick").trials["facts"].tolist() == [1, 1, 2, 2]
