"""SQuAD's JSON, v1.1 or v2, as it stands in a file."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Generic, TypeVar

from pydantic import BaseModel, ValidationError

from xlt_ray.data.lines import whole
from xlt_ray.errors import DataError


class StandingAnswer(BaseModel):
    """``answer_start`` counts characters of the passage."""

    text: str
    answer_start: int


class Asked(BaseModel):
    """A question, its answers unread."""

    id: str | int
    question: str


class Question(Asked):
    """A question and its answers; none of them counts where it is impossible to answer."""

    answers: tuple[StandingAnswer, ...] = ()
    is_impossible: bool = False


_Q = TypeVar("_Q", bound=Asked)


class Paragraph(BaseModel, Generic[_Q]):
    """A passage and what is asked of it."""

    context: str
    qas: tuple[_Q, ...]


class _Article(BaseModel, Generic[_Q]):
    paragraphs: tuple[Paragraph[_Q], ...]


class _Squad(BaseModel, Generic[_Q]):
    data: tuple[_Article[_Q], ...]


def paragraphs(path: Path, question: type[_Q]) -> Iterator[Paragraph[_Q]]:
    """All paragraphs of a file, in their order, with questions as ``question`` reads them.

    Raises:
        DataError: the file does not hold what SQuAD's do.
    """
    try:
        squad = _Squad[question].model_validate_json(whole(path))  # type: ignore[valid-type]
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(step) for step in first["loc"])
        raise DataError(f"{path}: {key or 'file'}: {first['msg']}") from None
    for article in squad.data:
        yield from article.paragraphs
