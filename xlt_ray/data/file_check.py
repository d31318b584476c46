"""Every line of the files that a sweep reads, looked at before anything starts.

The readers do it themselves: they go on behind a faulty line and keep the fault
(:class:`xlt_ray.data.lines.Gathered`). That a split has no fault is remembered by its digest, so
that a second check takes no time. Nothing of a label leaves this module but a faulty one, within
its message.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import uuid
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

from xlt_ray.data.files import FilesSource
from xlt_ray.data.lines import Gathered
from xlt_ray.data.neighbours import neighbour_lists
from xlt_ray.data.streams import digest_of
from xlt_ray.data.task import Task, task_named
from xlt_ray.errors import DataError, DataErrors
from xlt_ray.spec.facts import Split, SplitFacts

_VERSION = 1
"""Raised when readers find faults that they did not find before."""
_CODE = re.compile(r"[a-z]{2,8}([-_@+][A-Za-z0-9]+)*")

Splits = Mapping[tuple[str, Split], SplitFacts]


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
        if len(self.languages) <= _LISTED:
            each = (f"{one} {size:,}" for one, size in self.languages.items())
            return f"{self.task} {self.split}: {', '.join(each)}"
        low, high = min(self.languages.values()), max(self.languages.values())
        extent = f"{low:,}" if low == high else f"{low:,} to {high:,}"
        return f"{self.task} {self.split}: {len(self.languages)} languages, {extent} examples each"


_LISTED = 8
"""Most languages that are told one by one."""


class FileCheck:
    """Gathers ``errors`` and ``warnings`` of the files that are given to it, and their sizes."""

    def __init__(self, source: FilesSource, cache: Path) -> None:
        self._source, self._cache = source, cache / "checks"
        self.sizes: list[Sizes] = []
        self.errors: list[DataError] = []
        self.warnings: list[str] = []

    def task(self, name: str, splits: Splits) -> None:
        """The splits of a task that a sweep reads, and what lies beside them."""
        task = task_named(name)
        for (language, split), facts in splits.items():
            with self._noted():
                self._warn_of_ids(
                    task, language, split, self._repeated(task, language, split, facts)
                )
        for split in ("train", "dev", "test"):
            found = {
                one: facts.num_examples
                for (one, of), facts in sorted(splits.items())
                if of == split
            }
            if found:
                self.sizes.append(Sizes(name, split, found))
        for places in copies(splits):
            trained = {language for language, split in places if split == "train"}
            scored = [(one, split) for one, split in places if one in trained and split != "train"]
            self.errors += [_copy_of_train(name, *place) for place in scored]
            if not scored:
                told = ", ".join("/".join(place) for place in places)
                self.warnings.append(
                    f"{name}: {told} are the same file; what is trained or selected on one of them "
                    "is scored on another"
                )
        for language in sorted({language for language, _ in splits}):
            if not _CODE.fullmatch(language):
                self.warnings.append(
                    f"{name}: {language!r} does not look like the code of a language; files are "
                    f"named as {language.lower()}.test.{task.format}"
                )
        self.warnings += [
            f"{path}: no task reads this file; names are LANGUAGE.SPLIT.{task.format} with train, "
            "dev or test"
            for path in self._source.unread(task)
        ]

    def parallel(self, languages: Iterable[str]) -> None:
        """Parallel text, and whether every language has a sentence of another one."""
        texts: dict[str, Mapping[str, str]] = {}
        for language in languages:
            gathered = Gathered()
            with self._noted():
                with gathered:
                    texts[language] = self._source.parallel(language, gathered)
                self._refuse(gathered)
        for language, sentences in texts.items():
            others = [text for other, text in texts.items() if other != language]
            if others and not any(sentences.keys() & text.keys() for text in others):
                self.warnings.append(
                    f"{self._source.root / 'parallel'}: no id of {language} is one of another "
                    "language that is read, so none of its sentences has a translation"
                )

    def lexicons(self, languages: Iterable[str]) -> None:
        for language in languages:
            gathered = Gathered()
            with self._noted():
                with gathered:
                    self._source.lexicon(language, gathered)
                self._refuse(gathered)

    def neighbours(self, languages: Iterable[str]) -> None:
        for language in languages:
            gathered = Gathered()
            with self._noted():
                with gathered:
                    neighbour_lists(self._source, language, gathered)
                self._refuse(gathered)

    def links(self, pairs: Iterable[str]) -> None:
        """Alignments of words, by ``FIRST-SECOND`` of languages that have parallel text."""
        there = self._source.parallel_languages()
        asked = set(pairs)
        for first, second in combinations(there, 2):
            if f"{first}-{second}" in asked:
                with self._noted():
                    self._source.alignments(first, second)

    def _refuse(self, gathered: Gathered) -> None:
        """Faults of several files, each file's by themselves."""
        files = dict.fromkeys(fault.fields["file"] for fault in gathered.faults)
        for file in files:
            own = Gathered()
            own.faults = [one for one in gathered.faults if one.fields["file"] == file]
            with self._noted():
                own.refuse(Path(file))

    @contextlib.contextmanager
    def _noted(self) -> Iterator[None]:
        try:
            yield
        except DataErrors as errors:
            self.errors += errors.problems
        except DataError as error:
            self.errors.append(error)

    def _warn_of_ids(
        self, task: Task, language: str, split: Split, repeated: tuple[str, ...]
    ) -> None:
        if repeated:
            first = repeated[0]
            self.warnings.append(
                f"{task.name}/{language}/{split}: {len(repeated):,} ids are there already, the "
                f"first is {first!r}; the later one is called {first}#2"
            )

    def _repeated(
        self, task: Task, language: str, split: Split, facts: SplitFacts
    ) -> tuple[str, ...]:
        """As :meth:`FilesSource.examine`; taken from the cache where the split had no fault."""
        key = digest_of("check", _VERSION, facts.digest, task.format, language, split)
        file = self._cache / f"{key}.json"
        with contextlib.suppress(OSError, ValueError):
            return tuple(json.loads(file.read_text(encoding="utf-8"))["repeated"])
        found = self._source.examine(task, language, split)
        # A home that cannot be written costs time alone.
        with contextlib.suppress(OSError):
            file.parent.mkdir(parents=True, exist_ok=True)
            aside = file.with_name(f".{key}.{uuid.uuid4().hex}")
            aside.write_text(json.dumps({"repeated": found}), encoding="utf-8")
            os.replace(aside, file)
        return found


def copies(splits: Splits) -> list[list[tuple[str, Split]]]:
    """Splits that hold the same bytes, as groups of two or more."""
    groups: dict[str, list[tuple[str, Split]]] = {}
    for place, facts in sorted(splits.items()):
        if facts.content:
            groups.setdefault(facts.content, []).append(place)
    return [places for places in groups.values() if len(places) > 1]


def _copy_of_train(name: str, language: str, scored: str) -> DataError:
    return DataError(
        f"{scored} and train are the same file, so a score would say nothing",
        task=name,
        language=language,
        remedy=f"put examples into {scored} that are not trained on",
    )
