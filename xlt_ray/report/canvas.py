"""What every figure shares: its value, its style, and its three files.

Files are the same bytes for the same rows: no dates, fixed SVG ids.
"""

from __future__ import annotations

import contextlib
import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

BLUE, VERMILION, GREEN, ORANGE = "#0072B2", "#D55E00", "#009E73", "#E69F00"
SKY, PURPLE, BLACK, GREY = "#56B4E9", "#CC79A7", "#222222", "#5F6B7A"
SERIES = (BLUE, VERMILION, GREEN, ORANGE, PURPLE, SKY)
"""Okabe and Ito's colours, which the colour-blind tell apart; series differ in marks, too."""
MARKS = ("o", "D", "s", "^", "v", "P")


@dataclass(frozen=True)
class Figure:
    """A figure by its file name, what it shows in a sentence, its rows, and its two files."""

    name: str
    title: str
    caption: str
    csv: str
    svg: bytes
    png: bytes
    section: Literal["best", "question", "knob"] = "knob"
    """Where the page shows it."""


_STYLE: Mapping[str, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "axes.labelsize": 9,
    "axes.edgecolor": "#5F6B7A",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#E3E7EC",
    "grid.linewidth": 0.7,
    "xtick.color": "#2B3440",
    "ytick.color": "#2B3440",
    "legend.frameon": False,
    "hatch.linewidth": 0.8,
    "svg.hashsalt": "xlt-ray",
    "svg.fonttype": "path",
    # A dollar sign in a name is a dollar sign.
    "text.parse_math": False,
    "figure.constrained_layout.use": True,
}


_SVG_METADATA = ("Date", "Creator", "Format", "Type")
"""What matplotlib would write of itself."""


@contextmanager
def new_canvas(
    width: float, height: float, columns: int = 1, rows: int = 1
) -> Iterator[tuple[Any, Any]]:
    """A figure of its own: the reader's matplotlib settings and windows play no part.

    Its axes are one, or an array of ``columns`` side by side, in ``rows`` below each other.
    """
    import matplotlib as mpl
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure as Canvas

    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(_STYLE)
        figure = Canvas(figsize=(width, height))
        FigureCanvasAgg(figure)
        yield figure, figure.subplots(rows, columns)


def rendered(figure: Any) -> tuple[bytes, bytes]:
    """A drawn canvas as SVG and PNG."""
    svg, png = io.BytesIO(), io.BytesIO()
    figure.savefig(svg, format="svg", metadata=dict.fromkeys(_SVG_METADATA))
    figure.savefig(png, format="png", dpi=200, metadata={"Software": None})
    # The document type is an address elsewhere, and browsers need none.
    drawing = svg.getvalue()
    return drawing[drawing.index(b"<svg") :], png.getvalue()


def write_figure(figure: Figure, folder: Path) -> None:
    """Write a figure as SVG, PNG and CSV."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{figure.name}.svg").write_bytes(figure.svg)
    (folder / f"{figure.name}.png").write_bytes(figure.png)
    (folder / f"{figure.name}.csv").write_text(figure.csv, encoding="utf-8")


def csv_text(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """Rows as CSV; a missing value is an empty cell, and what would be a formula is text."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(map(as_text, header))
    writer.writerows(["" if cell is None else as_text(cell) for cell in row] for row in rows)
    return stream.getvalue()


def as_text(value: Any) -> Any:
    """A name or cell that a spreadsheet would take for a formula, with an apostrophe before it.

    >>> as_text("=1+1"), as_text("de"), as_text(-0.5), as_text("-0.5")
    ("'=1+1", 'de', -0.5, '-0.5')
    """
    if not isinstance(value, str):
        return value
    # A carriage return would begin a row, whose first cell may be a formula again.
    value = value.replace("\r", " ")
    if not value.startswith(("=", "+", "-", "@", "\t", "\n")):
        return value
    with contextlib.suppress(ValueError):
        float(value)
        return value
    return f"'{value}"
