"""Figures as parts of a page: SVG elements that share the outlines of their letters."""

from __future__ import annotations

import re
from collections.abc import Sequence
from html import escape

from xlt_ray.report.figures import Figure

_GLYPH = re.compile(r'<path id="(DejaVuSans[^"]*)".*?/>', re.DOTALL)
_SHARED_STYLE = re.compile(r"<defs>\s*<style.*?</style>\s*</defs>", re.DOTALL)
"""Matplotlib's style, which would hold for the whole page; page.css has it for figures."""
_UNUSED = re.compile(r'<!--.*?-->| id="(?:figure|axes|patch|line2d|text|legend|xtick|ytick'
                     r'|matplotlib\.axis|PathCollection|PolyCollection|LineCollection'
                     r'|QuadMesh)_[\d.]+"', re.DOTALL)  # fmt: skip
_SIZE = re.compile(r' (?:width|height)="[^"]*pt"| xmlns(?::xlink)?="[^"]*"')


def inlined(figures: Sequence[Figure]) -> tuple[str, list[str]]:
    """The outlines of all letters as one hidden SVG element, and an SVG element for each figure.

    Equal ids of matplotlib stand for equal content, so figures may share a page.
    """
    glyphs: dict[str, str] = {}
    elements = []
    for figure in figures:
        text = figure.svg.decode()
        glyphs |= {found[1]: found[0] for found in _GLYPH.finditer(text)}
        for useless in (_GLYPH, _SHARED_STYLE, _UNUSED):
            text = useless.sub("", text)
        text = re.sub(r"<defs>\s*</defs>", "", text)
        head, bracket, rest = re.sub(r"\s+", " ", text).partition(">")
        label = escape(f"{figure.title}. {figure.caption}")
        head = f'{_SIZE.sub("", head)} role="img" aria-label="{label}"'
        elements.append(
            head + bracket + rest.replace("> <", "><").replace("xlink:href", "href").strip()
        )
    outlines = re.sub(r"\s+", " ", "".join(glyphs[name] for name in sorted(glyphs)))
    hidden = '<svg width="0" height="0" style="position:absolute" aria-hidden="true">'
    return f"{hidden}<defs>{outlines}</defs></svg>", elements
