"""Tables as files: CSV in full precision, LaTeX with booktabs in percent.

LaTeX source: text with its characters escaped, and booktabs tables that fit on a page.

A table that is wider than a column of text is cut into panels below each other, each with the
columns that name its rows; one that is longer than a page is continued in another float. A text
that is longer than ``MAX_TEXT`` goes over several lines of its cell.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from xlt_ray.config.task_types import TOO_FEW_ITEMS
from xlt_ray.report.effects import Effect, Effects
from xlt_ray.report.figures.base import csv_text
from xlt_ray.report.labels import parameter_names, shown_value
from xlt_ray.report.replication import named
from xlt_ray.report.selection import Pick, counted, table_header
from xlt_ray.report.tables import TEX_MARKS, Cell, LanguageTable, Row, marks

MAX_WIDTH = 76.0
"""Of a panel in letters, which is a line of LaTeX's article class in small print."""
GAP = 2.6
"""Letters between two columns."""
MAX_LINES = 40
"""Of a float, rules and heads included, below a caption of ``CAPTION_LINES``."""
CAPTION_LINES = 5
MAX_FLOATS = 12
"""In a row before a page is ended: LaTeX holds back so many and no more (18 before 2015)."""
MAX_TEXT = 32
"""Letters in a line of a cell of text."""


def tex(text: str) -> str:
    """Text with LaTeX's own characters escaped, in composed Unicode.

    A line break is a space. Letters are left as they are, whatever their script:
    :func:`needs_unicode` tells which texts pdflatex cannot set.

    >>> tex("a_b 50 %")
    'a\\\\_b 50 \\\\%'
    """
    plain = unicodedata.normalize("NFC", text)
    spaced = "".join(" " if one.isspace() else one for one in plain)
    found = "".join(_ESCAPED.get(one, one) for one in spaced if one.isprintable())
    # Side by side these would be drawn as one character.
    return re.sub(r"([-',])(?=\1)", r"\1{}", found)


_ESCAPED = {
    **{one: f"\\{one}" for one in "&%$#_{}"},
    "\\": r"\textbackslash{}",
    "±": r"$\pm$",
    "≡": r"$\equiv$",
    "−": "$-$",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"\textquotedbl{}",
    # After a line's end a bracket or a star would be an argument of it.
    "[": "{[}",
    "]": "{]}",
    "*": "{*}",
    "`": r"\textasciigrave{}",
}
_NOT_IN_T1 = frozenset("ĦħĸĿŀŉŦŧſ")


def needs_unicode(text: str) -> bool:
    """Whether a text has letters outside of LaTeX's T1 encoding (Latin with its accents).

    >>> needs_unicode("Türkçe, Łódź"), needs_unicode("中文")
    (False, True)
    """
    known = "–—‘’“”…€™×±−≡"
    composed = unicodedata.normalize("NFC", text)
    return any((ord(one) > 0x17F and one not in known) or one in _NOT_IN_T1 for one in composed)


