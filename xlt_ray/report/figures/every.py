"""All figures of a sweep."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pandas as pd

from xlt_ray.config.labels import is_absent, value_label
from xlt_ray.report.effects import Effects
from xlt_ray.report.figures import Figure
from xlt_ray.report.figures.overview import timeline
from xlt_ray.report.figures.parameters import language_figure, parameter_figure, profile_figure
from xlt_ray.report.figures.questions import question_figures
from xlt_ray.report.frames import Snapshot
from xlt_ray.report.tables import LanguageTable


def figures_of(
    snapshot: Snapshot,
    tables: Sequence[LanguageTable],
    effects: Mapping[str, Effects],
    costs: pd.DataFrame,
    profiles: pd.DataFrame,
) -> tuple[list[Figure], list[str]]:
    """All figures, and the reasons why some are missing."""
    all_figures: list[Figure | None] = []
    notes: list[str] = []
    parameters, best = snapshot.parameters, snapshot.best_configuration
    for table in tables:
        rows = [row for row in table.rows if row.configuration == best and row.trials]
        figures, refused = question_figures(table, effects[table.stem], costs)
        figures = [*(language_figure(row, table) for row in rows), *figures]
        notes += refused
        for path in parameters:
            # The size of a block that may be absent shows whether there is one, too.
            inner = [parameter for parameter in parameters if parameter.startswith(f"{path}.")]
            if inner and _says_the_same(path, inner[0], table):
                continue
            figure = parameter_figure(path, table, log=is_log(snapshot.sweep["space"], path))
            if figure is not None:
                figures.append(figure)
        note = table.supervision_note
        all_figures += [
            replace(figure, caption=f"{figure.caption} {note}".strip()) for figure in figures
        ]
    all_figures += [timeline(snapshot) if tables else None, profile_figure(profiles, best)]
    return [figure for figure in all_figures if figure is not None], notes


def _says_the_same(block: str, inner: str, table: LanguageTable) -> bool:
    """Whether a block has only two values, and one of them is that it is absent."""
    values = [(row.parameters[block], row.parameters[inner]) for row in table.rows]
    present = {value_label(of_block) for of_block, _ in values if of_block is not None}
    return len(present) == 1 and all(is_absent(a) == is_absent(b) for a, b in values)


def is_log(space: Mapping[str, Any], path: str) -> bool:
    """Whether the sweep file searches a parameter on a logarithmic scale; inside blocks, too."""
    nodes: list[Any] = [space]
    for part in path.split("."):
        nodes = [
            option[part]
            for node in nodes
            for option in (node.get("choice", [node]) if isinstance(node, Mapping) else [])
            if isinstance(option, Mapping) and part in option
        ]
    return any(isinstance(node, Mapping) and node.get("log") is True for node in nodes)
