"""Meanings of toy sentences, and how each language says them.

A :class:`Clause` is language-free: slots filled with words, a word being a concept and
the number of its form. ``say`` puts it into one language; every spoken word keeps the
slot it came from, which is what makes gold word alignments and tags free.
"""

from __future__ import annotations

from typing import NamedTuple

from xlt_ray.data.sampling import Rng
from xlt_ray.data.sources.toy import concepts as meaning
from xlt_ray.data.sources.toy.toy_languages import TONGUES, World

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


def draw_word(dice: Rng, gloss: str) -> Word:
    """A concept in a random one of its forms."""
    return Word(gloss, dice.below(meaning.concepts()[gloss].num_forms))


def draw_clause(dice: Rng) -> Clause:
    """A random clause of three to eight words, most of them in their usual company."""
    verb = dice.pick(meaning.glosses("VERB"))
    if dice.chance(0.1):
        subject = Phrase(Word(dice.pick(meaning.NAMES)))
    else:
        noun = _companion(dice, verb, "NOUN", "subject")
        determiner = Word(dice.pick(meaning.DETERMINERS)) if dice.chance(0.25) else None
        subject = Phrase(draw_word(dice, noun), determiner, _adjective(dice, noun))
    noun = _companion(dice, verb, "NOUN", "object")
    while noun == subject.noun.gloss:
        noun = dice.pick(meaning.members())
    adverb = Word(_companion(dice, verb, "ADV", "adverb")) if dice.chance(0.15) else None
    return Clause(
        subject,
        draw_word(dice, verb),
        Phrase(draw_word(dice, noun), None, _adjective(dice, noun)),
        is_negated=dice.chance(0.1),
        adverb=adverb,
    )


def _companion(dice: Rng, gloss: str, tag: str, relation: str) -> str:
    if dice.chance(USUAL):
        return dice.pick(meaning.company(gloss, tag, relation))
    return dice.pick(meaning.members() if tag == "NOUN" else meaning.glosses(tag))


def _adjective(dice: Rng, noun: str) -> Word | None:
    if not dice.chance(0.3):
        return None
    return draw_word(dice, _companion(dice, noun, "ADJ", "adjective"))


def say(world: World, language: str, clause: Clause) -> list[Spoken]:
    """The clause in one language, word by word."""
    tongue, words = TONGUES[language], world.words[language]

    def spoken(slot: str, tag: str, word: Word | None) -> list[Spoken]:
        return [] if word is None else [Spoken(slot, tag, words[word.gloss][word.form])]

    def phrase(name: str, one: Phrase) -> list[Spoken]:
        tag = "PROPN" if one.noun.gloss in meaning.NAMES else "NOUN"
        noun = spoken(f"{name}.noun", tag, one.noun)
        adjective = spoken(f"{name}.adjective", "ADJ", one.adjective)
        determiner = spoken(f"{name}.determiner", "DET", one.determiner)
        inner = adjective + noun if tongue.adjective_first else noun + adjective
        return determiner + inner if tongue.determiner_first else inner + determiner

    verb = spoken("verb", "VERB", clause.verb)
    if clause.is_negated:
        negation = spoken("negation", "PART", Word(meaning.NEGATION))
        verb = negation + verb if tongue.negation_first else verb + negation
    parts = {
        "S": phrase("subject", clause.subject),
        "V": verb,
        "O": phrase("object", clause.object),
    }
    body = [one for part in tongue.order for one in parts[part]]
    adverb = spoken("adverb", "ADV", clause.adverb)
    return adverb + body if tongue.adverb_first else body + adverb


def text_of(spoken: list[Spoken]) -> str:
    return " ".join(one.text for one in spoken)
