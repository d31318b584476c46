"""Lines, cells and blocks of text files, with their numbers for complaints.

A byte-order mark and Windows line ends are ignored; only a line feed ends a line, because
sentences may hold the other characters that Unicode calls line ends.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

from xlt_ray.errors import DataError, DataErrors

GIT_LFS_POINTER = b"version https://git-lfs"


def whole(path: Path) -> str:
    """The text of a file; DataError if it is not UTF-8, or git-lfs's pointer to the file."""
    # Reading as text would end a line at a carriage return, too.
    content = path.read_bytes()
    if content.startswith(GIT_LFS_POINTER):
        raise line_error(path, 1, "is a pointer of git-lfs, not the data", "run git lfs pull")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        number = error.object[: error.start].count(b"\n") + 1
        raise line_error(path, number, f"is not UTF-8 ({error.reason})", "save as UTF-8") from None


def lines(path: Path) -> Iterator[tuple[int, str]]:
    """Numbered lines without their ends."""
    for number, line in enumerate(whole(path).split("\n"), start=1):
        yield number, line.rstrip("\r")


def cells(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Tab-separated cells of every line that is not empty; quotes are plain characters."""
    for number, line in lines(path):
        if line.strip():
            yield number, line.split("\t")


def blocks(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Runs of lines between empty ones, with the number of their first line."""
    block: list[str] = []
    number = 0
    for number, line in lines(path):
        if line.strip():
            block.append(line)
        elif block:
            yield number - len(block), block
            block = []
    if block:
        yield number - len(block) + 1, block


def json_object(line: str, path: Path, number: int) -> dict[str, Any]:
    """The object that a line holds; DataError without one, or with half of a character, which
    tokenizers reject."""
    try:
        content = json.loads(line)
        if "\\u" in line:
            json.dumps(content, ensure_ascii=False).encode()
    except json.JSONDecodeError as error:
        raise line_error(path, number, f"is not JSON ({error.msg})") from None
    except RecursionError:
        raise line_error(path, number, "is nested too deeply") from None
    except UnicodeEncodeError as error:
        half = ascii(error.object[error.start])[1:-1]
        raise line_error(path, number, f"{half} is half of a surrogate pair") from None
    if not isinstance(content, dict):
        raise line_error(path, number, "is not a JSON object")
    return content


def line_error(path: Path, number: int, problem: str, remedy: str = "") -> DataError:
    """The error about one line."""
    return DataError(f"{path}:{number}: {problem}", remedy=remedy, file=str(path), line=number)


Faults = AbstractContextManager[Any]
"""What a reader does with the error of a line: it reads every line within ``with faults:``."""

RAISED: Faults = nullcontext()
"""The first error ends the reading of its file."""


class Gathered(AbstractContextManager["Gathered"]):
    """Collects errors, so that reading goes on with the next line.

    >>> with (gathered := Gathered()):
    ...     raise line_error(Path("de.test.tsv"), 3, "has 2 columns, the header 4")
    >>> [str(fault) for fault in gathered.faults]
    ['de.test.tsv:3: has 2 columns, the header 4']
    """

    def __init__(self) -> None:
        self.faults: list[DataError] = []

    def __exit__(self, _: object, error: BaseException | None, __: object) -> bool:
        if isinstance(error, DataError):
            self.faults.append(error)
        return isinstance(error, DataError)

    def refuse(self, *, shown: int = 5) -> None:
        """Raise DataErrors with the first faults of every file and their number, if any."""
        errors: list[DataError] = []
        for file in dict.fromkeys(fault.fields["file"] for fault in self.faults):
            faults = [fault for fault in self.faults if fault.fields["file"] == file]
            errors += sorted(faults, key=lambda fault: fault.fields["line"] or 0)[:shown]
            if len(faults) > shown:
                problem = (
                    f"{file}: has {len(faults):,} faults, of which the first {shown} are shown"
                )
                errors.append(DataError(problem, remedy="fix them all", file=file))
        if errors:
            raise DataErrors(errors)


class Names:
    """Makes ids unique: the second ``a`` becomes ``a#2``, or the next number that is free.

    >>> names = Names()
    >>> [names.unique(name) for name in ("a", "a", "a#2", "a")]
    ['a', 'a#2', 'a#2#2', 'a#3']
    """

    def __init__(self) -> None:
        self._times: dict[str, int] = {}
        self._given: set[str] = set()

    def unique(self, name: str) -> str:
        unique, times = name, self._times.get(name, 1)
        while unique in self._given:
            times += 1
            unique = f"{name}#{times}"
        self._times[name] = times
        self._given.add(unique)
        return unique
