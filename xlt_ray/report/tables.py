"""Tables of a sweep: one row a configuration, its seeds averaged, one column a language.

A mean over languages is given for configurations that have every language of the table and
missing for all others, so that no two means of a table are over different languages.
Intervals are the sample standard deviation over seeds; with one seed there is none.
"""

from __future__ import annotations

import csv
import io
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from xlt_ray.report.labels import shown_value


@dataclass(frozen=True)
class Cell:
    """Mean over ``num_seeds`` seeds and their sample standard deviation (None of one seed)."""

    mean: float
    deviation: float | None
    num_seeds: int


@dataclass(frozen=True)
class Row:
    """One configuration; a language that was not scored in any seed has no cell."""

    configuration: int
    knobs: Mapping[str, Any]
    num_seeds: int
    objective: Cell
    cells: Mapping[str, Cell]
    mean: Cell | None
    mean_without_source: Cell | None


@dataclass(frozen=True)
class LanguageTable:
    """Test scores of one task; rows by objective, the best first."""

    task: str
    metric: str
    source_language: str
    languages: tuple[str, ...]
    """The source language first, then by code."""
    knobs: tuple[str, ...]
    num_seeds: int
    """Seeds that the sweep gives every configuration."""
    rows: tuple[Row, ...]

    @property
    def has_missing(self) -> bool:
        return any(language not in row.cells for row in self.rows for language in self.languages)


def best_configuration(trials: pd.DataFrame, sweep: Mapping[str, Any]) -> int | None:
    """The configuration with the best mean objective over its seeds; None before any is complete.

    Configurations of which every seed is complete go before those that lack one; of equals the
    first that was tried.
    """
    complete = trials[trials["state"] == "complete"]
    if complete.empty:
        return None
    means = complete.astype({"objective": float}).groupby("configuration")["objective"]
    sign = -1.0 if sweep["objective"]["mode"] == "max" else 1.0
    seeds = int(sweep["search"]["seeds"])
    full = means.count() >= seeds
    ranked = sorted(
        (not full[configuration], sign * value, int(configuration))
        for configuration, value in means.mean().items()
    )
    return ranked[0][2]


def language_tables(
    trials: pd.DataFrame, scores: pd.DataFrame, knobs: Sequence[str], sweep: Mapping[str, Any]
) -> list[LanguageTable]:
    """One table for each task and source language that complete trials were scored in."""
    metric = str(sweep["objective"]["metric"])
    test = scores[(scores["split"] == "test") & (scores["metric"] == metric)]
    return [
        _table(str(task), str(source), metric, trials, part, knobs, sweep)
        for (task, source), part in test.groupby(["task", "source_language"], sort=True)
    ]


def _table(
    task: str,
    source: str,
    metric: str,
    trials: pd.DataFrame,
    test: pd.DataFrame,
    knobs: Sequence[str],
    sweep: Mapping[str, Any],
) -> LanguageTable:
    languages = tuple(
        sorted(test["language"].unique(), key=lambda language: (language != source, language))
    )
    by_number = trials.set_index("number")
    rows = [
        _row(int(configuration), part, by_number, languages, source, knobs)
        for configuration, part in test.groupby("configuration", sort=True)
    ]
    sign = -1.0 if sweep["objective"]["mode"] == "max" else 1.0
    rows.sort(key=lambda row: (sign * row.objective.mean, row.configuration))
    return LanguageTable(
        task=task,
        metric=metric,
        source_language=source,
        languages=languages,
        knobs=tuple(knobs),
        num_seeds=int(sweep["search"]["seeds"]),
        rows=tuple(rows),
    )


def _row(
    configuration: int,
    test: pd.DataFrame,
    trials: pd.DataFrame,
    languages: Sequence[str],
    source: str,
    knobs: Sequence[str],
) -> Row:
    seeds = {
        int(number): {str(code): float(value) for code, value in zip(*_columns(part), strict=True)}
        for number, part in test.groupby("number", sort=True)
    }
    first = trials.loc[min(seeds)]
    others = [language for language in languages if language != source]
    cells = {
        language: _cell([one[language] for one in seeds.values() if language in one])
        for language in languages
        if any(language in one for one in seeds.values())
    }
    return Row(
        configuration=configuration,
        knobs={path: first[path] for path in knobs},
        num_seeds=len(seeds),
        objective=_cell([float(trials["objective"].loc[number]) for number in seeds]),
        cells=cells,
        mean=_mean(seeds.values(), languages),
        mean_without_source=_mean(seeds.values(), others) if source in languages else None,
    )


def _columns(part: pd.DataFrame) -> tuple[pd.Series, pd.Series]:
    return part["language"], part["value"]


