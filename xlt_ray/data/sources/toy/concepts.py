"""What the toy languages can speak about: concepts, their word classes and relations.

Glosses are English so that a meaning can be read in a debugger; no language of the toy
world is English. Every concept has one or two *forms*: two forms of one concept are
synonyms. The relations that decide the toy tasks are all here: a member noun and its
category (hypernym), and opposites among verbs and adjectives.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

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
    """One meaning: its gloss, universal tag, number of forms, and relations to others."""

    gloss: str
    tag: str
    num_forms: int = 1
    category: str = ""
    opposite: str = ""


@cache
def concepts() -> dict[str, Concept]:
    """Every concept by gloss, in a fixed order."""
    listed: list[Concept] = []
    for category, members in CATEGORIES.items():
        listed.append(Concept(category, "NOUN"))
        listed.extend(
            Concept(member, "NOUN", 2 - place % 2, category=category)
            for place, member in enumerate(members.split())
        )
    for tag, pairs in (("VERB", OPPOSITE_VERBS), ("ADJ", OPPOSITE_ADJECTIVES)):
        for pair in pairs:
            first, second = pair.split()
            listed.append(Concept(first, tag, 2, opposite=second))
            listed.append(Concept(second, tag, 2, opposite=first))
    listed.extend(Concept(gloss, "DET") for gloss in DETERMINERS)
    listed.extend(Concept(gloss, "ADV") for gloss in ADVERBS)
    listed.extend(Concept(gloss, "PROPN") for gloss in NAMES)
    listed.extend(Concept(gloss, "CCONJ") for gloss in CONNECTIVES)
    listed.append(Concept(NEGATION, "PART"))
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
