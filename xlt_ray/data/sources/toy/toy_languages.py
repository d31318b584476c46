"""The six toy languages: grammar, sound, kinship, and the words they got from a seed.

``qaa`` is the pivot that plays the part of English. A *cognate* is spelt as in the
language it comes from: the pivot for the first family, ``qae`` for its sister ``qaf``.
Distance from the pivot grows from ``qab`` (many cognates, the same order of clause) to
``qaf`` (another script, verb last, little parallel text), so that transfer has a slope.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from xlt_ray.data.sampling import Rng
from xlt_ray.data.sources.toy.concepts import concepts

PIVOT = "qaa"

_LATIN_TO_CYRILLIC = str.maketrans("abdefghiklmnoprstuvzjy", "абдефгхиклмнопрстувзйы")


@dataclass(frozen=True, slots=True)
class ToyLanguage:
    """How one language builds words and clauses.

    ``order`` is the order of subject, verb and object; ``cognates`` the share of words
    spelt as in ``relatives``; ``num_parallel`` how many parallel sentences exist; ``coverage``
    the share of its words that a lexicon knows.
    """

    code: str
    order: str
    adjective_first: bool
    determiner_first: bool
    negation_first: bool
    adverb_first: bool
    onsets: str
    vowels: str
    codas: str
    script: str = "Latn"
    relatives: str = ""
    cognates: float = 0.0
    num_parallel: int = 4000
    coverage: float = 1.0


TOY_LANGUAGES: dict[str, ToyLanguage] = {
    language.code: language
    for language in (
        ToyLanguage(
            "qaa", "SVO", True, True, True, False, "b d f k l m n p r s t v", "a e i o", "n r s",
        ),
        ToyLanguage(
            "qab", "SVO", False, True, True, False, "b d g l m n p r s t z", "a e i o u", "l n s",
            relatives="qaa", cognates=0.45,
        ),
        ToyLanguage(
            "qac", "SVO", True, True, False, True, "b d f g h k l m n r t", "a e o u", "r t",
            relatives="qaa", cognates=0.3, num_parallel=3000, coverage=0.95,
        ),
        ToyLanguage(
            "qad", "SVO", False, False, True, False, "ch d h j k l m p sh t y", "a i u", "k m",
            relatives="qaa", cognates=0.1, num_parallel=3000, coverage=0.95,
        ),
        ToyLanguage(
            "qae", "VSO", True, True, True, False, "b d g k l m n r s t v z", "a e i o u", "d n r",
            script="Cyrl", num_parallel=3000, coverage=0.9,
        ),
        ToyLanguage(
            "qaf", "SOV", False, False, True, True, "b d f g h k m n p t v", "a e i u y", "k l s",
            script="Cyrl", relatives="qae", cognates=0.3, num_parallel=1500, coverage=0.8,
        ),
    )
}  # fmt: skip


@dataclass(frozen=True)
class World:
    """Spelling of every concept in every language, all drawn from one seed.

    ``words[language][gloss]`` holds the forms of a concept. No spelling stands for two
    concepts or for two forms in one language; across languages only cognates share one.
    """

    seed: int
    words: dict[str, dict[str, tuple[str, ...]]]


@cache
def world(seed: int) -> World:
    """The world of one seed."""
    words: dict[str, dict[str, tuple[str, ...]]] = {}
    taken: set[str] = set()
    for code, language in TOY_LANGUAGES.items():
        rng = Rng("toy-words", seed, code)
        lexicon: dict[str, tuple[str, ...]] = {}
        for gloss, concept in concepts().items():
            relative_forms = words[language.relatives][gloss] if language.relatives else ()
            forms = []
            for form in range(concept.num_forms):
                if relative_forms and rng.chance(language.cognates):
                    forms.append(relative_forms[form])
                else:
                    forms.append(_new_word(language, rng, taken, is_name=concept.tag == "PROPN"))
            lexicon[gloss] = tuple(forms)
        words[code] = lexicon
    return World(seed, words)


def _new_word(language: ToyLanguage, rng: Rng, taken: set[str], *, is_name: bool) -> str:
    """A spelling that no language has yet: one to three syllables, longer when all are taken."""
    onsets, vowels, codas = language.onsets.split(), language.vowels.split(), language.codas.split()
    tries = 0
    while True:
        num_syllables = 1 + rng.below(2) + rng.below(2) + tries // 50
        word = "".join(rng.pick(onsets) + rng.pick(vowels) for _ in range(num_syllables))
        if rng.chance(0.5):
            word += rng.pick(codas)
        if language.script == "Cyrl":
            word = word.translate(_LATIN_TO_CYRILLIC)
        word = word.capitalize() if is_name else word
        if word not in taken:
            taken.add(word)
            return word
        tries += 1
