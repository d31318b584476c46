"""What a sweep reads, looked at before anything starts: every line of its files, and whether what
it joins across languages meets.

The readers find faults themselves: they go on behind a faulty line and keep the fault
(:class:`xlt_ray.data.text.lines.Gathered`). That a split has no fault is remembered by its digest.
Nothing of a label leaves this module but a faulty one, within its message.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache, partial
from itertools import combinations
from typing import Any, NamedTuple

from xlt_ray.config.diagnostics import diagnosed_languages
from xlt_ray.config.facts import Facts, LexiconFacts, Split, SplitFacts
from xlt_ray.config.methods import CodeSwitchMlm, MaskedAlignment, MonolingualLm
from xlt_ray.config.trial import TrialSpec
from xlt_ray.data.cache import Verdicts
from xlt_ray.data.sampling import digest_of
from xlt_ray.data.sources.base import Source
from xlt_ray.data.sources.hub_source import HubSource
from xlt_ray.data.sources.local_files import FilesSource
from xlt_ray.data.task import Task, task_named
from xlt_ray.data.text.neighbours import neighbour_lists
from xlt_ray.data.text.parallel import rest_of
from xlt_ray.data.types.base import Example
from xlt_ray.errors import DataError, DataErrors

_CODE = re.compile(r"[a-z]{2,8}([-_@+][A-Za-z0-9]+)*")
NUM_LISTED = 8
"""Most languages that a line lists one by one."""
_FEW = 0.5
"""Share of the rows of the smaller language, below which too few meet another's."""


@dataclass(frozen=True)
class Sizes:
    """Examples by language of the splits of one task that a sweep reads."""

    task: str
    split: Split
    languages: Mapping[str, int]

    def __str__(self) -> str:
        """Language by language, of many their number and the range of their sizes.

        >>> str(Sizes("pos", "test", {"de": 1000, "en": 2077}))
        'pos test: de 1,000, en 2,077'
        """
        if len(self.languages) <= NUM_LISTED:
            each = (f"{language} {size:,}" for language, size in self.languages.items())
            return f"{self.task} {self.split}: {', '.join(each)}"
        low, high = min(self.languages.values()), max(self.languages.values())
        extent = f"{low:,}" if low == high else f"{low:,} to {high:,}"
        return f"{self.task} {self.split}: {len(self.languages)} languages, {extent} examples each"


class Check:
    """Gathers ``errors`` and ``warnings`` of what is given to it; some may be there twice."""

    def __init__(self, source: Source, verdicts: Verdicts) -> None:
        self._source, self._verdicts = source, verdicts
        self.errors: list[DataError] = []
        self.warnings: list[str] = []

    @contextlib.contextmanager
    def _noted(self) -> Iterator[None]:
        try:
            yield
        except DataErrors as errors:
            self.errors += errors.problems
        except DataError as error:
            self.errors.append(error)


class FileCheck(Check):
    """The files that are given to it, and their ``sizes``."""

    def __init__(self, source: Source, verdicts: Verdicts) -> None:
        super().__init__(source, verdicts)
        self.sizes: list[Sizes] = []

    def task(self, name: str, splits: Mapping[tuple[str, Split], SplitFacts]) -> None:
        """The splits of a task that a sweep reads, and what lies beside them in a folder; rows of
        the hub were looked at where their facts were asked for."""
        task = task_named(name)
        files = self._files_of(task)
        for (language, split), facts in splits.items():
            with self._noted():
                repeated = facts.repeated
                if files is not None:
                    repeated = self._verdicts.of(
                        partial(files.examine, task, language, split),
                        *(facts.digest, task.format, language, split),
                    )
                if repeated:
                    first = repeated[0]
                    self.warnings.append(
                        f"{name}/{language}/{split}: {len(repeated):,} ids are repeated, the first "
                        f"is {first!r}; the later one is called {first}#2"
                    )
        for split in ("train", "dev", "test"):
            sizes = {place[0]: facts.num_examples for place, facts in sorted(splits.items())
                     if place[1] == split}  # fmt: skip
            if sizes:
                self.sizes.append(Sizes(name, split, sizes))
        for places in _copies(splits):
            trained = {language for language, split in places if split == "train"}
            scored = [place for place in places if place[0] in trained and place[1] != "train"]
            self.errors += [
                DataError(
                    f"{split} and train hold the same examples, so a score would mean nothing",
                    task=name,
                    language=language,
                    remedy=f"put examples into {split} that are not trained on",
                )
                for language, split in scored
            ]
            if not scored:
                self.warnings.append(
                    f"{name}: {', '.join(map('/'.join, places))} hold the same examples, so trials "
                    "are scored on data that they are trained or selected on"
                )
        if files is None:
            return
        for language in sorted({language for language, _ in splits}):
            if not _CODE.fullmatch(language):
                self.warnings.append(
                    f"{name}: {language!r} does not look like a language code; files are "
                    f"named as {language.lower()}.test.{task.format}"
                )
        for path in files.unread(task):
            self.warnings.append(
                f"{path}: no task reads this file; names are LANGUAGE.SPLIT.{task.format} with "
                "train, dev or test"
            )

    def texts(
        self,
        parallel: Mapping[str, str],
        lexicons: Mapping[str, LexiconFacts],
        neighbours: Iterable[str],
        links: Mapping[str, str],
    ) -> None:
        """Parallel text, lexicons and neighbours by language, and alignments of words by
        ``FIRST-SECOND`` of languages that have parallel text."""
        for language, digest in parallel.items():
            self._read("parallel", digest, partial(self._source.parallel, language))
        for language, facts in lexicons.items():
            self._read("lexicon", facts.digest, partial(self._source.lexicon, language))
        for language in neighbours:
            with self._noted():
                neighbour_lists(self._source, language)
        for pair in combinations(self._source.parallel_languages(), 2):
            if (links_digest := links.get("-".join(pair))) is not None:
                digest = digest_of(links_digest, *map(self._source.parallel_digest, pair))
                self._read("alignments", digest, partial(self._source.alignments, *pair))

    def _read(self, folder: str, digest: str, read: Callable[[], object]) -> None:
        """Read files once; that they had no fault is remembered."""
        with self._noted():
            self._verdicts.of(lambda: bool(read()) or True, folder, digest)

    def _files_of(self, task: Task) -> FilesSource | None:
        """The folder that a task is read from; None where that is the hub."""
        if isinstance(self._source, HubSource):
            return None if task.hub else self._source.texts
        return self._source if isinstance(self._source, FilesSource) else None


