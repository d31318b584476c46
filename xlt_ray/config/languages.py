"""What is known of each language, from ``languages.tsv``: name, family, script, amount of text.

The table has the languages of ISO 639-3 that are written; ``benchmarks/language_table.py`` says
where its rows come from; families are URIEL's (CC BY-SA 4.0, under which the table may be shared).

``resources`` joins the six classes of Joshi et al. 2020 (arXiv 2004.09095) two by two: 4-5 high,
2-3 medium, 0-1 low. Reports group languages by it; nothing is computed from it.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
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


@cache
def languages() -> Mapping[str, Language]:
    """All languages of the table by their code: of two letters where ISO 639-1 has one, else of
    three."""
    with (resources.files("xlt_ray.config") / "languages.tsv").open(encoding="utf-8") as table:
        return {row["code"]: Language(**row) for row in csv.DictReader(table, delimiter="\t")}


@cache
def language(code: str) -> Language:
    """What is known of a language, whose code may be one of FLORES or BCP 47; a code that is not
    known stands for itself.

    >>> language("sw").family, language("swh_Latn").family
    ('Niger-Congo', 'Niger-Congo')
    >>> language("zh-Hant")
    Language(code='zh-Hant', name='Chinese', family='Sino-Tibetan', script='Hant', resources='high')
    >>> language("xyz")
    Language(code='xyz', name='xyz', family='unknown', script='unknown', resources='unknown')
    """
    known = languages().get(code) or _known_by_tag(code)
    return known or Language(code, code, "unknown", "unknown", "unknown")


def _known_by_tag(code: str) -> Language | None:
    """The row of a tag's language, or of the macrolanguage that it mostly stands for, with the
    script of the tag."""
    import langcodes

    for macro in (False, True):
        try:
            tag = langcodes.Language.get(langcodes.standardize_tag(code, macro=macro))
        except langcodes.LanguageTagError:
            return None
        known = languages().get(tag.language or "")
        if known is not None:
            return replace(known, code=code, script=tag.script or known.script)
    return None
