"""A task: one YAML file in ``tasks/`` that says what is predicted and how it is scored.

The file is the only place that knows a task; its languages and sizes come from the data
source. ``version`` enters the identity of every stage that uses the task: it is raised
when the meaning of its examples or scores changes.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from importlib import resources
from importlib.resources.abc import Traversable
from itertools import product
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from xlt_ray.config.facts import Split
from xlt_ray.config.task_types import AVERAGE_SUFFIX, FEW_SHOT_SUFFIX, KINDS, PAIRS_SUFFIX, TaskKind
from xlt_ray.config.yaml import parse_document
from xlt_ray.data.text.lines import line_error, lines
from xlt_ray.errors import DataError, nearest


class Columns(BaseModel):
    """Header names of a TSV file, by what the column holds."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: str = "id"
    text: str = Field(default="text", exclude_if="text".__eq__)
    """Left out of digests unless it is given: data of other kinds had them before it."""
    first: str = "sentence1"
    second: str = "sentence2"
    label: str = "label"


class Spans(BaseModel):
    """How spans of a passage are trained, decoded and scored."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    overlap: int = Field(default=128, ge=0)
    """Pieces that neighbouring windows of a long passage share, at most half of a window."""
    max_question: int = Field(default=64, ge=1)
    """A question is cut to so many pieces, and to half of the room."""
    max_answer: int = Field(default=30, ge=1)
    """Longest answer in pieces."""
    has_unanswerable: bool = False
    """Whether a question may have no answer in its passage (SQuAD v2)."""
    null_threshold: float = 0.0
    """No answer is given where its score is better than the best span's by more than this."""
    normalisation: Literal["squad", "mlqa"] = "squad"
    """Before answers are compared: as SQuAD's script does, or as MLQA's, by language."""
    passage_language: str = ""
    """Language of all passages, where questions alone are in the file's language."""


HubPlace = tuple[str, Split]
"""Language and split."""


class HubPart(BaseModel):
    """One data set of the Hugging Face Hub; ``{language}`` and ``{name}`` in its texts stand for a
    language. Several parts with the same language and split are read one after the other."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    id: str = Field(pattern=r"^\w[\w.-]*/\w[\w.-]*$")
    """``OWNER/NAME``."""
    config: str = ""
    """Its configuration; empty where it has one alone."""
    languages: dict[str, str] | tuple[str, ...] = Field(min_length=1)
    """Codes of languages, or each code with what the data set calls it: ``{name}``."""
    splits: dict[Split, str] = Field(min_length=1)
    """Our split -> theirs, as the library writes it: ``train_r1+train_r2``, ``train[:90%]``."""
    columns: dict[str, str | tuple[str, ...]]
    """Field of an example -> column; ``a.b`` reaches into a column, a list makes one of several."""
    where: dict[str, str] = {}
    """Column -> what has to stand in it: other rows are not of this language."""
    where_begins: dict[str, str] = {}
    """Column -> what it has to begin with."""
    labels: dict[str, str] = {}
    """What stands for a label there -> what the task calls it; all else stays as it is."""
    revision: str = ""
    """Branch, tag or commit; the default branch where it is left out."""

    @model_validator(mode="after")
    def _templates_can_be_filled(self) -> HubPart:
        for text in (self.config, *self.where.values(), *self.where_begins.values()):
            try:
                text.format(language="", name="")
            except (KeyError, IndexError, ValueError, AttributeError):
                raise ValueError(f"{text!r}: {{language}} and {{name}} can be filled in") from None
        return self

    @property
    def names(self) -> dict[str, str]:
        """Language -> what the data set calls it."""
        if isinstance(self.languages, dict):
            return dict(self.languages)
        return {language: language for language in self.languages}

    def filled(self, text: str, language: str) -> str:
        """``text`` for one language."""
        return text.format(language=language, name=self.names[language])

    def places(self) -> Iterator[HubPlace]:
        """Every language and split that it gives."""
        yield from product(self.names, self.splits)


def split_names(expression: str) -> tuple[str, ...]:
    """The splits of a data set that an expression takes rows from.

    >>> split_names("train_r1+train_r2[:50%]")
    ('train_r1', 'train_r2')
    """
    return tuple(term.strip().partition("[")[0] for term in expression.split("+"))


class Recipe(BaseModel):
    """Published settings of a training, for people and sweep files; never a default."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    source: str
    """Whose numbers they are, and whether they were seen or are remembered."""
    role: Literal["target", "intermediate"] = "target"
    learning_rate: float = Field(gt=0.0)
    epochs: int = Field(ge=1)
    batch_size: int = Field(ge=1)
    max_length: int = Field(ge=8)
    warmup: float | None = Field(default=None, ge=0.0, lt=1.0)
    """Share of the steps; None if unknown, or where it is a number of steps (``note``)."""
    weight_decay: float | None = Field(default=None, ge=0.0)
    """None if unknown."""
    note: str = ""


