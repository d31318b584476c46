"""The toy world as a data source: generated on demand, the same for the same seed everywhere."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import cache
from itertools import islice
from typing import Any

from xlt_ray.config.facts import Split, SplitFacts
from xlt_ray.data.sampling import Rng, digest_of
from xlt_ray.data.sources.base import no_such_split
from xlt_ray.data.sources.toy.clauses import Spoken, say, text_of
from xlt_ray.data.sources.toy.examples import (
    GENERATOR_VERSION,
    MultipleChoice,
    ToyExample,
    ToyQuestion,
    toy_examples,
)
from xlt_ray.data.sources.toy.toy_languages import PIVOT, TONGUES, World, world
from xlt_ray.data.task import Task
from xlt_ray.data.types.base import Example
from xlt_ray.data.types.choice import ChoiceExample
from xlt_ray.data.types.mining import MiningExample
from xlt_ray.data.types.pair import PairExample
from xlt_ray.data.types.ranking import RankingExample
from xlt_ray.data.types.retrieval import RetrievalExample
from xlt_ray.data.types.score import ScoreExample
from xlt_ray.data.types.span import Answer, SpanExample
from xlt_ray.data.types.tag import TagExample

SIZES: dict[str, dict[Split, int]] = {
    "toy-tagging": {"train": 4000, "dev": 300, "test": 400},
    "toy-nli": {"train": 16000, "dev": 300, "test": 400},
    "toy-paraphrase": {"train": 4000, "dev": 300, "test": 400},
    "toy-similarity": {"train": 4000, "dev": 300, "test": 400},
    "toy-choice": {"train": 4000, "dev": 300, "test": 400},
    "toy-qa": {"train": 4000, "dev": 300, "test": 400},
    "toy-retrieval": {"test": 400},
    "toy-ranking": {"train": 2000, "dev": 300, "test": 402},
    "toy-mining": {"dev": 240, "test": 400},
}
"""Examples of every split, the same in each language: rows are translations of each other.

