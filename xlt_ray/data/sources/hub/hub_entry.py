"""Where a task is on the Hugging Face Hub: the ``hub`` list of its YAML file.

Each part is one data set. It says which of its configurations and splits are ours, in which
languages, and in which of its columns what stands; several parts with the same language and split
are read one after the other. Nothing else in the project knows of a data set.
"""

from __future__ import annotations

from collections.abc import Iterator

from pydantic import BaseModel, ConfigDict, Field, model_validator

from xlt_ray.config.facts import Split

HubPlace = tuple[str, Split]
"""Language and split."""


class HubPart(BaseModel):
    """One data set; ``{language}`` and ``{name}`` in its texts stand for a language."""

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
        for language in self.names:
            for split in self.splits:
                yield language, split


def split_names(expression: str) -> tuple[str, ...]:
    """The splits that an expression takes rows from.

    >>> split_names("train_r1+train_r2[:50%]")
    ('train_r1', 'train_r2')
    """
    return tuple(term.strip().partition("[")[0] for term in expression.split("+"))