def examples_of(source: Source, task: Task, language: str, split: Split) -> Iterable[Example]:
    """The examples of a split, which files do not keep."""
    if isinstance(source, FilesSource):
        return source.rows(task, language, split)
    return source.read(task, language, split)


def _copies(splits: Mapping[tuple[str, Split], SplitFacts]) -> list[list[tuple[str, Split]]]:
    """Splits that hold the same bytes or the same rows, as groups of two or more."""
    groups: dict[str, list[tuple[str, Split]]] = {}
    for place, facts in sorted(splits.items()):
        if digest := facts.rows or facts.content:
            groups.setdefault(digest, []).append(place)
    return [places for places in groups.values() if len(places) > 1]


class Overlap(NamedTuple):
    """How many ids each of two languages has, how many both have, and how many of these mean
    something else in the other one, with the first of them."""

    sizes: tuple[int, int]
    shared: int
    num_differing: int = 0
    differing: str = ""

    @property
    def is_small(self) -> bool:
        return self.shared < _FEW * min(self.sizes)


class JoinCheck(Check):
    """Rows and sentences that trials join by their ids: in hybrid batches, pairs of languages,
    alignments and diagnostics. What has nothing in common would end a trial, at the latest in its
    evaluation; what has little in common is warned of."""

    def __init__(self, source: Source, facts: Facts, verdicts: Verdicts) -> None:
        super().__init__(source, verdicts)
        self._facts = facts
        self._golds = cache(self._golds_of)
        self._overlap = cache(self._overlap_of)
        self._parallel_overlap = cache(self._parallel_overlap_of)
        self._checked: set[str] = set()

    def trial(self, trial: TrialSpec) -> None:
        """The joins of one trial, which fits the facts."""
        target = trial.target
        joins = repr((target.task, target.source_language, target.hybrid, trial.align))
        joins += repr(trial.evaluate)
        if joins not in self._checked:
            self._checked.add(joins)
            self._check_pairs(trial)
            self._check_hybrid(trial)
            self._check_parallel(trial)

    def _check_pairs(self, trial: TrialSpec) -> None:
        task, settings = self._facts.tasks[trial.target.task], trial.evaluate
        tested = settings.languages_tested(task, trial.target.source_language)
        pairs = {frozenset(pair) for pair in settings.language_pairs(tested)}
        for first, second in sorted(sorted(pair) for pair in pairs if len(pair) == 2):
            overlap = self._overlap(task.name, "test", first, second)
            where: dict[str, Any] = {
                "task": task.name, "language": f"{first}:{second}", "split": "test",
            }  # fmt: skip
            if overlap.num_differing:
                self.errors.append(
                    DataError(
                        f"{overlap.num_differing:,} ids have another label in {second} than in "
                        f"{first}, the first is {overlap.differing!r}",
                        remedy="one id must mean one example in all languages; otherwise pairs: "
                        "none",
                        **where,
                    )
                )
            elif not overlap.shared:
                self.errors.append(
                    DataError(
                        "the languages have no row in common",
                        remedy="ids that are the same in all languages, or leave the pair out of "
                        "evaluate.pairs",
                        **where,
                    )
                )
            elif overlap.is_small:
                self._warn_of_few(f"{task.name}/test", first, second, overlap)

    def _check_hybrid(self, trial: TrialSpec) -> None:
        task, source = self._facts.tasks[trial.target.task], trial.target.source_language
        overlaps = {
            language: self._overlap(task.name, "train", source, language)
            for language in trial.target.hybrid.translated_languages(task, source)
        }
        if overlaps and not any(overlap.shared for overlap in overlaps.values()):
            self.errors.append(
                DataError(
                    f"no id of the training text in {source} is one of {', '.join(overlaps)}, so "
                    "hybrid batches would hold no translation",
                    task=task.name,
                    split="train",
                    remedy="ids that are the same in all languages, or target.hybrid.text: "
                    "switched",
                )
            )
            return
        for language, overlap in overlaps.items():
            if overlap.num_differing:
                self.warnings.append(
                    f"{task.name}/train: {overlap.num_differing:,} ids have another label in "
                    f"{language} than in {source}, the first is {overlap.differing!r}; hybrid "
                    f"batches take that of {source}"
                )
            if overlap.is_small:
                self._warn_of_few(f"{task.name}/train", source, language, overlap)

    def _check_parallel(self, trial: TrialSpec) -> None:
        align, parallel = trial.align, self._facts.parallel
        if align is not None:
            languages = sorted(parallel if align.languages == "all" else set(align.languages))
            if not isinstance(align, CodeSwitchMlm | MonolingualLm):
                self._check_translations(languages)
            if isinstance(align, MaskedAlignment) and align.held_out:
                digests = [parallel[language] for language in languages]
                with self._noted():
                    find = partial(self._has_rest, align, languages)
                    self._verdicts.of(find, "held out", align.held_out, *digests)
        if trial.evaluate.diagnostics:
            source = trial.target.source_language
            tested = trial.evaluate.languages_tested(self._facts.tasks[trial.target.task], source)
            for language in diagnosed_languages(tested, source, parallel):
                if not self._parallel_overlap(source, language).shared:
                    self.errors.append(
                        DataError(
                            f"shares no parallel sentence with {source}",
                            language=language,
                            remedy="leave it out of evaluate.languages, or evaluate.diagnostics: "
                            "[]",
                        )
                    )

    def _check_translations(self, languages: list[str]) -> None:
        """Whether each language of an alignment that pairs sentences has some in another one."""
        best: dict[str, Overlap] = {}
        for pair in combinations(languages, 2):
            overlap = self._parallel_overlap(*pair)
            for language in pair:
                if language not in best or overlap.shared > best[language].shared:
                    best[language] = overlap
        if not any(overlap.shared for overlap in best.values()):
            self.errors.append(
                DataError(
                    f"the languages {', '.join(languages)} share no parallel sentence",
                    remedy="ids that are the same in all languages of a corpus: parallel/CORPUS",
                )
            )
            return
        for language, overlap in best.items():
            if not overlap.shared:
                self.warnings.append(
                    f"parallel text: no id of {language} is one of another language that is read, "
                    "so none of its sentences has a translation"
                )
            elif overlap.is_small:
                self.warnings.append(
                    f"parallel text: at most {overlap.shared:,} sentences of {language} have a "
                    "translation into any one of the other languages"
                )

    def _has_rest(self, align: MaskedAlignment, languages: list[str]) -> bool:
        rest = rest_of(self._source, align)
        return all(rest.parallel(language) for language in languages)

    def _warn_of_few(self, where: str, first: str, second: str, overlap: Overlap) -> None:
        self.warnings.append(
            f"{where}: {overlap.shared:,} of {overlap.sizes[0]:,} ids in {first} and "
            f"{overlap.sizes[1]:,} in {second} are the same; only these rows are translations of "
            "each other"
        )

    def _parallel_overlap_of(self, first: str, second: str) -> Overlap:
        def find() -> Overlap:
            ids, others = (self._source.parallel(code).keys() for code in (first, second))
            return Overlap((len(ids), len(others)), len(ids & others))

        digests = (self._facts.parallel[first], self._facts.parallel[second])
        return Overlap(*self._verdicts.of(find, "parallel", *digests))

    def _overlap_of(self, name: str, split: Split, first: str, second: str) -> Overlap:
        def find() -> Overlap:
            golds, others = (self._golds(name, split, code) for code in (first, second))
            shared = [key for key in golds if key in others]
            differing = [key for key in shared if golds[key] != others[key]]
            sizes = (len(golds), len(others))
            return Overlap(sizes, len(shared), len(differing), next(iter(differing), ""))

        splits = self._facts.tasks[name].splits
        digests = (splits[language, split].digest for language in (first, second))
        return Overlap(*self._verdicts.of(find, "rows", *digests))

    def _golds_of(self, name: str, split: Split, language: str) -> Mapping[str, Any]:
        rows: Iterable[Any] = examples_of(self._source, task_named(name), language, split)
        return {row.id: row.gold for row in rows if getattr(row, "is_whole", True)}
