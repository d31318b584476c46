"""Figures of a sweep. Here: what all share, style, files, axes of numbers, and lines of means.

The same rows give the same bytes: figures hold no dates, and SVG ids are fixed.
"""

from __future__ import annotations

import contextlib
import csv
import io
import itertools
import math
import re
import statistics
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import pandas as pd

BLUE, VERMILION, GREEN, ORANGE = "#0072B2", "#D55E00", "#009E73", "#E69F00"
SKY, PURPLE, BLACK, GREY = "#56B4E9", "#CC79A7", "#222222", "#5F6B7A"
SERIES = (BLUE, VERMILION, GREEN, ORANGE, PURPLE, SKY)
"""Okabe and Ito's colours, which the colour-blind tell apart; series differ in marks, too."""
MARKS = ("o", "D", "s", "^", "v", "P")

Section = Literal["best", "question", "parameter"]


@dataclass(frozen=True)
class Figure:
    """A figure by its file name, what it shows in a sentence, its rows, and the drawn canvas,
    of which files are made when they are asked for."""

    name: str
    title: str
    caption: str
    csv: str
    canvas: Any
    section: Section = "question"
    """Where the page shows it."""

    @cached_property
    def svg(self) -> bytes:
        from matplotlib.backends.backend_svg import FigureCanvasSVG

        stream = io.BytesIO()
        with style():
            # savefig would draw it once more beforehand, to find places that stay as they are.
            FigureCanvasSVG(self.canvas).print_svg(
                stream, metadata=dict.fromkeys(("Date", "Creator", "Format", "Type"))
            )
        self.canvas.set_layout_engine("none")
        # The document type is an address elsewhere, and browsers need none.
        drawing = stream.getvalue()
        return drawing[drawing.index(b"<svg") :]

    @cached_property
    def png(self) -> bytes:
        from matplotlib.backends.backend_agg import FigureCanvasAgg

        assert self.svg, "its layout has been found"
        stream = io.BytesIO()
        with style():
            self.canvas.set_dpi(200)
            FigureCanvasAgg(self.canvas).print_png(stream, metadata={"Software": None})
        return stream.getvalue()

    @cached_property
    def pdf(self) -> bytes:
        from matplotlib.backends.backend_pdf import FigureCanvasPdf

        assert self.svg, "its layout has been found"
        stream = io.BytesIO()
        with style():
            FigureCanvasPdf(self.canvas).print_pdf(
                stream, metadata=dict.fromkeys(("Creator", "Producer", "CreationDate"))
            )
        return stream.getvalue()


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


@contextmanager
def new_canvas(
    width: float, height: float, columns: int = 1, rows: int = 1
) -> Iterator[tuple[Any, Any]]:
    """A figure of its own: the reader's matplotlib settings and windows play no part.

    Its axes are one, or an array of ``columns`` side by side, in ``rows`` below each other.
    """
    from xlt_ray.report.figures.canvas import Canvas

    with style():
        figure = Canvas(figsize=(width, height))
        yield figure, figure.subplots(rows, columns)


@contextmanager
def style() -> Iterator[None]:
    """matplotlib's settings of all figures, whatever the reader's are."""
    import matplotlib as mpl

    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(_STYLE)
        yield


def figure_of(
    canvas: Any,
    name: str,
    title: str,
    caption: str,
    header: Sequence[str],
    rows: Sequence[Sequence[Any]],
    section: Section = "question",
) -> Figure:
    """A drawn canvas with its texts and the rows that it shows."""
    return Figure(name, title, caption.strip(), csv_text(header, rows), canvas, section)


def write_figure(figure: Figure, folder: Path) -> None:
    """Write a figure as SVG, PNG and CSV."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{figure.name}.svg").write_bytes(figure.svg)
    (folder / f"{figure.name}.png").write_bytes(figure.png)
    (folder / f"{figure.name}.csv").write_text(figure.csv, encoding="utf-8")


def csv_text(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """Rows as CSV, each value as it is; a missing one is an empty cell, a formula is text."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(map(as_text, header))
    # pandas would make floats of whole numbers beside a missing one.
    writer.writerows(map(as_text, row) for row in rows)
    return stream.getvalue()


def csv_of(frame: pd.DataFrame) -> str:
    """A frame as CSV; what would be a formula is text."""
    safe = frame.rename(columns=as_text)
    for name, column in safe.select_dtypes(exclude=["number", "bool", "boolean"]).items():
        texts = {value: as_text(value) for value in column.unique() if isinstance(value, str)}
        changed = {value: text for value, text in texts.items() if text != value}
        if changed:
            safe[name] = column.map(lambda value, changed=changed: changed.get(value, value))
    return str(safe.to_csv(index=False, lineterminator="\n"))


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


