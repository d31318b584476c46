"""Scores as cells of the page's tables: many, so they are small and made without a template."""

from __future__ import annotations

from xlt_ray.report.evidence import Constant
from xlt_ray.report.tables import Cell

MISSING = '<td data-v><span class="soft" title="missing">–</span></td>'


def score_cell(
    cell: Cell | None,
    num_seeds: int,
    *,
    shade: float | None = None,
    warned: bool = False,
    constant: Constant | None = None,
) -> str:
    """HTML of one score: percent, deviation over seeds, and its number of seeds where it differs.

    What it opens follows from its row and column, so that none of it stands in the cell.

    Args:
        num_seeds: of its row.
        shade: strength of its background, 0 to 1.
        warned: whether a gap is smaller by the source language alone.
        constant: what is known of a network that says next to one thing to everything.
    """
    if cell is None:
        return MISSING
    style = f" style=--s:{shade:.2f}" if shade else ""
    small = "" if cell.deviation is None else f"±{100 * cell.deviation:.1f}"
    if cell.num_seeds != num_seeds:
        small += f" n={cell.num_seeds}"
    warning = (
        '<span class="warn" title="smaller only because the source language is worse">⚠ </span>'
        if warned
        else ""
    )
    if constant is not None:
        warning += f'<span class="warn" title="{constant}">≡ </span>'
    under = f"<small>{small}</small>" if small else ""
    return f"<td data-v={cell.mean:.6g}{style}>{warning}<a>{100 * cell.mean:.1f}</a>{under}</td>"
