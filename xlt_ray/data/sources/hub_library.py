"""Opening data sets with the ``datasets`` library, and saying plainly what went wrong.

A data set is looked for on the hub, or, with a mirror, in ``MIRROR/OWNER/NAME``: a folder in
exactly the hub's form (``README.md`` with ``configs:``, parquet, JSON or CSV files), loaded by the
same code. No code that comes with a data set is ever run; the library refuses to.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xlt_ray.data.sampling import digest_of
from xlt_ray.data.task import HubPart, split_names
from xlt_ray.errors import DataError, nearest

if TYPE_CHECKING:
    from datasets import Dataset, DatasetBuilder

_FORMS = frozenset({"parquet", "json", "csv", "arrow", "text", "conll", "cache"})
"""Of data files: plain text and columns; others are not asked to be safe to read."""
PATIENCE_S = 10.0
"""How long the hub may take to answer at all."""
NOT_CACHED = "the Hugging Face Hub cannot be reached, and the cache lacks it"
CONVERTED = "refs/convert/parquet"
"""The branch to which the hub converts data sets that came as scripts."""


class Library:
    """Opens each configuration once; what lies in a mirror must not change meanwhile.

    Args:
        mirror: folder with ``OWNER/NAME``, or None for the hub.
        cache: where the library keeps its Arrow files; its own place where it is None.
        revisions: data set -> branch, tag or commit, before what the task says.
    """

    def __init__(
        self, mirror: Path | None, cache: str | None, revisions: Mapping[str, str]
    ) -> None:
        self.mirror, self._cache, self._revisions = mirror, cache, dict(revisions)
        self._builders: dict[tuple[str, str, str | None], DatasetBuilder] = {}
        self._configs: dict[str, tuple[str, ...]] = {}
        self._is_online: bool | None = None

    def has(self, part: HubPart, language: str, expression: str) -> bool:
        """Whether there is such a split; of the hub itself what the task says is believed."""
        if self.mirror is None:
            return True
        if not self._folder(part.id).is_dir():
            return False
        config = part.filled(part.config, language)
        if config and config not in self._configs_in(part.id):
            return False
        splits = {str(split) for split in self._builder(part, language).config.data_files or ()}
        return splits.issuperset(split_names(expression))

    def rows(self, part: HubPart, language: str, expression: str) -> Dataset:
        """The rows of a split in their order.

        Raises:
            DataError: no such data set, configuration or split, files that cannot be read, or a
                hub that does not answer.
        """
        place = self.place(part, language)
        builder = self._builder(part, language)
        with self._complaining(part, language):
            with _quiet(), self._as_reachable(part.id):
                builder.download_and_prepare()
            splits = [str(split) for split in builder.info.splits or ()]
        for name in split_names(expression):
            if name not in splits:
                remedy = nearest(name, splits)
                raise DataError(f"{place}: there is no split {name!r}", remedy=remedy)
        with self._complaining(part, language):
            data_set: Dataset = builder.as_dataset(split=expression)
            return data_set

    def version(self, part: HubPart, language: str) -> str:
        """What the library calls its copy of a configuration, which changes with its files."""
        return str(self._builder(part, language).cache_dir)

    def place(self, part: HubPart, language: str) -> str:
        """What is opened, for complaints: the data set, its configuration and where it lies."""
        named = f"{part.id} {part.filled(part.config, language)}".strip()
        return named if self.mirror is None else f"{named} (in {self.mirror})"

    def _folder(self, name: str) -> Path:
        assert self.mirror is not None
        return self.mirror / name

    def _builder(self, part: HubPart, language: str) -> DatasetBuilder:
        config, place = part.filled(part.config, language), self.place(part, language)
        revision = self._revisions.get(part.id) or part.revision or None
        key = (part.id, config, revision)
        if key in self._builders:
            return self._builders[key]
        where: dict[str, Any] = {"path": part.id, "revision": revision, "cache_dir": self._cache}
        if self.mirror is not None:
            folder = self._folder(part.id)
            if not folder.is_dir():
                raise DataError(
                    f"{place}: there is no folder {part.id}",
                    remedy=f"copy the data set {part.id} into {folder}",
                )
            configs = self._configs_in(part.id)
            if config and config not in configs:
                remedy = nearest(config, configs)
                raise DataError(f"{place}: there is no configuration {config!r}", remedy=remedy)
            where = {"path": str(folder.absolute()), "cache_dir": self._stamped(part.id)}
        from datasets import load_dataset_builder

        with self._complaining(part, language), _quiet(), self._as_reachable(part.id):
            builder = load_dataset_builder(name=config or None, **where)
        form = type(builder).__module__.split(".")[-1]
        if form not in _FORMS:
            raise DataError(
                f"{place}: consists of files of the form {form!r}",
                remedy="parquet, JSON or CSV files are read",
            )
        self._builders[key] = builder
        return builder

    def _stamped(self, name: str) -> str:
        """A place in the cache for just these files, as they are now.

        The library names what it has read of a folder after the folder and its README.md alone,
        and would take rows of an older file for those of the one that lies there.
        """
        from datasets import config

        folder = self._folder(name).absolute()
        files = [(file, file.stat()) for file in sorted(folder.rglob("*")) if file.is_file()]
        stamp = digest_of(
            str(folder),
            *(f"{file.relative_to(folder)} {at.st_size} {at.st_mtime_ns}" for file, at in files),
        )
        return str(Path(self._cache or config.HF_DATASETS_CACHE) / "mirrors" / stamp[:16])

    @contextmanager
    def _as_reachable(self, name: str) -> Iterator[None]:
        """Take what the cache has where the hub does not answer one short question.

        Left to itself the library asks again for half a minute, for every file.
        """
        import datasets

        if self.mirror is None and self._is_online is None:
            self._is_online = not datasets.config.HF_HUB_OFFLINE and _answers(name)
        with nullcontext() if self.mirror is not None or self._is_online else cached_only():
            yield

    def _configs_in(self, name: str) -> tuple[str, ...]:
        if name not in self._configs:
            from datasets import get_dataset_config_names

            try:
                configs = get_dataset_config_names(str(self._folder(name).absolute()))
            except _faults() as error:
                raise DataError(
                    f"{name} (in {self.mirror}): cannot be read as a data set "
                    f"({_first_line(error)})",
                    remedy="expected a folder as on the hub: README.md with configs, data files",
                ) from error
            self._configs[name] = tuple(configs)
        return self._configs[name]

    @contextmanager
    def _complaining(self, part: HubPart, language: str) -> Iterator[None]:
        """What the library raises, as a :class:`DataError` that names the data set."""
        try:
            yield
        except _faults() as error:
            raise self._complaint(part, self.place(part, language), error) from error

    def _complaint(self, part: HubPart, place: str, error: Exception) -> DataError:
        from datasets.exceptions import DatasetNotFoundError

        message = _first_line(error)
        if self._is_online is False or _is_outage(error):
            return DataError(
                f"{place}: {NOT_CACHED}",
                remedy="check the network, or give data.root a folder that holds "
                f"{part.id} as on the hub",
            )
        if isinstance(error, DatasetNotFoundError):
            return DataError(
                f"{place}: {message}",
                remedy="check the name, log in with `hf auth login` where it is gated, or give "
                "data.root a folder that holds it",
            )
        if "scripts are no longer supported" in message:
            return DataError(
                f"{place}: it is a script, which xlt-ray never runs",
                remedy=f"data.revisions: {{{part.id}: {CONVERTED}}}, or a converted copy below "
                "data.root",
            )
        if "BuilderConfig" in message:
            return DataError(f"{place}: there is no such configuration", remedy=message)
        return DataError(f"{place}: cannot be read ({type(error).__name__}: {message})")


@contextmanager
def cached_only() -> Iterator[None]:
    """Ask the hub nothing: what the cache lacks is an error (:data:`NOT_CACHED`)."""
    import datasets

    was_offline = datasets.config.HF_HUB_OFFLINE
    datasets.config.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        datasets.config.HF_HUB_OFFLINE = was_offline


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the library's progress bars."""
    import datasets

    had_bars = datasets.is_progress_bar_enabled()
    datasets.disable_progress_bars()
    try:
        yield
    finally:
        if had_bars:
            datasets.enable_progress_bars()