MAX_EXACT = 8
"""Distinct numbers that are joined one by one; more are joined by the means of bins."""
NUM_BINS = 5


def means(
    pairs: Sequence[tuple[float, float]], is_log: bool, num_exact: float = MAX_EXACT
) -> list[tuple[float, float]]:
    """Means per value, or of bins with equally many points where there are more values."""
    places = sorted({place for place, _ in pairs})
    if len(places) <= num_exact:
        groups = [[pair for pair in pairs if pair[0] == place] for place in places]
    else:
        bounds = [round(index * len(pairs) / NUM_BINS) for index in range(NUM_BINS + 1)]
        groups = [list(pairs[a:b]) for a, b in itertools.pairwise(bounds) if b > a]
    line = []
    for group in groups:
        xs, ys = columns_of(group)
        middle = math.exp(statistics.fmean(map(math.log, xs))) if is_log else statistics.fmean(xs)
        line.append((middle, statistics.fmean(ys)))
    return line


def columns_of(pairs: Sequence[tuple[Any, float]]) -> tuple[list[Any], list[float]]:
    """Pairs as the two lists that matplotlib takes."""
    return [pair[0] for pair in pairs], [pair[1] for pair in pairs]


def draw_series(
    axes: Any,
    pairs: Sequence[tuple[float, float]],
    line: Sequence[tuple[float, float]],
    color: str,
    marker: str,
    **style: Any,
) -> None:
    """A pale mark for each configuration, and a line through their means.

    Args:
        style: of the line, in place of its defaults.
    """
    axes.plot(*columns_of(pairs), marker, color=color, ms=5, alpha=0.35, mew=0)
    axes.plot(*columns_of(line), **{"marker": marker, "color": color, "ms": 6, "lw": 1.8, **style})


def draw_absent(axes: Any, values: Sequence[float], color: str, label: str | None = None) -> None:
    """A dashed line at the mean of the configurations that lack the parameter, if there are any."""
    if values:
        axes.axhline(statistics.fmean(values), color=color, lw=1, ls="--", zorder=0, label=label)


def number_ticks(axes: Any, numbers: Sequence[float], absent: float | None, is_log: bool) -> None:
    """Ticks at the values themselves where they are few and apart, else matplotlib's."""
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

    first = numbers[0] if absent is None else absent
    scale = math.log if is_log else float
    width = scale(numbers[-1]) - scale(first)
    gaps = [scale(b) - scale(a) for a, b in itertools.pairwise(numbers)]
    if len(numbers) <= MAX_EXACT and min(gaps) > 0.11 * width:
        places = list(numbers)
    elif is_log:
        places = list(_decades(numbers[0], numbers[-1]))
    else:
        from matplotlib.ticker import MaxNLocator

        whole = all(number == int(number) for number in numbers)
        ticks = MaxNLocator(5, integer=whole).tick_values(numbers[0], numbers[-1])
        slack = 0.02 * (numbers[-1] - numbers[0])
        places = [t for t in ticks if numbers[0] - slack <= t <= numbers[-1] + slack]
    if absent is not None:
        places = [absent, *places]
    axes.xaxis.set_major_locator(FixedLocator(places))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(
        FuncFormatter(lambda place, _: "none" if place == absent else short_number(place))
    )


def _decades(low: float, high: float) -> Iterator[float]:
    for power in range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1):
        for digit in (1, 3):
            if low * 0.99 <= digit * 10.0**power <= high * 1.01:
                yield digit * 10.0**power


def short_number(number: float) -> str:
    if abs(number) >= 10_000:
        return f"{number / 1000:.4g}k"
    return f"{number:.3g}" if abs(number) < 1000 else f"{number:.0f}"


def jitter(index: int) -> float:
    """Places from -1 to 1 that fill evenly (van der Corput); the same in every run."""
    place, step = 0.0, 0.5
    index += 1
    while index:
        place += step * (index % 2)
        index //= 2
        step /= 2
    return 2 * place - 1


def natural(text: str) -> tuple[bool, list[tuple[bool, float, str]]]:
    """``toy:4x64`` before ``toy:12x64``, and ``none`` before everything."""
    parts = re.split(r"(\d+)", text)
    return text != "none", [
        (not part.isdigit(), float(part) if part.isdigit() else 0.0, part) for part in parts if part
    ]
