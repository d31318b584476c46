"""How commands print: tables, JSON and warnings."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import typer
from rich.console import Console, RenderableType
from rich.table import Table


def print_wide(shown: RenderableType) -> None:
    """Print a table or tree in the width of the terminal; a log or pipe gets 240 columns, so that
    nothing is cut there. Brackets in values are not markup."""
    console = Console(markup=False)
    (console if console.is_terminal else Console(width=240, markup=False)).print(shown)


def print_table(
    header: Iterable[str],
    rows: Iterable[Iterable[Any]],
    *,
    empty: str = "",
    legend: str | None = None,
) -> None:
    """Print rows of any values, or the line ``empty`` where there are none."""
    table = Table(*header, caption=legend, caption_justify="left")
    for row in rows:
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