def booktabs(
    caption: str,
    layout: str,
    head: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    num_keys: int = 1,
) -> str:
    """A table as floats that fit on a page.

    Args:
        caption: as text.
        layout: one letter a column; ``l`` is one of text, whose long cells are broken.
        head: cells in LaTeX, as ``rows``.
        num_keys: first columns, which name the rows and stand in every panel.
    """
    body = [tex(caption), *(cell for row in [head, *rows] for cell in row)]
    engine = ", and lualatex or xelatex with a font that has all letters" * any(
        map(needs_unicode, body)
    )
    lines = [f"% needs \\usepackage{{booktabs}} and \\usepackage[T1]{{fontenc}}{engine}"]
    longer = max(math.ceil(len(caption) / MAX_WIDTH) - CAPTION_LINES, 0)
    # A caption that fills a page is no reason to give every row a float of its own.
    room = max(MAX_LINES - longer, MAX_LINES // 4)
    for number, panels in enumerate(_floats(layout, head, rows, num_keys, room)):
        if number and number % MAX_FLOATS == 0:
            lines.append("\\clearpage")
        lines += ["\\begin{table}", "\\centering\\small"]
        if number:
            lines.append("\\addtocounter{table}{-1}")
        lines.append(f"\\caption{{{'(continued)' if number else tex(caption)}}}")
        lines.append("\n\\par\\medskip\n".join(panels))
        lines += ["\\end{table}"]
    return "\n".join([*lines, ""])


def _floats(
    layout: str, head: Sequence[str], rows: Sequence[Sequence[str]], num_keys: int, room: int
) -> Iterator[list[str]]:
    """The panels of each float, which has so many lines."""
    panels: list[str] = []
    num_lines = 0
    for part in _parts(layout, rows, room - 4):
        for columns in _columns(layout, head, part, num_keys):
            height = sum(_height(layout, row, columns) for row in part) + 4
            if panels and num_lines + height > room:
                yield panels
                panels, num_lines = [], 0
            panels.append(_panel(layout, head, part, columns))
            num_lines += height
    yield panels


def _parts(
    layout: str, rows: Sequence[Sequence[str]], room: int
) -> Iterator[Sequence[Sequence[str]]]:
    """Rows that a panel has room for; at least one of them, and none where there is none."""
    first = num_lines = 0
    for place, row in enumerate(rows):
        height = _height(layout, row, range(len(row)))
        if place > first and num_lines + height > room:
            yield rows[first:place]
            first, num_lines = place, 0
        num_lines += height
    yield rows[first:]


def _columns(
    layout: str, head: Sequence[str], rows: Sequence[Sequence[str]], num_keys: int
) -> Iterator[list[int]]:
    """The columns of each panel: as many as fit, and at least one beside the keys."""
    widths = [
        GAP + max(min(_width(row[place]), MAX_TEXT if letter == "l" else math.inf)
                  for row in [head, *rows])
        for place, letter in enumerate(layout)
    ]  # fmt: skip
    keys = list(range(num_keys))
    chosen: list[int] = []
    for place in range(num_keys, len(head)):
        if chosen and sum(widths[one] for one in [*keys, *chosen, place]) > MAX_WIDTH:
            yield keys + chosen
            chosen = []
        chosen.append(place)
    yield keys + chosen


def _panel(
    layout: str, head: Sequence[str], rows: Sequence[Sequence[str]], columns: Sequence[int]
) -> str:
    def line(cells: Sequence[str]) -> str:
        shown = (
            _broken(cells[column]) if layout[column] == "l" else cells[column] for column in columns
        )
        return " & ".join(shown) + " \\\\"

    return "\n".join(
        [
            f"\\begin{{tabular}}{{{''.join(layout[column] for column in columns)}}}",
            "\\toprule",
            line(head),
            "\\midrule",
            *map(line, rows),
            "\\bottomrule",
            "\\end{tabular}",
        ]
    )


def _broken(cell: str) -> str:
    """A cell of text, over several lines where it is longer than one."""
    if _width(cell) <= MAX_TEXT:
        return cell
    # Paths and lists of languages have no spaces to break at.
    loose = re.sub(r"([.+/:-]|\\_)(?=[A-Za-z])", r"\1\\allowbreak{}", cell)
    # A letter is about half as wide as an M.
    return f"\\parbox[t]{{{MAX_TEXT / 2:g}em}}{{\\raggedright {loose}\\strut}}"


def _height(layout: str, row: Sequence[str], columns: Sequence[int]) -> int:
    """Lines of a row; those of a broken text are not full."""
    widths = [_width(row[column]) for column in columns if layout[column] == "l"]
    return max(
        (math.ceil(width / (0.75 * MAX_TEXT)) for width in widths if width > MAX_TEXT), default=1
    )


def _width(cell: str) -> float:
    """About how many letters wide a cell is set."""
    small = sum(0.8 * len(_set(one)) for one in _SMALL.findall(cell))
    return len(_set(_SMALL.sub("", cell))) + small


_SMALL = re.compile(r"\{\\scriptsize(.*?)\}")
_COMMAND = re.compile(r"\\[a-zA-Z]+(?:\{\})?")


def _set(source: str) -> str:
    return re.sub(r"[\\${}^]", "", _COMMAND.sub("x", source))


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
    names = ["configuration", *table.parameters, "supervision", "num_seeds"]
    names += ["objective", "objective_deviation"]
    suffixes = ("", "_deviation", "_low", "_high", "_seeds")
    names += [f"{column}{suffix}" for column in columns for suffix in suffixes]
    lines = []
    for row in table.rows:
        cells = [row.mean, row.mean_without_source, row.gap]
        cells += [row.groups.get(group.title) for group in table.groups]
        cells += [row.cells.get(language) for language in table.languages]
        line: list[Any] = [row.configuration]
        line += [shown_value(row.parameters[path]) for path in table.parameters]
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
    beside = [f"{language}_{name}" for language in table.languages for name in _BESIDE]
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
            + [tex(shown_value(row.parameters[path])) for path in table.parameters]
            + [str(row.num_seeds), *printed]
        )
    sizes, chance = table.evidence.sizes, table.evidence.chance
    small = table.evidence.small
    empty = [""] * (len(table.parameters) + 5)
    told = [
        f"{sizes.get(language, '--')}{'$^{*}$' * (language in small)}"
        for language in table.languages
    ]
    rows.append(["$n$", *empty, *told])
    told = [
        f"{100 * chance[language]:.1f}" if language in chance else "--"
        for language in table.languages
    ]
    rows.append(["chance", *empty, *told])
    head = [
        "\\#",
        *map(tex, parameter_names(table.parameters).values()),
        "seeds",
        "dev",
        *map(tex, titles),
    ]
    layout = "r" + "l" * len(table.parameters) + "r" * (2 + len(titles))
    return booktabs(_caption(table, sweep), layout, head, rows)


def groups_tex(table: LanguageTable, sweep: Mapping[str, Any]) -> str:
    """A booktabs table of the means by group, in percent."""
    members = "; ".join(f"{group.title}: {', '.join(group.languages)}" for group in table.groups)
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
        [pick.rule, pick.is_oracle, pick.is_averaged]
        + [pick.value, pick.row.configuration if pick.row else None]
        + [cell.mean if cell else None for cell in _pick_cells(pick, table)]
        + [pick.row.supervision if pick.row else "", pick.missing]
        for pick in picks
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
        [tex(pick.rule), _number(pick.row) if pick.row else "--"]
        + [
            _tex_cell(cell, pick.row.num_seeds if pick.row else 0)
            for cell in _pick_cells(pick, table)
        ]
        for pick in picks
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
        [
            tex(level.parameter),
            tex(level.label),
            str(level.num_configurations),
            str(level.num_seeds),
        ]
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
