"""A folder of text files as a data source.

::

    ROOT/TASK-FOLDER/{language}.{split}.{conllu|conll|tsv}    labelled examples
    ROOT/parallel/CORPUS/{language}.tsv                       id TAB sentence      (optional)
    ROOT/lexicon/{source}-{target}.tsv                        word TAB translation (optional)

Real files have rough edges, and each has one rule: CoNLL-U ranges (``3-4``) and empty
nodes (``3.1``) are skipped, their syntactic words count; rows whose sentence is empty or
``NS`` (the mark of PAWS-X for "not translated") are left out; a repeated id gets ``#2``,
``#3``, so that nothing is lost and ids stay unique; a byte-order mark and Windows line
ends are ignored. A label that the task does not know, or a line of the wrong width,
is an error with its file and line.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from xlt_ray.data.examples import Example, PairExample, TagExample
from xlt_ray.data.source import no_such_split
from xlt_ray.data.streams import digest_of
from xlt_ray.data.task import Task
from xlt_ray.errors import DataError, nearest
from xlt_ray.spec.facts import Split, SplitFacts

_SPLITS: tuple[Split, ...] = ("train", "dev", "test")
_NOT_TRANSLATED = "NS"
_RULES_VERSION = 1
"""Raised when the same bytes are read as other examples; it is part of every digest."""


class FilesSource:
    """Reads on demand and remembers what it read; files must not change while it is open."""

    name = "files"

    def __init__(self, root: Path) -> None:
        if not root.is_dir():
            raise DataError(
                f"data.root {str(root)!r} is not a folder",
                remedy="it holds one folder a task, with files {language}.{split}.{format}",
            )
        self.root = root
        self._examples: dict[Path, tuple[Example, ...]] = {}
        self._facts: dict[Path, SplitFacts] = {}
        self._parallel: dict[str, dict[str, str]] = {}
        self._lexicons: dict[str, dict[str, dict[str, tuple[str, ...]]]] = {}

    def vocabulary(self) -> None:
        """Real text has no closed list of words."""

    def splits(self, task: Task) -> Mapping[tuple[str, Split], SplitFacts]:
        """Digests are over the files' bytes, the task and the rules of reading."""
        if not task.folder:
            return {}
        found: dict[tuple[str, Split], SplitFacts] = {}
        for path in sorted((self.root / task.folder).glob(f"*.{task.format}")):
            language, _, name = path.stem.partition(".")
            for split in _SPLITS:
                if name == split:
                    found[language, split] = self._facts_of(task, path)
        return found

    def read(self, task: Task, language: str, split: Split) -> tuple[Example, ...]:
        path = self.root / task.folder / f"{language}.{split}.{task.format}"
        if not task.folder or not path.is_file():
            raise no_such_split(task, language, split, self)
        if path not in self._examples:
            self._examples[path] = tuple(_READERS[task.format](path, task, split))
        return self._examples[path]

    def parallel_languages(self) -> tuple[str, ...]:
        return tuple(sorted({path.stem for path in self.root.glob("parallel/*/*.tsv")}))

    def parallel(self, language: str) -> Mapping[str, str]:
        """Ids are ``CORPUS/ID``; a sentence of several corpora is there several times."""
        if language not in self._parallel:
            found: dict[str, str] = {}
            for path in self._parallel_files(language):
                for number, cells in _cells(path):
                    if len(cells) != 2:
                        raise _line_error(path, number, "is not `id TAB sentence`")
                    if cells[1].strip():
                        found.setdefault(f"{path.parent.name}/{cells[0]}", cells[1])
            self._parallel[language] = found
        return self._parallel[language]

    def parallel_digest(self, language: str) -> str:
        return _digest_of_files(self._parallel_files(language))

    def lexicon_languages(self, source_language: str) -> tuple[str, ...]:
        return tuple(self._lexicon_files(source_language))

    def lexicon(self, source_language: str) -> Mapping[str, Mapping[str, tuple[str, ...]]]:
        if source_language not in self._lexicons:
            found: dict[str, dict[str, tuple[str, ...]]] = {}
            for target, path in self._lexicon_files(source_language).items():
                for number, cells in _cells(path):
                    if len(cells) != 2 or not all(cell.strip() for cell in cells):
                        raise _line_error(path, number, "is not `word TAB translation`")
                    word, translation = (cell.strip() for cell in cells)
                    known = found.setdefault(word, {})
                    if translation not in known.get(target, ()):
                        known[target] = (*known.get(target, ()), translation)
            self._lexicons[source_language] = found
        return self._lexicons[source_language]

    def lexicon_digest(self, source_language: str) -> str:
        return _digest_of_files(list(self._lexicon_files(source_language).values()))

    def _parallel_files(self, language: str) -> list[Path]:
        files = sorted(self.root.glob(f"parallel/*/{language}.tsv"))
        if not files:
            raise DataError(
                "there is no parallel text in this language",
                language=language,
                remedy=nearest(language, self.parallel_languages()),
            )
        return files

    def _lexicon_files(self, source_language: str) -> dict[str, Path]:
        files = sorted(self.root.glob(f"lexicon/{source_language}-*.tsv"))
        return {path.stem.partition("-")[2]: path for path in files}

    def _facts_of(self, task: Task, path: Path) -> SplitFacts:
        if path not in self._facts:
            data = path.read_bytes()
            settings = task.model_dump_json(include={"name", "version", "labels", "columns"})
            self._facts[path] = SplitFacts(
                _count(path, data, task), digest_of("files", _RULES_VERSION, settings, data)
            )
        return self._facts[path]


