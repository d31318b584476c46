"""Endless streams of toy examples as meanings, before any language has spoken them.

Each resource is one stream drawn from (seed, resource, split); example n is the same in
every language and however many are drawn, so that translations are row-aligned and a
prefix can be fingerprinted without making the rest.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal, NamedTuple

from xlt_ray.data.sampling import Rng
from xlt_ray.data.sources.toy import edits
from xlt_ray.data.sources.toy.clauses import Clause, draw_clause

GENERATOR_VERSION = 1
"""Raised when the same seed gives other text; it is part of every digest."""


class ToyExample(NamedTuple):
    """One or two clauses; the label of a pair, or the connective of a sentence."""

    first: Clause
    second: Clause | None
    label: str


class MultipleChoice(NamedTuple):
    """A clause and several others, of which the one at ``right`` follows from it."""

    premise: Clause
    options: tuple[Clause, ...]
    right: int


class ToyQuestion(NamedTuple):
    """Two clauses joined by a connective, and the phrase of one of them that is asked for."""

    passage: ToyExample
    place: int
    """1 or 2: the clause that is asked about."""
    phrase: Literal["subject", "object"]


CONNECTIVE_OF = {"entailment": "so", "neutral": "and", "contradiction": "but"}


def toy_examples(resource: str, split: str, seed: int) -> Iterator[Any]:
    """The stream of a toy task or of ``parallel``: :class:`MultipleChoice` for ``toy-choice``,
    :class:`ToyQuestion` for ``toy-qa``, else :class:`ToyExample`. ``toy-retrieval`` and
    ``toy-mining`` have sentences like those of the parallel text, but others."""
    rng = Rng("toy-drafts", GENERATOR_VERSION, seed, resource, split)
    make = _MAKERS[resource]
    while True:
        yield make(rng)


def _nli(rng: Rng) -> ToyExample:
    """Entailed, denied or left open by one edit, with up to two words said otherwise."""
    premise = draw_clause(rng)
    label = rng.pick(("entailment", "neutral", "contradiction"))
    if label == "entailment":
        is_rewording = rng.chance(0.4)
        second = premise if is_rewording else edits.changed(rng, premise, edits.ENTAILED)
        second = edits.say_otherwise(
            rng, second, 1 + rng.below(2) if is_rewording else rng.below(3)
        )
    else:
        kinds = edits.DENIED if label == "contradiction" else edits.OPEN
        second = edits.say_otherwise(rng, edits.changed(rng, premise, kinds), rng.below(3))
    return ToyExample(premise, second, label)


def _paraphrase(rng: Rng) -> ToyExample:
    """One or two words said otherwise; a non-paraphrase has an edit in place of one of them."""
    first = draw_clause(rng)
    num_words = 1 + rng.below(2)
    if rng.chance(0.5):
        return ToyExample(first, edits.say_otherwise(rng, first, num_words), "1")
    second = edits.changed(rng, first, edits.MEANING_CHANGING)
    return ToyExample(first, edits.say_otherwise(rng, second, num_words - 1), "0")


def _tagging(rng: Rng) -> ToyExample:
    """One clause, or two unrelated ones."""
    second = draw_clause(rng) if rng.chance(0.5) else None
    return ToyExample(draw_clause(rng), second, rng.pick(tuple(CONNECTIVE_OF.values())))


def _similarity(rng: Rng) -> ToyExample:
    """No to four edits, or another clause; the label is 5 times the share said alike."""
    first = draw_clause(rng)
    second = draw_clause(rng)
    if rng.chance(0.85):
        second = first
        for _ in range(rng.below(5)):
            second = edits.changed(rng, second, edits.REPEATABLE)
        second = edits.say_otherwise(rng, second, rng.below(3))
    return ToyExample(first, second, f"{5 * edits.likeness(first, second):.2f}")


def _choice(rng: Rng) -> MultipleChoice:
    """One option is entailed; the others speak of something else, or partly so."""
    premise = draw_clause(rng)
    entailed = edits.changed(rng, premise, edits.ENTAILED) if rng.chance(0.5) else premise
    options = [edits.say_otherwise(rng, entailed, rng.below(3))]
    for _ in range(2):
        other = draw_clause(rng)
        options.append(other._replace(verb=premise.verb) if rng.chance(0.3) else other)
    order = rng.shuffled(range(3))
    return MultipleChoice(premise, tuple(options[place] for place in order), order.index(0))


def _qa(rng: Rng) -> ToyQuestion:
    """Who does it, or to whom it is done, in one of two unrelated clauses."""
    connective = rng.pick(tuple(CONNECTIVE_OF.values()))
    passage = ToyExample(draw_clause(rng), draw_clause(rng), connective)
    return ToyQuestion(passage, 1 + rng.below(2), rng.pick(("subject", "object")))


def _ranking(rng: Rng) -> ToyExample:
    """The same meaning twice, up to two words of it said otherwise."""
    first = draw_clause(rng)
    return ToyExample(first, edits.say_otherwise(rng, first, rng.below(3)), "1")


def _parallel(rng: Rng) -> ToyExample:
    """A clause, a connective, and a clause that stands in the relation the connective names."""
    example = _nli(rng)
    return example._replace(label=CONNECTIVE_OF[example.label])


_MAKERS = {
    "toy-nli": _nli,
    "toy-paraphrase": _paraphrase,
    "toy-tagging": _tagging,
    "toy-similarity": _similarity,
    "toy-choice": _choice,
    "toy-qa": _qa,
    "toy-retrieval": _parallel,
    "toy-ranking": _ranking,
    "toy-mining": _parallel,
    "parallel": _parallel,
}
