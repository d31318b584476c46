"""Refuse data that have changed since the sweep started.

A stage names its data by their digests. Results from a file that changed later would be stored,
and found again, under the wrong key.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping

from xlt_ray.config.facts import Split
from xlt_ray.data.sources.base import Source
from xlt_ray.data.sources.local_files import FilesSource
from xlt_ray.data.task import task_named
from xlt_ray.errors import CHANGED, DataError
from xlt_ray.store.stage import Stage


def refuse_changed(stage: Stage, source: Source) -> None:
    """Compare the files of a source with what a stage names: splits, parallel text, lexicons.

    Data of the hub are not compared: every row would be read once more for it.

    Raises:
        DataError: something is not as it was when the sweep was started.
    """
    if not isinstance(source, FilesSource):
        return
    for name, language, split, digest in _splits(stage):
        where = {"task": name, "language": language, "split": split}
        with _as_change(where):
            facts = source.splits(task_named(name)).get((language, split))
        if facts is None or facts.digest != digest:
            raise _changed("it is gone" if facts is None else "it is another one", where)
    for text, digest_of in (
        ("parallel", source.parallel_digest),
        ("lexicon", source.lexicon_digest),
    ):
        for language, digest in stage.data.get(text, {}).items():
            where = {"language": language}
            with _as_change(where):
                current = digest_of(language)
            if current != digest:
                raise _changed(f"its {text} text is another one", where)


@contextlib.contextmanager
def _as_change(where: Mapping[str, str]) -> Iterator[None]:
    """Data that cannot be read now have changed: they were read when the sweep started."""
    try:
        yield
    except DataError as error:
        raise _changed(error.fields["problem"], where) from error


def _changed(what: str, where: Mapping[str, str]) -> DataError:
    remedy = "put it back as it was"
    return DataError(f"{CHANGED}: {what}", **where, remedy=remedy)  # type: ignore[arg-type]


def _splits(stage: Stage) -> Iterator[tuple[str, str, Split, str]]:
    """Task, language, split and digest of every split that a stage reads."""
    settings, data = stage.settings, stage.data
    source: str = settings.get("source_language", "")
    if "tasks" in settings:
        for name, by_language in data["train"].items():
            yield from _by_language(name, "train", by_language)
        for name, digest in data.get("dev", {}).items():
            yield name, source, "dev", digest
        return
    splits: tuple[Split, ...] = ("train", "dev", "test")
    name = settings.get("task", {}).get("name", "")
    for split in splits:
        digests = data.get(split, {})
        by_language = {source: digests} if isinstance(digests, str) else digests
        yield from _by_language(name, split, by_language)
    if settings.get("hybrid", {}).get("text") == "translated":
        yield from _by_language(name, "train", data["hybrid"])
    for further, by_language in data.get("also", {}).items():
        yield from _by_language(further, "test", by_language)
    for further, by_language in data.get("also_dev", {}).items():
        yield from _by_language(further, "dev", by_language)


def _by_language(
    name: str, split: Split, digests: Mapping[str, str]
) -> Iterator[tuple[str, str, Split, str]]:
    for language, digest in digests.items():
        yield name, language, split, digest
