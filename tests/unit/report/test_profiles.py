"""Diagnostics as a frame, as a figure and on the page."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from tests.unit.report.conftest import Finished, csv_rows
from xlt_ray import Results
from xlt_ray.config.languages import Language
from xlt_ray.report import page
from xlt_ray.report.figures.parameters import (
    PROFILE_COLUMNS,
    finished,
    profile_figure,
    profiles_frame,
)
from xlt_ray.report.frames import Snapshot
from xlt_ray.store.record import Profile, StageRecord

VALUES = {"qab": (0.2, 0.6, 0.8), "qac": (0.2, 0.4, 0.6), "qaf": (0.1, None, 0.3)}
STEPS = {"intermediate": (0, 50), "target": (0, 100), "evaluate": (None,)}
GAIN = {"intermediate": 0.0, "target": 0.05, "evaluate": 0.1}


def profiles_of(record: StageRecord) -> tuple[Profile, ...]:
    return tuple(
        Profile(
            diagnostic=name,
            source_language="qaa",
            language=language,
            values=tuple(value if value is None else value + GAIN[record.kind] for value in values),
            num_sentences=256,
            step=step,
            examples=None if step is None else 16 * step,
        )
        for step in STEPS[record.kind]
        for name in ("cka", "retrieval")
        for language, values in VALUES.items()
    )


@pytest.fixture
def diagnosed(small: Finished) -> Snapshot:
    snapshot = small.snapshot()
    records: Mapping[str, StageRecord] = {
        key: replace(record, profiles=profiles_of(record))
        for key, record in snapshot.records.items()
    }
    return replace(snapshot, records=records)


def test_the_frame_has_a_row_for_every_layer(diagnosed: Snapshot) -> None:
    frame = profiles_frame(diagnosed)
    assert tuple(frame.columns) == PROFILE_COLUMNS
    view = diagnosed.trials[0]
    own = frame[frame["number"] == view.number]
    kinds = [stage.kind for stage in view.stages]
    assert list(dict.fromkeys(own["stage"])) == kinds
    assert len(own) == sum(len(STEPS[kind]) for kind in kinds) * 2 * 3 * 3
    last = own[(own["stage"] == "evaluate") & (own["diagnostic"] == "cka")]
    assert last["step"].isna().all()
    assert last[last["language"] == "qab"]["value"].tolist() == pytest.approx([0.3, 0.7, 0.9])
    assert last[last["language"] == "qaf"]["value"].isna().tolist() == [False, True, False]
    assert set(own[own["stage"] == "target"]["step"]) == {0, 100}


def test_the_figure_shows_classes_of_resources_before_and_after(diagnosed: Snapshot) -> None:
    frame = profiles_frame(diagnosed)
    best = int(finished(frame)["configuration"].iloc[0])
    figure = profile_figure(frame, best)
    assert figure is not None
    rows = csv_rows(figure.csv)
    has_intermediate = (frame[frame["configuration"] == best]["stage"] == "intermediate").any()
    before = {"before intermediate", "before target"} if has_intermediate else {"before target"}
    assert {row["moment"] for row in rows} == {"after training", *before}
    assert {row["resources"] for row in rows} == {"high", "medium", "low"}
    values = {
        (row["diagnostic"], row["resources"], row["moment"], int(row["layer"])): float(row["value"])
        for row in rows
    }
    assert values["cka", "high", "after training", 1] == pytest.approx(0.7)
    assert values["cka", "high", "before target", 1] == pytest.approx(0.65)
    assert ("cka", "low", "after training", 1) not in values
    assert "dashed" in figure.caption
    again = profile_figure(frame, best)
    assert again is not None
    assert (figure.svg, figure.csv) == (again.svg, again.csv)


def test_languages_of_unknown_resources_are_one_group(
    diagnosed: Snapshot, monkeypatch: pytest.MonkeyPatch
) -> None:
    unknown = Language("qab", "qab", "unknown", "unknown", "unknown")
    monkeypatch.setattr("xlt_ray.report.figures.parameters.language", lambda _: unknown)
    frame = profiles_frame(diagnosed)
    figure = profile_figure(frame, int(finished(frame)["configuration"].iloc[0]))
    assert figure is not None
    rows = csv_rows(figure.csv)
    assert {row["languages"] for row in rows} == {"qab+qac+qaf"}
    values = {
        int(row["layer"]): float(row["value"])
        for row in rows
        if (row["moment"], row["diagnostic"]) == ("after training", "cka")
    }
    # No mean where a language is missing: it would be over others than at the layers beside it.
    assert values == pytest.approx({0: 0.5 / 3 + 0.1, 2: 1.7 / 3 + 0.1})


def test_moments_are_compared_over_the_languages_that_all_of_them_have(
    diagnosed: Snapshot,
) -> None:
    frame = profiles_frame(diagnosed)
    best = int(finished(frame)["configuration"].iloc[0])
    fewer = frame[(frame["stage"] == "evaluate") | (frame["language"] != "qab")]
    figure = profile_figure(fewer, best)
    assert figure is not None
    rows = csv_rows(figure.csv)
    assert {row["languages"] for row in rows} == {"qac", "qaf"}


def test_sweeps_without_diagnostics_show_none(small: Finished) -> None:
    results = Results(small.home, small.ledger.name)
    assert results.diagnostics.empty
    assert tuple(results.diagnostics.columns) == PROFILE_COLUMNS
    assert profile_figure(results.diagnostics, 0) is None


def test_the_page_shows_the_figure_and_its_numbers(
    small: Finished, diagnosed: Snapshot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(page, "read_snapshot", lambda *_: diagnosed)
    folder = small.report(tmp_path / "other").parent
    assert "layer by layer" in (folder / "index.html").read_text(encoding="utf-8")
    assert (folder / "figures" / "layer-profile.svg").exists()
    rows = csv_rows(folder / "tables" / "diagnostics.csv")
    assert {row["stage"] for row in rows} == {"evaluate"}
    assert {row["layer"] for row in rows} == {"0", "1", "2"}
