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
from xlt_ray.data.sources.toy.toy_languages import PIVOT, TOY_LANGUAGES, World, world
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
                {form for lexicon in words.values() for forms in lexicon.values() for form in forms}
            )
        )

    def splits(self, task: Task) -> Mapping[tuple[str, Split], SplitFacts]:
        """Digests cover seed, generator version, spellings, and the first examples as text."""
        return {
            (language, split): SplitFacts(
                size, _split_digest(self.seed, task.name, language, split)
            )
            for language in TOY_LANGUAGES
            for split, size in SIZES.get(task.name, {}).items()
            if language != task.pivot
        }

    def read(self, task: Task, language: str, split: Split) -> tuple[Example, ...]:
        is_there = language in TOY_LANGUAGES and language != task.pivot
        if not is_there or split not in SIZES.get(task.name, {}):
            raise no_such_split(task, language, split, self)
        return _examples(self.seed, task.name, language, split, SIZES[task.name][split])

    def parallel_languages(self) -> tuple[str, ...]:
        return tuple(sorted(TOY_LANGUAGES))

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
        ours, theirs = _parallel(self.seed, first), _parallel(self.seed, second)
        aligned = {}
        for number in ours.keys() & theirs.keys():
            places = {spoken.slot: place for place, spoken in enumerate(theirs[number])}
            aligned[f"s{number}"] = tuple(
                (place, places[spoken.slot]) for place, spoken in enumerate(ours[number])
            )
        return aligned

    def lexicon_languages(self, source_language: str) -> tuple[str, ...]:
        return (
            tuple(sorted(set(TOY_LANGUAGES) - {source_language}))
            if source_language in TOY_LANGUAGES
            else ()
        )

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


def _speak(toy_world: World, language: str, example: ToyExample) -> list[Spoken]:
    """Both clauses as one sentence; slots carry the number of their clause."""
    spoken = [
        word._replace(slot=f"1.{word.slot}") for word in say(toy_world, language, example.first)
    ]
    if example.second is not None:
        connective = toy_world.words[language][example.label][0]
        spoken.append(Spoken("connective", "CCONJ", connective))
        spoken += [
            word._replace(slot=f"2.{word.slot}")
            for word in say(toy_world, language, example.second)
        ]
    return spoken


@cache
def _examples(
    seed: int, task: str, language: str, split: Split, num_examples: int
) -> tuple[Example, ...]:
    toy_world, make = world(seed), _MAKERS.get(task, _pair_example)
    if task in _ROWS:
        return tuple(islice(_ROWS[task](toy_world, language, split, seed), num_examples))
    return tuple(
        make(toy_world, language, f"{split}{number}", example)
        for number, example in enumerate(islice(toy_examples(task, split, seed), num_examples))
    )


def _tag_example(toy_world: World, language: str, name: str, example: ToyExample) -> Example:
    spoken = _speak(toy_world, language, example)
    words, tags = tuple(word.text for word in spoken), tuple(word.tag for word in spoken)
    return TagExample(name, words, tags)


def _both_texts(toy_world: World, language: str, example: ToyExample) -> tuple[str, str]:
    assert example.second is not None, "a pair has two clauses"
    first, second = example.first, example.second
    return text_of(say(toy_world, language, first)), text_of(say(toy_world, language, second))


def _pair_example(toy_world: World, language: str, name: str, example: ToyExample) -> Example:
    return PairExample(name, *_both_texts(toy_world, language, example), example.label)


def _score_example(toy_world: World, language: str, name: str, example: ToyExample) -> Example:
    return ScoreExample(name, *_both_texts(toy_world, language, example), float(example.label))


def _choice_example(toy_world: World, language: str, name: str, choice: MultipleChoice) -> Example:
    options = tuple(text_of(say(toy_world, language, option)) for option in choice.options)
    return ChoiceExample(
        name, text_of(say(toy_world, language, choice.premise)), "", options, choice.right
    )


