"""Data sets of the Hugging Face Hub as a data source.

A task's ``hub`` list says where it is (:class:`xlt_ray.data.task.HubPart`), the ``datasets``
library opens it (:mod:`xlt_ray.data.sources.hub_library`), the kind of the task makes an example of
every row. Digests are over what the rows say, not over files: the hub, a mirror and another format
of the same rows give the same digest, and so the same stages.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xlt_ray.config.facts import Split, SplitFacts
from xlt_ray.config.task_types import KINDS
from xlt_ray.data.cache import cached
from xlt_ray.data.example_table import TABLE_VERSION, ExampleTable, write_examples
from xlt_ray.data.sampling import digest_of
from xlt_ray.data.sources.base import Survey
from xlt_ray.data.sources.hub_library import Library
from xlt_ray.data.sources.local_files import FilesSource, TextFolder
from xlt_ray.data.task import HubPart, HubPlace, Task, load_tasks
from xlt_ray.data.text.lines import Gathered, Names
from xlt_ray.data.types.base import Example, kind_of
from xlt_ray.errors import DataError, DataErrors, nearest

if TYPE_CHECKING:
    from datasets import Dataset

_RULES_VERSION = 2
"""Raised when the same rows are read as other examples; it is part of every digest."""
_NO_LABEL = frozenset({"", "-", "-1", "None"})
_ROWS_AT_ONCE = 1000
_FACTS = "facts.json"


class HubSource(TextFolder):
    """Reads on demand and remembers what it read.

    One rule for each rough edge: a row without a label (-1, ``-``, empty) is left out, as is one to
    train on whose sentence is empty or ``NS`` (PAWS-X: not translated); labels are read by name
    where the data set names them; a repeated id gets ``#2``; rows without an id are numbered,
    counting those that are left out, so that numbers join data sets that are translated by row.

    Args:
        mirror: a folder with ``OWNER/NAME`` in the hub's form; None for the hub itself.
        texts: a folder with ``parallel/``, ``lexicon/`` and ``neighbours/`` as the ``files``
            source has them, and with the folders of tasks that are not on the hub; None for none.
        cache: see :class:`Library`.
        revisions: see :class:`Library`.
        tables: the cache in which examples are kept, so that rows are read once a home; None for
            none.

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
        tables: Path | None = None,
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
        super().__init__(texts)
        self.texts = None if texts is None else FilesSource(texts, tables)
        """The same folder, for tasks that are not on the hub."""
        self._library, self._tables = Library(mirror, cache, revisions or {}), tables
        self._facts: dict[tuple[str, HubPlace], SplitFacts] = {}
        self._examples: dict[tuple[str, HubPlace], Sequence[Example]] = {}

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

    def read(self, task: Task, language: str, split: Split) -> Sequence[Example]:
        if not task.hub and self.texts is not None:
            return self.texts.read(task, language, split)
        key = (task.name, (language, split))
        if key not in self._examples and self._tables is not None:
            self._facts[key], self._examples[key] = self._table(self._tables, task, language, split)
        if key not in self._examples:
            examples: list[Example] = []
            self._facts[key] = self._survey(task, language, split, examples.append)
            self._examples[key] = tuple(examples)
        return self._examples[key]

    def _facts_of(self, task: Task, place: HubPlace) -> SplitFacts:
        key = (task.name, place)
        if key not in self._facts and self._tables is not None:
            self.read(task, *place)
        if key not in self._facts:
            self._facts[key] = self._survey(task, *place, lambda _: None)
        return self._facts[key]

    def _table(
        self, tables: Path, task: Task, language: str, split: Split
    ) -> tuple[SplitFacts, ExampleTable]:
        """A split from the cache, where it is found by its data sets as the library names them."""
        parts, kind = self._parts(task, language, split), kind_of(task)

        def make(aside: Path) -> None:
            examples: list[Example] = []
            facts = self._survey(task, language, split, examples.append)
            write_examples(examples, aside, kind.example)
            (aside / _FACTS).write_text(json.dumps(asdict(facts)), encoding="utf-8")

        with _named_after(task, language, split):
            versions = [self._library.version(part, language) for part in parts]
        texts = [_meaning(task), *(part.model_dump_json() for part in parts), *versions]
        name = digest_of("hub examples", TABLE_VERSION, _RULES_VERSION, language, split, *texts)
        folder = cached(tables / "examples" / name, make)
        facts = json.loads((folder / _FACTS).read_bytes())
        repeated = tuple(facts.pop("repeated"))
        return SplitFacts(**facts, repeated=repeated), ExampleTable(folder, kind.example)

    def _parts(self, task: Task, language: str, split: Split) -> list[HubPart]:
        """What a split is read from; DataError if it is from nothing."""
        parts = [part for part in task.hub if (language, split) in part.places()]
        if not parts:
            raise self.no_such_split(task, language, split)
        return parts

    def _survey(
        self, task: Task, language: str, split: Split, keep: Callable[[Example], None]
    ) -> SplitFacts:
        """Read a split once: its size and digest, its examples given to ``keep``."""
        parts = self._parts(task, language, split)
        with _named_after(task, language, split):
            return self._read_parts(task, parts, language, split, keep)

    def _read_parts(
        self,
        task: Task,
        parts: Sequence[HubPart],
        language: str,
        split: Split,
        keep: Callable[[Example], None],
    ) -> SplitFacts:
        digest = digest_of("hub", _RULES_VERSION, _meaning(task), language, split)
        state, rows = hashlib.sha256(digest.encode()), hashlib.sha256()
        kind, names, gathered = kind_of(task), Names(), Gathered()
        repeated: list[str] = []
        number = count = 0
        for part in parts:
            place = Path(self._library.place(part, language), split)
            for row in self._rows(task, part, language, split):
                number += 1
                if "label" in row and str(row["label"]).strip() in _NO_LABEL:
                    continue
                given = row.get("id")
                name = ("" if given is None else str(given).strip()) or f"{split}{number - 1}"
                unique, example = names.unique(name), None
                if unique != name:
                    repeated.append(name)
                with gathered:
                    example = kind.of_row(row, unique, place, number)
                if example is not None and (split != "train" or kind.is_whole(example)):
                    count += 1
                    keep(example)
                    content = [name, row]
                    state.update(json.dumps(content, sort_keys=True, ensure_ascii=False).encode())
                    cells = [[field, cell] for field, cell in sorted(row.items()) if field != "id"]
                    rows.update(json.dumps(cells, ensure_ascii=False).encode())
        gathered.refuse()
        if not count:
            where = self._library.place(parts[0], language)
            raise DataError(
                f"{where}: no row of {parts[0].splits[split]} gives an example in this language",
                remedy="look at its labels, and at where and where_begins in the task's file",
            )
        return SplitFacts(
            count,
            state.hexdigest(),
            content=_content(parts, language, split),
            rows=rows.hexdigest(),
            repeated=tuple(repeated),
        )

    def _rows(
        self, task: Task, part: HubPart, language: str, split: Split
    ) -> Iterator[dict[str, Any]]:
        """The fields of every row of one language, labels by name."""
        data_set = self._library.rows(part, language, part.splits[split])
        place = self._library.place(part, language)
        read = {field: _reader(data_set, columns, place) for field, columns in part.columns.items()}
        filters = [
            (_reader(data_set, column, place), part.filled(text, language), is_whole)
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
        for batch in data_set.select_columns(sorted(tops)).iter(batch_size=_ROWS_AT_ONCE):
            for values in zip(*batch.values(), strict=True):
                row = dict(zip(batch, values, strict=True))
                if all(
                    str(get(row)) == text if is_whole else str(get(row)).startswith(text)
                    for get, text, is_whole in filters
                ):
                    cells = {name: get(row) for name, get in read.items()}
                    if field in cells:
                        cells[field] = _renamed(cells[field], part.labels)
                    yield cells

    def _parallel_files(self, language: str) -> list[Path]:
        if self.root is None:
            raise DataError(
                "the hub source has no parallel text of its own",
                language=language,
                remedy="data.texts: a folder with parallel/CORPUS/LANGUAGE.tsv",
            )
        return super()._parallel_files(language)


@contextmanager
def _named_after(task: Task, language: str, split: Split) -> Iterator[None]:
    """Faults say which split they are in, where they do not yet."""
    try:
        yield
    except DataError as error:
        if error.fields["task"]:
            raise
        faults = error.problems if isinstance(error, DataErrors) else (error,)
        named = [
            DataError(
                fault.fields["problem"],
                task=task.name,
                language=language,
                split=split,
                remedy=fault.fields["remedy"],
            )
            for fault in faults
        ]
        raise (DataErrors(named) if len(named) > 1 else named[0]) from error


def _refuse_unread(revisions: Mapping[str, str]) -> None:
    known = {part.id for task in load_tasks() for part in task.hub}
    for name in revisions:
        if name not in known:
            raise DataError(
                f"data.revisions names {name!r}, which no task reads", remedy=nearest(name, known)
            )


def _meaning(task: Task) -> str:
    """What a task says of how rows are read."""
    return task.model_dump_json(include={"name", "version", "labels", *KINDS[task.kind].settings})


def _content(parts: Sequence[HubPart], language: str, split: Split) -> str:
    """Digest of the rows that are read, by where they stand and not by what is read of them."""
    names: list[str] = []
    for part in parts:
        conditions = [*part.where.items(), *part.where_begins.items()]
        names += [part.id, part.filled(part.config, language), part.splits[split]]
        names += [f"{column} {part.filled(text, language)}" for column, text in conditions]
    return digest_of("hub", *names)


def _reader(
    data_set: Dataset, columns: str | Sequence[str], place: str
) -> Callable[[Mapping[str, Any]], Any]:
    """What takes a field out of a row; several columns make a list.

    Raises:
        DataError: there is no such column.
    """
    if not isinstance(columns, str):
        readers = [_reader(data_set, column, place) for column in columns]
        return lambda row: [read(row) for read in readers]
    steps = columns.split(".")
    feature: Any = data_set.features
    for step in steps:
        fields = dict(feature) if isinstance(feature, Mapping) else {}
        if step not in fields:
            raise DataError(
                f"{place}: there is no column {columns!r}", remedy=nearest(step, fields)
            )
        feature = fields[step]
        inner = getattr(feature, "feature", None)
        if not isinstance(feature, Mapping) and isinstance(inner, Mapping):
            feature = inner
    names = _label_names(feature)

    def read(row: Mapping[str, Any]) -> Any:
        value: Any = row
        for step in steps:
            if value is None:
                return None
            is_block = isinstance(value, Mapping)
            value = value[step] if is_block else [block[step] for block in value]
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
        return [_named(number, names) for number in value]
    if isinstance(value, int) and 0 <= value < len(names):
        return names[value]
    return value


def _renamed(value: Any, labels: Mapping[str, str]) -> Any:
    if isinstance(value, list):
        return [_renamed(label, labels) for label in value]
    return labels.get(str(value), str(value))
