"""LaTeX source: text with its characters escaped, and booktabs tables that fit on a page.

A table that is wider than a column of text is cut into panels below each other, each with the
columns that name its rows; one that is longer than a page is continued in another float.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence

MAX_WIDTH = 76.0
"""Of a panel in letters, which is a line of LaTeX's article class in small print."""
GAP = 2.6
"""Letters between two columns."""
MAX_LINES = 40
"""Of a float, rules and heads included."""


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
    known = "–—‘’“”…€™×±−"
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
        layout: one letter a column.
        head: cells in LaTeX, as ``rows``.
        num_keys: first columns, which name the rows and stand in every panel.
    """
    body = [tex(caption), *(cell for row in [head, *rows] for cell in row)]
    engine = ", and lualatex or xelatex with a font that has all letters" * any(
        map(needs_unicode, body)
    )
    lines = [f"% needs \\usepackage{{booktabs}} and \\usepackage[T1]{{fontenc}}{engine}"]
    for number, panels in enumerate(_floats(layout, head, rows, num_keys)):
        lines += ["\\begin{table}", "\\centering\\small"]
        if number:
            lines.append("\\addtocounter{table}{-1}")
        lines.append(f"\\caption{{{'(continued)' if number else tex(caption)}}}")
        lines.append("\n\\par\\medskip\n".join(panels))
        lines += ["\\end{table}"]
    return "\n".join([*lines, ""])


def _floats(
    layout: str, head: Sequence[str], rows: Sequence[Sequence[str]], num_keys: int
) -> Iterator[list[str]]:
    """The panels of each float."""
    step = MAX_LINES - 4
    panels: list[str] = []
    num_lines = 0
    for first in range(0, max(len(rows), 1), step):
        part = rows[first : first + step]
        for columns in _columns(head, part, num_keys):
            if panels and num_lines + len(part) + 4 > MAX_LINES:
                yield panels
                panels, num_lines = [], 0
            panels.append(_panel(layout, head, part, columns))
            num_lines += len(part) + 4
    yield panels


def _columns(
    head: Sequence[str], rows: Sequence[Sequence[str]], num_keys: int
) -> Iterator[list[int]]:
    """The columns of each panel: as many as fit, and at least one beside the keys."""
    widths = [max(_width(row[place]) for row in [head, *rows]) + GAP for place in range(len(head))]
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
        return " & ".join(cells[one] for one in columns) + " \\\\"

    return "\n".join(
        [
            f"\\begin{{tabular}}{{{''.join(layout[one] for one in columns)}}}",
            "\\toprule",
            line(head),
            "\\midrule",
            *map(line, rows),
            "\\bottomrule",
            "\\end{tabular}",
        ]
    )


def _width(cell: str) -> float:
    """About how many letters wide a cell is set."""
    small = sum(0.8 * len(_set(one)) for one in _SMALL.findall(cell))
    return len(_set(_SMALL.sub("", cell))) + small


_SMALL = re.compile(r"\{\\scriptsize(.*?)\}")
_COMMAND = re.compile(r"\\[a-zA-Z]+(?:\{\})?")


def _set(source: str) -> str:
    return re.sub(r"[\\${}^]", "", _COMMAND.sub("x", source))
