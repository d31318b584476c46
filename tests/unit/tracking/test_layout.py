"""The view of the runs page: columns and axes that are there, in a tag that MLflow takes."""

from __future__ import annotations

import json

import pytest

from xlt_ray.tracking.content import MAX_AXES, view_of


@pytest.mark.parametrize("has_seeds", [False, True])
def test_rows_are_what_has_means(has_seeds: bool) -> None:
    view = json.loads(view_of("f1", "max", ["model"], has_seeds=has_seeds))
    kind = "configuration" if has_seeds else "trial"
    assert view["searchFilter"] == f"tags.`xlt.kind` = '{kind}'"
    assert ("metrics.`seeds/complete`" in view["selectedColumns"]) == has_seeds
    assert view["orderByAsc"] is False


def test_axes_are_the_parameters_and_the_headline_scores() -> None:
    (chart,) = json.loads(view_of("f1", "min", ["a", "b.c"], has_seeds=True))["compareRunCharts"]
    assert chart["selectedParams"] == ["a", "b.c"]
    assert chart["selectedMetrics"] == ["objective", "test/f1/mean", "test/f1/mean_without_source"]


def test_a_space_of_any_size_fits_into_a_tag() -> None:
    parameters = [f"target.robust.{'knob' * 15}.{number:02d}" for number in range(100)]
    view = view_of("exact_match", "max", parameters, has_seeds=True)
    assert len(view) <= 5000
    assert len(json.loads(view)["compareRunCharts"][0]["selectedParams"]) == MAX_AXES
