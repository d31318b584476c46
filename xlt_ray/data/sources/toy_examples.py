"""Endless streams of toy examples as meanings, before any language has spoken them.

Each resource is one stream drawn from (seed, resource, split); example n is the same in every
language and however many are drawn. All resources are made of the same edits of clauses, which is
why one helps the other: the parallel text joins a clause and its edit with a connective, NLI asks
which kind of edit was made, paraphrase whether there was one at all beyond synonyms.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Literal, NamedTuple

from xlt_ray.data.sampling import Rng
from xlt_ray.data.sources.toy_world import (
    NAMES,
    Clause,
    Word,
    concepts,
    draw_clause,
    draw_word,
    glosses,
    strangers,
)

Edit = Callable[[Rng, Clause], "Clause | None"]
"""Returns the changed clause, or None where the clause has nothing to change so."""


def say_otherwise(rng: Rng, clause: Clause, num_words: int) -> Clause:
    """The same meaning with ``num_words`` words (or all that can) in their other form."""
    slots = [slot for slot, word in _slots(clause) if concepts()[word.gloss].num_forms == 2]
    for slot in rng.shuffled(slots)[:num_words]:
        word = dict(_slots(clause))[slot]
        clause = _filled(clause, slot, Word(word.gloss, 1 - word.form))
    return clause


def generalise(rng: Rng, clause: Clause) -> Clause | None:
    """A noun becomes its category."""
    slot = _noun_slot(rng, clause)
    category = concepts()[dict(_slots(clause))[slot].gloss].category
    return _filled(clause, slot, Word(category))


def omit(rng: Rng, clause: Clause) -> Clause | None:
    """An adjective or the adverb is left out."""
    slots = [slot for slot, _ in _slots(clause) if slot.endswith(("adjective", "adverb"))]
    return _filled(clause, rng.pick(slots), None) if slots else None


def oppose_verb(rng: Rng, clause: Clause) -> Clause | None:
    """The verb becomes its opposite."""
    opposite = concepts()[clause.verb.gloss].opposite
    return clause._replace(verb=draw_word(rng, opposite))


def oppose_adjective(rng: Rng, clause: Clause) -> Clause | None:
    """An adjective becomes its opposite."""
    slots = [(slot, word) for slot, word in _slots(clause) if slot.endswith("adjective")]
    if not slots:
        return None
    slot, word = rng.pick(slots)
    return _filled(clause, slot, draw_word(rng, concepts()[word.gloss].opposite))


def negate(rng: Rng, clause: Clause) -> Clause | None:  # noqa: ARG001
    """The negation comes or goes."""
    return clause._replace(is_negated=not clause.is_negated)


def replace_noun(rng: Rng, clause: Clause) -> Clause | None:
    """A noun becomes one of another category."""
    slot = _noun_slot(rng, clause)
    noun = dict(_slots(clause))[slot].gloss
    return _filled(clause, slot, draw_word(rng, rng.pick(strangers(noun))))


def add_adjective(rng: Rng, clause: Clause) -> Clause | None:
    """A noun without adjective gets one."""
    slots = [
        f"{name}.adjective"
        for name, phrase in (("subject", clause.subject), ("object", clause.object))
        if phrase.adjective is None and phrase.noun.gloss not in NAMES
    ]
    if not slots:
        return None
    return _filled(clause, rng.pick(slots), draw_word(rng, rng.pick(glosses("ADJ"))))


def swap_roles(rng: Rng, clause: Clause) -> Clause | None:  # noqa: ARG001
    """The two nouns change places; their determiners and adjectives stay where they are."""
    if clause.subject.noun.gloss in NAMES:
        return None
    return clause._replace(
        subject=clause.subject._replace(noun=clause.object.noun),
        object=clause.object._replace(noun=clause.subject.noun),
    )


ENTAILED: tuple[Edit, ...] = (generalise, omit)
DENIED: tuple[Edit, ...] = (oppose_verb, oppose_adjective, negate, negate)
OPEN: tuple[Edit, ...] = (replace_noun, replace_noun, add_adjective, swap_roles)
MEANING_CHANGING: tuple[Edit, ...] = (
    generalise, generalise, omit, oppose_verb, oppose_adjective, negate,
    replace_noun, replace_noun, swap_roles,
)  # fmt: skip
"""What makes a non-paraphrase. An edit that stands twice is twice as frequent."""
REPEATABLE: tuple[Edit, ...] = (
    omit, oppose_verb, oppose_adjective, negate, replace_noun, replace_noun, add_adjective,
    swap_roles,
)  # fmt: skip
"""Changes that fit what they have made: a category, in contrast, has none above it."""


def changed(rng: Rng, clause: Clause, edits: tuple[Edit, ...]) -> Clause:
    """One random edit out of ``edits`` that this clause allows.

    The caller gives at least one edit that fits every clause; else this is our mistake.
    """
    for edit in rng.shuffled(edits):
        result = edit(rng, clause)
        if result is not None:
            return result
    raise AssertionError(f"no edit of {edits} fits {clause}")


def likeness(first_clause: Clause, second_clause: Clause) -> float:
    """Share of what is said in both alike, 0 to 1; a word in its other form says the same."""
    first, second = (
        {**{slot: word.gloss for slot, word in _slots(clause)}, "negation": clause.is_negated}
        for clause in (first_clause, second_clause)
    )
    slots = first.keys() | second.keys()
    return sum(first.get(slot) == second.get(slot) for slot in slots) / len(slots)


def _noun_slot(rng: Rng, clause: Clause) -> str:
    """A slot that holds a member of a category: the object always does, the subject if no name."""
    if clause.subject.noun.gloss in NAMES:
        return "object.noun"
    return rng.pick(("subject.noun", "object.noun"))


def _slots(clause: Clause) -> list[tuple[str, Word]]:
    words: list[tuple[str, Word | None]] = [
        ("subject.noun", clause.subject.noun),
        ("subject.adjective", clause.subject.adjective),
        ("verb", clause.verb),
        ("object.noun", clause.object.noun),
        ("object.adjective", clause.object.adjective),
        ("adverb", clause.adverb),
    ]
    return [(slot, word) for slot, word in words if word is not None]


def _filled(clause: Clause, slot: str, word: Word | None) -> Clause:
    name, _, part = slot.partition(".")
    filling: Any = getattr(clause, name)._replace(**{part: word}) if part else word
    return clause._replace(**{name: filling})


GENERATOR_VERSION = 1
"""Raised when the same seed gives other text; it is part of every digest."""


class ToyExample(NamedTuple):
    """One or two clauses; their label, or the connective of a sentence."""

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
        second = premise if is_rewording else changed(rng, premise, ENTAILED)
        second = say_otherwise(rng, second, 1 + rng.below(2) if is_rewording else rng.below(3))
    else:
        kinds = DENIED if label == "contradiction" else OPEN
        second = say_otherwise(rng, changed(rng, premise, kinds), rng.below(3))
    return ToyExample(premise, second, label)


def _paraphrase(rng: Rng) -> ToyExample:
    """One or two words said otherwise; a non-paraphrase has an edit in place of one of them."""
    first = draw_clause(rng)
    num_words = 1 + rng.below(2)
    if rng.chance(0.5):
        return ToyExample(first, say_otherwise(rng, first, num_words), "1")
    second = changed(rng, first, MEANING_CHANGING)
    return ToyExample(first, say_otherwise(rng, second, num_words - 1), "0")


def _tagging(rng: Rng) -> ToyExample:
    """One clause, or two unrelated ones."""
    second = draw_clause(rng) if rng.chance(0.5) else None
    return ToyExample(draw_clause(rng), second, rng.pick(tuple(CONNECTIVE_OF.values())))


def _topic(rng: Rng) -> ToyExample:
    """The category of what something is done to."""
    clause = draw_clause(rng)
    return ToyExample(clause, None, concepts()[clause.object.noun.gloss].category)


def _similarity(rng: Rng) -> ToyExample:
    """No to four edits, or another clause; the label is 5 times the share said alike."""
    first = draw_clause(rng)
    second = draw_clause(rng)
    if rng.chance(0.85):
        second = first
        for _ in range(rng.below(5)):
            second = changed(rng, second, REPEATABLE)
        second = say_otherwise(rng, second, rng.below(3))
    return ToyExample(first, second, f"{5 * likeness(first, second):.2f}")


def _choice(rng: Rng) -> MultipleChoice:
    """One option is entailed; the others speak of something else, or partly so."""
    premise = draw_clause(rng)
    entailed = changed(rng, premise, ENTAILED) if rng.chance(0.5) else premise
    options = [say_otherwise(rng, entailed, rng.below(3))]
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
    return ToyExample(first, say_otherwise(rng, first, rng.below(3)), "1")


def _parallel(rng: Rng) -> ToyExample:
    """A clause, a connective, and a clause that stands in the relation the connective names."""
    example = _nli(rng)
    return example._replace(label=CONNECTIVE_OF[example.label])


_MAKERS = {
    "toy-nli": _nli,
    "toy-paraphrase": _paraphrase,
    "toy-tagging": _tagging,
    "toy-topic": _topic,
    "toy-similarity": _similarity,
    "toy-choice": _choice,
    "toy-qa": _qa,
    "toy-retrieval": _parallel,
    "toy-ranking": _ranking,
    "toy-mining": _parallel,
    "parallel": _parallel,
}
