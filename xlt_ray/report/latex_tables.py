"""Tables as files: CSV in full precision, LaTeX with booktabs in percent.

LaTeX tables are ``longtable``: rows go on over pages. A table wider than a line is cut into panels
below each other, each with the columns that name its rows; a long text is broken inside its cell.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pandas as pd

from xlt_ray.config.labels import parameter_names, value_label
from xlt_ray.config.task_types import TOO_FEW_ITEMS
from xlt_ray.report.effects import Effect, Effects
from xlt_ray.report.figures import csv_text
from xlt_ray.report.selection import Pick, counted, table_header
from xlt_ray.report.stats import named
from xlt_ray.report.tables import TEX_MARKS, Cell, LanguageTable, Row, marks

MAX_WIDTH = 76.0
"""Letters in a line of LaTeX's article class in small print."""
GAP = 2.6
"""Letters between two columns."""
MAX_TEXT = 32
"""Letters in a line of a text cell."""
_TEX = str.maketrans(
    {
        **{character: f"\\{character}" for character in "&%$#_{}"},
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
        # After the end of a line LaTeX would read a bracket or a star as an argument.
        "[": "{[}",
        "]": "{]}",
        "*": "{*}",
        "`": r"\textasciigrave{}",
    }
)
_COMMAND = re.compile(r"\\[a-zA-Z]+(?:\{\})?")


def tex(text: str) -> str:
    """Text with LaTeX's own characters escaped, in composed Unicode; a line break is a space.

    Letters of every script stay: :func:`needs_unicode` says which texts pdflatex cannot set.
    (pandas escapes neither brackets at the start of a row nor dashes that LaTeX would join.)

    >>> tex("a_b 50 %")
    'a\\\\_b 50 \\\\%'
    """
    plain = unicodedata.normalize("NFC", re.sub(r"\s", " ", text))
    escaped = "".join(filter(str.isprintable, plain)).translate(_TEX)
    return re.sub(r"([-',])(?=\1)", r"\1{}", escaped)


def needs_unicode(text: str) -> bool:
    """Whether a text has letters outside of LaTeX's T1 encoding (Latin with its accents).

    >>> needs_unicode("Türkçe, Łódź"), needs_unicode("中文")
    (False, True)
    """
    characters = set(unicodedata.normalize("NFC", text)) - set("–—‘’“”…€™×±−≡")
    return any(ord(each) > 0x17F or each in "ĦħĸĿŀŉŦŧſ" for each in characters)


def booktabs(
    caption: str,
    layout: str,
    head: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    label: str,
    num_keys: int = 1,
) -> str:
    """A table as one longtable for each panel of columns that fits on a line.

    Args:
        caption: as text.
        layout: one letter a column; ``l`` is one of text, whose long cells are broken.
        head: cells in LaTeX, as ``rows``.
        label: that a text refers to it by.
        num_keys: first columns, which name the rows and stand in every panel.
    """
    texts = [tex(caption), *(cell for row in [head, *rows] for cell in row)]
    engine = ", and lualatex or xelatex with a font that has all letters"
    lines = [
        "% needs \\usepackage{booktabs,longtable} and \\usepackage[T1]{fontenc}"
        + engine * any(map(needs_unicode, texts)),
        "\\begingroup\\small\\setlength{\\LTcapwidth}{\\textwidth}",
    ]
    cells = [
        [_broken(cell) if letter == "l" else cell for cell, letter in zip(row, layout, strict=True)]
        for row in rows
    ]
    frame = pd.DataFrame(cells, columns=range(len(head)), dtype=object)
    for number, columns in enumerate(_panels(layout, head, rows, num_keys)):
        title = "(continued)" if number else tex(caption)
        style = frame[columns].style.hide(axis="index")
        source = style.format_index(lambda column: head[column], axis="columns").to_latex(
            environment="longtable",
            hrules=True,
            caption=title,
            label=None if number else label,
            column_format="".join(layout[column] for column in columns),
        )
        lines += ["\\addtocounter{table}{-1}"] * (number > 0)
        # pandas repeats the whole caption on every page.
        lines.append(source.replace(f"\\caption[]{{{title}}}", "\\caption[]{(continued)}").rstrip())
    return "\n".join([*lines, "\\endgroup", ""])


def _panels(
    layout: str, head: Sequence[str], rows: Sequence[Sequence[str]], num_keys: int
) -> Iterator[list[int]]:
    """The columns of each panel: as many as fit on a line, and at least one beside the keys."""
    widths = []
    for column, letter in enumerate(layout):
        width = max(_width(row[column]) for row in [head, *rows])
        widths.append(GAP + (min(width, MAX_TEXT) if letter == "l" else width))
    keys = list(range(num_keys))
    chosen: list[int] = []
    for column in range(num_keys, len(head)):
        if chosen and sum(widths[each] for each in [*keys, *chosen, column]) > MAX_WIDTH:
            yield keys + chosen
            chosen = []
        chosen.append(column)
    yield keys + chosen


