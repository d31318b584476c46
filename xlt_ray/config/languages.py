"""What is known of each language, from ``languages.tsv``: name, family, script, amount of text.

``resources`` joins the six classes of Joshi et al. 2020 (arXiv 2004.09095) two by two: 4-5 high,
2-3 medium, 0-1 low. Reports group languages by it; nothing is computed from it.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from importlib import resources


@dataclass(frozen=True, slots=True)
class Language:
    """One language by its ISO 639 code."""

    code: str
    name: str
    family: str
    script: str
    resources: str
    """``high``, ``medium``, ``low`` or ``unknown``."""


with (resources.files("xlt_ray.config") / "languages.tsv").open(encoding="utf-8") as table:
    LANGUAGES = {row["code"]: Language(**row) for row in csv.DictReader(table, delimiter="\t")}


def language(code: str) -> Language:
    """What is known of a language; a code that is not listed stands for itself.

    >>> language("sw").family
    'Niger-Congo'
    >>> language("xyz")
    Language(code='xyz', name='xyz', family='unknown', script='unknown', resources='unknown')
    """
    return LANGUAGES.get(code, Language(code, code, "unknown", "unknown", "unknown"))
