"""Data sets of the Hugging Face Hub as a data source.

A task's ``hub`` list says where it is (:mod:`xlt_ray.data.sources.hub.hub_entry`), the ``datasets``
library opens it (:mod:`xlt_ray.data.sources.hub.library`), the kind of the task makes an example of
every row.

One rule for each rough edge: a row without a label (-1, ``-``, empty) is left out, as is one whose
sentence is empty or ``NS`` (PAWS-X: not translated); labels are read by name where the data set
names them; a repeated id gets ``#2``; rows without an id are numbered, counting those that are left
out, so that numbers join the languages of data sets that are translated row by row.

Digests are over what the rows say, not over files: the hub, a mirror and another format of the
same rows give the same digest, and so the same stages.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xlt_ray.config.facts import Split, SplitFacts
from xlt_ray.config.task_types import KINDS
from xlt_ray.data.sampling import digest_of
from xlt_ray.data.sources.base import no_such_split
from xlt_ray.data.sources.hub.hub_entry import HubPart, HubPlace
from xlt_ray.data.sources.hub.library import Library
from xlt_ray.data.sources.local_files import FilesSource
from xlt_ray.data.task import Task, load_tasks
from xlt_ray.data.text.lines import Gathered, Names
from xlt_ray.data.types.base import Example, kind_of
from xlt_ray.errors import DataError, DataErrors, nearest

if TYPE_CHECKING:
    from datasets import Dataset

_RULES_VERSION = 2
"""Raised when the same rows are read as other examples; it is part of every digest."""
_NO_LABEL = frozenset({"", "-", "-1", "None"})
_ROWS_AT_ONCE = 1000


class Survey(Mapping[HubPlace, SplitFacts]):
    """Splits that there are; the size and digest of one are read when they are first asked for."""

    def __init__(
        self, places: Sequence[HubPlace], facts_of: Callable[[HubPlace], SplitFacts]
    ) -> None:
        self._places, self._facts_of = dict.fromkeys(places), facts_of

    def __getitem__(self, place: HubPlace) -> SplitFacts:
        if place not in self._places:
            raise KeyError(place)
        return self._facts_of(place)

    def __contains__(self, place: object) -> bool:
        return place in self._places

    def __iter__(self) -> Iterator[HubPlace]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)


class HubSource:
    """Reads on demand and remembers what it read.

    Args:
        mirror: a folder with ``OWNER/NAME`` in the hub's form; None for the hub itself.
        texts: a folder with ``parallel/``, ``lexicon/`` and ``neighbours/`` as the ``files``
            source has them, and with the folders of tasks that are not on the hub; None for none.
        cache: see :class:`Library`.
        revisions: see :class:`Library`.

    Raises:
        DataError: one of the two folders is not there.
    """

    name = "hub"

    def __init__(
        self,
        mirror: Path | None = None,
        *,
        texts: Path | None = None,
        cache: str | None = None,
        revisions: Mapping[str, str] | None = None,
    ) -> None:
        if mirror is not None and not mirror.is_dir():
            raise DataError(
                f"data.root {str(mirror)!r} is not a folder",
                remedy="expected a folder that contains data sets as on the hub, OWNER/NAME",
            )
        if texts is not None and not texts.is_dir():
            raise DataError(
                f"data.texts {str(texts)!r} is not a folder",
                remedy="expected a folder that contains parallel/, lexicon/ and neighbours/",
            )
        if revisions:
            _refuse_unread(revisions)
        self.root = texts
        """Where neighbours of words lie, for :mod:`xlt_ray.data.text.neighbours`."""
        self.texts = None if texts is None else FilesSource(texts)
        """Files besides: parallel text, lexicons, and tasks that are not on the hub."""
        self._library = Library(mirror, cache, revisions or {})
        self._facts: dict[tuple[str, HubPlace], SplitFacts] = {}
        self._examples: dict[tuple[str, HubPlace], tuple[Example, ...]] = {}

    def vocabulary(self) -> None:
        """Real text has no closed list of words."""

    def splits(self, task: Task) -> Mapping[HubPlace, SplitFacts]:
        """What the task says there is; of a mirror, what it holds of that.

        Of a task that is not on the hub, what ``texts`` has.
        """
        if not task.hub and self.texts is not None:
            return self.texts.splits(task)
        places = [
            (language, split)
            for part in task.hub
            for language, split in part.places()
            if self._library.has(part, language, part.splits[split])
        ]
        return Survey(places, lambda place: self._facts_of(task, place))

    def read(self, task: Task, language: str, split: Split) -> tuple[Example, ...]:
        if not task.hub and self.texts is not None:
            return self.texts.read(task, language, split)
        key = (task.name, (language, split))
        if key not in self._examples:
            examples: list[Example] = []
            self._facts[key] = self._survey(task, (language, split), examples.append)
            self._examples[key] = tuple(examples)
        return self._examples[key]

    def _facts_of(self, task: Task, place: HubPlace) -> SplitFacts:
        key = (task.name, place)
        if key not in self._facts:
            self._facts[key] = self._survey(task, place, lambda _: None)
        return self._facts[key]

    def _survey(self, task: Task, place: HubPlace, keep: Callable[[Example], None]) -> SplitFacts:
        """Read a split once: its size and digest, its examples given to ``keep``."""
        language, split = place
        parts = [part for part in task.hub if place in part.places()]
        if not parts:
            raise no_such_split(task, language, split, self)
        try:
            return self._read_parts(task, parts, place, keep)
        except DataError as error:
            if error.fields["task"]:
                raise
            faults = error.problems if isinstance(error, DataErrors) else (error,)
            placed = [
                DataError(
                    fault.fields["problem"],
                    task=task.name,
                    language=language,
                    split=split,
                    remedy=fault.fields["remedy"],
                )
                for fault in faults
            ]
            raise (DataErrors(placed) if len(placed) > 1 else placed[0]) from error

    def _read_parts(
        self,
        task: Task,
        parts: Sequence[HubPart],
        place: HubPlace,
        keep: Callable[[Example], None],
    ) -> SplitFacts:
        language, split = place
        meaning = {"name", "version", "labels", *KINDS[task.kind].settings}
        state = hashlib.sha256(
            digest_of(
                "hub", _RULES_VERSION, task.model_dump_json(include=meaning), language, split
            ).encode()
        )
        kind, names, gathered = kind_of(task), Names(), Gathered()
        repeated: list[str] = []
        rows = hashlib.sha256()
        number = count = 0
        for part in parts:
            at = Path(self._library.place(part, part.filled(part.config, language)), split)
            for row in self._rows(task, part, language, split):
                number += 1
                if _lacks_label(row):
                    continue
                own = row.get("id")
                name = ("" if own is None else str(own).strip()) or f"{split}{number - 1}"
                unique, example = names.unique(name), None
                if unique != name:
                    repeated.append(name)
                with gathered:
                    example = kind.of_row(row, unique, at, number)
                if example is not None and (split != "train" or kind.is_whole(example)):
                    count += 1
                    keep(example)
                    content = [name, row]
                    state.update(json.dumps(content, sort_keys=True, ensure_ascii=False).encode())
                    cells = [[field, cell] for field, cell in sorted(row.items()) if field != "id"]
                    rows.update(json.dumps(cells, ensure_ascii=False).encode())
        gathered.refuse()
        if not count:
            first = parts[0]
            where = self._library.place(first, first.filled(first.config, language))
            raise DataError(
                f"{where}: no row of {first.splits[split]} gives an example in this language",
                remedy="look at its labels, and at where and where_begins in the task's file",
            )
        return SplitFacts(
            count,
            state.hexdigest(),
            content=_content(parts, place),
            rows=rows.hexdigest(),
            repeated=tuple(repeated),
        )

    def _rows(
        self, task: Task, part: HubPart, language: str, split: Split
    ) -> Iterator[dict[str, Any]]:
        """The fields of every row of one language, labels by name."""
        found = self._library.rows(part, language, part.splits[split])
        place = self._library.place(part, part.filled(part.config, language))
        read = {field: _reader(found, columns, place) for field, columns in part.columns.items()}
        filters = [
            (_reader(found, column, place), part.filled(text, language), is_whole)
            for texts, is_whole in ((part.where, True), (part.where_begins, False))
            for column, text in texts.items()
        ]
        wanted = [*part.columns.values(), *part.where, *part.where_begins]
        tops = {
            column.partition(".")[0]
            for columns in wanted
            for column in ((columns,) if isinstance(columns, str) else columns)
        }
        field = "labels" if task.kind == "tag" else "label"
        for batch in found.select_columns(sorted(tops)).iter(batch_size=_ROWS_AT_ONCE):
            for row in _transposed(batch):
                if all(
                    str(get(row)) == text if is_whole else str(get(row)).startswith(text)
                    for get, text, is_whole in filters
                ):
                    cells = {name: get(row) for name, get in read.items()}
                    if field in cells:
                        cells[field] = _renamed(cells[field], part.labels)
                    yield cells

    def parallel_languages(self) -> tuple[str, ...]:
        return () if self.texts is None else self.texts.parallel_languages()

    def parallel(self, language: str) -> Mapping[str, str]:
        return self._with_texts(language).parallel(language)

    def parallel_digest(self, language: str) -> str:
        return self._with_texts(language).parallel_digest(language)

    def alignment_digest(self, first: str, second: str) -> str:
        return "" if self.texts is None else self.texts.alignment_digest(first, second)

    def alignments(self, first: str, second: str) -> Mapping[str, tuple[tuple[int, int], ...]]:
        return {} if self.texts is None else self.texts.alignments(first, second)

    def lexicon_languages(self, source_language: str) -> tuple[str, ...]:
        return () if self.texts is None else self.texts.lexicon_languages(source_language)

    def lexicon(self, source_language: str) -> Mapping[str, Mapping[str, tuple[str, ...]]]:
        return {} if self.texts is None else self.texts.lexicon(source_language)

    def lexicon_digest(self, source_language: str) -> str:
        if self.texts is None:
            return digest_of("no lexicon")
        return self.texts.lexicon_digest(source_language)

    def _with_texts(self, language: str) -> FilesSource:
        if self.texts is None:
            raise DataError(
                "the hub source has no parallel text of its own",
                language=language,
                remedy="data.texts: a folder with parallel/CORPUS/LANGUAGE.tsv",
            )
        return self.texts


def _refuse_unread(revisions: Iterable[str]) -> None:
    known = {part.id for task in load_tasks() for part in task.hub}
    for name in revisions:
        if name not in known:
            raise DataError(
                f"data.revisions names {name!r}, which no task reads", remedy=nearest(name, known)
            )


def _content(parts: Sequence[HubPart], place: HubPlace) -> str:
    """Digest of the rows that are read, by where they stand and not by what is read of them."""
    language, split = place
    names: list[str] = []
    for part in parts:
        conditions = [*part.where.items(), *part.where_begins.items()]
        names += [part.id, part.filled(part.config, language), part.splits[split]]
        names += [f"{column} {part.filled(text, language)}" for column, text in conditions]
    return digest_of("hub", *names)


def _reader(
    found: Dataset, columns: str | Sequence[str], place: str
) -> Callable[[Mapping[str, Any]], Any]:
    """What takes a field out of a row; several columns make a list.

    Raises:
        DataError: there is no such column.
    """
    if not isinstance(columns, str):
        readers = [_reader(found, column, place) for column in columns]
        return lambda row: [read(row) for read in readers]
    steps = columns.split(".")
    feature: Any = found.features
    for step in steps:
        there = dict(feature) if isinstance(feature, Mapping) else {}
        if step not in there:
            raise DataError(f"{place}: there is no column {columns!r}", remedy=nearest(step, there))
        feature = there[step]
        if not isinstance(feature, Mapping) and isinstance(
            getattr(feature, "feature", None), Mapping
        ):
            feature = feature.feature
    names = _label_names(feature)

    def read(row: Mapping[str, Any]) -> Any:
        value: Any = row
        for step in steps:
            if value is None:
                return None
            value = value[step] if isinstance(value, Mapping) else [one[step] for one in value]
        return value if names is None else _named(value, names)

    return read


def _label_names(feature: Any) -> Sequence[str] | None:
    """Names of labels where a column holds their numbers, alone or in lists."""
    names = getattr(feature, "names", None)
    if names is not None:
        return list(names)
    inner = getattr(feature, "feature", None)
    return None if inner is None else _label_names(inner)


def _named(value: Any, names: Sequence[str]) -> Any:
    if isinstance(value, list):
        return [_named(one, names) for one in value]
    if isinstance(value, int) and 0 <= value < len(names):
        return names[value]
    return value


def _renamed(value: Any, labels: Mapping[str, str]) -> Any:
    if isinstance(value, list):
        return [_renamed(one, labels) for one in value]
    return labels.get(str(value), str(value))


def _transposed(batch: Mapping[str, Sequence[Any]]) -> Iterator[dict[str, Any]]:
    names = list(batch)
    for values in zip(*batch.values(), strict=True):
        yield dict(zip(names, values, strict=True))


def _lacks_label(row: Mapping[str, Any]) -> bool:
    return "label" in row and str(row["label"]).strip() in _NO_LABEL
