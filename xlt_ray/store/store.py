"""The stage store: a mapping from stage to committed result, on any fsspec storage.

Layout below the root::

    stages/<key>/...            files of the result, then record.json, which alone means committed
    progress/<key>/<step>/...   progress of an unfinished stage, then progress.json
    leases/<key>.json           who is making it now
    ladders/<ladder>/<steps>    key of a trunk; a hint, verified when it is followed
    homes/<home>                a home elsewhere whose sweeps keep their stages here

Reading verifies the key against the record's payload and every file against its size and digest; a
result that does not match is set aside under ``damaged/`` and made again, never repaired.
"""

from __future__ import annotations

import contextlib
import shutil
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from xlt_ray.errors import DamagedStage, LeaseLost, StoreError
from xlt_ray.store.canonical import digest, digest_of_json, sealed, unsealed
from xlt_ray.store.copies import Copies, working_folder
from xlt_ray.store.lease import TTL, Holder, Lease, find_holder, try_acquire
from xlt_ray.store.record import FileEntry, StageRecord, agreed
from xlt_ray.store.stage import Stage, short
from xlt_ray.store.storage import Storage, fault_of_file, file_digest, is_key

RECORD = "record.json"
PROGRESS = "progress.json"


@dataclass(frozen=True)
class StageProgress:
    """Progress of an unfinished stage; ``state`` is what the training loop saved."""

    step: int
    path: str
    files: tuple[str, ...]
    state: Mapping[str, object]


