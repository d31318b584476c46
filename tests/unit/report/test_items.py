"""Items are read where they are asked for, and every way of telling a score has their intervals."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from tests.unit.report.conftest import LANGUAGES, Finished, csv_rows
from xlt_ray.errors import DamagedStage
from xlt_ray.report import item_uncertainty
from xlt_ray.report.comparison import candidate_of, compare, comparison_json
from xlt_ray.report.frames import Snapshot
from xlt_ray.report.results import Results
from xlt_ray.store.evaluation_items import ITEMS, read_items


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Keys of the stages whose items are read."""
    lines: list[str] = []

    def read(store, record):
        lines.append(record.key)
        return read_items(store, record)

    monkeypatch.setattr(item_uncertainty, "read_items", read)
    return lines


def test_a_comparison_says_what_items_say(snapshot: Snapshot, reads: list[str]) -> None:
    candidates = [candidate_of(snapshot, number) for number in (0, 1)]
    assert reads == []
    (comparison,) = compare(candidates)
    assert len(reads) == 2 * len(comparison.seeds)
    rows = {
        tuple(row["languages"]): row
        for row in comparison_json([comparison])["comparisons"][0]["rows"]
    }
    german = rows["qab",]
    assert german["items"] == {"qab": 400}
    assert german["num_items"] == 400
    # Seeds share the intermediate stage of one side.
    assert german["two_level_interval"] == "two_level_given_stages"
    assert german["two_level_low"] <= german["low"] + 1e-6
    assert german["two_level_high"] >= german["high"] - 1e-6
    assert german["items_low"] < german["difference"] < german["items_high"]
    assert 0 < german["items_p"] <= german["items_p_holm"] <= 1
    mean = rows[LANGUAGES]
    # The forty of qaf are translations of forty of the others.
    assert mean["num_items"] == 400
    assert mean["items"]["qaf"] == 40
    assert mean["items_low"] < mean["difference"] < mean["items_high"]
    assert "Fewer than 100 test items: qaf (40)." in comparison.notes
    json.dumps(comparison_json([comparison]), allow_nan=False)


def test_networks_without_items_are_compared_as_before(snapshot: Snapshot) -> None:
    old = {
        key: replace(
            record, files={name: entry for name, entry in record.files.items() if name != ITEMS}
        )
        for key, record in snapshot.records.items()
    }
    before = replace(snapshot, records=old)
    (comparison,) = compare([candidate_of(before, 0), candidate_of(snapshot, 1)])
    assert all(line.items is None for line in comparison.lines)
    assert all(line.paired is not None for line in comparison.lines)
    row = comparison_json([comparison])["comparisons"][0]["rows"][0]
    assert row["num_items"] is row["two_level_low"] is row["items_p"] is None


def test_a_notebook_asks_for_the_intervals_of_some_configurations(
    quick: Finished, reads: list[str]
) -> None:
    results = Results(quick.home, "quick")
    frame = results.intervals(0, 2)
    assert len(reads) == 6
    assert set(frame["configuration"]) == {0, 2}
    assert {*LANGUAGES, "mean", "mean_without_source"} == set(frame["languages"])
    assert set(frame["interval"]) == {"two_level"}
    assert (frame["low"] < frame["value"]).all()
    assert (frame["value"] < frame["high"]).all()
    by_name = frame[frame["configuration"] == 0].set_index("languages")
    assert by_name.loc["qaf", "num_items"] == 40
    widths = by_name["high"] - by_name["low"]
    assert widths["qaf"] > widths["qab"] > widths["mean"]
    assert len(set(results.intervals()["configuration"])) == 1


def test_a_notebook_asks_for_the_items_themselves(quick: Finished) -> None:
    results = Results(quick.home, "quick")
    frame = results.items(0, 2)
    sums = frame.groupby(["number", "language"])[["points", "out_of"]].sum()
    scores = results.scores[
        (results.scores.stage == "evaluate")
        & (results.scores.split == "test")
        & (results.scores.metric == "accuracy")
        & results.scores.configuration.isin([0, 2])
    ].set_index(["number", "language"])
    assert len(sums) == len(scores) == 36
    found = (sums["points"] / sums["out_of"]).sort_index()
    assert found.tolist() == pytest.approx(scores["value"].sort_index().tolist(), abs=1e-5)
    by_item = frame[frame["number"] == frame["number"].min()].groupby("item")["language"].nunique()
    assert (len(by_item), sorted(set(by_item))) == (400, [5, 6])
    assert set(results.items()["configuration"]) == set(results.intervals()["configuration"])


def test_the_page_reads_the_items_of_its_best_configuration_alone(
    quick: Finished, reads: list[str], tmp_path: Path
) -> None:
    page = quick.report(tmp_path)
    assert 0 < len(reads) == len(set(reads)) <= 3
    assert "over seeds and 400 items" in page.read_text(encoding="utf-8")
    rows = csv_rows(page.parent / "tables" / "intervals.csv")
    assert {row["languages"] for row in rows} >= set(LANGUAGES[:5])


def test_a_damaged_file_of_items_is_reported_where_it_is_read(small: Finished) -> None:
    key = small.ledger.trial(0).evaluation_key
    path = Path(small.home.stages) / "stages" / str(key) / ITEMS
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(DamagedStage, match=r"items\.safetensors"):
        Results(small.home, "quick").intervals(0)
