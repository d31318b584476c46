"""Meanings of toy sentences, and how each language says them.

A :class:`Clause` is language-free: slots filled with words, a word being a concept and
the number of its form. ``say`` puts it into one language; every spoken word keeps the
slot it came from, which is what makes gold word alignments and tags free.
"""

from __future__ import annotations

from typing import NamedTuple

from xlt_ray.data.sampling import Rng
from xlt_ray.data.sources.toy import concepts as meaning
from xlt_ray.data.sources.toy.toy_languages import TOY_LANGUAGES, World

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
    """One word of a sentence: the slot it fills (``subject.noun``), its tag, its spelling."""

    slot: str
    tag: str
    text: str


def draw_word(rng: Rng, gloss: str) -> Word:
    """A concept in a random one of its forms."""
    return Word(gloss, rng.below(meaning.concepts()[gloss].num_forms))


def draw_clause(rng: Rng) -> Clause:
    """A random clause of three to eight words, most of them in their usual company."""
    verb = rng.pick(meaning.glosses("VERB"))
    if rng.chance(0.1):
        subject = Phrase(Word(rng.pick(meaning.NAMES)))
    else:
        noun = _companion(rng, verb, "NOUN", "subject")
        determiner = Word(rng.pick(meaning.DETERMINERS)) if rng.chance(0.25) else None
        subject = Phrase(draw_word(rng, noun), determiner, _adjective(rng, noun))
    noun = _companion(rng, verb, "NOUN", "object")
    while noun == subject.noun.gloss:
        noun = rng.pick(meaning.members())
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
        return rng.pick(meaning.company(gloss, tag, relation))
    return rng.pick(meaning.members() if tag == "NOUN" else meaning.glosses(tag))


def _adjective(rng: Rng, noun: str) -> Word | None:
    if not rng.chance(0.3):
        return None
    return draw_word(rng, _companion(rng, noun, "ADJ", "adjective"))


def say(world: World, language: str, clause: Clause) -> list[Spoken]:
    """The clause in one language, word by word."""
    grammar, words = TOY_LANGUAGES[language], world.words[language]

    def spoken(slot: str, tag: str, word: Word | None) -> list[Spoken]:
        return [] if word is None else [Spoken(slot, tag, words[word.gloss][word.form])]

    def say_phrase(name: str, phrase: Phrase) -> list[Spoken]:
        tag = "PROPN" if phrase.noun.gloss in meaning.NAMES else "NOUN"
        noun = spoken(f"{name}.noun", tag, phrase.noun)
        adjective = spoken(f"{name}.adjective", "ADJ", phrase.adjective)
        determiner = spoken(f"{name}.determiner", "DET", phrase.determiner)
        inner = adjective + noun if grammar.adjective_first else noun + adjective
        return determiner + inner if grammar.determiner_first else inner + determiner

    verb = spoken("verb", "VERB", clause.verb)
    if clause.is_negated:
        negation = spoken("negation", "PART", Word(meaning.NEGATION))
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
