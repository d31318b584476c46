"""Every line of the files that a sweep reads, looked at before anything starts.

The readers do it themselves: they go on behind a faulty line and keep the fault
(:class:`xlt_ray.data.text.lines.Gathered`). That a split has no fault is remembered by its digest,
so that a second check takes no time. Nothing of a label leaves this module but a faulty one, within
its message.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import Any

from xlt_ray.config.facts import LexiconFacts, Split, SplitFacts
from xlt_ray.data.sampling import digest_of
from xlt_ray.data.sources.base import Source
from xlt_ray.data.sources.hub_source import HubSource
from xlt_ray.data.sources.local_files import FilesSource
from xlt_ray.data.task import Task, task_named
from xlt_ray.data.text.neighbours import neighbour_lists
from xlt_ray.data.types.base import Example
from xlt_ray.errors import DataError, DataErrors
from xlt_ray.files import atomic_write

_VERSION = 2
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

    def __init__(self, source: Source, verdicts: Verdicts) -> None:
        self._source, self._verdicts = source, verdicts
        self.sizes: list[Sizes] = []
        self.errors: list[DataError] = []
        self.warnings: list[str] = []

    def task(self, name: str, splits: Splits) -> None:
        """The splits of a task that a sweep reads, and what lies beside them in a folder; rows of
        the hub were looked at where their facts were asked for."""
        task = task_named(name)
        files = self._files_of(task)
        for (language, split), facts in splits.items():
            if files is None:
                self._warn_of_ids(task, language, split, facts.repeated)
                continue
            with self._noted():
                repeated = self._repeated(files, task, language, split, facts)
                self._warn_of_ids(task, language, split, repeated)
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
                    f"{name}: {told} hold the same examples, so trials are scored on data that "
                    "they are trained or selected on"
                )
        if files is None:
            return
        for language in sorted({language for language, _ in splits}):
            if not _CODE.fullmatch(language):
                self.warnings.append(
                    f"{name}: {language!r} does not look like a language code; files are "
                    f"named as {language.lower()}.test.{task.format}"
                )
        self.warnings += [
            f"{path}: no task reads this file; names are LANGUAGE.SPLIT.{task.format} with train, "
            "dev or test"
            for path in files.unread(task)
        ]

    def parallel(self, digests: Mapping[str, str]) -> None:
        """Parallel text by language."""
        for language, digest in digests.items():
            self._read("parallel", digest, partial(self._source.parallel, language))

    def lexicons(self, lexicons: Mapping[str, LexiconFacts]) -> None:
        for language, facts in lexicons.items():
            self._read("lexicon", facts.digest, partial(self._source.lexicon, language))

    def neighbours(self, languages: Iterable[str]) -> None:
        for language in languages:
            with self._noted():
                neighbour_lists(self._source, language)

    def links(self, digests: Mapping[str, str]) -> None:
        """Alignments of words, by ``FIRST-SECOND`` of languages that have parallel text."""
        for first, second in combinations(self._source.parallel_languages(), 2):
            digest = digests.get(f"{first}-{second}")
            if digest is not None:
                texts = [self._source.parallel_digest(one) for one in (first, second)]
                self._read(
                    "alignments",
                    digest_of(digest, *texts),
                    partial(self._source.alignments, first, second),
                )

    def _read(self, folder: str, digest: str, read: Callable[[], object]) -> None:
        """Read files once; that they had no fault is remembered."""
        with self._noted():
            self._verdicts.of(lambda: bool(read()) or True, folder, digest)

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
                f"{task.name}/{language}/{split}: {len(repeated):,} ids are repeated, the first is "
                f"{first!r}; the later one is called {first}#2"
            )

    def _files_of(self, task: Task) -> FilesSource | None:
        """The folder that a task is read from; None where that is the hub."""
        if isinstance(self._source, HubSource):
            return None if task.hub else self._source.texts
        return self._source if isinstance(self._source, FilesSource) else None

    def _repeated(
        self, files: FilesSource, task: Task, language: str, split: Split, facts: SplitFacts
    ) -> tuple[str, ...]:
        """As :meth:`FilesSource.examine`; taken from the cache where the split had no fault."""
        found: list[str] = self._verdicts.of(
            lambda: files.examine(task, language, split),
            *(facts.digest, task.format, language, split),
        )
        return tuple(found)


def examples_of(source: Source, task: Task, language: str, split: Split) -> Iterable[Example]:
    """The examples of a split, which files do not keep."""
    if isinstance(source, FilesSource):
        return source.rows(task, language, split)
    return source.read(task, language, split)


class Verdicts:
    """What was found out about files without a fault, by digests, so that it is found out once."""

    def __init__(self, cache: Path) -> None:
        self._folder = cache / "checks"

    def of(self, find: Callable[[], Any], *parts: str | int) -> Any:
        """``find()``, as JSON holds it, or what it gave for the same ``parts`` before."""
        file = self._folder / f"{digest_of('check', _VERSION, *parts)}.json"
        with contextlib.suppress(OSError, ValueError):
            return json.loads(file.read_text(encoding="utf-8"))
        found = find()
        # A home that cannot be written costs time alone.
        with contextlib.suppress(OSError):
            atomic_write(file, json.dumps(found))
        return found


def copies(splits: Splits) -> list[list[tuple[str, Split]]]:
    """Splits that hold the same bytes or the same rows, as groups of two or more."""
    groups: dict[str, list[tuple[str, Split]]] = {}
    for place, facts in sorted(splits.items()):
        if digest := facts.rows or facts.content:
            groups.setdefault(digest, []).append(place)
    return [places for places in groups.values() if len(places) > 1]


def _copy_of_train(name: str, language: str, scored: str) -> DataError:
    return DataError(
        f"{scored} and train hold the same examples, so a score would mean nothing",
        task=name,
        language=language,
        remedy=f"put examples into {scored} that are not trained on",
    )
