"""A folder of text files as a data source.

::

    ROOT/TASK-FOLDER/{language}.{split}.{format}    labelled examples
    ROOT/parallel/CORPUS/{language}.tsv             id TAB sentence      (optional)
    ROOT/alignments/CORPUS/{first}-{second}.tsv     id TAB 0-0 1-2 ...   (optional)
    ROOT/lexicon/{source}-{target}.tsv              word TAB translation (optional)
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property, partial
from pathlib import Path

from xlt_ray.config.facts import Split, SplitFacts
from xlt_ray.config.task_types import KINDS
from xlt_ray.data.cache import Verdicts, cached
from xlt_ray.data.example_table import TABLE_VERSION, ExampleTable, write_examples
from xlt_ray.data.sampling import digest_of
from xlt_ray.data.sources.base import Source
from xlt_ray.data.task import Task, load_tasks
from xlt_ray.data.text.lines import Gathered, cells, line_error
from xlt_ray.data.types.base import Example, kind_of
from xlt_ray.errors import CHANGED, DataError, nearest

_SPLITS: tuple[Split, ...] = ("train", "dev", "test")
_LINK = re.compile(r"\d+-\d+")
_RULES_VERSION = 2
"""Raised when the same bytes are read as other examples; it is part of every digest."""


class TextFolder(Source):
    """Parallel text, alignments and lexicons of a folder; nothing where it is None."""

    def __init__(self, root: Path | None) -> None:
        self.root = root
        self._parallel: dict[str, dict[str, str]] = {}
        self._lexicons: dict[str, dict[str, dict[str, tuple[str, ...]]]] = {}

    def _glob(self, pattern: str) -> list[Path]:
        return [] if self.root is None else sorted(self.root.glob(pattern))

    def parallel_languages(self) -> tuple[str, ...]:
        return tuple(sorted({path.stem for path in self._glob("parallel/*/*.tsv")}))

    def parallel(self, language: str) -> Mapping[str, str]:
        """Ids are ``CORPUS/ID``, of a repeated one the first counts; a sentence of several corpora
        is there several times."""
        if language not in self._parallel:
            sentences: dict[str, str] = {}

            def keep(path: Path, number: int, row: list[str]) -> None:
                if len(row) != 2:
                    raise line_error(path, number, "is not `id TAB sentence`")
                if row[1].strip():
                    sentences.setdefault(f"{path.parent.name}/{row[0]}", row[1])

            _each_row(self._parallel_files(language), keep)
            if not sentences:
                raise DataError("its parallel text holds no sentence", language=language)
            self._parallel[language] = sentences
        return self._parallel[language]

    def parallel_digest(self, language: str) -> str:
        return _digest_of_files(self._parallel_files(language))

    def alignment_digest(self, first: str, second: str) -> str:
        files = [path for path, _ in self._alignment_files(first, second)]
        return _digest_of_files(files) if files else ""

    def alignments(self, first: str, second: str) -> Mapping[str, tuple[tuple[int, int], ...]]:
        """Links of words as aligners write them; a file of the two languages the other way round
        is turned."""
        aligned: dict[str, tuple[tuple[int, int], ...]] = {}
        gathered = Gathered()
        for path, is_turned in self._alignment_files(first, second):
            order = (second, first) if is_turned else (first, second)
            sides = [self.parallel(language) for language in order]
            num_joined = 0
            for number, row in cells(path):
                name = f"{path.parent.name}/{row[0]}"
                with gathered:
                    if len(row) != 2 or not all(map(_LINK.fullmatch, row[1].split())):
                        raise line_error(path, number, "is not `id TAB 0-0 1-2 ...`")
                    pairs = (link.split("-") for link in row[1].split())
                    links = [(int(place), int(partner)) for place, partner in pairs]
                    if not all(name in side for side in sides):
                        continue
                    num_joined += 1
                    words = [len(side[name].split()) for side in sides]
                    if not all(a < words[0] and b < words[1] for a, b in links):
                        raise line_error(path, number, f"the sentences have {words} words")
                    turned = ((b, a) if is_turned else (a, b) for a, b in links)
                    aligned.setdefault(name, tuple(turned))
            if not num_joined and not gathered.faults:
                with gathered:
                    raise DataError(
                        f"{path}: none of its ids is one of a sentence that {first} and {second} "
                        "share",
                        remedy=f"ids as in parallel/{path.parent.name}/{first}.tsv",
                        file=str(path),
                    )
        gathered.refuse()
        return aligned

    def lexicon_languages(self, source_language: str) -> tuple[str, ...]:
        return tuple(self._lexicon_files(source_language))

    def lexicon(self, source_language: str) -> Mapping[str, Mapping[str, tuple[str, ...]]]:
        if source_language not in self._lexicons:
            lexicon: dict[str, dict[str, tuple[str, ...]]] = {}

            def keep(path: Path, number: int, row: list[str]) -> None:
                if len(row) != 2 or not all(cell.strip() for cell in row):
                    raise line_error(path, number, "is not `word TAB translation`")
                word, translation = (cell.strip() for cell in row)
                target = path.stem.removeprefix(f"{source_language}-")
                known = lexicon.setdefault(word, {})
                if translation not in known.get(target, ()):
                    known[target] = (*known.get(target, ()), translation)

            _each_row(list(self._lexicon_files(source_language).values()), keep)
            self._lexicons[source_language] = lexicon
        return self._lexicons[source_language]

    def lexicon_digest(self, source_language: str) -> str:
        return _digest_of_files(list(self._lexicon_files(source_language).values()))

    def _parallel_files(self, language: str) -> list[Path]:
        files = self._glob(f"parallel/*/{language}.tsv")
        if not files:
            raise DataError(
                "there is no parallel text in this language",
                language=language,
                remedy=nearest(language, self.parallel_languages()),
            )
        return files

    @cached_property
    def _aligned(self) -> dict[str, list[Path]]:
        """Files of alignments, by ``FIRST-SECOND``."""
        by_pair: dict[str, list[Path]] = {}
        for path in self._glob("alignments/*/*.tsv"):
            by_pair.setdefault(path.stem, []).append(path)
        return by_pair

    def _alignment_files(self, first: str, second: str) -> list[tuple[Path, bool]]:
        """Every file of two languages, and whether it has them the other way round."""
        names = ((f"{first}-{second}", False), (f"{second}-{first}", True))
        return [(path, turned) for name, turned in names for path in self._aligned.get(name, ())]

    def _lexicon_files(self, source_language: str) -> dict[str, Path]:
        files = self._glob(f"lexicon/{source_language}-*.tsv")
        return {path.stem.removeprefix(f"{source_language}-"): path for path in files}


class FilesSource(TextFolder):
    """Reads on demand and remembers what it read; a file that changes meanwhile is refused.

    With ``tables``, a cache, the same bytes are parsed once, whichever process reads them.

    The kind of the task reads its format (:mod:`xlt_ray.data.types`); a task without training data
    may take train and dev sets from the folder of another. Each rough edge of real files has one
    rule: CoNLL-U ranges (``3-4``) and empty nodes (``3.1``) are skipped; rows to train on whose
    sentence is empty or ``NS`` (the mark of PAWS-X for "not translated") are left out; a repeated
    id gets ``#2``, ``#3``; a byte-order mark and Windows line ends are ignored. A label that the
    task does not know, or a line of the wrong width, is an error with its file and line, and so is
    a file that holds no example: its language would be scored with 0.
    """

    name = "files"
    root: Path

    def __init__(self, root: Path, tables: Path | None = None) -> None:
        if not root.is_dir():
            raise DataError(
                f"{str(root)!r} is not a folder",
                remedy=f"{_folders_beside(root)}it holds one folder a task, with files "
                "{language}.{split}.{format}",
            )
        super().__init__(root)
        self._tables = tables
        self._examples: dict[tuple[str, Path], Sequence[Example]] = {}
        self._facts: dict[tuple[str, Path], SplitFacts] = {}

    def splits(self, task: Task) -> Mapping[tuple[str, Split], SplitFacts]:
        """Digests are over the files' bytes, the task and the rules of reading."""
        return {
            place: self._facts_of(task, path, place[1])
            for place, path in dict(self._files(task)).items()
        }

    def place(self, task: Task) -> str:
        """Where the files of a task lie."""
        return str(self.root / (task.folder or task.train_folder) / f"LANGUAGE.SPLIT.{task.format}")

    def read(self, task: Task, language: str, split: Split) -> Sequence[Example]:
        path = self._file(task, language, split)
        key = (task.name, path)
        if key not in self._examples:
            if self._tables is None:
                self._examples[key] = tuple(kind_of(task).read(path, split))
            else:
                self._examples[key] = self._table(self._tables, task, language, split)
            facts = self._facts.get(key)
            if facts is not None:
                _refuse_changed(path, facts)
        return self._examples[key]

    def _table(self, tables: Path, task: Task, language: str, split: Split) -> ExampleTable:
        path, kind = self._file(task, language, split), kind_of(task)
        facts = self._facts_of(task, path, split)

        def make(aside: Path) -> None:
            write_examples(kind.read(path, split), aside, kind.example)
            _refuse_changed(path, facts)

        name = digest_of("examples", TABLE_VERSION, facts.digest, language, split)
        return ExampleTable(cached(tables / "examples" / name, make), kind.example)

    def rows(self, task: Task, language: str, split: Split) -> Iterator[Example]:
        """As :meth:`read`, one by one; nothing is kept."""
        return kind_of(task).read(self._file(task, language, split), split)

    def examine(self, task: Task, language: str, split: Split) -> tuple[str, ...]:
        """Read every line of a split and keep nothing; ids that are there several times.

        Raises:
            DataErrors: its first faults, and how many there are.
        """
        return _examined(self._file(task, language, split), task, split)

    def unread(self, task: Task) -> list[Path]:
        """Files in the folders of a task that look like data and that no task reads."""
        folders = dict.fromkeys(filter(None, (task.folder, task.train_folder)))
        read = {
            path
            for other in load_tasks()
            if folders.keys() & {other.folder, other.train_folder}
            for _, path in self._files(other)
        }
        return [
            path
            for folder in folders
            for path in self._glob(f"{folder}/*")
            if path.is_file() and path not in read and _is_like_data(path.name)
        ]

    def _file(self, task: Task, language: str, split: Split) -> Path:
        path = dict(self._files(task)).get((language, split))
        if path is None:
            raise self.no_such_split(task, language, split)
        return path

    def _files(self, task: Task) -> Iterator[tuple[tuple[str, Split], Path]]:
        """Every (language, split) of a task and its file; of a repeated one the last counts."""
        for folder, splits in ((task.train_folder, _SPLITS[:2]), (task.folder, _SPLITS)):
            for path in self._glob(f"{folder}/*.{task.format}") if folder else ():
                language, _, name = path.stem.partition(".")
                for split in splits:
                    if name == split and language:
                        yield (language, split), path

    def _facts_of(self, task: Task, path: Path, split: Split) -> SplitFacts:
        key = (task.name, path)
        if key not in self._facts:
            data = path.read_bytes()
            meaning = {"name", "version", "labels", "columns", *KINDS[task.kind].settings}
            settings = task.model_dump_json(include=meaning)
            digest = digest_of("files", _RULES_VERSION, settings, data)
            count = partial(_count, path, task, split)
            if self._tables is not None:
                count = partial(Verdicts(self._tables).of, count, "count", digest, split)
            self._facts[key] = SplitFacts(count(), digest, content=_content(data))
        return self._facts[key]