def _mean(seeds: Any, languages: Sequence[str]) -> Cell | None:
    """Mean over languages of every seed, then over seeds; None unless every seed has them all."""
    if not languages or any(language not in one for one in seeds for language in languages):
        return None
    return _cell([statistics.fmean(one[language] for language in languages) for one in seeds])


def _cell(values: Sequence[float]) -> Cell:
    return Cell(
        mean=statistics.fmean(values),
        deviation=statistics.stdev(values) if len(values) > 1 else None,
        num_seeds=len(values),
    )


# -- writing ------------------------------------------------------------------------------


def selection_rule(sweep: Mapping[str, Any], source: str) -> str:
    """By what configurations are ranked, to follow "configurations are"."""
    objective = sweep["objective"]
    languages = objective["languages"]
    if languages == "source":
        return f"chosen by {objective['metric']} on the dev set of {source}"
    named = languages if isinstance(languages, str) else ", ".join(languages)
    where = {"target": "the target languages", "all": "all languages"}.get(named, named)
    return f"chosen by {objective['metric']} on the dev sets of {where}"


def is_oracle(sweep: Mapping[str, Any]) -> bool:
    """Whether the objective reads labels of target languages."""
    return bool(sweep["objective"]["languages"] != "source")


def table_csv(table: LanguageTable) -> str:
    """Mean, deviation and seeds of every cell in full precision; a missing cell is empty."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    columns = ["mean", "mean_without_source", *table.languages]
    writer.writerow(
        ["configuration", *table.knobs, "num_seeds", "objective", "objective_deviation"]
        + [f"{column}{suffix}" for column in columns for suffix in ("", "_deviation", "_seeds")]
    )
    for row in table.rows:
        cells = [row.mean, row.mean_without_source, *map(row.cells.get, table.languages)]
        line: list[Any] = [row.configuration]
        line += [shown_value(row.knobs[path]) for path in table.knobs]
        line += [row.num_seeds, row.objective.mean, _or_empty(row.objective.deviation)]
        for cell in cells:
            line += [cell.mean, _or_empty(cell.deviation), cell.num_seeds] if cell else ["", "", 0]
        writer.writerow(line)
    return stream.getvalue()


def table_tex(table: LanguageTable, sweep: Mapping[str, Any]) -> str:
    """A booktabs table of percentages: mean, deviation below it in small print."""
    columns = ["all", f"without {table.source_language}", *table.languages]
    lines = [
        "% needs \\usepackage{booktabs}",
        "\\begin{table}",
        "\\centering\\small",
        f"\\caption{{{_tex(_caption(table, sweep))}}}",
        "\\begin{tabular}{r" + "l" * len(table.knobs) + "r" * (2 + len(columns)) + "}",
        "\\toprule",
        _tex_line(
            ["\\#", *(_tex(path) for path in table.knobs), "seeds", "dev"]
            + [_tex(column) for column in columns]
        ),
        "\\midrule",
    ]
    for row in table.rows:
        cells = [row.objective, row.mean, row.mean_without_source]
        cells += [row.cells.get(language) for language in table.languages]
        lines.append(
            _tex_line(
                [str(row.configuration)]
                + [_tex(shown_value(row.knobs[path])) for path in table.knobs]
                + [str(row.num_seeds)]
                + [_tex_cell(cell) for cell in cells]
            )
        )
    return "\n".join([*lines, "\\bottomrule", "\\end{tabular}", "\\end{table}", ""])


def _caption(table: LanguageTable, sweep: Mapping[str, Any]) -> str:
    text = (
        f"{table.task}, test {table.metric} in %, mean over seeds (± standard deviation); "
        f"configurations are {selection_rule(sweep, table.source_language)}."
    )
    if is_oracle(sweep):
        text += " ORACLE SELECTION: not zero-shot."
    return text + (" A dash is a score that is missing." if table.has_missing else "")


def _tex_line(cells: Sequence[str]) -> str:
    return " & ".join(cells) + " \\\\"


def _tex_cell(cell: Cell | None) -> str:
    if cell is None:
        return "--"
    spread = "" if cell.deviation is None else f"{{\\scriptsize$\\pm${100 * cell.deviation:.1f}}}"
    return f"{100 * cell.mean:.1f}{spread}"


def _tex(text: str) -> str:
    special = {"\\": r"\textbackslash{}", "±": r"$\pm$", "~": r"\textasciitilde{}"}
    special |= {"^": r"\textasciicircum{}"}
    return "".join(special.get(one, f"\\{one}" if one in "&%$#_{}" else one) for one in text)


def _or_empty(value: float | None) -> float | str:
    return "" if value is None else value
