"""SQuAD's JSON, v1.1 or v2."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, Generic, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from xlt_ray.data.text.lines import RAISED, Faults, line_error, whole
from xlt_ray.errors import DataError


class StandingAnswer(BaseModel):
    """``answer_start`` counts characters of the passage."""

    text: str
    answer_start: int


class UnansweredQuestion(BaseModel):
    """A question, its answers unread."""

    id: str | int
    question: str


class Question(UnansweredQuestion):
    """A question and its answers; none of them counts where it is impossible to answer."""

    answers: tuple[StandingAnswer, ...] = ()
    is_impossible: bool = False


_Q = TypeVar("_Q", bound=UnansweredQuestion)


class Paragraph(BaseModel, Generic[_Q]):
    """A passage and what is asked of it."""

    context: str
    qas: tuple[_Q, ...]


class _Article(BaseModel, Generic[_Q]):
    paragraphs: tuple[Paragraph[_Q], ...]


class _Squad(BaseModel, Generic[_Q]):
    data: tuple[_Article[_Q], ...]


def paragraphs(path: Path, question: type[_Q], faults: Faults = RAISED) -> Iterator[Paragraph[_Q]]:
    """All paragraphs of a file, with questions as ``question`` reads them; DataError if the file
    is not in SQuAD's form."""
    try:
        squad = _Squad[question].model_validate_json(whole(path))  # type: ignore[valid-type]
    except ValidationError as error:
        for detail in error.errors():
            with faults:
                raise _form_error(path, detail) from None
        return
    for article in squad.data:
        yield from article.paragraphs


def question_error(path: Path, name: str, problem: str, remedy: str = "") -> DataError:
    """The error about one question, with its line where ``path`` is a file."""
    number = _lines_of_ids(path, path.stat().st_mtime_ns).get(name) if path.is_file() else None
    problem = f"question {name}: {problem}"
    if number is None:
        return DataError(f"{path}: {problem}", remedy=remedy, file=str(path))
    return line_error(path, number, problem, remedy)


_ID = re.compile(r'"id"\s*:\s*("(?:[^"\\]|\\.)*"|\d+)')
_JSON_LINE = re.compile(r" at line (\d+) column \d+")


@lru_cache(maxsize=1)
def _lines_of_ids(path: Path, _changed: int) -> Mapping[str, int]:
    """The first line of every question's id."""
    text = whole(path)
    lines: dict[str, int] = {}
    number, begin = 1, 0
    for match in _ID.finditer(text):
        number += text.count("\n", begin, match.start())
        begin = match.start()
        lines.setdefault(str(json.loads(match[1], strict=False)), number)
    return lines


def _form_error(path: Path, detail: ErrorDetails) -> DataError:
    """The error about a file in another form, with the question's id where it has one."""
    key = ".".join(str(step) for step in detail["loc"]) or "file"
    if at := _JSON_LINE.search(detail["msg"]):
        problem = _JSON_LINE.sub("", detail["msg"])
        return line_error(path, int(at[1]), problem, "write JSON in the form of SQuAD")
    problem = f"{key}: {detail['msg']}"
    name = _id_at(json.loads(whole(path)), detail["loc"])
    if name:
        return question_error(path, name, problem)
    return DataError(f"{path}: {problem}", file=str(path))


def _id_at(tree: Any, steps: Sequence[str | int]) -> str:
    """The id of the question that ``steps`` lead into; empty where they lead elsewhere."""
    name = ""
    for step in steps:
        if isinstance(tree, Mapping) and isinstance(tree.get("id"), str | int):
            name = str(tree["id"])
        try:
            tree = tree[step]
        except (KeyError, IndexError, TypeError):
            break
    return name
