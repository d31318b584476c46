"""The toy world: what can be said, the six languages that say it, and their words from a seed.

Glosses of concepts are English so that a meaning can be read in a debugger; none of the languages
is. ``qaa`` is the pivot that plays the part of English. A *cognate* is spelt as in the language it
comes from. Distance from the pivot grows from ``qab`` (many cognates, the same order of clause) to
``qaf`` (another script, verb last, little parallel text), so that transfer has a slope.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

from xlt_ray.data.sampling import Rng

CATEGORIES = {
    "animal": "dog cat horse bird fish",
    "person": "child teacher farmer doctor singer",
    "food": "bread apple cheese soup rice",
    "vehicle": "cart boat train bicycle sledge",
    "tool": "hammer knife rope shovel needle",
    "plant": "tree rose reed moss vine",
}
OPPOSITE_VERBS = (
    "push pull", "find lose", "buy sell", "love hate", "build destroy", "show hide",
)  # fmt: skip
OPPOSITE_ADJECTIVES = ("big small", "hot cold", "old new", "wet dry", "clean dirty")
DETERMINERS = ("every", "some")
ADVERBS = ("here", "there", "today", "often")
NAMES = ("Ada", "Bo", "Cleo", "Dax", "Eli", "Fay")
CONNECTIVES = ("so", "but", "and")
NEGATION = "not"

TAGS = ("ADJ", "ADV", "CCONJ", "DET", "NOUN", "PART", "PROPN", "VERB")
"""Universal part-of-speech tags that occur in the toy languages."""


@dataclass(frozen=True, slots=True)
class Concept:
    """One meaning. Two forms of a concept are synonyms; opposites and the ``category`` of a noun
    decide the toy tasks."""

    gloss: str
    tag: str
    num_forms: int = 1
    category: str = ""
    opposite: str = ""


@cache
def concepts() -> dict[str, Concept]:
    """Every concept by gloss, in a fixed order."""
    listed: list[Concept] = []
    for category, nouns in CATEGORIES.items():
        listed.append(Concept(category, "NOUN"))
        listed.extend(
            Concept(noun, "NOUN", 2 - place % 2, category=category)
            for place, noun in enumerate(nouns.split())
        )
    for tag, pairs in (("VERB", OPPOSITE_VERBS), ("ADJ", OPPOSITE_ADJECTIVES)):
        for first, second in map(str.split, pairs):
            listed.append(Concept(first, tag, 2, opposite=second))
            listed.append(Concept(second, tag, 2, opposite=first))
    for tag, words in (
        ("DET", DETERMINERS),
        ("ADV", ADVERBS),
        ("PROPN", NAMES),
        ("CCONJ", CONNECTIVES),
        ("PART", (NEGATION,)),
    ):
        listed.extend(Concept(gloss, tag) for gloss in words)
    return {concept.gloss: concept for concept in listed}


@cache
def glosses(tag: str) -> tuple[str, ...]:
    """Glosses of one word class."""
    return tuple(gloss for gloss, concept in concepts().items() if concept.tag == tag)


@cache
def members() -> tuple[str, ...]:
    """Nouns that belong to a category."""
    return tuple(gloss for gloss, concept in concepts().items() if concept.category)


@cache
def strangers(gloss: str) -> tuple[str, ...]:
    """Members of all other categories."""
    category = concepts()[gloss].category
    return tuple(member for member in members() if concepts()[member].category != category)


@cache
def company(gloss: str, tag: str, relation: str) -> tuple[str, ...]:
    """Words of class ``tag`` that ``gloss`` is usually heard with, as its ``relation``.

    Without preferences every noun would occur in the same contexts and no amount of text
    could tell which words of two languages, or which two forms, mean the same.
    """
    choices = members() if tag == "NOUN" else glosses(tag)
    return tuple(Rng("toy-company", gloss, tag, relation).shuffled(choices)[: _COMPANY[tag]])


_COMPANY = {"NOUN": 4, "ADJ": 2, "ADV": 1}
"""Number of words of a class that a word is usually heard with."""

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


ToyWords = dict[str, dict[str, tuple[str, ...]]]
"""Language -> gloss of a concept -> its forms."""


@cache
def toy_words(seed: int) -> ToyWords:
    """Spelling of every concept in every language, all drawn from one seed.

    No spelling stands for two concepts or for two forms in one language; across languages only
    cognates share one.
    """
    words: ToyWords = {}
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
    return words


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


USUAL = 0.8
"""Probability that a word is drawn from the usual company of the word it goes with."""


class Word(NamedTuple):
    """A concept in one of its forms."""

    gloss: str
    form: int = 0


class Phrase(NamedTuple):
    """A noun, or a name (then without determiner and adjective)."""

    noun: Word
    determiner: Word | None = None
    adjective: Word | None = None


class Clause(NamedTuple):
    """Who (not) does what to whom, possibly where or when."""

    subject: Phrase
    verb: Word
    object: Phrase
    is_negated: bool = False
    adverb: Word | None = None


class Spoken(NamedTuple):
    """One word of a sentence: the slot it fills (``subject.noun``), its tag, its spelling.

    The slot is what makes gold word alignments and tags free.
    """

    slot: str
    tag: str
    text: str


def draw_word(rng: Rng, gloss: str) -> Word:
    """A concept in a random one of its forms."""
    return Word(gloss, rng.below(concepts()[gloss].num_forms))


def draw_clause(rng: Rng) -> Clause:
    """A random clause of three to eight words, most of them in their usual company."""
    verb = rng.pick(glosses("VERB"))
    if rng.chance(0.1):
        subject = Phrase(Word(rng.pick(NAMES)))
    else:
        noun = _companion(rng, verb, "NOUN", "subject")
        determiner = Word(rng.pick(DETERMINERS)) if rng.chance(0.25) else None
        subject = Phrase(draw_word(rng, noun), determiner, _adjective(rng, noun))
    noun = _companion(rng, verb, "NOUN", "object")
    while noun == subject.noun.gloss:
        noun = rng.pick(members())
    adverb = Word(_companion(rng, verb, "ADV", "adverb")) if rng.chance(0.15) else None
    return Clause(
        subject,
        draw_word(rng, verb),
        Phrase(draw_word(rng, noun), None, _adjective(rng, noun)),
        is_negated=rng.chance(0.1),
        adverb=adverb,
    )


def _companion(rng: Rng, gloss: str, tag: str, relation: str) -> str:
    if rng.chance(USUAL):
        return rng.pick(company(gloss, tag, relation))
    return rng.pick(members() if tag == "NOUN" else glosses(tag))


def _adjective(rng: Rng, noun: str) -> Word | None:
    if not rng.chance(0.3):
        return None
    return draw_word(rng, _companion(rng, noun, "ADJ", "adjective"))


def say(words: ToyWords, language: str, clause: Clause, prefix: str = "") -> list[Spoken]:
    """The clause in one language, word by word; slots begin with ``prefix``."""
    grammar, spellings = TOY_LANGUAGES[language], words[language]

    def spoken(slot: str, tag: str, word: Word | None) -> list[Spoken]:
        if word is None:
            return []
        return [Spoken(prefix + slot, tag, spellings[word.gloss][word.form])]

    def say_phrase(name: str, phrase: Phrase) -> list[Spoken]:
        tag = "PROPN" if phrase.noun.gloss in NAMES else "NOUN"
        noun = spoken(f"{name}.noun", tag, phrase.noun)
        adjective = spoken(f"{name}.adjective", "ADJ", phrase.adjective)
        determiner = spoken(f"{name}.determiner", "DET", phrase.determiner)
        inner = adjective + noun if grammar.adjective_first else noun + adjective
        return determiner + inner if grammar.determiner_first else inner + determiner

    verb = spoken("verb", "VERB", clause.verb)
    if clause.is_negated:
        negation = spoken("negation", "PART", Word(NEGATION))
        verb = negation + verb if grammar.negation_first else verb + negation
    parts = {
        "S": say_phrase("subject", clause.subject),
        "V": verb,
        "O": say_phrase("object", clause.object),
    }
    body = [word for part in grammar.order for word in parts[part]]
    adverb = spoken("adverb", "ADV", clause.adverb)
    return adverb + body if grammar.adverb_first else body + adverb


def text_of(spoken: list[Spoken]) -> str:
    return " ".join(word.text for word in spoken)
