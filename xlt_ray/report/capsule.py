"""A capsule: the results of a sweep in one archive that others can check and merge.

A capsule is a plain tar. Its first member, ``manifest.json``, has the SHA-256 of every other one
and its own. The same content gives the same bytes: members are sorted, and have no times or owners.
It holds no data, no passwords, and no weights unless they are asked for.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import random
import re
import tarfile
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any, Protocol

from xlt_ray.config.sweep import is_name
from xlt_ray.config.yaml import as_yaml
from xlt_ray.errors import DamagedStage, LedgerError, SpecError
from xlt_ray.files import atomic_file, atomic_folder
from xlt_ray.home import Home
from xlt_ray.ledger import (
    Ledger,
    Request,
    Start,
    TrialView,
    fact_sets_of,
    starts_of,
    sweep_of_ledger,
)
from xlt_ray.ledger.exported import exported, ledger_from
from xlt_ray.redact import redacted
from xlt_ray.report.frames import Snapshot, read_snapshot
from xlt_ray.report.page import write_report
from xlt_ray.report.provenance import best_trial, target_use
from xlt_ray.store.canonical import canonical_text, digest_of_json, sealed, unsealed
from xlt_ray.store.evaluation_items import ITEMS
from xlt_ray.store.record import FileEntry, Profile, Score, StageRecord, bits_of
from xlt_ray.store.storage import fault_of_file, file_digest, leads_out
from xlt_ray.store.store import RECORD, StageStore
from xlt_ray.versions import version_of

FORMAT = 1
MANIFEST, SWEEP, LEDGER = "manifest.json", "sweep.yaml", "ledger.json"
MAX_MEMBERS = 200_000
MAX_JSON_BYTES = 256 * 2**20
_MEMBER = re.compile(rf"{SWEEP}|{LEDGER}|stages/([0-9a-f]{{64}})/(.+)|report/.+")


@dataclass(frozen=True)
class Part:
    """A range of bytes of a file."""

    file: Path
    offset: int
    size: int

    @classmethod
    def whole(cls, file: Path) -> Part:
        return cls(file, 0, file.stat().st_size)

    def chunks(self) -> Iterator[bytes]:
        left = self.size
        with self.file.open("rb") as stream:
            stream.seek(self.offset)
            while left and (chunk := stream.read(min(left, 1 << 20))):
                yield chunk
                left -= len(chunk)


Content = bytes | Part
"""A member of an archive."""


# -- writing ------------------------------------------------------------------------------


def pack(ledger: Ledger, store: StageStore, file: Path, *, weights: bool = False) -> int:
    """Write the capsule of a sweep; returns the number of its stages.

    Args:
        weights: with the files of the stage that left the best trial's network.

    Raises:
        LedgerError: no trial has a stage in the store, or the best weights are gone.
        DamagedStage: a file of the store is not what its record says.
    """
    snapshot = read_snapshot(ledger, store)
    if not snapshot.records:
        raise LedgerError(f"{ledger.name}: no trial has a stage in the store yet; pack it later")
    tree = redacted(exported(ledger))
    clean = ledger_from(tree, ledger.name)
    members: dict[str, Content] = {
        SWEEP: as_yaml(sweep_of_ledger(clean).tree()).encode(),
        LEDGER: canonical_text(tree).encode(),
    }
    best = _best_key(snapshot) if weights else ""
    for key, record in snapshot.records.items():
        members[f"stages/{key}/{RECORD}"] = sealed(_without_secrets(record))
        names = [name for name in record.files if name == ITEMS or key == best]
        if names:
            store.verify(key)
            for name in names:
                members[f"stages/{key}/{name}"] = Part.whole(store.folder(key) / name)
    with tempfile.TemporaryDirectory() as scratch:
        folder = write_report(Home(Path(scratch)), clean, store).parent
        members |= {
            f"report/{path.relative_to(folder).as_posix()}": Part.whole(path)
            for path in folder.rglob("*")
            if path.is_file()
        }
        with atomic_file(file) as aside, aside.open("wb") as stream:
            _write(stream, {MANIFEST: _manifest(ledger.name, members), **members})
    return len(snapshot.records)


def _best_key(snapshot: Snapshot) -> str:
    best = best_trial(snapshot)
    use = None if best is None else target_use(best)
    if use is None or use.key not in snapshot.records:
        raise LedgerError(
            f"{snapshot.name}: the weights of its best trial are not in the store; leave out "
            "--weights"
        )
    return use.key


def _without_secrets(record: StageRecord) -> dict[str, Any]:
    """A record as JSON; its payload, from which the key follows, stays as it is."""
    tree = record.to_json()
    if redacted(tree["payload"]) != tree["payload"]:
        raise DamagedStage("its settings hold what may be a password", key=record.key)
    return {**redacted(tree), "payload": tree["payload"]}


def _manifest(name: str, members: Mapping[str, Content]) -> bytes:
    digests = {member: _digest_of(content) for member, content in members.items()}
    return sealed(
        {
            "format": FORMAT,
            "name": name,
            "packed_with": version_of("xlt-ray"),
            "members": digests,
        }
    )


def _digest_of(content: Content) -> str:
    state = hashlib.sha256()
    for chunk in [content] if isinstance(content, bytes) else content.chunks():
        state.update(chunk)
    return state.hexdigest()


class _Sink(Protocol):
    def write(self, content: bytes, /) -> object: ...


def _write(stream: _Sink, members: Mapping[str, Content]) -> None:
    """Write an archive: the manifest, then the others by name."""
    with tarfile.open(fileobj=stream, mode="w|", format=tarfile.USTAR_FORMAT) as archive:  # type: ignore[call-overload]
        for name in sorted(members, key=lambda name: (name != MANIFEST, name)):
            content, info = members[name], tarfile.TarInfo(name)
            if isinstance(content, bytes):
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))
            else:
                info.size = content.size
                with content.file.open("rb") as source:
                    source.seek(content.offset)
                    archive.addfile(info, source)


# -- reading ------------------------------------------------------------------------------


@dataclass(frozen=True)
class Capsule:
    """A capsule that was opened; all its members have safe names and are plain files."""

    file: Path
    manifest: Mapping[str, Any]
    members: Mapping[str, Part]
    """By name, the manifest included."""
    is_sealed: bool
    """Whether the manifest is as it was written."""

    @property
    def name(self) -> str:
        return str(self.manifest["name"])

    def read(self, member: str) -> bytes:
        """The bytes of a member that is no file of weights."""
        part = self.members[member]
        if part.size > MAX_JSON_BYTES:
            raise self.error(f"{member} has {part.size} bytes, at most {MAX_JSON_BYTES} are read")
        return b"".join(part.chunks())

    def digest(self, member: str) -> str:
        return _digest_of(self.members[member])

    def error(self, problem: str) -> SpecError:
        return SpecError(problem, file=str(self.file), remedy="ask for the capsule again")

    def ledger(self, name: str = "", origin: str = "", journal: Path | None = None) -> Ledger:
        """Its ledger, in memory or in a new journal.

        Raises:
            SpecError: it is not one.
        """
        try:
            tree = json.loads(self.read(LEDGER))
            ledger = ledger_from(tree, name or self.name, origin, journal)
            _refuse_other_types(TrialView, *map(asdict, ledger.trials()))
            _refuse_other_types(dict[str, str], *fact_sets_of(ledger).values())
            _refuse_other_types(Start, *map(asdict, starts_of(ledger)))
            _refuse_other_types(Request, *map(asdict, ledger.by_hand))
        except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
            raise self.error(f"{LEDGER} cannot be read ({_line(error)})") from None
        return ledger

    def records(self) -> dict[str, StageRecord]:
        """Every record by its key.

        Raises:
            SpecError: one cannot be read, or is not that of its key.
        """
        keys = (_MEMBER.fullmatch(name) for name in self.members if name.endswith(f"/{RECORD}"))
        return {match[1]: self._record(match[1]) for match in keys if match and match[1]}

    def _record(self, key: str) -> StageRecord:
        member = f"stages/{key}/{RECORD}"
        try:
            tree, is_unaltered = unsealed(self.read(member))
            record = StageRecord.from_json(tree)
            is_own = record.key == key == digest_of_json(tree["payload"])
            _refuse_other_types(_RecordFields, record.to_json())
        except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
            raise self.error(f"{member} cannot be read ({_line(error)})") from None
        if not is_unaltered:
            raise self.error(f"{member} was altered")
        if not is_own:
            raise self.error(f"{member}: its key does not follow from its settings")
        for name in record.files:
            if fault := fault_of_file(name):
                raise self.error(f"{member}: its file {name!r} {fault}")
        return record


@dataclass(frozen=True)
class _Payload:
    kind: str
    version: int
    settings: dict[str, Any]
    data: dict[str, Any]
    seed: int
    parent: str | None


@dataclass(frozen=True)
class _Evaluation:
    step: int
    examples: int
    metrics: dict[str, float]


@dataclass(frozen=True)
class _RecordFields:
    """Fields of :class:`StageRecord`."""

    payload: _Payload
    label: str
    files: dict[str, FileEntry]
    scores: tuple[Score, ...]
    history: tuple[_Evaluation, ...]
    selected_step: int | None
    profiles: tuple[Profile, ...]
    coverage: dict[str, float]
    num_examples: int
    seconds: float
    usage: dict[str, float]
    runtime: dict[str, Any]
    made_by: dict[str, Any]


def _refuse_other_types(kind: Any, *trees: Any) -> None:
    """Raise ValueError where a value is not of the type of its field: own records are written by
    typed code, those of others may hold anything."""
    for tree in trees:
        _adapter(kind).validate_json(json.dumps(tree, default=str), strict=True)


@cache
def _adapter(kind: Any) -> Any:
    from pydantic import TypeAdapter

    return TypeAdapter(kind)


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__


def open_capsule(file: Path) -> Capsule:
    """Read the list of members and the manifest of a capsule.

    Raises:
        SpecError: it is no capsule, or a member is a link, leads out of a folder, or is of a kind
            that no capsule has.
    """

    def refused(problem: str) -> SpecError:
        return SpecError(
            problem, file=str(file), remedy="expected an archive that xlt pack has written"
        )

    members: dict[str, Part] = {}
    try:
        with tarfile.open(file, "r:") as archive:
            for info in archive:
                name = info.name
                if not info.isreg() or info.issparse():
                    raise refused(f"{name!r} is not a plain file")
                match = _MEMBER.fullmatch(name)
                if leads_out(name) or (match is None and name != MANIFEST):
                    raise refused(f"{name!r} does not belong into a capsule")
                if match is not None and match[2] and (fault := fault_of_file(match[2])):
                    raise refused(f"{name!r} {fault}")
                if name in members:
                    raise refused(f"{name!r} is there twice")
                members[name] = Part(file, info.offset_data, info.size)
                if len(members) > MAX_MEMBERS:
                    raise refused(f"it has more than {MAX_MEMBERS} members")
    except (tarfile.TarError, UnicodeError, ValueError) as error:
        raise refused(f"cannot be read ({_line(error)})") from None
    if next(iter(members), "") != MANIFEST:
        raise refused(f"does not begin with {MANIFEST}")
    opened = Capsule(file, {}, members, is_sealed=False)
    try:
        tree, is_sealed = unsealed(opened.read(MANIFEST))
        version = tree["format"]
        _refuse_other_types(dict[str, str], tree["members"])
        if not is_name(tree["name"]):
            raise ValueError("its name is not that of a sweep")
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise refused(f"{MANIFEST} cannot be read ({_line(error)})") from None
    if is_sealed and version != FORMAT:
        raise SpecError(
            f"is a capsule of format {version}, this xlt-ray reads {FORMAT}",
            file=str(file),
            remedy=f"read it with xlt-ray {tree.get('packed_with')}",
        )
    return Capsule(file, tree, members, is_sealed)


# -- checking -----------------------------------------------------------------------------


def faults_of(capsule: Capsule) -> list[str]:
    """What is not as it was packed: members by their digests, keys of records by their settings,
    and the archive around them. Empty if every byte is right."""
    if not capsule.is_sealed:
        return [f"{MANIFEST}: was altered"]
    faults = list(_altered(capsule))
    if faults:
        return faults
    try:
        records = capsule.records()
        capsule.ledger()
    except SpecError as error:
        return [error.fields["problem"]]
    for key, record in records.items():
        for name, entry in record.files.items():
            member = f"stages/{key}/{name}"
            if member in capsule.members and capsule.digest(member) != entry.sha256:
                faults.append(f"{member}: is not the file of its record")
    if not faults and not _is_as_written(capsule):
        faults.append("the archive around its members was altered")
    return faults


def _altered(capsule: Capsule) -> Iterator[str]:
    digests = capsule.manifest["members"]
    for member in sorted({*digests, *capsule.members} - {MANIFEST}):
        if member not in capsule.members:
            yield f"{member}: is missing"
        elif member not in digests:
            yield f"{member}: is not in the manifest"
        elif (found := capsule.digest(member)) != digests[member]:
            yield (
                f"{member}: was altered (SHA-256 {found[:10]}, the manifest has "
                f"{digests[member][:10]})"
            )


def _is_as_written(capsule: Capsule) -> bool:
    """Whether the archive has the bytes that its members give: no header differs, and nothing
    follows them."""
    expected = hashlib.sha256()

    class Digest:
        def write(self, content: bytes) -> int:
            expected.update(content)
            return len(content)

    _write(Digest(), capsule.members)
    return expected.hexdigest() == file_digest(capsule.file)[1]


def drawn(records: Mapping[str, StageRecord], number: int, seed: int) -> list[str]:
    """Keys of randomly drawn stages, in the order of the draw; all if there are no more.

    The same records, number and seed give the same stages.
    """
    return random.Random(seed).sample(sorted(records), min(number, len(records)))


# -- merging ------------------------------------------------------------------------------


@dataclass(frozen=True)
class Added:
    """What :func:`add` has read."""

    name: str
    num_trials: int
    num_stages: int
    same: int
    """Stages that the home has, too, with the same bits."""
    differing: tuple[str, ...]
    """Labels of stages that the home has with other bits."""


def add(capsule: Capsule, home: Home, name: str = "") -> Added:
    """Read a capsule into the home as an imported sweep, beside its own ones.

    An imported sweep has a ledger and a store of its own below ``imported/NAME``, so that no
    training starts from its stages and nothing of it goes to MLflow.

    Raises:
        SpecError: the capsule was altered, or its records cannot be read.
        LedgerError: the home has a sweep of this name.
    """
    name = name or capsule.name
    if not is_name(name):
        raise SpecError(f"{name!r} is not a name for a sweep", key="--as", remedy="e.g. theirs-1")
    if name in (*home.sweeps(), *home.imported_sweeps()):
        raise LedgerError(
            f"{home.root}: there is a sweep {name!r} already; read this one under another name: "
            f"--as {name}-2"
        )
    if faults := faults_of(capsule):
        raise capsule.error("; ".join(faults[:5]))
    records, target = capsule.records(), home.imported(name)
    origin = (
        f"imported from {capsule.file.name} (SHA-256 {file_digest(capsule.file)[1][:10]}), packed "
        f"with xlt-ray {capsule.manifest.get('packed_with')}"
    )
    with atomic_folder(target.root) as aside:
        for member in capsule.members:
            if member.startswith("stages/"):
                _extract(capsule, member, aside / member, home)
        ledger = capsule.ledger(name, origin, Home(aside).ledger_journal(name))
        num_trials = len(ledger.trials())
    own = StageStore(home.stages)
    same, differing = 0, []
    for key, record in records.items():
        with suppress(DamagedStage):
            if (here := own.record(key)) is not None:
                is_same = bits_of(record) == bits_of(here)
                same += is_same
                differing += [record.label] * (not is_same)
    return Added(name, num_trials, len(records), same, tuple(differing))


def _extract(capsule: Capsule, member: str, file: Path, home: Home) -> None:
    """Write a member; a stage's file that the home has with the same bytes is linked."""
    file.parent.mkdir(parents=True, exist_ok=True)
    for root in (home.root, *(home.imported(name).root for name in home.imported_sweeps())):
        twin = root / member
        if twin.is_file() and file_digest(twin)[1] == capsule.manifest["members"][member]:
            with suppress(OSError):
                os.link(twin, file)
                return
    with file.open("wb") as copy:
        copy.writelines(capsule.members[member].chunks())
