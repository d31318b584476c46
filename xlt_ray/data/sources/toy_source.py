"""The toy world as a data source: generated on demand, the same for the same seed everywhere."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from itertools import islice

from xlt_ray.config.facts import Split, SplitFacts
from xlt_ray.data.sampling import Rng, digest_of
from xlt_ray.data.sources.base import Source
from xlt_ray.data.sources.toy_examples import (
    GENERATOR_VERSION,
    ToyExample,
    ToyQuestion,
    toy_examples,
)
from xlt_ray.data.sources.toy_world import (
    PIVOT,
    TOY_LANGUAGES,
    Clause,
    Spoken,
    ToyWords,
    say,
    text_of,
    toy_words,
)
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
from xlt_ray.data.types.text import TextExample

SIZES: dict[str, dict[Split, int]] = {
    "toy-tagging": {"train": 4000, "dev": 300, "test": 400},
    "toy-topic": {"train": 4000, "dev": 300, "test": 400},
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


class ToySource(Source):
    """Every language has every split of every toy task; ids join them across languages.

    Of retrieval and mining the pivot has none: its sentences stand beside those of the others.
    """

    name = "toy"

    def __init__(self, seed: int = 0) -> None:
        self.seed = seed

    def vocabulary(self) -> tuple[str, ...]:
        """Every spelling of the six languages, sorted."""
        lexicons = toy_words(self.seed).values()
        return tuple(sorted({f for words in lexicons for forms in words.values() for f in forms}))

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
            raise self.no_such_split(task, language, split)
        return _examples(self.seed, task.name, language, split, SIZES[task.name][split])

    def parallel_languages(self) -> tuple[str, ...]:
        return tuple(sorted(TOY_LANGUAGES))

    def parallel(self, language: str) -> Mapping[str, str]:
        """Languages with fewer resources have fewer of the sentences, scattered over all."""
        return _parallel_text(self.seed, language)

    def parallel_digest(self, language: str) -> str:
        return _parallel_digest(self.seed, language)

    def alignment_digest(self, first: str, second: str) -> str:
        """It follows from both texts."""
        return digest_of("toy-alignments", *map(self.parallel_digest, (first, second)))

    def alignments(self, first: str, second: str) -> Mapping[str, tuple[tuple[int, int], ...]]:
        """Gold word alignment of the sentences both languages have: places of aligned words."""
        ours, theirs = _spoken_parallel(self.seed, first), _spoken_parallel(self.seed, second)
        aligned = {}
        for number in ours.keys() & theirs.keys():
            places = {spoken.slot: place for place, spoken in enumerate(theirs[number])}
            aligned[f"s{number}"] = tuple(
                (place, places[spoken.slot]) for place, spoken in enumerate(ours[number])
            )
        return aligned

    def lexicon_languages(self, source_language: str) -> tuple[str, ...]:
        targets = TOY_LANGUAGES.keys() - {source_language}
        return tuple(sorted(targets)) if source_language in TOY_LANGUAGES else ()

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


def _speak(spellings: ToyWords, language: str, example: ToyExample) -> list[Spoken]:
    """Both clauses as one sentence; slots carry the number of their clause."""
    first = say(spellings, language, example.first, "1.")
    if example.second is None:
        return first
    connective = Spoken("connective", "CCONJ", spellings[language][example.label][0])
    return [*first, connective, *say(spellings, language, example.second, "2.")]


@cache
def _examples(
    seed: int, task: str, language: str, split: Split, num_examples: int
) -> tuple[Example, ...]:
    return tuple(islice(_rows(seed, task, language, split), num_examples))


def _rows(seed: int, task: str, language: str, split: Split) -> Iterator[Example]:
    """How the toy examples of a task become examples in one language."""
    spellings = toy_words(seed)

    def text(clause: Clause, code: str = language) -> str:
        return text_of(say(spellings, code, clause))

    def whole(example: ToyExample, code: str = language) -> str:
        return text_of(_speak(spellings, code, example))

    for number, example in enumerate(toy_examples(task, split, seed)):
        name = f"{split}{number}"
        match task:
            case "toy-tagging":
                spoken = _speak(spellings, language, example)
                words, tags = (
                    tuple(word.text for word in spoken),
                    tuple(word.tag for word in spoken),
                )
                yield TagExample(name, words, tags)
            case "toy-topic":
                yield TextExample(name, text(example.first), example.label)
            case "toy-similarity":
                score = float(example.label)
                yield ScoreExample(name, text(example.first), text(example.second), score)
            case "toy-choice":
                options = tuple(map(text, example.options))
                yield ChoiceExample(name, text(example.premise), "", options, example.right)
            case "toy-qa":
                yield _span_example(name, example, _speak(spellings, language, example.passage))
            case "toy-retrieval":
                yield RetrievalExample(name, whole(example), whole(example, PIVOT))
            case "toy-ranking" if split == "train":
                pair = text(example.first), text(example.second)
                yield RankingExample(name, *pair, language, ())
            case "toy-ranking":
                # The second clause answers the first, in all six languages.
                for code in TOY_LANGUAGES:
                    has_query = code == language
                    query = text(example.first) if has_query else ""
                    others = tuple(f"{name}-{other}" for other in TOY_LANGUAGES if other != code)
                    answer = text(example.second, code)
                    relevant = others if has_query else ()
                    yield RankingExample(f"{name}-{code}", query, answer, code, relevant)
            case "toy-mining":
                # Of three examples the first is in both languages, each other one in one of them.
                both = (language, PIVOT)
                for code in both if number % 3 == 0 else (both[number % 3 - 1],):
                    is_answered = number % 3 == 0 and code == language
                    gold = (f"{name}-{PIVOT}",) if is_answered else ()
                    yield MiningExample(f"{name}-{code}", code, whole(example, code), gold)
            case _:
                yield PairExample(name, text(example.first), text(example.second), example.label)


def _span_example(name: str, question: ToyQuestion, spoken: list[Spoken]) -> SpanExample:
    """The question is the clause without the phrase that answers it."""
    clause, phrase = f"{question.place}.", f"{question.place}.{question.phrase}."
    rest = [word for word in spoken if word.slot.startswith(clause) and phrase not in word.slot]
    answer = [word for word in spoken if word.slot.startswith(phrase)]
    before = spoken[: spoken.index(answer[0])]
    answers = (Answer(text_of(answer), sum(len(word.text) + 1 for word in before)),)
    return SpanExample(name, text_of(rest), text_of(spoken), answers)


@cache
def _split_digest(seed: int, task: str, language: str, split: Split) -> str:
    size = SIZES[task][split]
    spellings = [" ".join(forms) for forms in toy_words(seed)[language].values()]
    first = map(repr, _examples(seed, task, language, split, _NUM_FINGERPRINTED))
    return digest_of(
        "toy", GENERATOR_VERSION, seed, task, language, split, size, *spellings, *first
    )


@cache
def _parallel(seed: int) -> tuple[ToyExample, ...]:
    """What the parallel sentences say, in any language."""
    total = max(language.num_parallel for language in TOY_LANGUAGES.values())
    return tuple(islice(toy_examples("parallel", "train", seed), total))


@cache
def _spoken_parallel(seed: int, language: str) -> dict[int, list[Spoken]]:
    spellings, examples = toy_words(seed), _parallel(seed)
    rng = Rng("toy-parallel-rows", seed, language)
    kept = rng.shuffled(range(len(examples)))[: TOY_LANGUAGES[language].num_parallel]
    return {number: _speak(spellings, language, examples[number]) for number in sorted(kept)}


@cache
def _parallel_text(seed: int, language: str) -> dict[str, str]:
    spoken_by_number = _spoken_parallel(seed, language)
    return {f"s{number}": text_of(spoken) for number, spoken in spoken_by_number.items()}


@cache
def _parallel_digest(seed: int, language: str) -> str:
    sentences = _parallel_text(seed, language).values()
    return digest_of("toy-parallel", GENERATOR_VERSION, seed, language, *sentences)


@cache
def _lexicon(seed: int, source_language: str) -> dict[str, dict[str, tuple[str, ...]]]:
    if source_language not in TOY_LANGUAGES:
        return {}
    words = toy_words(seed)
    known = {language: _known_glosses(seed, language) for language in TOY_LANGUAGES}
    entries: dict[str, dict[str, tuple[str, ...]]] = {}
    for gloss, forms in words[source_language].items():
        targets = [
            code for code in TOY_LANGUAGES if code != source_language and gloss in known[code]
        ]
        if targets and gloss in known[source_language]:
            for form, word in enumerate(forms):
                entries[word] = {target: (words[target][gloss][form],) for target in targets}
    return entries


def _known_glosses(seed: int, language: str) -> frozenset[str]:
    rng = Rng("toy-lexicon", seed, language)
    glosses = toy_words(seed)[language]
    return frozenset(gloss for gloss in glosses if rng.chance(TOY_LANGUAGES[language].coverage))