class Task(BaseModel):
    """One task, as its YAML file says."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    name: str
    """What a sweep calls it; also the name of its file."""
    kind: TaskKind
    """What is predicted (:mod:`xlt_ray.config.task_types`)."""
    version: int = Field(ge=1)
    """Raised when the meaning of examples or scores changes."""
    title: str
    labels: tuple[str, ...] = ()
    """Every label of tags or pairs; its place in this list is its number in the model."""
    labels_file: str = ""
    """File beside the YAML file with the labels, one a line, where everybody has to make it."""
    metrics: tuple[str, ...] = Field(min_length=1)
    """Some of its kind's; the first is the headline."""
    source: Literal["toy", "files", "hub"]
    """Which kind of data source holds it; with a ``hub`` list, the hub holds it besides."""
    folder: str = ""
    """Its folder below the root of a ``files`` source."""
    train_folder: str = ""
    """Folder of another task whose train and dev sets it takes, where it has none of its own."""
    format: str = "tsv"
    """Of its files, and their ending: one that its kind is read from."""
    columns: Columns = Columns()
    """Of a TSV file."""
    scheme: Literal["none", "iob2"] = "none"
    """Of tags: ``iob2`` tags mark entities, which are scored whole."""
    range: tuple[float, float] = (0.0, 1.0)
    """Of scores: the lowest and the highest."""
    options: int = Field(default=0, ge=0)
    """Of a choice: how many options every example has."""
    questions: dict[str, str] = {}
    """Of a choice: what is written where a file has one of these words for its question."""
    spans: Spans = Spans()
    is_parallel: bool = False
    """Whether rows of one id are translations of each other in all languages."""
    pivot: str = ""
    """Of retrieval and mining: the language in which translations are looked for."""
    hub: tuple[HubPart, ...] = ()
    """Where it is on the Hugging Face Hub."""
    recipes: tuple[Recipe, ...] = ()
    """Published hyperparameters; part of no key."""
    average: Literal["languages"] = "languages"
    """Score over languages: their unweighted mean (XTREME)."""
    citation: str = ""
    licence: str = ""

    @model_validator(mode="after")
    def _consistent(self) -> Task:
        entry = KINDS[self.kind]
        if len(set(self.labels)) != len(self.labels):
            raise ValueError("a label is listed twice")
        is_open = entry.has_labels and bool(self.labels_file) and not self.labels
        if not is_open and (len(self.labels) < 2 if entry.has_labels else self.labels):
            wanted = "two labels or more" if entry.has_labels else "no labels"
            raise ValueError(f"a {self.kind} task has {wanted}")
        if self.source == "files" and not self.folder:
            raise ValueError("a task of the files source needs the key folder")
        if self.source == "hub" and not self.hub:
            raise ValueError("a task of the hub source needs the key hub")
        known_columns = {"id", *entry.columns, *entry.optional_columns}
        for part in self.hub:
            for column in entry.columns:
                if column not in part.columns:
                    raise ValueError(f"hub: {part.id}: columns lack {column}")
            if not known_columns.issuperset(part.columns):
                raise ValueError(
                    f"hub: {part.id}: columns of a {self.kind} task are "
                    + ", ".join(sorted(known_columns))
                )
        has_files = self.source == "files" or self.folder
        if has_files and self.format not in entry.formats:
            raise ValueError(f"{self.kind} tasks are read from {' or '.join(entry.formats)}")
        for metric in self.metrics:
            if metric not in entry.metrics:
                known = ", ".join(entry.metrics)
                raise ValueError(f"{metric} does not score {self.kind} tasks; there is: {known}")
        if (self.options >= 2) != ("options" in entry.settings):
            raise ValueError("options: only for the kind choice, which needs 2 or more")
        for suffix, use in (
            (PAIRS_SUFFIX, "of language pairs"),
            (AVERAGE_SUFFIX, "of averaged weights"),
            (FEW_SHOT_SUFFIX, "after few shots"),
        ):
            if self.name.endswith(suffix):
                raise ValueError(f"names in {suffix} are reserved for scores {use}")
        if bool(self.pivot) != ("pivot" in entry.settings):
            raise ValueError("pivot: only for the kinds retrieval and mining, which need it")
        if self.range[0] >= self.range[1]:
            raise ValueError("range: the lowest score must be below the highest")
        if self.scheme == "iob2" and not (entry.has_entities and "O" in self.labels):
            raise ValueError("iob2 needs tags, with O among them")
        if entry.has_entities and "f1" in self.metrics and self.scheme != "iob2":
            raise ValueError("f1 counts entities: it needs scheme iob2")
        return self

    @property
    def sources(self) -> tuple[str, ...]:
        """Every kind of data source that may hold it."""
        return tuple(dict.fromkeys((self.source, *(("hub",) if self.hub else ()))))

    def number_of(self, label: str) -> int:
        """Place of ``label`` among the labels; a KeyError is our own mistake."""
        return _numbers(self.labels)[label]

    def known(self, label: str, path: Path, number: int) -> str:
        """``label``, read from a line of a file.

        Raises:
            DataError: the task has no such label.
        """
        if label not in self.labels:
            raise line_error(path, number, f"unknown label {label!r}", nearest(label, self.labels))
        return label


