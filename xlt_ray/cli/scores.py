"""Scores by language in the terminal: of configurations (source, mean, worst, groups) and of one
configuration or trial, language by language."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from rich.cells import cell_len
from rich.table import Column

from xlt_ray.cli.output import print_table, width_of_output
from xlt_ray.config.labels import language_label, parameter_names, value_label

if TYPE_CHECKING:
    from xlt_ray.report.tables import Cell, LanguageTable, Row

MIN_PARAMETERS = 30
"""Columns for what differs; means of groups get those that are left."""
INTERVALS = "± is half of Student's 95 % interval of the mean over seeds"


def shown_cell(cell: Cell | None) -> str:
    """A mean, with half of its interval if there are several seeds."""
    if cell is None:
        return ""
    if cell.interval is None:
        return f"{cell.mean:.3f}"
    return f"{cell.mean:.3f} ±{cell.interval[1] - cell.mean:.3f}"


def print_configurations(table: LanguageTable, most: int | None = None) -> None:
    """A row a configuration, the best first: source, mean over the other languages, the worst of
    them, and as many groups as fit."""
    rows = [row for row in table.rows if row.trials]
    if not rows:
        return
    shown = rows[:most]
    values = [
        {path: value_label(row.parameters[path]) for path in table.parameters} for row in rows
    ]
    names = parameter_names(table.parameters)
    differing = [path for path in names if len({labels[path] for labels in values}) > 1] or [*names]
    columns = {"#": [str(row.configuration) for row in shown]}
    if differing:
        columns["parameters"] = [
            " ".join(f"{names[path]}={labels[path]}" for path in differing)
            for labels, _ in zip(values, shown, strict=False)
        ]
    if table.source_language in table.languages:
        columns[table.source_language] = [
            shown_cell(row.cells.get(table.source_language)) for row in shown
        ]
    columns |= {
        "mean": [shown_cell(row.mean_without_source or row.mean) for row in shown],
        "worst": [_worst(table, row) for row in shown],
    }
    columns |= _groups_that_fit(table, shown, columns)
    has_intervals = any("±" in cell for cells in columns.values() for cell in cells)
    print_table(
        [
            # The others keep their widths: where all are fixed, Rich shrinks some to nothing.
            Column(name, overflow="fold")
            if name == "parameters"
            else Column(name, no_wrap=True, min_width=max(map(cell_len, (name, *cells))))
            for name, cells in columns.items()
        ],
        zip(*columns.values(), strict=True),
        title=f"{table.task}: {table.metric} on test sets, trained in {table.source_language}",
        legend="\n".join(
            filter(
                None,
                (
                    f"mean: of {len(table.targets)} other languages" * bool(table.targets),
                    INTERVALS * has_intervals,
                    f"and {len(rows) - len(shown)} more" * (len(rows) > len(shown)),
                    table.facts_note,
                    table.supervision_note,
                ),
            )
        ),
    )


def _worst(table: LanguageTable, row: Row) -> str:
    cell = table.worst(row)
    if cell is None:
        return ""
    code = next(code for code in table.targets if row.cells.get(code) is cell)
    return f"{shown_cell(cell)} {code}"


def _groups_that_fit(
    table: LanguageTable, rows: list[Row], columns: Mapping[str, list[str]]
) -> dict[str, list[str]]:
    """Columns of groups for which the terminal has room."""
    left = width_of_output() - MIN_PARAMETERS - 1
    for name, cells in columns.items():
        left -= 3 + (0 if name == "parameters" else max(map(cell_len, (name, *cells))))
    fitting = {}
    for group in table.groups:
        cells = [shown_cell(row.groups.get(group.title)) for row in rows]
        left -= 3 + max(map(cell_len, (group.title, *cells)))
        if left < 0:
            break
        fitting[group.title] = cells
    return fitting


def print_languages(table: LanguageTable, row: Row) -> None:
    """A line for each language of a configuration."""
    print_table(
        ["language", table.metric, "chance", "items"],
        [
            [
                language_label(code) + " (source)" * (code == table.source_language),
                shown_cell(row.cells.get(code)),
                _shown(table.evidence.chance.get(code)),
                table.evidence.sizes.get(code, ""),
            ]
            for code in table.languages
        ],
        title=f"configuration {row.configuration}, {_seeds(row.num_seeds)}",
    )


def _seeds(number: int) -> str:
    return f"{number} seed{'s' * (number > 1)}"


def _shown(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def print_trial(row: Mapping[str, Any]) -> None:
    """A line for each task and language of a trial, with every metric.

    Args:
        row: as of :func:`xlt_ray.cli.listings.trial_row`.
    """
    for task, by_language in row["scores"].items():
        metrics = list(dict.fromkeys(name for scores in by_language.values() for name in scores))
        evidence = row["evidence"].get(task, {})
        print_table(
            ["language", *metrics, "items", "notes"],
            [
                [
                    code if ":" in code else language_label(code),
                    *(_shown(scores.get(name)) for name in metrics),
                    evidence.get(code, {}).get("num_items", ""),
                    "; ".join(_notes(evidence.get(code, {}))),
                ]
                for code, scores in by_language.items()
            ],
            title=f"{task}, test sets",
        )


def _notes(evidence: Mapping[str, Any]) -> Iterator[str]:
    if evidence.get("is_near_constant"):
        yield f"{100 * evidence['top_share']:.0f} % of the predictions are the same"
    if (evidence.get("cut") or 0) > 0.01:
        yield f"max_length cuts {100 * evidence['cut']:.0f} %"
