"""Endless streams of toy examples as meanings, before any language has spoken them.

Each resource is one stream drawn from (seed, resource, split); example n is the same in
every language and however many are drawn, so that translations are row-aligned and a
prefix can be fingerprinted without making the rest.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from xlt_ray.data.streams import Dice
from xlt_ray.data.toy import edits
from xlt_ray.data.toy.clauses import Clause, draw_clause

GENERATOR_VERSION = 1
"""Raised when the same seed gives other text; it is part of every digest."""


class Draft(NamedTuple):
    """One or two clauses; the label of a pair, or the connective of a sentence."""

    first: Clause
    second: Clause | None
    label: str


CONNECTIVE_OF = {"entailment": "so", "neutral": "and", "contradiction": "but"}


def drafts(resource: str, split: str, seed: int) -> Iterator[Draft]:
    """The stream of ``toy-nli``, ``toy-paraphrase``, ``toy-tagging`` or ``parallel``."""
    dice = Dice("toy-drafts", GENERATOR_VERSION, seed, resource, split)
    make = _MAKERS[resource]
    while True:
        yield make(dice)


def _nli(dice: Dice) -> Draft:
    """Entailed, denied or left open by one edit, with up to two words said otherwise."""
    premise = draw_clause(dice)
    label = dice.pick(("entailment", "neutral", "contradiction"))
    if label == "entailment":
        is_rewording = dice.chance(0.4)
        second = premise if is_rewording else edits.changed(dice, premise, edits.ENTAILED)
        second = edits.say_otherwise(
            dice, second, 1 + dice.below(2) if is_rewording else dice.below(3)
        )
    else:
        kinds = edits.DENIED if label == "contradiction" else edits.OPEN
        second = edits.say_otherwise(dice, edits.changed(dice, premise, kinds), dice.below(3))
    return Draft(premise, second, label)


def _paraphrase(dice: Dice) -> Draft:
    """One or two words said otherwise; a non-paraphrase has an edit in place of one of them."""
    first = draw_clause(dice)
    num_words = 1 + dice.below(2)
    if dice.chance(0.5):
        return Draft(first, edits.say_otherwise(dice, first, num_words), "1")
    second = edits.changed(dice, first, edits.MEANING_CHANGING)
    return Draft(first, edits.say_otherwise(dice, second, num_words - 1), "0")


def _tagging(dice: Dice) -> Draft:
    """One clause, or two unrelated ones."""
    second = draw_clause(dice) if dice.chance(0.5) else None
    return Draft(draw_clause(dice), second, dice.pick(tuple(CONNECTIVE_OF.values())))


def _parallel(dice: Dice) -> Draft:
    """A clause, a connective, and a clause that stands in the relation the connective names."""
    draft = _nli(dice)
    return draft._replace(label=CONNECTIVE_OF[draft.label])


_MAKERS = {
    "toy-nli": _nli,
    "toy-paraphrase": _paraphrase,
    "toy-tagging": _tagging,
    "parallel": _parallel,
}