class StageStore:
    """``stage in store``, ``store[stage]``, ``len(store)``; iteration gives committed keys."""

    def __init__(self, root: str | Path, scratch: str | Path | None = None) -> None:
        self.storage = Storage(root)
        if self.storage.local_root is not None:
            self.scratch = self.storage.local_root / "scratch"
        else:
            self.scratch = Path(scratch or working_folder() / "xlt-scratch")
        self._copies = Copies(
            self.scratch / "fetched", [self.scratch / "results", self.scratch / "progress"]
        )

    # -- committed results ------------------------------------------------------------

    def __contains__(self, stage: object) -> bool:
        return isinstance(stage, Stage) and self.storage.exists(_record_path(stage.key))

    def __getitem__(self, stage: Stage) -> StageRecord:
        """The record; the files are not read (see :meth:`verify`).

        Raises:
            KeyError: not committed.
            DamagedStage: the record cannot be read or belongs to another stage.
        """
        record = self.record(stage.key)
        if record is None:
            raise KeyError(stage.label)
        return record

    def __iter__(self) -> Iterator[str]:
        return (
            key for key in self.storage.names("stages") if self.storage.exists(_record_path(key))
        )

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def record(self, key: str) -> StageRecord | None:
        """The record under a key, or None. Raises DamagedStage if it cannot be read."""
        if not is_key(key):
            return None
        try:
            content = self.storage.read(_record_path(key))
        except FileNotFoundError:
            return None
        place = _record_path(key)
        try:
            tree, is_unaltered = unsealed(content)
            payload_key = digest_of_json(tree["payload"])
            record = StageRecord.from_json(tree)
        except (ValueError, KeyError, TypeError, AttributeError):
            raise DamagedStage("its record cannot be read", key=key, place=place) from None
        if not is_unaltered:
            raise DamagedStage("its record was altered", key=key, place=place)
        if record.key != key or payload_key != key:
            raise DamagedStage("its record belongs to another stage", key=key, place=place)
        for name in record.files:
            if fault := fault_of_file(name):
                raise DamagedStage(f"its file {name!r} {fault}", key=key, place=place)
        return record

    def verify(self, key: str, *, by_size: bool = False) -> StageRecord | None:
        """As :meth:`record`, and compares every file with its size and digest.

        Args:
            by_size: compare sizes and, on a local disk, headers of weights only, which is fast.
        """
        record = self.record(key)
        if record is None:
            return None
        sizes = self.storage.files(f"stages/{key}") if by_size else {}
        for name, entry in record.files.items():
            path = f"stages/{key}/{name}"
            try:
                if by_size:
                    is_same = sizes[name].num_bytes == entry.num_bytes
                    is_same = is_same and self.storage.has_whole_header(path)
                else:
                    is_same = FileEntry(*self.storage.file_digest(path)) == entry
            except (FileNotFoundError, KeyError):
                raise DamagedStage("a file is missing", key=key, place=path) from None
            if not is_same:
                raise DamagedStage("a file was altered or cut short", key=key, place=path)
        return record

    def find_undamaged(self, stage: Stage) -> StageRecord | None:
        """The verified record, or None; a damaged result is set aside first.

        A result of a remote store is fetched and verified once for all processes of this node.
        """
        return self._undamaged(self._verified, stage.key)

    def _verified(self, key: str) -> StageRecord | None:
        if self.storage.local_root is not None:
            return self.verify(key)
        record = self.record(key)
        if record is not None:
            self._copy(record)
        return record

    def find_recorded(self, stage: Stage) -> StageRecord | None:
        """As :meth:`find_undamaged`, but reads the record only."""
        return self._undamaged(self.record, stage.key)

    def _undamaged(self, read: Callable[[str], StageRecord | None], key: str) -> StageRecord | None:
        try:
            return read(key)
        except DamagedStage:
            # Another process may have set it aside at the same moment.
            with contextlib.suppress(FileNotFoundError):
                self.set_aside(key)
            return None

    def set_aside(self, key: str) -> str:
        """Move a damaged result out of the way; returns where it lies now."""
        aside = f"damaged/{key}-{time.strftime('%Y%m%dT%H%M%S')}-{time.time_ns() % 10**6:06d}"
        self.storage.move(f"stages/{key}", aside)
        return aside

    def folder(self, key: str) -> Path:
        """A local folder with the files of a committed result (fetched from a remote store).

        Raises:
            StoreError: not committed, or not any more; not checked for a local store.
            DamagedStage: the fetched files do not match the record.
        """
        local = self.storage.local(f"stages/{key}")
        if local is not None:
            return local
        record = self.record(key)
        if record is None:
            raise StoreError("is not in the store", key=key)
        return self._copy(record)

    def _copy(self, record: StageRecord) -> Path:
        """This node's copy of a result, compared with its record when it is fetched."""
        place = f"stages/{record.key}"
        # A result that was made again under another runtime has other bits, and another copy.
        bits = digest({name: entry.sha256 for name, entry in record.files.items()})

        def fetch(folder: Path) -> None:
            try:
                self.storage.fetch(place, record.files, folder)
            except FileNotFoundError:
                raise DamagedStage("a file is missing", key=record.key, place=place) from None
            for name, entry in record.files.items():
                if FileEntry(*file_digest(folder / name)) != entry:
                    raise DamagedStage(
                        "a file was altered or cut short", key=record.key, place=f"{place}/{name}"
                    )

        return self._copies.get(f"{record.key}-{short(bits)}", fetch)

    def commit(self, stage: Stage, folder: Path, record: StageRecord, lease: Lease) -> StageRecord:
        """Publish the files of ``folder`` (they are moved) and, last, the record.

        Raises:
            LeaseLost: another process makes this stage by now; nothing is published.
            StageConflict: a result of an equal numeric runtime exists, and its bits differ.
        """
        files = {
            str(path.relative_to(folder)): FileEntry(*file_digest(path))
            for path in sorted(folder.rglob("*"))
            if path.is_file()
        }
        record = replace(record, files=files)
        lease.check()
        committed = self.record(stage.key)
        if committed is not None:
            shutil.rmtree(folder)
            self.drop_progress(stage.key)
            return agreed(committed, record)
        # Files of a commit that died before it wrote its record.
        self.storage.remove(f"stages/{stage.key}")
        for name in files:
            self.storage.take(folder / name, f"stages/{stage.key}/{name}")
        if stage.kind == "trunk":
            # Before the record: a hint without a record is ignored, but after a crash between the
            # two a missing hint would never be written.
            self.storage.write(f"{_ladder_path(stage)}/{_steps(stage)}", stage.key.encode())
        lease.check()
        content = sealed(record.to_json())
        if not self.storage.create(_record_path(stage.key), content) and not self._is_written(
            _record_path(stage.key), content
        ):
            # The new holder of the lease committed first.
            raise LeaseLost("another process committed it", key=stage.key)
        shutil.rmtree(folder, ignore_errors=True)
        self.drop_progress(stage.key)
        return record

    def _is_written(self, path: str, content: bytes) -> bool:
        """Whether a refused creation had succeeded before and only its answer was lost."""
        with contextlib.suppress(FileNotFoundError):
            return self.storage.read(path) == content
        return False

    def find_shorter(self, trunk: Stage) -> tuple[str, int] | None:
        """Key and steps of the longest undamaged trunk that ``trunk`` can continue."""
        ladder = _ladder_path(trunk)
        all_steps = (int(name) for name in self.storage.names(ladder) if name.isdigit())
        for steps in sorted((s for s in all_steps if s < _steps(trunk)), reverse=True):
            key = self.storage.read(f"{ladder}/{steps}").decode(errors="replace")
            settings = {**trunk.settings, "steps": steps}
            is_beginning = key == digest({**trunk.payload, "settings": settings})
            if is_beginning and self._undamaged(self._verified, key) is not None:
                return key, steps
        return None

    # -- progress of unfinished stages ---------------------------------------------------

    def progress_folder(self, key: str, step: int, token: str) -> Path:
        """An empty local folder to write progress to, for :meth:`put_progress`."""
        folder = self.scratch / "progress" / f"{key}-{step}-{token}"
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def put_progress(
        self, key: str, step: int, folder: Path, files: Iterable[str], lease: Lease
    ) -> None:
        """Move these files of ``folder`` to where progress is kept, and delete the folder.

        Not yet readable as progress: :meth:`publish_progress` makes it so.

        Raises:
            LeaseLost: another process makes this stage by now.
        """
        for name in files:
            lease.check()
            self.storage.take(folder / name, f"progress/{key}/{step}/{name}")
        shutil.rmtree(folder, ignore_errors=True)

    def publish_progress(
        self,
        key: str,
        step: int,
        files: Mapping[str, FileEntry],
        state: Mapping[str, object],
        lease: Lease,
    ) -> None:
        """Make the progress at ``step`` readable and drop earlier progress."""
        lease.check()
        entries = {name: [entry.num_bytes, entry.sha256] for name, entry in files.items()}
        marker = {"step": step, "files": entries, "state": dict(state)}
        self.storage.write(f"progress/{key}/{step}/{PROGRESS}", sealed(marker))
        for earlier in self._progress_steps(key):
            if earlier < step:
                self.storage.remove(f"progress/{key}/{earlier}")

    def find_progress(self, key: str) -> StageProgress | None:
        """The latest published and undamaged progress of a stage."""
        for step in self._progress_steps(key):
            path = f"progress/{key}/{step}"
            try:
                marker = self._progress_marker(path)
                files = marker["files"]
                if not any(map(fault_of_file, files)) and all(
                    list(self.storage.file_digest(f"{path}/{name}")) == entry
                    for name, entry in files.items()
                ):
                    return StageProgress(step, path, tuple(files), marker["state"])
            except FileNotFoundError:
                # Not published; an older one may be.
                continue
            except (ValueError, KeyError, TypeError, AttributeError):
                pass
            self.storage.move(path, f"damaged/progress-{short(key)}-{step}-{time.time_ns()}")
        return None

    def history(self, key: str) -> tuple[Mapping[str, Any], ...]:
        """Evaluations during the training of a stage, or of its progress if it is not committed.

        Entries are as in :attr:`StageRecord.history`; empty if damaged. Weights are not read.
        """
        with contextlib.suppress(DamagedStage):
            record = self.record(key)
            if record is not None:
                return record.history
        for step in self._progress_steps(key):
            with contextlib.suppress(OSError, ValueError, KeyError, TypeError, AttributeError):
                marker = self._progress_marker(f"progress/{key}/{step}")
                return tuple(marker["state"]["history"])
        return ()

    def _progress_steps(self, key: str) -> list[int]:
        """Steps of all progress of a stage, the latest first."""
        # The process that makes the stage may delete the folder at this moment.
        with contextlib.suppress(FileNotFoundError):
            names = self.storage.names(f"progress/{key}")
            return sorted((int(name) for name in names if name.isdigit()), reverse=True)
        return []

    def _progress_marker(self, path: str) -> dict[str, Any]:
        marker, is_unaltered = unsealed(self.storage.read(f"{path}/{PROGRESS}"))
        if not is_unaltered:
            raise ValueError("it was altered")
        return marker

    def fetch_progress(self, progress: StageProgress, token: str) -> Path:
        """A local folder with the files of ``progress``."""
        local = self.storage.local(progress.path)
        if local is not None:
            return local
        # Always a new copy: progress of the same step may come from another runtime.
        name = f"{progress.path.replace('/', '-')}-{token}-{uuid.uuid4().hex[:8]}"
        return self._copies.get(
            name, lambda folder: self.storage.fetch(progress.path, progress.files, folder)
        )

    def drop_progress(self, key: str) -> None:
        self.storage.remove(f"progress/{key}")

    # -- leases --------------------------------------------------------------------------

    def lease(self, key: str, *, purpose: str = "", ttl: float = TTL) -> Lease | Holder:
        """The lease on a stage, or its living holder."""
        return try_acquire(self.storage, f"leases/{key}.json", purpose=purpose, ttl=ttl)

    def holder(self, key: str) -> Holder | None:
        """The living process that makes a stage now, or None."""
        holder = find_holder(self.storage, f"leases/{key}.json")
        return holder if holder is not None and holder.is_alive else None


def _record_path(key: str) -> str:
    return f"stages/{key}/{RECORD}"


def _ladder_path(trunk: Stage) -> str:
    return f"ladders/{trunk.ladder}"


def _steps(trunk: Stage) -> int:
    return int(trunk.settings["steps"])
