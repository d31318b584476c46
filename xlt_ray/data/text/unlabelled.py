"""Text to be predicted: files in a task's own format, or plain text without labels.

| kind | plain text |
|---|---|
| tag | one sentence a line, words between whitespace |
| pair, score | two columns, or columns with a header that names the task's two sentences |

All kinds have their task's own format besides (:meth:`xlt_ray.data.types.base.TaskType.read`). What
a file says of labels is never looked at, and may be missing or anything. Every row is predicted, so
that answers and rows go together: one without text is an error.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from xlt_ray.data.task import Task
from xlt_ray.data.text.lines import Names, cells, line_error, lines
from xlt_ray.data.types.base import Example, kind_of
from xlt_ray.data.types.pair import PairExample
from xlt_ray.data.types.score import ScoreExample
from xlt_ray.data.types.tag import TagExample
from xlt_ray.errors import DataError


def read_inputs(path: Path, task: Task) -> tuple[Example, ...]:
    """Examples of a file in its order; their labels are placeholders wherever it has none.

    Raises:
        DataError: it cannot be read, does not hold what the kind of task needs (with the line
            where there is one), or holds nothing.
    """
    try:
        examples = tuple(_reader(path, task)(path, task))
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from None
    if not examples:
        raise DataError(f"{path}: holds nothing to predict", task=task.name)
    return examples


def _reader(path: Path, task: Task) -> Callable[[Path, Task], Iterator[Example]]:
    if task.kind == "ranking":
        raise DataError(
            f"{path}: {task.name} ranks the candidates of a whole pool; a single row has no "
            "prediction",
            remedy="network.predict gives the vectors of sentences, to be compared by the cosine",
        )
    if task.kind in ("pair", "score"):
        return _pairs
    if task.kind == "tag" and path.suffix != f".{task.format}":
        return _sentences
    return kind_of(task).read_unlabelled


def _sentences(path: Path, task: Task) -> Iterator[TagExample]:
    for number, line in lines(path):
        words = tuple(line.split())
        if words:
            yield TagExample(f"line{number}", words, (task.labels[0],) * len(words))


def _pairs(path: Path, task: Task) -> Iterator[PairExample | ScoreExample]:
    names = Names()
    for number, name, first, second in _pair_cells(path, task):
        own = names.unique(name or f"line{number}")
        if task.kind == "score":
            yield ScoreExample(own, first, second, task.range[0])
        else:
            yield PairExample(own, first, second, task.labels[0])


def _pair_cells(path: Path, task: Task) -> Iterator[tuple[int, str, str, str]]:
    """Line number, id (empty where there is none) and both sentences of every row."""
    columns = task.columns
    rows = cells(path)
    _, row = next(rows, (1, []))
    header = [cell.strip() for cell in row]
    places, width = (0, 1), 2
    remedy = f"two sentences, or a header with {columns.first} and {columns.second}"
    if {columns.first, columns.second} <= set(header):
        places, width = (header.index(columns.first), header.index(columns.second)), len(header)
        remedy = "as many as the header"
    else:
        header, rows = [], cells(path)
    for number, row in rows:
        if len(row) != width:
            raise line_error(path, number, f"has {len(row)} columns, not {width}", remedy)
        first, second = (row[place].strip() for place in places)
        if not first or not second:
            raise line_error(path, number, "a sentence is empty")
        name = row[header.index(columns.id)].strip() if columns.id in header else ""
        yield number, name, first, second
