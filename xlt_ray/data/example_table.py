"""Examples of a split as a table on disk, each of which is read when it is asked for.

Texts and labels lie in files of their own, one JSON value a line, so that a subset is read without
the rest, and text without its labels; ids lie in another, so that they are read without the text.
"""

from __future__ import annotations

import json
from array import array
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import cache, cached_property
from pathlib import Path
from typing import Any, get_type_hints, overload

import numpy as np
from pydantic import TypeAdapter

from xlt_ray.data.types.base import Example

TABLE_VERSION = 2
"""Raised when the same examples are written in another way."""
_TEXTS, _LABELS, _IDS = "texts", "labels", "ids.json"


class ExampleTable(Sequence[Example]):
    """The examples that :func:`write_examples` wrote into ``folder``; slices are tuples.

    Labels are None, and their file is not opened, where the table ``is_hidden``.
    """

    def __init__(
        self, folder: Path, example_type: type[Example], *, is_hidden: bool = False
    ) -> None:
        self._folder, self._type, self._is_hidden = folder, example_type, is_hidden
        self._texts = _Lines(folder / _TEXTS)

    @cached_property
    def _labels(self) -> _Lines:
        return _Lines(self._folder / _LABELS)

    def ids(self) -> list[str]:
        """The ids of all examples."""
        ids: list[str] = json.loads((self._folder / _IDS).read_bytes())
        return ids

    def hidden(self) -> ExampleTable:
        """The same texts, their labels None."""
        return ExampleTable(self._folder, self._type, is_hidden=True)

    def __len__(self) -> int:
        return len(self._texts)

    @overload
    def __getitem__(self, place: int) -> Example: ...
    @overload
    def __getitem__(self, place: slice) -> tuple[Example, ...]: ...
    def __getitem__(self, place: int | slice) -> Example | tuple[Example, ...]:
        if isinstance(place, slice):
            return tuple(self._example(number) for number in range(len(self))[place])
        return self._example(range(len(self))[place])

    def _example(self, place: int) -> Example:
        example: Example = _text_adapter(self._type).validate_json(self._texts[place])
        if self._is_hidden or not self._type.label_field:
            return example
        label = _label_adapter(self._type).validate_json(self._labels[place])
        return replace(example, **{self._type.label_field: label})


def write_examples(examples: Iterable[Example], folder: Path, example_type: type[Example]) -> None:
    """Write examples one by one, so that no more than one is held."""
    of_text, of_label = _text_adapter(example_type), _label_adapter(example_type)
    ids: list[str] = []
    with ExitStack() as stack:
        texts, labels = (
            stack.enter_context(_LineWriter(folder / name)) for name in (_TEXTS, _LABELS)
        )
        for example in examples:
            texts.write(of_text.dump_json(example.hidden()))
            labels.write(of_label.dump_json(getattr(example, example_type.label_field, None)))
            ids.append(example.id)
    (folder / _IDS).write_text(json.dumps(ids), encoding="utf-8")


def without_labels(examples: Sequence[Example]) -> Sequence[Example]:
    """The same examples, their labels None."""
    if isinstance(examples, ExampleTable):
        return examples.hidden()
    return tuple(example.hidden() for example in examples)


def ids_of(examples: Sequence[Example]) -> list[str]:
    """The ids of examples, read without their text where they are in a table."""
    if isinstance(examples, ExampleTable):
        return examples.ids()
    return [example.id for example in examples]


class _LineWriter:
    """Writes ``FILE.jsonl``, and where each line ends into ``FILE.npy``."""

    def __init__(self, file: Path) -> None:
        self._file, self._ends = file, array("q", [0])

    def __enter__(self) -> _LineWriter:
        self._stream = self._file.with_suffix(".jsonl").open("wb")
        return self

    def write(self, line: bytes) -> None:
        self._stream.write(line + b"\n")
        self._ends.append(self._ends[-1] + len(line) + 1)

    def __exit__(self, *_: object) -> None:
        self._stream.close()
        np.save(self._file.with_suffix(".npy"), np.array(self._ends), allow_pickle=False)


class _Lines:
    """What a :class:`_LineWriter` wrote, memory-mapped."""

    def __init__(self, file: Path) -> None:
        # As plain arrays: slices of np.memmap take ten times as long.
        self._bytes = np.asarray(np.memmap(file.with_suffix(".jsonl"), np.uint8, mode="r"))
        self._ends = np.asarray(np.load(file.with_suffix(".npy"), mmap_mode="r"))

    def __len__(self) -> int:
        return len(self._ends) - 1

    def __getitem__(self, place: int) -> bytes:
        return self._bytes[self._ends[place] : self._ends[place + 1]].tobytes()


@cache
def _text_adapter(example_type: type[Example]) -> TypeAdapter[Any]:
    return TypeAdapter(example_type)


@cache
def _label_adapter(example_type: type[Example]) -> TypeAdapter[Any]:
    label: Any = get_type_hints(example_type).get(example_type.label_field, None)
    return TypeAdapter(label)
