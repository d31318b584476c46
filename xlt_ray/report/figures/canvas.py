"""The matplotlib figure that all figures of a sweep are drawn on."""

from __future__ import annotations

import io

from matplotlib.figure import Figure

from xlt_ray.report.figures import style


class Canvas(Figure):
    """Shows itself in a notebook, which knows a plain ``Figure`` by its type alone and only after
    ``matplotlib.pyplot`` has been imported."""

    def _repr_png_(self) -> bytes:
        stream = io.BytesIO()
        with style():
            self.savefig(stream, format="png", dpi=110)
        return stream.getvalue()