Of ranking, dev and test have a row for each candidate, six to a query; of mining every split has a
row for each sentence, and half of the sentences have a translation.
"""

_NUM_FINGERPRINTED = 32


class ToySource:
    """Every language has every split of every toy task; ids join them across languages.

    Of retrieval and mining the pivot has none: its sentences stand beside those of the others.
    """

    name = "toy"

    def __init__(self, seed: int = 0) -> None:
        self.seed = seed

    def vocabulary(self) -> tuple[str, ...]:
        """Every spelling of the six languages, sorted."""
        words = world(self.seed).words
        return tuple(
            sorted(
                {form for tongue in words.values() for forms in tongue.values() for form in forms}
            )
        )

    def splits(self, task: Task) -> Mapping[tuple[str, Split], SplitFacts]:
        """Digests cover seed, generator version, spellings, and the first examples as text."""
        return {
            (language, split): SplitFacts(
                size, _split_digest(self.seed, task.name, language, split)
            )
            for language in TONGUES
            for split, size in SIZES.get(task.name, {}).items()
            if language != task.pivot
        }

    def read(self, task: Task, language: str, split: Split) -> tuple[Example, ...]:
        is_there = language in TONGUES and language != task.pivot
        if not is_there or split not in SIZES.get(task.name, {}):
            raise no_such_split(task, language, split, self)
        return _examples(self.seed, task.name, language, split, SIZES[task.name][split])

    def parallel_languages(self) -> tuple[str, ...]:
        return tuple(sorted(TONGUES))

    def parallel(self, language: str) -> Mapping[str, str]:
        """Languages with fewer resources have fewer of the sentences, scattered over all."""
        return _parallel_text(self.seed, language)

    def parallel_digest(self, language: str) -> str:
        return digest_of(
            "toy-parallel",
            GENERATOR_VERSION,
            self.seed,
            language,
            *self.parallel(language).values(),
        )

    def alignment_digest(self, first: str, second: str) -> str:
        """It follows from both texts."""
        return digest_of("toy-alignments", *map(self.parallel_digest, (first, second)))

    def alignments(self, first: str, second: str) -> Mapping[str, tuple[tuple[int, int], ...]]:
        """Gold word alignment of the sentences both languages have: places of aligned words."""
        one, other = _parallel(self.seed, first), _parallel(self.seed, second)
        found = {}
        for number in one.keys() & other.keys():
            places = {spoken.slot: place for place, spoken in enumerate(other[number])}
            found[f"s{number}"] = tuple(
                (place, places[spoken.slot]) for place, spoken in enumerate(one[number])
            )
        return found

    def lexicon_languages(self, source_language: str) -> tuple[str, ...]:
        return tuple(sorted(set(TONGUES) - {source_language})) if source_language in TONGUES else ()

    def lexicon(self, source_language: str) -> Mapping[str, Mapping[str, tuple[str, ...]]]:
        """Form by form; a language with fewer resources lacks some entries, from and into it."""
        return _lexicon(self.seed, source_language)

    def lexicon_digest(self, source_language: str) -> str:
        entries = [
            f"{word}>{target}:{' '.join(into)}"
            for word, translations in self.lexicon(source_language).items()
            for target, into in translations.items()
        ]
        return digest_of("toy-lexicon", self.seed, source_language, *entries)


def _speak(places: World, language: str, draft: ToyExample) -> list[Spoken]:
    """Both clauses as one sentence; slots carry the number of their clause."""
    spoken = [one._replace(slot=f"1.{one.slot}") for one in say(places, language, draft.first)]
    if draft.second is not None:
        connective = places.words[language][draft.label][0]
        spoken.append(Spoken("connective", "CCONJ", connective))
        spoken += [
            one._replace(slot=f"2.{one.slot}") for one in say(places, language, draft.second)
        ]
    return spoken


@cache
def _examples(
    seed: int, task: str, language: str, split: Split, num_examples: int
) -> tuple[Example, ...]:
    places, told = world(seed), _TELLERS.get(task, _pair)
    if task in _ROWS:
        return tuple(islice(_ROWS[task](places, language, split, seed), num_examples))
    return tuple(
        told(places, language, f"{split}{number}", draft)
        for number, draft in enumerate(islice(toy_examples(task, split, seed), num_examples))
    )


def _tagged(places: World, language: str, name: str, draft: ToyExample) -> Example:
    spoken = _speak(places, language, draft)
    words, tags = tuple(one.text for one in spoken), tuple(one.tag for one in spoken)
    return TagExample(name, words, tags)


def _said(places: World, language: str, draft: ToyExample) -> tuple[str, str]:
    assert draft.second is not None, "a pair has two clauses"
    first, second = draft.first, draft.second
    return text_of(say(places, language, first)), text_of(say(places, language, second))


def _pair(places: World, language: str, name: str, draft: ToyExample) -> Example:
    return PairExample(name, *_said(places, language, draft), draft.label)


def _scored(places: World, language: str, name: str, draft: ToyExample) -> Example:
    return ScoreExample(name, *_said(places, language, draft), float(draft.label))


def _chosen(places: World, language: str, name: str, quiz: MultipleChoice) -> Example:
    options = tuple(text_of(say(places, language, option)) for option in quiz.options)
    return ChoiceExample(
        name, text_of(say(places, language, quiz.premise)), "", options, quiz.right
    )


def _asked(places: World, language: str, name: str, asked: ToyQuestion) -> Example:
    """The question is the clause without the phrase that answers it."""
    spoken = _speak(places, language, asked.passage)
    clause, phrase = f"{asked.place}.", f"{asked.place}.{asked.phrase}."
    rest = [one for one in spoken if one.slot.startswith(clause) and phrase not in one.slot]
    answer = [one for one in spoken if one.slot.startswith(phrase)]
    before = spoken[: spoken.index(answer[0])]
    begin = sum(len(one.text) + 1 for one in before)
    found = Answer(text_of(answer), begin)
    return SpanExample(name, text_of(rest), text_of(spoken), (found,))


def _retrieved(places: World, language: str, name: str, draft: ToyExample) -> Example:
    sentence, translation = (text_of(_speak(places, one, draft)) for one in (language, PIVOT))
    return RetrievalExample(name, sentence, translation)


def _ranked(places: World, language: str, split: Split, seed: int) -> Iterator[Example]:
    """The second clause answers the first: in training in the same language, else in all six."""
    for number, draft in enumerate(toy_examples("toy-ranking", split, seed)):
        if split == "train":
            pair = _said(places, language, draft)
            yield RankingExample(f"{split}{number}", *pair, language, ())
            continue
        said = {tongue: _said(places, tongue, draft) for tongue in TONGUES}
        names = {tongue: f"{split}{number}-{tongue}" for tongue in TONGUES}
        for one, name in names.items():
            is_asked = one == language
            query = said[language][0] if is_asked else ""
            relevant = tuple(other for other in names.values() if is_asked and other != name)
            yield RankingExample(name, query, said[one][1], one, relevant)


def _mined(places: World, language: str, split: Split, seed: int) -> Iterator[Example]:
    """Of three drafts the first is said in both languages, each of the others in one of them."""
    for number, draft in enumerate(toy_examples("toy-mining", split, seed)):
        both = (language, PIVOT)
        said = both if number % 3 == 0 else (both[number % 3 - 1],)
        for one in said:
            others = tuple(f"{split}{number}-{other}" for other in said if other != one)
            gold = others if one == language else ()
            text = text_of(_speak(places, one, draft))
            yield MiningExample(f"{split}{number}-{one}", one, text, gold)


_ROWS: dict[str, Callable[[World, str, Split, int], Iterator[Example]]] = {
    "toy-ranking": _ranked,
    "toy-mining": _mined,
}
"""Tasks of which a draft gives several rows."""
_TELLERS: dict[str, Callable[[World, str, str, Any], Example]] = {
    "toy-tagging": _tagged,
    "toy-similarity": _scored,
    "toy-choice": _chosen,
    "toy-qa": _asked,
    "toy-retrieval": _retrieved,
}
"""How the drafts of a task become examples in one language; pairs, where it is not listed."""


@cache
def _split_digest(seed: int, task: str, language: str, split: Split) -> str:
    size = SIZES[task][split]
    spellings = [" ".join(forms) for forms in world(seed).words[language].values()]
    first = [
        repr(example) for example in _examples(seed, task, language, split, _NUM_FINGERPRINTED)
    ]
    return digest_of(
        "toy", GENERATOR_VERSION, seed, task, language, split, size, *spellings, *first
    )


@cache
def _parallel(seed: int, language: str) -> dict[int, list[Spoken]]:
    places = world(seed)
    total = max(tongue.num_parallel for tongue in TONGUES.values())
    dice = Rng("toy-parallel-rows", seed, language)
    kept = set(dice.shuffled(range(total))[: TONGUES[language].num_parallel])
    return {
        number: _speak(places, language, draft)
        for number, draft in enumerate(islice(toy_examples("parallel", "train", seed), total))
        if number in kept
    }


@cache
def _parallel_text(seed: int, language: str) -> dict[str, str]:
    return {f"s{number}": text_of(spoken) for number, spoken in _parallel(seed, language).items()}


@cache
def _lexicon(seed: int, source_language: str) -> dict[str, dict[str, tuple[str, ...]]]:
    if source_language not in TONGUES:
        return {}
    words = world(seed).words
    known = {language: _known_glosses(seed, language) for language in TONGUES}
    entries: dict[str, dict[str, tuple[str, ...]]] = {}
    for gloss, forms in words[source_language].items():
        for form, word in enumerate(forms):
            translations: dict[str, tuple[str, ...]] = {
                target: (words[target][gloss][form],)
                for target in TONGUES
                if target != source_language
                and gloss in known[target]
                and gloss in known[source_language]
            }
            if translations:
                entries[word] = translations
    return entries


def _known_glosses(seed: int, language: str) -> frozenset[str]:
    dice = Rng("toy-lexicon", seed, language)
    glosses = world(seed).words[language]
    return frozenset(gloss for gloss in glosses if dice.chance(TONGUES[language].coverage))