def _count(path: Path, task: Task, split: Split) -> int:
    """Number of examples of a file that holds one at least."""
    try:
        num_examples = kind_of(task).count(path, split) if path.read_bytes().strip() else 0
    except DataError:
        # The count stops at the first fault; all of them are reported.
        _examined(path, task, split)
        raise
    if not num_examples:
        raise DataError(
            f"{path}: holds no example", task=task.name, remedy="add examples, or delete the file"
        )
    return num_examples


def _refuse_changed(path: Path, facts: SplitFacts) -> None:
    if _content(path.read_bytes()) != facts.content:
        raise DataError(
            f"{path}: {CHANGED}: it is another one",
            file=str(path),
            remedy="put it back as it was",
        )


def _content(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _each_row(paths: list[Path], keep: Callable[[Path, int, list[str]], None]) -> None:
    """Give the cells of every line to ``keep``; its faults are raised together at the end."""
    gathered = Gathered()
    for path in paths:
        for number, row in cells(path):
            with gathered:
                keep(path, number, row)
    gathered.refuse()


def _folders_beside(root: Path) -> str:
    """A folder beside the one that is not there, and called much the same."""
    folders = root.parent.iterdir() if root.parent.is_dir() else ()
    advice = nearest(root.name, [path.name for path in folders if path.is_dir()])
    return f"{advice} " if advice.startswith("did you mean") else ""


def _examined(path: Path, task: Task, split: Split) -> tuple[str, ...]:
    gathered, known, repeated = Gathered(), set[str](), list[str]()
    with gathered:
        for example in kind_of(task).read(path, split, gathered):
            name, mark, number = example.id.rpartition("#")
            if mark and number.isdigit() and name in known:
                repeated.append(name)
            known.add(example.id)
    gathered.refuse()
    return tuple(repeated)


_DATA_ENDINGS = {"csv", "txt", "gz", "zip", "parquet"}.union(*(k.formats for k in KINDS.values()))
_NOTES = ("readme", "licen", "copying", "notice", "citation", "authors", "changes", "sources")


def _is_like_data(name: str) -> bool:
    """By the ending of a file; notes beside the data are none."""
    return name.rpartition(".")[2].lower() in _DATA_ENDINGS and not name.lower().startswith(_NOTES)


def _digest_of_files(paths: list[Path]) -> str:
    parts: list[str | int] = ["files", _RULES_VERSION]
    for path in paths:
        parts += [path.parent.name, path.name, _content(path.read_bytes())]
    return digest_of(*parts)
