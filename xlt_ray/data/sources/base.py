"""Where examples come from: one interface, three kinds (``toy``, ``files`` and ``hub``).

A source hands out plain text with stable ids and tells how much there is; it neither
tokenises nor decides who may read what. Stages never call :meth:`Source.read`: they go
through :mod:`xlt_ray.data.label_access`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from xlt_ray.config.facts import Split, SplitFacts
from xlt_ray.config.trial import Data, FilesData, HubData
from xlt_ray.data.task import Task
from xlt_ray.data.types.base import Example
from xlt_ray.errors import DataError

Place = TypeVar("Place")
Fact = TypeVar("Fact")


class Survey(Mapping[Place, Fact]):
    """What there is: splits or texts; the fact about one is found when it is asked for."""

    def __init__(self, places: Iterable[Place], fact_of: Callable[[Place], Fact]) -> None:
        self._places, self._fact_of = dict.fromkeys(places), fact_of

    def __getitem__(self, place: Place) -> Fact:
        if place not in self._places:
            raise KeyError(place)
        return self._fact_of(place)

    def __contains__(self, place: object) -> bool:
        return place in self._places

    def __iter__(self) -> Iterator[Place]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)


class Source(ABC):
    """What every source can do. All digests are 64 hex digits and change with the content."""

    name: str
    """``toy``, ``files`` or ``hub``."""

    def vocabulary(self) -> tuple[str, ...] | None:
        """Every word there can be, where that is known (toy); None for real text."""
        return None

    @abstractmethod
    def splits(self, task: Task) -> Mapping[tuple[str, Split], SplitFacts]:
        """Size and digest by (language, split); empty where the source lacks the task.

        The hub's are read one by one when they are asked for.
        """

    @abstractmethod
    def read(self, task: Task, language: str, split: Split) -> Sequence[Example]:
        """All examples of one split, in their order.

        Ids are unique within a split; the same id in two languages means the same example.

        Raises:
            DataError: no such split, or a file that does not hold what the task says.
        """

    @abstractmethod
    def parallel_languages(self) -> tuple[str, ...]:
        """Languages with parallel text, sorted."""

    @abstractmethod
    def parallel(self, language: str) -> Mapping[str, str]:
        """Sentences by join id: the same id in two languages means translations."""

    @abstractmethod
    def parallel_digest(self, language: str) -> str:
        """Digest of ``parallel(language)``."""

    @abstractmethod
    def alignment_digest(self, first: str, second: str) -> str:
        """Digest of ``alignments(first, second)``; empty where the data has none."""

    @abstractmethod
    def alignments(self, first: str, second: str) -> Mapping[str, tuple[tuple[int, int], ...]]:
        """Aligned words of parallel sentences, by join id: places in the first language and in the
        second, counted from 0 over what whitespace separates."""

    @abstractmethod
    def lexicon_languages(self, source_language: str) -> tuple[str, ...]:
        """Languages that words of ``source_language`` can be translated into, sorted."""

    @abstractmethod
    def lexicon(self, source_language: str) -> Mapping[str, Mapping[str, tuple[str, ...]]]:
        """Word -> target language -> translations, at least one each."""

    @abstractmethod
    def lexicon_digest(self, source_language: str) -> str:
        """Digest of ``lexicon(source_language)``."""

    def no_such_split(self, task: Task, language: str, split: str) -> DataError:
        """The complaint about a split that the source lacks, with what there is."""
        languages = sorted(code for code, name in self.splits(task) if name == split)
        remedy = f"{split} exists in: {', '.join(languages)}" if languages else "no language has it"
        return DataError(
            f"the {self.name} source has no such data",
            task=task.name,
            language=language,
            split=split,
            remedy=remedy,
        )


def open_source(data: Data, tables: Path | None = None) -> Source:
    """The source that a sweep names; a relative root counts from the working directory.

    Args:
        tables: the cache in which examples of files are kept, so that no file is parsed twice;
            None for none.

    Raises:
        DataError: the root is not a folder.
    """
    if isinstance(data, FilesData):
        from xlt_ray.data.sources.local_files import FilesSource

        return FilesSource(Path(data.root).expanduser(), tables)
    if isinstance(data, HubData):
        from xlt_ray.data.sources.hub_source import HubSource

        return HubSource(
            None if data.root is None else Path(data.root).expanduser(),
            texts=None if data.texts is None else Path(data.texts).expanduser(),
            cache=data.cache,
            revisions=data.revisions,
            tables=tables,
        )
    from xlt_ray.data.sources.toy_source import ToySource

    return ToySource(data.seed)
