"""Number of items, chance and networks that say one thing stand beside scores, everywhere."""

from __future__ import annotations

import dataclasses
import json
import re

import pandas as pd
import pytest

from tests.unit.report.conftest import NEAR_CONSTANT, Finished, csv_rows
from xlt_ray.cli.listings import trial_row
from xlt_ray.report.additional_tasks import ADDITIONAL_COLUMNS, additional_csv, additional_tables
from xlt_ray.report.frames import typed
from xlt_ray.report.latex_tables import groups_tex, table_csv, table_tex
from xlt_ray.report.tables import (
    MIN_GROUP_ITEMS,
    Constant,
    Evidence,
    LanguageTable,
    evidence_of,
    groups_of,
)
from xlt_ray.store.record import Score, StageRecord
from xlt_ray.tracking.mlflow_fields import final_metrics, score_table, score_tags

CONFIGURATION, REPEAT = NEAR_CONSTANT


def test_a_table_knows_items_chance_and_constant_networks(table: LanguageTable) -> None:
    assert table.evidence.sizes == {"qaf": 40} | dict.fromkeys(table.languages[:-1], 400)
    assert set(table.evidence.chance.values()) == {0.36}
    assert table.evidence.small == ("qaf",)
    assert table.evidence.cut == {"qac": 0.25}
    assert {row.configuration: row.near_constant for row in table.rows if row.near_constant} == {
        CONFIGURATION: {"qab": Constant(0.985, 1)}
    }


def test_a_network_is_near_constant_by_what_is_right_not_by_a_fixed_share() -> None:
    score = Score("ner", "de", "test", "f1", 0.8, 90, num_items=90)

    def is_flagged(share: float, gold: float) -> bool:
        found = dataclasses.replace(score, top_share=share, gold_top_share=gold)
        return found.is_near_constant

    # Most words of a right network are O where most are O in the gold data.
    assert not is_flagged(0.95, 0.93)
    assert is_flagged(0.998, 0.93)
    assert is_flagged(0.96, 0.5)
    assert not is_flagged(0.94, 0.5)
    assert is_flagged(1.0, 0.1)
    assert not is_flagged(1.0, 1.0)
    assert not score.is_near_constant


def test_a_group_rests_on_no_language_with_a_handful_of_items() -> None:
    groupings = {"family": {"one": ["de", "yo"], "other": ["fr"], "few": ["yo"]}}
    evidence = Evidence({"en": 900, "de": 900, "fr": 900, "yo": MIN_GROUP_ITEMS - 1})
    groups = groups_of(groupings, ["en", "de", "fr", "yo"], "en", evidence.without_groups)
    assert {group.name: group.languages for group in groups} == {"one": ("de",), "other": ("fr",)}
    assert "No group holds yo" in evidence.groups_note()
    assert "yo (29)" in evidence.small_note()


def test_scores_of_older_stages_know_their_examples_alone() -> None:
    frame = pd.DataFrame(
        {"language": ["de", "de"], "num_items": [pd.NA, pd.NA], "num_examples": [90, 90]}
    ).assign(chance=float("nan"), cut=float("nan"))
    assert evidence_of(frame) == Evidence({"de": 90}, {})
    record = StageRecord("k", {"kind": "evaluate"}, "", {}, (Score("a", "b", "c", "d", 0.5, 9),))
    tree = json.loads(json.dumps(record.to_json()))
    for name in ("num_items", "top_share", "gold_top_share", "chance", "cut"):
        del tree["scores"][0][name]
    assert StageRecord.from_json(tree) == record
    assert not record.scores[0].is_near_constant


def test_files_say_it(quick: Finished, table: LanguageTable) -> None:
    sweep = quick.ledger.sweep
    lines = csv_rows(table_csv(table, sweep))
    assert {line["qaf_items"] for line in lines} == {"40"}
    assert {line["qab_chance"] for line in lines} == {"0.36"}
    assert {(line["qab_cut"], line["qac_cut"]) for line in lines} == {("", "0.25")}
    shares = {int(line["configuration"]): line["qab_near_constant"] for line in lines}
    assert shares.pop(CONFIGURATION) == "0.985"
    assert set(shares.values()) == {""}
    text = table_tex(table, sweep)
    assert text.count("40$^{*}$") == 1
    assert text.count("chance & ") >= 1
    assert text.count(r"$^{\equiv}$") == 1
    assert "fewer than 100 test items" in text
    assert r"max\_length cuts examples" in text
    assert r"qac 25 \%" in text
    few = dataclasses.replace(table, evidence=Evidence({"qae": 3}))
    assert "No group holds qae: fewer than 30 test items." in groups_tex(few, sweep)


def test_the_page_says_it(quick: Finished, tmp_path) -> None:
    page = quick.report(tmp_path).read_text(encoding="utf-8")
    assert page.count("98 % of the predictions are the same") == 1
    assert re.search(r"<td[^>]*>chance</td>(<td class=\"n\">36.0</td>){6}", page)
    assert "40 ⚠" in page
    assert "Fewer than 100 test items: qaf (40)." in page


def test_tables_of_further_tasks_say_it() -> None:
    rows = [
        {"number": number, "configuration": number, "seed": 0, "supervision": "zero_shot",
         "role": "further", "task": "tatoeba", "source_language": "en", "language": code,
         "split": "test", "metric": "accuracy", "value": 0.1, "num_examples": size,
         "num_items": size, "chance": 1 / size, "top_share": share,
         "is_near_constant": share > 0.9}
        for number in (0, 1)
        for code, size, share in (("de", 1000, 0.01), ("yo", 60, 0.95 * number))
    ]  # fmt: skip
    frame = typed(pd.DataFrame(rows).reindex(columns=ADDITIONAL_COLUMNS))
    (table,) = additional_tables(frame, {"objective": {"metric": "accuracy"}})
    assert table.evidence.sizes == {"de": 1000, "yo": 60}
    assert [set(row.near_constant) for row in table.rows] == [set(), {"yo"}]
    assert "configuration 1 in yo" in table.constant_note
    first, second = csv_rows(additional_csv(table))
    assert (first["yo_items"], first["yo_near_constant"]) == ("60", "")
    assert (second["de_chance"], second["yo_near_constant"]) == ("0.001", "0.95")


def test_listings_and_runs_say_it(quick: Finished) -> None:
    view = next(
        trial
        for trial in quick.ledger.trials()
        if (trial.configuration, trial.repeat) == (CONFIGURATION, REPEAT)
    )
    row = trial_row(view, quick.store, "quick", "complete")
    assert row["evidence"]["toy-nli"]["qab"] == {
        "num_items": 400,
        "top_share": 0.985,
        "is_near_constant": True,
        "cut": 0.0,
        "chance": {"accuracy": 0.36, "macro_f1": 0.176},
    }
    record = quick.store.record(view.evaluation_key or "")
    assert record is not None
    assert score_tags(record.scores, "accuracy")["xlt.near_constant"] == "qab"
    metrics = final_metrics(view, record.scores, "accuracy", "qaa")
    assert metrics["test/accuracy/chance_mean"] == pytest.approx(0.36)
    table = json.loads(score_table(record.scores))
    assert table["columns"][-5:] == ["num_items", "chance", "cut", "top_share", "is_near_constant"]
    assert sum(line[-1] for line in table["data"]) == 2
