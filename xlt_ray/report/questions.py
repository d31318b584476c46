"""Figures that answer a research question, where the sweep has searched for its answer."""

from __future__ import annotations

from collections.abc import Callable

import pandas as pd

from xlt_ray.report.canvas import Figure
from xlt_ray.report.curves import layer_figure, ratio_figure, size_figure
from xlt_ray.report.effects import Effects
from xlt_ray.report.overview import heat_map, importance_figure, pareto_figure
from xlt_ray.report.parallel import parallel_figure
from xlt_ray.report.tables import LanguageTable

CURVES: dict[str, Callable[[LanguageTable, str], Figure | None]] = {
    "target.hybrid.ratio": ratio_figure,
    "target.fusion.layer": layer_figure,
}


def question_figures(
    table: LanguageTable, known: Effects, costs: pd.DataFrame
) -> tuple[list[Figure], list[str]]:
    """The figures of a table, and what is not drawn and why."""
    found: list[Figure | None] = []
    notes: list[str] = []
    if "intermediate.size" in table.knobs:
        figure, refused = size_figure(table, "intermediate.size")
        found.append(figure)
        notes += refused
    found += [draw(table, path) for path, draw in CURVES.items() if path in table.knobs]
    figure, told = importance_figure(table, known)
    notes += told
    found += [heat_map(table), figure, parallel_figure(table, known), pareto_figure(table, costs)]
    return [one for one in found if one is not None], notes
