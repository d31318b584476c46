"""The view of a sweep that ``xlt ui NAME`` opens: columns, order and charts of the runs page.

MLflow keeps such views as tags of the experiment (its button *Share*) and opens the one that
``viewStateShareKey`` names; whoever opens it may change it, for himself alone. What a view leaves
out has MLflow's default.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

KEY = "xlt"
"""By which the page is told of the view."""
VIEW_TAG = "mlflow.sharedViewState."
"""Of the experiment; the view's key follows."""
MAX_AXES = 12
"""Knobs that are columns and axes, of a tag of 5000 characters at most."""


def headline(metric: str) -> list[str]:
    """The metrics that configurations are compared by, the deciding one first."""
    return ["objective", f"test/{metric}/mean", f"test/{metric}/mean_without_source"]


def view_of(metric: str, mode: str, knobs: Sequence[str], *, has_seeds: bool) -> str:
    """JSON of a view with one row a configuration (a trial where each has one seed only).

    Args:
        knobs: dotted paths of what is searched over.
        has_seeds: whether configurations have runs of their own.
    """
    metrics, axes = headline(metric), list(knobs[:MAX_AXES])
    spread = ["seeds/complete", "sd/objective"] if has_seeds else []
    columns = [
        *(f"metrics.`{name}`" for name in [*metrics, *spread]),
        *(f"params.`{name}`" for name in axes),
        "attributes.`Dataset`",
    ]
    view: dict[str, Any] = {
        "searchFilter": f"tags.`xlt.kind` = '{'configuration' if has_seeds else 'trial'}'",
        "orderByKey": "metrics.`objective`",
        "orderByAsc": mode == "min",
        "selectedColumns": columns,
        "runsHiddenMode": "SHOW_ALL",
        "compareRunSections": [_section("xlt-parallel", "Knobs and scores")],
        "compareRunCharts": [
            {
                "uuid": "xlt-parallel-chart",
                "type": "PARALLEL",
                "metricSectionId": "xlt-parallel",
                "deleted": False,
                "isGenerated": False,
                "runsCountToCompare": 100,
                "selectedParams": axes,
                "selectedMetrics": metrics,
                "showAllRuns": False,
            }
        ],
    }
    return json.dumps(view, ensure_ascii=False)


def _section(uuid: str, name: str) -> dict[str, Any]:
    return {
        "uuid": uuid,
        "name": name,
        "display": True,
        "isReordered": False,
        "deleted": False,
        "isGenerated": False,
        # One chart a row: seven axes and more do not fit into a third of it.
        "columns": 1,
        "cardHeight": 420,
    }