def _broken(cell: str) -> str:
    """A text cell, over several lines where it is longer than one."""
    if _width(cell) <= MAX_TEXT:
        return cell
    # Paths and lists of languages have no spaces to break at.
    loose = re.sub(r"([.+/:-]|\\_)(?=[A-Za-z])", r"\1\\allowbreak{}", cell)
    # A letter is about half as wide as an M.
    return f"\\parbox[t]{{{MAX_TEXT / 2:g}em}}{{\\raggedright {loose}\\strut}}"


def _width(cell: str) -> float:
    """About how many letters wide a cell is set."""
    plain = cell.replace(r"\scriptsize", "")
    return len(re.sub(r"[\\${}^]", "", _COMMAND.sub("x", plain)))


MAX_ROWS = 40
"""Configurations in LaTeX tables; CSV has all."""


def table_csv(table: LanguageTable, sweep: Mapping[str, Any]) -> str:
    """Mean, deviation, 95 % interval and seeds of every cell in full precision; a missing cell is
    empty. Intervals are Student's, over seeds.

    Every language has its number of test items, its level of chance, the share of its
    examples that ``max_length`` took a part of, where it took any, and the share of the
    most frequent prediction where that is next to all of them (the highest of the seeds), else
    nothing. ``shared_by_seeds`` names the trained stages that several seeds of a line go on from:
    its deviations and intervals are of what was trained after them. ``facts`` are the sets of
    facts that its trials were made with, ``selection`` says in every line by which rule the lines
    are ordered.
    """
    columns = ["mean", "mean_without_source", "gap", *(group.title for group in table.groups)]
    columns += table.languages
    rule, evidence = table_header(table, sweep), table.evidence
    names = ["configuration", *table.parameters, "supervision", "num_seeds"]
    names += ["objective", "objective_deviation"]
    suffixes = ("", "_deviation", "_low", "_high", "_seeds")
    names += [f"{column}{suffix}" for column in columns for suffix in suffixes]
    beside = ("items", "chance", "cut", "near_constant")
    names += [f"{code}_{name}" for code in table.languages for name in beside]
    names += ["gap_smaller_by_source_alone", "shared_by_seeds", "facts", "selection"]
    lines = []
    for row in table.rows:
        line: list[Any] = [row.configuration, *_labels(row, table), row.supervision, row.num_seeds]
        line += [row.objective.mean, row.objective.deviation] if row.objective else [None, None]
        for cell in (
            *(row.mean, row.mean_without_source, row.gap),
            *(row.groups.get(group.title) for group in table.groups),
            *(row.cells.get(language) for language in table.languages),
        ):
            low, high = (cell and cell.interval) or (None, None)
            line += [cell.mean, cell.deviation] if cell else [None, None]
            line += [low, high, cell.num_seeds if cell else 0]
        constants = row.near_constant
        for code in table.languages:
            constant = constants.get(code)
            line += [evidence.sizes.get(code), evidence.chance.get(code), evidence.cut.get(code)]
            line.append(constant and constant.share)
        lines.append([*line, table.is_gap_of_source(row), named(row.shared), row.facts, rule])
    return csv_text(names, lines)


def table_tex(table: LanguageTable, sweep: Mapping[str, Any]) -> str:
    """A booktabs table of percentages, its standard deviation in small print; below them the
    number of test items and the level of chance of every language."""
    titles = ["all", f"without {table.source_language}", "gap", *table.languages]
    rows = []
    for row in table.rows[:MAX_ROWS]:
        cells = [row.objective, row.mean, row.mean_without_source, row.gap]
        cells += [row.cells.get(language) for language in table.languages]
        printed = [_tex_cell(cell, row.num_seeds) for cell in cells]
        printed[3] += "$^{\\dagger}$" * table.is_gap_of_source(row)
        constants = row.near_constant
        for column, language in enumerate(table.languages, start=4):
            printed[column] += "$^{\\equiv}$" * (language in constants)
        rows.append([_number(row), *map(tex, _labels(row, table)), str(row.num_seeds), *printed])
    evidence = table.evidence
    empty = [""] * (len(table.parameters) + 5)
    sizes, chances = ["$n$", *empty], ["chance", *empty]
    for language in table.languages:
        star = "$^{*}$" * (language in evidence.small)
        chance = evidence.chance.get(language)
        sizes.append(f"{evidence.sizes.get(language, '--')}{star}")
        chances.append("--" if chance is None else f"{100 * chance:.1f}")
    names = map(tex, parameter_names(table.parameters).values())
    head = ["\\#", *names, "seeds", "dev", *map(tex, titles)]
    layout = "r" + "l" * len(table.parameters) + "r" * (2 + len(titles))
    rows += [sizes, chances]
    return booktabs(_caption(table, sweep), layout, head, rows, label=_label(table))


