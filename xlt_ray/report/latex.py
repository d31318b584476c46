"""LaTeX source: text with its characters escaped, and booktabs tables that fit on a page.

A table that is wider than a column of text is cut into panels below each other, each with the
columns that name its rows; one that is longer than a page is continued in another float. A text
that is longer than ``MAX_TEXT`` goes over several lines of its cell.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Iterator, Sequence

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
        shown = (_broken(cells[one]) if layout[one] == "l" else cells[one] for one in columns)
        return " & ".join(shown) + " \\\\"

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
    widths = [_width(row[one]) for one in columns if layout[one] == "l"]
    return max((math.ceil(one / (0.75 * MAX_TEXT)) for one in widths if one > MAX_TEXT), default=1)


def _width(cell: str) -> float:
    """About how many letters wide a cell is set."""
    small = sum(0.8 * len(_set(one)) for one in _SMALL.findall(cell))
    return len(_set(_SMALL.sub("", cell))) + small


_SMALL = re.compile(r"\{\\scriptsize(.*?)\}")
_COMMAND = re.compile(r"\\[a-zA-Z]+(?:\{\})?")


def _set(source: str) -> str:
    return re.sub(r"[\\${}^]", "", _COMMAND.sub("x", source))
