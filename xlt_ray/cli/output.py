"""How commands print: tables, JSON and warnings."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import typer
from rich.box import SIMPLE_HEAD
from rich.cells import cell_len
from rich.console import Console, RenderableType
from rich.table import Column, Table

LOG_WIDTH = 120
"""Columns of a table in a log or pipe, if it can leave columns out."""

SHORT = 12
"""Widest cell of a column that is never broken."""


def print_wide(shown: RenderableType) -> None:
    """Print a table or tree as wide as the terminal, or with 240 columns in a log or pipe, where
    nothing is cut. Brackets in values are not markup."""
    console = Console(markup=False)
    (console if console.is_terminal else Console(width=240, markup=False)).print(shown)


def width_of_output() -> int:
    """Columns of the terminal, or those that a table in a log should keep to."""
    console = Console()
    return console.width if console.is_terminal else LOG_WIDTH


def print_table(
    header: Iterable[str | Column],
    rows: Iterable[Iterable[Any] | None],
    *,
    empty: str = "",
    title: str | None = None,
    legend: str | None = None,
    has_numbers: bool = False,
) -> None:
    """Print rows of any values, or the line ``empty`` if there are none; in a log or pipe as plain
    lines, whatever their width.

    Args:
        rows: None in place of a row draws a line.
        has_numbers: columns with a name are aligned right.
    """
    columns = [Column(head) if isinstance(head, str) else head for head in header]
    for column in columns if has_numbers else ():
        column.justify = "right" if column.header else "left"
    texts = [
        None if row is None else [" ".join(str(cell).splitlines()) for cell in row] for row in rows
    ]
    if not any(texts):
        typer.echo(empty)
    elif sys.stdout.isatty():
        # Short cells stay whole; the long ones share what is left.
        for place, column in enumerate(columns):
            cells = [column.header, *(text[place] for text in texts if text is not None)]
            column.no_wrap = column.no_wrap or max(cell_len(str(cell)) for cell in cells) <= SHORT
        table = Table(*columns, title=title, caption=legend, box=SIMPLE_HEAD, pad_edge=False)
        table.title_justify = table.caption_justify = "left"
        for text in texts:
            table.add_section() if text is None else table.add_row(*text)
        print_wide(table)
    else:
        lines = _aligned(columns, texts)
        typer.echo("\n".join([*filter(None, [title]), *lines, *filter(None, [legend])]))


def _aligned(columns: Sequence[Column], rows: Sequence[Sequence[str] | None]) -> Iterator[str]:
    """Lines of a table; Rich takes a millisecond for each of them."""
    header = [str(column.header) for column in columns]
    widths = [max(map(cell_len, cells)) for cells in zip(header, *filter(None, rows), strict=True)]
    line = ["-" * width for width in widths]
    for row in (header, line, *rows):
        cells = [
            " " * (width - cell_len(cell)) + cell
            if column.justify == "right"
            else cell + " " * (width - cell_len(cell))
            for cell, width, column in zip(row or line, widths, columns, strict=True)
        ]
        yield "  ".join(cells).rstrip()


def print_json(value: Any) -> None:
    """Print a list with a line for each element, and anything else indented."""
    if isinstance(value, list):
        # Python's encoder takes several times longer to indent.
        rows = ",\n".join(json.dumps(row, ensure_ascii=False) for row in value)
        typer.echo(f"[{rows}]")
    else:
        typer.echo(json.dumps(value, indent=1, ensure_ascii=False))


def warn(line: str) -> None:
    """Print a warning to stderr, beside what the command prints."""
    typer.echo(f"warning: {line}", err=True)


def shown_number(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else "" if value is None else str(value)
