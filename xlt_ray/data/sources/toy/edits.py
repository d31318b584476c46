"""Changes of meaning: the one place that says which change entails, denies or leaves open.

All three toy resources are made of these edits, which is why one helps the other: the
parallel text joins a clause and its edit with a connective, NLI asks which kind of edit
was made, paraphrase whether there was one at all beyond synonyms.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from xlt_ray.data.sampling import Rng
from xlt_ray.data.sources.toy import concepts as meaning
from xlt_ray.data.sources.toy.clauses import Clause, Phrase, Word, draw_word

Whole = TypeVar("Whole", Clause, Phrase)
Edit = Callable[[Rng, Clause], "Clause | None"]
"""Returns the changed clause, or None where the clause has nothing to change so."""


def say_otherwise(rng: Rng, clause: Clause, num_words: int) -> Clause:
    """The same meaning with ``num_words`` words (or all that can) in their other form."""
    slots = [slot for slot, word in _slots(clause) if meaning.concepts()[word.gloss].num_forms == 2]
    for slot in rng.shuffled(slots)[:num_words]:
        word = dict(_slots(clause))[slot]
        clause = _filled(clause, slot, Word(word.gloss, 1 - word.form))
    return clause


def generalise(rng: Rng, clause: Clause) -> Clause | None:
    """A noun becomes its category."""
    slot = _noun_slot(rng, clause)
    category = meaning.concepts()[dict(_slots(clause))[slot].gloss].category
    return _filled(clause, slot, Word(category))


def omit(rng: Rng, clause: Clause) -> Clause | None:
    """An adjective or the adverb is left out."""
    slots = [slot for slot, _ in _slots(clause) if slot.endswith(("adjective", "adverb"))]
    return _filled(clause, rng.pick(slots), None) if slots else None


def oppose_verb(rng: Rng, clause: Clause) -> Clause | None:
    """The verb becomes its opposite."""
    opposite = meaning.concepts()[clause.verb.gloss].opposite
    return clause._replace(verb=draw_word(rng, opposite))


def oppose_adjective(rng: Rng, clause: Clause) -> Clause | None:
    """An adjective becomes its opposite."""
    slots = [(slot, word) for slot, word in _slots(clause) if slot.endswith("adjective")]
    if not slots:
        return None
    slot, word = rng.pick(slots)
    return _filled(clause, slot, draw_word(rng, meaning.concepts()[word.gloss].opposite))


def negate(rng: Rng, clause: Clause) -> Clause | None:  # noqa: ARG001
    """The negation comes or goes."""
    return clause._replace(is_negated=not clause.is_negated)


def replace_noun(rng: Rng, clause: Clause) -> Clause | None:
    """A noun becomes one of another category."""
    slot = _noun_slot(rng, clause)
    noun = dict(_slots(clause))[slot].gloss
    return _filled(clause, slot, draw_word(rng, rng.pick(meaning.strangers(noun))))


def add_adjective(rng: Rng, clause: Clause) -> Clause | None:
    """A noun without adjective gets one."""
    slots = [
        f"{name}.adjective"
        for name, phrase in (("subject", clause.subject), ("object", clause.object))
        if phrase.adjective is None and phrase.noun.gloss not in meaning.NAMES
    ]
    if not slots:
        return None
    return _filled(clause, rng.pick(slots), draw_word(rng, rng.pick(meaning.glosses("ADJ"))))


def swap_roles(rng: Rng, clause: Clause) -> Clause | None:  # noqa: ARG001
    """The two nouns change places; their determiners and adjectives stay where they are."""
    if clause.subject.noun.gloss in meaning.NAMES:
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
    if clause.subject.noun.gloss in meaning.NAMES:
        return "object.noun"
    return rng.pick(("subject.noun", "object.noun"))


def _slots(clause: Clause) -> list[tuple[str, Word]]:
    found: list[tuple[str, Word | None]] = [
        ("subject.noun", clause.subject.noun),
        ("subject.adjective", clause.subject.adjective),
        ("verb", clause.verb),
        ("object.noun", clause.object.noun),
        ("object.adjective", clause.object.adjective),
        ("adverb", clause.adverb),
    ]
    return [(slot, word) for slot, word in found if word is not None]


def _filled(clause: Clause, slot: str, word: Word | None) -> Clause:
    name, _, part = slot.partition(".")
    if not part:
        return _with(clause, name, word)
    return _with(clause, name, _with(getattr(clause, name), part, word))


def _with(whole: Whole, name: str, value: Any) -> Whole:
    changed: Whole = whole._replace(**{name: value})
    return changed
