"""Whether what a sweep joins across languages meets, before anything starts.

Rows of a task are joined by their ids in hybrid batches and in pairs of languages, sentences of
parallel text in alignments and diagnostics. What has nothing in common would end a trial, at the
latest in its evaluation; what has little in common is warned of.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import cache, partial
from itertools import combinations
from typing import Any, NamedTuple

from xlt_ray.config.diagnostics import diagnosed_languages
from xlt_ray.config.facts import Facts, Split
from xlt_ray.config.methods import CodeSwitchMlm, MaskedAlignment, MonolingualLm
from xlt_ray.config.trial import TrialSpec
from xlt_ray.data.file_check import Verdicts, examples_of
from xlt_ray.data.sources.base import Source
from xlt_ray.data.task import task_named
from xlt_ray.data.text.parallel import rest_of
from xlt_ray.errors import DataError

_FEW = 0.5
"""Rows of the language that has fewer, of which less than this share meet another's."""


class Meeting(NamedTuple):
    """Of two languages: how many ids each has, how many both have, and how many of these mean
    something else in the other one, with the first of them."""

    sizes: tuple[int, int]
    shared: int
    num_differing: int = 0
    differing: str = ""

    @property
    def is_small(self) -> bool:
        return self.shared < _FEW * min(self.sizes)


