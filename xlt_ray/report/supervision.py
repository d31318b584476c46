"""How tables mark configurations that learned from more than labels of the source language.

``‡`` is translate-train, which is not zero-shot, and ``§`` an intermediate task with labels in a
language that is scored (:mod:`xlt_ray.spec.supervision`). Scores after few shots are in tables of
their own.
"""

from __future__ import annotations

from collections.abc import Iterable

from xlt_ray.spec.supervision import INTERMEDIATE, TRANSLATE_TRAIN

MARKS = {TRANSLATE_TRAIN: "‡", INTERMEDIATE: "§"}
TEX_MARKS = {TRANSLATE_TRAIN: r"$^{\ddagger}$", INTERMEDIATE: r"$^{\S}$"}
_MEANING = {
    TRANSLATE_TRAIN: "TRANSLATE-TRAIN, not zero-shot (labels of the source language were learned "
    "on training text in these scored languages)",
    INTERMEDIATE: "INTERMEDIATE LABELS (an intermediate task had labels in these scored languages)",
}


def marks(supervision: str, by_kind: dict[str, str] = MARKS) -> str:
    """The marks of a configuration.

    >>> marks("translate-train (de, fr)"), marks("zero-shot")
    ('‡', '')
    """
    return "".join(mark for kind, mark in by_kind.items() if kind in supervision)


def is_translate_train(supervision: str) -> bool:
    """Whether labels were learned on text in a language that is scored."""
    return TRANSLATE_TRAIN in supervision


def note(configurations: Iterable[tuple[int, str]]) -> str:
    """What has to stand where configurations are compared; empty where none is marked.

    >>> print(note([(0, "zero-shot"), (2, "translate-train (de)"), (3, "translate-train (de)")]))
    TRANSLATE-TRAIN, not zero-shot (labels of the source language were learned on training text in \
these scored languages): configurations 2, 3 (de).
    """
    found: dict[str, dict[str, list[int]]] = {}
    for configuration, supervision in configurations:
        for part in supervision.split("; "):
            kind, _, languages = part.partition(" (")
            if kind in MARKS:
                by_languages = found.setdefault(kind, {})
                by_languages.setdefault(languages.rstrip(")"), []).append(configuration)
    return " ".join(
        f"{_MEANING[kind]}: "
        + "; ".join(f"{_listed(numbers)} ({one})" for one, numbers in found[kind].items())
        + "."
        for kind in MARKS
        if kind in found
    )


def _listed(numbers: list[int]) -> str:
    """Configurations by number, of many how many they are.

    >>> _listed([1]), _listed([1, 3]), _listed(list(range(40)))
    ('configuration 1', 'configurations 1, 3', '40 configurations, which are marked')
    """
    if len(numbers) > 12:
        return f"{len(numbers)} configurations, which are marked"
    return f"configuration{'s' * (len(numbers) > 1)} {', '.join(map(str, sorted(numbers)))}"