def groups_tex(table: LanguageTable, sweep: Mapping[str, Any]) -> str:
    """A booktabs table of the means by group, in percent."""
    members = "; ".join(f"{group.title}: {', '.join(group.languages)}" for group in table.groups)
    caption = (
        f"{table.task}, test {table.metric} in %, unweighted means over groups of languages, mean "
        f"over seeds (± standard deviation). {table_header(table, sweep)} {members}. "
        f"A dash is a group of which a language is missing. {table.evidence.groups_note()}"
        f"{_notes(table)}{_best(table)}"
    )
    rows = []
    for row in table.rows[:MAX_ROWS]:
        cells = [row.mean_without_source, *(row.groups.get(group.title) for group in table.groups)]
        printed = [_tex_cell(cell, row.num_seeds) for cell in cells]
        rows.append([_number(row), str(row.num_seeds), *printed])
    head = ["\\#", "seeds", f"without {tex(table.source_language)}"]
    head += [tex(group.title) for group in table.groups]
    return booktabs(caption, "r" * len(head), head, rows, label=_label(table, "groups"))


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
        f"without data.{_joined(table.supervision_note)}{_notes(table)}"
    )
    rows = []
    for pick in picks:
        num_seeds = pick.row.num_seeds if pick.row else 0
        cells = [_tex_cell(cell, num_seeds) for cell in _pick_cells(pick, table)]
        rows.append([tex(pick.rule), _number(pick.row) if pick.row else "--", *cells])
    source = tex(table.source_language)
    head = ["rule", "\\#", source, f"without {source}", "gap", "worst"]
    return booktabs(caption, "lrrrrr", head, rows, label=_label(table, "selection"))


def effects_tex(effects: Effects, table: LanguageTable, sweep: Mapping[str, Any]) -> str:
    """A booktabs table of the effect of every value on every series, in points of percent."""
    caption = (
        f"{table.task}: mean test {table.metric} of the configurations with a value minus that of "
        "all others, in points, and Welch's 95 % interval over configurations (those that share a "
        "trained stage which the others have not count as one), not corrected for the number of "
        f"intervals ({effects.num_intervals}). "
        f"{counted(sweep, table.source_language)}"
        f"{_joined(table.supervision_note, table.facts_note)}"
    )
    rows = [
        [tex(level.parameter), tex(level.label)]
        + [str(level.num_configurations), str(level.num_seeds)]
        + [_tex_effect(level.effects.get(name)) for name in effects.series]
        for level in effects.levels
    ]
    head = ["knob", "value", "configurations", "seeds", *map(tex, effects.series)]
    layout, label = "llrr" + "r" * len(effects.series), _label(table, "effects")
    return booktabs(caption, layout, head, rows, label=label, num_keys=2)


def _label(table: LanguageTable, what: str = "") -> str:
    """Named as the file is, without what LaTeX would read in it."""
    name = f"{table.stem}-{what}" if what else table.stem
    return "tab:" + re.sub(r"[^A-Za-z0-9-]", "-", name)


def _labels(row: Row, table: LanguageTable) -> list[str]:
    return [value_label(row.parameters[path]) for path in table.parameters]


def _number(row: Row) -> str:
    """Number of a configuration with its marks."""
    return f"{row.configuration}{marks(row.supervision, TEX_MARKS)}"


def _joined(*notes: str) -> str:
    return "".join(f" {note}" for note in notes if note)


def _pick_cells(pick: Pick, table: LanguageTable) -> list[Cell | None]:
    row = pick.row
    if row is None:
        return [None] * 4
    source = table.source_language
    return [row.cells.get(source), row.mean_without_source, row.gap, table.worst(row)]


def _caption(table: LanguageTable, sweep: Mapping[str, Any]) -> str:
    text = (
        f"{table.task}, test {table.metric} in %, mean over seeds (± standard deviation). "
        f"{table_header(table, sweep)} "
        f"Gap: {table.source_language} minus the mean of the others."
    )
    if any(map(table.is_gap_of_source, table.rows)):
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
    return _joined(table.spread_note, table.facts_note)


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
