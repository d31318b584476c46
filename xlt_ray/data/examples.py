"""What one example is: a tagged sentence or a pair of sentences. Plain text, no pieces."""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True)
class TagExample:
    """One tag per word; ``tags`` is None where only the text may be seen."""

    id: str
    words: tuple[str, ...]
    tags: tuple[str, ...] | None


@dataclass(frozen=True, slots=True)
class PairExample:
    """Two sentences and their relation; ``label`` is None where only the text may be seen."""

    id: str
    first: str
    second: str
    label: str | None


Example = TagExample | PairExample


def without_labels(example: Example) -> Example:
    """The same text, its label hidden."""
    if isinstance(example, TagExample):
        return replace(example, tags=None)
    return replace(example, label=None)


def sentences(example: Example) -> tuple[tuple[str, ...], ...]:
    """Words of every sentence: one sentence for a tag example, two for a pair.

    Words of a pair are what whitespace separates, so Chinese and Japanese sentences are
    one long word each.
    """
    if isinstance(example, TagExample):
        return (example.words,)
    return (tuple(example.first.split()), tuple(example.second.split()))
