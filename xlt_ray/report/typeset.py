"""Tables as files: CSV in full precision, LaTeX with booktabs in percent."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from xlt_ray.report.canvas import csv_text
from xlt_ray.report.effects import Effect, Effects
from xlt_ray.report.labels import knob_names, shown_value
from xlt_ray.report.latex import booktabs, tex
from xlt_ray.report.replication import named
from xlt_ray.report.selection import Pick, counted, table_header
from xlt_ray.report.supervision import TEX_MARKS, marks
from xlt_ray.report.tables import Cell, LanguageTable, Row
from xlt_ray.spec.kinds import TOO_FEW_ITEMS

_BESIDE = ("items", "chance", "cut", "near_constant")
MAX_ROWS = 40
"""Configurations in LaTeX tables; CSV has all."""


def table_csv(table: LanguageTable, sweep: Mapping[str, Any]) -> str:
    """Mean, deviation, 95 % interval and seeds of every cell in full precision; a missing cell is
    empty. Intervals are Student's, over seeds.

    Of every language follow its number of test items, its level of chance, the share of its
    examples that ``max_length`` took a part of, where it took any, and the share of the
    most frequent prediction where that is next to all of them (the highest of the seeds), else
    nothing. ``shared_by_seeds`` names the trained stages that several seeds of a line go on from:
    its deviations and intervals are of what was trained after them. ``facts`` are the sets of
    facts that its trials were made with, ``selection`` says in every line by which rule the lines
    are ordered.
    """
    columns = ["mean", "mean_without_source", "gap"]
    columns += [group.title for group in table.groups]
    columns += table.languages
    rule, evidence = table_header(table, sweep), table.evidence
    names = ["configuration", *table.knobs, "supervision", "num_seeds"]
    names += ["objective", "objective_deviation"]
    suffixes = ("", "_deviation", "_low", "_high", "_seeds")
    names += [f"{column}{suffix}" for column in columns for suffix in suffixes]
    lines = []
    for row in table.rows:
        cells = [row.mean, row.mean_without_source, row.gap]
        cells += [row.groups.get(group.title) for group in table.groups]
        cells += [row.cells.get(language) for language in table.languages]
        line: list[Any] = [row.configuration]
        line += [shown_value(row.knobs[path]) for path in table.knobs]
        line += [row.supervision, row.num_seeds, *_two(row.objective)]
        for cell in cells:
            low, high = (cell and cell.interval) or (None, None)
            line += [*_two(cell), low, high, cell.num_seeds if cell else 0]
        constants = row.near_constant
        for code in table.languages:
            known = constants.get(code)
            share = known.share if known else None
            told = (evidence.sizes, evidence.chance, evidence.cut)
            line += [*(one.get(code) for one in told), share]
        lines.append([*line, row.is_gap_of_source, named(row.shared), row.facts, rule])
    beside = [f"{one}_{name}" for one in table.languages for name in _BESIDE]
    last = ("gap_smaller_by_source_alone", "shared_by_seeds", "facts", "selection")
    return csv_text([*names, *beside, *last], lines)


def table_tex(table: LanguageTable, sweep: Mapping[str, Any]) -> str:
    """A booktabs table of percentages, its standard deviation in small print; below them the
    number of test items and the level of chance of every language."""
    titles = ["all", f"without {table.source_language}", "gap", *table.languages]
    rows = []
    for row in table.rows[:MAX_ROWS]:
        cells = [row.objective, row.mean, row.mean_without_source, row.gap]
        cells += [row.cells.get(language) for language in table.languages]
        printed = [_tex_cell(cell, row.num_seeds) for cell in cells]
        if row.is_gap_of_source:
            printed[3] += "$^{\\dagger}$"
        constants = row.near_constant
        for place, language in enumerate(table.languages, start=4):
            printed[place] += "$^{\\equiv}$" * (language in constants)
        rows.append(
            [_number(row)]
            + [tex(shown_value(row.knobs[path])) for path in table.knobs]
            + [str(row.num_seeds), *printed]
        )
    sizes, chance = table.evidence.sizes, table.evidence.chance
    small = table.evidence.small
    empty = [""] * (len(table.knobs) + 5)
    told = [f"{sizes.get(one, '--')}{'$^{*}$' * (one in small)}" for one in table.languages]
    rows.append(["$n$", *empty, *told])
    told = [f"{100 * chance[one]:.1f}" if one in chance else "--" for one in table.languages]
    rows.append(["chance", *empty, *told])
    head = ["\\#", *map(tex, knob_names(table.knobs).values()), "seeds", "dev", *map(tex, titles)]
    layout = "r" + "l" * len(table.knobs) + "r" * (2 + len(titles))
    return booktabs(_caption(table, sweep), layout, head, rows)


def groups_tex(table: LanguageTable, sweep: Mapping[str, Any]) -> str:
    """A booktabs table of the means by group, in percent."""
    members = "; ".join(f"{one.title}: {', '.join(one.languages)}" for one in table.groups)
    caption = (
        f"{table.task}, test {table.metric} in %, unweighted means over groups of languages, mean "
        f"over seeds (± standard deviation). {table_header(table, sweep)} {members}. "
        f"A dash is a group of which a language is missing. {table.evidence.groups_note()}"
        f"{_notes(table)}{_best(table)}"
    )
    rows = [
        [_number(row), str(row.num_seeds)]
        + [
            _tex_cell(cell, row.num_seeds)
            for cell in (
                row.mean_without_source,
                *(row.groups.get(group.title) for group in table.groups),
            )
        ]
        for row in table.rows[:MAX_ROWS]
    ]
    head = ["\\#", "seeds", f"without {tex(table.source_language)}"]
    head += [tex(group.title) for group in table.groups]
    return booktabs(caption, "r" * len(head), head, rows)


def picks_csv(picks: Sequence[Pick], table: LanguageTable) -> str:
    """One line a rule: what it picks, its test scores, and whether it is an oracle."""
    rows = [
        [one.rule, one.is_oracle, one.is_averaged]
        + [one.value, one.row.configuration if one.row else None]
        + [cell.mean if cell else None for cell in _pick_cells(one, table)]
        + [one.row.supervision if one.row else "", one.missing]
        for one in picks
    ]
    names = ["selection", "is_oracle", "is_averaged", "value", "configuration", "source"]
    return csv_text([*names, "mean_without_source", "gap", "worst", "supervision", "missing"], rows)


def picks_tex(picks: Sequence[Pick], table: LanguageTable) -> str:
    """A booktabs table of the rules side by side."""
    caption = (
        f"{table.task}: what each selection rule picks, test {table.metric} in %, mean over seeds "
        "(± standard deviation). Weights are those that target.select names but for the average. "
        "Oracle rules read labels of target languages and are not zero-shot. A dash is a rule "
        f"without data.{_spaced(table.supervision_note)}{_notes(table)}"
    )
    rows = [
        [tex(one.rule), _number(one.row) if one.row else "--"]
        + [_tex_cell(cell, one.row.num_seeds if one.row else 0) for cell in _pick_cells(one, table)]
        for one in picks
    ]
    source = tex(table.source_language)
    head = ["rule", "\\#", source, f"without {source}", "gap", "worst"]
    return booktabs(caption, "lrrrrr", head, rows)


def effects_tex(known: Effects, table: LanguageTable, sweep: Mapping[str, Any]) -> str:
    """A booktabs table of the effect of every value on every series, in points of percent."""
    caption = (
        f"{table.task}: mean test {table.metric} of the configurations with a value minus that of "
        "all others, in points, and Welch's 95 % interval over configurations (those that share a "
        "trained stage which the others have not count as one), not corrected for the number of "
        f"intervals ({known.num_intervals}). "
        f"{counted(sweep, table.source_language)}{_spaced(table.supervision_note)}"
        + (f" {table.facts_note}" if table.facts_note else "")
    )
    rows = [
        [tex(level.knob), tex(level.label), str(level.num_configurations), str(level.num_seeds)]
        + [_tex_effect(level.effects.get(name)) for name in known.series]
        for level in known.levels
    ]
    head = ["knob", "value", "configurations", "seeds", *map(tex, known.series)]
    return booktabs(caption, "llrr" + "r" * len(known.series), head, rows, num_keys=2)


def _number(row: Row) -> str:
    """Number of a configuration with its marks."""
    return f"{row.configuration}{marks(row.supervision, TEX_MARKS)}"


def _spaced(note: str) -> str:
    return note and f" {note}"


def _pick_cells(pick: Pick, table: LanguageTable) -> list[Cell | None]:
    row = pick.row
    if row is None:
        return [None] * 4
    source = table.source_language
    others = [row.cells[code] for code in table.languages if code != source and code in row.cells]
    sign = 1.0 if table.is_higher_better else -1.0
    worst = min(others, key=lambda cell: sign * cell.mean, default=None)
    is_whole = row.mean_without_source is not None
    return [row.cells.get(source), row.mean_without_source, row.gap, worst if is_whole else None]


def _caption(table: LanguageTable, sweep: Mapping[str, Any]) -> str:
    text = (
        f"{table.task}, test {table.metric} in %, mean over seeds (± standard deviation). "
        f"{table_header(table, sweep)} "
        f"Gap: {table.source_language} minus the mean of the others."
    )
    if any(row.is_gap_of_source for row in table.rows):
        text += " A dagger marks a gap that is smaller only because the source language is worse."
    text += " n below the scores: test items. Chance: the score without looking at the text."
    if table.evidence.small:
        text += f" *: fewer than {TOO_FEW_ITEMS} test items, which the means hold like all others."
    if cut := table.evidence.cut_note():
        text += f" {cut}"
    if any(row.near_constant for row in table.rows):
        text += " ≡: the network of a seed says next to one thing to everything."
    text += " A dash is a score that is missing." if table.has_missing else ""
    if any(cell.num_seeds < row.num_seeds for row in table.rows for cell in row.cells.values()):
        text += " n beside a score: its seeds, where they are not all of the row."
    return text + _notes(table) + _best(table)


def _notes(table: LanguageTable) -> str:
    return "".join(f" {note}" for note in (table.spread_note, table.facts_note) if note)


def _best(table: LanguageTable) -> str:
    num_rows = len(table.rows)
    return f" The first {MAX_ROWS} of {num_rows} configurations." if num_rows > MAX_ROWS else ""


def _tex_cell(cell: Cell | None, num_seeds: int) -> str:
    """A score in percent, in small print its deviation, and its seeds where the row has others."""
    if cell is None:
        return "--"
    small = "" if cell.deviation is None else f"$\\pm${100 * cell.deviation:.1f}"
    if cell.num_seeds != num_seeds:
        small += f" n={cell.num_seeds}"
    return f"{100 * cell.mean:.1f}" + (f"{{\\scriptsize{small}}}" if small else "")


def _tex_effect(effect: Effect | None) -> str:
    if effect is None:
        return "--"
    text = f"${100 * effect.difference:+.1f}$"
    if effect.low is None or effect.high is None:
        return text
    return f"{text} {{\\scriptsize$[{100 * effect.low:+.1f}, {100 * effect.high:+.1f}]$}}"


def _two(cell: Cell | None) -> tuple[float | None, float | None]:
    return (None, None) if cell is None else (cell.mean, cell.deviation)