class JoinCheck:
    """Gathers ``errors`` and ``warnings``, each once, of the trials that are given to it."""

    def __init__(self, source: Source, facts: Facts, verdicts: Verdicts) -> None:
        self._source, self._facts, self._verdicts = source, facts, verdicts
        self.errors: dict[str, DataError] = {}
        self.warnings: dict[str, None] = {}
        self._golds = cache(self._golds_of)
        self._meeting = cache(self._meeting_of)
        self._parallel_meeting = cache(self._parallel_meeting_of)
        self._met: set[str] = set()

    def trial(self, trial: TrialSpec) -> None:
        """The joins of one trial, which fits the facts."""
        target = trial.target
        asked = repr((target.task, target.source_language, target.hybrid, trial.align))
        asked += repr(trial.evaluate)
        if asked in self._met:
            return
        self._met.add(asked)
        for found in (*self._pairs(trial), *self._hybrid(trial), *self._parallel(trial)):
            if isinstance(found, DataError):
                self.errors.setdefault(str(found), found)
            else:
                self.warnings.setdefault(found)

    def _pairs(self, trial: TrialSpec) -> Iterator[DataError | str]:
        task, settings = self._facts.tasks[trial.target.task], trial.evaluate
        tested = settings.languages_tested(task, trial.target.source_language)
        asked = {frozenset(pair) for pair in settings.language_pairs(tested)}
        for pair in sorted(sorted(languages) for languages in asked if len(languages) == 2):
            first, second = pair
            met = self._meeting(task.name, "test", first, second)
            refused = partial(DataError, task=task.name, language=f"{first}:{second}", split="test")
            if met.num_differing:
                yield refused(
                    f"{met.num_differing:,} ids have another label in {second} than in {first}, "
                    f"the first is {met.differing!r}",
                    remedy="one id must mean one example in all languages; otherwise pairs: none",
                )
            elif not met.shared:
                yield refused(
                    "the languages have no row in common",
                    remedy="ids that are the same in all languages, or leave the pair out of "
                    "evaluate.pairs",
                )
            elif met.is_small:
                yield _few(f"{task.name}/test", pair, met)

    def _hybrid(self, trial: TrialSpec) -> Iterator[DataError | str]:
        task, source = self._facts.tasks[trial.target.task], trial.target.source_language
        met = {
            language: self._meeting(task.name, "train", source, language)
            for language in trial.target.hybrid.translated_languages(task, source)
        }
        if met and not any(one.shared for one in met.values()):
            yield DataError(
                f"no id of the training text in {source} is one of {', '.join(met)}, so hybrid "
                "batches would hold no translation",
                task=task.name,
                split="train",
                remedy="ids that are the same in all languages, or target.hybrid.text: switched",
            )
            return
        for language, one in met.items():
            if one.num_differing:
                yield (
                    f"{task.name}/train: {one.num_differing:,} ids have another label in "
                    f"{language} than in {source}, the first is {one.differing!r}; hybrid batches "
                    f"take that of {source}"
                )
            if one.is_small:
                yield _few(f"{task.name}/train", (source, language), one)

    def _parallel(self, trial: TrialSpec) -> Iterator[DataError | str]:
        align, there = trial.align, self._facts.parallel
        if align is not None:
            asked = sorted(there) if align.languages == "all" else sorted(set(align.languages))
            if not isinstance(align, CodeSwitchMlm | MonolingualLm):
                yield from self._translations(asked)
            if isinstance(align, MaskedAlignment) and align.held_out:
                yield from self._left(align, asked)
        if trial.evaluate.diagnostics:
            source = trial.target.source_language
            tested = trial.evaluate.languages_tested(self._facts.tasks[trial.target.task], source)
            for language in diagnosed_languages(tested, source, there):
                if not self._parallel_meeting(source, language).shared:
                    yield DataError(
                        f"shares no parallel sentence with {source}",
                        language=language,
                        remedy="leave it out of evaluate.languages, or evaluate.diagnostics: []",
                    )

    def _translations(self, languages: list[str]) -> Iterator[DataError | str]:
        """Of an alignment that pairs sentences: whether each language has some in another one."""
        best: dict[str, Meeting] = {}
        for pair in combinations(languages, 2):
            met = self._parallel_meeting(*pair)
            for language in pair:
                if language not in best or met.shared > best[language].shared:
                    best[language] = met
        if not any(met.shared for met in best.values()):
            yield DataError(
                f"the languages {', '.join(languages)} share no parallel sentence",
                remedy="ids that are the same in all languages of a corpus: parallel/CORPUS",
            )
            return
        for language, met in best.items():
            if not met.shared:
                yield (
                    f"parallel text: no id of {language} is one of another language that is read, "
                    "so none of its sentences has a translation"
                )
            elif met.is_small:
                yield (
                    f"parallel text: at most {met.shared:,} sentences of {language} have a "
                    "translation into any one of the other languages"
                )

    def _left(self, align: MaskedAlignment, languages: list[str]) -> Iterator[DataError]:
        digests = [self._facts.parallel[language] for language in languages]

        def find() -> bool:
            rest = rest_of(self._source, align)
            return all(rest.parallel(language) for language in languages)

        try:
            self._verdicts.of(find, "held out", align.held_out, *digests)
        except DataError as error:
            yield error

    def _parallel_meeting_of(self, first: str, second: str) -> Meeting:
        def find() -> Meeting:
            one, other = (self._source.parallel(language).keys() for language in (first, second))
            return Meeting((len(one), len(other)), len(one & other))

        digests = (self._facts.parallel[first], self._facts.parallel[second])
        return _read(self._verdicts.of(find, "parallel", *digests))

    def _meeting_of(self, name: str, split: Split, first: str, second: str) -> Meeting:
        def find() -> Meeting:
            one, other = (self._golds(name, split, language) for language in (first, second))
            shared = [key for key in one if key in other]
            differing = [key for key in shared if one[key] != other[key]]
            sizes = (len(one), len(other))
            return Meeting(sizes, len(shared), len(differing), next(iter(differing), ""))

        splits = self._facts.tasks[name].splits
        digests = (splits[language, split].digest for language in (first, second))
        return _read(self._verdicts.of(find, "rows", *digests))

    def _golds_of(self, name: str, split: Split, language: str) -> Mapping[str, Any]:
        rows: Iterable[Any] = examples_of(self._source, task_named(name), language, split)
        return {row.id: row.gold for row in rows if getattr(row, "is_whole", True)}


def _read(found: Any) -> Meeting:
    sizes, *rest = found
    return Meeting(tuple(sizes), *rest)


def _few(where: str, pair: Iterable[str], met: Meeting) -> str:
    first, second = pair
    return (
        f"{where}: {met.shared:,} of {met.sizes[0]:,} ids in {first} and {met.sizes[1]:,} in "
        f"{second} are the same; only these rows are translations of each other"
    )