def _answers(name: str) -> bool:
    """Whether the hub answers anything about a data set; a refusal is an answer, too."""
    from huggingface_hub import HfApi
    from huggingface_hub.utils import httpx

    try:
        HfApi().dataset_info(name, timeout=PATIENCE_S, expand=["sha"])
    except (OSError, httpx.HTTPError) as error:
        return not _is_outage(error)
    return True


def _faults() -> tuple[type[Exception], ...]:
    """What the library raises for anything that is not as it should be outside this process."""
    from datasets.exceptions import DatasetsError
    from huggingface_hub.utils import httpx

    return (OSError, ValueError, RuntimeError, KeyError, DatasetsError, httpx.HTTPError)


def _is_outage(error: BaseException | None) -> bool:
    """Whether a lack of network is behind it, however often it was wrapped."""
    from huggingface_hub.errors import OfflineModeIsEnabled
    from huggingface_hub.utils import httpx

    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        if isinstance(error, ConnectionError | OfflineModeIsEnabled | httpx.TransportError):
            return True
        error = error.__cause__ or error.__context__
    return False


def _first_line(error: Exception) -> str:
    causes: Any = error.__cause__ if str(error).startswith("An error occurred while") else None
    return (str(causes or error).strip().splitlines() or [type(error).__name__])[0]