@cache
def _numbers(labels: tuple[str, ...]) -> dict[str, int]:
    return {label: number for number, label in enumerate(labels)}


def parse_task(text: str, file: str) -> Task:
    """One task file.

    Raises:
        SpecError: not YAML.
        DataError: a key is unknown, missing or wrong, the name is not the file's, or a file of
            labels is not UTF-8.
    """
    tree: dict[str, Any] = parse_document(text, file).tree
    if isinstance(tree.get("labels_file"), str):
        if "labels" in tree:
            raise DataError(f"{file}: give either labels or labels_file")
        file_of_labels = labels_file(tree["labels_file"])
        if file_of_labels.is_file():
            labels = [line.strip() for _, line in lines(file_of_labels)]
            tree = {**tree, "labels": [label for label in labels if label]}
    try:
        task = Task.model_validate(tree)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(step) for step in first["loc"])
        raise DataError(f"{file}: {key or 'task'}: {first['msg']}") from None
    if f"{task.name}.yaml" != file.rpartition("/")[2]:
        raise DataError(f"{file}: is named {task.name} inside; file and name must agree")
    return task


def labels_file(name: str) -> Path:
    """Where a task's file of labels is looked for: beside the task's own."""
    return Path(str(resources.files("xlt_ray.data"))) / "tasks" / name


@cache
def _task_files() -> dict[str, Traversable]:
    """The file of every task by the task's name, in order."""
    folder = resources.files("xlt_ray.data") / "tasks"
    files = {entry.name: entry for entry in folder.iterdir() if entry.name.endswith(".yaml")}
    return {file.removesuffix(".yaml"): files[file] for file in sorted(files)}


def load_tasks() -> tuple[Task, ...]:
    """Every task there is, by name."""
    return tuple(map(task_named, _task_files()))


def task_named(name: str) -> Task:
    """The task called ``name``; no other file is read.

    >>> task_named("pos").kind
    'tag'

    Raises:
        DataError: there is no such task.
    """
    files = _task_files()
    if name not in files:
        raise DataError("there is no such task", task=name, remedy=nearest(name, files))
    return _read_task(name)


@cache
def _read_task(name: str) -> Task:
    file = _task_files()[name]
    return parse_task(file.read_text(encoding="utf-8"), file.name)
