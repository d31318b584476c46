"""A task: one YAML file in ``tasks/`` that says what is predicted and how it is scored.

The file is the only place that knows a task; its languages and sizes come from the data
source. ``version`` enters the identity of every stage that uses the task: it is raised
when the meaning of its examples or scores changes.
"""

from __future__ import annotations

from functools import cache
from importlib import resources
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from xlt_ray.errors import DataError, nearest
from xlt_ray.spec.facts import TaskKind
from xlt_ray.spec.source import parse_document

Metric = Literal["accuracy", "macro_f1", "f1"]


class Columns(BaseModel):
    """Header names of a TSV file, by what the column holds."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: str = "id"
    first: str = "sentence1"
    second: str = "sentence2"
    label: str = "label"


class Task(BaseModel):
    """One task, as its YAML file says."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    name: str
    """What a sweep calls it; also the name of its file."""
    kind: TaskKind
    """``tag``: one label per word; ``pair``: one label for two sentences."""
    version: int = Field(ge=1)
    """Raised when the meaning of examples or scores changes."""
    title: str
    labels: tuple[str, ...] = Field(min_length=2)
    """Every label; the place of a label in this list is its number in the model."""
    metrics: tuple[Metric, ...] = Field(min_length=1)
    """The first is the headline."""
    source: Literal["toy", "files"]
    """Which kind of data source holds it."""
    folder: str = ""
    """Its folder below the root of a ``files`` source."""
    format: Literal["conllu", "conll", "tsv"] = "tsv"
    """Of its files, and their ending."""
    columns: Columns = Columns()
    """Of a TSV file."""
    scheme: Literal["none", "iob2"] = "none"
    """Of tags: ``iob2`` tags mark entities, which are scored whole."""
    average: Literal["languages"] = "languages"
    """Score over languages: their unweighted mean (XTREME)."""
    citation: str = ""
    licence: str = ""

    @model_validator(mode="after")
    def _consistent(self) -> Task:
        if len(set(self.labels)) != len(self.labels):
            raise ValueError("a label is listed twice")
        if self.source == "files" and not self.folder:
            raise ValueError("a task of a files source needs its folder")
        if (self.kind == "pair") != (self.format == "tsv") and self.source == "files":
            raise ValueError("pairs are read from tsv, tags from conllu or conll")
        if self.scheme == "iob2" and (self.kind != "tag" or "O" not in self.labels):
            raise ValueError("iob2 needs tags, with O among them")
        if "f1" in self.metrics and self.scheme != "iob2":
            raise ValueError("f1 counts entities: it needs scheme iob2")
        return self

    def number_of(self, label: str) -> int:
        """Place of ``label`` among the labels; a KeyError is our own mistake."""
        return _numbers(self.labels)[label]


@cache
def _numbers(labels: tuple[str, ...]) -> dict[str, int]:
    return {label: number for number, label in enumerate(labels)}


def parse_task(text: str, file: str) -> Task:
    """One task file.

    Raises:
        SpecError: not YAML.
        DataError: a key is unknown, missing or wrong, or the name is not the file's.
    """
    tree: dict[str, Any] = parse_document(text, file).tree
    try:
        task = Task.model_validate(tree)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(step) for step in first["loc"])
        raise DataError(f"{file}: {key or 'task'}: {first['msg']}") from None
    if f"{task.name}.yaml" != file.rpartition("/")[2]:
        raise DataError(f"{file}: is named {task.name} inside; file and name must agree")
    return task


@cache
def load_tasks() -> tuple[Task, ...]:
    """Every task there is, by name."""
    folder = resources.files("xlt_ray.data") / "tasks"
    files = sorted(
        (entry for entry in folder.iterdir() if entry.name.endswith(".yaml")),
        key=lambda entry: entry.name,
    )
    return tuple(parse_task(entry.read_text(encoding="utf-8"), entry.name) for entry in files)


def task_named(name: str) -> Task:
    """The task called ``name``.

    >>> task_named("pos").kind
    'tag'

    Raises:
        DataError: there is no such task.
    """
    known = {task.name: task for task in load_tasks()}
    if name not in known:
        raise DataError("there is no such task", task=name, remedy=nearest(name, known))
    return known[name]