def _span_example(toy_world: World, language: str, name: str, question: ToyQuestion) -> Example:
    """The question is the clause without the phrase that answers it."""
    spoken = _speak(toy_world, language, question.passage)
    clause, phrase = f"{question.place}.", f"{question.place}.{question.phrase}."
    rest = [word for word in spoken if word.slot.startswith(clause) and phrase not in word.slot]
    answer = [word for word in spoken if word.slot.startswith(phrase)]
    before = spoken[: spoken.index(answer[0])]
    begin = sum(len(word.text) + 1 for word in before)
    answers = (Answer(text_of(answer), begin),)
    return SpanExample(name, text_of(rest), text_of(spoken), answers)


def _retrieval_example(toy_world: World, language: str, name: str, example: ToyExample) -> Example:
    sentence, translation = (
        text_of(_speak(toy_world, code, example)) for code in (language, PIVOT)
    )
    return RetrievalExample(name, sentence, translation)


def _ranking_rows(toy_world: World, language: str, split: Split, seed: int) -> Iterator[Example]:
    """The second clause answers the first: in training in the same language, else in all six."""
    for number, example in enumerate(toy_examples("toy-ranking", split, seed)):
        if split == "train":
            pair = _both_texts(toy_world, language, example)
            yield RankingExample(f"{split}{number}", *pair, language, ())
            continue
        pairs = {code: _both_texts(toy_world, code, example) for code in TOY_LANGUAGES}
        names = {code: f"{split}{number}-{code}" for code in TOY_LANGUAGES}
        for code, name in names.items():
            has_query = code == language
            query = pairs[language][0] if has_query else ""
            relevant = tuple(other for other in names.values() if has_query and other != name)
            yield RankingExample(name, query, pairs[code][1], code, relevant)


def _mining_rows(toy_world: World, language: str, split: Split, seed: int) -> Iterator[Example]:
    """Of three examples the first is in both languages, each of the others in one of them."""
    for number, example in enumerate(toy_examples("toy-mining", split, seed)):
        both = (language, PIVOT)
        codes = both if number % 3 == 0 else (both[number % 3 - 1],)
        for code in codes:
            others = tuple(f"{split}{number}-{other}" for other in codes if other != code)
            gold = others if code == language else ()
            text = text_of(_speak(toy_world, code, example))
            yield MiningExample(f"{split}{number}-{code}", code, text, gold)


_ROWS: dict[str, Callable[[World, str, Split, int], Iterator[Example]]] = {
    "toy-ranking": _ranking_rows,
    "toy-mining": _mining_rows,
}
"""Tasks of which a example gives several rows."""
_MAKERS: dict[str, Callable[[World, str, str, Any], Example]] = {
    "toy-tagging": _tag_example,
    "toy-similarity": _score_example,
    "toy-choice": _choice_example,
    "toy-qa": _span_example,
    "toy-retrieval": _retrieval_example,
}
"""How the toy examples of a task become examples in one language; by default, pairs."""


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
    toy_world = world(seed)
    total = max(language.num_parallel for language in TOY_LANGUAGES.values())
    rng = Rng("toy-parallel-rows", seed, language)
    kept = set(rng.shuffled(range(total))[: TOY_LANGUAGES[language].num_parallel])
    return {
        number: _speak(toy_world, language, example)
        for number, example in enumerate(islice(toy_examples("parallel", "train", seed), total))
        if number in kept
    }


@cache
def _parallel_text(seed: int, language: str) -> dict[str, str]:
    return {f"s{number}": text_of(spoken) for number, spoken in _parallel(seed, language).items()}


@cache
def _lexicon(seed: int, source_language: str) -> dict[str, dict[str, tuple[str, ...]]]:
    if source_language not in TOY_LANGUAGES:
        return {}
    words = world(seed).words
    known = {language: _known_glosses(seed, language) for language in TOY_LANGUAGES}
    entries: dict[str, dict[str, tuple[str, ...]]] = {}
    for gloss, forms in words[source_language].items():
        for form, word in enumerate(forms):
            translations: dict[str, tuple[str, ...]] = {
                target: (words[target][gloss][form],)
                for target in TOY_LANGUAGES
                if target != source_language
                and gloss in known[target]
                and gloss in known[source_language]
            }
            if translations:
                entries[word] = translations
    return entries


def _known_glosses(seed: int, language: str) -> frozenset[str]:
    rng = Rng("toy-lexicon", seed, language)
    glosses = world(seed).words[language]
    return frozenset(gloss for gloss in glosses if rng.chance(TOY_LANGUAGES[language].coverage))
