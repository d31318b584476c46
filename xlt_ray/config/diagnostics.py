"""Diagnostics of an encoder, layer by layer: each is an entry here and a file of
``modeling/diagnostics/``. An entry names its function as ``module:object``.
"""

from __future__ import annotations

from collections.abc import Container, Mapping
from dataclasses import dataclass
from pkgutil import resolve_name
from typing import Any, Literal

DiagnosticName = Literal["retrieval", "cka", "alignment"]

VERSION = 1
"""Raised when the numbers of an encoder and a text change; part of the evaluation's key."""


@dataclass(frozen=True)
class Diagnostic:
    """One entry of the registry."""

    name: DiagnosticName
    implementation: str
    summary: str
    source: str
    unit: str
    """Label of an axis."""
    needs_links: bool = False
    """Whether it needs word alignments."""

    def load(self) -> Any:
        """Import and return what measures; see :mod:`xlt_ray.modeling.diagnostics`."""
        return resolve_name(self.implementation)


DIAGNOSTICS: Mapping[str, Diagnostic] = {
    entry.name: entry
    for entry in (
        Diagnostic(
            "retrieval",
            "xlt_ray.modeling.diagnostics.retrieval_accuracy:retrieval",
            "share of sentences whose nearest one by cosine is their translation, both ways",
            "arXiv 2003.11080 (Tatoeba in XTREME)",
            "retrieval accuracy",
        ),
        Diagnostic(
            "cka",
            "xlt_ray.modeling.diagnostics.cka:cka",
            "likeness of the two languages' spaces of sentences: linear CKA, debiased",
            "arXiv 1905.00414, section 3; debiased after arXiv 2010.15327, equation 3",
            "linear CKA",
        ),
        Diagnostic(
            "alignment",
            "xlt_ray.modeling.diagnostics.alignment_accuracy:alignment",
            "alignment error rate of words that are each other's nearest by cosine",
            "arXiv 2004.08728 (argmax); Och and Ney 2003",
            "alignment error rate",
            needs_links=True,
        ),
    )
}


@dataclass(frozen=True)
class Diagnosis:
    """What is measured in all stages of a path, and on which text."""

    names: tuple[str, ...]
    source_language: str
    languages: tuple[str, ...]
    """Each is compared with the source language."""
    num_sentences: int
    max_length: int

    @property
    def needs_links(self) -> bool:
        return any(DIAGNOSTICS[name].needs_links for name in self.names)


def diagnosed_languages(
    tested: tuple[str, ...], source: str, parallel: Container[str]
) -> tuple[str, ...]:
    """Languages that diagnostics set against the source: those scored that have parallel text.

    >>> diagnosed_languages(("de", "en", "sw"), "en", {"en": "", "de": ""})
    ('de',)
    """
    return tuple(language for language in tested if language != source and language in parallel)