def _count(path: Path, data: bytes, task: Task) -> int:
    """Number of examples, without making them: labels are checked when they are read."""
    if task.format == "tsv":
        return sum(1 for _ in _pairs(path, task))
    # Blocks between empty lines that hold more than comments.
    count, is_inside = 0, False
    for line in data.splitlines():
        is_word = bool(line.strip()) and not (task.format == "conllu" and line.startswith(b"#"))
        count += is_word and not is_inside
        is_inside = is_word or (is_inside and bool(line.strip()))
    return count


def _read_conllu(path: Path, task: Task, split: Split) -> Iterator[TagExample]:
    names = _Names()
    for number, (begin, lines) in enumerate(_blocks(path)):
        name, words, tags = f"{split}{number}", [], []
        for offset, line in enumerate(lines):
            if line.startswith("#"):
                key, _, value = line[1:].partition("=")
                if key.strip() == "sent_id" and value.strip():
                    name = value.strip()
                continue
            cells = line.split("\t")
            if len(cells) != 10:
                raise _line_error(path, begin + offset, f"has {len(cells)} columns, not 10")
            if "-" in cells[0] or "." in cells[0]:
                continue
            words.append(_word(cells[1]))
            tags.append(_known(task, cells[3], path, begin + offset))
        if words:
            yield TagExample(names.unique(name), tuple(words), tuple(tags))


def _read_conll(path: Path, task: Task, split: Split) -> Iterator[TagExample]:
    for number, (begin, lines) in enumerate(_blocks(path)):
        words, tags = [], []
        for offset, line in enumerate(lines):
            cells = line.split("\t")
            if len(cells) != 2:
                raise _line_error(path, begin + offset, "is not `word TAB tag`")
            words.append(_word(cells[0]))
            tags.append(_known(task, cells[1].strip(), path, begin + offset))
        yield TagExample(f"{split}{number}", tuple(words), tuple(tags))


def _read_tsv(path: Path, task: Task, _: Split) -> Iterator[PairExample]:
    names = _Names()
    for number, (name, first, second, label) in _pairs(path, task):
        yield PairExample(names.unique(name), first, second, _known(task, label, path, number))


def _pairs(path: Path, task: Task) -> Iterator[tuple[int, tuple[str, str, str, str]]]:
    """Line number, and id, sentences and label of every row that has both sentences."""
    rows = _cells(path)
    _, header = next(rows, (1, []))
    wanted = (task.columns.id, task.columns.first, task.columns.second, task.columns.label)
    missing = [column for column in wanted if column not in header]
    if missing:
        raise _line_error(path, 1, f"the header lacks {', '.join(missing)}")
    places = [header.index(column) for column in wanted]
    for number, cells in rows:
        if len(cells) != len(header):
            raise _line_error(path, number, f"has {len(cells)} columns, the header {len(header)}")
        name, first, second, label = (cells[place].strip() for place in places)
        if all(one and one != _NOT_TRANSLATED for one in (first, second)):
            yield number, (name, first, second, label)


_READERS: dict[str, Callable[[Path, Task, Split], Iterator[Example]]] = {
    "conllu": _read_conllu,
    "conll": _read_conll,
    "tsv": _read_tsv,
}


class _Names:
    """Makes ids unique: the second ``a`` becomes ``a#2``."""

    def __init__(self) -> None:
        self._seen: dict[str, int] = {}

    def unique(self, name: str) -> str:
        self._seen[name] = self._seen.get(name, 0) + 1
        return name if self._seen[name] == 1 else f"{name}#{self._seen[name]}"


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """Numbered lines without their ends; only a line feed ends one, sentences may hold others."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: is not UTF-8 ({error})") from None
    for number, line in enumerate(text.split("\n"), start=1):
        yield number, line.rstrip("\r")


def _cells(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Tab-separated cells of every line that is not empty; quotes are plain characters."""
    for number, line in _lines(path):
        if line.strip():
            yield number, line.split("\t")


def _blocks(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Runs of lines between empty ones, with the number of their first line."""
    block: list[str] = []
    number = 0
    for number, line in _lines(path):
        if line.strip():
            block.append(line)
        elif block:
            yield number - len(block), block
            block = []
    if block:
        yield number - len(block) + 1, block


def _word(text: str) -> str:
    """Words with spaces inside (Vietnamese) stay one word."""
    return text.strip() or "_"


def _known(task: Task, label: str, path: Path, number: int) -> str:
    if label not in task.labels:
        raise _line_error(path, number, f"unknown label {label!r}", nearest(label, task.labels))
    return label


def _line_error(path: Path, number: int, problem: str, remedy: str = "") -> DataError:
    return DataError(f"{path}:{number}: {problem}", remedy=remedy)


def _digest_of_files(paths: list[Path]) -> str:
    parts: list[str | int] = ["files", _RULES_VERSION]
    for path in paths:
        parts += [path.parent.name, path.name, hashlib.sha256(path.read_bytes()).hexdigest()]
    return digest_of(*parts)
