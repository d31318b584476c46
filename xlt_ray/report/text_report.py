"""The report of a sweep as text for a terminal: what was selected and why, by language."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence

from xlt_ray.config.labels import language_label, run_name
from xlt_ray.ledger import STANDINGS, failure_lines, mixed_facts
from xlt_ray.report import selection
from xlt_ray.report.frames import Snapshot, as_of
from xlt_ray.report.tables import Cell, LanguageTable, Row, marks, tables_of

WIDTH = 80
MAX_ROWS = 10
"""Configurations that are shown, the best ones."""
BAR = 20
"""Letters of a bar that stands for 100 %."""


def report_text(snapshot: Snapshot) -> str:
    """Lines of at most ``WIDTH`` letters: states, rule, the best configurations, and the best one
    by language; what is not there yet is said to be missing."""
    lines = [*_head(snapshot)]
    for table in tables_of(snapshot):
        lines += ["", *_wrapped(f"{table.task}, test {table.metric} in %, mean over seeds")]
        lines += _wrapped(selection.table_header(table, snapshot.sweep))
        lines += ["", *_ranking(table, snapshot)]
        best = next((row for row in table.rows if row.trials), None)
        if best is not None:
            lines += ["", *_by_language(best, table)]
        notes = (table.spread_note, table.facts_note, table.evidence.cut_note())
        lines += [line for note in notes if note for line in _wrapped(note)]
    return "\n".join(lines)


def _head(snapshot: Snapshot) -> Iterator[str]:
    states = list(snapshot.standings.values())
    counts = [f"{states.count(state)} {state}" for state in STANDINGS if state in states]
    configurations = len({trial.configuration for trial in snapshot.trials})
    yield f"{snapshot.name}, as of {as_of(snapshot)}" if snapshot.trials else snapshot.name
    yield from _wrapped(
        f"{len(states)} trials of {configurations} configurations: {', '.join(counts)}"
        if states
        else "no trials yet"
    )
    notes = (
        snapshot.origin,
        mixed_facts(snapshot.trials),
        *failure_lines(snapshot.trials, snapshot.name),
    )
    for note in (*notes, *(f"by hand: {request}" for request in snapshot.by_hand)):
        if note:
            yield from _wrapped(f"note: {note}")


def _ranking(table: LanguageTable, snapshot: Snapshot) -> Iterator[str]:
    """The best configurations, each with its name below its scores."""
    space = snapshot.sweep["space"]
    assignments = {trial.configuration: trial.assignment for trial in snapshot.trials}
    yield f"{'#':>5} {'seeds':>5} {'dev':>11} {'all':>11} {_without(table):>11} {'gap':>11}"
    for row in table.rows[:MAX_ROWS]:
        cells = (row.objective, row.mean, row.mean_without_source, row.gap)
        number = f"{row.configuration}{marks(row.supervision)}"
        yield f"{number:>5} {row.num_seeds:>5} " + " ".join(f"{_score(cell):>11}" for cell in cells)
        yield from _wrapped(run_name(assignments[row.configuration], space), indent=12)
    if len(table.rows) > MAX_ROWS:
        yield f"{len(table.rows) - MAX_ROWS} more configurations are in the tables of xlt report"


def _by_language(row: Row, table: LanguageTable) -> Iterator[str]:
    yield f"configuration {row.configuration} by language"
    yield f"{'language':<26} {'items':>7} {'chance':>6} {'score':>11}"
    for code in table.languages:
        cell, chance = row.cells.get(code), table.evidence.chance.get(code)
        items = table.evidence.sizes.get(code, "–")
        label = textwrap.shorten(language_label(code), 26, placeholder="…")
        known = "–" if chance is None else f"{100 * chance:.1f}"
        bar = "█" * round(BAR * min(max(cell.mean, 0.0), 1.0)) if cell else "missing"
        sign = "≡" if code in row.near_constant else " "
        yield f"{label:<26} {items:>7} {known:>6} {_score(cell):>11} {sign} {bar}".rstrip()
    if row.near_constant:
        yield "≡: the network of a seed says next to one thing to everything"


def _without(table: LanguageTable) -> str:
    return f"w/o {table.source_language}"


def _score(cell: Cell | None) -> str:
    if cell is None:
        return "–"
    return f"{100 * cell.mean:.1f}" + (
        "" if cell.deviation is None else f" ±{100 * cell.deviation:.1f}"
    )


def _wrapped(text: str, indent: int = 0) -> Sequence[str]:
    before = " " * indent
    return textwrap.wrap(text, WIDTH, initial_indent=before, subsequent_indent=before)
