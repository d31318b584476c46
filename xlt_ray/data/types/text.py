"""Classification of one text: topic, intent, sentiment; read from TSV files with a header."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from xlt_ray.config.facts import Split
from xlt_ray.data.text.lines import RAISED, Faults, Names, cells, line_error
from xlt_ray.data.text.pipeline import Batch
from xlt_ray.data.types.base import Example, Frame, Row
from xlt_ray.data.types.labelled import LabelledType, labelled_batch
from xlt_ray.data.types.pair import column_rows


@dataclass(frozen=True, slots=True)
class TextExample(Example):
    """A text and its class."""

    label_field = "label"
    text: str
    label: str | None

    def sentences(self) -> tuple[tuple[str, ...], ...]:
        return (tuple(self.text.split()),)


class TextType(LabelledType):
    """Gold and predictions are one label per text."""

    example = TextExample
    width = 1

    def read(self, path: Path, split: Split, faults: Faults = RAISED) -> Iterator[TextExample]:
        """A file without a column of ids has the numbers of its lines."""
        columns, names = self.task.columns, Names()
        header = [cell.strip() for cell in next(cells(path), (1, []))[1]]
        named = [columns.id] if columns.id in header else []
        for number, row in column_rows(path, [columns.text, columns.label, *named], faults):
            with faults:
                text, label, *name = row
                if not text:
                    raise line_error(path, number, f"{columns.text} is empty")
                known = self.task.known(label, path, number)
                yield TextExample(names.unique(*name or [f"line{number}"]), text, known)

    def of_row(
        self, row: Mapping[str, Any], name: str, path: Path, number: int
    ) -> TextExample | None:
        text = str(row["text"] or "").strip()
        label = self.task.known(str(row["label"]).strip(), path, number)
        return TextExample(name, text, label) if text else None

    def read_unlabelled(self, path: Path) -> Iterator[TextExample]:
        """One column, or columns with a header that names the text's."""
        columns, rows = self.task.columns, cells(path)
        header = [cell.strip() for cell in next(rows, (1, []))[1]]
        if columns.text not in header:
            header, rows = [columns.text], cells(path)
        names = Names()
        for number, row in rows:
            if len(row) != len(header):
                raise line_error(path, number, f"has {len(row)} columns, not {len(header)}")
            by_column = dict(zip(header, (cell.strip() for cell in row), strict=True))
            if not by_column[columns.text]:
                raise line_error(path, number, "the text is empty")
            name = by_column.get(columns.id) or f"line{number}"
            yield TextExample(names.unique(name), by_column[columns.text], self.task.labels[0])

    def batch(self, items: Sequence[Row], labels: Sequence[np.ndarray], frame: Frame) -> Batch:
        """``labels`` (batch,)."""
        return labelled_batch(items, labels, frame)
