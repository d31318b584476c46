"""How commands print: tables, JSON and warnings."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import typer
from rich.console import Console, RenderableType
from rich.table import Column, Table


def print_wide(shown: RenderableType) -> None:
    """Print a table or tree as wide as the terminal, or with 240 columns in a log or pipe, where
    nothing is cut. Brackets in values are not markup."""
    console = Console(markup=False)
    (console if console.is_terminal else Console(width=240, markup=False)).print(shown)


def print_table(
    header: Iterable[str | Column],
    rows: Iterable[Iterable[Any] | None],
    *,
    empty: str = "",
    title: str | None = None,
    legend: str | None = None,
    has_numbers: bool = False,
) -> None:
    """Print rows of any values, or the line ``empty`` if there are none.

    Args:
        rows: None in place of a row draws a line.
        has_numbers: columns with a name are aligned right.
    """
    table = Table(*header, title=title, caption=legend)
    table.title_justify = table.caption_justify = "left"
    for column in table.columns if has_numbers else ():
        column.justify = "right" if column.header else "left"
    for row in rows:
        if row is None:
            table.add_section()
        else:
            table.add_row(*map(str, row))
    if table.row_count:
        print_wide(table)
    else:
        typer.echo(empty)


def print_json(value: Any) -> None:
    typer.echo(json.dumps(value, indent=1, ensure_ascii=False))


def warn(line: str) -> None:
    """Print a warning to stderr, beside what the command prints."""
    typer.echo(f"warning: {line}", err=True)


def shown_number(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else "" if value is None else str(value)
